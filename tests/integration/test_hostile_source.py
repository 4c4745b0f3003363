"""Sources that break, send wrong data or bad HTTP in ways that the fault grid (`tests/grid`) lacks.

An image has one layer for each place, so that one copy meets up to six faults. Every copy runs as a user runs
it, with short bounds, and ends in time: with every byte right, or with one line that names the operation, the
side, the digest and what to do, and no tag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import (
    Answer,
    Break,
    Fault,
    Seen,
    as_chunked,
    content_range,
    drop_headers,
    error,
    retry_after,
    set_header,
)
from support.command import RATE_LIMIT, SOURCE, VERIFICATION, Crossdock, Finished
from support.docker_registry import DockerRegistry
from support.faults import patience
from support.images import Graph, assert_holds, push

pytestmark = pytest.mark.real

CHUNK = 128 << 10
PARTS = 5
QUIET = ("--progress", "none", "--output", "json")
FLAGS = ("--chunk-size", "128KiB", "--memory", "4MiB", "--connections", "4")
BOUND_S = 120.0  # of one run, on a machine that is busy with other things

PLACES = ("small", "one part", "first part", "frontier", "later part", "last part")
RANGED = PLACES[2:]
PART_OF = {"first part": 0, "frontier": 1, "later part": 3, "last part": PARTS - 1}
SIZES = {
    "small": 40_000,
    "one part": CHUNK,
    **{place: (PARTS - 1) * CHUNK + 10_000 + part for place, part in PART_OF.items()},
}


@dataclass
class Scene:
    """An image with one layer for each of `PLACES`, behind a fault proxy."""

    command: Crossdock
    proxy: FaultProxy
    target: DockerRegistry
    repository: str
    graph: Graph
    layers: dict[str, Content]
    data: dict[str, bytes]  # by digest
    flags: tuple[str, ...]
    faults: list[Fault] = field(default_factory=list)

    def plan(self, place: str, **fault: Any) -> None:
        """A fault for the GET of this place."""
        self.faults.append(self.proxy.add(Fault(self.at(place), **fault)))

    def at(self, place: str) -> Callable[[Seen], bool]:
        """Matches the request for the place in its layer."""
        digest = self.layers[place].digest
        start = f"bytes={PART_OF[place] * CHUNK}-" if place in PART_OF else ""
        return lambda seen: seen.is_blob_get(digest) and seen.range.startswith(start)

    def bytes_for(self, seen: Seen) -> tuple[bytes, int, int]:
        """The bytes of a correct response, their offset, and the size of the whole."""
        data = next(data for digest, data in self.data.items() if digest in seen.path)
        first, _, last = seen.range.removeprefix("bytes=").partition("-")
        return (data[int(first) : int(last) + 1], int(first), len(data)) if last else (data, 0, len(data))

    def run(self, *flags: str) -> Finished:
        """The copy, bounded."""
        words = f"{self.proxy.host}/{self.repository}:v1", f"{self.target.host}/{self.repository}:v1"
        how = (*FLAGS, *QUIET, *patience(self.proxy, "2s"), *self.flags, *flags)
        done = self.command("copy", *words, *how, timeout=BOUND_S)
        assert "Traceback" not in done.stdout + done.stderr, str(done)
        return done

    def recovers(self, retries: int, *flags: str) -> None:
        """The copy meets every fault, is exact, and needed at least this many retries."""
        done = self.run("--retries", "3", *flags)
        assert done.code == 0, str(done)
        assert_holds(self.target.remote, self.repository, "v1", self.graph)
        assert self.target.forgotten_sessions(self.repository) == []
        assert [fault.reached.is_set() for fault in self.faults] == [True] * len(self.faults)
        assert done.result["retries"] >= retries, done.stdout

    def fails(self, place: str, code: int, *flags: str) -> str:
        """The copy fails in one clear line and leaves nothing at the target."""
        done = self.run("--retries", "1", *flags)
        assert (done.code, done.stdout) == (code, ""), str(done)
        digest = self.layers[place].digest
        # A rate limit is the host's: whoever asks next may be the one to say so.
        where = f"{self.proxy.host}/{self.repository}@" + (digest if code != RATE_LIMIT else "sha256:")
        for words in ("fetch blob from source", where, "; "):
            assert words in done.error, done.error
        assert self.target.remote.tags(self.repository) == []
        assert not self.target.remote.has_blob(self.repository, digest)
        assert self.target.forgotten_sessions(self.repository) == []
        return done.error


@pytest.fixture
def scene_over(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    proxy_over: Callable[[str, str, str], tuple[FaultProxy, tuple[str, ...]]],
) -> Callable[[str], Scene]:
    """Pushes the image and starts the proxy, over ``plain`` HTTP or ``tls``."""

    def make(way: str) -> Scene:
        layers = {place: builder.random_layer(SIZES[place]) for place in PLACES}
        graph = push(source.remote, repository, builder, builder.image([*layers.values()]), "v1")
        data = {layer.digest: builder.read(layer) for layer in layers.values()}
        proxy, flags = proxy_over(way, source.host, "--src-ca")
        return Scene(crossdock, proxy, target, repository, graph, layers, data, flags)

    return make


@pytest.fixture
def scene(scene_over: Callable[[str], Scene]) -> Scene:
    """Over plain HTTP."""
    return scene_over("plain")


@pytest.fixture
def secure(scene_over: Callable[[str], Scene]) -> Scene:
    """Over TLS."""
    return scene_over("tls")


@pytest.fixture(params=["plain", "tls"])
def either(request: pytest.FixtureRequest, scene_over: Callable[[str], Scene]) -> Scene:
    """With and without TLS."""
    return scene_over(request.param)


# -- once: recovered from ------------------------------------------------------------------------------------

OVER_TLS: dict[str, Break] = {
    "ends inside a record": Break("cut", at=5000, in_record=True),
    "reset inside a record": Break("reset", at=5000, in_record=True),
}


@pytest.mark.parametrize("name", OVER_TLS)
def test_a_tls_connection_that_breaks_once_in_every_place(name: str, secure: Scene) -> None:
    for place in PLACES:
        secure.plan(place, breaks=OVER_TLS[name])
    secure.recovers(len(PLACES))


@pytest.mark.parametrize("how", ["close", "cut", "reset"])
def test_kept_connections_that_end_while_idle_are_replaced_silently(how: Any, either: Scene) -> None:
    either.proxy.add(Fault("* *", times=None, breaks=Break(how, "idle")))
    done = either.run("--retries", "0")
    assert done.code == 0, str(done)
    assert done.result["retries"] == 0
    assert_holds(either.target.remote, either.repository, "v1", either.graph)


LIES: dict[str, dict[str, Any]] = {
    "a range that ends later": {"head": content_range(end=1)},
    "more than asked for": {"widen": 100},
    "no Content-Range": {"head": drop_headers("Content-Range")},
    "multipart": {"head": set_header("Content-Type", "multipart/byteranges; boundary=x")},
}


@pytest.mark.parametrize("name", LIES)
def test_a_206_that_lies_once_is_requested_again(name: str, scene: Scene) -> None:
    places = RANGED[:-1]  # more than the last part there is not
    for place in places:
        scene.plan(place, **LIES[name])
    scene.recovers(len(places))


ODD_BUT_RIGHT: dict[str, dict[str, Any]] = {
    "chunked": {"head": as_chunked},
    "framed by the end of the connection": {"head": drop_headers("Content-Length")},
    "called compressed": {"head": set_header("Content-Encoding", "gzip")},
    "followed by bytes that nobody asked for": {"extra": b"HTTP/1.1 200 OK\r\n\r\n"},
}


@pytest.mark.parametrize("name", ODD_BUT_RIGHT)
def test_answers_to_ranges_that_need_no_second_try(name: str, scene: Scene) -> None:
    for place in RANGED:
        scene.plan(place, **ODD_BUT_RIGHT[name])
    scene.recovers(0)


def test_a_server_that_is_busy_once_in_every_place(scene: Scene) -> None:
    for place in PLACES:
        scene.plan(place, answer=error(408))
    scene.recovers(len(PLACES))


# `range` stands for Content-Range, or for a harmless field where the whole blob was asked for.
SYNTAX: dict[str, str] = {
    "a signed length": "HTTP/1.1 {status}\r\n{range}\r\nContent-Length: +{length}\r\n\r\n",
    "a hexadecimal length": "HTTP/1.1 {status}\r\n{range}\r\nContent-Length: 0x{length:x}\r\n\r\n",
    "two lengths": "HTTP/1.1 {status}\r\n{range}\r\nContent-Length: {length}\r\nContent-Length: 5\r\n\r\n",
    "length and coding": "HTTP/1.1 {status}\r\n{range}\r\nContent-Length: {length}\r\n"
    "Transfer-Encoding: chunked\r\n\r\n",
    "a folded length": "HTTP/1.1 {status}\r\n{range}\r\nContent-Length: {length}\r\n \r\n\r\n",
    "a megabyte of head": "HTTP/1.1 {status}\r\n{range}\r\nX: {long}\r\nContent-Length: {length}\r\n\r\n",
    "a NUL": "HTTP/1.1 {status}\r\n{range}\r\nX: a\0b\r\nContent-Length: {length}\r\n\r\n",
    "bare line feeds": "HTTP/1.1 {status}\n{range}\nContent-Length: {length}\n\n",
    "no HTTP at all": "220 mail.invalid ESMTP\r\n",
    "a switch of protocols": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    "a status of four digits": "HTTP/1.1 2000 OK\r\n{range}\r\nContent-Length: {length}\r\n\r\n",
    "interim answers without end": "HTTP/1.1 100 Continue\r\n\r\n" * 100,
}
LEGAL: dict[str, str] = {
    "HTTP/1.0": "HTTP/1.0 {status}\r\n{range}\r\nContent-Length: {length}\r\n\r\n",
    "HTTP/1.0 until the end": "HTTP/1.0 {status}\r\n{range}\r\n\r\n",
    "the same length twice": "HTTP/1.1 {status}\r\n{range}\r\nContent-Length: {length}\r\n"
    "Content-Length: {length}\r\n\r\n",
    "206 for everything": "HTTP/1.1 206\r\n{always}\r\nContent-Length: {length}\r\n\r\n",
    "an early hint": "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    "HTTP/1.1 {status}\r\n{range}\r\nContent-Length: {length}\r\n\r\n",
    "headers in odd case, one folded": "HTTP/1.1 {status}\r\n{range}\r\ncONTENT-lENGTH:{length}  \r\n"
    "X: a\r\n b\r\n\r\n",
}


def spoken(scene: Scene, form: str) -> Callable[[Seen], bytes]:
    """The right bytes behind a head of this form."""

    def answer(seen: Seen) -> bytes:
        data, start, size = scene.bytes_for(seen)
        stated = f"Content-Range: bytes {start}-{start + len(data) - 1}/{size}"
        head = form.format(
            status="206 Partial Content" if seen.range else "200 OK",
            range=stated if seen.range else "Accept-Ranges: bytes",
            always=stated,
            length=len(data),
            long="x" * 1_000_000,
        )
        return head.encode() + data

    return answer


@pytest.mark.parametrize("turn", range(4))
def test_heads_that_are_not_http_are_requested_again(turn: int, scene: Scene) -> None:
    names = list(SYNTAX)
    for number, place in enumerate(PLACES):
        scene.plan(place, answer=spoken(scene, SYNTAX[names[(3 * turn + number) % len(names)]]))
    scene.recovers(len(PLACES))


def test_heads_that_are_unusual_and_legal_are_read_at_once(scene: Scene) -> None:
    for place, name in zip(PLACES, LEGAL, strict=True):
        scene.plan(place, answer=spoken(scene, LEGAL[name]))
    scene.recovers(0)


# -- always: said plainly ------------------------------------------------------------------------------------


def in_a_circle(seen: Seen) -> Answer:
    """To itself, with a query that looks like a permission."""
    return Answer(307, {"Location": f"{seen.path.partition('?')[0]}?sig=not-to-be-logged"})


ENDLESS: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "changes size": ("last part", {"head": content_range(total=1)}, VERIFICATION, "its manifest"),
    "goes on": ("one part", {"head": as_chunked, "extra": b"x"}, VERIFICATION, "131073 or more bytes came"),
    "is empty": ("first part", {"answer": Answer(200)}, VERIFICATION, "the source states 0 bytes"),
    "has no content": ("small", {"answer": Answer(204)}, SOURCE, "204"),
    "is busy for years": ("small", {"answer": retry_after(10**9)}, RATE_LIMIT, "1000000000 s"),
    "is busy since long": ("small", {"answer": retry_after(-5)}, RATE_LIMIT, "429"),
    "is busy until 2099": (
        "later part",
        {"answer": retry_after("Wed, 21 Oct 2099 07:28:00 GMT")},
        RATE_LIMIT,
        "asks to wait",
    ),
    "sends to a file": (
        "small",
        {"answer": Answer(307, {"Location": "file:///etc/passwd"})},
        SOURCE,
        "scheme",
    ),
    "sends in a circle": (
        "first part",
        {"answer": in_a_circle},
        SOURCE,
        "more than 10 redirects",
    ),
    "sends nowhere": ("frontier", {"answer": Answer(302)}, SOURCE, "without a Location"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_fault_that_never_ends_is_one_clear_line(name: str, scene: Scene) -> None:
    place, fault, code, words = ENDLESS[name]
    scene.plan(place, times=None, **fault)
    line = scene.fails(place, code)
    assert words in line
    assert "not-to-be-logged" not in line
    assert len(line) < 1000


def test_a_trickle_that_outlasts_the_rule_a_little_ends_all_the_same(scene: Scene) -> None:
    """A hundred bytes and a break, again and again: progress that would take days is none."""
    digest = scene.layers["later part"].digest
    scene.proxy.add(Fault(f"GET */blobs/{digest}", times=None, breaks=Break("close", at=100)))
    scene.fails("later part", SOURCE, "--timeout", "2s")
