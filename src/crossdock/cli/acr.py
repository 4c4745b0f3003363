"""``crossdock acr``: which module has which of its commands."""

from __future__ import annotations

import argparse
from importlib import import_module

from crossdock.cli.streams import print_error

# Each module's function `run` takes the namespace and returns an exit code.
_MODULES = {
    "import": "crossdock.cli.acrimport",
    "manifest": "crossdock.cli.acrlisting",
    "repository": "crossdock.cli.acrlisting",
}


def acr(namespace: argparse.Namespace) -> int:
    """Run the command of the group."""
    return int(import_module(_MODULES[namespace.group]).run(namespace))


def warn(namespace: argparse.Namespace, *texts: str) -> None:
    """Say it on stderr as az does, unless it is not wanted."""
    if not namespace.only_show_errors:
        for text in texts:
            print_error(f"WARNING: {text}")
