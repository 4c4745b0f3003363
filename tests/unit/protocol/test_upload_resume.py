"""Chunks that another process can resume after: their ends, and resuming an old session."""

from __future__ import annotations

import pytest

from crossdock.protocol.resume import GoOn, StartAgain
from crossdock.protocol.upload import Ask, Open, Upload, UploadRules, Verdict
from crossdock.url import Url
from unit.protocol.test_upload import CHUNK, CHUNKED, DIGEST, POST_URL, SIZE, MiB, answer, begin, sending

TAKEN, AGAIN, REFUSED = Verdict.TAKEN, Verdict.AGAIN, Verdict.REFUSED

# -- where chunks end --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (2, 10 * MiB),  # after a cut request: the next multiple, where the digest's state is kept
        (10 * MiB - 1, 10 * MiB),
        (10 * MiB, 20 * MiB),
        (93 * MiB, SIZE),
    ],
)
def test_chunks_end_at_multiples_wherever_they_begin(start: int, stop: int) -> None:
    upload = taking_up(start)
    upload.taken_up(204, {"range": f"0-{start - 1}"})
    assert (sending(upload).start, sending(upload).stop) == (start, stop)


@pytest.mark.parametrize(("start", "stop"), [(4 * MiB, 10 * MiB), (9 * MiB, 14 * MiB)])
def test_chunks_are_not_shorter_than_the_registry_takes(start: int, stop: int) -> None:
    upload = begin(CHUNKED, oci_chunk_min_length=str(5 * MiB))
    answer(upload, 416, range=f"0-{start - 1}")
    assert (sending(upload).start, sending(upload).stop) == (start, stop)


