"""The command line as a namespace. Parsing imports no network code: help is fast."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from keyword import iskeyword
from typing import Any, NoReturn

from crossdock.cli import commands, exits
from crossdock.cli.exits import UsageError


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line as a namespace whose ``run`` runs the command.

    Raises `UsageError`, or SystemExit after ``--help`` has printed.
    """
    parser = Parser(
        prog="crossdock",
        description="Copies container images and OCI artifacts between registries and layouts, byte-exact.",
        epilog=exits.table(),
    )
    # `main` answers it when it comes first; it is listed here for help.
    parser.add_argument("-V", "--version", action="store_true", help="show version and backends, and exit")
    word = arguments[0] if arguments else ""
    table = commands.COMMANDS
    add_commands(parser, "COMMAND", commands.__name__, {word: table[word]} if word in table else table)
    namespace: argparse.Namespace
    namespace, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UsageError(_about_unknown(unknown, namespace.command), command=f"crossdock {namespace.command}")
    namespace.words = list(arguments)  # for the command that resumes
    return namespace


class Parser(argparse.ArgumentParser):
    """Raises instead of ending the process; quotes no possible password; abbreviates as az alone.

    `fill` adds the flags when they are needed: most commands are only named.
    """

    words: Sequence[str] = ()
    """The arguments to parse, for a `fill` that depends on them."""

    def __init__(
        self, *, fill: Callable[[Parser], None] | None = None, allow_abbrev: bool = False, **settings: Any
    ) -> None:
        super().__init__(allow_abbrev=allow_abbrev, formatter_class=_Formatter, **settings)
        self._fill = fill

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, with the flags added first."""
        fill, self._fill = self._fill, None
        if fill is not None:
            self.words = args
            fill(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError`."""
        if "ignored explicit argument" in message:
            message = message.partition(" ignored explicit argument")[0] + " takes no value"
        if message.startswith("ambiguous option: "):  # may be --pass=SECRET
            message = re.sub(r"=.* could match", " could match", message, flags=re.DOTALL)
        unknown = re.fullmatch(r"(?s)argument ([A-Z]+): invalid choice: .* \(choose from (.*)\)", message)
        if unknown is not None:
            message = f"no such {unknown[1].lower()}; there are {unknown[2].replace(chr(39), '')}"
        raise UsageError(message, command=self.prog)


def add_commands(parser: Parser, kind: str, package: str, table: Mapping[str, str], **settings: Any) -> None:
    """Add the commands of `table`, name and summary, each of which is a module of `package`.

    `kind` is what help calls them, and in lower case the member of the namespace that names the one given.
    """
    group = parser.add_subparsers(dest=kind.lower(), metavar=kind, required=True)
    for name, summary in table.items():
        module = f"{package}.{name}{'_' if iskeyword(name) else ''}"
        add_command(group, name, summary, fill=partial(_fill_from, module), **settings)


def add_command(group: Any, name: str, summary: str, **settings: Any) -> Parser:
    """Add one command to subparsers; returns its parser."""
    text = summary[0].upper() + summary[1:] + "."
    parser: Parser = group.add_parser(name, help=summary, description=text, epilog=exits.table(), **settings)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _fill_from(module: str, parser: Parser) -> None:
    command = import_module(module)
    command.add_flags(parser)
    if hasattr(command, "run"):  # a group has none: its commands do
        parser.set_defaults(run=command.run)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """argparse makes one for every flag that is added, and would query the terminal by `shutil` each time."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


@cache
def _columns() -> int:
    """The terminal's width, found as `shutil.get_terminal_size` finds it."""
    try:
        columns = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        columns = 0
    if columns <= 0:
        try:
            columns = os.get_terminal_size(1).columns
        except OSError:
            columns = 0
    return columns or 80


def _about_unknown(words: Sequence[str], command: str) -> str:
    """What is wrong with unknown words. Only flag names are quoted: values may be passwords."""
    flags = [word.partition("=")[0] for word in words if word.startswith("--")]
    flags += [word[:2] for word in words if word.startswith("-") and not word.startswith("--")]
    if command == "login" and any(flag in ("-p", "--password") for flag in flags):
        return "passwords are never arguments: give it on stdin, with --password-stdin"
    if any("cred" in flag or "pass" in flag for flag in flags):
        return f"unknown flag {flags[0]}: passwords are never arguments; the -creds-stdin flags read them"
    if flags:
        return f"unknown flag {', '.join(flags)}"
    return f"{len(words)} argument{'s' if len(words) > 1 else ''} too many"
