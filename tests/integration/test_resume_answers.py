"""Responses of Debian's docker-registry 2.8 about upload sessions of an earlier process, and their meaning.

Only the last Location can be queried, since its signed state fits no other; and a session whose PATCH was
cut is lost (S2).
"""

from __future__ import annotations

import socket

import pytest

from crossdock.protocol.resume import GoOn, StartAgain, resumption
from support.docker_registry import DockerRegistry
from support.process import wait_until
from support.push import Remote, Reply

pytestmark = pytest.mark.real

CHUNK = bytes(range(256)) * 400
SIZE = 3 * len(CHUNK)


def opened(remote: Remote, repository: str) -> str:
    reply = remote.request("POST", f"/v2/{repository}/blobs/uploads/", b"")
    assert reply.status == 202
    return reply.headers["location"]


def chunk_headers(start: int) -> dict[str, str]:
    return {
        "Content-Type": "application/octet-stream",
        "Content-Range": f"{start}-{start + len(CHUNK) - 1}",
        "Content-Length": str(len(CHUNK)),
    }


def path_of(location: str) -> str:
    return "/" + location.split("/", 3)[3]


def sent(remote: Remote, location: str, start: int) -> str:
    reply = remote.request("PATCH", location, CHUNK, chunk_headers(start))
    assert reply.status == 202
    return reply.headers["location"]


def asked(remote: Remote, location: str) -> Reply:
    return remote.request("GET", location)


def meaning(reply: Reply, acknowledged: int) -> GoOn | StartAgain:
    return resumption(acknowledged, SIZE, reply.status, reply.headers)


def test_between_chunks_a_session_continues_at_its_newest_location_only(
    target: DockerRegistry, repository: str
) -> None:
    first = opened(target.remote, repository)
    second = sent(target.remote, first, 0)
    assert meaning(asked(target.remote, second), len(CHUNK)) == GoOn(len(CHUNK))
    stale = meaning(asked(target.remote, first), 0)
    assert isinstance(stale, StartAgain)
    third = sent(target.remote, second, len(CHUNK))
    assert meaning(asked(target.remote, third), len(CHUNK)) == GoOn(2 * len(CHUNK))


def test_an_empty_session_is_not_taken_up(target: DockerRegistry, repository: str) -> None:
    reply = asked(target.remote, opened(target.remote, repository))
    assert (reply.status, reply.headers["range"]) == (204, "0-0")
    assert meaning(reply, 0) == StartAgain("it holds nothing", announce=False)


def test_a_session_whose_patch_was_cut_is_lost_and_announced(target: DockerRegistry, repository: str) -> None:
    location = sent(target.remote, opened(target.remote, repository), 0)
    head = [f"PATCH {path_of(location)} HTTP/1.1", f"Host: {target.host}"]
    head += [f"{name}: {value}" for name, value in chunk_headers(len(CHUNK)).items()]
    with socket.create_connection(("127.0.0.1", target.port)) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + CHUNK[: len(CHUNK) // 2])
    wait_until(lambda: asked(target.remote, location).status == 404, "the registry to see the cut")
    answer = meaning(asked(target.remote, location), len(CHUNK))
    assert isinstance(answer, StartAgain)
    assert answer.announce
