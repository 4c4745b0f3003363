"""A report as one HTML page that loads nothing: figures, charts and lists, for a change ticket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from crossdock.units import format_duration, format_size

BARS = 20  # repositories in the chart
ROWS = 2_000  # of a list
WIDTH, HEIGHT, LEFT, BOTTOM = 720, 220, 80, 28

_STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c2733; --soft: #5b6875; --line: #d6dde3; --bar: #2f6fb2; --bad: #b3382c; --ground: #fff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e9ee; --soft: #98a5b1; --line: #37424d; --bar: #6aa5e3; --bad: #ef8377; --ground: #14191e;
  }
}
body {
  font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  margin: 0 auto; max-width: 1000px; padding: 1.5rem;
}
h1 { font-size: 1.4rem; margin: 0 0 .2rem; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin: 2rem 0 .6rem }
p.soft { color: var(--soft) }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .8rem; margin: 1rem 0 }
dt { color: var(--soft); font-size: .85rem }
dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums }
dd.bad { color: var(--bad) }
div.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td {
  text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere;
}
th { color: var(--soft); font-weight: 500 }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
svg { width: 100%; height: auto; max-width: 720px }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif }
svg .bar { fill: var(--bar) }
svg .bad { fill: var(--bad) }
svg .line { fill: none; stroke: var(--bar); stroke-width: 2 }
svg .area { fill: var(--bar); opacity: .15 }
svg .axis { stroke: var(--line) }
"""


def apply_page(
    document: Mapping[str, Any],
    *,
    file: str,
    started: str,
    status: str,
    samples: Sequence[tuple[float, int]],
    repositories: Mapping[str, int],
    failures: Mapping[str, int],
    not_copied: Iterable[tuple[str, str]],
) -> Iterator[str]:
    """The page of an apply, in pieces.

    `document` is the result's JSON. `samples` are seconds and bytes sent, `repositories` the bytes moved of
    each, `failures` how many there were by class, `not_copied` what was not, with the reason.
    """
    totals = document["totals"]
    yield from _head(f"crossdock apply {file}", f"run {document['run']}, started {started}, {status}")
    yield from _figures(
        {
            "tags": f"{totals['tags']:,}",
            "images": f"{totals['images']:,}",
            "copied": f"{totals['copied']:,}",
            "unchanged": f"{totals['unchanged']:,}",
            "failed": f"{totals['failed']:,}",
            "deleted": f"{totals['deleted']:,}",
            "moved": format_size(totals["bytes_moved"]),
            "mounted": format_size(totals["bytes_mounted"]),
            "present": format_size(totals["bytes_skipped"]),
            "requests": f"{totals['requests']:,}",
            "time": format_duration(totals["seconds"]),
        }
    )
    yield "<h2>Bytes over time</h2>\n"
    yield line_chart(samples)
    moved = sorted(((size, name) for name, size in repositories.items() if size), reverse=True)
    if moved:
        yield f"<h2>Bytes per repository{f', the largest {BARS}' if len(moved) > BARS else ''}</h2>\n"
        yield bar_chart([(name, size, format_size(size)) for size, name in moved[:BARS]])
    if failures:
        yield "<h2>Failures by class</h2>\n"
        counted = sorted(failures.items(), key=lambda each: -each[1])
        yield bar_chart([(name, count, f"{count:,}") for name, count in counted], kind="bad")
    yield "<h2>Mirrors</h2>\n"
    columns = ("mirror", "target", "tags", "copied", "unchanged", "failed", "deleted", "moved")
    yield from _table(
        columns,
        (
            (
                each["name"],
                each["target"],
                *(f"{each[name]:,}" for name in columns[2:7]),
                format_size(each["bytes_moved"]),
            )
            for each in document["entries"]
        ),
        numbers=range(2, 8),
    )
    yield from _problems(document["entries"])
    listed = list(not_copied)
    if listed:
        yield "<h2>Not copied</h2>\n"
        yield from _table(("what", "why"), listed)
    yield "</body></html>\n"


