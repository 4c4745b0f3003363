"""Runs one command and turns every error into a message and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crossdock.cli.exits import ExitCode, UsageError, exit_code
from crossdock.cli.failure import error_text, line_width, traceback_text
from crossdock.cli.parser import parse
from crossdock.cli.streams import prepare_streams, print_error

if TYPE_CHECKING:
    from crossdock.cli.advice import Face


def run(arguments: Sequence[str]) -> int:
    """Parse, run, report. Returns the exit code; raises nothing."""
    prepare_streams()
    debug = "--debug" in arguments
    face: Face = "acr" if arguments[:1] == ["acr"] else "copy"
    try:
        namespace = parse(arguments)
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
