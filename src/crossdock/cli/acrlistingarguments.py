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
    parser = command(
        groups, "manifest", "show, lock and delete manifests, and list what a registry knows of them"
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = command(
        verbs,
        "list-metadata",
        "list what a registry knows of the manifests of a repository",
        "Lists the manifests of a repository. Of a registry without /acr/v1 those with a tag, and all that\n"
        "they lead to: the images of an index, signatures and other referrers.",
    )
    listing.add_argument("identifier", metavar="REPO_ID", nargs="?", help="LOGIN_SERVER/REPOSITORY")
    add_registry(listing, "--registry", "-r")
    listing.add_argument("-n", "--name", dest="content", metavar="REPOSITORY", help="with --registry")
    _add_order(listing)
    add_common(listing, shared)

    def add_verb(verb: str, text: str) -> Any:
        """A verb that takes one manifest."""
        what = "REPOSITORY[:TAG|@DIGEST]"
        made = command(verbs, verb, text)
        made.add_argument("identifier", metavar="MANIFEST_ID", nargs="?", help=f"LOGIN_SERVER/{what}")
        add_registry(made, "--registry", "-r")
        made.add_argument("-n", "--name", dest="content", metavar="ARTIFACT", help=f"{what}, with --registry")
        return made

    show = add_verb("show", "print a manifest")
    show.add_argument("--raw", action="store_true", help="print the manifest's bytes, unchanged")
    add_common(show, shared)
    add_common(add_verb("show-metadata", "print what a registry knows of a tag or manifest"), shared)
    update = add_verb("update-metadata", "lock and unlock a tag or manifest")
    _add_locks(update)
    add_common(update, shared)
    delete = add_verb("delete", "delete a manifest and all its tags")
    _add_yes(delete)
    add_common(delete, shared)


def add_repository(groups: Any, command: Command, shared: Shared) -> None:
    """Add the group ``repository``, as `add_manifest` adds its own."""
    parser = command(groups, "repository", "list repositories and tags, lock, untag and delete")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def add_verb(verb: str, text: str, *, image: bool = False) -> Any:
        """A verb of the registry, with `image` one that takes ``--image`` or ``--repository``."""
        made = command(verbs, verb, text)
        add_registry(made, "--name", "-n")
        if image:
            made.add_argument("--repository", default="", metavar="REPOSITORY", help="a whole repository")
            what = "REPOSITORY[:TAG|@DIGEST]"
            made.add_argument("-t", "--image", default="", metavar="IMAGE", help=f"an image: {what}")
        return made

    listing = add_verb("list", "list the repositories of a registry")
    _add_top(listing)
    add_common(listing, shared)
    for verb, text in (
        ("show-tags", "list the tags of a repository"),
        ("show-manifests", "list the manifests of a repository: the old name of manifest list-metadata"),
    ):
        tags = add_verb(verb, text)
        tags.add_argument("--repository", required=True, metavar="REPOSITORY", help="which repository")
        tags.add_argument("--detail", action="store_true", help="all that the registry knows of each")
        _add_order(tags)
        add_common(tags, shared)
    add_common(add_verb("show", "print what a registry knows of a repository or image", image=True), shared)
    update = add_verb("update", "lock and unlock a repository or image", image=True)
    _add_locks(update)
    add_common(update, shared)
    delete = add_verb("delete", "delete a repository, or an image with all its tags", image=True)
    _add_yes(delete)
    add_common(delete, shared)
    untag = add_verb("untag", "remove a tag and keep its manifest")
    untag.add_argument("-t", "--image", required=True, metavar="IMAGE", help="REPOSITORY:TAG")
    add_common(untag, shared)


def add_registry(parser: Any, *flags: str) -> None:
    """Add the flag that names the registry; az's default stands in for it (`acr.fill_default`)."""
    text = "name, login server or resource ID of the registry (default: AZURE_DEFAULTS_ACR)"
    parser.add_argument(*flags, dest="registry", default="", metavar="REGISTRY", help=text)
    parser.set_defaults(registry_flag=(flags, "registry"))
    parser.add_argument("--suffix", default="", metavar="SUFFIX", help="of a registry NAME-SUFFIX.azurecr.io")


def _add_locks(parser: Any) -> None:
    for name, text in (
        ("write", "pushing and deleting"),
        ("delete", "deleting"),
        ("read", "pulling"),
        ("list", "showing it in lists"),
    ):
        parser.add_argument(
            f"--{name}-enabled", nargs="?", const=True, type=_flag, metavar="true|false", help=f"allow {text}"
        )


def _add_yes(parser: Any) -> None:
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask for confirmation")


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError("must be true or false")
    return text.lower() == "true"


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


def add_registries(groups: Any, command: Command, shared: Shared) -> None:
    """Add ``login``, ``show`` and ``list``, as `add_manifest` adds its own."""
    login = command(
        groups,
        "login",
        "log in to a registry, for docker and its kin",
        "Writes a login that the registry takes to docker's configuration: a refresh token for az's own\n"
        "login, else the user name and password that the flags or the inventory give.",
    )
    add_registry(login, "--name", "-n")
    login.add_argument(
        "-t", "--expose-token", action="store_true", help="print the refresh token, and write nothing"
    )
    add_common(login, shared)
    show = command(groups, "show", "print what the inventory knows of a registry")
    add_registry(show, "--name", "-n")
    add_common(show, shared, credentials=False)
    listing = command(groups, "list", "list the registries of the inventory")
    listing.set_defaults(registry_flag=((), "registry"))
    add_common(listing, shared, credentials=False)


def add_common(parser: Any, shared: Shared, *, credentials: bool = True) -> None:
    """Add what every command takes, with `credentials` one that speaks to a registry."""
    who = parser.add_argument_group("registry")
    if credentials:
        add_credentials(who, "user name there")
    who.add_argument("-g", "--resource-group", default="", metavar="NAME", help="its resource group")
    who.add_argument("--subscription", default="", metavar="ID", help="its subscription")
    shared(parser)
    output = parser.add_argument_group("output")
    output.add_argument(*("-o", "--output"), type=str.lower, choices=FORMATS, help="of stdout (default json)")
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
