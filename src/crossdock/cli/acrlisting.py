"""``crossdock acr manifest`` and ``crossdock acr repository``: look, change nothing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from crossdock import api
from crossdock.acr import metadata
from crossdock.acr.command import NO_PASSWORD
from crossdock.acr.registries import login_server
from crossdock.cli.acr import given_password, inventory_of
from crossdock.cli.acroutput import check_query, print_answer
from crossdock.cli.arguments import UsageError, copy_options
from crossdock.cli.exits import ExitCode
from crossdock.cli.loop import run_until_done
from crossdock.cli.reading import integer
from crossdock.cli.streams import print_bytes, warn
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions, Credentials

# az's words.
_SPECIFIERS = {
    "list-metadata": ("repository", "hello-world"),
    "show": ("manifest", "hello-world:latest"),
}
_SPECIFIER = (
    "You must provide either a fully qualified {0} specifier such as 'myregistry.azurecr.io/{1}' as a"
    " positional parameter or provide '-r MyRegistry -n {1}' argument values."
)
_TAGGED = "The positional parameter 'repo_id' should not include a tag or digest."


def run(namespace: argparse.Namespace) -> int:
    """Run the command; what it found goes to stdout."""
    if namespace.query is not None:
        check_query(namespace.query)
    options = _options(namespace)
    found = _COMMANDS[namespace.group, namespace.verb](namespace, options)
    if isinstance(found, bytes):
        print_bytes(found)
    else:
        print_answer(found, namespace.output, namespace.query)
    return ExitCode.DONE


def _list_metadata(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    registry, name = _named(namespace)
    if ":" in name or "@" in name:
        raise UsageError(_TAGGED, command="crossdock acr manifest list-metadata")
    repository = _reference(namespace, options, registry, name, default_tag=None)
    return run_until_done(
        metadata.list_manifests(
            repository, options, order=_order(namespace), top=namespace.top, on_warning=warn
        )
    )


def _show(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    reference = _reference(namespace, options, *_named(namespace), default_tag="latest")
    found = run_until_done(api.inspect(str(reference), options))
    return found.raw if namespace.raw else json.loads(found.raw, parse_int=integer)


def _list(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    registry = _login_server(namespace, options, namespace.registry)
    return run_until_done(metadata.list_repositories(registry, options, top=namespace.top, on_warning=warn))


def _show_tags(namespace: argparse.Namespace, options: CopyOptions) -> Any:
    repository = _reference(namespace, options, namespace.registry, namespace.repository, default_tag=None)
    listing = metadata.list_tags if namespace.detail else metadata.list_tag_names
    return run_until_done(
        listing(repository, options, order=_order(namespace), top=namespace.top, on_warning=warn)
    )


_COMMANDS: dict[tuple[str, str], Callable[[argparse.Namespace, CopyOptions], Any]] = {
    ("manifest", "list-metadata"): _list_metadata,
    ("manifest", "show"): _show,
    ("repository", "list"): _list,
    ("repository", "show-tags"): _show_tags,
}


# -- words → values --------------------------------------------------------------------------------------


def _named(namespace: argparse.Namespace) -> tuple[str, str]:
    """Registry and content, of the one word or of the two flags."""
    if namespace.identifier is None and namespace.registry and namespace.content:
        return namespace.registry, namespace.content
    registry, slash, content = (namespace.identifier or "").removeprefix("https://").partition("/")
    if not slash or not registry or not content or namespace.content or namespace.registry:
        problem = _SPECIFIER.format(*_SPECIFIERS[namespace.verb])
        raise UsageError(problem, command=f"crossdock acr manifest {namespace.verb}")
    return registry, content


def _reference(
    namespace: argparse.Namespace, options: CopyOptions, registry: str, name: str, *, default_tag: str | None
) -> Reference:
    host = _login_server(namespace, options, registry)
    return Reference.parse(f"{host}/{name}", default_tag=default_tag)


def _login_server(namespace: argparse.Namespace, options: CopyOptions, registry: str) -> str:
    return login_server(
        registry,
        inventory_of(options),
        subscription=namespace.subscription,
        resource_group=namespace.resource_group,
    )


def _order(namespace: argparse.Namespace) -> Any:
    return namespace.orderby and namespace.orderby.replace("_", "")


def _options(namespace: argparse.Namespace) -> CopyOptions:
    options = copy_options(namespace, None, None)
    command = f"crossdock acr {namespace.group} {namespace.verb}"
    username, password = namespace.username, given_password(namespace, command)
    if not password:
        if username:
            raise UsageError(NO_PASSWORD, hint="add --password-stdin", command=command)
        return options
    credentials = Credentials(username=username, password=password)
    return replace(options, source=replace(options.source, credentials=credentials))
