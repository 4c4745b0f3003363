"""``crossdock serve``."""

from __future__ import annotations

import argparse
import os
from importlib.util import find_spec

from crossdock.cli.exits import ExitCode
from crossdock.cli.flags import add_inventory, add_listening
from crossdock.cli.parser import Parser
from crossdock.cli.streams import print_result
from crossdock.cli.values import file_path, folder_path, readable_file
from crossdock.errors import (
    Advice,
    InvalidOption,
    StoreError,
)
from crossdock.inventory.find import open_inventory
from crossdock.options import default_state_folder

NEEDED = ("cryptography", "jwt", "prometheus_client")


def add_flags(parser: Parser) -> None:
    """Add the flags of ``serve``."""
    add_inventory(parser, "the registries")
    parser.add_argument(
        "--config",
        type=readable_file,
        metavar="FILE",
        help="settings file: identities, rights, sources, limits (docs/service.md)",
    )
    add_listening(parser, "127.0.0.1:8443")
    parser.add_argument(
        "--tls-ended-elsewhere",
        action="store_true",
        help="a proxy in front, such as an Ingress, ends TLS: serve HTTP, also beyond loopback",
    )
    parser.add_argument(
        "--dev",
        action="store_true",
        help="for tests: create a certificate authority and an identity provider that az can log in to "
        "(needs crossdock-testing)",
    )
    parser.add_argument(
        "--dev-info",
        type=file_path,
        metavar="FILE",
        help="write the login data of --dev to this file, as JSON, once connections are accepted",
    )
    parser.add_argument(
        "--state",
        type=folder_path,
        metavar="DIR",
        help="folder for accepted imports (default: crossdock/service in XDG_STATE_HOME)",
    )


def run(namespace: argparse.Namespace) -> int:
    """Serve imports until SIGINT or SIGTERM; prints the URL once connections are accepted."""
    if any(find_spec(each) is None for each in NEEDED):
        raise InvalidOption(
            "crossdock serve needs packages that are not installed",
            advice=Advice("install", "install crossdock[service]"),
        )
    from crossdock.service import run as service
    from crossdock.service.config import Settings, read_settings
    from crossdock.service.logs import log_json

    log_json()
    # uvloop resolves names in half of libuv's threads, which are four by default: two slow name servers would
    # block all imports. libuv reads the variable when it starts the first thread.
    os.environ.setdefault("UV_THREADPOOL_SIZE", "96")
    settings = read_settings(namespace.config) if namespace.config else Settings()
    inventory = open_inventory(namespace.inventory, os.environ)
    if inventory is None:
        raise InvalidOption(
            "the service needs an inventory", advice=Advice("give-inventory", "give --inventory FILE")
        )
    options = service.ServiceOptions(
        inventory=inventory,
        listen=namespace.listen,
        cert=namespace.cert,
        key=namespace.key,
        tls_ended_elsewhere=namespace.tls_ended_elsewhere,
        state=namespace.state or settings.state or default_state_folder(os.environ) / "service",
        settings=settings,
        is_dev=namespace.dev,
        dev_info=namespace.dev_info,
    )
    try:
        service.run(options, os.environ, _print_ready)
    except StoreError as error:
        raise InvalidOption(str(error), advice=error.advice) from error
    return ExitCode.DONE


def _print_ready(url: str, page: str) -> None:
    print_result(f"serving imports at {url}")
    if page:
        print_result(f"status page, on this machine: {page}", brief="")
