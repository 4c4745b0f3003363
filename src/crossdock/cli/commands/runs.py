"""``crossdock runs``: what runs of migration files have done. Reads and removes local state, no network."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from crossdock.cli.exits import ExitCode
from crossdock.cli.failure import fold
from crossdock.cli.flags import add_output
from crossdock.cli.parser import Parser, add_command
from crossdock.cli.streams import print_json, print_result
from crossdock.cli.values import file_path
from crossdock.errors import Advice, InvalidOption, NotFound
from crossdock.migration.runfile import Item, RunFile, RunRow, StateUnavailable, open_existing
from crossdock.migration.totals import summed, with_tags
from crossdock.mirroring.views import shown
from crossdock.options import default_state_folder
from crossdock.units import count, format_duration, format_size

MOST_SHOWN = 1000  # items that were not copied
_SEE_LIST = Advice("see-list", "see crossdock runs list")


def add_flags(parser: Parser) -> None:
    """Add the actions of ``runs`` and their flags."""
    parser.description = (
        "List, show and remove the runs of `crossdock apply`, recorded on this machine. Nothing is\n"
        "sent. An interrupted run resumes when the same file is applied again."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = add_command(actions, "list", "list the runs, one per line, newest first")
    show = add_command(actions, "show", "show a run with its entries, and what was not copied")
    forget = add_command(actions, "forget", "remove the record of a run, which then cannot resume")
    for action, act in ((listing, _list), (show, _show), (forget, _forget)):
        action.set_defaults(act=act)
        if action is not listing:
            action.add_argument("run_id", metavar="RUN", help="the run; its first characters are enough")
        action.add_argument(
            "--state",
            type=file_path,
            dest="folder",
            metavar="DIR",
            help="folder of the state (default: crossdock in XDG_STATE_HOME, or in ~/.local/state)",
        )
        add_output(action)


def run(namespace: argparse.Namespace) -> int:
    """List, show or forget; an absent file has no runs."""
    folder = namespace.folder or default_state_folder(os.environ)
    try:
        file = open_existing(folder)
        if file is None:
            return int(namespace.act(None, namespace))
        with closing(file):
            return int(namespace.act(file, namespace))
    except StateUnavailable as error:  # the folder: what the caller chose cannot be used
        raise InvalidOption(str(error), advice=error.advice) from error


def _list(file: RunFile | None, namespace: argparse.Namespace) -> int:
    documents = [_document(file, each) for each in file.runs()] if file is not None else []
    if namespace.output == "json":
        print_json({"runs": documents})
    elif documents:
        print_result("\n".join(map(_line, documents)), brief=count(len(documents), "run"))
    return ExitCode.DONE


def _show(file: RunFile | None, namespace: argparse.Namespace) -> int:
    found = _found(file, namespace.run_id)
    assert file is not None
    pairs = file.pairs(found.number)
    names = [(each.source, each.target) for each in pairs]
    left: list[dict[str, Any]] = []
    more = False
    for item in file.items(found.number, "failed", "left"):
        more = len(left) == MOST_SHOWN
        if more:
            break
        left.append(_item(item, *names[item.pair]))
    document = {
        **_document(file, found),
        "entries": [
            {"name": each.name, "source": each.source, "target": each.target, **with_tags(each.totals)}
            for each in pairs
        ],
        "not_copied": left,
        "more_not_copied": more,
    }
    if namespace.output == "json":
        print_json(document)
    else:
        print_result("\n".join(_paragraph(document)), brief=_line(document))
    return ExitCode.DONE


def _forget(file: RunFile | None, namespace: argparse.Namespace) -> int:
    found = _found(file, namespace.run_id)
    assert file is not None
    lock = file.lock(found.content)
    if lock is None:
        raise InvalidOption(
            f"run {found.id} of {found.file} is under way in another process",
            advice=Advice("wait-for-run", "wait until it has ended, or stop that process"),
        )
    with lock:
        file.forget(found)
    if namespace.output == "json":
        print_json({"forgot": found.id})
    else:
        print_result(f"forgot run {found.id} of {fold(found.file)}")
    return ExitCode.DONE


def _found(file: RunFile | None, word: str) -> RunRow:
    rows = file.find(word) if file is not None else []
    if not rows:
        raise NotFound(f"there is no run {fold(word)}", advice=_SEE_LIST)
    if len(rows) > 1:
        raise InvalidOption(f"{len(rows)} runs begin with {fold(word)}", advice=_SEE_LIST)
    return rows[0]


# -- text and JSON ----------------------------------------------------------------------------------------


def _document(file: RunFile, row: RunRow) -> dict[str, Any]:
    totals = summed((each.totals for each in file.pairs(row.number)), row.totals)
    return {
        "run": row.id,
        "file": row.file,
        "started": _timestamp(row.started),
        "ended": _timestamp(row.ended) if row.ended is not None else None,
        "status": row.status,
        "totals": totals,
    }


def _item(item: Item, source: str, target: str) -> dict[str, Any]:
    return {
        "source": shown(f"{source}/{item.repository}", item.name),
        "target": target,
        "digest": item.digest,
        "outcome": item.outcome,
        "kind": item.kind,
        "reason": item.reason,
    }


def _line(document: dict[str, Any]) -> str:
    return (
        f"{document['run']}  {document['started']}  {document['status']:<11}  {fold(document['file'])}  "
        + (_words(document["totals"]))
    )


def _words(totals: dict[str, Any]) -> str:
    words = [count(int(totals["tags"]), "tag")]
    words += [
        f"{totals[name]} {name}" for name in ("unchanged", "copied", "failed", "deleted") if totals[name]
    ]
    words += [f"{format_size(totals['bytes_moved'])} moved"]
    return ", ".join(words) + (f" in {format_duration(totals['seconds'])}" if "seconds" in totals else "")


def _paragraph(document: dict[str, Any]) -> Iterator[str]:
    yield _line(document)
    if document["ended"] is not None:
        yield f"  ended {document['ended']}"
    for each in document["entries"]:
        yield f"  {fold(each['name'])}: {fold(each['source'])} -> {fold(each['target'])}  {_words(each)}"
    for each in document["not_copied"]:
        why = f"{each['kind']}: {fold(each['reason'])}" if each["kind"] else each["outcome"]
        yield f"  {fold(each['source'])} -> {fold(each['target'])}  {why}"
    if document["more_not_copied"]:
        yield "  and more"


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
