"""Writes the table of kinds to docs/registries.md: ``PYTHONPATH=tests python -m support.kindspage``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from crossdock.registry.kinds import table

PAGE = Path(__file__).parents[2] / "docs" / "registries.md"
BEGIN, END = "<!-- kinds: written by tests/support/kindspage.py -->\n", "<!-- end of kinds -->\n"
TRIED = {
    "software": "copies to and from the real software",
    "double": "copies to and from a double of it, in CI (`tests/integration/test_kinds.py`)",
    "nothing": "its rules alone",
}


def rendered() -> str:
    """The part of the page between the marks."""
    return "\n".join(_lines()) + "\n"


def with_table(page: str) -> str:
    """The page with the table as it is now."""
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{rendered()}\n{END}", page, flags=re.DOTALL)


def _lines() -> Iterator[str]:
    yield "| kind | what it is | tried |"
    yield "|---|---|---|"
    for name, row in table().items():
        like = f"; else as `{row.like}`" if row.like else ""
        yield f"| `{name}` | {row.title}{like} | {TRIED[row.tried]} |"
    yield ""
    yield "| kind | value | is | source | date |"
    yield "|---|---|---|---|---|"
    for name, row in table().items():
        for value, cited in row.values.items():
            note = f" ({cited.note})" if cited.note else ""
            source = f"[{_named(cited.source)}]({cited.source})"
            doubt = "" if cited.confirmed else ", not confirmed"
            yield f"| `{name}` | {value} | {_shown(cited.value)}{note} | {source} | {cited.date}{doubt} |"


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_shown(each) for each in value) or "none"
    if isinstance(value, dict):
        return " and ".join(f"`{name}: {text}`" for name, text in value.items())
    return (
        f"`{value}`"
        if isinstance(value, str)
        else f"{value:g}"
        if isinstance(value, float)
        else json.dumps(value)
    )


def _named(source: str) -> str:
    """``repository#12``, or the host."""
    parts = source.removeprefix("https://").split("/")
    if parts[0] != "github.com":
        return parts[0]
    return f"{parts[2]}#{parts[4]}" if len(parts) > 4 and parts[3] in ("issues", "pull") else parts[2]


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
