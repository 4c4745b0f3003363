"""The commands: each is a module with its flags, and only the one that was given is loaded."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from keyword import iskeyword

import pytest

from crossdock.cli.command import run
from crossdock.cli.commands import COMMANDS, acr
from crossdock.cli.parser import Parser
from crossdock.options import CopyOptions, NetworkOptions, RegistryOptions

ALL = [(name,) for name in COMMANDS] + [("acr", name) for name in acr.COMMANDS]


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_each_command_is_a_module_with_flags_and_help(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    package = ".".join(("crossdock.cli.commands", *words[:-1]))
    module = import_module(f"{package}.{words[-1]}{'_' if iskeyword(words[-1]) else ''}")
    assert callable(module.add_flags)
    assert hasattr(module, "run") != hasattr(module, "COMMANDS")  # a command or a group
    assert run([*words, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: crossdock {' '.join(words)} ")


@pytest.mark.parametrize("words", [("copy",), ("mirror",), ("acr", "import")], ids=" ".join)
def test_each_option_fills_a_field_that_exists(words: tuple[str, ...]) -> None:
    known = {each.name for each in fields(CopyOptions)}
    known |= {f"network.{each.name}" for each in fields(NetworkOptions)}
    known |= {f"{side}.{each.name}" for side in ("source", "target") for each in fields(RegistryOptions)}
    parser = Parser(prog="crossdock")
    module = ".".join(("crossdock.cli.commands", *words)).replace(".import", ".import_")
    import_module(module).add_flags(parser)
    filled = {action.dest for action in parser._actions if action.dest.startswith("options.")}
    assert filled
    assert {dest.removeprefix("options.") for dest in filled} <= known
