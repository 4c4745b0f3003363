"""``crossdock acr manifest``."""

from __future__ import annotations

import argparse
from typing import Any

from crossdock import api
from crossdock.acr import changes, metadata
from crossdock.cli.commands.acr import items
from crossdock.cli.commands.acr.flags import add_common, add_order, add_registry
from crossdock.cli.commands.acr.words import command_of, image_of, named, repository_of
from crossdock.cli.exits import UsageError
from crossdock.cli.loop import run_until_done
from crossdock.cli.parser import Parser
from crossdock.cli.streams import parse_json
from crossdock.errors import CopyError
from crossdock.options import CopyOptions

_TAGGED = "The positional parameter 'repo_id' should not include a tag or digest."
_MANIFEST = "REPOSITORY[:TAG|@DIGEST]"

run = items.run


def add_flags(parser: Parser) -> None:
    """Add the verbs and their flags."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = items.add_verb(
        verbs,
        "list-metadata",
        "list the manifests of a repository with their metadata",
        _list_metadata,
    )
    listing.description = (
        "List the manifests of a repository. At a registry without /acr/v1 these are the tagged ones and\n"
        "everything that belongs to them: the images of an index, signatures and other referrers."
    )
    listing.add_argument("identifier", metavar="REPO_ID", nargs="?", help="LOGIN_SERVER/REPOSITORY")
    add_registry(listing, "--registry", "-r")
    listing.add_argument("-n", "--name", dest="content", metavar="REPOSITORY", help="with --registry")
    add_order(listing)
    add_common(listing)

    def add_verb(name: str, summary: str, act: items.Act) -> Parser:
        """A verb that takes one manifest."""
        made = items.add_verb(verbs, name, summary, act)
        made.add_argument("identifier", metavar="MANIFEST_ID", nargs="?", help=f"LOGIN_SERVER/{_MANIFEST}")
        add_registry(made, "--registry", "-r")
        made.add_argument(
            "-n", "--name", dest="content", metavar="ARTIFACT", help=f"{_MANIFEST}, with --registry"
        )
        return made

    show = add_verb("show", "print a manifest", _show)
    show.add_argument("--raw", action="store_true", help="print the manifest's bytes, unchanged")
    add_common(show)
    add_common(add_verb("show-metadata", "print the metadata of a tag or manifest", _show_metadata))
    update = add_verb("update-metadata", "lock and unlock a tag or manifest", _update)
    items.add_locks(update)
    add_common(update)
    delete = add_verb("delete", "delete a manifest and all its tags", _delete)
    items.add_yes(delete)
    add_common(delete)


def _list_metadata(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    registry, name = named(namespace)
    if ":" in name or "@" in name:
        raise UsageError(_TAGGED, command=command_of(namespace))
    return items.list_manifests(namespace, options, repository_of(namespace, options, registry, name))


def _show(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    reference = image_of(namespace, options, *named(namespace))
    try:
        found = run_until_done(api.inspect(str(reference), options))
    except CopyError as error:
        error.names_side = False
        raise
    return found.raw if namespace.raw else parse_json(found.raw)


def _show_metadata(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    return run_until_done(metadata.show_item(image_of(namespace, options, *named(namespace)), options))


def _update(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    return items.change(namespace, image_of(namespace, options, *named(namespace)), options)


def _delete(namespace: argparse.Namespace, options: CopyOptions) -> None:
    """Delete a manifest, named by its digest or by a tag."""
    item = image_of(namespace, options, *named(namespace))
    items.check_terminal(namespace)
    digest = item.digest
    if digest is None:
        digest, _ = run_until_done(changes.find_manifest(item, options, with_tags=False))
    items.confirm(
        namespace,
        f"Are you sure you want to delete the artifact '{digest}' and all manifests that refer to it?",
    )
    items.delete_digest(item, digest, options)
