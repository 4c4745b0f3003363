"""What ``crossdock acr`` prints, in the formats of ``az``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from crossdock.cli.failure import fold
from crossdock.cli.reading import integer
from crossdock.cli.streams import print_result
from crossdock.errors import InvalidOption


def check_query(query: str) -> None:
    """Find out before anything is asked for whether the query can be. Raises `InvalidOption`."""
    _jmespath(query)


def print_answer(found: Any, output: str, query: str | None) -> None:
    """Print what `query` leaves of `found`, which is JSON, in the format `output`."""
    if query is not None or output in ("yaml", "yamlc"):
        found = json.loads(json.dumps(found), parse_int=integer)  # digests are strings of their own class
    if query is not None:
        found = _jmespath(query).search(found)
    if output in ("json", "jsonc"):  # the colours of az's jsonc are for terminals
        print_result(json.dumps(found, indent=2))
    elif output in ("yaml", "yamlc"):
        import yaml  # here: nobody else pays for it

        print_result(yaml.safe_dump(found, default_flow_style=False, allow_unicode=True).rstrip("\n"))
    elif output in ("table", "tsv") and found not in (None, [], {}):
        print_result("\n".join((_table if output == "table" else _tsv)(found)))


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with a row each, the first underlined, as az prints them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in lines
    ]


def _jmespath(query: str) -> Any:
    try:
        import jmespath
    except ImportError:
        raise InvalidOption(
            "--query needs the Python package jmespath", hint="install it: pip install jmespath"
        ) from None
    try:
        return jmespath.compile(query)
    except jmespath.exceptions.JMESPathError as error:
        raise InvalidOption(f"--query is no JMESPath expression: {error}") from None


def _table(found: Any) -> list[str]:
    """Columns of what is no list or object, as az chooses them; a list of words is the column Result."""
    rows = found if isinstance(found, list) else [found]
    objects = [row if isinstance(row, dict) else {"result": row} for row in rows]
    names = dict.fromkeys(name for row in objects for name, value in row.items() if not _is_nested(value))
    cells = [[name[:1].upper() + name[1:] for name in names]]
    cells += [[_cell(row.get(name)) for name in names] for row in objects]
    return columns(cells)


def _tsv(found: Any) -> list[str]:
    """A line an entry; an object's values by the order of their names, a nested list as its length."""
    lines = []
    for row in found if isinstance(found, list) else [found]:
        values = [row[name] for name in sorted(row)] if isinstance(row, dict) else row
        lines.append("\t".join(map(_field, values)) if isinstance(values, list) else _field(values))
    return lines


def _field(value: Any) -> str:
    if isinstance(value, list):
        return str(len(value))
    return "" if isinstance(value, dict) else _cell(value)


def _cell(value: Any) -> str:
    return "" if value is None or _is_nested(value) else fold(str(value))


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict | list)