@pytest.mark.parametrize(
    ("chunk", "boundary"),
    [
        (64 * MiB, 4 * MiB),
        (4 * MiB, MiB),
        (MiB, MiB),
        (100_000_000, 6_250_000),
        (3 * MiB, 3 * MiB // 2),
        (5_000_001, 5_000_001),
    ],
)
def test_boundaries_are_whole_parts_of_a_chunk(chunk: int, boundary: int) -> None:
    upload = begin(UploadRules(chunked=True, chunk_size=chunk))
    assert upload.boundary == boundary
    assert chunk % boundary == 0


def test_one_request_for_everything_has_no_boundary() -> None:
    upload = begin()
    assert upload.boundary is None
    upload.shorten(1)
    assert sending(upload).stop == SIZE


@pytest.mark.parametrize(
    ("most", "length"),
    [
        (1 << 62, 64),
        (64 * MiB, 64),
        (64 * MiB - 1, 60),
        (17 * MiB, 16),
        (4 * MiB, 4),
        (1, 4),  # not under one boundary
        (-5, 4),
    ],
)
def test_a_slow_feeder_gets_shorter_chunks(most: int, length: int) -> None:
    upload = begin(UploadRules(chunked=True, chunk_size=64 * MiB))
    upload.shorten(most)
    send = sending(upload)
    assert (send.start, send.stop) == (0, length * MiB)
    assert dict(send.headers)["Content-Range"] == f"0-{length * MiB - 1}"
    assert answer(upload, 202) is TAKEN
    assert sending(upload).stop == min(64 * MiB if length < 64 else 128 * MiB, SIZE)


def test_chunks_are_not_shortened_below_what_the_registry_takes() -> None:
    upload = begin(UploadRules(chunked=True, chunk_size=64 * MiB), oci_chunk_min_length=str(20 * MiB))
    upload.shorten(1)
    assert sending(upload).stop == 64 * MiB


def test_a_registry_that_takes_no_first_chunk_gets_one_put() -> None:
    upload = begin(CHUNKED)
    for _ in range(2):
        assert answer(upload, 404) is AGAIN
        assert isinstance(upload.step, Open)
        upload.opened({"location": "/again"}, POST_URL)
    assert (sending(upload).method, sending(upload).stop) == ("PUT", SIZE)
    assert upload.chunks_refused
    assert answer(upload, 201) is TAKEN


def test_one_put_is_no_fallback_if_it_is_known_to_be_refused() -> None:
    upload = begin(UploadRules(chunked=True, may_put=False, chunk_size=CHUNK), retries=1)
    assert answer(upload, 404) is AGAIN
    upload.opened({"location": "/again"}, POST_URL)
    assert answer(upload, 404) is REFUSED


# -- sessions of an earlier process ------------------------------------------------------------------

OLD = Url.parse("https://registry.test/v2/x/blobs/uploads/9?_state=old")


def taking_up(acknowledged: int, *, chunk: int = CHUNK, trust_range: bool = True) -> Upload:
    upload = Upload(DIGEST, SIZE, CHUNKED, retries=5)
    upload.take_up(OLD, acknowledged, chunk, trust_range=trust_range)
    assert upload.step == Ask(OLD)
    return upload


@pytest.mark.parametrize(
    ("acknowledged", "headers", "start", "stop"),
    [
        (30 * MiB, {"range": f"0-{30 * MiB - 1}"}, 30 * MiB, 40 * MiB),  # as it was left
        (30 * MiB, {"range": f"0-{33 * MiB - 1}"}, 33 * MiB, 40 * MiB),  # more: a cut request was kept
        (0, {"range": f"0-{3 * MiB - 1}"}, 3 * MiB, 10 * MiB),
        (30 * MiB, {"range": f"0-{20 * MiB - 1}"}, 20 * MiB, 30 * MiB),  # less
    ],
)
def test_a_session_is_resumed_where_the_registry_says(
    acknowledged: int, headers: dict[str, str], start: int, stop: int
) -> None:
    upload = taking_up(acknowledged)
    found = upload.taken_up(204, {**headers, "location": "/v2/x/blobs/uploads/9?_state=new"})
    assert found == GoOn(start, lost=max(0, acknowledged - start))
    send = sending(upload)
    assert (send.method, send.start, send.stop) == ("PATCH", start, stop)
    assert send.url.text == "https://registry.test/v2/x/blobs/uploads/9?_state=new"
    assert upload.acknowledged == upload.offset == start
    assert not upload.lost


def test_a_session_that_holds_everything_only_lacks_its_closing_put() -> None:
    upload = taking_up(90 * MiB)
    assert upload.taken_up(204, {"range": f"0-{SIZE - 1}"}) == GoOn(SIZE)
    assert (sending(upload).method, sending(upload).start, sending(upload).stop) == ("PUT", SIZE, SIZE)


@pytest.mark.parametrize("status", [404, 503, 0])
def test_a_session_that_cannot_be_resumed_gives_way_to_a_new_one(status: int) -> None:
    upload = taking_up(30 * MiB)
    found = upload.taken_up(status, {})
    assert isinstance(found, StartAgain)
    assert found.announce
    assert isinstance(upload.step, Open)
    assert upload.abandoned == [OLD]
    assert not upload.lost  # the caller has been told by the return value
    upload.opened({"location": "/v2/new"}, POST_URL)
    assert (sending(upload).start, sending(upload).stop) == (0, CHUNK)


@pytest.mark.parametrize(("row", "stop"), [(5 * MiB, 35 * MiB), (20 * MiB, 40 * MiB)])
def test_the_smaller_chunk_of_then_and_now_counts(row: int, stop: int) -> None:
    upload = taking_up(30 * MiB, chunk=row)
    upload.taken_up(204, {"range": f"0-{30 * MiB - 1}"})
    assert sending(upload).stop == stop


def test_a_range_that_stands_still_is_still_not_believed() -> None:
    upload = taking_up(30 * MiB, trust_range=False)
    assert upload.taken_up(204, {"range": f"0-{CHUNK - 1}"}) == GoOn(30 * MiB)
    assert not upload.trust_range
