"""``crossdock copy``: one source to one target or several, or with ``--from-file`` many."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from crossdock.cli.exits import UsageError
from crossdock.cli.flags import REFERENCE, add_copying, read_options
from crossdock.cli.parser import Parser
from crossdock.cli.shards import add_machines, place_of
from crossdock.cli.streams import give_stdout_away, print_note, warn
from crossdock.cli.values import archive_path, location
from crossdock.errors import Advice, Cancelled, InvalidInput, Side

if TYPE_CHECKING:
    from crossdock.clusters.place import ClusterPlace
    from crossdock.mirroring.names import Namespace
    from crossdock.options import CopyOptions
    from crossdock.runs.pairs import Pairs
    from crossdock.runs.runner import ManyCopy

_COMMAND = "crossdock copy"


def add_flags(parser: Parser) -> None:
    """Add the flags of ``copy``."""
    parser.description = (
        "Copy SOURCE to TARGET. Without --platform every platform is copied and no byte changes.\n"
        "With several targets the source is read once for all of them.\n"
        f"A reference is {REFERENCE}."
    )
    # argparse finds positionals between flags only when they are required.
    flags = {word.partition("=")[0] for word in parser.words}
    is_list = not flags.isdisjoint(("--from-file", "--from-archive"))
    parser.add_argument(
        "source", type=location, metavar="SOURCE", nargs="?" if is_list else None, help="reference to copy"
    )
    parser.add_argument(
        "targets",
        type=location,
        metavar="TARGET",
        nargs="*" if is_list else "+",
        help="reference to copy to; there may be several",
    )
    parser.repeated = "targets"
    parser.add_argument(
        "--from-file",
        metavar="LIST",
        help="copy the pairs of a list instead: a line is SOURCE TARGET [TARGET ...], # starts a comment; "
        "- is stdin",
    )
    parser.add_argument(
        "--to",
        metavar="PREFIX",
        help="HOST[:PORT][/PREFIX] for images of an archive, and for lines of the list that are a SOURCE "
        "alone; the path below the host is kept",
    )
    parser.add_argument(
        "--from-archive",
        type=location,
        metavar="FILE",
        help="copy all images of an archive, by their names, with everything attached to them; FILE or "
        "FILE.001 of one in parts, - is stdin",
    )
    parser.add_argument(
        "--fail-fast", action="store_true", help="stop at the first copy of the list that fails"
    )
    add_copying(parser)
    add_machines(parser, shards=False)


def run(namespace: argparse.Namespace) -> int:
    """Copy, and print the result."""
    if namespace.from_file is None:
        for flag, value in (("--cluster", namespace.cluster), ("--workers", namespace.workers)):
            if value is not None:
                raise UsageError(f"{flag} needs --from-file", command=_COMMAND)
    if namespace.from_archive is not None:
        _check_archive(namespace)
        return _copy_archive(namespace)
    if namespace.from_file is not None:
        _check_list(namespace)
        return _copy_list(namespace)
    if namespace.fail_fast:
        raise UsageError("--fail-fast needs --from-file", command=_COMMAND)
    if namespace.to:
        raise UsageError("--to needs --from-archive or --from-file", command=_COMMAND)
    _refuse_password(namespace)
    _check_reference(namespace.source, "source")
    for target in namespace.targets:
        _check_reference(target, "target")
    _free_stdout(namespace.targets)
    return _copy_one(namespace) if len(namespace.targets) == 1 else _copy_to_targets(namespace)


def _copy_one(namespace: argparse.Namespace) -> int:
    from crossdock.cli.report import CopyReport, ReportFile
    from crossdock.cli.running import close_run, copy_shown
    from crossdock.cli.tally import Tally
    from crossdock.runs.results import status_of_error

    source, (target,) = namespace.source, namespace.targets
    options = read_options(namespace)
    with ReportFile(namespace.report) as file:
        tally = Tally(keeps_blobs=namespace.report is not None)
        report, error = CopyReport(source, target, tally), None
        try:
            report.result = copy_shown(source, target, options, tally, namespace.progress)
        except BaseException as raised:
            error = raised
        if isinstance(error, Exception) and status_of_error(error, options.existing) == "reported":
            warn(str(error))
            report.left, error = error, None
        return close_run(error, report, file, namespace, options, tally.kept)


def _copy_to_targets(namespace: argparse.Namespace) -> int:
    """Copy to every target, and print the results, also when some failed."""
    from crossdock.cli.report import ReportFile, TargetsReport
    from crossdock.cli.running import close_run, error_of
    from crossdock.cli.tally import Tally
    from crossdock.runs.targets import TargetsCopy

    options = read_options(namespace)
    with ReportFile(namespace.report) as file:
        copy = TargetsCopy.of(namespace.source, namespace.targets)
        tally = Tally(copy.totals, copy.pairs, keeps_blobs=namespace.report is not None)
        error = error_of(
            lambda session, listen: session.start(copy, listen), options, tally, namespace, results="all"
        )
        result = copy.result()
        if isinstance(error, Cancelled):
            error = Cancelled(f"copy of {namespace.source} to {len(copy.pairs)} targets was cancelled")
        for each in result.targets:
            if each.status == "reported":
                warn(str(each.error))
        report = TargetsReport(result, tally)
        return close_run(error or result.failure, report, file, namespace, options, tally.kept)


def _copy_list(namespace: argparse.Namespace) -> int:
    """Copy every pair of the list, and print the results, also when some failed."""
    from crossdock.cli.pairlist import read_pairs
    from crossdock.cli.report import ListReport, ReportFile, check_outputs
    from crossdock.cli.running import close_run, error_of
    from crossdock.cli.tally import Tally

    options = read_options(namespace)
    place = place_of(namespace, options)
    if namespace.from_file != "-":
        check_outputs("crossdock copy", Path(namespace.from_file), report=namespace.report)
    pairs = read_pairs(namespace.from_file, _place(namespace.to, options))
    _free_stdout(str(target) for _, target in pairs)
    if not pairs:
        print_note(f"crossdock: nothing to copy: {namespace.from_file} names no pair")
    with ReportFile(namespace.report) as file:
        many = _many(pairs, namespace, place)
        tally = Tally(many.totals, pairs, keeps_blobs=namespace.report is not None)
        error = error_of(
            lambda session, listen: session.start(many, listen), options, tally, namespace, results="all"
        )
        result = many.result()
        if isinstance(error, Cancelled):
            error = Cancelled(f"cancelled when {result.done} of {len(pairs)} copies were done")
        report = ListReport(result, tally)
        return close_run(error or result.failure, report, file, namespace, options, tally.kept)


def _copy_archive(namespace: argparse.Namespace) -> int:
    """Copy every image of the archive, and print the results, also when some failed."""
    from crossdock.cli.report import ListReport, ReportFile
    from crossdock.cli.running import close_run, error_of
    from crossdock.cli.tally import Tally
    from crossdock.oci.reference import Reference
    from crossdock.runs.fromarchive import FromArchive

    options = read_options(namespace)
    place = _place(namespace.to, options)
    assert place is not None

    def translate(name: Reference) -> Reference:
        return place.reference(name.repository, name.tag, name.digest)

    with ReportFile(namespace.report) as file:
        work = FromArchive(archive_path(namespace.from_archive), translate)
        tally = Tally(work.totals, work.pairs, keeps_blobs=namespace.report is not None)
        error = error_of(
            lambda session, listen: session.start(work, listen), options, tally, namespace, results="all"
        )
        for message in work.warnings:
            warn(message)
        result = work.result()
        if isinstance(error, Cancelled):
            error = Cancelled(f"cancelled when {result.done} of {len(work.pairs)} copies were done")
        report = ListReport(result, tally)
        return close_run(error or result.failure, report, file, namespace, options, tally.kept)


def _many(pairs: Pairs, namespace: argparse.Namespace, place: ClusterPlace | None) -> ManyCopy:
    """The run: on a cluster, or here."""
    if place is not None:
        from crossdock.clusters.copying import ClusterCopy

        return ClusterCopy(pairs, place, fail_fast=namespace.fail_fast)
    from crossdock.runs.runner import ManyCopy

    return ManyCopy(pairs, fail_fast=namespace.fail_fast)


def _place(text: str | None, options: CopyOptions) -> Namespace | None:
    """The place of ``--to``, whose host may be the name of an entry of the inventory."""
    if text is None:
        return None
    from crossdock.inventory.values import Inventory
    from crossdock.mirroring.names import Namespace

    try:
        return Namespace.parse(Inventory.of(options.registries).addressed(text))
    except InvalidInput as error:
        raise UsageError(f"--to: {error}", advice=error.advice, command=_COMMAND) from None


def _refuse_password(namespace: argparse.Namespace) -> None:
    """Raise `UsageError` when what looks like one more target is the password of a flag without a value."""
    if len(namespace.targets) < 2:
        return
    words = namespace.words
    for flag, word in pairwise(words):
        if flag.endswith("-creds-stdin") and ":" in word and "/" not in word and not word.startswith("-"):
            raise UsageError(
                "passwords are never arguments",
                advice=Advice("give-password", "the -creds-stdin flags read them from stdin"),
                command=_COMMAND,
            )


def _free_stdout(targets: Iterable[str]) -> None:
    """Leave stdout to the archive that is to be written there, if there is one."""
    if any(re.match(r"(oci|docker)-archive:-([:@]|$)", target) for target in targets):
        give_stdout_away()


def _check_reference(text: str, side: Side) -> None:
    """Raise `UsageError` naming the side when `text` is not a reference."""
    from crossdock.oci.reference import parse_location

    try:
        parse_location(text)
    except InvalidInput as error:
        raise UsageError(f"{side}: {error}", advice=error.advice, command=_COMMAND) from None


def _check_archive(namespace: argparse.Namespace) -> None:
    """Raise `UsageError` for arguments that contradict ``--from-archive``, and without ``--to``."""
    if namespace.source is not None or namespace.from_file is not None:
        raise UsageError("--from-archive replaces SOURCE, TARGET and --from-file", command=_COMMAND)
    if namespace.to is None:
        raise UsageError(
            "--from-archive needs --to",
            advice=Advice("give-place", "give HOST[:PORT][/PREFIX], below which the images go"),
            command=_COMMAND,
        )
    if archive_path(namespace.from_archive) == "-" and (
        namespace.source_creds_stdin or namespace.target_creds_stdin
    ):
        raise UsageError(
            "--from-archive - and the -creds-stdin flags both read stdin",
            advice=Advice("give-file", "give the archive as a file"),
            command=_COMMAND,
        )


def _check_list(namespace: argparse.Namespace) -> None:
    """Raise `UsageError` for arguments that contradict ``--from-file``."""
    if namespace.source is not None:
        raise UsageError("--from-file replaces SOURCE and TARGET", command=_COMMAND)
    if namespace.from_file == "-" and (namespace.source_creds_stdin or namespace.target_creds_stdin):
        raise UsageError(
            "--from-file - and the -creds-stdin flags both read stdin",
            advice=Advice("give-file", "give the list as a file"),
            command=_COMMAND,
        )
