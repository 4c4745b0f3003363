"""``crossdock completion``: completion of commands and flags in shells, by shtab."""

from __future__ import annotations

import argparse

from crossdock.cli.exits import ExitCode
from crossdock.cli.parser import Parser, full_parser
from crossdock.cli.streams import print_result

_SHELLS = ("bash", "zsh", "fish")


def add_flags(parser: Parser) -> None:
    """Add the argument of ``completion``."""
    parser.description = (
        "Print a script that completes commands and flags in your shell. bash: source it in ~/.bashrc;\n"
        "zsh: save it as _crossdock in a folder of $fpath; fish: save it as crossdock.fish in\n"
        "~/.config/fish/completions."
    )
    parser.add_argument("shell", choices=_SHELLS, metavar="SHELL", help=", ".join(_SHELLS))


def run(namespace: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    parser = full_parser()
    for each in parser.tree():
        for action in each._actions:
            kind = str(action.metavar)
            if kind.startswith(("FILE", "LIST")) or kind.endswith((".json", ".html")):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif kind == "DIR":
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print_result(shtab.complete(parser, shell=namespace.shell).rstrip("\n"))
    return ExitCode.DONE
