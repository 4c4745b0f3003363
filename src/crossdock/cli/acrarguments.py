"""The flags of ``crossdock acr``, those of ``az acr`` with the same names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from crossdock.cli.acrlistingarguments import (
    FORMATS,
    add_credentials,
    add_manifest,
    add_query,
    add_registries,
    add_repository,
    add_without_effect,
)
from crossdock.cli.contentarguments import add_content, add_progress


def add_acr(commands: Any, command: Callable[..., Any], shared: Callable[[Any], None]) -> None:
    """Add the group; `command` makes a parser, `shared` adds the flags of the network to it."""
    parser = command(
        commands,
        "acr",
        "what `az acr` does to registries, against any registry",
        "Takes the commands and flags of `az acr`. --name and --registry are names of the inventory, or of\n"
        "Azure's registries: myregistry without an entry is myregistry.azurecr.io.",
    )
    groups = parser.add_subparsers(dest="group", metavar="GROUP", required=True)
    command_of_az = partial(command, allow_abbrev=True)  # scripts say --out table
    _add_import(groups, command_of_az, shared)
    add_manifest(groups, command_of_az, shared)
    add_repository(groups, command_of_az, shared)
    add_registries(groups, command_of_az, shared)


def _add_common(parser: Any) -> None:
    """What every command of az takes."""
    parser.add_argument("-g", "--resource-group", default="", metavar="NAME", help="resource group of --name")
    parser.add_argument("--subscription", default="", metavar="ID", help="subscription of --name")
    parser.add_argument(
        "-o",
        "--output",
        type=str.lower,
        choices=FORMATS,
        help="what stdout holds (default: nothing, as of az)",
    )
    add_query(parser)
    parser.add_argument("--only-show-errors", action="store_true", help="no warnings")
    add_without_effect(parser)


def _add_import(groups: Any, command: Callable[..., Any], shared: Callable[[Any], None]) -> None:
    parser = command(
        groups,
        "import",
        "import an image into a registry",
        "Copies an image into the registry --name, byte-exact, from any registry. Where a target tag exists\n"
        "with other content nothing is copied, unless --force is given.",
    )
    parser.add_argument(
        "-n", "--name", default="", metavar="NAME", help="target registry (default: AZURE_DEFAULTS_ACR)"
    )
    parser.set_defaults(registry_flag=(("--name", "-n"), "name"))
    parser.add_argument(
        "--source",
        required=True,
        metavar="IMAGE",
        help="LOGIN_SERVER/REPOSITORY[:TAG][@DIGEST]; with --registry without the login server",
    )
    parser.add_argument(
        "-t",
        "--image",
        dest="images",
        action="append",
        default=[],
        metavar="REPOSITORY[:TAG]",
        help="target; repeatable (default: the source's name)",
    )
    parser.add_argument(
        "--repository",
        dest="repositories",
        action="append",
        default=[],
        metavar="REPOSITORY",
        help="target that gets the manifest by its digest and no tag; repeatable",
    )
    parser.add_argument(
        "-r", "--registry", default="", metavar="REGISTRY", help="source: name, login server or resource ID"
    )
    parser.add_argument("--force", action="store_true", help="overwrite tags")
    parser.add_argument("--no-wait", action="store_true", help="go on in the background")
    parser.add_argument("--dry-run", action="store_true", help="look at both sides and copy nothing")
    parser.add_argument(
        "--strict-limits", action="store_true", help="refuse over 50 manifests or a layer over 2 GiB"
    )
    add_content(parser)
    who = parser.add_argument_group("credentials at the source")
    add_credentials(who, "user name")
    shared(parser)
    output = parser.add_argument_group("output")
    add_progress(output)
    _add_common(parser)
