"""Finding the inventory. Without one, nothing heavy is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossdock.inventory.values import Inventory


def find_inventory(named: str | None, environ: Mapping[str, str]) -> Path | None:
    """The inventory's file: `named`, else ``CROSSDOCK_INVENTORY``, else
    ``$XDG_CONFIG_HOME/crossdock/inventory.yaml`` (``~/.config`` when unset) if it exists.
    """
    if named := named or environ.get("CROSSDOCK_INVENTORY"):
        return Path(named)
    base = environ.get("XDG_CONFIG_HOME") or ""
    if not base.startswith("/"):  # a relative value is ignored (XDG base directory specification)
        if not environ.get("HOME"):
            return None
        base = f"{environ['HOME']}/.config"
    usual = Path(base, "crossdock", "inventory.yaml")
    return usual if os.path.isfile(usual) else None  # an unreadable folder counts as empty


def open_inventory(named: str | None, environ: Mapping[str, str]) -> Inventory | None:
    """The inventory in `find_inventory`'s file, or None. Raises `InvalidInput`. Blocks."""
    path = find_inventory(named, environ)
    if path is None:
        return None
    from crossdock.inventory.read import read_inventory

    return read_inventory(path)
