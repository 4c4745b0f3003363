"""The command line as a namespace. Parsing imports no network code: help is fast."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from keyword import iskeyword
from typing import Any, NoReturn

from crossdock.cli import commands, exits
from crossdock.cli.exits import UsageError
from crossdock.errors import Advice
from crossdock.units import count


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line as a namespace whose ``run`` runs the command.

    Raises `UsageError`, or SystemExit after ``--help`` has printed.
    """
    parser = Parser(
        prog="crossdock",
        description="Copy container images and OCI artifacts between registries and layouts, unchanged.",
        epilog=exits.table(),
    )
    # `main` handles it; this lists it in the help.
    parser.add_argument("-V", "--version", action="store_true", help="show version and backends, and exit")
    word = arguments[0] if arguments else ""
    table = commands.COMMANDS
    add_commands(parser, "COMMAND", commands.__name__, {word: table[word]} if word in table else table)
    namespace: argparse.Namespace
    namespace, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise _unknown(unknown, namespace.command)
    namespace.words = list(arguments)  # repeated by the advice on how to resume
    return namespace


class Parser(argparse.ArgumentParser):
    """Raises `UsageError` instead of ending the process, and quotes no value that may be a password.

    `fill` adds the flags when the parser is used: help lists most commands only by name.
    """

    words: Sequence[str] = ()
    """The arguments that are parsed, for a `fill` that depends on them."""

    repeated = ""
    """The last positional, if there may be more of it behind flags, where argparse does not look for them."""

    def __init__(
        self, *, fill: Callable[[Parser], None] | None = None, allow_abbrev: bool = False, **settings: Any
    ) -> None:
        super().__init__(allow_abbrev=allow_abbrev, formatter_class=_Formatter, **settings)
        self._fill = fill

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Add the flags, then parse."""
        fill, self._fill = self._fill, None
        if fill is not None:
            self.words = args
            fill(self)
        namespace, unknown = super().parse_known_args(args, namespace)
        if self.repeated and unknown and not any(word.startswith("-") for word in unknown):
            action = next(each for each in self._actions if each.dest == self.repeated)
            getattr(namespace, self.repeated).extend(self._get_value(action, word) for word in unknown)
            unknown = []
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError`."""
        if "ignored explicit argument" in message:
            message = message.partition(" ignored explicit argument")[0] + " takes no value"
        if message.startswith("ambiguous option: "):  # may be --pass=SECRET
            message = re.sub(r"=.* could match", " could match", message, flags=re.DOTALL)
        # The converter's error is the context of argparse's.
        advice = getattr(getattr(sys.exception(), "__context__", None), "advice", None)
        choice = re.fullmatch(r"(?s)(argument (.+): invalid choice: .*) \(choose from (.*)\)", message)
        if choice is not None:
            message, name, words = choice.groups()
            kind = name.lower() if name.isupper() else "value"  # COMMAND; else a flag
            if kind != "value":
                message = f"no such {kind}"  # the word may be a password
            words = words.replace("'", "")
            advice = Advice("see-help", f"the {kind}s are {words}; see {self.prog} --help")
        raise UsageError(message, advice=advice, command=self.prog)


def add_commands(parser: Parser, kind: str, package: str, table: Mapping[str, str], **settings: Any) -> None:
    """Add the commands in `table` (summaries by name), each a module of `package`.

    `kind` is the name for them in help; in lower case it is the namespace's member with the chosen one.
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
    if hasattr(command, "run"):  # a group's module has none
        parser.set_defaults(run=command.run)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """With a cached width: argparse makes a formatter for every flag, and each would query the terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


@cache
def _columns() -> int:
    """The terminal's width, as `shutil.get_terminal_size` would find it."""
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


def _unknown(words: Sequence[str], command: str) -> UsageError:
    """The error for unknown arguments. It quotes only flag names, since values may be passwords."""
    flags = [word.partition("=")[0] for word in words if word.startswith("--")]
    flags += [word[:2] for word in words if word.startswith("-") and not word.startswith("--")]
    message = f"unknown flag {', '.join(flags)}" if flags else f"{count(len(words), 'argument')} too many"
    advice = None
    if command == "login" and any(flag in ("-p", "--password") for flag in flags):
        advice = "passwords are never arguments: give it on stdin with --password-stdin"
    elif any("cred" in flag or "pass" in flag for flag in flags):
        advice = "passwords are never arguments: the -creds-stdin flags read them from stdin"
    return UsageError(
        message,
        advice=Advice("give-password", advice) if advice else None,
        command=f"crossdock {command}",
    )
