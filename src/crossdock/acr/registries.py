"""Which registry is to be looked at: as for an import's target, or a login server as it stands."""

from __future__ import annotations

from crossdock.acr.command import find_target, read_name
from crossdock.inventory.values import Inventory, ResourceId
from crossdock.oci.reference import Reference


def login_server(text: str, inventory: Inventory, *, subscription: str = "", resource_group: str = "") -> str:
    """``host[:port]`` of the registry that `text` names: by name, login server or Azure's resource ID.

    A host that the inventory does not have is taken as it is, whatever its suffix. Raises `InvalidInput` for
    what is neither host nor name, and for a name that fits several entries, or none of those it has.
    """
    is_host = "." in text or ":" in text or text == "localhost"
    if is_host and not inventory.named(text) and ResourceId.parse(text) is None:
        return Reference(text, "name").registry  # checked
    name = read_name(text, inventory, [])
    return find_target(name, inventory, subscription=subscription, resource_group=resource_group).login_server
