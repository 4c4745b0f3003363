"""``crossdock acr show``."""

from __future__ import annotations

import argparse

from crossdock.acr.command import find_target, read_name
from crossdock.acr.documents import az_document, az_table_row, bare_az_document
from crossdock.cli.commands.acr.defaults import prepare
from crossdock.cli.commands.acr.flags import add_common, add_registry
from crossdock.cli.commands.acr.output import print_output
from crossdock.cli.commands.acr.words import inventory_of, warn
from crossdock.cli.exits import ExitCode
from crossdock.cli.flags import copy_options
from crossdock.cli.parser import Parser

_UNKNOWN = "The inventory does not have {0}: nothing but its login server is known, {1}."


def add_flags(parser: Parser) -> None:
    """Add the flags of ``acr show``."""
    add_registry(parser, "--name", "-n")
    add_common(parser, credentials=False)


def run(namespace: argparse.Namespace) -> int:
    """Print what the inventory knows of the registry."""
    prepare(namespace)
    inventory = inventory_of(copy_options(namespace))
    warnings: list[str] = []
    name = read_name(namespace.registry, inventory, warnings)
    entry = find_target(
        name, inventory, subscription=namespace.subscription, resource_group=namespace.resource_group
    )
    if entry.place or entry in inventory.registries:
        found = az_document(entry)
    else:
        warnings.append(_UNKNOWN.format(entry.name, entry.login_server))
        found = bare_az_document(entry.name, entry.login_server)
    warn(namespace, *warnings)
    print_output(found, namespace.output, namespace.query, az_table_row)
    return ExitCode.DONE
