"""``crossdock login``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from crossdock.cli.exits import ExitCode, UsageError
from crossdock.cli.flags import add_connection, add_network, copy_options
from crossdock.cli.parser import Parser
from crossdock.cli.streams import print_result, read_secret, warn
from crossdock.cli.values import file_path
from crossdock.errors import (
    Advice,
    CredentialsError,
)
from crossdock.options import CopyOptions, Credentials

_COMMAND = "crossdock login"


def add_flags(parser: Parser) -> None:
    """Add the flags of ``login``."""
    parser.description = (
        "Check user and password at the registry and store them in docker's or podman's file, or in the\n"
        "credential helper that the file names. The password comes from stdin or, on a terminal, a prompt."
    )
    parser.add_argument(
        "registry", metavar="HOST", help="HOST[:PORT] of the registry; docker.io for Docker Hub"
    )
    parser.add_argument("-u", "--username", metavar="USER", help="user name (default: prompt on a terminal)")
    parser.add_argument("--password-stdin", action="store_true", help="read the password or token from stdin")
    parser.add_argument(
        "--get-login", action="store_true", help="print the logged-in user instead of logging in"
    )
    parser.add_argument(
        "--authfile",
        type=file_path,
        metavar="FILE",
        help="write the login to this file (default: REGISTRY_AUTH_FILE, else the file that already has a "
        "login for HOST, else docker's config.json, or podman's auth.json if only that exists)",
    )
    add_connection(parser.add_argument_group("connection"), "source", "")
    add_network(parser)


def run(namespace: argparse.Namespace) -> int:
    """Store a login that the registry accepts, or print who is logged in."""
    from crossdock.cli.loop import run_until_done
    from crossdock.loggingin import find_login, log_in, registry_host

    host = registry_host(namespace.registry)
    if namespace.get_login:
        found = run_until_done(find_login(host, CopyOptions(), authfile=namespace.authfile))
        if found.credentials is None:
            why = f": {found.trouble}" if found.trouble else ""
            advice = found.remedy or Advice("log-in", f"crossdock login {host}", registry=host)
            raise CredentialsError(f"not logged in to {host}{why}", advice=advice)
        print_result(found.credentials.username or "<token>")
        return ExitCode.DONE
    credentials = _read_credentials(namespace, host)
    options = copy_options(namespace, credentials)
    kept = run_until_done(log_in(host, credentials, options, authfile=namespace.authfile, on_warning=warn))
    print_result(f"Login succeeded: {credentials.username} at {kept.host}, stored in {kept.place}")
    return ExitCode.DONE


def _read_credentials(namespace: argparse.Namespace, host: str) -> Credentials:
    on_terminal = sys.stdin.isatty()
    username = namespace.username
    if username is None:
        if namespace.password_stdin or not on_terminal:
            raise UsageError("-u USER is missing", command=_COMMAND)
        username = _asked(f"User for {host}: ", input)
    if not username or ":" in username:
        raise UsageError("a user name must not be empty or contain a colon", command=_COMMAND)
    if namespace.password_stdin:
        return Credentials(username=username, password=read_secret("--password-stdin", _COMMAND))
    if not on_terminal:
        raise UsageError(
            "stdin is not a terminal, so there is no prompt for the password",
            advice=Advice("give-password", "give it on stdin with --password-stdin"),
            command=_COMMAND,
        )
    from getpass import getpass

    password = _asked(f"Password of {username} at {host}: ", getpass)
    if not password:
        raise UsageError("no password was given", command=_COMMAND)
    return Credentials(username=username, password=password)


def _asked(prompt: str, ask: Callable[[str], str]) -> str:
    try:
        return ask(prompt)
    except EOFError:
        raise UsageError("nothing was typed", command=_COMMAND) from None
