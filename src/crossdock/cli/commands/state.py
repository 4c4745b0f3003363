"""``crossdock state``: the interrupted uploads that copies can resume. Local files only, no network."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from crossdock.cli.exits import ExitCode
from crossdock.cli.failure import fold
from crossdock.cli.flags import add_output
from crossdock.cli.parser import Parser, add_command
from crossdock.cli.streams import print_json, print_result
from crossdock.cli.values import checked, file_path
from crossdock.errors import (
    Advice,
    InvalidOption,
    JournalUnavailable,
    NotFound,
)
from crossdock.kept.database import JournalDatabase, open_existing
from crossdock.kept.keeper import EXPIRY_S, Pruned
from crossdock.kept.spoolfolder import SpooledFile, SpoolFolder, unavailable
from crossdock.kept.spoolfolder import open_existing as open_spool
from crossdock.kept.uploads import Finished, SavedUpload
from crossdock.options import default_state_folder
from crossdock.units import count, format_duration, format_size, parse_duration

_SHOWN_OF_SESSION = 8  # characters of a session's id: where a registry has no accounts, the id is a secret


def add_flags(parser: Parser) -> None:
    """Add the actions of ``state`` and their flags."""
    parser.description = (
        "List, show and remove the interrupted uploads in the journal, a file on this machine. Nothing is\n"
        "sent: registries remove their upload sessions after a while."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = add_command(actions, "list", "list the open uploads, one per line, newest first")
    show = add_command(
        actions, "show", "show the details of open uploads, and the items that runs have finished"
    )
    prune = add_command(
        actions, "prune", "remove old uploads from the journal, except those of running copies"
    )
    for action, act in ((listing, _list), (show, _show), (prune, _prune)):
        action.set_defaults(act=act)
        action.add_argument(
            "--state",
            type=file_path,
            dest="folder",
            metavar="DIR",
            help="folder of the journal (default: crossdock in XDG_STATE_HOME, or in ~/.local/state)",
        )
        add_output(action)
    show.add_argument(
        "digest", metavar="DIGEST", nargs="?", help="show only this blob; its first digits are enough"
    )
    for action in (listing, prune):
        action.add_argument("--spool", type=file_path, metavar="DIR", help="include the blobs in this spool")
    which = prune.add_mutually_exclusive_group()
    which.add_argument(
        "--older-than",
        type=checked(parse_duration),
        metavar="TIME",
        help="uploads without progress for this long (default 7d: no registry keeps sessions longer)",
    )
    which.add_argument(
        "--all", action="store_true", dest="everything", help="all uploads, whatever their age"
    )


def run(namespace: argparse.Namespace) -> int:
    """List, show or prune; an absent journal is an empty one."""
    folder = namespace.folder or default_state_folder(os.environ)
    try:
        journal = open_existing(folder)
        if journal is None:
            return int(namespace.act(None, namespace))
        with closing(journal):
            return int(namespace.act(journal, namespace))
    except JournalUnavailable as error:  # the folder: what the caller chose cannot be used
        raise InvalidOption(str(error), advice=error.advice) from error


def _list(journal: JournalDatabase | None, namespace: argparse.Namespace) -> int:
    uploads = [] if journal is None else [_summary(journal, saved) for saved in journal.uploads()]
    with _spool(namespace) as folder:
        spooled = [] if folder is None else [_spooled(file) for file in reversed(folder.files())]
    if namespace.output == "json":
        print_json({"journal": _path(journal), "uploads": uploads, "spooled": spooled})
    elif lines := [*map(_line, uploads), *map(_spooled_line, spooled)]:
        kept = f"{count(len(uploads), 'upload')}, {count(len(spooled), 'spooled blob')}"
        print_result("\n".join(lines), brief=kept)
    return ExitCode.DONE


def _show(journal: JournalDatabase | None, namespace: argparse.Namespace) -> int:
    uploads, finished = ([], []) if journal is None else (journal.uploads(), journal.finished())
    if wanted := namespace.digest:
        uploads = [saved for saved in uploads if _is_named(saved.key.digest, wanted)]
        finished = [done for done in finished if _is_named(done.digest, wanted)]
        if not uploads and not finished:
            raise NotFound(
                f"the journal has no entry of {fold(wanted)}",
                advice=Advice("see-list", "see crossdock state list"),
            )
    details = [] if journal is None else [_details(journal, saved) for saved in uploads]
    done = [_finished(each) for each in finished]
    if namespace.output == "json":
        print_json({"journal": _path(journal), "uploads": details, "finished": done})
    elif details or done:
        lines = [*_paragraphs(details), *(_finished_line(each) for each in done)]
        counted = f"{count(len(details), 'upload')}, {count(len(done), 'finished item')}"
        print_result("\n".join(lines), brief=counted)
    return ExitCode.DONE


def _prune(journal: JournalDatabase | None, namespace: argparse.Namespace) -> int:
    age = EXPIRY_S if namespace.older_than is None else namespace.older_than
    before = float("inf") if namespace.everything else time.time() - age
    pruned = Pruned(0, 0) if journal is None else journal.prune(before)
    with _spool(namespace) as folder:
        spooled = Pruned(0, 0) if folder is None else folder.prune(before)
    in_use = pruned.in_use + spooled.in_use
    if namespace.output == "json":
        document = {"uploads": pruned.removed, "finished": pruned.finished, "spooled": spooled.removed}
        print_json({"journal": _path(journal), **document, "in_use": in_use})
    else:
        text = f"forgot {count(pruned.removed, 'upload')} and {count(pruned.finished, 'finished item')}"
        files = f", removed {count(spooled.removed, 'spooled blob')}" if namespace.spool else ""
        kept = f"; kept {in_use} of running copies" if in_use else ""
        print_result(text + files + kept)
    return ExitCode.DONE


@contextmanager
def _spool(namespace: argparse.Namespace) -> Iterator[SpoolFolder | None]:
    """The spool of ``--spool``, or None."""
    path = namespace.spool
    try:
        yield None if path is None else open_spool(path)
    except OSError as error:
        named = unavailable(path, error)
        raise InvalidOption(str(named), advice=named.advice) from error


# -- text and JSON ----------------------------------------------------------------------------------------


def _summary(journal: JournalDatabase, saved: SavedUpload) -> dict[str, Any]:
    return {
        "target": fold(saved.key.target),
        "digest": saved.key.digest,
        "size": saved.size,
        "offset": saved.acknowledged,
        "age": _age(saved.updated),
        "in_use": journal.in_use(saved.key),
    }


def _spooled(file: SpooledFile) -> dict[str, Any]:
    return {
        "digest": fold(file.digest),
        "bytes": file.used,
        "age": _age(file.written),
        "in_use": file.in_use,
    }


def _age(written: float) -> float:
    return round(max(0.0, time.time() - written), 3)  # a clock may have been set back


def _details(journal: JournalDatabase, saved: SavedUpload) -> dict[str, Any]:
    return {
        **_summary(journal, saved),
        "source": fold(saved.source),
        "location": _shown_location(saved.location),
        "chunk_size": saved.chunk_size,
        "saved_states": list(saved.states),
        "created": _timestamp(saved.created),
        "updated": _timestamp(saved.updated),
        "pid": saved.pid,
    }


def _finished(done: Finished) -> dict[str, Any]:
    return {
        "run": done.run,
        "kind": done.kind,
        "target": fold(done.target),
        "digest": fold(done.digest),
        "size": done.size,
        "at": _timestamp(done.at),
    }


def _line(upload: dict[str, Any]) -> str:
    part = f"{format_size(upload['offset'])} of {format_size(upload['size'])}"
    age = f"{format_duration(upload['age'])} ago"
    running = "  in use" if upload["in_use"] else ""
    return f"{upload['target']}@{upload['digest']}  {part}  {age}{running}"


def _spooled_line(spooled: dict[str, Any]) -> str:
    running = "  in use" if spooled["in_use"] else ""
    age = f"{format_duration(spooled['age'])} ago"
    return f"spooled {spooled['digest']}  {format_size(spooled['bytes'])}  {age}{running}"


def _paragraphs(details: Iterable[dict[str, Any]]) -> Iterable[str]:
    for upload in details:
        yield _line(upload)
        for name in ("source", "location", "chunk_size", "saved_states", "created", "updated", "pid"):
            value = upload[name]
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            yield f"  {name.replace('_', ' '):<13}{text}".rstrip()


def _finished_line(done: dict[str, Any]) -> str:
    return f"{done['at']}  {done['kind']:<8}  {done['target']}@{done['digest']}  {format_size(done['size'])}"


def _shown_location(location: str) -> str:
    """The URL of an upload session without its query, and with its id shortened: both may be secrets."""
    parts = urlsplit(location)
    folder, slash, session = parts.path.rpartition("/")
    cut = session[:_SHOWN_OF_SESSION] + ("…" if len(session) > _SHOWN_OF_SESSION else "")
    return fold(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{folder}{slash}{cut}")


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _path(journal: JournalDatabase | None) -> str | None:
    return None if journal is None else str(journal.path)


def _is_named(digest: str, wanted: str) -> bool:
    return digest.startswith(wanted) or digest.partition(":")[2].startswith(wanted)
