"""Runs one command and turns every error into a message and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from crossdock.cli.exits import ExitCode, UsageError, exit_code
from crossdock.cli.failure import error_text, fold, line_width, traceback_text
from crossdock.cli.parser import parse
from crossdock.cli.streams import be_quiet, prepare_streams, print_error

if TYPE_CHECKING:
    from argparse import Namespace

    from crossdock.cli.advice import Face


_FACES: Mapping[str, Face] = {"acr": "acr", "plan": "file", "apply": "file"}


def run(arguments: Sequence[str]) -> int:
    """Parse, run, report. Returns the exit code; raises nothing."""
    prepare_streams()
    debug = "--debug" in arguments
    face = _FACES.get(arguments[0] if arguments else "", "copy")
    try:
        namespace = parse(arguments)
        be_quiet(getattr(namespace, "quiet", False))
        if getattr(namespace, "verbose", False):
            _show_requests(namespace)
        return int(namespace.run(namespace))
    except SystemExit as error:  # argparse, after --help
        return error.code if isinstance(error.code, int) else ExitCode.DONE
    except BaseException as error:
        is_usage = isinstance(error, UsageError)
        if debug and not is_usage:
            print_error(traceback_text(error))
        width = None if debug else line_width(sys.stderr)
        print_error(error_text(error, face, width=width))
        return ExitCode.USAGE if is_usage else exit_code(error)


def _show_requests(namespace: Namespace) -> None:
    """Print each request and response to stderr, and progress as lines between them."""
    import logging

    class Printer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print_error(fold(record.getMessage()))

    log = logging.getLogger("crossdock.transport")
    log.setLevel(logging.DEBUG)
    log.handlers[:] = [Printer()]
    if getattr(namespace, "progress", "") == "auto":
        namespace.progress = "plain"
