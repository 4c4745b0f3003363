"""``crossdock login`` and ``crossdock logout``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from crossdock.cli.arguments import UsageError, copy_options
from crossdock.cli.exits import ExitCode
from crossdock.cli.loop import run_until_done
from crossdock.cli.streams import print_result, read_secret, warn
from crossdock.errors import CredentialsError
from crossdock.loggingin import find_login, log_in, log_out, registry_host
from crossdock.options import CopyOptions, Credentials

_COMMAND = "crossdock login"


def login(namespace: argparse.Namespace) -> int:
    """Keep a login that the registry accepts, or say who is logged in."""
    host = registry_host(namespace.registry)
    if namespace.get_login:
        return _get_login(namespace, host)
    credentials = _read_credentials(namespace, host)
    options = copy_options(namespace, credentials, None)
    work = log_in(host, credentials, options, authfile=namespace.authfile, on_warning=warn)
    kept = run_until_done(work)
    print_result(f"Login succeeded: {credentials.username} at {kept.host}, stored in {kept.place}")
    return ExitCode.DONE


def logout(namespace: argparse.Namespace) -> int:
    """Remove a login from wherever it is found."""
    host = registry_host(namespace.registry)
    options = CopyOptions()
    places = run_until_done(log_out(host, options, authfile=namespace.authfile))
    left = run_until_done(find_login(host, options, authfile=namespace.authfile))
    if places:
        print_result(f"Removed the login of {host} from {', '.join(places)}")
    elif left.credentials is None:
        print_result(f"Not logged in to {host}")
    if left.credentials is not None:
        warn(f"a login for {host} is still in {left.place}")
    return ExitCode.DONE


def _get_login(namespace: argparse.Namespace, host: str) -> int:
    found = run_until_done(find_login(host, CopyOptions(), authfile=namespace.authfile))
    if found.credentials is None:
        why = f": {found.trouble}" if found.trouble else ""
        raise CredentialsError(
            f"not logged in to {host}{why}", hint=found.remedy or f"crossdock login {host}"
        )
    print_result(found.credentials.username or "<token>")
    return ExitCode.DONE


def _read_credentials(namespace: argparse.Namespace, host: str) -> Credentials:
    on_terminal = sys.stdin.isatty()
    username = namespace.username
    if username is None:
        if namespace.password_stdin or not on_terminal:
            raise UsageError("-u USER is missing", command=_COMMAND)
        username = _asked(f"User for {host}: ", input)
    if not username or ":" in username:
        raise UsageError("a user name is not empty and has no colon", command=_COMMAND)
    if namespace.password_stdin:
        return Credentials(username=username, password=read_secret("--password-stdin", _COMMAND))
    if not on_terminal:
        raise UsageError(
            "stdin is not a terminal: give the password there with --password-stdin", command=_COMMAND
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
