"""``crossdock registry``."""

from __future__ import annotations

import argparse

from crossdock.cli.exits import ExitCode
from crossdock.cli.streams import print_result
from crossdock.embedded import serve
from crossdock.errors import InvalidOption, StoreError


def registry(namespace: argparse.Namespace) -> int:
    """Serve ``namespace.root`` until SIGINT or SIGTERM; prints the address once connections are accepted."""
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
        raise InvalidOption(str(error), hint=error.hint) from error
    return ExitCode.DONE