def plan_page(document: Mapping[str, Any], *, file: str, made: str) -> Iterator[str]:
    """The page of a plan, in pieces; `document` is its JSON."""
    totals = document["totals"]
    yield from _head(f"crossdock plan {file}", f"made {made}; nothing was copied")
    seconds = document["seconds"]
    yield from _figures(
        {
            "repositories": f"{totals['repositories']:,}",
            "tags": f"{totals['tags']:,}",
            "images": f"{totals['images']:,}",
            "new": f"{totals['tags_new']:,}",
            "changed": f"{totals['tags_changed']:,}",
            "unchanged": f"{totals['tags_unchanged']:,}",
            "to delete": f"{totals['tags_to_delete']:,}",
            "to move": format_size(totals["bytes_to_move"]),
            "present": format_size(totals["bytes_present"]),
            "to mount": format_size(totals["bytes_to_mount"]),
            "time": format_duration(seconds) if seconds is not None else "not known",
        }
    )
    yield "<h2>Bytes to move</h2>\n"
    entries = sorted(document["entries"], key=lambda each: -each["bytes_to_move"])[:BARS]
    yield bar_chart(
        [(each["target"], each["bytes_to_move"], format_size(each["bytes_to_move"])) for each in entries]
    )
    yield "<h2>Mirrors</h2>\n"
    columns = (
        "mirror",
        "target",
        "repositories",
        "tags",
        "new",
        "changed",
        "unchanged",
        "to delete",
        "to move",
    )
    fields = ("repositories", "tags", "tags_new", "tags_changed", "tags_unchanged", "tags_to_delete")
    yield from _table(
        columns,
        (
            (
                each["name"],
                each["target"],
                *(f"{each[name]:,}" for name in fields),
                format_size(each["bytes_to_move"]),
            )
            for each in document["entries"]
        ),
        numbers=range(2, 9),
    )
    yield "<h2>Requests</h2>\n"
    yield from _table(
        ("host", "needed", "limit a minute", "minutes"),
        (
            (host, *(_known(each[name]) for name in ("needed", "limit_per_minute", "minutes")))
            for host, each in document["requests"].items()
        ),
        numbers=range(1, 4),
    )
    yield from _problems(document["entries"])
    yield "</body></html>\n"


def line_chart(samples: Sequence[tuple[float, int]]) -> str:
    """Bytes over seconds, as SVG."""
    last = max(samples[-1][0] if samples else 0.0, 1e-3)
    most = max((size for _, size in samples), default=0) or 1

    def point(at: float, size: int) -> str:
        x = LEFT + at / last * (WIDTH - LEFT - 10)
        return f"{x:.1f},{HEIGHT - BOTTOM - size / most * (HEIGHT - BOTTOM - 12):.1f}"

    line = " ".join(point(at, size) for at, size in samples)
    floor = HEIGHT - BOTTOM
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="bytes sent over time">'
        f'<line class="axis" x1="{LEFT}" y1="{floor}" x2="{WIDTH - 10}" y2="{floor}"/>'
        f'<polygon class="area" points="{point(0, 0)} {line} {point(last, 0)}"/>'
        f'<polyline class="line" points="{line}"/>'
        f'<text x="{LEFT - 6}" y="18" text-anchor="end">{format_size(most)}</text>'
        f'<text x="{LEFT - 6}" y="{floor}" text-anchor="end">0 B</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 8}">0 s</text>'
        f'<text x="{WIDTH - 10}" y="{HEIGHT - 8}" text-anchor="end">{format_duration(last)}</text></svg>\n'
    )


def bar_chart(bars: Sequence[tuple[str, int, str]], kind: str = "bar") -> str:
    """Horizontal bars as SVG: name, length and what is written behind it."""
    most = max((size for _, size, _ in bars), default=0) or 1
    height, start, room = 24 * len(bars), 260, 340
    rows = []
    for number, (name, size, shown) in enumerate(bars):
        y = 24 * number
        width = max(1.0, size / most * room)
        rows.append(
            f'<text x="{start - 8}" y="{y + 16}" text-anchor="end">{escape(_short(name))}'
            f"<title>{escape(name)}</title></text>"
            f'<rect class="{kind}" x="{start}" y="{y + 4}" width="{width:.1f}" height="16" rx="2"/>'
            f'<text x="{start + width + 8:.1f}" y="{y + 16}">{escape(shown)}</text>'
        )
    return f'<svg viewBox="0 0 {WIDTH} {max(height, 1)}" role="img">{"".join(rows)}</svg>\n'


def _short(name: str, most: int = 38) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"


def _head(title: str, line: str) -> Iterator[str]:
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f'<body><h1>{escape(title)}</h1><p class="soft">{escape(line)}</p>\n'
    )


def _figures(figures: Mapping[str, str]) -> Iterator[str]:
    yield "<dl>"
    for name, value in figures.items():
        bad = ' class="bad"' if name == "failed" and value != "0" else ""
        yield f"<div><dt>{escape(name)}</dt><dd{bad}>{escape(value)}</dd></div>"
    yield "</dl>\n"


def _problems(entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    rows = [
        (each["kind"], each["reference"], each["detail"]) for entry in entries for each in entry["problems"]
    ]
    if rows:
        yield "<h2>Problems</h2>\n"
        yield from _table(("kind", "what", "detail"), rows)


def _table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()
) -> Iterator[str]:
    kinds = [' class="number"' if at in set(numbers) else "" for at in range(len(columns))]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for name, kind in zip(columns, kinds, strict=True))
    yield f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n'
    more = 0
    for number, row in enumerate(rows):
        if number >= ROWS:
            more += 1
            continue
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        yield f"<tr>{cells}</tr>\n"
    yield "</tbody></table></div>\n"
    if more:
        yield f'<p class="soft">and {more:,} more, which the JSON report lists</p>\n'


def _known(value: object) -> str:
    if value is None:
        return "not known"
    return (
        f"{value:,.4g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )
