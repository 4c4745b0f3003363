"""Comparing the content of two sides without copying: manifests, blobs and referrers.

Nothing that a copy remembers is used here: every manifest is fetched from both sides and hashed, and every
blob of the target is opened. A HEAD of the blob is no proof: distribution answers it from a cache even when
the file of the blob is gone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from msgspec import Struct, field

from crossdock.content import FindsAttached, Source
from crossdock.errors import (
    ContentError,
    CrossdockError,
    DigestMismatch,
    InvalidManifest,
    NotFound,
    Side,
    SizeMismatch,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest
from crossdock.oci.mediatype import is_foreign_layer
from crossdock.oci.platform import Platform
from crossdock.options import NetworkOptions
from crossdock.reading import read_manifest
from crossdock.steps import during
from crossdock.transfer.platforms import select

if TYPE_CHECKING:
    from crossdock.limits import Limits, Pace

T = TypeVar("T")

Level = Literal["tags", "graph", "bytes"]
RowKind = Literal["tag", "manifest", "blob", "referrer"]

AT_ONCE = 16  # blobs of all repositories that are looked at
HASHED_AT_ONCE = 4  # blobs that are read whole
BUFFER = 1 << 20  # of a blob that is read; each has two
DEPTH = 4  # referrers of referrers, as a copy takes them along


class Row(Struct, frozen=True, kw_only=True):
    """One difference. ``tag`` is that of the image that it belongs to; a lost blob or manifest has its own
    digest as ``source_digest``. ``repository`` is its name below the source's prefix, ``target`` what it was
    compared with, as it was given, and ``place`` the repository there.
    """

    repository: str
    tag: str | None
    source_digest: str | None
    target_digest: str | None
    kind: RowKind
    target: str
    place: str


class Findings(Struct):
    """The findings of a comparison so far. ``bytes`` are the target's bytes that were hashed again."""

    missing: list[Row] = field(default_factory=list)
    different: list[Row] = field(default_factory=list)
    extra: list[Row] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    targets: int = 0
    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    bytes: int = 0

    def sort(self) -> None:
        """Put the rows in an order that is the same every time."""
        for rows in (self.missing, self.different, self.extra):
            rows.sort(key=lambda row: (row.target, row.place, row.tag or "", row.source_digest or ""))


class Comparison:
    """Shared by the repositories that are compared: bounds, and which blobs of a target were hashed."""

    def __init__(
        self,
        findings: Findings,
        level: Level,
        network: NetworkOptions,
        *,
        referrers: bool,
        limits: Limits | None = None,
        leaves_out: Callable[[str], bool] = lambda tag: False,
    ) -> None:
        """`leaves_out` tells which tags were not copied with the image that they are attached to."""
        self.findings = findings
        self.level = level
        self.network = network
        self.referrers = referrers
        self.limits = limits
        self.leaves_out = leaves_out
        self.hashed: set[tuple[str, Digest]] = set()
        self.opening = asyncio.Semaphore(AT_ONCE)
        self.hashing = asyncio.Semaphore(HASHED_AT_ONCE)


