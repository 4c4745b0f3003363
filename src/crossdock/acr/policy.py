"""Registries' policies on imports, from their settings in the inventory.

- A source whose export policy is disabled cannot be imported from; pulls still work.
- A source without public network access can only be imported from by its resource ID, so never across
tenants.
- A registry without public network access that does not allow trusted services takes no part in imports.
"""

from __future__ import annotations

from crossdock.errors import Advice, PolicyRefused
from crossdock.inventory.values import Entry


def check_policies(source: Entry | None, target: Entry, *, by_resource: bool) -> None:
    """Raise `PolicyRefused` when `source` or `target` forbid the import.

    `source` is None for a registry outside the inventory. `by_resource`: it was named as a resource, by its
    ID or name, without credentials of the caller.
    """
    for side, entry in (("target", target), ("source", source)):
        if (
            entry is not None
            and entry.public_network_access == "Disabled"
            and entry.network_rule_bypass_options == "None"
        ):
            raise PolicyRefused(
                f"the {side} registry {entry.name} has public network access disabled and does not allow"
                " trusted services: it takes no part in imports",
                advice=Advice("set-policy", "its network_rule_bypass_options would have to be AzureServices"),
            )
    if source is None:
        return
    if source.export_policy == "disabled":
        raise PolicyRefused(
            f"the source registry {source.name} does not allow its artifacts to be exported:"
            " its export policy is disabled",
            advice=Advice(
                "set-policy",
                "a registry with a disabled export policy can be pulled from but not imported from",
            ),
        )
    if source.public_network_access == "Disabled" and not by_resource:
        raise PolicyRefused(
            f"the source registry {source.name} has public network access disabled:"
            " it cannot be imported from by its login server or with credentials",
            advice=Advice("use-resource-id"),
        )
