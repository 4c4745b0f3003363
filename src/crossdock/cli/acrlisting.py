"""``crossdock acr manifest`` and ``repository``: what looks, and where what changes is found."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from crossdock import api
from crossdock.acr import metadata
from crossdock.cli import acr, acrchanges
from crossdock.cli.acroutput import check_query, print_answer
from crossdock.cli.acrwords import command_of, host_of, image_of, item_of, named, options_of, repository_of
from crossdock.cli.arguments import UsageError
from crossdock.cli.exits import ExitCode
from crossdock.cli.loop import run_until_done
from crossdock.cli.reading import integer
from crossdock.cli.streams import print_bytes, warn
from crossdock.errors import CopyError
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions

_TAGGED = "The positional parameter 'repo_id' should not include a tag or digest."
_OLD_NAME = (
    "This command has been deprecated and will be removed in a future release. "
    "Use 'acr manifest list-metadata' instead."
)


def run(namespace: argparse.Namespace) -> int:
    """Run the command; what it found goes to stdout."""
    if namespace.query is not None:
        check_query(namespace.query)
    options = options_of(namespace)
    found = _COMMANDS[namespace.group, namespace.verb](namespace, options)
    if isinstance(found, bytes):
        print_bytes(found)
    else:
        print_answer(found, namespace.output, namespace.query)
    return ExitCode.DONE


def _list_metadata(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    registry, name = named(namespace)
    if ":" in name or "@" in name:
        raise UsageError(_TAGGED, command=command_of(namespace))
    return _manifests(namespace, options, repository_of(namespace, options, registry, name))


def _manifests(namespace: argparse.Namespace, options: CopyOptions, repository: Reference) -> Any:
    return run_until_done(
        metadata.list_manifests(
            repository, options, order=_order(namespace), top=namespace.top, on_warning=warn
        )
    )


def _show(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    reference = image_of(namespace, options, *named(namespace))
    try:
        found = run_until_done(api.inspect(str(reference), options))
    except CopyError as error:
        error.names_side = False
        raise
    return found.raw if namespace.raw else json.loads(found.raw, parse_int=integer)


def _show_metadata(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    return run_until_done(metadata.show_item(image_of(namespace, options, *named(namespace)), options))


def _list(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    registry = host_of(namespace, options, namespace.registry)
    return run_until_done(metadata.list_repositories(registry, options, top=namespace.top, on_warning=warn))


def _show_tags(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    repository = repository_of(namespace, options, namespace.registry, namespace.repository)
    listing = metadata.list_tags if namespace.detail else metadata.list_tag_names
    return run_until_done(
        listing(repository, options, order=_order(namespace), top=namespace.top, on_warning=warn)
    )


def _show_manifests(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    """The old name of ``list-metadata``, with the fields that it had."""
    acr.warn(namespace, _OLD_NAME)
    repository = repository_of(namespace, options, namespace.registry, namespace.repository)
    entries = _manifests(namespace, options, repository)
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


def _show_item(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    return run_until_done(metadata.show_item(item_of(namespace, options), options))


_COMMANDS: dict[tuple[str, str], Callable[[argparse.Namespace, CopyOptions], Any]] = {
    ("manifest", "list-metadata"): _list_metadata,
    ("manifest", "show"): _show,
    ("manifest", "show-metadata"): _show_metadata,
    ("manifest", "update-metadata"): acrchanges.update_manifest,
    ("manifest", "delete"): acrchanges.delete_manifest,
    ("repository", "list"): _list,
    ("repository", "show-tags"): _show_tags,
    ("repository", "show-manifests"): _show_manifests,
    ("repository", "show"): _show_item,
    ("repository", "update"): acrchanges.update,
    ("repository", "untag"): acrchanges.untag,
    ("repository", "delete"): acrchanges.delete,
}


def _order(namespace: argparse.Namespace) -> Any:
    return namespace.orderby and namespace.orderby.replace("_", "")
