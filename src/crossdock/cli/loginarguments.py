"""The flags of ``crossdock login`` and ``crossdock logout``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crossdock.cli.argumentvalues import file_path
from crossdock.errors import Side

_WHERE = (
    "default: REGISTRY_AUTH_FILE, the file that has a login of HOST already, docker's config.json, "
    "or podman's auth.json where only that exists"
)


def add_login(
    commands: Any,
    command: Callable[..., Any],
    add_connection: Callable[[Any, Side, Callable[[str], list[str]]], None],
    add_network: Callable[[Any], Any],
) -> None:
    """Add ``login``."""
    parser = command(
        commands,
        "login",
        "log in to a registry, for crossdock, docker and podman alike",
        "Checks user and password at the registry and keeps them in docker's or podman's file, or in the\n"
        "credential helper that the file names. The password is read from stdin, or asked for on a terminal.",
    )
    parser.add_argument(
        "registry", metavar="HOST", help="HOST[:PORT] of the registry; docker.io for Docker Hub"
    )
    parser.add_argument("-u", "--username", metavar="USER", help="who logs in; asked for on a terminal")
    parser.add_argument("--password-stdin", action="store_true", help="read the password or token from stdin")
    parser.add_argument(
        "--get-login", action="store_true", help="print the user that is logged in, and log nobody in"
    )
    _add_authfile(parser, f"write the login to this file ({_WHERE})")
    group = parser.add_argument_group("connection")
    add_connection(group, "source", lambda name: [f"--{name}", f"--src-{name}"])
    add_network(parser)


def add_logout(commands: Any, command: Callable[..., Any]) -> None:
    """Add ``logout``."""
    parser = command(
        commands,
        "logout",
        "remove the login of a registry",
        "Removes the login from every file and credential helper where crossdock would find it.",
    )
    parser.add_argument(
        "registry", metavar="HOST", help="HOST[:PORT] of the registry; docker.io for Docker Hub"
    )
    _add_authfile(parser, "remove it from this file alone")


def _add_authfile(parser: Any, text: str) -> None:
    parser.add_argument("--authfile", type=file_path, metavar="FILE", help=text)
