"""``crossdock copy --from-file``: many copies, one display, one report."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine
from typing import Any

from crossdock.cli.copying import read_options
from crossdock.cli.display import Display, open_display
from crossdock.cli.exits import ExitCode
from crossdock.cli.failure import traceback_text
from crossdock.cli.listing import read_pairs
from crossdock.cli.loop import run_until_done
from crossdock.cli.report import ReportFile, beside_an_error, closing_lines, many_document
from crossdock.cli.resuming import how_to_resume
from crossdock.cli.streams import print_error, print_parts
from crossdock.cli.tally import ManyTally
from crossdock.errors import Cancelled, CopiesFailed, CrossdockError, NothingMatched
from crossdock.events import CopyFailed, Event
from crossdock.many import ManyCopy, ManyListener, ManyResult


def copy_list(namespace: argparse.Namespace) -> int:
    """Copy every pair of the list and say what was done, also when some failed or the rest was cancelled."""
    pairs = read_pairs(namespace.from_file)
    options = read_options(namespace)
    if not pairs:
        print_error(f"crossdock: nothing to copy: {namespace.from_file} names no pair")
    with ReportFile(namespace.report) as report:
        tally = ManyTally(pairs, keeps_blobs=namespace.report is not None)
        display = open_display(namespace.progress, tally)

        listen = listener(namespace, tally, display)
        many = ManyCopy(pairs, options, on_event=listen, fail_fast=namespace.fail_fast)
        error = run_with_display(many.run(), display)
        result = many.result()
        if isinstance(error, Cancelled):
            error = Cancelled(f"cancelled when {result.count('copied')} of {len(pairs)} copies were done")
        elif error is None:
            error = result.failure
        if isinstance(error, CrossdockError):
            error.how_to_resume = how_to_resume(tally.kept, namespace)
        return close_run(
            error,
            show=lambda: _print(result, namespace.output),
            keep=lambda: report.many(result, tally, error),
        )


def listener(namespace: argparse.Namespace, tally: ManyTally, display: Display) -> ManyListener:
    """What a run tells its events to: tally and display; with ``--debug`` what failed shows its traceback."""

    def listen(copy: int, event: Event) -> None:
        tally(event, copy)
        display(event, copy)
        if namespace.debug and isinstance(event, CopyFailed):
            print_error(traceback_text(event.error))

    return listen


def run_with_display(work: Coroutine[Any, Any, None], display: Display) -> BaseException | None:
    """Run it, close the display; what ended the run, None when it came to its end."""
    try:
        run_until_done(work, before_abort=display.restore)
    except BaseException as raised:
        return raised
    finally:
        display.close()
    return None


def close_run(error: BaseException | None, *, show: Callable[[], None], keep: Callable[[], None]) -> int:
    """Show the result and keep the report; raise `error`, also when that cannot be kept.

    What ended for another reason than copies that failed, a cancel or nothing to copy has no result to show.
    """
    if error is None:
        try:
            keep()
        finally:  # neither output is lost because the other cannot be written
            show()
        return ExitCode.DONE
    with beside_an_error():
        keep()
    if isinstance(error, Cancelled | CopiesFailed | NothingMatched):
        show()
    raise error


def _print(result: ManyResult, output: str) -> None:
    if output == "json":
        print_parts(many_document(result))
    else:
        print_parts(f"{line}\n" for line in closing_lines(result))
