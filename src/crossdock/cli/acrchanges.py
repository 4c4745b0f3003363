"""``crossdock acr repository update|untag|delete``, ``manifest delete|update-metadata``, as az does them."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any

from crossdock.acr import changes, metadata
from crossdock.cli.acr import warn
from crossdock.cli.acrwords import command_of, image_of, item_of, named
from crossdock.cli.arguments import UsageError
from crossdock.cli.loop import run_until_done
from crossdock.errors import Cancelled
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions

LOCKS = {
    "delete_enabled": "deleteEnabled",
    "list_enabled": "listEnabled",
    "read_enabled": "readEnabled",
    "write_enabled": "writeEnabled",
}
"""The flags of ``update``, and the attributes that they set."""

_NO_TTY = "Unable to prompt for confirmation as no tty available. Use --yes."


def update(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    """Change the locks of what ``--image`` or ``--repository`` names."""
    return _change(namespace, item_of(namespace, options), options)


def update_manifest(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    """The same for a command of ``manifest``."""
    return _change(namespace, image_of(namespace, options, *named(namespace)), options)


def untag(namespace: argparse.Namespace, options: CopyOptions) -> None:
    """Remove a tag, and not its manifest."""
    item = image_of(namespace, options, namespace.registry, namespace.image, by_digest=False)
    run_until_done(changes.untag(item, options))


def delete(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    """Delete an image with all its tags, or a repository, about which the registry says what it had."""
    item = item_of(namespace, options)
    if not (item.tag or item.digest):
        question = (
            f"Are you sure you want to delete the repository '{item.repository}' and all images under it?"
        )
        _confirm(namespace, question)
        return run_until_done(changes.delete_repository(item, options))
    _check_terminal(namespace)
    digest, tags = run_until_done(changes.find_manifest(item, options, with_tags=True))
    message = f"This operation will delete the manifest '{digest}'"
    if tags:
        images = ", ".join(f"'{item.repository}:{tag}'" for tag in tags)
        message += f" and all the following images: {images}"
    if namespace.yes:
        warn(namespace, message)
    else:
        _confirm(namespace, f"{message}.\nAre you sure you want to continue?")
    run_until_done(changes.delete_manifest(_by_digest(item, digest), options))
    return None


def delete_manifest(namespace: argparse.Namespace, options: CopyOptions) -> None:
    """Delete a manifest, by its digest or by the one that a tag means."""
    item = image_of(namespace, options, *named(namespace))
    _check_terminal(namespace)
    digest = item.digest
    if digest is None:
        digest, _ = run_until_done(changes.find_manifest(item, options, with_tags=False))
    _confirm(
        namespace,
        f"Are you sure you want to delete the artifact '{digest}' and all manifests that refer to it?",
    )
    run_until_done(changes.delete_manifest(_by_digest(item, digest), options))


def _change(namespace: argparse.Namespace, item: Reference, options: CopyOptions) -> Any:
    """Without a flag it shows the item, as az does."""
    attributes = {
        name: value for flag, name in LOCKS.items() if (value := getattr(namespace, flag)) is not None
    }
    if not attributes:
        return run_until_done(metadata.show_item(item, options))
    return run_until_done(changes.change_attributes(item, attributes, options))


def _by_digest(item: Reference, digest: Digest) -> Reference:
    return replace(item, tag=None, digest=digest)


def _check_terminal(namespace: argparse.Namespace) -> None:
    """Raise `UsageError` where there is nobody to ask, before the registry is asked anything."""
    if not namespace.yes and not sys.stdin.isatty():
        raise UsageError(_NO_TTY, command=command_of(namespace))


def _confirm(namespace: argparse.Namespace, question: str) -> None:
    """Ask on the terminal, unless ``--yes`` was given. Raises `Cancelled` for no."""
    _check_terminal(namespace)
    while not namespace.yes:
        print(f"{question} (y/n): ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if answer.strip().lower() == "y":
            return
        if answer.strip().lower() == "n" or not answer:
            raise Cancelled("Operation cancelled.", hint="nothing was deleted")
