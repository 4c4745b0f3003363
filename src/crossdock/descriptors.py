"""How much may be open at once under the limit on open files (``ulimit -n``)."""

from __future__ import annotations

import resource

RESERVED = 24  # files that are always open, or for a moment: streams, the loop's own, journal, credentials


# Seconds between tries to get a descriptor: others give theirs back when what they wait for is done.
PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


def affordable(wanted: int, *, per: int, least: int = 1) -> int:
    """At most `wanted` of what may take one in `per` of the descriptors; never fewer than `least`."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(least, (limit - RESERVED) // per))
