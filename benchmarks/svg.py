"""Bar charts as plain SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LABEL, _ROW, _BAR, _TOP = 760, 130, 26, 16, 44
_OURS, _THEIRS, _FLOOR, _SPREAD = "#d9480f", "#5c7cfa", "#868e96", "#212529"


@dataclass(frozen=True)
class Row:
    """One client: median, and the lowest and highest of its samples."""

    label: str
    value: float
    low: float
    high: float


def bars(title: str, unit: str, rows: Sequence[Row]) -> str:
    """A horizontal bar for each row, a whisker from its lowest to its highest sample."""
    height = _TOP + _ROW * len(rows) + 12
    most = max((row.high for row in rows), default=0.0) or 1.0
    room = _WIDTH - _LABEL - 90
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="600" fill="#212529">{escape(title)}</text>',
    ]
    for number, row in enumerate(rows):
        y = _TOP + _ROW * number
        middle, base = y + _BAR / 2, y + _BAR / 2 + 5
        colour = _OURS if row.label.startswith("crossdock") else _FLOOR if row.label == "floor" else _THEIRS
        end, low, high = (_LABEL + room * value / most for value in (row.value, row.low, row.high))
        name, left = escape(row.label), _LABEL - 8
        lines += [
            f'<text x="{left}" y="{base:.1f}" text-anchor="end" fill="#212529">{name}</text>',
            f'<rect x="{_LABEL}" y="{y}" width="{end - _LABEL:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>',
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="{_SPREAD}"/>',
            f'<text x="{max(end, high) + 8:.1f}" y="{base:.1f}" fill="#495057">{row.value:.2f} {unit}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
