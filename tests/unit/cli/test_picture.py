"""The picture of a run by the size of the window: the total is never cut, rows say what they wait for."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from crossdock.cli.picture import (
    Figures,
    Row,
    clock_time,
    percent,
    picture,
    row_line,
    rows_of,
    sizes,
    total_lines,
)
from crossdock.runs.totals import Limit, MovingBlob, UnderWay

MiB = 1 << 20
A, B = "sha256:" + "a1" * 32, "sha256:" + "b2" * 32
USUAL = Figures(
    there=431 * MiB, found=1024 * MiB, rate=139 * MiB, elapsed=5, left=12, failed=1, limit="target"
)
LARGEST = Figures(
    there=1023 * MiB * 1024,
    found=1023 * MiB * 1024 + 1000 * MiB,
    rate=1023.9 * MiB,
    elapsed=99 * 3600 + 59 * 60 + 59,
    left=99 * 3600 + 59 * 60 + 59,
    failed=99_999,
    limit="rate limit",
)
START = Figures()


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (90, ["42%  431.0/1024.0 MiB  139.0 MiB/s  0:05  0:12 left  1 failed  limit: target"]),
        (60, ["42%  431.0/1024.0 MiB  139.0 MiB/s  0:05  0:12 left", "1 failed  limit: target"]),
        (40, ["42%  431.0/1024.0 MiB  139.0 MiB/s", "0:05  0:12 left  1 failed  target"]),
    ],
)
def test_the_total_by_width(columns: int, lines: list[str]) -> None:
    assert total_lines(USUAL, columns) == lines


@pytest.mark.parametrize("figures", [USUAL, LARGEST, START])
@pytest.mark.parametrize("columns", [*range(40, 130)])
def test_the_total_is_never_cut_and_has_as_few_lines_as_were_promised(figures: Figures, columns: int) -> None:
    lines = total_lines(figures, columns)
    assert len(lines) <= (1 if columns >= 90 else 2 if columns >= 60 else 3)
    assert max(map(len, lines)) < columns
    whole = "  ".join(lines)
    assert f"{percent(figures.there, figures.found)}%" in whole
    assert sizes(figures.there, figures.found) in whole
    assert "/s" in whole
    assert clock_time(figures.elapsed) in whole
    assert re.search(r"(-:--|\d+:\d\d) left", whole)
    assert (f"{figures.failed} failed" in whole) == bool(figures.failed)
    assert (figures.limit or "") in whole


@pytest.mark.parametrize("columns", [1, 5, 20, 39])
def test_a_total_that_has_no_room_at_all_keeps_every_part(columns: int) -> None:
    assert "  ".join(total_lines(USUAL, columns)).count("  ") == 6


@pytest.mark.parametrize(
    ("part", "whole", "told"),
    [
        (0, 0, "0/0 B"),
        (5, 999, "5/999 B"),
        (512, 2048, "0.5/2.0 KiB"),
        (MiB // 2, 10 * MiB, "0.5/10.0 MiB"),
        (431 * MiB, 1024 * MiB, "431.0/1024.0 MiB"),
        (MiB, 9 << 30, "1.0/9216.0 MiB"),
        (MiB, 1 << 50, "0.0/1024.0 TiB"),
    ],
)
def test_sizes_share_a_unit(part: int, whole: int, told: str) -> None:
    assert sizes(part, whole) == told
    assert len(told) <= 17


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0:00"), (11.6, "0:12"), (754, "12:34"), (3723, "1:02:03"), (446_400, "124 h")]
)
def test_times(seconds: float, told: str) -> None:
    assert clock_time(seconds) == told


def test_percents_reach_100_only_at_the_end() -> None:
    assert [percent(*each) for each in ((0, 0), (999, 1000), (1000, 1000), (1001, 1000))] == [0, 99, 100, 100]


# -- rows --------------------------------------------------------------------------------------------------

ROWS = [
    Row("registry.example.com/team/app:1.2.3", A, 12 * MiB, 27 * MiB, "3.1 MiB/s"),
    Row("registry.example.com/team/app:1.2.3", B, 0, 5 * MiB, "waits for source"),
    Row("registry.example.com/team/app:1.2.3", B, 0, 5 * MiB, "waits for rate limit"),
    Row("12 small blobs of 3 images", "", MiB, 3 * MiB, "waits for target"),
    Row("2 more images", "", 0, 0, "waits for rate limit"),
]


@pytest.mark.parametrize("columns", [*range(40, 160, 7)])
@pytest.mark.parametrize("row", ROWS)
def test_a_row_fits_and_says_image_layer_and_state(row: Row, columns: int) -> None:
    line = row_line(row, columns)
    assert len(line) < columns
    assert line.endswith(row.state if columns > 60 else row.state.removeprefix("waits for "))
    assert row.layer.rpartition(":")[2][:8] in line
    assert not row.layer or "app:1.2.3" in line or columns < 60
    assert ("MiB" in line) >= (columns > 100 and row.size > 0)


def blobs(*sizes: tuple[str, int, int]) -> tuple[MovingBlob, ...]:
    return tuple(MovingBlob(digest, size, sent) for digest, size, sent in sizes)


def small(*sent: int) -> tuple[MovingBlob, ...]:
    return blobs(*((f"sha256:{number:064}", 1000, each) for number, each in enumerate(sent)))


Case = tuple[Sequence[UnderWay], float, list[tuple[str, str, int, int, str]]]
CASES: dict[str, Case] = {
    "layers have rows, the largest first": (
        [UnderWay("s", "t:1", blobs((A, 2 * MiB, 5), (B, 9 * MiB, 6)), "source")],
        2048.0,
        [("t:1", B, 6, 9 * MiB, "2.0 KiB/s"), ("t:1", A, 5, 2 * MiB, "2.0 KiB/s")],
    ),
    "what stands still says what it waits for": (
        [UnderWay("s", "t:1", blobs((A, 2 * MiB, 5)), "rate limit")],
        0.0,
        [("t:1", A, 5, 2 * MiB, "waits for rate limit")],
    ),
    "what was sent whole waits for the target": (
        [UnderWay("s", "t:1", blobs((A, 2 * MiB, 2 * MiB)), "source")],
        0.0,
        [("t:1", A, 2 * MiB, 2 * MiB, "waits for target")],
    ),
    "small blobs of one image are summed": (
        [UnderWay("s", "t:1", small(1, 2, 3), "target")],
        0.0,
        [("3 small blobs of t:1", "", 6, 3000, "waits for target")],
    ),
    "small blobs of all images share a row": (
        [UnderWay("s", "t:1", small(1), "target"), UnderWay("s", "t:2", small(2, 3), "target")],
        100.0,
        [("3 small blobs of 2 images", "", 6, 3000, "300 B/s")],
    ),
    "images without blobs under way are counted beside others": (
        [UnderWay("s", "t:1", blobs((A, 2 * MiB, 5)), None)]
        + [UnderWay("s", f"t:{number}", (), "source") for number in (2, 3)],
        0.0,
        [("t:1", A, 5, 2 * MiB, "waits"), ("2 more images", "", 0, 0, "waits for source")],
    ),
    "and named if there is nothing else": (
        [UnderWay("s", "t:1", (), "source"), UnderWay("s", "t:2", (), None)],
        0.0,
        [("t:1", "", 0, 0, "waits for source"), ("t:2", "", 0, 0, "starts")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rows(name: str) -> None:
    images, rate, wanted = CASES[name]
    found = rows_of(images, lambda target, blob: rate)
    assert [(each.name, each.layer, each.sent, each.size, each.state) for each in found] == wanted


# -- the picture -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 60, 100, 250])
@pytest.mark.parametrize("lines", [2, 5, 10, 24, 60])
def test_the_picture_fits_also_after_the_window_was_made_narrow(columns: int, lines: int) -> None:
    rows = [Row(f"registry.example.com/app:{number}", A, 1, 2 * MiB, "1.0 MiB/s") for number in range(40)]
    title = f"{'source.example.com/a/long/name:1' * 2} -> {'target.example.com/a/long/name:1' * 2}"
    drawn = picture(title, rows, USUAL, columns, lines)
    assert len(drawn) < lines
    assert max(map(len, drawn)) < min(columns, 120)
    total = total_lines(USUAL, columns)
    assert drawn[-len(total) :] == total[: len(drawn)]
    assert len(drawn) <= len(total) or sum(-(-len(line) // 40) for line in drawn) < lines
    if lines == 60:
        assert " -> " in drawn[0]
        assert drawn[-len(total) - 1] == f"and {40 - (len(drawn) - len(total) - 2)} more"


@pytest.mark.parametrize("limit", ["source", "target", "cpu", "rate limit"])
def test_the_limit_stands_in_the_total_by_its_word(limit: Limit) -> None:
    (line,) = total_lines(Figures(limit=limit), 100)
    assert line.endswith(f"  {limit}" if limit == "rate limit" else f"  limit: {limit}")
