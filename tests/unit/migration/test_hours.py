"""The hours in which work may be begun."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from crossdock.errors import InvalidInput
from crossdock.migration.hours import Hours


@pytest.mark.parametrize(
    ("hours", "now", "seconds"),
    [
        ("20:00-06:00", "20:00:00", 0),
        ("20:00-06:00", "23:59:59", 0),
        ("20:00-06:00", "00:00:00", 0),
        ("20:00-06:00", "05:59:59", 0),
        ("20:00-06:00", "06:00:00", 14 * 3600),
        ("20:00-06:00", "19:59:30", 30),
        ("09:30-17:00", "09:29:59.5", 0.5),
        ("09:30-17:00", "12:00:00", 0),
        ("09:30-17:00", "17:00:00", 16.5 * 3600),
        ("00:00-24:00", "23:59:59", 0),
        ("22:00-24:00", "00:00:00", 22 * 3600),
        ("22:00 - 24:00", "23:00:00", 0),
    ],
)
def test_when_work_may_be_begun(hours: str, now: str, seconds: float) -> None:
    moment = datetime.fromisoformat(f"2026-12-01T{now}")
    assert Hours.parse(hours).seconds_until_open(moment) == seconds
    assert Hours.parse(hours).is_open(moment) is (seconds == 0)


@pytest.mark.parametrize(
    "text", ["", "20-06", "20:00", "24:00-06:00", "20:60-06:00", "06:00-06:00", "6:00-7:00"]
)
def test_invalid_hours_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Hours.parse(text)


def test_hours_are_shown_as_they_are_written() -> None:
    assert str(Hours.parse("20:00-06:30")) == "20:00-06:30"


class Clock:
    """Time passes while somebody sleeps, and `put_back` after the first time."""

    def __init__(self, now: str, put_back: timedelta = timedelta()) -> None:
        self.now = datetime.fromisoformat(f"2026-12-01T{now}")
        self.slept: list[float] = []
        self._put_back = put_back

    def __call__(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)
        if len(self.slept) == 1:
            self.now -= self._put_back


def waited(clock: Clock) -> list[str]:
    """What was told in a wait for 20:00."""
    told: list[str] = []
    hours = Hours.parse("20:00-06:00")
    asyncio.run(hours.wait(lambda: told.append("closed"), clock=clock, sleep=clock.sleep))
    return told


def test_a_wait_ends_when_the_hours_begin_and_is_told_once() -> None:
    clock = Clock("19:57:30")
    assert waited(clock) == ["closed"]
    assert clock.now.time().isoformat() == "20:00:00"
    assert clock.slept == [60, 60, 30]


def test_within_the_hours_nothing_waits() -> None:
    clock = Clock("23:00:00")
    assert waited(clock) == []
    assert clock.slept == []


def test_a_clock_that_is_put_back_meanwhile_is_looked_at_again() -> None:
    clock = Clock("19:59:00", put_back=timedelta(minutes=3))
    waited(clock)
    assert clock.now.time().isoformat() == "20:00:00"
    assert sum(clock.slept) == 4 * 60
