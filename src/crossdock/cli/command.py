"""Runs one command and turns every error into a message and an exit code."""

from __future__ import annotations

from collections.abc import Sequence

from crossdock.cli.exits import ExitCode, UsageError, exit_code
from crossdock.cli.failure import error_line, traceback_text
from crossdock.cli.parser import parse
from crossdock.cli.streams import prepare_streams, print_error


def run(arguments: Sequence[str]) -> int:
    """Parse, run, report. Returns the exit code; raises nothing."""
    prepare_streams()
    debug = "--debug" in arguments
    try:
        namespace = parse(arguments)
        return int(namespace.run(namespace))
    except UsageError as error:
        print_error(error_line(error) + ("" if error.hint else f"; see {error.command} --help"))
        return ExitCode.USAGE
    except SystemExit as error:  # argparse, after --help
        return error.code if isinstance(error.code, int) else ExitCode.DONE
    except BaseException as error:
        if debug:
            print_error(traceback_text(error))
        print_error(error_line(error))
        return exit_code(error)
