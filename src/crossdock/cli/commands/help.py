"""``crossdock help``."""

from __future__ import annotations

import argparse

from crossdock.cli import exits
from crossdock.cli.exits import ExitCode, UsageError
from crossdock.cli.parser import Parser, did_you_mean, root_parser
from crossdock.cli.streams import print_result
from crossdock.errors import Advice

_EXIT_CODES = "exit-codes"


def add_flags(parser: Parser) -> None:
    """Add the arguments of ``help``."""
    parser.add_argument(
        "topic",
        metavar="COMMAND",
        nargs="*",
        help=f"the command to explain, such as copy or state list; {_EXIT_CODES} lists the exit codes",
    )


def run(namespace: argparse.Namespace) -> int:
    """Print the help of a command, or the exit codes."""
    if namespace.topic == [_EXIT_CODES]:
        print_result(exits.table())
        return ExitCode.DONE
    parser = root_parser()
    for word in namespace.topic:
        known = parser.children()
        if word not in known:
            names = [*known, _EXIT_CODES]
            advice = did_you_mean(word, names) or f"there is help on {', '.join(names)}"
            raise UsageError("no such topic", advice=Advice("see-help", advice), command="crossdock help")
        parser = known[word]
        parser.fill()
    print_result(parser.format_help().rstrip("\n"))
    return ExitCode.DONE
