"""A source's name for several copies of the same content: resolved once, its manifests fetched once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from crossdock.content import BlobSource, Source
from crossdock.errors import NotFound, ReferrersIncomplete
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.platform import Platform
from crossdock.reading import read_manifest
from crossdock.registry.flight import SingleFlight
from crossdock.steps import during
from crossdock.transfer.naming import fetch_named, resolve
from crossdock.transfer.platforms import select
from crossdock.transfer.sides import find_attached

MOST_BYTES = 32 << 20  # of manifests; those over it are fetched again for each target


class Fetched:
    """Manifests of a repository and their referrers: requested once, for all copies that share them."""

    def __init__(self) -> None:
        self._manifests: dict[Digest, bytes] = {}
        self._room = MOST_BYTES
        self._attached: dict[Digest, tuple[list[Descriptor], list[str]]] = {}
        self._fetching: SingleFlight[bytes] = SingleFlight()
        self._finding: SingleFlight[tuple[list[Descriptor], list[str]]] = SingleFlight()

    async def manifest(self, source: Source, descriptor: Descriptor) -> bytes:
        """As `Source.fetch_manifest`. # network, the first time"""
        digest = descriptor.digest
        data = self._manifests.get(digest)
        if data is None:
            data = await self._fetching.run(digest, lambda: source.fetch_manifest(descriptor))
            if digest not in self._manifests and len(data) <= self._room:
                self._room -= len(data)
                self._manifests[digest] = data
        return data

    async def attached(self, source: Source, digest: Digest) -> tuple[list[Descriptor], list[str]]:
        """As `FindsAttached.attached`. # network, the first time"""
        found = self._attached.get(digest)
        if found is None:
            found = await self._finding.run(digest, lambda: find_attached(source, digest))
            self._attached[digest] = found
        return found


class KeptSource:
    """A `Source` over another that remembers manifests and their referrers, but no blobs."""

    def __init__(
        self,
        source: Source,
        reference: str,
        name: str,
        digest: Digest | None = None,
        doing: str = "copy",
        *,
        found: Descriptor | None = None,
        leaves_out: Callable[[str], bool] | None = None,
    ) -> None:
        """`name` is a tag or digest; a given `digest` must agree. Errors call it `reference`, and what is
        done with it `doing`. `found`: what it means is known; without a size, until it is read.
        `leaves_out` tells which attached tags are not shown.
        """
        self._source = source
        self._reference = reference
        self._wanted = name
        self._digest = digest
        self._doing = doing
        self._named = found
        self._leaves_out = leaves_out
        self._is_gone = False
        self._resolving: SingleFlight[Descriptor] = SingleFlight()
        self.fetched = Fetched()
        """Content that was requested; several sources of one repository may share it."""

    # -- the name ------------------------------------------------------------------------------------------

    @property
    def named(self) -> Descriptor:
        """The manifest that the name means: call `find` first."""
        assert self._named is not None
        return self._named

    async def find(self) -> Descriptor:
        """`named`. Raises `CopyError`, over `DigestMismatch` when name and digest do not agree.
        # network, the first time
        """
        if self._named is None:
            self._named = await self._resolve()
        return self._named

    async def read(self) -> bytes:
        """The manifest `named`. If it is gone, that is another one from now on: what the name means by now.
        # network, the first time
        """
        named = self.named
        if named.size:
            named, data = await fetch_named(self.fetch_manifest, named, self._resolve)
        else:
            try:
                data = await self.fetch_manifest(named)
            except NotFound:
                # Others have resolved it. A stale HEAD, or a cache of tags alone, shows when it is done here.
                named, data = await fetch_named(self.fetch_manifest, await self._resolve(), self._resolve)
        if not named.size:
            with during("read manifest of", "source", f"{self.name}@{named.digest}"):
                media_type = (await read_manifest(data, named.media_type or None)).media_type
            named = Descriptor(media_type, named.digest, len(data))
        self._named = named
        return data

    async def choose(self, data: bytes, platforms: tuple[Platform, ...]) -> tuple[Descriptor, bytes]:
        """The manifest to copy, if `platforms` are wanted of the one `named`, which is `data`; and its bytes.

        Raises `CopyError` when a platform is not there. # network
        """
        return await select(self.named, data, platforms, self)

    async def _resolve(self) -> Descriptor:
        return await resolve(self._source, self._reference, self._wanted, self._digest, self._doing)

    # -- content.Source ------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the source itself."""
        return self._source.name

    async def resolve(self, reference: str) -> Descriptor:
        """As `Source.resolve`; what was found already is known. # network"""
        known = self._named
        if known is not None and reference == known.digest:
            return known
        if reference != self._wanted:
            return await self._source.resolve(reference)
        if known is not None and known.size and not self._is_gone:
            return known
        return await self._resolving.run("resolve", self._ask)

    async def _ask(self) -> Descriptor:
        self._named = await self._source.resolve(self._wanted)
        self._is_gone = False
        return self._named

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """As `Source.fetch_manifest`. # network, the first time"""
        try:
            return await self.fetched.manifest(self._source, descriptor)
        except NotFound:
            # The tag has moved since, or the answer was stale: who asks for it again gets the present one.
            self._is_gone = self._is_gone or descriptor is self._named
            raise

    def blob(self, descriptor: Descriptor) -> BlobSource:
        """As `Source.blob`."""
        return self._source.blob(descriptor)

    async def attached(self, digest: Digest) -> tuple[list[Descriptor], list[str]]:
        """As `FindsAttached.attached`. # network, the first time"""
        try:
            referrers, tags = await self.fetched.attached(self._source, digest)
        except ReferrersIncomplete as error:
            error.tags = tuple(self._shown(error.tags))
            raise
        return referrers, self._shown(tags)

    def _shown(self, tags: Iterable[str]) -> list[str]:
        return [tag for tag in tags if self._leaves_out is None or not self._leaves_out(tag)]
