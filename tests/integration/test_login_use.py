"""A login that moves on everything that means login, through the command and whole copies."""

from __future__ import annotations

import itertools
import json
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from support.command import AUTH, DONE, Crossdock
from support.scripted import Before, Reply, Request, ScriptedRegistry, basic

LOGIN = basic("u", "p")
BASIC = 'Basic realm="here"'
LAYERS = 12

Side = Literal["source", "target"]


class Pair:
    """A source with an image of some layers and an empty target, one of them guarded."""

    def __init__(self, crossdock: Crossdock, closing: ExitStack, side: Side, guard: Before) -> None:
        guarded, plain = ScriptedRegistry(closing, guard), ScriptedRegistry(closing)
        self.source, self.target = (guarded, plain) if side == "source" else (plain, guarded)
        self.guarded = guarded
        self.crossdock = crossdock
        self.flag = "--src-creds-stdin" if side == "source" else "--dest-creds-stdin"
        builder = ImageBuilder()
        self.image = an_image(builder, LAYERS)
        self.source.hold(builder)
        self.source.name("v1", self.image)

    @property
    def words(self) -> tuple[str, ...]:
        return "copy", f"{self.source.host}/app:v1", f"{self.target.host}/app:v1"

    def arrived(self) -> bool:
        return self.target.find("app", "v1")[1] == self.source.find("app", "v1")[1]


def an_image(builder: ImageBuilder, layers: int) -> Content:
    blobs = [builder.random_layer(900 + number) for number in range(layers)]
    return builder.image(blobs)


SIDES: tuple[Side, ...] = ("source", "target")


def helper(crossdock: Crossdock, host: str, folder: Path) -> dict[str, str]:
    """An environment whose helper gives pw1, then pw2, and so on."""
    program = folder / "docker-credential-fake"
    (folder / "n").write_text("0")
    program.write_text(
        f"#!/bin/sh\nread -r host\nn=$(($(cat {folder}/n)+1)); echo $n > {folder}/n\n"
        'printf \'{"ServerURL":"%s","Username":"AWS","Secret":"pw%s"}\' "$host" "$n"\n'
    )
    program.chmod(0o755)
    (folder / "config.json").write_text(json.dumps({"credHelpers": {host: "fake"}}))
    return {"DOCKER_CONFIG": str(folder), "PATH": f"{folder}:{crossdock.environment['PATH']}"}


EXPIRED_ANSWERS = [
    (401, b"{}"),
    (403, b"Your Authorization Token has expired. Please run 'aws ecr get-login' to fetch a new one."),
    (403, b'{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate"}]}'),
    (400, b'{"errors":[{"code":"UNKNOWN","message":"The security token has expired"}]}'),
]


@pytest.mark.parametrize(("status", "body"), EXPIRED_ANSWERS)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("expires_at", [3, 8, 15])
def test_a_login_that_expires_under_many_requests_is_asked_of_the_helper_once(
    side: Side,
    status: int,
    body: bytes,
    expires_at: int,
    crossdock: Crossdock,
    closing: ExitStack,
    tmp_path: Path,
) -> None:
    good, counted, lock = ["pw1"], itertools.count(1), threading.Lock()

    def guard(request: Request) -> Reply | None:
        if not request.authorization:
            return Reply.demand(BASIC)
        with lock:
            if next(counted) == expires_at:
                good[0] = "pw2"
        if request.authorization == basic("AWS", good[0]):
            return None
        return Reply(status, body, {"WWW-Authenticate": BASIC} if status == 401 else {})

    pair = Pair(crossdock, closing, side, guard)
    done = crossdock(*pair.words, env=helper(crossdock, pair.guarded.host, tmp_path))
    assert done.code == DONE, done
    assert pair.arrived()
    assert (tmp_path / "n").read_text() == "2\n"


@pytest.mark.parametrize("status", [404, 403])
@pytest.mark.parametrize("side", SIDES)
def test_only_the_ping_demands_a_login(
    side: Side, status: int, crossdock: Crossdock, closing: ExitStack
) -> None:
    def guard(request: Request) -> Reply | None:
        if request.authorization == LOGIN:
            return None
        if request.authorization or request.path == "/v2/":
            return Reply.demand(BASIC)
        return Reply.error(status, "NAME_UNKNOWN" if status == 404 else "DENIED")

    pair = Pair(crossdock, closing, side, guard)
    done = crossdock(*pair.words, pair.flag, stdin="u:p\n")
    assert done.code == DONE, done
    assert pair.arrived()
    wrong = crossdock(*pair.words, pair.flag, stdin="u:wrong\n")
    assert wrong.code == AUTH
    assert "was sent as user 'u'" in wrong.error


