"""Generates docs/faults.md: ``PYTHONPATH=tests .venv/bin/python -m grid.document > docs/faults.md``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from crossdock import errors
from crossdock.cli.advice import advice_text
from crossdock.cli.exits import exit_code
from crossdock.errors import CopyError, Side
from grid.cells import CELLS, FAULTS, IN_CHUNKS, KINDS, PLACES, SIDES, Cell, Fails, NotApplicable, Recovers

_HEAD = """\
# How a copy handles faults

This page is generated from the table that `tests/grid` tests: every fault at every place, between two
registries. A cell names the class of `crossdock.errors` with which the copy fails **if the fault
persists**. If the fault occurs once, the copy recovers and is exact. **!** means that the copy fails at the
first occurrence, *ok* that it succeeds even if the fault persists. A dash means that the fault [does not
apply](#faults-that-do-not-apply).

However a copy fails, the error names the side, the host, the digest or tag and the next step, and contains
no secret. The target's tag is unchanged. No task, buffer, socket or file remains, and no upload session
whose Location arrived, unless the upload can be resumed and the error says how. `--retries` sets the number
of retries, `--timeout` the longest time without progress.

If only the response to the PUT of a blob or manifest is lost, crossdock checks whether the target has it;
if so, the copy continues. Content with a wrong size or digest is requested, or sent, once more.
"""


def document() -> str:
    """The page."""
    return "\n".join(
        [
            _HEAD,
            *_tables(),
            *_meanings("Places", "place", PLACES),
            *_meanings("Faults", "fault", FAULTS),
            *_endings(),
            *_not_applicable(),
        ]
    )


def _tables() -> Iterator[str]:
    yield from _table("Source", PLACES, lambda cell: cell.side == "source")
    yield from _table("Target", PLACES, lambda cell: cell.side == "target" and not cell.in_chunks)
    yield from _table("Target, for a blob uploaded in chunks", IN_CHUNKS, lambda cell: cell.in_chunks)


def _table(title: str, places: Collection[str], chosen: Callable[[Cell], bool]) -> Iterator[str]:
    cells = {(cell.fault, cell.place): cell for cell in CELLS if chosen(cell)}
    yield f"## {title}\n"
    yield _row("", *places)
    yield _row("---", *("---" for _ in places))
    for fault in FAULTS:
        yield _row(fault, *(_word(cells[fault, place]) for place in places))
    yield ""


def _word(cell: Cell) -> str:
    match cell.outcome:
        case NotApplicable():
            return "–"
        case Recovers():
            return "*ok*"
        case Fails(kind, at_once):
            return ("! " if at_once else "") + kind.replace("|", ", ")


def _meanings(title: str, what: str, meanings: dict[str, str]) -> Iterator[str]:
    yield f"## {title}\n"
    yield _row(what, "meaning")
    yield _row("---", "---")
    yield from (_row(name, meaning) for name, meaning in meanings.items())
    yield ""


def _endings() -> Iterator[str]:
    yield "## Errors\n"
    yield _row("class", "exit code, source", "exit code, target", "advice, unless the error has its own")
    yield _row("---", "---", "---", "---")
    for kind in dict.fromkeys("|".join(KINDS.values()).split("|")):
        edges = [_edge(kind, side) for side in SIDES]
        codes = [str(exit_code(edge).value) for edge in edges]
        steps = dict.fromkeys(advice_text(edge.advice) for edge in edges if edge.advice)
        yield _row(kind, *codes, " / ".join(steps))
    yield ""


def _edge(kind: str, side: Side) -> CopyError:
    cause = getattr(errors, kind)("")
    return CopyError("", operation="", side=side, reference="HOST/REPOSITORY", cause=cause)


def _not_applicable() -> Iterator[str]:
    yield "## Faults that do not apply\n"
    yield _row("reason", "cells")
    yield _row("---", "---")
    reasons: dict[str, dict[str, list[str]]] = {}
    for cell in CELLS:
        if isinstance(cell.outcome, NotApplicable):
            name = f"{cell.way}, {cell.fault}"
            where = reasons.setdefault(cell.outcome.reason, {}).setdefault(name, [])
            where.append(cell.place)
    for reason, by_fault in reasons.items():
        by_places: dict[str, list[str]] = {}
        for fault, places in by_fault.items():
            by_places.setdefault(", ".join(places), []).append(fault)
        yield _row(reason, "; ".join(f"{_sides(faults)}: {places}" for places, faults in by_places.items()))


def _sides(faults: list[str]) -> str:
    """``source: drop, reset`` from names that each begin with their side."""
    by_side: dict[str, list[str]] = {}
    for name in faults:
        side, fault = name.split(", ", 1)
        by_side.setdefault(side, []).append(fault)
    return " and ".join(
        f"{side} {'any fault' if len(names) == len(FAULTS) else ', '.join(names)}"
        for side, names in by_side.items()
    )


def _row(*words: str) -> str:
    return "| " + " | ".join(words) + " |"


if __name__ == "__main__":
    print(document())
