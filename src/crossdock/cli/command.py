"""Runs one subcommand and turns whatever ends it into one line and an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from crossdock.cli.arguments import UsageError, parse
from crossdock.cli.exits import ExitCode, exit_code
from crossdock.cli.failure import error_line, traceback_text
from crossdock.cli.streams import prepare_streams, print_error

_MODULES = {
    "copy": "crossdock.cli.copying",
    "inspect": "crossdock.cli.reading",
    "tags": "crossdock.cli.reading",
    "registry": "crossdock.cli.serving",
    "demo": "crossdock.cli.demo",
    "state": "crossdock.cli.state",
    "acr": "crossdock.cli.acr",
    "serve": "crossdock.cli.serve",
    "mirror": "crossdock.cli.mirroring",
    "login": "crossdock.cli.login",
    "logout": "crossdock.cli.login",
}


def run(arguments: Sequence[str]) -> int:
    """Parse, run, report. Returns the exit code; raises nothing."""
    prepare_streams()
    debug = "--debug" in arguments
    try:
        namespace = parse(arguments)
        # Each module's function of the command's name takes the namespace and returns an exit code.
        command = getattr(import_module(_MODULES[namespace.command]), namespace.command)
        return int(command(namespace))
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