@pytest.mark.parametrize("challenge", ["basic", "bearer"])
def test_a_mirror_with_a_login_is_whole_where_strangers_see_less(
    challenge: str, crossdock: Crossdock, closing: ExitStack
) -> None:
    def guard(request: Request) -> Reply | None:
        knows = bool(request.authorization)
        if request.path == "/token":
            return (
                Reply.json({"token": "t"})
                if request.authorization == LOGIN
                else Reply.error(401, "UNAUTHORIZED")
            )
        if knows and request.authorization not in (LOGIN, "Bearer t"):
            return Reply.demand(BASIC)
        if request.path == "/v2/":
            host = source.host
            return Reply.demand(
                BASIC if challenge == "basic" else f'Bearer realm="http://{host}/token"', status=200
            )
        if request.path == "/v2/_catalog":
            return Reply.json({"repositories": ["private", "public"] if knows else ["public"]})
        if request.path == "/v2/public/tags/list" and not knows:
            return Reply.json({"name": "public", "tags": ["v1"]})
        return (
            Reply.error(404, "NAME_UNKNOWN")
            if request.path.startswith("/v2/private/") and not knows
            else None
        )

    source, target = ScriptedRegistry(closing, guard), ScriptedRegistry(closing)
    builder = ImageBuilder()
    image = an_image(builder, 1)
    source.hold(builder)
    for name, tag in (("public", "v1"), ("public", "internal"), ("private", "v1")):
        source.name(tag, image, name=name)
    done = crossdock("mirror", "--src-creds-stdin", source.host, target.host, stdin="u:p\n")
    assert done.code == DONE, done
    arrived = sorted(f"{name}:{tag}" for name, tag in target.manifests if ":" not in tag)
    assert arrived == ["private:v1", "public:internal", "public:v1"]