class RepositoryComparison:
    """One repository of the source beside one of a target."""

    def __init__(
        self,
        comparison: Comparison,
        name: str,
        source: Source,
        target: Source,
        *,
        shown: str,
        tags: Iterable[str] = (),
        registry: str = "",
    ) -> None:
        """`name` is the repository in rows and `shown` the target there. `tags` are compared as tags anyway,
        `registry` is what the target's repositories share their blobs in.
        """
        self._all = comparison
        self._found = comparison.findings
        self._name = name
        self._source = source
        self._target = target
        self._shown = shown
        self._tags = frozenset(tags)
        self._registry = registry
        self._manifests: dict[Digest, asyncio.Future[None]] = {}
        self._blobs: dict[Digest, asyncio.Future[None]] = {}
        self._chosen: dict[Digest, bytes] = {}  # indexes that a choice of platforms makes

    async def chosen(self, digest: Digest, platforms: tuple[Platform, ...]) -> Digest:
        """The digest at the target of a copy of `digest` for these platforms. # network

        Raises `CopyError`, over `NotFound` where the source has none of them.
        """
        if not platforms:
            return digest
        named = Descriptor("", digest, 0)
        with during("fetch manifest from", "source", f"{self._source.name}@{digest}"):
            data = await self._source.fetch_manifest(named)
        root, chosen = await select(named, data, platforms, self._source)
        self._chosen[root.digest] = chosen
        return root.digest

    async def is_extended(self, source: Digest, target: Digest) -> bool:
        """As `extends`, of the manifests of these digests. # network"""
        ours = await self._fetch("source", Descriptor("", source, 0))
        theirs = await self._fetch("target", Descriptor("", target, 0))
        return extends(ours, theirs)

    async def named(self, name: str, target_name: str, platforms: tuple[Platform, ...]) -> None:
        """Compare what `name`, a tag or digest, is at the source with what `target_name` is at the target, as
        far as the level goes. # network

        Raises `CopyError` when a side cannot be read.
        """
        tag = None if ":" in name else name
        with during("resolve", "source", _shown(self._source, name)):
            found = (await self._source.resolve(name)).digest
        wanted = await self.chosen(found, platforms)
        self._found.tags += 1
        there = await self.at_target(target_name)
        if there != wanted:
            rows = self._found.missing if there is None else self._found.different
            rows.append(self.row(tag, wanted, there, "tag" if tag else "manifest"))
        elif self._all.level != "tags":
            await self.image(tag, wanted)

    async def at_target(self, name: str) -> Digest | None:
        """The target's digest of a tag or digest; None: it is not there. Raises `CopyError`. # network"""
        try:
            with during("resolve", "target", _shown(self._target, name)):
                return (await self._target.resolve(name)).digest
        except CrossdockError as error:
            if not isinstance(error.cause, NotFound):
                raise
            return None

    def has_compared(self, digest: Digest) -> bool:
        """Whether a manifest of this digest was compared."""
        return digest in self._manifests

    async def image(self, tag: str | None, digest: Digest) -> None:
        """Compare the manifest of this digest and everything below it; rows name `tag`. # network

        Raises `CopyError` when a side cannot be read.
        """
        await self._manifest(tag, Descriptor("", digest, 0), DEPTH if self._all.referrers else 0)

    # -- manifests -----------------------------------------------------------------------------------------

    async def _manifest(
        self, tag: str | None, descriptor: Descriptor, depth: int, kind: RowKind = "manifest"
    ) -> None:
        await _once(self._manifests, descriptor.digest, lambda: self._compare(tag, descriptor, depth, kind))

    async def _compare(self, tag: str | None, descriptor: Descriptor, depth: int, kind: RowKind) -> None:
        digest = descriptor.digest
        try:
            data = self._chosen.get(digest) or await self._fetch("source", descriptor)
        except CrossdockError as error:
            if isinstance(error.cause, NotFound):
                return  # an index may list what its registry never had, or has deleted
            raise
        self._found.manifests += 1
        try:
            await self._fetch("target", descriptor)
        except CrossdockError as error:
            cause = error.cause
            if isinstance(cause, NotFound):
                self._found.missing.append(self.row(tag, digest, None, kind))
            elif isinstance(cause, ContentError):
                self._found.different.append(self.row(tag, digest, _actual(cause), kind))
            else:
                raise
            return  # a copy that mends it looks at what is below as well
        try:
            manifest = await read_manifest(data, descriptor.media_type)
        except InvalidManifest:
            return  # its bytes are the same, and nothing is known to be below it
        await _all(
            [self._manifest(tag, each, depth) for each in manifest.manifests]
            + [self._blob(tag, each) for each in _blobs(manifest) if not is_foreign_layer(each.media_type)]
            + ([self._referrers(tag, digest, depth)] if depth else [])
        )

    async def _fetch(self, side: Side, descriptor: Descriptor) -> bytes:
        store = self._source if side == "source" else self._target
        with during("fetch manifest from", side, f"{store.name}@{descriptor.digest}"):
            return await store.fetch_manifest(descriptor)

    # -- referrers -----------------------------------------------------------------------------------------

    async def _referrers(self, tag: str | None, digest: Digest, depth: int) -> None:
        """Compare what the source shows as attached to `digest`."""
        if not hasattr(self._source, "attached"):
            return
        source = cast("FindsAttached", self._source)
        with during("list referrers of", "source", f"{self._source.name}@{digest}"):
            referrers, tags = await source.attached(digest)
        for each in referrers:
            await self._manifest(tag, each, depth - 1, "referrer")
        for name in tags:
            if name not in self._tags and not self._all.leaves_out(name):
                await self._attached_tag(name)

    async def _attached_tag(self, name: str) -> None:
        with during("resolve", "source", _shown(self._source, name)):
            wanted = (await self._source.resolve(name)).digest
        there = await self.at_target(name)
        if there is None:
            self._found.missing.append(self.row(name, wanted, None, "referrer"))
        elif there == wanted:
            await self._manifest(name, Descriptor("", wanted, 0), 0, "referrer")
        elif not await self.is_extended(wanted, there):
            self._found.different.append(self.row(name, wanted, there, "referrer"))

    # -- blobs ---------------------------------------------------------------------------------------------

    async def _blob(self, tag: str | None, blob: Descriptor) -> None:
        await _once(self._blobs, blob.digest, lambda: self._look(tag, blob))

    async def _look(self, tag: str | None, blob: Descriptor) -> None:
        key = (self._registry or self._target.name, blob.digest)
        whole = self._all.level == "bytes" and key not in self._all.hashed
        if whole:
            self._all.hashed.add(key)
        try:
            with during("read blob of", "target", f"{self._target.name}@{blob.digest}"):
                if whole:
                    async with self._all.hashing:
                        await self._hash(blob)
                    self._found.bytes += blob.size
                else:
                    async with self._all.opening:
                        await self._retried(lambda: self._open(blob))
        except CrossdockError as error:
            cause = error.cause
            if isinstance(cause, NotFound):
                self._found.missing.append(self.row(tag, blob.digest, None, "blob"))
            elif isinstance(cause, ContentError):
                self._found.different.append(self.row(tag, blob.digest, _actual(cause), "blob"))
            else:
                raise
        self._found.blobs += 1

    async def _open(self, blob: Descriptor) -> None:
        """Read the blob's first byte; the response states the size of the whole."""
        if not blob.size:
            return  # no range of it can be requested
        body = await self._target.blob(blob).open(0, 1)
        try:
            if body.stop - body.start == 1:  # else the whole blob is coming
                await body.receive(_Buffers(1))
        finally:
            body.close()

    async def _hash(self, blob: Descriptor) -> None:
        """Read the blob and compare its digest. A read that breaks resumes at its offset."""
        hasher = hashlib.new(blob.digest.algorithm)
        done = 0
        limits = self._all.limits
        pace = limits.of_bytes(self._registry, self._registry) if limits is not None else None

        def update(data: memoryview) -> None:
            nonlocal done
            hasher.update(data)
            done += len(data)

        async def read() -> None:
            start = done
            body = await self._target.blob(blob).open(start, blob.size)
            sink = _Buffers(BUFFER)
            try:
                receiving = asyncio.ensure_future(body.receive(sink))
                await sink.drain(receiving, body.resume, update, pace, skip=start - body.start)
            finally:
                body.close()

        if blob.size:
            await self._retried(read, progress=lambda: done)
        actual = f"{blob.digest.algorithm}:{hasher.hexdigest()}"
        if actual != blob.digest:
            raise DigestMismatch(
                f"blob {blob.digest} is {actual} there", expected=str(blob.digest), actual=actual
            )

    # -- both ----------------------------------------------------------------------------------------------

    async def _retried(self, work: Callable[[], Awaitable[T]], progress: Callable[[], int] = lambda: 0) -> T:
        """Run `work`, retrying after errors that may pass; enough progress resets their count."""
        network, failures = self._all.network, list[CrossdockError]()  # in a row
        while True:
            before = progress()
            try:
                return await work()
            except CrossdockError as error:
                if progress() - before >= network.least_progress:
                    failures.clear()
                failures.append(error)
                await asyncio.sleep(network.delay_after(failures))

    def row(self, tag: str | None, source: Digest | None, target: str | None, kind: RowKind = "tag") -> Row:
        """A row of this repository."""
        return Row(
            repository=self._name,
            tag=tag,
            source_digest=source,
            target_digest=target,
            kind=kind,
            target=self._shown,
            place=self._target.name,
        )


