"""``crossdock logout``."""

from __future__ import annotations

import argparse

from crossdock.cli.exits import ExitCode
from crossdock.cli.parser import Parser
from crossdock.cli.streams import print_result, warn
from crossdock.cli.values import file_path
from crossdock.options import CopyOptions


def add_flags(parser: Parser) -> None:
    """Add the flags of ``logout``."""
    parser.description = (
        "Remove the login from every file and credential helper where crossdock would find it."
    )
    parser.add_argument(
        "registry", metavar="HOST", help="HOST[:PORT] of the registry; docker.io for Docker Hub"
    )
    parser.add_argument("--authfile", type=file_path, metavar="FILE", help="remove it from this file only")


def run(namespace: argparse.Namespace) -> int:
    """Remove a login from wherever it is found."""
    from crossdock.cli.loop import run_until_done
    from crossdock.loggingin import find_login, log_out, registry_host

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
