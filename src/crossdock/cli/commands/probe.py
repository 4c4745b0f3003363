"""``crossdock probe``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossdock.cli.exits import ExitCode
from crossdock.cli.failure import fold
from crossdock.cli.flags import add_network, add_output, add_side, read_options
from crossdock.cli.parser import Parser
from crossdock.cli.streams import print_json, print_result, warn
from crossdock.cli.values import file_path
from crossdock.errors import Advice, InvalidOption
from crossdock.units import count, format_size

if TYPE_CHECKING:
    from crossdock.probing.probe import Probed

SHORT_TOKEN_S = 120.0


def add_flags(parser: Parser) -> None:
    """Add the flags of ``probe``."""
    parser.add_argument(
        "registry", metavar="HOST[/REPOSITORY]", help="registry; with a repository its largest blob is read"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="try in REPOSITORY what can be written (at most 192 MiB of random blobs), and remove it again",
    )
    parser.add_argument(
        "--save",
        type=file_path,
        metavar="INVENTORY",
        help="add the registry with its kind and values to this inventory file",
    )
    add_output(parser.add_argument_group("output"))
    add_side(parser, "source", "")
    add_network(parser)


def run(namespace: argparse.Namespace) -> int:
    """Print what a registry is and can do."""
    from dataclasses import replace

    from crossdock.cli.loop import run_until_done
    from crossdock.inventory.values import Inventory
    from crossdock.probing.probe import place_of, probe
    from crossdock.probing.saving import check_new, save

    options = replace(read_options(namespace), state=None)
    text = Inventory.of(options.registries).addressed(namespace.registry)
    location, has_repository = place_of(text)
    if namespace.write and not has_repository:
        advice = Advice("give-repository", "name a repository that may be written to: HOST/REPOSITORY")
        raise InvalidOption("--write needs a repository", advice=advice)
    path = Path(namespace.save) if namespace.save else None
    if path is not None:
        check_new(path, location.registry)
    found = run_until_done(probe(text, options, writes=namespace.write))
    document = _document(found)
    if namespace.output == "json":
        print_json(document)
    else:
        lines = list(_lines(document))
        print_result("\n".join(lines), brief=lines[0])
    if path is not None:
        save(path, found)
    if document.get("left"):
        warn(f"{len(document['left'])} things that were written could not be removed again")
    return ExitCode.DONE


def _document(found: Probed) -> dict[str, Any]:
    """The fields of the contract."""
    shown, blobs, written = found.shown, found.blobs, found.written
    document: dict[str, Any] = {
        "kind": found.kind.name,
        "software": shown.software,
        "login": shown.login,
        "token_seconds": found.token_seconds,
        "round_trip_ms": shown.round_trip_ms,
        "ranges": blobs.ranges,
        "redirects": blobs.redirects,
        "bytes_per_second": blobs.bytes_per_second,
        "best_connections": blobs.best_connections,
        "bytes_read": blobs.bytes_read,
        "advice": list(_advice(found)),
    }
    if written is not None:
        document |= {
            "uploads": written.uploads,
            "mount": written.mount,
            "referrers": written.referrers,
            "tag_delete": written.tag_delete,
            "multi_tag": written.multi_tag,
            "left": written.left,
        }
    return document


def _advice(found: Probed) -> Iterator[str]:
    """Sentences for the person who copies from it or to it."""
    blobs, limits = found.blobs, found.kind.limits
    if found.kind.name == "unknown":
        yield "Its kind is not known: name one as kind in the inventory, if it is like one that is."
    if blobs.ranges in ("ignored", "wrong"):
        yield f"Ranges of blobs are {blobs.ranges}: each blob is read in one stream."
    if blobs.redirects is not None:
        yield f"Blobs come from {blobs.redirects}, which must be reachable as well."
    if blobs.best_connections is not None and blobs.ranges == "honoured":
        connections = count(blobs.best_connections, "connection")
        yield f"Blobs are read fastest over {connections} (--connections)."
    if found.token_seconds is not None and found.token_seconds < SHORT_TOKEN_S:
        yield f"Its tokens last {found.token_seconds:g} seconds: they are renewed during long uploads."
    if found.kind.largest_blob is not None:
        yield f"It takes no blob over {format_size(found.kind.largest_blob)}."
    if limits.upload_seconds is not None:
        yield f"The upload of one blob may take {limits.upload_seconds:g} seconds."
    if limits.pulls_per_minute is not None:
        yield f"It allows some {limits.pulls_per_minute * 60:g} pulls of manifests an hour (see plan)."
    if found.written is not None:
        yield from _advice_on_writing(found)


def _advice_on_writing(found: Probed) -> Iterator[str]:
    from crossdock.probing.writing import LARGE

    written = found.written
    assert written is not None
    uploads = written.uploads
    if not uploads["chunks"]:
        yield "Blobs go up in one request: an interrupted upload starts again (--spool keeps its bytes)."
    elif not uploads["resume"]:
        yield "Uploads cannot be resumed: its sessions do not tell how much they hold."
    if uploads["chunk_max"] is not None:
        most = format_size(uploads["chunk_max"])
        yield f"Requests of more than {most} are refused: upload.max_chunk in the inventory keeps to it."
    if written.large_put is False:
        yield f"A blob of {format_size(LARGE)} in one request is refused: large blobs go up in chunks."
    if written.mount == "never":
        yield "Blobs are not mounted from other repositories: each repository gets its own upload."
    if written.referrers == "refused":
        yield "Signatures and other referrers are refused (--no-referrers)."
    if not written.tag_delete:
        yield "Tags cannot be deleted by themselves."
    if written.left:
        yield "Remove by hand what is listed in left."


def _lines(document: dict[str, Any]) -> Iterator[str]:
    for name, value in document.items():
        match value:
            case None:
                shown = "unknown"
            case bool():
                shown = "yes" if value else "no"
            case dict() if name == "bytes_per_second":
                shown = ", ".join(f"{level}: {format_size(rate)}/s" for level, rate in value.items())
            case dict():
                shown = ", ".join(f"{each} {_word(below)}" for each, below in value.items())
            case list():
                continue
            case _:
                shown = format_size(value) if name == "bytes_read" else fold(str(value))
        yield f"{name.replace('_', ' '):<18}{shown}"
    for each in document.get("left", ()):
        yield f"left              {fold(each)}"
    yield from (fold(each) for each in document["advice"])


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "unknown" if value is None else format_size(value) if isinstance(value, int) else str(value)
