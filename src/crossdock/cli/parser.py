"""The command line as a namespace. Parsing imports no network code: help is fast."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from keyword import iskeyword
from typing import Any, NoReturn

from crossdock.cli import commands
from crossdock.cli.exits import UsageError
from crossdock.errors import Advice
from crossdock.units import count


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line as a namespace whose ``run`` runs the command.

    Raises `UsageError`, or SystemExit after ``--help`` has printed.
    """
    table = commands.COMMANDS
    word = arguments[0] if arguments else ""
    parser = root_parser({word: table[word]} if word in table else table)
    namespace: argparse.Namespace
    namespace, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise _unknown(unknown, namespace.parser)
    if getattr(namespace, "quiet", False):
        namespace.progress, namespace.only_show_errors = "none", True
        if getattr(namespace, "output", "") is None:  # those of `acr`, whose default is JSON
            namespace.output = "none"
    namespace.words = list(arguments)  # repeated by the advice on how to resume
    return namespace


def root_parser(table: Mapping[str, str] = commands.COMMANDS) -> Parser:
    """The parser of the command with the commands in `table`."""
    parser = Parser(
        prog="crossdock",
        description="Copy container images and OCI artifacts between registries and layouts, unchanged.",
    )
    # `main` handles it; this lists it in the help.
    parser.add_argument("-V", "--version", action="store_true", help="show version and backends, and exit")
    add_commands(parser, "COMMAND", commands.__name__, table)
    return parser


def full_parser() -> Parser:
    """The parser with the flags of all commands, for completion, the manual and the reference."""
    parser = root_parser()
    for _ in parser.tree():
        pass
    return parser


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
        # The width is of no use here; without it argparse would query the terminal for every flag.
        plain = partial(argparse.HelpFormatter, width=80)
        super().__init__(allow_abbrev=allow_abbrev, formatter_class=plain, **settings)
        self._positionals.title, self._optionals.title = "arguments", "flags"
        self._fill = fill

    def fill(self, words: Sequence[str] = ()) -> None:
        """Add the flags, unless that is done."""
        fill, self._fill = self._fill, None
        if fill is not None:
            self.words = words
            fill(self)

    def tree(self) -> Iterator[Parser]:
        """This parser and all below it, with their flags."""
        self.fill()
        yield self
        for child in self.children().values():
            yield from child.tree()

    def children(self) -> Mapping[str, Parser]:
        """The parsers of the commands below this one, by name."""
        groups = [each for each in self._actions if isinstance(each, argparse._SubParsersAction)]
        return groups[0].choices if groups else {}

    def flags(self) -> list[str]:
        """The flags that help lists."""
        shown = (each for each in self._actions if each.help is not argparse.SUPPRESS)
        return [flag for each in shown for flag in each.option_strings]

    def format_usage(self) -> str:
        """The usage in one line, if it fits."""
        from crossdock.cli import helptext

        return helptext.format_usage(self)

    def format_help(self) -> str:
        """The help: usage, arguments, flags, examples."""
        from crossdock.cli import helptext  # only when help is asked for

        return helptext.format_help(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Add the flags, then parse."""
        self.fill(args)
        namespace, unknown = super().parse_known_args(args, namespace)
        if not hasattr(namespace, "parser"):  # the innermost parser is done first
            namespace.parser = self
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
        choice = re.fullmatch(r"(?s)(argument (.+): invalid choice: (.*)) \(choose from (.*)\)", message)
        if choice is not None:
            message, name, word, words = choice.groups()
            kind = name.lower() if name.isupper() else "value"  # COMMAND; else a flag
            if kind != "value":
                message = f"no such {kind}"  # the word may be a password
            words = words.replace("'", "")
            meant = did_you_mean(word.strip("'"), words.split(", "))
            advice = Advice("see-help", f"{meant or f'the {kind}s are {words};'} see {self.prog} --help")
        raise UsageError(message, advice=advice, command=self.prog)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean X?`` for the known word that is most like `word`; empty if none is."""
    from difflib import get_close_matches  # only needed after mistakes

    found = get_close_matches(word, known, 1, 0.7)
    return f"did you mean {found[0]}?" if found else ""


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
    parser: Parser = group.add_parser(name, help=summary, description=text, **settings)
    parser.add_argument(
        *("-v", "--verbose"),
        action="store_true",
        default=argparse.SUPPRESS,  # a default of the action would undo the flag before it
        help="show every request on stderr",
    )
    parser.add_argument(
        *("-q", "--quiet"),
        action="store_true",
        default=argparse.SUPPRESS,
        help="print only errors and one closing line",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _fill_from(module: str, parser: Parser) -> None:
    command = import_module(module)
    command.add_flags(parser)
    if hasattr(command, "run"):  # a group's module has none
        parser.set_defaults(run=command.run)


def _unknown(words: Sequence[str], parser: Parser) -> UsageError:
    """The error for arguments that `parser` does not know. It quotes only the names of flags: values may be
    passwords.
    """
    flags = [word.partition("=")[0] for word in words if word.startswith("--")]
    flags += [word[:2] for word in words if word.startswith("-") and not word.startswith("--")]
    message = f"unknown flag {', '.join(flags)}" if flags else f"{count(len(words), 'argument')} too many"
    kind, advice = "give-password", None
    if parser.prog == "crossdock login" and any(flag in ("-p", "--password") for flag in flags):
        advice = "passwords are never arguments: give it on stdin with --password-stdin"
    elif any("cred" in flag or "pass" in flag for flag in flags):
        advice = "passwords are never arguments: the -creds-stdin flags read them from stdin"
    elif flags and (told := _OF_OTHER_TOOLS.get(flags[0]) or did_you_mean(flags[0], parser.flags())):
        kind, advice = "see-help", f"{told} see {parser.prog} --help"
    return UsageError(message, advice=Advice(kind, advice) if advice else None, command=parser.prog)


_CERTIFICATES = "certificates are always verified: name the registry's CA, or choose plain HTTP;"
_OF_OTHER_TOOLS = {
    "--all": "all platforms are copied unless --platform is given;",
    "--multi-arch": "all platforms are copied unless --platform is given;",
    "--insecure": _CERTIFICATES,
    "--tls-verify": _CERTIFICATES,
    "--src-tls-verify": _CERTIFICATES,
    "--dest-tls-verify": _CERTIFICATES,
    "--force": "tags are overwritten unless --existing says otherwise;",
}
"""Substitutes for flags of skopeo, crane and other tools."""
