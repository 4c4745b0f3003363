"""Responses about an old session as a table: acknowledged bytes, response, offset to resume at."""

from __future__ import annotations

import pytest

from crossdock.protocol.resume import GoOn, StartAgain, resumption

CHUNK = 64
ACKNOWLEDGED = 3 * CHUNK
SIZE = 10 * CHUNK + 7
MOVED = {"location": "https://registry.example/v2/a/blobs/uploads/2"}


def held(size: int, unit: str = "") -> dict[str, str]:
    return {"range": f"{unit}0-{size - 1}"}


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        # The registry holds what it acknowledged: 204 by the specification, 202 and 200 of others.
        (204, held(ACKNOWLEDGED), GoOn(ACKNOWLEDGED)),
        (202, held(ACKNOWLEDGED), GoOn(ACKNOWLEDGED)),
        (200, held(ACKNOWLEDGED), GoOn(ACKNOWLEDGED)),
        (204, held(ACKNOWLEDGED, "bytes="), GoOn(ACKNOWLEDGED)),
        (204, held(ACKNOWLEDGED, "bytes ") | MOVED, GoOn(ACKNOWLEDGED)),
        # More: distribution 3 keeps the bytes of a PATCH that was cut.
        (204, held(ACKNOWLEDGED + 1), GoOn(ACKNOWLEDGED + 1)),
        (204, held(SIZE - 1), GoOn(SIZE - 1)),
        # Everything: only the closing PUT is missing.
        (204, held(SIZE), GoOn(SIZE)),
        # Less, down to two bytes.
        (204, held(2 * CHUNK), GoOn(2 * CHUNK, lost=CHUNK)),
        (204, held(2 * CHUNK + 9), GoOn(2 * CHUNK + 9, lost=CHUNK - 9)),
        (204, held(2), GoOn(2, lost=ACKNOWLEDGED - 2)),
        # 416, or another refusal with a place to go on from (U10).
        (416, held(2 * CHUNK), GoOn(2 * CHUNK, lost=CHUNK)),
        (416, held(ACKNOWLEDGED) | MOVED, GoOn(ACKNOWLEDGED)),
        (400, held(ACKNOWLEDGED) | MOVED, GoOn(ACKNOWLEDGED)),
    ],
)
def test_a_session_is_resumed_where_the_registry_says(
    status: int, headers: dict[str, str], expected: GoOn
) -> None:
    assert resumption(ACKNOWLEDGED, SIZE, status, headers) == expected


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        # "0-0" is an empty session of distribution, and one byte; neither is worth a doubt.
        (204, {"range": "0-0"}, "holds nothing"),
        (204, {"range": "bytes=0-0"}, "holds nothing"),
        (204, {"range": "0--1"}, "holds nothing"),
        # More than the blob has: not ours, or not what it was.
        (204, held(SIZE + 1), f"{SIZE + 1} bytes, more than the blob's {SIZE}"),
        (204, {"range": "0-9999999999999999999"}, "more than"),
        # No offset: our own count would be a guess after a PATCH that was cut.
        (204, {}, "does not say how much"),
        (202, MOVED, "does not say how much"),
        (204, {"range": "garbage"}, "does not say how much"),
        (204, {"range": "5-9"}, "does not say how much"),
        # Refused without a place, or broken.
        (416, {}, "responds with 416"),
        (416, held(SIZE + 1), "responds with 416"),
        (400, held(ACKNOWLEDGED), "responds with 400"),
        (400, MOVED, "responds with 400"),
        (401, {}, "responds with 401"),
        (403, {}, "responds with 403"),
        (405, {}, "responds with 405"),
        (429, {}, "responds with 429"),
        (500, held(ACKNOWLEDGED), "responds with 500"),
        (503, {}, "responds with 503"),
        (0, {}, "does not say"),
    ],
)
def test_unreliable_state_is_left_and_announced(status: int, headers: dict[str, str], reason: str) -> None:
    answer = resumption(ACKNOWLEDGED, SIZE, status, headers)
    assert isinstance(answer, StartAgain)
    assert reason in answer.reason
    assert answer.announce


@pytest.mark.parametrize("status", [404, 410])
def test_a_session_that_is_gone_is_announced(status: int) -> None:
    # docker-registry 2.8 forgets a session whose PATCH was cut, and zot does; all do after some days.
    answer = resumption(ACKNOWLEDGED, SIZE, status, {})
    assert isinstance(answer, StartAgain)
    assert answer.announce
    assert "no longer knows" in answer.reason


@pytest.mark.parametrize(
    ("status", "headers"), [(204, {"range": "0-0"}), (404, {}), (500, {}), (0, {}), (204, {})]
)
def test_nothing_is_announced_when_nothing_was_acknowledged(status: int, headers: dict[str, str]) -> None:
    answer = resumption(0, SIZE, status, headers)
    assert isinstance(answer, StartAgain)
    assert not answer.announce


def test_bytes_of_a_first_chunk_that_was_cut_are_used() -> None:
    assert resumption(0, SIZE, 204, held(17)) == GoOn(17)


@pytest.mark.parametrize("headers", [held(CHUNK), {"range": "0-0"}, {}, held(SIZE + 1), held(ACKNOWLEDGED)])
def test_where_range_stands_still_our_own_count_is_right(headers: dict[str, str]) -> None:
    assert resumption(ACKNOWLEDGED, SIZE, 204, headers, trust_range=False) == GoOn(ACKNOWLEDGED)


def test_where_range_stands_still_a_session_without_chunks_and_one_that_is_gone_are_left() -> None:
    empty = resumption(0, SIZE, 204, held(CHUNK), trust_range=False)
    assert isinstance(empty, StartAgain)
    assert not empty.announce
    gone = resumption(ACKNOWLEDGED, SIZE, 404, {}, trust_range=False)
    assert isinstance(gone, StartAgain)
    assert gone.announce
