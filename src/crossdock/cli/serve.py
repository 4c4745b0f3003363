"""``crossdock serve``."""

from __future__ import annotations

import argparse
import logging
import os

from crossdock.cli.exits import ExitCode
from crossdock.cli.streams import print_result
from crossdock.errors import InvalidOption, StoreError
from crossdock.inventory.find import open_inventory
from crossdock.options import default_state_folder


def serve(namespace: argparse.Namespace) -> int:
    """Serve imports until SIGINT or SIGTERM; prints the URL once connections are accepted."""
    from crossdock.service.run import ServiceOptions, run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    inventory = open_inventory(namespace.inventory, os.environ)
    if inventory is None:
        raise InvalidOption("the service needs an inventory", hint="give --inventory FILE")
    options = ServiceOptions(
        inventory=inventory,
        listen=namespace.listen,
        cert=namespace.cert,
        key=namespace.key,
        state=namespace.state or default_state_folder(os.environ) / "service",
    )
    try:
        run(options, os.environ, lambda url: print_result(f"serving imports at {url}"))
    except StoreError as error:
        raise InvalidOption(str(error), hint=error.hint) from error
    return ExitCode.DONE
