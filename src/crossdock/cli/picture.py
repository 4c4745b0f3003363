"""The progress of a run as lines of text, as wide and as many as a terminal has room for.

Pure: figures in, lines out. `live` draws them, `display` writes the total as a line of a log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from crossdock.cli.resultline import shortened_name
from crossdock.runs.totals import Limit, MovingBlob, UnderWay
from crossdock.units import count, format_size

SMALL = 1 << 20  # bytes; blobs up to this size share a row
WIDEST = 120  # columns of a line: a wider one would take many rows when the window is made narrow
NARROW = 40  # columns for which the height of the picture is planned

_MOST_ROWS = 12
_BAR = 10  # columns
_DIGITS, _FEW_DIGITS = 12, 8  # of a digest; the fewer in a narrow window
_WAITS = "waits for "
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Figures(Struct, frozen=True, kw_only=True):
    """The figures of the total line. Sizes in bytes, times in seconds."""

    there: int = 0  # at the target, of `found`
    found: int = 0
    rate: float = 0.0
    elapsed: float = 0.0
    left: float | None = None  # None: not known
    failed: int = 0
    limit: Limit | None = None


class Row(Struct, frozen=True):
    """A blob under way, several small ones, or images without blobs; only the first has a `layer`."""

    name: str
    layer: str  # a digest
    sent: int
    size: int
    state: str  # the rate, or what it waits for


# -- the total ---------------------------------------------------------------------------------------------


def total_lines(figures: Figures, columns: int) -> list[str]:
    """The complete total: one line in 90 columns, at most two in 60 and three in 40.

    ``43%  431.2/1024.0 MiB  139.0 MiB/s  0:05  0:12 left  1 failed  limit: target``
    """
    width = max(1, columns - 1)  # a full last column wraps on some terminals
    whole, brief = (_packed(total_parts(figures, limit), width) for limit in ("limit: ", ""))
    return whole if len(whole) <= len(brief) else brief


def total_parts(figures: Figures, limit: str = "limit: ") -> list[str]:
    """The parts of the total, without failures if there are none and the limit if it is not known."""
    left = "-:--" if figures.left is None else clock_time(figures.left)
    parts = [
        f"{percent(figures.there, figures.found)}%",
        sizes(figures.there, figures.found),
        f"{format_size(figures.rate)}/s",
        clock_time(figures.elapsed),
        f"{left} left",
    ]
    if figures.failed:
        parts.append(f"{figures.failed} failed")
    if figures.limit is not None:
        parts.append(figures.limit if figures.limit == "rate limit" else f"{limit}{figures.limit}")
    return parts


def percent(part: int, whole: int) -> int:
    """Whole percents, 100 only at the end."""
    return min(100, part * 100 // whole) if whole > 0 else 0


def sizes(part: int, whole: int) -> str:
    """``431.2/1024.0 MiB``: both in the unit of the second, which is MiB up to 9.8 GiB."""
    power = 0
    while power + 1 < len(_UNITS) and whole >= (1024 if power < 2 else 9999.95) * 1024**power:
        power += 1
    places = 1 if power else 0
    return f"{part / 1024**power:.{places}f}/{whole / 1024**power:.{places}f} {_UNITS[power]}"


def clock_time(seconds: float) -> str:
    """``0:12``, ``1:02:03``; ``123 h`` from a hundred hours."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    if hours >= 100:
        return f"{hours} h"
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _packed(parts: Iterable[str], width: int) -> list[str]:
    """The parts on as few lines as hold them, in order."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(part)
    return lines


# -- the rows ----------------------------------------------------------------------------------------------


def rows_of(images: Sequence[UnderWay], rate_of: Callable[[str, MovingBlob], float]) -> list[Row]:
    """A row for each large blob, one for all small ones, and one for images without blobs under way.

    ``rate_of(target, blob)`` is in bytes per second.
    """
    rows: list[Row] = []
    small: list[tuple[UnderWay, MovingBlob]] = []
    for image in images:
        for blob in sorted(image.moving, key=lambda blob: -blob.size):
            if blob.size <= SMALL:
                small.append((image, blob))
                continue
            state = _state(blob.sent, blob.size, rate_of(image.target, blob), image.waits_for)
            rows.append(Row(image.target, blob.digest, blob.sent, blob.size, state))
    if small:
        blobs = [blob for _, blob in small]
        sent, size = sum(blob.sent for blob in blobs), sum(blob.size for blob in blobs)
        owners = {image.target: image for image, _ in small}
        where = next(iter(owners)) if len(owners) == 1 else count(len(owners), "image")
        rate = sum(rate_of(image.target, blob) for image, blob in small)
        state = _state(sent, size, rate, _most(image.waits_for for image in owners.values()))
        rows.append(Row(f"{count(len(blobs), 'small blob')} of {where}", "", sent, size, state))
    others = [image for image in images if not image.moving]
    if others and len(others) < len(images):
        name = count(len(others), "more image")
        rows.append(Row(name, "", 0, 0, waiting(_most(image.waits_for for image in others))))
    elif others:
        rows += [Row(image.target, "", 0, 0, waiting(image.waits_for)) for image in others]
    return rows


def waiting(side: Limit | None) -> str:
    """The state of a row without progress."""
    return f"{_WAITS}{side}" if side is not None else "starts"


def _state(sent: int, size: int, rate: float, waits_for: Limit | None) -> str:
    if rate >= 1:
        return f"{format_size(rate)}/s"
    if sent >= size > 0:
        return waiting("target")  # to acknowledge it
    return "waits" if waits_for is None and sent else waiting(waits_for)


def _most(sides: Iterable[Limit | None]) -> Limit | None:
    found = Counter(side for side in sides if side is not None)
    return found.most_common(1)[0][0] if found else None


def row_line(row: Row, columns: int) -> str:
    """The row on one line: image, layer, how much of it, and its rate or what it waits for."""
    width = min(columns, WIDEST) - 1
    share, has_size = f"{percent(row.sent, row.size):>3}%", row.size > 0
    whole = f"{sizes(row.sent, row.size):>17}" if has_size else ""
    bar = _bar(row.sent, row.size) if has_size else ""
    digits = row.layer.rpartition(":")[2][:_DIGITS]
    right = left = ""
    for least, layer, parts in (  # columns left for the name; a shorter name needs fewer
        (20, f"layer {digits}", (bar, share, whole)),
        (16, f"layer {digits}", (share, whole)),
        (14, f"layer {digits}", (share,)),
        (12, digits, (share,)),
        (0, digits[:_FEW_DIGITS], (share,)),
    ):
        state = row.state.ljust(16) if least else row.state.removeprefix(_WAITS)
        right = "  ".join((*(parts if has_size else ()), state))
        left = f"  {layer}" if row.layer else ""
        room = width - len(right) - len(left) - 2
        if room >= min(len(row.name), least):
            break
    room = max(4, room)
    name = _tail(row.name, room) if row.layer else shortened_name(row.name, room)
    return f"{name}{left}".ljust(room + len(left)) + f"  {right}".rstrip()


def _tail(name: str, most: int) -> str:
    """The end of a reference, as many rows have the same beginning."""
    return name if len(name) <= most else f"…{name[len(name) - most + 1 :]}"


def _bar(sent: int, size: int) -> str:
    filled = percent(sent, size) * _BAR // 100
    return f"[{'=' * filled}{' ' * (_BAR - filled)}]"


# -- the picture -------------------------------------------------------------------------------------------


def picture(title: str, rows: Sequence[Row], figures: Figures, columns: int, lines: int) -> list[str]:
    """All lines, the total last, for a window of `columns` and `lines`.

    There are few enough to fit when the window is made `NARROW` afterwards, and each takes several rows.
    """
    total = total_lines(figures, columns)
    folds = max(1, -(-min(columns, WIDEST) // NARROW))
    room = min(_MOST_ROWS + 1, (lines - 1) // folds - len(total))
    if room <= 0:
        return total[: max(1, lines - 1)]
    head = [_heading(title, min(columns, WIDEST) - 1)] if title and room > 1 else []
    room -= len(head)
    shown = rows if len(rows) <= room else rows[: room - 1]
    drawn = [row_line(row, columns) for row in shown]
    if len(shown) < len(rows) and room:
        drawn.append(f"and {len(rows) - len(shown)} more")
    return [*head, *drawn, *total]


def _heading(title: str, width: int) -> str:
    source, arrow, target = title.partition(" -> ")
    if not arrow or len(title) <= width:
        return shortened_name(title, width)
    half = (width - len(arrow)) // 2
    target = shortened_name(target, max(half, width - len(arrow) - len(source)))
    return f"{shortened_name(source, width - len(arrow) - len(target))}{arrow}{target}"
