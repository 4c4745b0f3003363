"""``crossdock registries``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from typing import Any

from crossdock.cli.exits import ExitCode
from crossdock.cli.failure import fold
from crossdock.cli.flags import add_inventory, add_output
from crossdock.cli.parser import Parser
from crossdock.cli.streams import print_json, print_result
from crossdock.cli.values import folder_path
from crossdock.errors import InvalidOption
from crossdock.options import default_state_folder
from crossdock.units import count


def add_flags(parser: Parser) -> None:
    """Add the flags of ``registries``."""
    parser.add_argument(
        "host",
        metavar="HOST",
        nargs="?",
        help="host[:port] of a registry, or its name in the inventory (default: all of them)",
    )
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON schema of the table of kinds, and nothing else"
    )
    parser.add_argument(
        "--forget", action="store_true", help="forget what was learned about HOST before showing it"
    )
    parser.add_argument(
        "--state",
        type=folder_path,
        dest="folder",
        metavar="DIR",
        default=default_state_folder(os.environ),
        help="folder of the state (default: crossdock in XDG_STATE_HOME, or in ~/.local/state)",
    )
    add_inventory(parser, "file of registries, their kinds and values")
    add_output(parser)


def run(namespace: argparse.Namespace) -> int:
    """Print what is known of kinds of registries, and what was learned about single ones. No network."""
    from crossdock.inventory.find import open_inventory
    from crossdock.inventory.values import Inventory
    from crossdock.probing.known import all_known, forget, one_known, schema

    if namespace.schema:
        print_json(schema())
        return ExitCode.DONE
    inventory = open_inventory(namespace.inventory, os.environ) or Inventory()
    if namespace.host is None:
        if namespace.forget:
            raise InvalidOption("--forget needs the HOST of one registry")
        document = all_known(inventory, namespace.folder)
        lines = list(_lines_of_all(document))
        learned = count(len(document["registries"]), "registry", "registries")
        brief = f"{count(len(document['kinds']), 'kind')}, {learned}"
    else:
        host = inventory.addressed(namespace.host).partition("/")[0]
        if namespace.forget:
            forget(host, namespace.folder)
        document = one_known(host, inventory, namespace.folder)
        lines = list(_lines_of_one(document))
        brief = lines[0]
    if namespace.output == "json":
        print_json(document)
    else:
        print_result("\n".join(lines), brief=brief)
    return ExitCode.DONE


def _lines_of_all(document: Mapping[str, Any]) -> Iterator[str]:
    for name, kind in document["kinds"].items():
        like = f", else as {kind['like']}" if kind["like"] else ""
        yield f"{name:<14}{kind['title']}{like}"
    for registry in document["registries"]:
        yield ""
        yield registry["registry"]
        yield from _lines_of_learned(registry["learned"])


def _lines_of_one(document: Mapping[str, Any]) -> Iterator[str]:
    why = {"inventory": "as the inventory says", "host": "by its host", "responses": "by its responses"}
    known_by = why.get(document["known_by"], "not recognised")
    yield f"{document['registry']} is {document['kind']} ({document['title']}), {known_by}"
    for name, value in sorted(document["values"].items()):
        if name not in ("hosts", "answers", "title"):
            date = f", {value['date']}" if "date" in value else ""
            yield f"  {name:<26}{_shown(value['value']):<24} {value['source']}{date}"
    if document["learned"]:
        yield "learned"
        yield from _lines_of_learned(document["learned"])


def _lines_of_learned(learned: Mapping[str, Any]) -> Iterator[str]:
    for name, fact in learned.items():
        yield f"  {name:<26}{_shown(fact['value']):<24} {fact['at']}"


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_shown(each) for each in value) or "none"
    return fold(str(value).lower() if isinstance(value, bool) else str(value))
