"""Runs copies with signal handlers and a display, and ends them with their reports."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, TextIO, TypeVar

from crossdock.cli.display import Display, JsonDisplay, NoDisplay, PlainDisplay
from crossdock.cli.exits import ExitCode
from crossdock.cli.failure import is_terminal, traceback_text
from crossdock.cli.loop import run_until_done
from crossdock.cli.report import Report, ReportFile, beside_an_error
from crossdock.cli.resultline import result_line, result_width
from crossdock.cli.streams import ResultWriter, is_quiet, print_error, print_lines, print_parts
from crossdock.cli.tally import Kept, Tally
from crossdock.errors import (
    Cancelled,
    CopiesFailed,
    CrossdockError,
    NothingMatched,
    Resume,
)
from crossdock.events import BlobSpooled, CopyDone, CopyFailed, Event, UploadKept
from crossdock.options import CopyOptions, default_state_folder
from crossdock.runs.one import CopyResult
from crossdock.runs.run import Run
from crossdock.session import Session
from crossdock.units import format_size

T = TypeVar("T")

Results = Literal["none", "changed", "all"]
"""The copies of a run whose results are written to stdout as they end."""

Listen = Callable[[int | None, Event], None]
"""Takes an event of the copy with an index, or of none of them."""


def run_shown(
    start: Callable[[Session, Listen], Run[T]],
    options: CopyOptions,
    tally: Tally,
    mode: str,
    *,
    debug: bool = False,
    results: Results = "none",
    before_abort: Callable[[], None] = lambda: None,
) -> T:
    """The result of the run that `start` makes in a session, shown as ``--progress MODE`` says.

    A signal cancels it, and a second one calls `before_abort` and ends the process. With `debug` the
    traceback of each copy that fails is printed.
    """
    if debug and mode == "auto":
        mode = "plain"  # tracebacks would be written into a picture
    writer = ResultWriter() if results != "none" else None
    display = open_display(mode, tally, results=writer)
    is_many, width = tally.is_many, result_width(sys.stdout)

    def listen(copy: int | None, event: Event) -> None:
        if copy is not None:
            tally(event, copy)
        display(event, copy if is_many else None)
        if (
            writer is not None
            and copy is not None
            and isinstance(event, CopyDone)
            and (event.changed or results == "all")
        ):
            display.result(result_line(*tally.pair(copy), event, width))
        if debug and isinstance(event, CopyFailed):
            print_error(traceback_text(event.error))

    async def work() -> T:
        async with Session(options) as session:
            run = start(session, listen)
            tally.totals = run.totals
            return await run

    def abort() -> None:
        display.restore()
        before_abort()

    try:
        return run_until_done(work(), before_abort=abort)
    finally:
        display.close()
        if writer is not None:
            writer.finish()


def error_of(
    start: Callable[[Session, Listen], Run[Any]],
    options: CopyOptions,
    tally: Tally,
    namespace: argparse.Namespace,
    *,
    results: Results = "none",
) -> BaseException | None:
    """Run and show what `start` makes, as the flags say, and return its error; None: it succeeded.

    For commands that show a result even after an error. `results`: of text on stdout.
    """
    if namespace.output == "json" or is_quiet():
        results = "none"
    try:
        run_shown(start, options, tally, namespace.progress, debug=namespace.debug, results=results)
    except BaseException as error:
        return error
    return None


def copy_shown(
    source: str,
    target: str,
    options: CopyOptions,
    tally: Tally,
    mode: str,
    *,
    before_abort: Callable[[], None] = lambda: None,
) -> CopyResult:
    """Copy as `run_shown` runs it."""

    def start(session: Session, listen: Listen) -> Run[CopyResult]:
        return session.copy(source, target, on_event=lambda event: listen(0, event))

    try:
        return run_shown(start, options, tally, mode, before_abort=before_abort)
    except Cancelled as error:
        raise Cancelled(f"copy of {source} to {target} was cancelled") from error


def close_run(
    error: BaseException | None,
    report: Report,
    file: ReportFile,
    namespace: argparse.Namespace,
    options: CopyOptions,
    kept: Sequence[Kept],
) -> int:
    """Write the report to its file and to stdout; raise `error`, with how to resume.

    An error is raised also when the file cannot be written. A run that an internal error ended, or a usage
    error, has nothing to show on stdout.
    """
    if error is None:
        try:
            file.write(report.file(None))
        finally:  # each is written even if the other fails
            _show(report, namespace.output)
        return ExitCode.DONE
    if isinstance(error, CrossdockError):
        error.resume = how_to_resume(kept, namespace.words, options)
    with beside_an_error():
        file.write(report.file(error))
    if isinstance(error, Cancelled | CopiesFailed | NothingMatched):
        _show(report, namespace.output)
    raise error


def _show(report: Report, output: str) -> None:
    if output == "json":
        print_parts(report.document())
    else:
        print_lines(report.lines())


def how_to_resume(kept: Sequence[Kept], words: Sequence[str], options: CopyOptions) -> Resume | None:
    """How to resume: the command `words` and where it resumes. None when nothing was kept."""
    if not kept:
        return None
    import shlex

    uploads = [each for each in kept if isinstance(each, UploadKept)]
    spooled = sum(each.kept for each in kept if isinstance(each, BlobSpooled))
    where = [f"at {_places(uploads)}"] if uploads else []
    where += [f"with {format_size(spooled)} from the spool"] if spooled else []
    listing = ["crossdock", "state", "list"]
    if uploads and options.state != default_state_folder(os.environ):
        listing += ["--state", str(options.state)]
    if spooled:
        listing += ["--spool", str(options.spool)]
    command = shlex.join(["crossdock", *words])
    text = f"to resume {', '.join(where)}, run again: {command} (what is kept: {shlex.join(listing)})"
    return Resume(command, text)


def _places(uploads: Sequence[UploadKept]) -> str:
    sizes = ", ".join(f"{format_size(each.offset)} of {format_size(each.size)}" for each in uploads[:3])
    return sizes + (f" and {len(uploads) - 3} more" if len(uploads) > 3 else "")


def open_display(
    mode: str, tally: Tally, stream: TextIO | None = None, *, results: ResultWriter | None = None
) -> Display:
    """The display for ``--progress MODE``. `tally` must be fed before the display is.

    `results` gets the results of copies; it is the caller's to finish.
    """
    stream = stream or sys.stderr
    if mode == "auto":
        can_be_drawn_on = is_terminal(stream) and os.environ.get("TERM", "dumb") != "dumb"
        mode = "live" if can_be_drawn_on else "quiet"
    if mode == "live":
        from crossdock.cli.live import LiveDisplay  # not needed elsewhere

        return LiveDisplay(tally, stream, results)
    if mode == "json":
        return JsonDisplay(tally, stream, results=results)
    if mode in ("plain", "quiet"):
        return PlainDisplay(tally, stream, eager=mode == "plain", results=results)
    return NoDisplay(tally, stream, results)
