"""A cache of the content of one registry's repositories, as seen and written by this process.

Nothing is requested twice, and what is known of one repository can be mounted into another. Known is what was
true a moment ago: a registry that deletes meanwhile refuses the manifest, and `forget` follows.

Blobs and manifests are kept apart. The same bytes may be both, and a repository that has them as one need not
have them as the other.

What several repositories need at once is brought into one of them while the others wait (`turn`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from msgspec import Struct

from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest

MOST_DIGESTS = 20_000  # of some 400 bytes each; those used longest ago are forgotten
MOST_REPOSITORIES = 8  # of one digest
REFUSALS = 3  # mounts in a row that the registry refused, after which none is tried
WAITS = 2  # for copies that fail to bring a blob; more would add up to hours where a source is silent


class _Arrival(Struct, frozen=True):
    """A blob that is being brought into a repository."""

    repository: str
    ended: asyncio.Future[None]


class Contents:
    """Digests, their sizes, and the repositories that have them, or soon will."""

    def __init__(self) -> None:
        self._known: OrderedDict[Digest, tuple[int, dict[str, None]]] = OrderedDict()
        self._pushed: OrderedDict[tuple[str, Digest], None] = OrderedDict()  # manifests
        self._refused = 0
        self._arrivals: dict[tuple[Digest, str], _Arrival] = {}
        self._pushes: WeakValueDictionary[tuple[str, Digest], asyncio.Lock] = WeakValueDictionary()

    def add(self, repository: str, descriptor: Descriptor) -> None:
        """The repository has the blob."""
        size, repositories = self._known.setdefault(descriptor.digest, (descriptor.size, {}))
        self._known.move_to_end(descriptor.digest)
        if size == descriptor.size and len(repositories) < MOST_REPOSITORIES:
            repositories[repository] = None
        if len(self._known) > MOST_DIGESTS:
            self._known.popitem(last=False)

    def has(self, repository: str, descriptor: Descriptor) -> bool:
        """Whether the repository is known to have the blob, with the descriptor's size."""
        size, repositories = self._known.get(descriptor.digest, (0, {}))
        return repository in repositories and size == descriptor.size

    def elsewhere(self, repository: str, descriptor: Descriptor) -> str | None:
        """Another repository that has the blob; None when none is known, or the registry mounts nothing."""
        if self._refused >= REFUSALS:
            return None
        size, repositories = self._known.get(descriptor.digest, (0, {}))
        if size != descriptor.size:
            return None
        return next((other for other in repositories if other != repository), None)

    def add_manifest(self, repository: str, digest: Digest) -> None:
        """The manifest was pushed to the repository."""
        self._pushed[repository, digest] = None
        self._pushed.move_to_end((repository, digest))
        if len(self._pushed) > MOST_DIGESTS:
            self._pushed.popitem(last=False)

    def has_manifest(self, repository: str, digest: Digest) -> bool:
        """Whether the manifest was pushed to the repository."""
        return (repository, digest) in self._pushed

    @asynccontextmanager
    async def push_turn(self, repository: str, digest: Digest) -> AsyncIterator[bool]:
        """The block that pushes a manifest, which copies of several tags may do; one of them at a time.

        Yields whether another has pushed it meanwhile.
        """
        key = repository, digest
        lock = self._pushes.get(key)
        if lock is None:
            lock = self._pushes[key] = asyncio.Lock()
        waits = lock.locked()
        async with lock:
            yield waits and self.has_manifest(repository, digest)

    def mounted(self, worked: bool) -> None:
        """Record the result of a mount."""
        self._refused = 0 if worked else self._refused + 1
        if self._refused >= REFUSALS:  # there is nothing to wait for
            for arrival in self._arrivals.values():
                if not arrival.ended.done():
                    arrival.ended.set_result(None)

    @asynccontextmanager
    async def turn(self, repository: str, descriptor: Descriptor, source: str) -> AsyncIterator[None]:
        """The block that copies a blob into the repository, which does not have it.

        Entered at once, unless another copy is copying the blob from the registry `source` into a repository
        from which it can be mounted later: then it is entered when that copy has ended, well or not. There is
        no wait if the last mount was refused. The caller must hold nothing that another copy needs. Notes of
        a block that fails are dropped.
        """
        key = descriptor.digest, source
        waits = 0
        while waits < WAITS and not self._refused and (arrival := self._arrivals.get(key)) is not None:
            if self.elsewhere(repository, descriptor) not in (None, arrival.repository):
                break
            await asyncio.shield(arrival.ended)
            waits += 1
        own = None
        if key not in self._arrivals and self.elsewhere(repository, descriptor) is None:
            own = self._arrivals[key] = _Arrival(repository, asyncio.get_running_loop().create_future())
        try:
            yield
        except BaseException:
            self._known.get(descriptor.digest, (0, {}))[1].pop(repository, None)
            raise
        finally:
            if own is not None:
                del self._arrivals[key]
                if not own.ended.done():
                    own.ended.set_result(None)

    def forget(self, repository: str) -> None:
        """Forget the cached state of the repository, which is outdated."""
        for _, repositories in self._known.values():
            repositories.pop(repository, None)
        for key in [key for key in self._pushed if key[0] == repository]:
            del self._pushed[key]
