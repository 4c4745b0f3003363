"""Shared by ``acr manifest`` and ``acr repository``: showing, locking and deleting items."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from crossdock.acr import changes, metadata
from crossdock.cli.commands.acr.defaults import prepare
from crossdock.cli.commands.acr.output import print_output
from crossdock.cli.commands.acr.words import command_of, options_of
from crossdock.cli.exits import ExitCode, UsageError
from crossdock.cli.loop import run_until_done
from crossdock.cli.parser import Parser, add_command
from crossdock.cli.streams import print_bytes, warn
from crossdock.errors import (
    Advice,
    Cancelled,
)
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions

Act = Callable[[argparse.Namespace, CopyOptions], Any]
"""Executes a verb and returns its output: bytes, or values for JSON."""

LOCKS = {
    "write": ("writeEnabled", "pushing and deleting"),
    "delete": ("deleteEnabled", "deleting"),
    "read": ("readEnabled", "pulling"),
    "list": ("listEnabled", "showing it in lists"),
}
"""The lock flags: the attribute that each sets, and what it permits."""

_NO_TTY = "Unable to prompt for confirmation as no tty available. Use --yes."


def run(namespace: argparse.Namespace) -> int:
    """Run the verb; its result goes to stdout."""
    prepare(namespace)
    found = namespace.act(namespace, options_of(namespace))
    if isinstance(found, bytes):
        print_bytes(found)
    else:
        print_output(found, namespace.output, namespace.query)
    return ExitCode.DONE


def add_verb(verbs: Any, name: str, summary: str, act: Act) -> Parser:
    """Add a verb to subparsers; returns its parser."""
    parser = add_command(verbs, name, summary, allow_abbrev=True)
    parser.set_defaults(act=act)
    return parser


def add_locks(parser: Parser) -> None:
    """Add the flags of `change`."""
    for name, (_, text) in LOCKS.items():
        parser.add_argument(
            f"--{name}-enabled", nargs="?", const=True, type=_flag, metavar="true|false", help=f"allow {text}"
        )


def add_yes(parser: Parser) -> None:
    """Add ``--yes``, with which `confirm` does not ask."""
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask for confirmation")


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError("must be true or false")
    return text.lower() == "true"


def list_manifests(namespace: argparse.Namespace, options: CopyOptions, repository: Reference) -> Any:
    """The registry's metadata of the manifests of a repository, in the order that the flags name."""
    order = order_of(namespace)
    return run_until_done(
        metadata.list_manifests(repository, options, order=order, top=namespace.top, on_warning=warn)
    )


def order_of(namespace: argparse.Namespace) -> Any:
    """``--orderby`` as `crossdock.acr.metadata` takes it."""
    return namespace.orderby and namespace.orderby.replace("_", "")


def change(namespace: argparse.Namespace, item: Reference, options: CopyOptions) -> Any:
    """Change the locks of an item; without a flag show it, as az does."""
    attributes = {
        attribute: value
        for name, (attribute, _) in LOCKS.items()
        if (value := getattr(namespace, f"{name}_enabled")) is not None
    }
    if not attributes:
        return run_until_done(metadata.show_item(item, options))
    return run_until_done(changes.change_attributes(item, attributes, options))


def delete_digest(item: Reference, digest: Digest, options: CopyOptions) -> None:
    """Delete the manifest `digest` of the item's repository."""
    run_until_done(changes.delete_manifest(replace(item, tag=None, digest=digest), options))


def check_terminal(namespace: argparse.Namespace) -> None:
    """Raise `UsageError`, before any request, if a confirmation is needed and stdin is not a terminal."""
    if not namespace.yes and not sys.stdin.isatty():
        raise UsageError(_NO_TTY, command=command_of(namespace))


def confirm(namespace: argparse.Namespace, question: str) -> None:
    """Ask on the terminal, unless ``--yes`` is given. Raises `Cancelled` for no."""
    check_terminal(namespace)
    while not namespace.yes:
        print(f"{question} (y/n): ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if answer.strip().lower() == "y":
            return
        if answer.strip().lower() == "n" or not answer:
            raise Cancelled("Operation cancelled.", advice=Advice("nothing-to-do", "nothing was deleted"))
