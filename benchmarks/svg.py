"""Bar charts as plain SVG, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _MARGIN, _ROW, _BAR, _TOP = 860, 16, 24, 14, 64
_LETTER = 8.0  # average width of a character of the widest bold label
_VALUE = 64  # for the number after a bar
_PALE = "pale: does not hash what it copies"
_STYLE = (
    ".page{fill:#ffffff}.text{fill:#1f2328}.soft{fill:#59636e}.ours{fill:#d9480f}.theirs{fill:#7a8fbf}"
    ".floor{fill:#8c959f}.pale{opacity:.5}.range{stroke:#1f2328}.axis{stroke:#d1d9e0}"
    "@media(prefers-color-scheme:dark){"
    ".page{fill:#0d1117}.text{fill:#f0f6fc}.soft{fill:#9198a1}.ours{fill:#f0743a}.theirs{fill:#5a70a6}"
    ".floor{fill:#656c76}.range{stroke:#f0f6fc}.axis{stroke:#3d444d}}"
)


@dataclass(frozen=True)
class Bar:
    """A median with the lowest and the highest of its samples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Panel:
    """One measure of all rows; `show` formats a value."""

    title: str
    bars: Sequence[Bar]
    show: Callable[[float], str]


def chart(title: str, rows: Sequence[tuple[str, str]], panels: Sequence[Panel]) -> str:
    """Panels side by side with common `rows` of (label, classes): ours, theirs or floor, and pale."""
    labels = max(len(label) for label, _ in rows) * _LETTER + 2 * _MARGIN
    height = _TOP + _ROW * len(rows) + _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height}" rx="6"/>',
        f'<text class="text" x="{_MARGIN}" y="28" font-size="15" font-weight="600">{escape(title)}</text>',
    ]
    if any("pale" in kind for _, kind in rows):
        lines.append(f'<text class="soft" x="{_WIDTH - _MARGIN}" y="28" text-anchor="end">{_PALE}</text>')
    for number, (label, kind) in enumerate(rows):
        y = _TOP + _ROW * number + _BAR / 2 + 4.5
        weight = ' font-weight="600"' if kind.startswith("ours") else ""
        place = f'x="{labels - 8:.0f}" y="{y:.1f}" text-anchor="end"'
        lines.append(f'<text class="text" {place}{weight}>{escape(label)}</text>')
    width = (_WIDTH - labels) / len(panels)
    for number, panel in enumerate(panels):
        lines += _panel(panel, [kind for _, kind in rows], labels + width * number, width - _VALUE - _MARGIN)
    return "\n".join([*lines, "</svg>", ""])


def _panel(panel: Panel, kinds: Sequence[str], left: float, room: float) -> list[str]:
    most = max((bar.high for bar in panel.bars), default=0.0) or 1.0
    bottom = _TOP + _ROW * len(panel.bars) - (_ROW - _BAR)
    lines = [
        f'<text class="soft" x="{left:.1f}" y="{_TOP - 12}">{escape(panel.title)}</text>',
        f'<line class="axis" x1="{left:.1f}" x2="{left:.1f}" y1="{_TOP - 4}" y2="{bottom + 4}"/>',
    ]
    for number, (bar, kind) in enumerate(zip(panel.bars, kinds, strict=True)):
        y = _TOP + _ROW * number
        end, low, high = (left + room * value / most for value in (bar.value, bar.low, bar.high))
        lines.append(
            f'<rect class="{kind}" x="{left:.1f}" y="{y}" width="{max(end - left, 1):.1f}" height="{_BAR}"/>'
        )
        if high - low > 1:
            middle = y + _BAR / 2
            lines.append(
                f'<path class="range" fill="none" d="M{low:.1f} {middle - 3}v6m0 -3H{high:.1f}m0 -3v6"/>'
            )
        place = f'x="{max(end, high) + 6:.1f}" y="{y + _BAR / 2 + 4.5:.1f}"'
        lines.append(f'<text class="soft" {place}>{escape(panel.show(bar.value))}</text>')
    return lines
