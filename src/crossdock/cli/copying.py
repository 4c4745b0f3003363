"""``crossdock copy`` of one source to one target."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from crossdock import api
from crossdock.cli.arguments import UsageError, copy_options
from crossdock.cli.display import open_display
from crossdock.cli.exits import ExitCode
from crossdock.cli.loop import run_until_done
from crossdock.cli.report import ReportFile, beside_an_error, closing_line
from crossdock.cli.resuming import how_to_resume
from crossdock.cli.streams import print_json, print_result, read_credentials
from crossdock.cli.tally import Tally
from crossdock.errors import Cancelled, CrossdockError, InvalidInput, Side
from crossdock.events import Event
from crossdock.oci.reference import parse_location
from crossdock.options import CopyOptions


def copy(namespace: argparse.Namespace) -> int:
    """Copy ``namespace.source`` to ``namespace.target``, or what the list says, and say what was done."""
    if namespace.from_file is not None:
        from crossdock.cli.manycopying import copy_list

        return copy_list(namespace)
    check_reference(namespace.source, "source")
    check_reference(namespace.target, "target")
    options = read_options(namespace)
    with ReportFile(namespace.report) as report:
        tally = Tally()
        try:
            result = copy_with_display(namespace.source, namespace.target, options, namespace.progress, tally)
        except BaseException as error:
            if isinstance(error, CrossdockError):
                error.how_to_resume = how_to_resume(tally.kept, namespace)
            with beside_an_error():
                report.failure(namespace.source, namespace.target, error, tally)
            raise
        try:
            report.success(result, tally)
        finally:  # neither output is lost because the other cannot be written
            if namespace.output == "json":
                print_json(result.as_dict())
            else:
                print_result(closing_line(result))
    return ExitCode.DONE


def read_options(namespace: argparse.Namespace) -> CopyOptions:
    """The options of a copy, with the credentials that stdin holds."""
    source = read_credentials("--src-creds-stdin") if namespace.source_creds_stdin else None
    target = read_credentials("--dest-creds-stdin") if namespace.target_creds_stdin else None
    return copy_options(namespace, source, target)


def check_reference(text: str, side: Side) -> None:
    """Raise `UsageError` naming the side when `text` is no reference."""
    try:
        parse_location(text)
    except InvalidInput as error:
        raise UsageError(f"{side}: {error}", hint=error.hint, command="crossdock copy") from None


def copy_with_display(
    source: str,
    target: str,
    options: CopyOptions,
    progress: str,
    tally: Tally,
    *,
    before_abort: Callable[[], None] = lambda: None,
) -> api.CopyResult:
    """Copy under signal handlers, shown on stderr as `progress` says, counted in `tally`.

    `before_abort` is called when a later signal ends the process at once.
    """
    display = open_display(progress, tally)

    def abort() -> None:
        display.restore()
        before_abort()

    def listen(event: Event) -> None:
        tally(event)
        display(event)

    try:
        work = api.copy(source, target, options, on_event=listen)
        return run_until_done(work, before_abort=abort)
    except Cancelled as error:
        raise Cancelled(f"copy of {source} to {target} was cancelled") from error
    finally:
        display.close()
