"""The number of things that may be open at once under the limit on open files (``ulimit -n``)."""

from __future__ import annotations

import errno
import resource

RESERVED = 24  # files that are open always or briefly: streams, the event loop's, journal, credentials


# Seconds between tries to get a descriptor, while other work finishes and closes some.
PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


def affordable(wanted: int, *, per: int, least: int = 1) -> int:
    """The number to have open at once: `wanted`, or one for every `per` descriptors, at least `least`."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(least, (limit - RESERVED) // per))


def lacks_descriptors(error: BaseException) -> bool:
    """Whether this process, or the system, has no file descriptor left."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
