"""``crossdock report``: reports of the shards of a run, joined to one. Local files only, no network."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from crossdock import __version__
from crossdock.cli.exits import ExitCode, UsageError
from crossdock.cli.failure import fold
from crossdock.cli.parser import Parser, add_command
from crossdock.cli.streams import print_result, warn
from crossdock.cli.values import file_path, readable_file
from crossdock.errors import Advice, InvalidInput, OutputFailed
from crossdock.oci.text import quote
from crossdock.units import count

_NO_REPORT = Advice("make-again", "apply and mirror write reports with --report FILE")


def add_flags(parser: Parser) -> None:
    """Add the actions of ``report`` and their arguments."""
    parser.description = "Works on the files that --report writes."
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    merge = add_command(actions, "merge", "join the reports of a run's shards to one, with their sums")
    merge.add_argument("out", metavar="OUT", type=file_path, help="the file to write")
    merge.add_argument(
        "reports",
        metavar="IN",
        type=readable_file,
        nargs="+",
        help="reports of `apply`, or of `mirror`, one of each shard",
    )


def run(namespace: argparse.Namespace) -> int:
    """Merge."""
    out, paths = namespace.out, namespace.reports
    if any(out.exists() and os.path.samefile(out, each) for each in paths):
        raise UsageError(f"OUT, {out}, is one of the reports to be joined", command="crossdock report merge")
    heads = [_read(path) for path in paths]
    _check_alike(heads)
    _check_once(heads)
    for shard in _missing(heads):
        warn(f"there is no report of shard {shard}")
    _write(out, _merged(heads))
    print_result(f"joined {count(len(heads), 'report')}: {_words(_summed(each.totals for each in heads))}")
    return ExitCode.DONE


class _Report(Struct, kw_only=True):
    """The members of a report that say what it is of; lists that may be long stay as they are."""

    path: Path = Path()
    totals: dict[str, float]
    error: dict[str, Any] | None = None
    shard: str | None = None
    shards: list[dict[str, Any]] = []  # of one that is joined already
    # apply
    run: str | None = None
    file: str | None = None
    file_digest: str | None = None
    entries: list[dict[str, Any]] = []
    # mirror
    source: str | None = None
    targets: list[str] = []
    seconds: float = 0.0
    warnings: list[str] = []

    @property
    def is_mirror(self) -> bool:
        return self.file is None

    @property
    def what(self) -> tuple[str, ...]:
        """The subject of the report, for comparison: files have other paths on other machines."""
        if self.is_mirror:
            return ("mirror", str(self.source), *self.targets)
        return ("apply", self.file_digest or str(self.file))

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The reports that it consists of."""
        if self.shards:
            return self.shards
        of_run = {} if self.is_mirror else {"run": self.run}
        return [{"shard": self.shard, **of_run, "report": str(self.path), "error": self.error}]

    def __str__(self) -> str:
        if self.is_mirror:
            return f"the mirror of {self.source} to {', '.join(self.targets)}"
        return f"the run of {self.file}"


class _Lists(Struct):
    """The lists of a report, whose members are passed on unread."""

    not_copied: list[Raw] = []
    copies: list[Raw] = []


# -- reading and checking ------------------------------------------------------------------------------------


def _read(path: Path) -> _Report:
    """The report in a file, without its lists. Raises `InvalidInput`."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Report)
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
        raise InvalidInput(f"{path} is not a report: {error}", advice=_NO_REPORT) from error
    if found.file is None and not (found.source and found.targets):
        raise InvalidInput(f"{path} is not a report of apply or mirror", advice=_NO_REPORT)
    found.path = path
    return found


def _check_alike(reports: list[_Report]) -> None:
    """Raise `InvalidInput` for reports of different files, mirrors or numbers of shards."""
    first = reports[0]
    for each in reports[1:]:
        if each.what != first.what:
            raise InvalidInput(f"{first.path} is of {first}, and {each.path} is of {each}")
        mine, theirs = _count(first), _count(each)
        if mine != theirs:
            raise InvalidInput(
                f"{first.path} is of {count(mine, 'shard')}, and {each.path} of {theirs}: "
                "they are not parts of one run"
            )


def _count(report: _Report) -> int:
    """How many shards the run has; 1 for one that is whole."""
    shard = report.parts[0].get("shard")
    return int(str(shard).rpartition("/")[2]) if shard else 1


def _check_once(reports: list[_Report]) -> None:
    """Raise `InvalidInput` for an entry that two reports have for the same shard, naming both files."""
    owners: dict[tuple[Any, ...], Path] = {}
    for report in reports:
        keys: Iterable[tuple[Any, ...]]
        if report.is_mirror:
            keys = [(str(report), part.get("shard")) for part in report.parts]
        else:
            keys = [
                (f"entry {quote(each['name'])} to {each['target']}", each.get("shard"), each["source"])
                for each in report.entries
            ]
        for key in keys:
            if (other := owners.setdefault(key, report.path)) is not report.path:
                shard = f" of shard {key[1]}" if key[1] else ""
                raise InvalidInput(f"{other} and {report.path} both have {key[0]}{shard}")


def _missing(reports: list[_Report]) -> list[str]:
    """The shards of which there is no report."""
    known = {part.get("shard") for report in reports for part in report.parts}
    number = _count(reports[0])
    wanted = [f"{index}/{number}" for index in range(number)]
    return [each for each in wanted if each not in known] if number > 1 else []


# -- writing -------------------------------------------------------------------------------------------------


def _summed(totals: Iterable[dict[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for each in totals:
        for name, value in each.items():
            found[name] = round(found.get(name, 0) + value, 3)
    return found


def _words(totals: dict[str, float]) -> str:
    names = ("copied", "unchanged", "failed")
    words = [f"{int(totals.get(name, 0))} {name}" for name in names]
    return ", ".join([count(int(totals.get("tags", 0)), "tag"), *words])


def _merged(reports: list[_Report]) -> Iterator[str]:
    """The joined report, in pieces: one may have millions of copies, of which a report at a time is read."""
    first = reports[0]
    members: dict[str, Any] = {"shards": [part for each in reports for part in each.parts]}
    totals = _summed(each.totals for each in reports)
    if first.is_mirror:
        members |= {"source": first.source, "targets": first.targets, "totals": totals}
        members["seconds"] = round(sum(each.seconds for each in reports), 3)
        members["warnings"] = [warning for each in reports for warning in each.warnings]
    else:
        members["entries"] = [entry for each in reports for entry in each.entries]
        members |= {"totals": totals, "file": first.file, "file_digest": first.file_digest}
    members["version"] = __version__
    members["error"] = next((each.error for each in reports if each.error is not None), None)
    yield json.dumps(members, indent=2).removesuffix("\n}")
    for name in ("copies", "not_copied"):
        yield f',\n  "{name}": ['
        yield from _joined(reports, name)
        yield "\n  ]"
    yield "\n}\n"


def _joined(reports: list[_Report], name: str) -> Iterator[str]:
    """The members of a list of all reports, each on a line."""
    separator = "\n    "
    for report in reports:
        lists = msgspec.json.decode(report.path.read_bytes(), type=_Lists)
        for each in getattr(lists, name):
            yield separator + bytes(each).decode()
            separator = ",\n    "


def _write(path: Path, parts: Iterator[str]) -> None:
    """Raises `OutputFailed`."""
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(parts)
    except OSError as error:
        raise OutputFailed(f"cannot write {fold(str(path))}: {error.strerror}") from error
