"""``crossdock acr login``."""

from __future__ import annotations

import argparse
import os

from crossdock.cli.commands.acr.defaults import prepare
from crossdock.cli.commands.acr.flags import add_common, add_registry
from crossdock.cli.commands.acr.output import print_output
from crossdock.cli.commands.acr.words import command_of, host_of, options_of, warn
from crossdock.cli.exits import ExitCode, UsageError
from crossdock.cli.parser import Parser
from crossdock.cli.streams import print_result
from crossdock.errors import Advice, CredentialsError

_NOT_WITH = "`--expose-token` cannot be combined with `--username` or `--password`."


def add_flags(parser: Parser) -> None:
    """Add the flags of ``acr login``."""
    parser.description = (
        "Log in and store the login in docker's configuration: a refresh token for az's own login, else the\n"
        "user name and password from the flags or the inventory."
    )
    add_registry(parser, "--name", "-n")
    parser.add_argument(
        "-t", "--expose-token", action="store_true", help="print the refresh token instead of storing it"
    )
    add_common(parser)


def run(namespace: argparse.Namespace) -> int:
    """Log in, and store or print the login."""
    from crossdock.acr.login import HOW_TO_USE, WHAT_IT_IS, exposed, log_in
    from crossdock.cli.loop import run_until_done
    from crossdock.loggingin import keep_login

    prepare(namespace)
    if namespace.expose_token and (namespace.username or namespace.password or namespace.password_stdin):
        raise UsageError(_NOT_WITH, command=command_of(namespace))
    options = options_of(namespace)
    host = host_of(namespace, options, namespace.registry)
    found = run_until_done(log_in(host, options))
    if namespace.expose_token:
        warn(namespace, WHAT_IT_IS, HOW_TO_USE)
        document = exposed(host, found)
        if document is None:
            raise CredentialsError(
                f"--expose-token prints a refresh token, but the login at {host} is a user name and password",
                advice=Advice("az-login", "use az login, without credentials of the registry itself"),
            )
        print_output(document, namespace.output, namespace.query)
    else:
        run_until_done(keep_login(host, found, os.environ))
        print_result("Login Succeeded")
    return ExitCode.DONE
