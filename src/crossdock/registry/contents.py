"""A cache of the content of one registry's repositories, as seen and written by this process.

Nothing is requested twice, and a blob that is known in one repository can be mounted into another. The cache
may be outdated: a registry that has deleted content meanwhile refuses the manifest, and `forget` follows.

Blobs and manifests are kept apart. The same bytes may be both, and a repository that has them as one need not
have them as the other.

Blobs that several repositories need at once are brought into one of them while the others wait (`turn`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

from msgspec import Struct

from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest

MOST_DIGESTS = 20_000  # of some 400 bytes each; those used longest ago are forgotten
MOST_REPOSITORIES = 8  # of one digest
REFUSALS = 3  # mounts in a row that the registry refused, after which no copy waits for what it could mount
TRIED_AGAIN = 8  # where a refused mount costs a request, one in so many is still tried
LATE_S = 10.0  # at least, for the manifest of another copy after which a blob can be mounted
LATE_BYTES_PER_S = 1 << 20  # or as long as the blob takes at this rate
LOOKS_COUNTED = 4  # how far the blobs that were there can be ahead of those that were not, or behind
LOOKS_REFUSED = 3  # in a row, after which blobs are looked for by HEAD alone
WAITS = 2  # for copies that fail to bring a blob; more would add up to hours where a source is silent


class _Arrival(Struct, frozen=True):
    """A blob that a copy brings into a repository, or will bring if it is missing there."""

    repository: str
    ended: asyncio.Future[None]

    def end(self) -> None:
        """Wake the copies that wait for it."""
        if not self.ended.done():
            self.ended.set_result(None)


class _Held(Struct):
    """A blob in a repository: which copy brought it, and whether a manifest there refers to it."""

    rank: int = 0
    is_referred: bool = True
    referred: asyncio.Future[bool] | None = None  # set while a copy waits for a reference

    def tell(self, is_referred: bool) -> None:
        """Record whether a manifest refers to it, and wake who waits for that."""
        self.is_referred = is_referred
        if self.referred is not None and not self.referred.done():
            self.referred.set_result(is_referred)


class Contents:
    """Digests, their sizes, and the repositories that have them, or soon will.

    Registries differ in which blobs they mount. Most take any blob of another repository. Some (ECR since
    2026) take one only after a manifest of that repository refers to it: so a copy waits for the other's
    manifest, unless the other copy claimed its blobs later: it may be waiting itself.
    """

    def __init__(self, mounts: str | None = None) -> None:
        """`mounts`: as `kinds.Kind.mounts`."""
        self._known: OrderedDict[Digest, tuple[int, dict[str, _Held]]] = OrderedDict()
        self._pushed: OrderedDict[tuple[str, Digest], None] = OrderedDict()  # manifests
        self._refused = self._refused_at_cost = self._skipped = 0
        self._copies = 0
        self._trying = asyncio.Lock()  # of the first mount, which tells how the registry mounts
        self.mounts_late: bool | None = None
        """It mounts only blobs that a manifest refers to. None: not known. False: not yet seen."""
        self._arrivals: dict[Digest, dict[str, _Arrival]] = {}  # by source
        self._absent: set[str] = set()  # repositories that the registry does not know
        self._presence = 0  # of the blobs looked for last, those that were there less those that were not
        self._looks_refused = 0
        self._never_mounts = False
        self.set_mounts(mounts)

    def set_mounts(self, mounts: str | None) -> None:
        """How the registry mounts, by its kind. None: not known.

        That a kind mounts at once is no verdict: the first mounts show it, as they do where nothing is known.
        """
        self._never_mounts = mounts == "never"
        self.mounts_late = True if mounts == "after_manifest" else None

    def rank(self) -> int:
        """A number for the copy that claims its blobs now."""
        self._copies += 1
        return self._copies

    def add(self, repository: str, descriptor: Descriptor, rank: int | None = None) -> None:
        """Record that the repository has the blob. `rank`: of the copy that brought it, before a manifest."""
        size, repositories = self._known.setdefault(descriptor.digest, (descriptor.size, {}))
        self._known.move_to_end(descriptor.digest)
        if size == descriptor.size and len(repositories) < MOST_REPOSITORIES:
            held = _Held() if rank is None else _Held(rank, is_referred=False)
            repositories.setdefault(repository, held)
            if rank is None:
                for source in tuple(self._arrivals.get(descriptor.digest, ())):
                    self._end(repository, descriptor, source)
        if len(self._known) > MOST_DIGESTS:
            self._known.popitem(last=False)

    def has(self, repository: str, descriptor: Descriptor) -> bool:
        """Whether the repository is known to have the blob, with the descriptor's size."""
        return repository in self._holders(descriptor)

    def elsewhere(self, repository: str, descriptor: Descriptor) -> str | None:
        """Another repository that has the blob; None when none is known, or the registry mounts nothing."""
        holders = self._holders(descriptor)
        others = [other for other in holders if other != repository]
        if not others or self._never_mounts:
            return None
        if self._refused_at_cost >= REFUSALS:
            self._skipped += 1
            if self._skipped % TRIED_AGAIN:
                return None
        return next((other for other in others if holders[other].is_referred), others[0])

    def note_absent(self, repository: str, is_absent: bool) -> None:
        """Record whether the registry answered a request for the repository with NAME_UNKNOWN."""
        if not is_absent:
            self._absent.discard(repository)
        elif len(self._absent) < MOST_DIGESTS:
            self._absent.add(repository)

    def is_absent(self, repository: str) -> bool:
        """Whether the registry did not know the repository when it was last asked: nothing is there."""
        return repository in self._absent

    @property
    def looks_by_mount(self) -> bool:
        """Whether blobs are to be looked for by a mount from the repository itself (M6), not by HEAD.

        For a blob that is missing the mount saves a request, since it also opens the upload session. For one
        that is there it costs a request, since HEAD has to confirm it. So the blobs that were looked for last
        decide.
        """
        works = self._looks_refused < LOOKS_REFUSED and not self._never_mounts and not self.mounts_late
        return works and self._presence <= 0

    def looked(self, found: bool) -> None:
        """Record whether a blob that was looked for was there."""
        self._presence = max(-LOOKS_COUNTED, min(LOOKS_COUNTED, self._presence + (1 if found else -1)))

    def looked_by_mount(self, answered: bool) -> None:
        """Record whether the registry answered a mount from the repository itself with 201 or 202."""
        self._looks_refused = 0 if answered else self._looks_refused + 1

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
    async def mount_turn(self) -> AsyncIterator[None]:
        """The block that mounts a blob: one at a time until one has shown how the registry mounts."""
        if self.mounts_late is not None or self._refused:
            yield
            return
        async with self._trying:
            yield

    def is_referred(self, repository: str, digest: Digest) -> bool:
        """Whether a manifest of the repository refers to the blob, as far as is known."""
        held = self._held(repository, digest)
        return held is None or held.is_referred

    async def referred(self, repository: str, descriptor: Descriptor, rank: int) -> bool:
        """Wait until a manifest of the repository refers to the blob; False: that takes too long.

        `rank` is that of the copy that waits: it does not wait for one that claimed later.
        """
        held = self._held(repository, descriptor.digest)
        if held is None or held.is_referred:
            return held is not None
        if held.rank > rank:
            return False
        if held.referred is None:
            held.referred = asyncio.get_running_loop().create_future()
        await asyncio.wait([held.referred], timeout=max(LATE_S, descriptor.size / LATE_BYTES_PER_S))
        return held.is_referred

    def refer(self, repository: str, digests: Iterable[Digest]) -> None:
        """Record that a manifest that refers to these blobs was pushed to the repository."""
        for digest in digests:
            held = self._held(repository, digest)
            if held is not None:
                held.tell(True)

    def mounted(self, worked: bool, *, at_cost: bool = False) -> None:
        """Record the result of a mount; `at_cost`: the refusal is of no use for the upload."""
        self._refused = 0 if worked else self._refused + 1
        self._refused_at_cost = self._refused_at_cost + 1 if at_cost and not worked else 0
        if self._refused >= REFUSALS:  # there is nothing to wait for
            for arrivals in self._arrivals.values():
                for arrival in arrivals.values():
                    arrival.end()

    @contextmanager
    def claim(self, repository: str, blobs: Iterable[Descriptor], source: str) -> Iterator[None]:
        """The block that copies the blobs of a manifest from the registry `source`.

        It brings the blobs that are missing in the repository and that no other copy brings. They are claimed
        together: if two copies each brought some of their shared layers, only one could wait for the other's
        manifest, and the other would read and upload those layers again.
        """
        claimed = [blob for blob in blobs if self._claim(repository, blob, source)]
        try:
            yield
        finally:
            for blob in claimed:
                self._end(repository, blob, source)

    @asynccontextmanager
    async def turn(self, repository: str, descriptor: Descriptor, source: str) -> AsyncIterator[None]:
        """The block that copies a blob into the repository, which does not have it.

        Entered at once, unless another copy brings the blob from the registry `source` into a repository
        from which it can be mounted later: then it is entered when that copy has ended, well or not. There is
        no wait where mounts are refused. The caller must hold nothing that another copy needs. Notes of
        a block that fails are dropped.
        """
        for _ in range(WAITS):
            arrival = self._awaited(repository, descriptor, source)
            if arrival is None:
                break
            await asyncio.shield(arrival.ended)
        self._claim(repository, descriptor, source)
        try:
            yield
        except BaseException:
            self._drop(descriptor.digest, repository)
            raise
        finally:
            self._end(repository, descriptor, source)

    def _arrival(self, descriptor: Descriptor, source: str) -> _Arrival | None:
        return self._arrivals.get(descriptor.digest, {}).get(source)

    def _awaited(self, repository: str, descriptor: Descriptor, source: str) -> _Arrival | None:
        """The arrival in another repository after which the blob can be mounted; None: do not wait."""
        arrival = self._arrival(descriptor, source)
        if arrival is None or arrival.repository == repository:
            return None
        if self._never_mounts or self._refused >= REFUSALS:
            return None
        can_mount_now = not self._holders(descriptor).keys() <= {repository, arrival.repository}
        return None if can_mount_now else arrival

    def _claim(self, repository: str, descriptor: Descriptor, source: str) -> bool:
        """Note that the repository brings the blob from there; False: another one does, or some have it."""
        if self._arrival(descriptor, source) is not None or self._holders(descriptor):
            return False
        arrival = _Arrival(repository, asyncio.get_running_loop().create_future())
        self._arrivals.setdefault(descriptor.digest, {})[source] = arrival
        return True

    def _end(self, repository: str, descriptor: Descriptor, source: str) -> None:
        """The repository has the blob, or its copy failed: others need not wait for it."""
        arrival = self._arrival(descriptor, source)
        if arrival is None or arrival.repository != repository:
            return
        arrivals = self._arrivals[descriptor.digest]
        del arrivals[source]
        if not arrivals:
            del self._arrivals[descriptor.digest]
        arrival.end()

    def _holders(self, descriptor: Descriptor) -> dict[str, _Held]:
        """The repositories that are known to have the blob, with the descriptor's size."""
        size, repositories = self._known.get(descriptor.digest, (0, {}))
        return repositories if size == descriptor.size else {}

    def _held(self, repository: str, digest: Digest) -> _Held | None:
        return self._known.get(digest, (0, {}))[1].get(repository)

    def _drop(self, digest: Digest, repository: str) -> None:
        held = self._known.get(digest, (0, {}))[1].pop(repository, None)
        if held is not None:
            held.tell(False)

    def forget(self, repository: str) -> None:
        """Forget the cached state of the repository, which is outdated."""
        for digest in self._known:
            self._drop(digest, repository)
        for key in [key for key in self._pushed if key[0] == repository]:
            del self._pushed[key]
