"""``crossdock acr login``, ``show`` and ``list``: registries of the inventory, as az knows those of Azure."""

from __future__ import annotations

import argparse
import os
from typing import Any

from crossdock.acr.command import find_target, read_name
from crossdock.acr.documents import az_document, az_table_row, bare_az_document
from crossdock.acr.login import keep_login, log_in
from crossdock.cli.acr import inventory_of, warn
from crossdock.cli.acroutput import check_query, print_answer
from crossdock.cli.acrwords import command_of, host_of, options_of
from crossdock.cli.arguments import UsageError, copy_options
from crossdock.cli.exits import ExitCode
from crossdock.cli.loop import run_until_done
from crossdock.cli.streams import print_result
from crossdock.errors import CredentialsError
from crossdock.inventory.values import Inventory
from crossdock.options import Credentials

NULL_USER = "00000000-0000-0000-0000-000000000000"
_NOT_WITH = "`--expose-token` cannot be combined with `--username` or `--password`."
_WHAT_IT_IS = (
    "Note: The token in both the accessToken and refreshToken fields is an ACR Refresh Token, not an ACR "
    "Access Token. This ACR Refresh Token cannot be used directly to authenticate with registry APIs such as "
    "pushing/pulling images and listing repositories/tags. This ACR Refresh Token must be subsequently "
    "exchanged for an ACR Access.Please see https://aka.ms/acr/auth/oauth"
)
_HOW_TO_USE = (
    "You can perform manual login using the provided refresh token below, "
    f"for example: 'docker login loginServer -u {NULL_USER} -p refreshToken'"
)
_UNKNOWN = "The inventory does not have {0}: nothing but its login server is known, {1}."


def run(namespace: argparse.Namespace) -> int:
    """Run the command; what it found goes to stdout."""
    if namespace.query is not None:
        check_query(namespace.query)
    if namespace.group == "login":
        return _log_in(namespace)
    inventory = inventory_of(copy_options(namespace, None, None))
    found = _show(namespace, inventory) if namespace.group == "show" else _list(namespace, inventory)
    print_answer(found, namespace.output, namespace.query, az_table_row)
    return ExitCode.DONE


def _show(namespace: argparse.Namespace, inventory: Inventory) -> Any:
    warnings: list[str] = []
    name = read_name(namespace.registry, inventory, warnings)
    entry = find_target(
        name, inventory, subscription=namespace.subscription, resource_group=namespace.resource_group
    )
    if entry.place or entry in inventory.registries:
        warn(namespace, *warnings)
        return az_document(entry)
    warn(namespace, *warnings, _UNKNOWN.format(entry.name, entry.login_server))
    return bare_az_document(entry.name, entry.login_server)


def _list(namespace: argparse.Namespace, inventory: Inventory) -> Any:
    """Those of one resource group or subscription, where these are given."""
    wanted = (("subscription", namespace.subscription), ("resource_group", namespace.resource_group))
    return [
        az_document(entry)
        for entry in inventory.registries
        if all(value.lower() in ("", getattr(entry, field).lower()) for field, value in wanted)
    ]


def _log_in(namespace: argparse.Namespace) -> int:
    if namespace.expose_token and (namespace.username or namespace.password or namespace.password_stdin):
        raise UsageError(_NOT_WITH, command=command_of(namespace))
    options = options_of(namespace)
    host = host_of(namespace, options, namespace.registry)
    found = run_until_done(log_in(host, options))
    if namespace.expose_token:
        warn(namespace, _WHAT_IT_IS, _HOW_TO_USE)
        print_answer(_exposed(host, found), namespace.output, namespace.query)
    else:
        run_until_done(keep_login(host, found, os.environ))
        print_result("Login Succeeded")
    return ExitCode.DONE


def _exposed(host: str, found: Credentials) -> dict[str, str]:
    """Raises `CredentialsError` when the login is not a refresh token."""
    token = found.identity_token or (found.password if found.username == NULL_USER else "")
    if not token:
        raise CredentialsError(
            f"--expose-token shows a refresh token, and {host} was asked with a user name and password",
            hint="log in with az login, and leave the registry's own credentials out",
        )
    return {"accessToken": token, "loginServer": host, "refreshToken": token, "username": NULL_USER}