class _Buffers:
    """A sink of two buffers: one is filled while the other is hashed in a thread."""

    def __init__(self, size: int) -> None:
        self._free = [memoryview(bytearray(max(1, size))) for _ in range(2)]
        self._filling: memoryview | None = None
        self._filled = 0
        self._full: list[memoryview] = []
        self._arrived = asyncio.Event()

    def get_buffer(self) -> memoryview | None:
        """As `content.ByteSink.get_buffer`."""
        if self._filling is None:
            if not self._free:
                return None
            self._filling, self._filled = self._free.pop(), 0
        return self._filling[self._filled :]

    def received(self, count: int) -> None:
        """As `content.ByteSink.received`."""
        self._filled += count
        if self._filling is not None and self._filled == len(self._filling):
            self._full.append(self._filling)
            self._filling = None
            self._arrived.set()

    async def drain(
        self,
        receiving: asyncio.Future[None],
        resume: Callable[[], None],
        update: Callable[[memoryview], None],
        pace: Pace | None,
        skip: int,
    ) -> None:
        """Give all bytes but the first `skip` to `update`, in a thread. Raises what `receiving` raises."""
        receiving.add_done_callback(lambda _: self._arrived.set())
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._full:
                    buffer = self._full.pop(0)
                    if pace is not None:
                        await pace.take(len(buffer))
                    skip = await _hash_part(buffer, update, skip)
                    self._free.append(buffer)
                    resume()
                if receiving.done():
                    break
            await receiving
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
        if self._filling is not None:
            await _hash_part(self._filling[: self._filled], update, skip)


