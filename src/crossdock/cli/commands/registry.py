"""``crossdock registry``."""

from __future__ import annotations

import argparse

from crossdock.cli.exits import ExitCode
from crossdock.cli.flags import add_listening
from crossdock.cli.parser import Parser
from crossdock.cli.streams import print_result
from crossdock.cli.values import file_path, readable_file
from crossdock.errors import InvalidOption, StoreError


def add_flags(parser: Parser) -> None:
    """Add the flags of ``registry``."""
    parser.add_argument(
        "--root", type=file_path, required=True, metavar="DIR", help="folder of the OCI layout"
    )
    add_listening(parser, "127.0.0.1:5000")
    parser.add_argument(
        "--users",
        type=readable_file,
        metavar="FILE",
        help="JSON file of users and their rights; they log in as at Azure's registries",
    )
    parser.add_argument(
        "--anonymous",
        choices=("read", "write"),
        help="rights of anonymous clients, if there is no --users; required to listen beyond loopback",
    )


def run(namespace: argparse.Namespace) -> int:
    """Serve ``namespace.root`` until SIGINT or SIGTERM; prints the address once connections are accepted."""
    from crossdock.embedded import serve

    scheme = "https" if namespace.cert else "http"

    def ready(address: str) -> None:
        print_result(f"serving {namespace.root} at {scheme}://{address}")

    try:
        serve.run(
            str(namespace.root),
            namespace.listen,
            cert=str(namespace.cert) if namespace.cert else None,
            key=str(namespace.key) if namespace.key else None,
            users=namespace.users,
            anonymous=namespace.anonymous,
            ready=ready,
        )
    except StoreError as error:  # the folder or the address: what the caller chose cannot be used
        raise InvalidOption(str(error), advice=error.advice) from error
    return ExitCode.DONE
