"""``crossdock verify``: whether targets hold what their sources have. Nothing is copied."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossdock.cli.exits import ExitCode, UsageError, exit_code
from crossdock.cli.failure import error_document, error_text, fold
from crossdock.cli.flags import add_network, add_output, add_sides, option, read_options
from crossdock.cli.parser import Parser
from crossdock.cli.streams import print_error, print_json, print_lines, warn
from crossdock.cli.values import platform
from crossdock.errors import CopyError, InvalidInput
from crossdock.oci.reference import parse_location
from crossdock.units import count

if TYPE_CHECKING:
    from crossdock.migration.file import MigrationFile
    from crossdock.mirroring.entry import Entry, ReferrersMode
    from crossdock.options import CopyOptions
    from crossdock.runs.comparing import Findings, Row

_LEVELS = ("tags", "graph", "bytes")
_SHOWN_ERRORS = 10


def add_flags(parser: Parser) -> None:
    """Add the flags of ``verify``."""
    parser.description = (
        "Compare targets with their sources. Nothing is copied.\n"
        "FILE is a migration file. SOURCE and TARGET are registries, HOST[:PORT][/PREFIX], as for `mirror`,\n"
        "or two images with a tag or digest. Differences are listed, and the exit code is then 7."
    )
    parser.add_argument("places", metavar="FILE | SOURCE TARGET", nargs="+", help="what to compare")
    what = parser.add_argument_group("comparison")
    what.add_argument(
        "--level",
        choices=_LEVELS,
        default="graph",
        help="tags: their digests; graph: also every manifest, and each blob's presence and size; "
        "bytes: also the blobs' digests, which reads them from the target (default graph)",
    )
    what.add_argument(
        "--sample",
        type=_percent,
        default=100.0,
        metavar="PERCENT",
        help="compare only this share of the tags, chosen by their names (default 100)",
    )
    add = partial(option, what)
    add(
        "platforms",
        "--platform OS/ARCH[/VARIANT]",
        "compare with the result of copying only this platform of an index; repeatable",
        type=platform,
        action="append",
    )
    add(
        "referrers",
        "--referrers",
        "compare signatures, SBOMs and all other referrers too (default)",
        action=argparse.BooleanOptionalAction,
    )
    add_output(parser)
    add_sides(parser)
    add_network(parser)


def run(namespace: argparse.Namespace) -> int:
    """Compare, and print what is missing, different or extra."""
    from crossdock.cli.loop import run_until_done
    from crossdock.migration.verify import Verification

    places = namespace.places
    if len(places) > 2:
        raise UsageError(
            "verify takes a migration file, or a source and a target", command="crossdock verify"
        )
    options = read_options(namespace)
    images = len(places) == 2 and any(map(_is_image, places))
    entries: tuple[Entry, ...] = ()
    if len(places) == 1:
        file = _read(places[0], options)
        for warning in file.warnings:
            warn(warning)
        entries, options = file.entries, file.limits.over(options)
    elif not images:
        entries = (_entry(places[0], places[1], options),)
    verification = Verification(options, namespace.level, namespace.sample, on_warning=warn)
    if images:
        run_until_done(verification.image(*map(parse_location, places)))
    else:
        run_until_done(verification.entries(entries))
    return _shown(verification.findings, namespace)


def _shown(found: Findings, namespace: argparse.Namespace) -> int:
    """Print it; the exit code."""
    if namespace.output == "json":
        print_json(_document(found, namespace.level))
    else:
        print_lines(_text(found))
    for error in found.errors[:_SHOWN_ERRORS]:
        print_error(error_text(error))
    if (more := len(found.errors) - _SHOWN_ERRORS) > 0:
        print_error(f"crossdock: {more} more errors like these")
    if found.errors:
        return _code(found.errors[0])
    return ExitCode.VERIFICATION if found.missing or found.different else ExitCode.DONE


def _read(path: str, options: CopyOptions) -> MigrationFile:
    from crossdock.inventory.values import Inventory
    from crossdock.migration.file import read_migration

    return read_migration(Path(path), Inventory.of(options.registries), os.environ)


def _entry(source: str, target: str, options: CopyOptions) -> Entry:
    """The entry of a source and a target."""
    from crossdock.inventory.values import Inventory
    from crossdock.mirroring.entry import Entry
    from crossdock.mirroring.names import Namespace, check

    inventory = Inventory.of(options.registries)
    try:
        place, other = (Namespace.parse(inventory.addressed(each)) for each in (source, target))
        check(place, [other])
    except InvalidInput as error:
        raise UsageError(str(error), advice=error.advice, command="crossdock verify") from None
    referrers: ReferrersMode = "off" if options.referrers is False else "warn"
    return Entry(name=str(place), source=place, targets=(other,), referrers=referrers)


def _is_image(text: str) -> bool:
    """Whether the text names one image, not a registry or a part of one."""
    _, slash, path = text.removeprefix("docker://").partition("/")
    return text.startswith("oci:") or "@" in text or (":" in path if slash else False)


def _percent(text: str) -> float:
    try:
        found = float(text.removesuffix("%"))
    except ValueError:
        found = 0.0
    if not 0 < found <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage: more than 0, and 100 at most")
    return found


def _code(error: Exception) -> int:
    """The exit code of an error: a side that cannot be compared is no difference."""
    code = exit_code(error)
    if code == ExitCode.VERIFICATION and isinstance(error, CopyError):
        return ExitCode.SOURCE if error.side == "source" else ExitCode.TARGET
    return code


def _document(found: Findings, level: str) -> dict[str, Any]:
    rows = {
        name: [_row(each, names_target=found.targets > 1) for each in listed]
        for name, listed in (
            ("missing", found.missing),
            ("different", found.different),
            ("extra", found.extra),
        )
    }
    compared = {"tags": found.tags, "manifests": found.manifests, "blobs": found.blobs, "bytes": found.bytes}
    errors = [error_document(each) for each in found.errors]
    return {"level": level, **rows, "compared": compared, "errors": errors}


def _row(row: Row, *, names_target: bool) -> dict[str, Any]:
    values: dict[str, Any] = {
        "repository": row.repository,
        "tag": row.tag,
        "source_digest": row.source_digest,
        "target_digest": row.target_digest,
        "kind": row.kind,
    }
    return {**values, "target": row.target} if names_target else values


def _text(found: Findings) -> Iterator[str]:
    for word, rows in (("missing", found.missing), ("different", found.different), ("extra", found.extra)):
        for row in rows:
            name = f"{row.place}:{row.tag}" if row.tag else row.place
            if row.kind == "tag":
                digests = " is ".join(each for each in (row.target_digest, row.source_digest) if each)
            else:
                name, digests = f"{row.kind} of {name}", row.source_digest or ""
            yield fold(f"{word:<10}{name}  {digests}".rstrip()) + "\n"
    yield (
        f"compared {count(found.tags, 'tag')}, {count(found.manifests, 'manifest')}, "
        f"{count(found.blobs, 'blob')}: "
        f"{len(found.missing)} missing, {len(found.different)} different, {len(found.extra)} extra\n"
    )
