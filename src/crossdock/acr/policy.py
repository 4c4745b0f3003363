"""What registries allow of imports, by the settings that the inventory has of them.

- A source whose export policy is disabled gives nothing to imports; pulls of it go on.
- A source without public network access is imported by its resource ID alone, so never across tenants.
- A registry without public network access that lets no trusted services in takes part in no import.
"""

from __future__ import annotations

from crossdock.errors import PolicyRefused
from crossdock.inventory.values import Entry


def check_policies(source: Entry | None, target: Entry, *, by_resource: bool) -> None:
    """Raise `PolicyRefused` when `source` or `target` forbid the import.

    `source` is None for a registry that the inventory does not have. `by_resource`: it was named as a
    resource (by its ID, or by a name that stands for it), without credentials of the caller's.
    """
    for side, entry in (("target", target), ("source", source)):
        if (
            entry is not None
            and entry.public_network_access == "Disabled"
            and entry.network_rule_bypass_options == "None"
        ):
            raise PolicyRefused(
                f"the {side} registry {entry.name} has public network access disabled and does not allow"
                " trusted services: it takes part in no import",
                hint="its network_rule_bypass_options would have to be AzureServices",
            )
    if source is None:
        return
    if source.export_policy == "disabled":
        raise PolicyRefused(
            f"the source registry {source.name} does not allow its artifacts to be exported:"
            " its export policy is disabled",
            hint="a registry with a disabled export policy can be pulled from, and not imported from",
        )
    if source.public_network_access == "Disabled" and not by_resource:
        raise PolicyRefused(
            f"the source registry {source.name} has public network access disabled:"
            " it cannot be imported from by its login server or with credentials",
            hint="name it by its resource ID with --registry, which works within one tenant only",
        )
