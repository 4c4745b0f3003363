"""Every silence ends: ``--timeout`` covers it, ``--retries`` bounds how often the request is tried."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from crossdock_testing.faults import Break, Fault, Seen
from support.command import SOURCE, TARGET
from support.interrupted import CHUNK, LAYER, Passage

pytestmark = pytest.mark.real

RETRIES = 2
BOUNDS = ("--timeout", "500ms", "--retries", str(RETRIES))
UNANSWERED = Break("stall", "head", 0)

Where = Callable[[Passage], Fault]


@pytest.fixture
def kind() -> str:
    """The target."""
    return "embedded"


def silent(method: str, path: str, breaks: Break = UNANSWERED) -> Where:
    """A request that never gets a response, or always breaks off as in `breaks`."""
    return lambda passage: Fault(
        lambda seen: seen.method == method and path.format(passage.layer) in seen.path,
        times=None,
        breaks=breaks,
    )


def silent_chunk(breaks: Break) -> Where:
    def fault(passage: Passage) -> Fault:
        def is_first(seen: Seen) -> bool:
            return passage.is_chunk(seen)

        return Fault(is_first, times=None, breaks=breaks)

    return fault


AT_SOURCE: dict[str, Where] = {
    "the manifest's head": silent("HEAD", "/manifests/"),
    "the manifest": silent("GET", "/manifests/"),
    "inside the manifest": silent("GET", "/manifests/", Break("stall", "body", 20)),
    "the blob": silent("GET", "/blobs/{}"),
    "inside the blob": silent("GET", "/blobs/{}", Break("stall", "body", 20)),
}
AT_TARGET: dict[str, Where] = {
    "the tag": silent("GET", "/manifests/v1"),
    "whether the blob is there": silent("HEAD", "/blobs/{}"),
    "the session": silent("POST", "/blobs/uploads/"),
    "inside a chunk": silent_chunk(Break("stall", "request", 77)),
    "the manifest": silent("PUT", "/manifests/v1", Break("stall", "request")),
}


@pytest.mark.parametrize("place", AT_SOURCE)
def test_a_source_that_is_silent_for_ever_is_given_up(place: str, passage: Passage) -> None:
    fault = passage.source.add(AT_SOURCE[place](passage))
    done = passage.command(*passage.words, *BOUNDS)
    assert done.code == SOURCE, str(done)
    assert passage.source.host in done.error
    # A range that is silent may be asked for a second time before its time-out.
    assert 1 + RETRIES <= fault.matched <= (1 + RETRIES) * (2 if "blob" in place else 1)


@pytest.mark.parametrize("place", AT_TARGET)
def test_a_target_that_is_silent_for_ever_is_given_up(place: str, passage: Passage) -> None:
    fault = passage.target.add(AT_TARGET[place](passage))
    done = passage.command(*passage.words, *BOUNDS)
    assert done.code == TARGET, str(done)
    assert passage.target.host in done.error
    # The small blob's session is another request than the layer's, and so is the POST with all of it.
    assert 1 + RETRIES <= fault.matched <= (1 + RETRIES) * (2 if place == "the session" else 1) + 1


def test_a_commit_without_an_answer_is_looked_after(passage: Passage) -> None:
    fault = passage.target.add(Fault(passage.is_commit, times=None, breaks=UNANSWERED))
    passage.command.ok(*passage.words, *BOUNDS)
    assert fault.matched == 1
    passage.check()


def test_a_manifest_without_an_answer_is_looked_after(passage: Passage) -> None:
    fault = passage.target.add(silent("PUT", "/manifests/v1")(passage))
    passage.command.ok(*passage.words, *BOUNDS)
    assert fault.matched == 1 + RETRIES
    passage.check()


def test_chunks_without_an_answer_are_asked_about(passage: Passage) -> None:
    fault = passage.target.add(silent_chunk(UNANSWERED)(passage))
    result = passage.command.ok(*passage.words, *BOUNDS).result
    assert fault.matched >= -(-LAYER // CHUNK)
    assert result["retries"] == 0, "each has been taken"
    assert passage.sent_again() == 0
    passage.check()


def test_without_retries_each_request_is_made_once(passage: Passage) -> None:
    fault = passage.target.add(AT_TARGET["inside a chunk"](passage))
    done = passage.command(*passage.words, "--timeout", "500ms", "--retries", "0")
    assert done.code == TARGET, str(done)
    assert fault.matched == 1
