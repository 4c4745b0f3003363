"""``crossdock mirror``: a registry's repositories and tags, one display, one report."""

from __future__ import annotations

import argparse

from crossdock.cli.arguments import UsageError
from crossdock.cli.copying import read_options
from crossdock.cli.display import open_display
from crossdock.cli.exits import ExitCode
from crossdock.cli.loop import run_until_done
from crossdock.cli.manycopying import close_run, listener, run_with_display
from crossdock.cli.mirrorreport import Ledger
from crossdock.cli.report import ReportFile
from crossdock.cli.resuming import how_to_resume
from crossdock.cli.streams import print_parts, print_result, warn
from crossdock.cli.tally import ManyTally
from crossdock.errors import Cancelled, CrossdockError, InvalidInput
from crossdock.events import Warned
from crossdock.inventory.values import Inventory
from crossdock.many import PairResult
from crossdock.mirroring.names import Namespace, Selection
from crossdock.mirroring.run import MirrorResult, MirrorRun
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions


def mirror(namespace: argparse.Namespace) -> int:
    """Mirror ``namespace.source`` to ``namespace.targets`` and say what was done."""
    options = read_options(namespace)
    mirroring = _run_of(namespace, options)
    if namespace.dry_run:
        mirroring.on_warning = warn
        run_until_done(mirroring.list_pairs(_print_pair))
        return ExitCode.DONE
    with ReportFile(namespace.report) as report, Ledger(namespace) as ledger:
        tally = ManyTally(mirroring.window, keeps_blobs=namespace.report is not None)
        display = open_display(namespace.progress, tally)

        def keep(copy: int, result: PairResult) -> None:
            ledger.add(result, tally.blobs(copy))
            tally.forget(copy)

        mirroring.on_event, mirroring.on_result = listener(namespace, tally, display), keep
        mirroring.on_warning = lambda message: display(Warned(message))
        error = run_with_display(mirroring.run(), display)
        return _close(namespace, mirroring.result(), tally, error, ledger, report)


def _close(
    namespace: argparse.Namespace,
    result: MirrorResult,
    tally: ManyTally,
    error: BaseException | None,
    ledger: Ledger,
    report: ReportFile,
) -> int:
    if isinstance(error, Cancelled):
        done = result.copied + result.unchanged
        error = Cancelled(f"cancelled when {done} of {result.copies} copies were done")
    elif error is None:
        error = result.failure
    ledger.finish(result)
    if isinstance(error, CrossdockError):
        error.how_to_resume = how_to_resume(tally.kept, namespace)
    return close_run(
        error,
        show=lambda: print_parts(ledger.shown(result)),
        keep=lambda: report.write(ledger.report(result, error)),
    )


def _run_of(namespace: argparse.Namespace, options: CopyOptions) -> MirrorRun:
    registries = options.registries
    inventory = registries if isinstance(registries, Inventory) else Inventory()
    try:
        return MirrorRun(
            _place(namespace.source, inventory),
            [_place(each, inventory) for each in namespace.targets],
            Selection(tuple(namespace.repositories), tuple(namespace.exclude), tuple(namespace.tags)),
            options,
            untagged=namespace.untagged,
            fail_fast=namespace.fail_fast,
        )
    except InvalidInput as error:
        raise UsageError(str(error), hint=error.hint, command="crossdock mirror") from None


def _place(text: str, inventory: Inventory) -> Namespace:
    """The namespace, whose host may be the name of an entry of the inventory."""
    host, slash, prefix = text.partition("/")
    if (entry := inventory.find(host)) is not None:
        text = f"{entry.login_server}{slash}{prefix}"
    return Namespace.parse(text)


def _print_pair(source: Reference, target: Reference) -> None:
    print_result(f"{source} {target}")
