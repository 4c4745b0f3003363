"""What the repositories of one registry are known to have, by what this process saw and put there.

Nothing is asked twice, and what is known of one repository can be mounted into another. Known is what was
true a moment ago: a registry that deletes meanwhile refuses the manifest, and `forget` follows.
"""

from __future__ import annotations

from collections import OrderedDict

from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest

MOST_DIGESTS = 20_000  # of some 400 bytes each; those used longest ago are forgotten
MOST_REPOSITORIES = 8  # of one digest
REFUSALS = 3  # mounts in a row that the registry refused, after which none is tried


class Contents:
    """Digests, their sizes, and the repositories that have them."""

    def __init__(self) -> None:
        self._known: OrderedDict[Digest, tuple[int, dict[str, None]]] = OrderedDict()
        self._refused = 0

    def add(self, repository: str, descriptor: Descriptor) -> None:
        """The repository has it."""
        size, repositories = self._known.setdefault(descriptor.digest, (descriptor.size, {}))
        self._known.move_to_end(descriptor.digest)
        if size == descriptor.size and len(repositories) < MOST_REPOSITORIES:
            repositories[repository] = None
        if len(self._known) > MOST_DIGESTS:
            self._known.popitem(last=False)

    def has(self, repository: str, descriptor: Descriptor) -> bool:
        """Whether the repository is known to have it, with the descriptor's size."""
        size, repositories = self._known.get(descriptor.digest, (0, {}))
        return repository in repositories and size == descriptor.size

    def elsewhere(self, repository: str, descriptor: Descriptor) -> str | None:
        """Another repository that has it; None when none is known, or the registry mounts nothing."""
        if self._refused >= REFUSALS:
            return None
        size, repositories = self._known.get(descriptor.digest, (0, {}))
        if size != descriptor.size:
            return None
        return next((other for other in repositories if other != repository), None)

    def mounted(self, worked: bool) -> None:
        """What came of a mount."""
        self._refused = 0 if worked else self._refused + 1

    def forget(self, repository: str) -> None:
        """What was known of the repository is not true any more."""
        for _, repositories in self._known.values():
            repositories.pop(repository, None)
