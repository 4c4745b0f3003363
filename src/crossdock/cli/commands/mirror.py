"""``crossdock mirror``: a registry's repositories and tags, one display, one report."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from crossdock.cli.exits import ExitCode, UsageError
from crossdock.cli.flags import add_copying, read_options
from crossdock.cli.parser import Parser
from crossdock.cli.streams import print_result, warn
from crossdock.errors import Cancelled, InvalidInput

if TYPE_CHECKING:
    from crossdock.mirroring.run import MirrorResult, MirrorRun
    from crossdock.oci.reference import Reference
    from crossdock.options import CopyOptions
    from crossdock.runs.results import PairResult
    from crossdock.runs.run import Run


def add_flags(parser: Parser) -> None:
    """Add the flags of ``mirror``."""
    parser.description = (
        "Copy all repositories and tags of SOURCE to every TARGET. Nothing is deleted at a target.\n"
        "SOURCE and TARGET are HOST[:PORT][/PREFIX]; an inventory entry's name may replace HOST[:PORT].\n"
        "Patterns are shell patterns, except that * also matches slashes."
    )
    parser.add_argument("source", metavar="SOURCE", help="registry to copy from")
    parser.add_argument("targets", metavar="TARGET", nargs="+", help="registry to copy to; repeatable")
    what = parser.add_argument_group("selection")
    what.add_argument(
        "--repository",
        dest="repositories",
        action="append",
        default=[],
        metavar="PATTERN",
        help="mirror only these repositories, named relative to PREFIX; repeatable; the catalog is queried "
        "only for patterns",
    )
    what.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="skip these repositories; repeatable",
    )
    what.add_argument(
        "--tags", action="append", default=[], metavar="PATTERN", help="mirror only these tags; repeatable"
    )
    what.add_argument(
        "--untagged",
        action="store_true",
        help="also mirror manifests without a tag, if the source lists them (Azure)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="copy nothing; print the pairs that would be checked, in the format of `copy --from-file`",
    )
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first copy that fails")
    add_copying(parser)


def run(namespace: argparse.Namespace) -> int:
    """Mirror, and print the result."""
    from crossdock.cli.loop import run_until_done
    from crossdock.cli.report import MirrorReport, ReportFile
    from crossdock.cli.running import Listen, close_run, run_shown
    from crossdock.cli.tally import Tally
    from crossdock.events import Warned
    from crossdock.session import Session

    options = read_options(namespace)
    mirroring = _run_of(namespace, options)
    if namespace.dry_run:
        mirroring.on_warning = warn
        run_until_done(mirroring.list_pairs(_print_pair))
        return ExitCode.DONE
    keeps_blobs = namespace.report is not None
    report = MirrorReport(len(namespace.targets), is_json=namespace.output == "json", has_file=keeps_blobs)
    with ReportFile(namespace.report) as file, report:
        tally = Tally(mirroring.totals, mirroring.window, keeps_blobs=keeps_blobs)

        def keep(copy: int, result: PairResult) -> None:
            report.add(result, tally.blobs(copy))
            tally.forget(copy)

        def start(session: Session, listen: Listen) -> Run[MirrorResult]:
            mirroring.on_result = keep
            mirroring.on_warning = lambda message: listen(None, Warned(message))
            return session.start(mirroring, listen)

        error: BaseException | None = None
        try:
            run_shown(start, options, tally, namespace.progress, debug=namespace.debug)
        except BaseException as raised:
            error = raised
        result = mirroring.result()
        if isinstance(error, Cancelled):
            done = result.copied + result.unchanged
            error = Cancelled(f"cancelled when {done} of {result.copies} copies were done")
        report.finish(result)
        return close_run(error or result.failure, report, file, namespace, options, tally.kept)


def _run_of(namespace: argparse.Namespace, options: CopyOptions) -> MirrorRun:
    from crossdock.inventory.values import Inventory
    from crossdock.mirroring.names import Namespace, Selection
    from crossdock.mirroring.run import MirrorRun

    registries = options.registries
    inventory = registries if isinstance(registries, Inventory) else Inventory()
    try:
        return MirrorRun(
            Namespace.parse(inventory.addressed(namespace.source)),
            [Namespace.parse(inventory.addressed(each)) for each in namespace.targets],
            Selection(tuple(namespace.repositories), tuple(namespace.exclude), tuple(namespace.tags)),
            options,
            untagged=namespace.untagged,
            fail_fast=namespace.fail_fast,
        )
    except InvalidInput as error:
        raise UsageError(str(error), advice=error.advice, command="crossdock mirror") from None


def _print_pair(source: Reference, target: Reference) -> None:
    print_result(f"{source} {target}")
