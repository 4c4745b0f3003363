"""``crossdock acr list``."""

from __future__ import annotations

import argparse

from crossdock.acr.documents import az_document, az_table_row
from crossdock.cli.commands.acr.defaults import prepare
from crossdock.cli.commands.acr.flags import add_common
from crossdock.cli.commands.acr.output import print_output
from crossdock.cli.commands.acr.words import inventory_of
from crossdock.cli.exits import ExitCode
from crossdock.cli.flags import copy_options
from crossdock.cli.parser import Parser


def add_flags(parser: Parser) -> None:
    """Add the flags of ``acr list``."""
    parser.set_defaults(registry_flag=((), "registry"))
    add_common(parser, credentials=False)


def run(namespace: argparse.Namespace) -> int:
    """Print the registries of the inventory, or those of one resource group or subscription."""
    prepare(namespace)
    wanted = (("subscription", namespace.subscription), ("resource_group", namespace.resource_group))
    found = [
        az_document(entry)
        for entry in inventory_of(copy_options(namespace)).registries
        if all(value.lower() in ("", getattr(entry, field).lower()) for field, value in wanted)
    ]
    print_output(found, namespace.output, namespace.query, az_table_row)
    return ExitCode.DONE
