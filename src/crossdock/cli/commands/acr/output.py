"""What ``crossdock acr`` prints, in the formats of ``az``: row by row what knack's formatters give.

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
_MARGIN = 2  # an underline is that much longer than its heading, as tabulate makes it
_CONTROLS = re.compile("[\x7f-\x9f\u2028\u2029]")  # which JSON need not escape


def check_query(query: str | None) -> None:
    """Raise `InvalidOption` for a query that is not JMESPath, before anything is requested."""
    if query is not None:
        _compiled(query)


def print_answer(found: Any, output: str, query: str | None, row: Row | None = None) -> None:
    """Print what `query` leaves of `found`, which is JSON, in the format `output`; nothing for null.

    `row`: how a table without a query shows an item, where az has columns of its own for the command.
    """
    lines = render(found, output, query, row)
    if lines is not None:
        print_result(lines)


def render(found: Any, output: str, query: str | None, row: Row | None = None) -> str | None:
    """What `print_answer` prints, without the last line break; None when it prints nothing."""
    found = json.loads(json.dumps(found), parse_int=integer)  # digests are strings of their own class
    if query:
        import jmespath

        try:  # a query's own objects keep the order of its names, and so show it in tsv and tables
            found = _compiled(query).search(found, jmespath.Options(dict_cls=OrderedDict))
        except jmespath.exceptions.JMESPathError as error:
            raise InvalidOption(f"--query cannot be applied to the answer: {error}") from None
    if found is None or output == "none":
        return None
    if output in ("json", "jsonc"):  # the colours of az's jsonc are for terminals
        text = json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False)
        return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    if output in ("yaml", "yamlc"):
        import yaml  # here: nobody else pays for it

        plain = json.loads(json.dumps(found), parse_int=integer)
        return str(yaml.safe_dump(plain, default_flow_style=False, allow_unicode=True)).removesuffix("\n")
    rows = found if isinstance(found, list) else [found]
    if output == "table" and row is not None and not query:
        return "\n".join(table([row(each) for each in rows]))
    if output == "table":
        return "\n".join(table([_cells(each, by_name=not query) for each in rows]))
    return "\n".join(map(_tsv_row, rows)) if rows else None


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of a table: the names in `rows` in the order in which they come up, underlined, and each row.

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
        raise InvalidOption(f"--query is no JMESPath expression: {error}") from None


def _cells(row: Any, *, by_name: bool) -> dict[str, Any]:
    """A row of a table by heading: an object's plain values, a list as Column1 and so on, else Result."""
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
    """The fields of a row: an object's values by the order of their names, or of the query's."""
    if isinstance(row, dict):
        names = row if isinstance(row, OrderedDict) else sorted(row)
        return "\t".join(_field(row[name]) for name in names)
    if isinstance(row, list):
        return "\t".join(map(_field, row))
    return str(row).lower() if isinstance(row, bool) else _field(row)


def _field(value: Any) -> str:
    """A value in a row, as Python writes it; of a list its length, of an object nothing."""
    if isinstance(value, list):
        return str(len(value))
    return "" if isinstance(value, dict) else fold(str(value), strip=False)
