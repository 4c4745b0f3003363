"""Sizes and durations, in and out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("512B", 512),
        ("64KiB", 64 << 10),
        ("64k", 64 << 10),
        ("16MiB", 16 << 20),
        ("16mib", 16 << 20),
        ("16M", 16 << 20),
        ("2MB", 2_000_000),
        ("1GiB", 1 << 30),
        ("1.5GiB", 3 << 29),
        ("1TiB", 1 << 40),
        (" 1 MiB ", 1 << 20),
    ],
)
def test_sizes_are_read_in_both_systems(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", "1e3", "1XiB", "16 Mi B", "0.3", "1" * 30, "9" * 18 + "TiB", "١"]
)
def test_an_invalid_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"size|bytes"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("30", 30), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("7d", 604800), ("1.5s", 1.5)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 day", "1S", "nan", "inf"])
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1048575, "1.0 MiB"),
        (452155392, "431.2 MiB"),
        (5 << 40, "5.0 TiB"),
    ],
)
def test_sizes_are_written_for_people(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (3.14, "3.1 s"), (59.97, "1m00s"), (125, "2m05s"), (3725, "1h02m")]
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=0, max_value=1 << 62), st.sampled_from(["", "B", "KiB", "MiB", "kB", "MB"]))
def test_whole_sizes_either_parse_exactly_or_are_refused(number: int, unit: str) -> None:
    factor = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "kB": 1000, "MB": 1000**2}[unit]
    try:
        assert parse_size(f"{number}{unit}") == number * factor
    except ValueError:
        assert number * factor > (1 << 63) - 1 or number >= 10**18
