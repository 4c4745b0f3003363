"""Targets that break, lose answers, stall or speak bad HTTP in several places of one copy; see `tests/grid`.

One copy meets the same fault in every place of a push: the checks, the opening of a session, a small upload,
a large one, the manifest. It ends in time, with everything at the target once and right and no session left,
or with one line that names operation, side and reference, and no tag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Break, Fault, Seen, error, retry_after, set_header
from support.command import RATE_LIMIT, TARGET, Crossdock, Finished
from support.docker_registry import DockerRegistry
from support.faults import patience
from support.images import Graph, assert_holds, one_layer_image, push

pytestmark = pytest.mark.real

LAYER = 1_500_000
QUIET = ("--progress", "none", "--output", "json")
FLAGS = ("--memory", "4MiB", "--chunk-size", "128KiB")
BOUND_S = 120.0  # of one run, on a machine that is busy with other things

PLACES: dict[str, Callable[[Seen], bool]] = {
    "manifest check": lambda seen: seen.method in ("GET", "HEAD") and "/manifests/" in seen.path,
    "blob check": lambda seen: seen.method == "HEAD" and "/blobs/sha256:" in seen.path,
    "session": lambda seen: seen.is_upload_start() and not seen.body_size,
    "small upload": lambda seen: seen.is_upload_body() and seen.body_size < 10_000,
    "large upload": lambda seen: seen.is_upload_body() and seen.body_size > 10_000,
    "manifest": lambda seen: seen.method == "PUT" and "/manifests/" in seen.path,
}


@dataclass
class Scene:
    """An image in the source; its target behind a fault proxy."""

    command: Crossdock
    source: DockerRegistry
    proxy: FaultProxy
    target: DockerRegistry
    repository: str
    graph: Graph
    flags: tuple[str, ...]
    faults: dict[str, Fault] = field(default_factory=dict)

    def plan(self, place: str, **fault: Any) -> None:
        """A fault for the requests of this place."""
        self.faults[place] = self.proxy.add(Fault(PLACES[place], **fault))

    def run(self, *flags: str) -> Finished:
        """The copy, bounded."""
        words = f"{self.source.host}/{self.repository}:v1", f"{self.proxy.host}/{self.repository}:v1"
        how = (*FLAGS, *QUIET, *patience(self.proxy, "3s"), *self.flags, *flags)
        done = self.command("copy", *words, *how, timeout=BOUND_S)
        assert "Traceback" not in done.stdout + done.stderr, str(done)
        return done

    def recovers(self, retries: int, *, sessions: int = 0) -> None:
        """The copy meets every fault; the target's content is correct; at most `sessions` are open."""
        done = self.run("--retries", "3")
        assert done.code == 0, str(done)
        assert_holds(self.target.remote, self.repository, "v1", self.graph)
        assert {place: fault.reached.is_set() for place, fault in self.faults.items()} == dict.fromkeys(
            self.faults, True
        )
        assert len(self.target.forgotten_sessions(self.repository)) <= sessions
        assert done.result["retries"] >= retries, done.stdout

    def fails(self, code: int, *flags: str) -> str:
        """The copy fails in one clear line; no tag was written."""
        done = self.run("--retries", "1", *flags)
        assert (done.code, done.stdout) == (code, ""), str(done)
        for words in ("target", f"{self.proxy.host}/{self.repository}", "; "):
            assert words in done.error, done.error
        assert self.target.remote.tags(self.repository) == []
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
        image, _ = one_layer_image(builder, LAYER)
        graph = push(source.remote, repository, builder, image, "v1")
        proxy, flags = proxy_over(way, target.host, "--dest-ca")
        return Scene(crossdock, source, proxy, target, repository, graph, flags)

    return make


@pytest.fixture
def scene(scene_over: Callable[[str], Scene]) -> Scene:
    """Over plain HTTP."""
    return scene_over("plain")


@pytest.fixture(params=["plain", "tls"])
def either(request: pytest.FixtureRequest, scene_over: Callable[[str], Scene]) -> Scene:
    """With and without TLS."""
    return scene_over(request.param)


# -- once: recovered from ------------------------------------------------------------------------------------

BEFORE: dict[str, dict[str, Any]] = {
    "closes instead of answering": {"breaks": Break("close", "request")},
    "resets instead of answering": {"breaks": Break("reset", "request")},
    "says nothing": {"breaks": Break("stall", "request")},
    "is busy": {"answer": error(503), "answer_after": None},
    "is busy before the body has come": {"answer": error(503)},
    "limits the rate": {"answer": retry_after(1), "answer_after": None},
    "talks no HTTP": {"answer": b"220 mail.invalid ESMTP\r\n"},
}
LOST: dict[str, Break] = {
    "closes": Break("close", "head"),
    "resets": Break("reset", "head"),
    "stalls": Break("stall", "head"),
    "closes inside the head": Break("close", "head", 20),
}


@pytest.mark.parametrize("name", BEFORE)
def test_a_target_that_fails_once_in_every_place(name: str, scene: Scene) -> None:
    for place in PLACES:
        scene.plan(place, **BEFORE[name])
    # A kept connection that is gone before its answer is replaced, which is no retry; how many of the
    # requests meet one depends on which connection was free first.
    scene.recovers(1 if "instead of answering" in name else 3)


@pytest.mark.parametrize("name", LOST)
def test_a_target_whose_answer_is_lost_once_in_every_place(name: str, either: Scene) -> None:
    """The lost requests had been executed. A session whose Location was lost stays, since no one knows it."""
    for place in PLACES:
        either.plan(place, breaks=LOST[name])
    either.recovers(1, sessions=2)  # looking whether it has happened is no second try


def test_kept_connections_that_end_while_idle_are_replaced(either: Scene) -> None:
    either.proxy.add(Fault("* *", times=None, breaks=Break("close", "idle")))
    either.recovers(0)


# -- always: said plainly ------------------------------------------------------------------------------------

ENDLESS: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "a silent check": ("blob check", {"breaks": Break("stall", "request")}, TARGET, "no response"),
    "a session without address": ("session", {"answer": Answer(202)}, TARGET, "Location"),
    "a session in a file": (
        "session",
        {"head": set_header("Location", "file:///tmp/x")},
        TARGET,
        "not an absolute http or https URL",
    ),
    "a refusal in mid-upload": (
        "large upload",
        {"answer": error(400, "SIZE_INVALID")},
        TARGET,
        "SIZE_INVALID",
    ),
    "a limit for years": ("session", {"answer": retry_after(10**9)}, RATE_LIMIT, "1000000000 s"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_fault_that_never_ends_is_one_clear_line(name: str, scene: Scene) -> None:
    place, fault, code, words = ENDLESS[name]
    scene.plan(place, times=None, **fault)
    line = scene.fails(code)
    assert words in line
    assert "_state=" not in line.replace("_state=…", "")
