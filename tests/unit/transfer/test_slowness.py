"""When the part at the frontier is requested a second time."""

from __future__ import annotations

import pytest

from crossdock.transfer.slowness import SILENT_S, Slowness

MiB = 1 << 20


def watched(size: int = 1000 * MiB, durations: tuple[float, ...] = ()) -> Slowness:
    slowness = Slowness(size)
    for seconds in durations:
        slowness.finished(seconds)
    assert not slowness.is_hopeless(7, 0, 8 * MiB, 0.0, later_parts_done=True)
    return slowness


@pytest.mark.parametrize(
    ("later", "seconds", "expected"),
    [(True, 6, True), (False, 6, False), (True, 4, False), (False, 11, True)],
)
def test_silence_counts_sooner_when_others_were_faster(later: bool, seconds: int, expected: bool) -> None:
    assert watched().is_hopeless(7, 0, 8 * MiB, seconds, later_parts_done=later) is expected


def test_a_byte_breaks_the_silence() -> None:
    slowness = watched()
    assert not slowness.is_hopeless(7, 1, 8 * MiB, SILENT_S - 1, later_parts_done=True)
    assert not slowness.is_hopeless(7, 1, 8 * MiB, SILENT_S + 1, later_parts_done=True)
    assert slowness.is_hopeless(7, 1, 8 * MiB, 2 * SILENT_S, later_parts_done=True)


def test_time_in_which_the_source_was_made_to_wait_is_not_a_silence() -> None:
    slowness = watched()
    slowness.forget()
    assert not slowness.is_hopeless(7, 0, 8 * MiB, 100.0, later_parts_done=True)
    assert slowness.is_hopeless(7, 0, 8 * MiB, 100.0 + SILENT_S, later_parts_done=True)


@pytest.mark.parametrize(
    ("durations", "received", "expected"),
    [
        ((1.0, 1.0, 1.0), MiB, True),  # 7 MiB left at 0.5 MiB/s against parts of a second
        ((1.0, 1.0, 1.0), 4 * MiB, False),  # 4 MiB left at 2 MiB/s: within the least worth it
        ((9.0, 9.0, 9.0), MiB, False),  # all parts are like that
        ((1.0, 1.0), MiB, False),  # too little is known
    ],
)
def test_a_part_is_slow_by_the_median_of_the_others(
    durations: tuple[float, ...], received: int, expected: bool
) -> None:
    slowness = watched(durations=durations)
    assert slowness.is_hopeless(7, received, 8 * MiB, 2.0, later_parts_done=False) is expected


def test_no_more_than_a_twentieth_of_the_blob_is_asked_twice() -> None:
    slowness = Slowness(320 * MiB)
    for _ in range(3):
        slowness.finished(1.0)
    asked = 0
    for index in range(10):
        slowness.is_hopeless(index, 0, 8 * MiB, 0.0, later_parts_done=True)
        asked += slowness.is_hopeless(index, 1, 8 * MiB, 2.0, later_parts_done=True)
    assert asked == 2
    assert not slowness.may_repeat(MiB)


@pytest.mark.parametrize(
    ("left", "received", "seconds", "first_byte_s", "expected"),
    [
        (4 * MiB, MiB, 1.0, 0.0, True),  # four seconds to go
        (4 * MiB, MiB, 1.0, 1.0, False),  # a new answer takes a second
        (4 * MiB, 40 * MiB, 1.0, 0.0, False),  # a tenth of a second
        (4 * MiB, 0, 1.0, 0.0, True),  # for ever
        (4 * MiB, 0, 0.1, 0.0, False),  # nothing can be said yet
    ],
)
def test_a_rest_is_split_when_it_takes_longer_than_a_new_connection(
    left: int, received: int, seconds: float, first_byte_s: float, expected: bool
) -> None:
    assert Slowness.is_worth_splitting(left, received, seconds, first_byte_s) is expected
