"""The hours in which work may be begun."""

from __future__ import annotations

from datetime import datetime

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
def test_what_are_no_hours_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Hours.parse(text)


def test_hours_are_shown_as_they_are_written() -> None:
    assert str(Hours.parse("20:00-06:30")) == "20:00-06:30"
