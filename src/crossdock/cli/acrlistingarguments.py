"""The flags of ``crossdock acr manifest`` and ``crossdock acr repository``, those of ``az acr``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

FORMATS = ("json", "jsonc", "yaml", "yamlc", "table", "tsv", "none")
ORDERS = ("time_asc", "time_desc")

Command = Callable[..., Any]
Shared = Callable[[Any], Any]


def add_manifest(groups: Any, command: Command, shared: Shared) -> None:
    """Add the group ``manifest``; `command` makes a parser, `shared` adds the flags of the network to it."""
    parser = command(groups, "manifest", "show manifests, and what a registry knows of them")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = command(
        verbs,
        "list-metadata",
        "list what a registry knows of the manifests of a repository",
        "Lists the manifests of a repository. Of a registry without /acr/v1 those with a tag, and all that\n"
        "they lead to: the images of an index, signatures and other referrers.",
    )
    listing.add_argument("identifier", metavar="REPO_ID", nargs="?", help="LOGIN_SERVER/REPOSITORY")
    _add_registry(listing, "-r", "--registry", required=False)
    listing.add_argument("-n", "--name", dest="content", metavar="REPOSITORY", help="with --registry")
    _add_order(listing)
    _add_common(listing, shared)
    show = command(verbs, "show", "print a manifest")
    what = "REPOSITORY[:TAG|@DIGEST]"
    show.add_argument("identifier", metavar="MANIFEST_ID", nargs="?", help=f"LOGIN_SERVER/{what}")
    _add_registry(show, "-r", "--registry", required=False)
    show.add_argument("-n", "--name", dest="content", metavar="ARTIFACT", help=f"{what}, with --registry")
    show.add_argument("--raw", action="store_true", help="print the manifest's bytes, unchanged")
    _add_common(show, shared)


def add_repository(groups: Any, command: Command, shared: Shared) -> None:
    """Add the group ``repository``, as `add_manifest` adds its own."""
    parser = command(groups, "repository", "list repositories and their tags")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = command(verbs, "list", "list the repositories of a registry")
    _add_registry(listing, "-n", "--name", required=True)
    _add_top(listing)
    _add_common(listing, shared)
    tags = command(verbs, "show-tags", "list the tags of a repository")
    _add_registry(tags, "-n", "--name", required=True)
    tags.add_argument("--repository", required=True, metavar="REPOSITORY", help="whose tags")
    tags.add_argument("--detail", action="store_true", help="all that the registry knows of each tag")
    _add_order(tags)
    _add_common(tags, shared)


def _add_registry(parser: Any, *flags: str, required: bool) -> None:
    text = "name, login server or resource ID of the registry"
    parser.add_argument(*flags, dest="registry", default="", required=required, metavar="REGISTRY", help=text)


def add_credentials(group: Any, whose: str) -> None:
    """Add ``--username``, ``--password`` and ``--password-stdin``; `whose` explains the first."""
    group.add_argument("-u", "--username", default="", metavar="USER", help=whose)
    group.add_argument(
        "-p",
        "--password",
        default="",
        metavar="SECRET",
        help="password, or a token without --username; shows in the process list: better the next, "
        "or CROSSDOCK_SOURCE_PASSWORD",
    )
    group.add_argument("--password-stdin", action="store_true", help="read it from the first line of stdin")


def _add_order(parser: Any) -> None:
    parser.add_argument("--orderby", type=str.lower, choices=ORDERS, help="by time instead of by name")
    _add_top(parser)


def _add_top(parser: Any) -> None:
    parser.add_argument("--top", type=_count, metavar="N", help="only the first N")


def _add_common(parser: Any, shared: Shared) -> None:
    who = parser.add_argument_group("registry")
    add_credentials(who, "user name there")
    who.add_argument("-g", "--resource-group", default="", metavar="NAME", help="its resource group")
    who.add_argument("--subscription", default="", metavar="ID", help="its subscription")
    shared(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        *("-o", "--output"), type=str.lower, choices=FORMATS, default="json", help="of stdout (default json)"
    )
    add_query(output)
    output.add_argument("--only-show-errors", action="store_true", help=argparse.SUPPRESS)
    add_without_effect(output)


def add_without_effect(parser: Any) -> None:
    """Flags of every command of az that ask for what there is not: more logging, and Azure's policies."""
    parser.add_argument("--verbose", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--acquire-policy-token", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--change-reference", help=argparse.SUPPRESS)


def add_query(parser: Any) -> None:
    """What every command of az takes to print a part of its answer."""
    parser.add_argument("--query", metavar="JMESPATH", help="the part of it to print")


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 13 and int(text):
        return int(text)
    raise argparse.ArgumentTypeError("must be a whole number from 1")
