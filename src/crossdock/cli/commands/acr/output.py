"""The output of ``crossdock acr``, in the formats of ``az``, as knack's formatters print them.

Control characters are the only difference: text of a registry does not reach a terminal with them.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from crossdock.cli.failure import fold
from crossdock.cli.streams import integer, print_result
from crossdock.errors import InvalidOption

Row = Callable[[Any], dict[str, Any]]

_LEFT_OUT = ("id", "type", "etag")  # az's tables do not show them
_MARGIN = 2  # an underline is this much longer than its heading, as in tabulate
_CONTROLS = re.compile("[\x7f-\x9f\u2028\u2029]")  # JSON need not escape them


def check_query(query: str | None) -> None:
    """Raise `InvalidOption` for a query that is not JMESPath, before anything is requested."""
    if query is not None:
        _compiled(query)


def print_output(found: Any, output: str, query: str | None, row: Row | None = None) -> None:
    """Print the part of `found` (JSON) that `query` selects, in the format `output`; nothing for null.

    `row`: how a table without a query shows an item, where az has columns of its own for the command.
    """
    lines = render(found, output, query, row)
    if lines is not None:
        print_result(lines)


def render(found: Any, output: str, query: str | None, row: Row | None = None) -> str | None:
    """The text that `print_output` prints, without the last line break; None for no output."""
    found = json.loads(json.dumps(found), parse_int=integer)  # digests are a subclass of str
    if query:
        import jmespath

        try:  # objects that a query makes keep the order of its names, in tsv and in tables too
            found = _compiled(query).search(found, jmespath.Options(dict_cls=OrderedDict))
        except jmespath.exceptions.JMESPathError as error:
            raise InvalidOption(f"--query cannot be applied to the output: {error}") from None
    if found is None or output == "none":
        return None
    if output in ("json", "jsonc"):  # the colours of az's jsonc are for terminals
        text = json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False)
        return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    if output in ("yaml", "yamlc"):
        import yaml  # slow to import

        plain = json.loads(json.dumps(found), parse_int=integer)
        return str(yaml.safe_dump(plain, default_flow_style=False, allow_unicode=True)).removesuffix("\n")
    rows = found if isinstance(found, list) else [found]
    if output == "table" and row is not None and not query:
        return "\n".join(table([row(each) for each in rows]))
    if output == "table":
        return "\n".join(table([_cells(each, by_name=not query) for each in rows]))
    return "\n".join(map(_tsv_row, rows)) if rows else None


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of a table: the names in `rows` in order of appearance, underlined, and each row.

    A table without names is one empty line.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        return [""]
    cells = [[_text(row.get(name)) for name in names] for row in rows]
    widths = [
        max(len(name) + _MARGIN, *map(len, column)) for name, *column in zip(names, *cells, strict=True)
    ]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (names, ["-" * width for width in widths], *cells)
    ]


def _compiled(query: str) -> Any:
    import jmespath

    try:
        return jmespath.compile(query)
    except jmespath.exceptions.JMESPathError as error:
        raise InvalidOption(f"--query is not a JMESPath expression: {error}") from None


def _cells(row: Any, *, by_name: bool) -> dict[str, Any]:
    """A row by heading: the plain values of an object, Column1 and so on for a list, else Result."""
    if isinstance(row, list):
        return {f"Column{at}": value for at, value in enumerate(row, 1)}
    if not isinstance(row, dict):
        return {"Result": row}
    return {
        name[:1].upper() + name[1:]: row[name]
        for name in (sorted(row) if by_name else row)
        if name not in _LEFT_OUT and row[name] is not None and not isinstance(row[name], dict | list)
    }


def _text(value: Any) -> str:
    return "" if value is None else fold(str(value))


def _tsv_row(row: Any) -> str:
    """The fields of a row; those of an object are sorted by name, or ordered as in the query."""
    if isinstance(row, dict):
        names = row if isinstance(row, OrderedDict) else sorted(row)
        return "\t".join(_field(row[name]) for name in names)
    if isinstance(row, list):
        return "\t".join(map(_field, row))
    return str(row).lower() if isinstance(row, bool) else _field(row)


def _field(value: Any) -> str:
    """A value in a row as Python prints it; the length of a list; nothing for an object."""
    if isinstance(value, list):
        return str(len(value))
    return "" if isinstance(value, dict) else fold(str(value), strip=False)
