"""``crossdock acr``: which module has which of its commands."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from importlib import import_module

from crossdock.cli.acrlistingarguments import FORMATS
from crossdock.cli.arguments import UsageError
from crossdock.cli.failure import find_hint, next_step
from crossdock.cli.streams import print_error, read_secret
from crossdock.errors import CrossdockError
from crossdock.inventory.values import Inventory
from crossdock.options import CopyOptions

# Each module's function `run` takes the namespace and returns an exit code.
_MODULES = {
    "import": "crossdock.cli.acrimport",
    "list": "crossdock.cli.acrregistry",
    "login": "crossdock.cli.acrregistry",
    "manifest": "crossdock.cli.acrlisting",
    "repository": "crossdock.cli.acrlisting",
    "show": "crossdock.cli.acrregistry",
}


# Flags of the other commands that errors name, and what there is in their place.
_INSTEAD = {
    "--src-creds-stdin": "credentials in the inventory or as flags",
    "--dest-creds-stdin": "credentials in the inventory",
    "--authfile or REGISTRY_AUTH_FILE": "REGISTRY_AUTH_FILE",
    "--src-ca": "tls.ca in the inventory",
    "--dest-ca": "tls.ca in the inventory",
    "--src-plain-http": "tls.plain_http there",
    "--dest-plain-http": "tls.plain_http there",
}


def acr(namespace: argparse.Namespace) -> int:
    """Run the command of the group. What errors advise is said with its own flags."""
    fill_defaults(namespace)
    try:
        return int(import_module(_MODULES[namespace.group]).run(namespace))
    except CrossdockError as error:
        advice = find_hint(error) or next_step(error)
        for flag, instead in _INSTEAD.items():
            advice = advice.replace(flag, instead)
        error.hint = advice
        raise


def fill_defaults(namespace: argparse.Namespace) -> None:
    """What az takes where a flag is not given: its default registry, and its format of output.

    Raises `UsageError` when no registry is named in any way.
    """
    from crossdock.cli.azdefaults import az_default

    flags, name = namespace.registry_flag
    if flags and not getattr(namespace, name) and getattr(namespace, "identifier", None) is None:
        setattr(namespace, name, az_default("defaults", "acr", os.environ))
        if not getattr(namespace, name) and namespace.group != "manifest":
            raise UsageError(
                f"the following arguments are required: {'/'.join(flags)}",
                hint="or set AZURE_DEFAULTS_ACR, as for az",
                command=f"crossdock acr {namespace.group}",
            )
    if namespace.output is None and namespace.group != "import":
        wanted = az_default("core", "output", os.environ).lower()
        namespace.output = wanted if wanted in FORMATS else "json"


def warn(namespace: argparse.Namespace, *texts: str) -> None:
    """Say it on stderr as az does, unless it is not wanted."""
    if not namespace.only_show_errors:
        for text in texts:
            print_error(f"WARNING: {text}")


def given_password(namespace: argparse.Namespace, command: str) -> str:
    """The password of the flags, or of stdin. Raises `UsageError`, which names `command`."""
    if not namespace.password_stdin:
        return str(namespace.password)
    if namespace.password:
        raise UsageError("--password and --password-stdin contradict each other", command=command)
    return read_secret("--password-stdin", command)


def with_az_login(options: CopyOptions) -> CopyOptions:
    """`options` that use az's own login where nothing else is known, as az does after ``az login``."""
    return replace(
        options,
        source=replace(options.source, az_login="last"),
        target=replace(options.target, az_login="last"),
    )


def inventory_of(options: CopyOptions) -> Inventory:
    """The inventory that was found, or an empty one."""
    return options.registries if isinstance(options.registries, Inventory) else Inventory()
