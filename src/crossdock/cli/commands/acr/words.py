"""The arguments of ``acr`` commands as references and options, with az's error messages."""

from __future__ import annotations

import argparse
from dataclasses import replace

from crossdock.acr.command import NO_PASSWORD, login_server
from crossdock.cli.exits import UsageError
from crossdock.cli.flags import copy_options
from crossdock.cli.streams import print_error, read_secret
from crossdock.errors import Advice
from crossdock.inventory.values import Inventory
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions, Credentials

_SPECIFIERS = {"list-metadata": ("repository", "hello-world")}
_MANIFEST = ("manifest", "hello-world:latest")
_SPECIFIER = (
    "You must provide either a fully qualified {0} specifier such as 'myregistry.azurecr.io/{1}' as a"
    " positional parameter or provide '-r MyRegistry -n {1}' argument values."
)
_IMAGE = "The name of the image may include a tag in the format 'name:tag'{0}."
_OR_DIGEST = " or digest in the format 'name@digest'"
_EITHER = "Usage error: You need to provide either --image IMAGE | --repository REPOSITORY, but not both"


def warn(namespace: argparse.Namespace, *texts: str) -> None:
    """Print warnings to stderr as az does, unless ``--only-show-errors`` is given."""
    if not namespace.only_show_errors:
        for text in texts:
            print_error(f"WARNING: {text}")


def given_password(namespace: argparse.Namespace, command: str) -> str:
    """The password from the flags or from stdin. Raises `UsageError`, which names `command`."""
    if not namespace.password_stdin:
        return str(namespace.password)
    if namespace.password:
        raise UsageError("--password and --password-stdin contradict each other", command=command)
    return read_secret("--password-stdin", command)


def with_az_login(options: CopyOptions) -> CopyOptions:
    """`options` that use az's own login where no other is known, as az does after ``az login``."""
    return replace(
        options,
        source=replace(options.source, az_login="last"),
        target=replace(options.target, az_login="last"),
    )


def inventory_of(options: CopyOptions) -> Inventory:
    """The inventory that was found, or an empty one."""
    return options.registries if isinstance(options.registries, Inventory) else Inventory()


def options_of(namespace: argparse.Namespace) -> CopyOptions:
    """The options of a command that speaks to one registry, which is their source side."""
    options = with_az_login(copy_options(namespace))
    username, password = namespace.username, given_password(namespace, command_of(namespace))
    if not password:
        if username:
            raise UsageError(
                NO_PASSWORD,
                advice=Advice("give-password", "add --password-stdin"),
                command=command_of(namespace),
            )
        return options
    credentials = Credentials(username=username, password=password)
    return replace(options, source=replace(options.source, credentials=credentials))


def command_of(namespace: argparse.Namespace) -> str:
    """The command as a person types it."""
    return " ".join(filter(None, ("crossdock acr", namespace.group, getattr(namespace, "verb", ""))))


def host_of(namespace: argparse.Namespace, options: CopyOptions, registry: str) -> str:
    """``host[:port]`` of the registry that a flag names. ``--suffix`` is for unknown registries."""
    inventory = inventory_of(options)
    if suffix := namespace.suffix:
        if inventory.named(registry):
            warn(
                namespace, f"The inventory has the login server of {registry}. --suffix {suffix} is ignored."
            )
        elif "." not in registry and ":" not in registry:
            registry = f"{registry}-{suffix}.azurecr.io"
    return login_server(
        registry,
        inventory,
        subscription=namespace.subscription,
        resource_group=namespace.resource_group,
    )


def named(namespace: argparse.Namespace) -> tuple[str, str]:
    """Registry and repository of a ``manifest`` command, from its positional argument or its two flags."""
    if namespace.identifier is None and namespace.registry and namespace.content:
        return namespace.registry, namespace.content
    registry, slash, content = (namespace.identifier or "").removeprefix("https://").partition("/")
    if not slash or not registry or not content or namespace.content or namespace.registry:
        problem = _SPECIFIER.format(*_SPECIFIERS.get(namespace.verb, _MANIFEST))
        raise UsageError(problem, command=command_of(namespace))
    return registry, content


def repository_of(namespace: argparse.Namespace, options: CopyOptions, registry: str, name: str) -> Reference:
    """A repository by its name. Raises `UsageError` for a name with a tag or digest."""
    if ":" in name or "@" in name:
        raise UsageError(
            f"invalid repository name: {name} has a tag or digest", command=command_of(namespace)
        )
    return Reference.parse(f"{host_of(namespace, options, registry)}/{name}", default_tag=None)


def image_of(
    namespace: argparse.Namespace, options: CopyOptions, registry: str, name: str, *, by_digest: bool = True
) -> Reference:
    """An image by its tag (default ``latest``), or with `by_digest` by its digest; not by both."""
    repository, at, _ = name.partition("@")
    if name.count(":") > 1 + ("@" in name) or (at and (not by_digest or ":" in repository)):
        problem = _IMAGE.format(_OR_DIGEST if by_digest else "")
        raise UsageError(problem, command=command_of(namespace))
    return Reference.parse(f"{host_of(namespace, options, registry)}/{name}")


def item_of(namespace: argparse.Namespace, options: CopyOptions) -> Reference:
    """The image or repository of ``--image`` or ``--repository``. Raises `UsageError` for both or neither."""
    if bool(namespace.repository) == bool(namespace.image):
        raise UsageError(_EITHER, command=command_of(namespace))
    if namespace.image:
        return image_of(namespace, options, namespace.registry, namespace.image)
    return repository_of(namespace, options, namespace.registry, namespace.repository)
