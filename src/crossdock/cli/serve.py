"""``crossdock serve``."""

from __future__ import annotations

import argparse
import os
from importlib.util import find_spec

from crossdock.cli.exits import ExitCode
from crossdock.cli.streams import print_result
from crossdock.errors import InvalidOption, StoreError
from crossdock.inventory.find import open_inventory
from crossdock.options import default_state_folder

NEEDED = ("cryptography", "jwt", "prometheus_client")


def serve(namespace: argparse.Namespace) -> int:
    """Serve imports until SIGINT or SIGTERM; prints the URL once connections are accepted."""
    if any(find_spec(each) is None for each in NEEDED):
        raise InvalidOption(
            "crossdock serve needs packages that are not installed",
            hint="install crossdock[service]",
        )
    from crossdock.service.config import Settings, read_settings
    from crossdock.service.logs import log_json
    from crossdock.service.run import ServiceOptions, run

    log_json()
    # uvloop looks names up in libuv's threads, of which it lends half to that. With the usual four, two slow
    # name servers would keep all imports waiting. It is read when the first thread starts.
    os.environ.setdefault("UV_THREADPOOL_SIZE", "96")
    settings = read_settings(namespace.config) if namespace.config else Settings()
    inventory = open_inventory(namespace.inventory, os.environ)
    if inventory is None:
        raise InvalidOption("the service needs an inventory", hint="give --inventory FILE")
    options = ServiceOptions(
        inventory=inventory,
        listen=namespace.listen,
        cert=namespace.cert,
        key=namespace.key,
        state=namespace.state or settings.state or default_state_folder(os.environ) / "service",
        settings=settings,
        is_dev=namespace.dev,
        dev_info=namespace.dev_info,
    )
    try:
        run(options, os.environ, lambda url: print_result(f"serving imports at {url}"))
    except StoreError as error:
        raise InvalidOption(str(error), hint=error.hint) from error
    return ExitCode.DONE
