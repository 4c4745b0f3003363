"""The flags of ``crossdock state``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from crossdock.cli.argumentvalues import file_path
from crossdock.cli.units import parse_duration

ACTIONS = ("list", "show", "prune")


def add_state(commands: Any, command: Callable[..., Any]) -> None:
    """Add the command; `command` makes a parser with what all commands have."""
    parser = command(
        commands,
        "state",
        "show what interrupted copies can go on from",
        "Lists, shows and removes what the journal holds of uploads that were interrupted. It is a file on\n"
        "this machine: nothing is sent, and registries remove their half of an upload by themselves.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = _action(actions, command, "list", "list the open uploads, one a line, the newest first")
    show = _action(actions, command, "show", "show all that is known of open uploads, and what runs finished")
    show.add_argument("digest", metavar="DIGEST", nargs="?", help="only this blob; its first digits suffice")
    prune = _action(actions, command, "prune", "forget old uploads; those of running copies stay")
    for action in (listing, prune):
        action.add_argument("--spool", type=file_path, metavar="DIR", help="the blobs in this spool as well")
    which = prune.add_mutually_exclusive_group()
    which.add_argument(
        "--older-than",
        type=_age,
        metavar="TIME",
        help="not written for so long (default 7d: registries keep no session longer)",
    )
    which.add_argument("--all", action="store_true", dest="everything", help="whatever their age")


def _action(actions: Any, command: Callable[..., Any], name: str, summary: str) -> Any:
    parser = command(actions, name, summary)
    parser.add_argument(
        "--state",
        type=file_path,
        dest="folder",
        metavar="DIR",
        help="folder of the journal (default: crossdock in XDG_STATE_HOME, or in ~/.local/state)",
    )
    parser.add_argument(
        "--output", choices=("text", "json"), default="text", help="what stdout holds (default text)"
    )
    return parser


def _age(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
