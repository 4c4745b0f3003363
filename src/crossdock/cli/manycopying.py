"""``crossdock copy --from-file``: many copies, one display, one report."""

from __future__ import annotations

import argparse
from contextlib import suppress

from crossdock.cli.copying import read_options
from crossdock.cli.display import open_display
from crossdock.cli.exits import ExitCode
from crossdock.cli.failure import traceback_text
from crossdock.cli.listing import read_pairs
from crossdock.cli.loop import run_until_done
from crossdock.cli.report import ReportFile, closing_lines, many_document
from crossdock.cli.resuming import how_to_resume
from crossdock.cli.streams import print_error, print_parts
from crossdock.cli.tally import ManyTally
from crossdock.errors import Cancelled, CopiesFailed, CrossdockError, StoreError
from crossdock.events import CopyFailed, Event
from crossdock.many import ManyCopy, ManyResult


def copy_list(namespace: argparse.Namespace) -> int:
    """Copy every pair of the list and say what was done, also when some failed or the rest was cancelled."""
    pairs = read_pairs(namespace.from_file)
    options = read_options(namespace)
    if not pairs:
        print_error(f"crossdock: nothing to copy: {namespace.from_file} names no pair")
    with ReportFile(namespace.report) as report:
        tally = ManyTally(pairs, keeps_blobs=namespace.report is not None)
        display = open_display(namespace.progress, tally)

        def listen(copy: int, event: Event) -> None:
            tally(event, copy)
            display(event, copy)
            if namespace.debug and isinstance(event, CopyFailed):
                print_error(traceback_text(event.error))

        many = ManyCopy(pairs, options, on_event=listen, fail_fast=namespace.fail_fast)
        error: BaseException | None = None
        try:
            run_until_done(many.run(), before_abort=display.restore)
        except BaseException as raised:
            error = raised
        finally:
            display.close()
        result = many.result()
        if isinstance(error, Cancelled):
            error = Cancelled(f"cancelled when {result.count('copied')} of {len(pairs)} copies were done")
        elif error is None:
            error = result.failure
        if error is None:
            _print(result, namespace.output)
            report.many(result, tally, None)
            return ExitCode.DONE
        if isinstance(error, CrossdockError):
            error.how_to_resume = how_to_resume(tally.kept, namespace)
        with suppress(StoreError):  # the run's own error is the one to show
            report.many(result, tally, error)
        if isinstance(error, Cancelled | CopiesFailed):
            _print(result, namespace.output)
        raise error


def _print(result: ManyResult, output: str) -> None:
    if output == "json":
        print_parts(many_document(result))
    else:
        print_parts(f"{line}\n" for line in closing_lines(result))
