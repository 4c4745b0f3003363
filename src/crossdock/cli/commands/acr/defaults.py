"""The defaults of az for flags that are not given: its environment and its configuration file.

``AZURE_DEFAULTS_ACR=NAME`` is ``az configure --defaults acr=NAME``, a line in the file ``config`` of
``AZURE_CONFIG_DIR`` (``~/.azure``). The environment comes first, as with az.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from crossdock.cli.commands.acr.flags import FORMATS
from crossdock.cli.commands.acr.output import check_query
from crossdock.cli.exits import UsageError
from crossdock.errors import Advice

_MAX_FILE = 1 << 20  # bytes; az writes some lines


def prepare(namespace: argparse.Namespace) -> None:
    """Fill in the default registry and output format, and check ``--query``, before a command runs.

    Raises `UsageError` when no registry is named, and `InvalidOption` for a wrong query.
    """
    flags, name = namespace.registry_flag
    if flags and not getattr(namespace, name) and getattr(namespace, "identifier", None) is None:
        default = az_default("defaults", "acr", os.environ)
        is_list = isinstance(getattr(namespace, name), list)  # of a flag that may be repeated
        setattr(namespace, name, [default] if is_list else default)
        if not default and namespace.group != "manifest":
            raise UsageError(
                f"the following arguments are required: {'/'.join(flags)}",
                advice=Advice("set-variable", "or set AZURE_DEFAULTS_ACR, as for az"),
                command=f"crossdock acr {namespace.group}",
            )
    if namespace.output is None and namespace.group != "import":
        wanted = az_default("core", "output", os.environ).lower()
        namespace.output = wanted if wanted in FORMATS else "json"
    check_query(namespace.query)


def az_default(section: str, name: str, environ: Mapping[str, str]) -> str:
    """The default `name` of ``[section]``; empty when there is none, or the file cannot be read."""
    if value := environ.get(f"AZURE_{section}_{name}".upper()):
        return value
    folder = environ.get("AZURE_CONFIG_DIR") or (environ.get("HOME") and f"{environ['HOME']}/.azure")
    return _in_file(Path(folder, "config"), section, name) if folder else ""


def _in_file(path: Path, section: str, name: str) -> str:
    import configparser  # most commands do not need it

    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_string(file.read(_MAX_FILE))
        return parser.get(section, name, fallback="").strip()
    except (OSError, ValueError, configparser.Error):
        return ""  # az will report its own file
