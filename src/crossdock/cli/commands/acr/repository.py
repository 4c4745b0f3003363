"""``crossdock acr repository``."""

from __future__ import annotations

import argparse
from typing import Any

from crossdock.acr import changes, metadata
from crossdock.cli.commands.acr import items
from crossdock.cli.commands.acr.flags import add_common, add_order, add_registry, add_top
from crossdock.cli.commands.acr.words import host_of, image_of, item_of, repository_of, warn
from crossdock.cli.loop import run_until_done
from crossdock.cli.parser import Parser
from crossdock.cli.streams import warn as warn_plainly
from crossdock.options import CopyOptions

_OLD_NAME = (
    "This command has been deprecated and will be removed in a future release. "
    "Use 'acr manifest list-metadata' instead."
)

run = items.run


def add_flags(parser: Parser) -> None:
    """Add the verbs and their flags."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def add_verb(name: str, summary: str, act: items.Act, *, image: bool = False) -> Parser:
        """A verb of the registry, with `image` one that takes ``--image`` or ``--repository``."""
        made = items.add_verb(verbs, name, summary, act)
        add_registry(made, "--name", "-n")
        if image:
            made.add_argument("--repository", default="", metavar="REPOSITORY", help="a whole repository")
            made.add_argument(
                "-t", "--image", default="", metavar="IMAGE", help="an image: REPOSITORY[:TAG|@DIGEST]"
            )
        return made

    listing = add_verb("list", "list the repositories of a registry", _list)
    add_top(listing)
    add_common(listing)
    old = "list the manifests of a repository (the old name of manifest list-metadata)"
    for tags in (
        add_verb("show-tags", "list the tags of a repository", _show_tags),
        add_verb("show-manifests", old, _show_manifests),
    ):
        tags.add_argument("--repository", required=True, metavar="REPOSITORY", help="the repository")
        tags.add_argument("--detail", action="store_true", help="print all metadata of each")
        add_order(tags)
        add_common(tags)
    add_common(add_verb("show", "print the metadata of a repository or image", _show, image=True))
    update = add_verb("update", "lock and unlock a repository or image", _update, image=True)
    items.add_locks(update)
    add_common(update)
    delete = add_verb("delete", "delete a repository, or an image with all its tags", _delete, image=True)
    items.add_yes(delete)
    add_common(delete)
    untag = add_verb("untag", "remove a tag and keep its manifest", _untag)
    untag.add_argument("-t", "--image", required=True, metavar="IMAGE", help="REPOSITORY:TAG")
    add_common(untag)


def _list(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    registry = host_of(namespace, options, namespace.registry)
    work = metadata.list_repositories(registry, options, top=namespace.top, on_warning=warn_plainly)
    return run_until_done(work)


def _show_tags(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    repository = repository_of(namespace, options, namespace.registry, namespace.repository)
    listing = metadata.list_tags if namespace.detail else metadata.list_tag_names
    order = items.order_of(namespace)
    return run_until_done(
        listing(repository, options, order=order, top=namespace.top, on_warning=warn_plainly)
    )


def _show_manifests(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    """The old name of ``list-metadata``, with the fields that it had."""
    warn(namespace, _OLD_NAME)
    repository = repository_of(namespace, options, namespace.registry, namespace.repository)
    entries = items.list_manifests(namespace, options, repository)
    if namespace.detail:
        return entries
    return [
        {
            "digest": each.get("digest", ""),
            "tags": each.get("tags", []),
            "timestamp": each.get("lastUpdateTime", ""),
        }
        for each in entries
    ]


def _show(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    return run_until_done(metadata.show_item(item_of(namespace, options), options))


def _update(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    return items.change(namespace, item_of(namespace, options), options)


def _untag(namespace: argparse.Namespace, options: CopyOptions) -> None:
    item = image_of(namespace, options, namespace.registry, namespace.image, by_digest=False)
    run_until_done(changes.untag(item, options))


def _delete(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    """Delete an image with all its tags, or a repository; the registry says what the repository had."""
    item = item_of(namespace, options)
    if not (item.tag or item.digest):
        question = (
            f"Are you sure you want to delete the repository '{item.repository}' and all images under it?"
        )
        items.confirm(namespace, question)
        return run_until_done(changes.delete_repository(item, options))
    items.check_terminal(namespace)
    digest, tags = run_until_done(changes.find_manifest(item, options, with_tags=True))
    message = f"This operation will delete the manifest '{digest}'"
    if tags:
        images = ", ".join(f"'{item.repository}:{tag}'" for tag in tags)
        message += f" and all the following images: {images}"
    if namespace.yes:
        warn(namespace, message)
    else:
        items.confirm(namespace, f"{message}.\nAre you sure you want to continue?")
    items.delete_digest(item, digest, options)
    return None
