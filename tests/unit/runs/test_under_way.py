"""The side that each image under way waits for, by its open requests, or the rate limit that delays them."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from crossdock.activity import Activity
from crossdock.events import ignore
from crossdock.runs.totals import Limit, Totals
from crossdock.tally import MovingBlob, Tally

DIGEST = "sha256:" + "ab" * 32


class Exchange(NamedTuple):
    side: str
    moved: int = 0
    waits_here: bool = False


SOURCE, TARGET, OTHER = Exchange("source"), Exchange("target"), Exchange("")


@pytest.mark.parametrize(
    ("exchanges", "delayed", "limited", "waits_for"),
    [
        ((), 0, 0, None),
        ((SOURCE,), 0, 0, "source"),
        ((TARGET,), 0, 0, "target"),
        ((OTHER,), 0, 0, None),
        ((Exchange("source", waits_here=True), TARGET), 0, 0, "target"),
        ((SOURCE, Exchange("target", waits_here=True)), 0, 0, "source"),
        ((SOURCE,), 1, 0, "rate limit"),
        ((TARGET,), 0, 1, "rate limit"),
    ],
)
def test_by_requests(
    exchanges: tuple[Exchange, ...], delayed: int, limited: int, waits_for: Limit | None
) -> None:
    totals, tally, activity = Totals(images=1), Tally(ignore), Activity()
    number = totals.begin("a/b:1", "c/d:1", tally, activity)
    tally.moving[DIGEST] = MovingBlob(DIGEST, 10, 4)  # type: ignore[index]
    activity.open.update(exchanges)
    activity.delayed, activity.limited = delayed, limited
    (image,) = totals.images_under_way()
    assert (image.source, image.target, image.waits_for) == ("a/b:1", "c/d:1", waits_for)
    assert [blob.sent for blob in image.moving] == [4]
    totals.end(number)
    assert totals.images_under_way() == []


@pytest.mark.parametrize(("still", "other"), [("source", "target"), ("target", "source")])
def test_of_two_sides_the_one_that_stands_still(still: Limit, other: str) -> None:
    now = 0.0
    totals, activity = Totals(images=1, clock=lambda: now), Activity()
    totals.begin("a/b:1", "c/d:1", Tally(ignore), activity)
    (copy,) = totals._running.values()
    waiting = Exchange(still)
    for second in range(5):
        now = float(second)
        activity.open = {waiting, Exchange(other, moved=second)}
        copy.look(now)
    (image,) = totals.images_under_way()
    assert image.waits_for == still
