"""How many requests an apply needs, host by host, and how long that takes within the hosts' limits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from crossdock.migration.file import Limits
from crossdock.oci.registryname import registry_key

PUSH = 2  # requests of a blob that is uploaded: POST and PUT
READ = 1  # of one that is read


class HostRequests(Struct):
    """The requests to one host. Where only pulls are limited, `needed` counts those alone."""

    needed: int
    limit_per_minute: float | None = None

    @property
    def minutes(self) -> float | None:
        """The minutes that they take within the limit; None: no limit is known."""
        return None if self.limit_per_minute is None else self.needed / self.limit_per_minute

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        minutes = self.minutes
        return {
            "needed": self.needed,
            "limit_per_minute": self.limit_per_minute,
            "minutes": None if minutes is None else round(minutes, 2),
        }


class Need(Struct):
    """Requests that one side of an entry needs from a host."""

    host: str  # as people write it
    client: Any  # of the host, for this side: what was sent while planning is sent again by an apply
    requests: int
    pulls: int = 0


def requests_of(needs: Iterable[Need], limits: Limits) -> dict[str, HostRequests]:
    """The sums for each host, in the order of the entries."""
    found: dict[str, HostRequests] = {}
    counted: set[int] = set()
    for need in needs:
        published = need.client.kind.limits
        host = found.setdefault(need.host, HostRequests(0))
        own = limits.hosts.get(need.host) or next(
            (each for name, each in limits.hosts.items() if registry_key(name) == registry_key(need.host)),
            None,
        )
        if published.pulls_per_minute is not None:
            host.needed += need.pulls
            host.limit_per_minute = published.pulls_per_minute
            continue
        host.needed += need.requests
        if id(need.client) not in counted:
            counted.add(id(need.client))
            host.needed += need.client.requests
        rates = [each for each in (limits.requests_per_second, own and own.requests_per_second) if each]
        most = [published.requests_per_minute] if published.requests_per_minute else []
        host.limit_per_minute = min([*most, *(each * 60 for each in rates)], default=None)
    return found
