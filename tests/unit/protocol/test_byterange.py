"""Ranges in headers: lenient to read, strict to compare."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.protocol.byterange import (
    ContentRange,
    Unsatisfiable,
    content_range,
    content_range_for_chunk,
    parse_chunk_range,
    parse_content_range,
    parse_range,
    parse_uploaded,
    range_header,
    unsatisfied_range,
    unsatisfied_total,
    uploaded_range,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes 0-9/100", ContentRange(0, 10, 100)),
        ("Bytes 5-5/6", ContentRange(5, 6, 6)),
        ("0-9/100", ContentRange(0, 10, 100)),  # Nexus
        ("bytes=0-9/100", ContentRange(0, 10, 100)),
        ("  bytes  0 - 9 / 100 ", ContentRange(0, 10, 100)),
        ("bytes 0-9/*", ContentRange(0, 10, None)),
        ("bytes 9-0/100", None),
        ("bytes */100", None),
        ("bytes 0-9", None),
        ("bytes 0-/100", None),
        ("bytes -1-9/100", None),
        ("items 0-9/100", None),
        ("bytes 0-9/100, 20-29/100", None),
        ("bytes 0-" + "9" * 40 + "/1", None),
        ("bytes ٠-٩/١٠٠", None),
        ("", None),
    ],
)
def test_content_range_is_read_leniently(value: str, expected: ContentRange | None) -> None:
    assert parse_content_range(value) == expected


@given(st.integers(0, 1 << 50), st.integers(1, 1 << 40), st.integers(0, 1 << 50))
def test_a_right_answer_states_the_requested_range(start: int, length: int, rest: int) -> None:
    stop = start + length
    asked = range_header(start, stop).removeprefix("bytes=")
    assert parse_content_range(f"bytes {asked}/{stop + rest}") == ContentRange(start, stop, stop + rest)
    assert content_range_for_chunk(start, stop) == asked


@given(st.text(max_size=40))
def test_no_header_value_raises(value: str) -> None:
    parse_content_range(value)
    parse_uploaded(value)
    unsatisfied_total(value)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (5, 5), (6, 5), (-1, 4)])
def test_an_empty_or_negative_range_is_not_asked_for(start: int, stop: int) -> None:
    with pytest.raises(ValueError):
        range_header(start, stop)
    with pytest.raises(ValueError):
        content_range_for_chunk(start, stop)


@pytest.mark.parametrize(
    ("value", "held"),
    [
        ("0-9", 10),
        ("bytes=0-9", 10),
        ("bytes 0-9", 10),
        ("0-0", 0),  # distribution's empty session
        ("0--1", 0),
        ("1-9", None),
        ("10", None),
        ("", None),
    ],
)
def test_an_upload_says_how_much_it_holds(value: str, held: int | None) -> None:
    assert parse_uploaded(value) == held


def test_a_refused_range_may_state_the_size() -> None:
    assert unsatisfied_total("bytes */0") == 0
    assert unsatisfied_total("*/17") == 17
    assert unsatisfied_total("bytes 0-1/17") is None


# -- the server's side ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("bytes=0-0", (0, 1)),
        ("bytes=0-99", (0, 100)),
        ("bytes=0-100", (0, 100)),
        ("bytes=99-", (99, 100)),
        ("bytes=-1", (99, 100)),
        ("bytes=-1000", (0, 100)),
        ("Bytes = 5 - 6", (5, 7)),
        ("bytes=6-5", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=1-2,4-5", None),
        ("bytes=٣-٤", None),
        ("bytes=" + "9" * 5000 + "-", None),
        ("items=0-1", None),
    ],
)
def test_a_range_is_understood_or_ignored(header: str | None, expected: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-5", 0)]
)
def test_a_range_outside_the_content_cannot_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, size)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0-0", (0, 1)),
        ("5-9", (5, 10)),
        ("9-5", None),
        ("bytes 0-1", None),
        ("0-", None),
        ("x", None),
        ("", None),
    ],
)
def test_a_chunks_range_has_no_unit(header: str, expected: tuple[int, int] | None) -> None:
    assert parse_chunk_range(header) == expected


@given(st.integers(0, 1 << 50), st.integers(1, 1 << 40))
def test_a_server_reads_the_clients_request(start: int, size: int) -> None:
    stop = start + size
    assert parse_range(range_header(start, stop), stop) == (start, stop)
    assert parse_chunk_range(content_range_for_chunk(start, stop)) == (start, stop)


@given(st.integers(0, 1 << 50).filter(lambda size: size != 1))
def test_a_client_reads_the_servers_upload_offset(size: int) -> None:
    assert parse_uploaded(uploaded_range(size)) == size


@given(st.integers(0, 1 << 50), st.integers(1, 1 << 40), st.integers(0, 1 << 50))
def test_a_client_reads_the_servers_content_range(start: int, size: int, rest: int) -> None:
    stop, total = start + size, start + size + rest
    assert parse_content_range(content_range(start, stop, total)) == ContentRange(start, stop, total)
    assert unsatisfied_total(unsatisfied_range(total)) == total
