"""A repository of a registry, as `content.Source` and `content.Target`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from typing import TYPE_CHECKING

from crossdock.content import BlobSource, ManifestRow, SavedSession, SessionLog
from crossdock.errors import Advice, CrossdockError, NotFound, RegistryError, TransportError, Unsupported
from crossdock.oci.attachedtag import STEM
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.mediatype import is_foreign_layer
from crossdock.oci.reference import Reference
from crossdock.protocol import endpoints
from crossdock.registry.auth.authorization import Scope
from crossdock.registry.handle import Repository
from crossdock.registry.manifests import Manifests
from crossdock.verify import verify_bytes

if TYPE_CHECKING:
    from crossdock.registry.client import OnRetry, RegistryClient, Reply
    from crossdock.registry.metadata import Metadata
    from crossdock.registry.uploads.upload import RegistryUpload

DELETED = (200, 202, 204)


class RegistryRepository(Manifests):
    """One repository, through a client that the caller owns and closes.

    The rights are the same for all requests: pull, and push as well if it `writes`.
    """

    def __init__(
        self,
        client: RegistryClient,
        reference: Reference | str,
        on_retry: OnRetry | None = None,
        *,
        writes: bool | None = None,
    ) -> None:
        """`reference` is a `Reference` or ``host[:port]/repository`` as people write it, without its tag and
        digest. `on_retry` is called for the retries of its requests. `writes` is by default what the client's
        side is for.
        """
        if isinstance(reference, str):
            reference = Reference.parse(reference)
        path = reference.repository
        if writes is None:
            writes = client.side == "target"
        super().__init__(client, path, (Scope.push if writes else Scope.pull)(path), on_retry)
        self._name = reference.locator
        self._contents = client.memory.contents
        self.rank = self._contents.rank()
        self._has_claimed = False
        self._opened: dict[Digest, Reply] = {}  # sessions that a mount opened, for the blob's upload

    @property
    def name(self) -> str:
        """``host[:port]/repository`` as people write it: ``docker.io/library/x`` for Docker Hub."""
        return self._name

    # -- content.Source, besides the manifests ---------------------------------------------------------

    async def resolve(self, reference: str) -> Descriptor:
        """As `Manifests.resolve`; of a source, the error says what is missing. # network"""
        try:
            return await super().resolve(reference)
        except NotFound as error:
            if self.client.side != "source" or error.advice is not None:
                raise
            raise error.replace(advice=await self.explain_missing(reference)) from error.__cause__

    async def explain_missing(self, reference: str = "") -> Advice | None:
        """As `missing.explain_missing`. # network"""
        from crossdock.registry.missing import explain_missing  # only needed after failures

        return await explain_missing(self, self._name, reference)

    def blob(self, descriptor: Descriptor) -> BlobSource:
        """The blob's bytes, to be opened in ranges. Sends nothing yet.

        A source's foreign layer is looked for at its URLs as well; a target's is read to see it there.
        """
        is_source = self.client.side == "source"
        if is_source and descriptor.urls and is_foreign_layer(descriptor.media_type):
            from crossdock.registry.blobs.foreign import ForeignBlob  # few images have such layers

            return ForeignBlob(self, descriptor)
        from crossdock.registry.blobs.blob import RegistryBlob  # loaded by the first blob that moves

        return RegistryBlob(self, descriptor)

    async def read_blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """The blob's bytes, verified, if there are no more than `limit`. # network

        Raises `NotFound`, `LimitExceeded`, `ContentError`.
        """
        reply = await self.request("GET", endpoints.blob(self.path, descriptor.digest), limit=limit)
        verify_bytes(reply.body, descriptor)
        return reply.body

    async def tags(self, on_warning: Callable[[str], None] | None = None) -> list[str]:
        """As `tags.list_tags`; the error says what is wrong with the name. # network"""
        from crossdock.registry.tags import list_tags  # not needed for copies

        listed_at = time.monotonic()
        try:
            found = await list_tags(self, on_warning)
        except NotFound as error:
            from crossdock.registry.missing import explain_name  # only needed after failures

            advice = error.advice or explain_name(self.path, self._name)
            raise error.replace(advice=advice) from error.__cause__
        # `find_attached` looks among the tags of digests: here they are.
        digest_tags = frozenset(tag for tag in found if tag.startswith(STEM))
        self.memory.note_digest_tags(self.path, digest_tags, listed_at)
        return found

    async def list_manifests(
        self,
        on_warning: Callable[[str], None] | None = None,
        *,
        untagged: bool = False,
        needed: bool = False,
    ) -> list[ManifestRow] | None:
        """As `listings.bulk.list_manifests`. # network"""
        from crossdock.registry.listings.bulk import list_manifests  # not needed for copies

        return await list_manifests(self, on_warning, untagged=untagged, needed=needed)

    async def referrers(
        self, digest: Digest, artifact_type: str | None = None, *, may_have_tag: bool = True
    ) -> list[Descriptor]:
        """As `referrers.list_referrers`. # network"""
        from crossdock.registry.referrers import list_referrers  # not needed for every copy

        return await list_referrers(self, digest, artifact_type, may_have_tag=may_have_tag)

    async def attached(self, digest: Digest) -> tuple[list[Descriptor], list[str]]:
        """As `attached.find_attached`. # network"""
        from crossdock.registry.attached import find_attached  # not needed for every copy

        return await find_attached(self, digest)

    # -- content.Target, besides the manifests ---------------------------------------------------------

    # `content.ChecksManifests`: the specification asks for no check, yet all known registries make it.
    # the option check_blobs is for the others.

    def knows_blob(self, descriptor: Descriptor) -> bool:
        """Whether any copy of this process saw it here, or put it here."""
        return self._contents.has(self.path, descriptor)

    async def is_pushed_manifest(self, descriptor: Descriptor) -> bool:
        """Whether it is not a blob here: distribution 2.8 serves blobs under /manifests/ as well. # network

        A 404 for the blob is the proof. Registries that keep manifests among their blobs never give it.
        """
        if self.knows_manifest(descriptor):
            return True
        if self.knows_blob(descriptor):
            return False
        path = endpoints.blob(self.path, descriptor.digest)
        try:
            reply = await self.request("HEAD", path, ok=(200, 404), retry=False)
        except NotFound:
            return True
        except (RegistryError, TransportError):
            return False
        return reply.status == 404

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """As `blobs.blob_exists`, unless it is known. # network"""
        if self.knows_blob(descriptor):
            return True
        from crossdock.registry.blobs.blob import blob_exists

        found = await blob_exists(self, descriptor)
        self._contents.looked(found)
        if found:
            self._contents.add(self.path, descriptor)
        return found

    def finds_on_upload(self, descriptor: Descriptor) -> bool:
        """As `content.FindsOnUpload`; in an absent repository ``find`` sends no request."""
        if self.knows_blob(descriptor):
            return False
        contents, is_checked = self._contents, descriptor.digest.algorithm == "sha256"
        return contents.is_absent(self.path) or (contents.looks_by_mount and is_checked)

    def other_repository(self, descriptor: Descriptor) -> str | None:
        """Another repository of the registry that some copy of this process saw the blob in."""
        return self._contents.elsewhere(self.path, descriptor)

    def claim(self, blobs: Iterable[Descriptor], source: str) -> AbstractContextManager[None]:
        """As `Contents.claim`."""
        if not self._has_claimed:  # copies wait for those that claimed before them
            self._has_claimed, self.rank = True, self._contents.rank()
        return self._contents.claim(self.path, blobs, source)

    def turn(self, descriptor: Descriptor, source: str) -> AbstractAsyncContextManager[None]:
        """As `Contents.turn`."""
        return self._contents.turn(self.path, descriptor, source)

    async def mount(self, descriptor: Descriptor, from_repository: str) -> bool:
        """Make a blob of another repository of this registry appear here; False: upload it. # network

        Any response but 201 is a no, and is not retried: some registries fail on every mount (ggcr#1404), and
        the upload itself shows what is really wrong (M1). A session that the registry opens instead waits for
        `start_upload`.
        """
        contents = self._contents
        async with contents.mount_turn():
            is_referred = contents.is_referred(from_repository, descriptor.digest)
            if contents.mounts_late and not is_referred:
                is_referred = await contents.referred(from_repository, descriptor, self.rank)
                if not is_referred:
                    return False
            if await self._try_mount(descriptor, from_repository, counts=is_referred):
                # This is no proof: the other manifest may be there already, and its response on the way.
                if contents.mounts_late is None:
                    contents.mounts_late = False
                return True
            if is_referred:
                return False
            contents.mounts_late = True
        if not await contents.referred(from_repository, descriptor, self.rank):
            return False
        return await self._try_mount(descriptor, from_repository, counts=True)

    async def _try_mount(self, descriptor: Descriptor, from_repository: str, *, counts: bool) -> bool:
        """Send the request once. `counts`: a refusal says that the registry does not mount."""
        mounting = Repository(self.client, self.path, Scope.push(self.path, from_repository))
        path = endpoints.mount(self.path, descriptor.digest, from_repository)
        try:
            reply = await mounting.write("POST", path, body=b"", ok=(201, 202), retry=False)
        except (RegistryError, TransportError):
            if counts:
                self._contents.mounted(False, at_cost=True)
            return False
        if counts or reply.status == 201:
            self._contents.mounted(reply.status == 201)
        unused = self._opened.pop(descriptor.digest, None)
        if reply.status == 201:
            if unused is not None:
                await self._upload(descriptor, unused).cancel()
            if descriptor.digest.algorithm != "sha256" and not await self._is_really_here(descriptor):
                return False
            self._contents.add(self.path, descriptor, self.rank)
            return True
        if reply.headers.get("Location", ""):
            self._opened[descriptor.digest] = reply
        if unused is not None:
            await self._upload(descriptor, unused).cancel()
        return False

    @property
    def limits_blobs(self) -> bool:
        """Whether its kind or the inventory limits the size of blobs."""
        return self.client.kind.largest_blob is not None

    def check_size(self, descriptor: Descriptor, *, is_manifest: bool) -> None:
        """As `HostMemory.check_size`."""
        self.memory.check_size(descriptor, is_manifest=is_manifest)

    async def start_upload(self, descriptor: Descriptor) -> RegistryUpload:
        """An upload of this blob; its session is opened when the first bytes are given."""
        return self._upload(descriptor, self._opened.pop(descriptor.digest, None))

    async def delete_tag(self, tag: str) -> None:
        """DELETE the tag, and not its manifest; the tag need not exist. # network

        Raises `RegistryError` where that is refused, as by distribution 2, which deletes by digest alone.
        """
        with suppress(NotFound):
            await self.delete_manifest(tag)

    async def delete_manifest(self, reference: str) -> None:
        """DELETE the manifest with this digest, or this tag alone. # network

        Raises `NotFound`, and `Unsupported` where the registry does not delete.
        """
        path, scope = endpoints.manifest(self.path, reference), Scope.delete(self.path)
        try:
            await self.client.request("DELETE", path, scope=scope, ok=DELETED, on_retry=self.on_retry)
        except Unsupported as error:
            from crossdock.registry.http.refusal import LOCKED  # only needed after failures

            if LOCKED in error.codes or error.advice is not None:
                raise
            why = "this registry does not delete by this API, or not as it is configured"
            raise error.replace(advice=Advice("see-log", why)) from error.__cause__

    @property
    def metadata(self) -> Metadata:
        """Azure's metadata API, of this repository."""
        from crossdock.registry.metadata import Metadata  # not needed for copies

        return Metadata(self)

    async def push_referrer(self, descriptor: Descriptor, data: bytes) -> None:
        """As `push_manifest`, which lists it at its subject where the registry does not. # network"""
        await self.push_manifest(descriptor, data, None)

    async def _is_really_here(self, descriptor: Descriptor) -> bool:
        """Whether a mount with a 201 worked: distribution 2 and 3 answer so to sha512 without mounting."""
        try:
            return await self.has_blob(descriptor)
        except CrossdockError:
            return False

    def may_resume(self) -> bool:
        """False once its host is known for sessions that cannot be resumed."""
        return self.memory.may_resume

    def checks_digest(self, descriptor: Descriptor) -> bool:
        """Registries compare the bytes with ``digest=`` of the closing PUT; all of them know sha256."""
        return descriptor.digest.algorithm == "sha256"

    async def resumable_upload(
        self, descriptor: Descriptor, chunk_size: int, log: SessionLog, saved: SavedSession | None
    ) -> RegistryUpload:
        """As `start_upload`, in chunks; nothing is sent before `RegistryUpload.resume`."""
        from crossdock.registry.uploads.upload import RegistryUpload

        opened = self._opened.pop(descriptor.digest, None)
        return RegistryUpload(self, descriptor, opened, chunk_size=chunk_size, log=log, saved=saved)

    def _upload(self, descriptor: Descriptor, opened: Reply | None) -> RegistryUpload:
        from crossdock.registry.uploads.upload import RegistryUpload  # loaded by the first blob that moves

        return RegistryUpload(self, descriptor, opened)
