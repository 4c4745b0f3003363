"""How many connections the limit on open files leaves room for (``ulimit -n``)."""

from __future__ import annotations

import resource

RESERVED = 24  # files that are no connections: streams, the loop's own, journal, spool, layouts, credentials
ORIGINS = 4  # that a copy speaks to at once: two registries, and the storage that each redirects to
LEAST = 2

HINT = "raise the limit on open files (ulimit -n): with a low one there are few connections, or none"

# Seconds between tries to get a descriptor: others give theirs back when what they wait for is done.
PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


def affordable(wanted: int) -> int:
    """Connections per host, at most `wanted`."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(LEAST, (limit - RESERVED) // ORIGINS))
