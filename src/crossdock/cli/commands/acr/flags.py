"""Flags that several commands of ``crossdock acr`` have, with az's names."""

from __future__ import annotations

import argparse
from typing import Any

from crossdock.cli.flags import add_network

FORMATS = ("json", "jsonc", "yaml", "yamlc", "table", "tsv", "none")
ORDERS = ("time_asc", "time_desc")


def add_registry(parser: Any, *flags: str) -> None:
    """Add the flag that names the registry, which has a default (`acr.defaults`)."""
    text = "name, login server or resource ID of the registry (default: AZURE_DEFAULTS_ACR)"
    parser.add_argument(*flags, dest="registry", default="", metavar="REGISTRY", help=text)
    parser.set_defaults(registry_flag=(flags, "registry"))
    parser.add_argument(
        "--suffix", default="", metavar="SUFFIX", help="suffix of a registry NAME-SUFFIX.azurecr.io"
    )


def add_credentials(group: Any, whose: str) -> None:
    """Add ``--username``, ``--password`` and ``--password-stdin``; `whose` explains the first."""
    group.add_argument("-u", "--username", default="", metavar="USER", help=whose)
    group.add_argument(
        "-p",
        "--password",
        default="",
        metavar="SECRET",
        help="password, or a token without --username; visible in the process list: prefer --password-stdin "
        "or CROSSDOCK_SOURCE_PASSWORD",
    )
    group.add_argument(
        "--password-stdin", action="store_true", help="read the password from the first line of stdin"
    )


def add_order(parser: Any) -> None:
    """Add ``--orderby`` and ``--top``."""
    parser.add_argument("--orderby", type=str.lower, choices=ORDERS, help="sort by time instead of by name")
    add_top(parser)


def add_top(parser: Any) -> None:
    """Add ``--top``."""
    parser.add_argument("--top", type=_count, metavar="N", help="only the first N")


def add_common(parser: Any, *, credentials: bool = True) -> None:
    """Add what every command has; `credentials` is for those that speak to a registry."""
    who = parser.add_argument_group("registry")
    if credentials:
        add_credentials(who, "user name")
    who.add_argument("-g", "--resource-group", default="", metavar="NAME", help="its resource group")
    who.add_argument("--subscription", default="", metavar="ID", help="its subscription")
    add_network(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        *("-o", "--output"), type=str.lower, choices=FORMATS, help="format of stdout (default json)"
    )
    add_query(output)
    output.add_argument("--only-show-errors", action="store_true", help=argparse.SUPPRESS)
    add_without_effect(output)


def add_without_effect(parser: Any) -> None:
    """Add flags of az that have no effect here: Azure's policies."""
    parser.add_argument("--acquire-policy-token", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--change-reference", help=argparse.SUPPRESS)


def add_query(parser: Any) -> None:
    """Add ``--query``."""
    parser.add_argument("--query", metavar="JMESPATH", help="print only this part of the output")


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 13 and int(text):
        return int(text)
    raise argparse.ArgumentTypeError("must be a whole number from 1")