@pytest.mark.parametrize("clock_behind_s", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("side", SIDES)
def test_a_token_that_is_not_valid_yet(
    side: Side, clock_behind_s: float, crossdock: Crossdock, closing: ExitStack
) -> None:
    born: dict[str, float] = {}

    def guard(request: Request) -> Reply | None:
        if request.path == "/token":
            token = f"t{len(born)}"
            born[f"Bearer {token}"] = time.monotonic()
            return Reply.json({"token": token, "expires_in": 300})
        since = born.get(request.authorization)
        if since is not None and time.monotonic() - since >= clock_behind_s:
            return None
        return Reply.demand(f'Bearer realm="http://{pair.guarded.host}/token",service="r"')

    pair = Pair(crossdock, closing, side, guard)
    done = crossdock(*pair.words)
    assert done.code == DONE, done
    assert pair.arrived()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("login", ["", "u:p\n"])
def test_a_vanity_host_is_read_with_an_anonymous_token(
    status: int, login: str, crossdock: Crossdock, closing: ExitStack
) -> None:
    seen: list[Request] = []

    def guard(request: Request) -> Reply | None:
        seen.append(request)
        if request.path == "/token":
            return Reply.json({"token": "-".join(parse_qs(urlsplit(request.target).query).get("scope", []))})
        if "repository:app:pull" in request.authorization:
            return None
        return Reply.demand(
            f'Bearer realm="http://{pair.source.host}/token",service="r",scope="repository:app:pull"'
        )

    pair = Pair(crossdock, closing, "source", guard)
    vanity = ScriptedRegistry(
        closing,
        lambda request: Reply(status, headers={"Location": f"http://{pair.source.host}{request.path}"}),
    )
    flags = ["--src-creds-stdin"] if login else []
    words = ("copy", f"{vanity.host}/app:v1", f"{pair.target.host}/app:v1")
    done = crossdock(*words, *flags, stdin=login)
    assert done.code == DONE, done
    assert pair.arrived()
    assert not any(request.authorization.startswith("Basic") for request in seen)
    assert sum(request.path == "/token" for request in seen) == 1


def test_a_vanity_host_of_a_private_registry_names_that_registry(
    crossdock: Crossdock, closing: ExitStack
) -> None:
    pair = Pair(crossdock, closing, "source", lambda request: Reply.demand(BASIC))
    vanity = ScriptedRegistry(
        closing,
        lambda request: Reply(307, headers={"Location": f"http://{pair.source.host}{request.path}"}),
    )
    done = crossdock("inspect", f"{vanity.host}/app:v1", "--creds-stdin", stdin="u:p\n")
    assert done.code == AUTH
    assert f"name {pair.source.host} in the reference" in done.error
    assert "no credentials" not in done.error


LIMITS = [
    Reply.error(403, "TOOMANYREQUESTS", "You have reached your pull rate limit"),
    Reply.error(403, "DENIED", "Request exceeded pull rate limit for IP"),
    Reply.error(429, "TOOMANYREQUESTS"),
]


@pytest.mark.parametrize("limit", LIMITS, ids=["code", "words", "429"])
@pytest.mark.parametrize(
    ("side", "method", "part"),
    [
        ("source", "GET", "/blobs/"),
        ("source", "GET", "/token"),
        ("target", "POST", "/blobs/"),
        ("target", "PUT", "/blobs/"),
        ("target", "PUT", "/manifests/"),
    ],
)
def test_a_rate_limit_is_waited_for(
    side: Side, method: str, part: str, limit: Reply, crossdock: Crossdock, closing: ExitStack
) -> None:
    left = [limit, limit]

    def guard(request: Request) -> Reply | None:
        if request.method == method and part in request.path and left:
            return left.pop()
        if request.path == "/token":
            return Reply.json({"token": "t"})
        if part == "/token" and not request.authorization:
            return Reply.demand(f'Bearer realm="http://{pair.guarded.host}/token"')
        return None

    pair = Pair(crossdock, closing, side, guard)
    done = crossdock(*pair.words)
    assert done.code == DONE, done
    assert pair.arrived()
    assert not left


def test_bearer_without_a_realm_beside_basic(crossdock: Crossdock, closing: ExitStack) -> None:
    pair = Pair(
        crossdock,
        closing,
        "source",
        lambda request: (
            None if request.authorization == LOGIN else Reply.demand(f'Bearer error="invalid_token", {BASIC}')
        ),
    )
    done = crossdock(*pair.words, pair.flag, stdin="u:p\n")
    assert done.code == DONE, done
    assert pair.arrived()


def test_without_a_login_no_request_more_is_sent(crossdock: Crossdock, closing: ExitStack) -> None:
    pair = Pair(crossdock, closing, "source", lambda request: None)
    crossdock.ok(*pair.words)
    assert not [
        path for registry in (pair.source, pair.target) for _, path in registry.asked if path == "/v2/"
    ]


def test_a_login_that_expired_at_the_token_service_is_renewed_once_for_all_repositories(
    crossdock: Crossdock, closing: ExitStack, tmp_path: Path
) -> None:
    good, issued = ["pw1"], itertools.count()

    def guard(request: Request) -> Reply | None:
        if request.path == "/token":
            if next(issued) == 2:
                good[0] = "pw2"
            if request.authorization != basic("AWS", good[0]):
                return Reply.error(401, "UNAUTHORIZED", "expired")
            return Reply.json({"token": f"{good[0]}-{urlsplit(request.target).query}"})
        if request.authorization.startswith("Bearer pw"):
            return None
        return Reply.demand(f'Bearer realm="http://{source.host}/token",service="r"')

    source, target = ScriptedRegistry(closing, guard), ScriptedRegistry(closing)
    builder = ImageBuilder()
    image = an_image(builder, 2)
    source.hold(builder)
    names = [f"team/app{number}" for number in range(6)]
    for name in names:
        source.name("v1", image, name=name)
    listed = tmp_path / "list"
    listed.write_text("".join(f"{source.host}/{name}:v1 {target.host}/{name}:v1\n" for name in names))
    done = crossdock("copy", "--from-file", listed, env=helper(crossdock, source.host, tmp_path))
    assert done.code == DONE, done
    assert all(target.find(name, "v1")[1] for name in names)
    assert (tmp_path / "n").read_text() == "2\n"
