"""The help of a command: short usage, arguments, flags, examples. Loaded only when help is asked for."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterable
from typing import Any

from crossdock.cli.examples import EXAMPLES

_WIDEST = 100  # longer lines are harder to read, however wide the terminal is


def format_help(parser: argparse.ArgumentParser) -> str:
    """The help of `parser`, as wide as the terminal."""
    formatter = Formatter(parser.prog)
    formatter.add_usage(parser.usage, parser._actions, [])
    formatter.add_text(parser.description)
    for group in parser._action_groups:
        formatter.start_section(group.title)
        formatter.add_text(group.description)
        formatter.add_arguments(group._group_actions)
        formatter.end_section()
    formatter.add_text(epilog(parser.prog))
    return formatter.format_help()


def format_usage(parser: argparse.ArgumentParser) -> str:
    """The usage of `parser`."""
    formatter = Formatter(parser.prog)
    formatter.add_usage(parser.usage, parser._actions, [])
    return formatter.format_help()


def epilog(prog: str) -> str:
    """The end of the help of `prog`: examples, and the command that lists the exit codes."""
    examples = EXAMPLES.get(prog, ())
    title = "example:" if len(examples) == 1 else "examples:"
    codes = "`crossdock help exit-codes` lists the exit codes."
    return "\n".join((title, *(f"  {line}" for line in examples), "", codes) if examples else (codes,))


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Usage with required flags alone, and texts whose lines are wrapped one by one."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=min(shutil.get_terminal_size().columns - 2, _WIDEST))

    def add_usage(
        self, usage: Any, actions: Iterable[argparse.Action], groups: Any, prefix: Any = None
    ) -> None:
        """``crossdock copy [flags] SOURCE TARGET``: the flags have lines of their own below."""
        actions = list(actions)
        flags = argparse.Action([], "flags", metavar="[flags]")
        shown = [each for each in actions if each.required and each.option_strings]
        shown += [flags, *(each for each in actions if not each.option_strings)]
        super().add_usage(usage, shown, [], prefix)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """``-o, --output FORMAT``: the value is named once, as from Python 3.13 on."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(
            textwrap.fill(
                line,
                width,
                initial_indent=indent,
                subsequent_indent=indent + " " * _depth(line),
                break_long_words=False,
                break_on_hyphens=False,
            )
            for line in _paragraphs(text)
        )


def _paragraphs(text: str) -> list[str]:
    """The lines of the text. Successive lines without an indent are joined, except after a colon."""
    lines: list[str] = []
    for line in text.splitlines():
        if lines and lines[-1][:1].strip() and line[:1].strip() and not lines[-1].endswith(":"):
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    return lines


def _depth(line: str) -> int:
    """The indent of the further lines of a line that is too long: four more, if it is indented itself."""
    return 6 if line.startswith("  ") else 0
