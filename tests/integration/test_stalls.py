"""Sources that are slow or silent, before targets that must not wait: requests are judged, not times."""

from __future__ import annotations

import pytest

from crossdock_testing.faults import Break, Fault, Seen
from support.command import Finished, Running
from support.interrupted import CHUNK, LAYER, MIB, TO_THE_BYTE, Passage
from support.process import wait_until

pytestmark = pytest.mark.real

IMPATIENT = ("--retries", "100", "--connections", "1", "--chunk-size", "1MiB")


@pytest.fixture
def kind() -> str:
    """The default target of tests."""
    return "embedded"


def start(passage: Passage, timeout: str = "3s") -> Running:
    """Short, for these sources are silent; long enough for a registry on a busy machine to store a chunk."""
    return passage.command.start(*passage.words, *IMPATIENT, "--timeout", timeout)


def silence(passage: Passage, offset: int) -> Fault:
    """The source never sends bytes of the layer from `offset` on."""

    def is_behind(seen: Seen) -> bool:
        first = int(seen.range.removeprefix("bytes=").partition("-")[0] or 0)
        return seen.is_blob_get(passage.layer) and first >= offset

    return passage.source.add(Fault(is_behind, times=None, breaks=Break("stall", at=0)))


def finished(running: Running, passage: Passage) -> Finished:
    done = running.finish(120)
    assert done.code == 0, str(done)
    passage.check()
    return done


@pytest.mark.parametrize("kind", TO_THE_BYTE)
def test_a_chunk_does_not_stay_open_behind_a_silent_source(kind: str, passage: Passage) -> None:
    silence(passage, CHUNK + CHUNK // 2)
    with start(passage) as running:
        wait_until(
            lambda: any(passage.is_chunk(seen) and seen.ended == "left" for seen in passage.target.seen),
            "a chunk to be given up",
            60,
        )
        asked = passage.target.count(lambda seen: seen.method == "GET" and "/uploads/" in seen.path)
        assert asked == 0, "the session is asked about when there are bytes again"
        passage.source.faults.clear()
        result = finished(running, passage).result
    assert passage.sent_again() <= MIB
    assert result["warnings"] == []
    started = passage.target.count(lambda seen: seen.is_upload_start() and "digest" not in seen.path)
    assert started <= 2, "the layer and the config have one session each"


@pytest.mark.parametrize("kind", ["docker-registry-2.8", *TO_THE_BYTE])
def test_nothing_is_begun_at_the_target_before_there_are_bytes(kind: str, passage: Passage) -> None:
    stalled = silence(passage, 0)
    with start(passage) as running:
        wait_until(lambda: stalled.matched >= 2, "the source to be asked again", 60)
        assert passage.target.count(passage.is_chunk) == 0
        passage.source.faults.clear()
        finished(running, passage)
    assert passage.sent_again() == 0


@pytest.mark.parametrize("kind", ["docker-registry-2.8"])
def test_between_chunks_a_silent_source_keeps_no_request_open(kind: str, passage: Passage) -> None:
    stalled = silence(passage, 2 * CHUNK)
    with start(passage) as running:
        wait_until(lambda: stalled.matched >= 4, "the source to be asked again and again", 60)
        chunks = [seen for seen in passage.target.seen if passage.is_chunk(seen)]
        assert [(seen.body_size, seen.ended) for seen in chunks] == [(CHUNK, "whole")] * 2
        passage.source.faults.clear()
        result = finished(running, passage).result
    assert passage.sent_again() == 0
    assert result["warnings"] == []


@pytest.mark.parametrize("kind", ["docker-registry-2.8", "embedded"])
def test_chunks_get_shorter_behind_a_slow_source(kind: str, passage: Passage) -> None:
    passage.source.add(Fault(lambda seen: seen.is_blob_get(passage.layer), times=None, rate=2 * MIB))
    with start(passage, timeout="1s") as running:
        finished(running, passage)
    chunks = [seen for seen in passage.target.seen if passage.is_chunk(seen)]
    assert sum(seen.body_size < CHUNK for seen in chunks) > len(chunks) / 2
    assert sum(seen.body_size for seen in chunks) == LAYER