async def _hash_part(data: memoryview, update: Callable[[memoryview], None], skip: int) -> int:
    """Give `data` to `update`, without its first `skip` bytes; returns how many are still to be skipped."""
    taken = data[skip:]
    if taken:
        await asyncio.to_thread(update, taken)
    return max(0, skip - len(data))


async def _once(
    known: dict[Digest, asyncio.Future[None]], digest: Digest, work: Callable[[], Awaitable[None]]
) -> None:
    """`work`, unless it was begun for this digest."""
    if digest in known:
        return
    known[digest] = asyncio.get_running_loop().create_future()
    await work()


async def _all(work: Iterable[Awaitable[None]]) -> None:
    """All of them; the first error is raised when the others have ended."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for each in results:
        if isinstance(each, BaseException):
            raise each


def _shown(store: Source, name: str) -> str:
    return f"{store.name}{'@' if ':' in name else ':'}{name}" if name else store.name


def _blobs(manifest: Manifest) -> list[Descriptor]:
    return [*([manifest.config] if manifest.config is not None else []), *manifest.layers, *manifest.blobs]


def extends(source: bytes, target: bytes) -> bool:
    """Whether a target's manifest under a tag made of a digest has all that the source's has.

    Such a tag gets the source's entries beside its own when it is copied.
    """
    try:
        return _entries(source) <= _entries(target)
    except InvalidManifest:
        return False


def _entries(data: bytes) -> frozenset[str]:
    from crossdock.oci.manifest import parse_manifest

    manifest = parse_manifest(data, None)
    return frozenset(each.digest for each in (*manifest.manifests, *manifest.layers))


def _actual(error: ContentError) -> str | None:
    """The digest that came instead, if the error knows it."""
    if isinstance(error, SizeMismatch):
        return None
    return getattr(error, "actual", None) or None
