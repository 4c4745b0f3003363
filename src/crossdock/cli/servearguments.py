"""The flags of ``crossdock serve``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from crossdock.cli.argumentvalues import file_path, folder_path, readable_file
from crossdock.cli.listenarguments import add_listening


def add_serve(commands: Any, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the subparsers."""
    parser = command(commands, "serve", "serve imports as Azure's registries do, to az, SDKs and curl")
    parser.add_argument(
        "--inventory",
        metavar="FILE",
        help="the registries (default: CROSSDOCK_INVENTORY, or crossdock/inventory.yaml in XDG_CONFIG_HOME)",
    )
    parser.add_argument(
        "--config",
        type=readable_file,
        metavar="FILE",
        help="the settings: identities, rights, sources, limits (docs/service.md)",
    )
    add_listening(parser, "127.0.0.1:8443")
    parser.add_argument(
        "--dev",
        action="store_true",
        help="for tests: make a certificate authority and an identity provider that az can log in to "
        "(needs crossdock-testing)",
    )
    parser.add_argument(
        "--dev-info",
        type=file_path,
        metavar="FILE",
        help="write how to log in there to this file, as JSON, once connections are accepted",
    )
    parser.add_argument(
        "--state",
        type=folder_path,
        metavar="DIR",
        help="what accepted imports are kept in (default: crossdock/service in XDG_STATE_HOME)",
    )
