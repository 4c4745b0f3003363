"""Names of the source and target registry of an import, for the status page and the metrics."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from crossdock.errors import InvalidInput
from crossdock.inventory.values import Inventory
from crossdock.oci.registryname import registry_key
from crossdock.service.values import Operation

OTHER = "other"


class Ends:
    """Names source and target of imports: one name for all spellings of a registry."""

    def __init__(self, inventory: Inventory, allow: Iterable[str] = ()) -> None:
        """`allow`: as `Sources.allow`."""
        self._inventory = inventory
        servers = {each.login_server for each in inventory.registries}
        self._labels = servers | {registry_key(each) for each in allow if "*" not in each}
        self._name = lru_cache(4096)(self._found)

    def names(self, operation: Operation) -> tuple[str, str]:
        """Source and target."""
        order = operation.order
        source = order.request.source
        return self._name(source.registry_uri or source.resource_id or ""), self._name(str(order.registry))

    def labels(self, operation: Operation) -> tuple[str, str]:
        """As `names`, but ``other`` unless inventory or settings list it: clients can send any name."""
        source, target = self.names(operation)
        return (
            source if source in self._labels else OTHER,
            target if target in self._labels else OTHER,
        )

    def _found(self, text: str) -> str:
        try:
            entry = self._inventory.find(text)
        except InvalidInput:  # several have this name
            entry = None
        if entry is not None:
            return entry.login_server
        return text.rpartition("/")[2] if text.startswith("/") else registry_key(text)
