"""The graph of one copy: manifests, what they list, and their blobs, walked once, each digest copied once.

Rules:

1. Blobs before the manifest that names them, manifests before their index (M2). The caller pushes the roots.
2. Bytes of manifests are pushed as they were fetched.
3. A manifest that the target repository has as a manifest stands for its blobs: registries refuse one without
   them. A layout refuses nothing, so there every blob is looked for, as with `check_blobs` everywhere. An
   index does not stand for its manifests (registries store sparse indexes), so those are looked for.
4. The target is asked for manifests by GET where they are likely to be there. The response says what they
   list, for the report, and the source is not asked, where a GET may count against a limit on pulls.
5. The same bytes may be a manifest and a blob, in one copy and at the target. What is known of the one says
   nothing of the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from msgspec.structs import replace

from crossdock.content import Source
from crossdock.errors import (
    CONTENT_MISSED,
    Advice,
    CopyError,
    CrossdockError,
    NotFound,
    Notice,
    RegistryError,
    SizeMismatch,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest, refuse_old_entries
from crossdock.oci.mediatype import is_foreign_layer, is_manifest
from crossdock.reading import read_manifest
from crossdock.steps import during
from crossdock.tally import Tally
from crossdock.tasks import both, run_together
from crossdock.transfer.blobcopy import BlobCopies
from crossdock.transfer.manifests import Manifests
from crossdock.transfer.request import CopyRequest
from crossdock.transfer.sides import TargetSide
from crossdock.transfer.sizes import SizeCheck
from crossdock.transfer.workshop import Resuming, Workshop
from crossdock.verify import size_note

if TYPE_CHECKING:
    from crossdock.transfer.fanout import TargetReads

Kind = Literal["blob", "manifest"]


class Graph:
    """Everything below the roots of one copy: the image, and the manifests that refer to it."""

    def __init__(
        self,
        request: CopyRequest,
        source: Source,
        target: TargetSide,
        workshop: Workshop,
        resuming: Resuming,
        tally: Tally,
        reads: TargetReads | None = None,
    ) -> None:
        self.manifests = Manifests(source, target, rereads=workshop.verify == "reread")
        self._request = request
        self._source = source
        self._target = target
        self._checks_blobs = workshop.checks_blobs
        self._journal = resuming.journal
        self._tally = tally
        self._blobs = BlobCopies(source, target, workshop, resuming, tally, request.mount_from, reads)
        self._begun: dict[tuple[Kind, str], asyncio.Future[None] | None] = {}  # None: nothing to wait for
        self._promised: dict[Digest, Descriptor] = {}  # manifests that the target is believed to have
        self._sizes: dict[str, int] = {}
        self._size_check = SizeCheck()
        self._subjects: list[Descriptor] = []

    # -- for the roots -----------------------------------------------------------------------------------

    async def copy_below(
        self, descriptor: Descriptor, data: bytes, *, present: bool
    ) -> tuple[Descriptor, bool]:
        """Copy what the manifest lists. `present`: the target has the manifest. # network

        Returns its descriptor with its own media type and size, since what lists or serves it may state
        another type or size, and the target compares; and whether the target had all of its blobs.
        """
        if self._tally.lags:
            await self._tally.room()
        with during("read manifest of", "source", f"{self._source.name}@{descriptor.digest}"):
            manifest = await read_manifest(data, descriptor.media_type)
            refuse_old_entries(manifest)
        descriptor = replace(descriptor, media_type=manifest.media_type, size=len(data))
        self.note_subject(descriptor)
        manifests, found = _split(manifest)
        blobs = self._blobs_to_copy(found)
        self._tally.planned(descriptor, manifests, blobs)
        # Rule 3; but registries do not ask for foreign layers.
        wanted = blobs
        if present and not manifest.is_index and not self._looks_below(descriptor):
            for blob in blobs:
                if not _is_foreign(blob):
                    self._skip(blob)
            wanted = [blob for blob in blobs if _is_foreign(blob)]
        work = [
            self._once("manifest", below, partial(self._copy_manifest, below, present)) for below in manifests
        ]
        self._check_limits(descriptor, wanted, present=present)
        for blob in wanted:
            self._check_size(blob)
        work += [self._once("blob", blob, partial(self._copy_blob, blob)) for blob in wanted]
        self._size_check.done(descriptor, manifests)
        try:
            with self._blobs.claim(wanted):
                await run_together(work)
        finally:
            self._size_check.forget(manifests)
        return descriptor, not self._blobs.copied_any(blobs)

    async def push(
        self, descriptor: Descriptor, data: bytes, tag: str | None, shown: str, *, refers: bool = False
    ) -> None:
        """Put the manifest; twice if the target misses something below that it said it has. # network

        `refers`: it is listed at its subject. Errors call it `shown`. Raises `CopyError`.
        """
        with during("push manifest to", "target", shown):
            try:
                await self.manifests.put(descriptor, data, tag, refers=refers)
            except RegistryError as error:
                if CONTENT_MISSED.isdisjoint(error.codes) or not await self._copy_promised(
                    descriptor, data, error
                ):
                    raise
                await self.manifests.put(descriptor, data, tag, refers=refers)

    def pushed(self, manifest: Descriptor) -> None:
        """Note in the journal that this copy has pushed it."""
        if self._journal is not None:
            self._journal.finished("manifest", self._target.name, str(manifest.digest), manifest.size)

    def stands_for_blobs(self) -> bool:
        """Whether a manifest at the target stands for its blobs: rule 3."""
        return not self._checks_blobs and self._target.checks_manifests is not None

    # -- manifests whose referrers are to be copied ------------------------------------------------------

    def note_subject(self, manifest: Descriptor) -> None:
        """The target has the manifest, or will have it: its referrers are to be copied."""
        self._subjects.append(manifest)

    def forget_subject(self, manifest: Descriptor) -> None:
        """The manifest was not copied: its referrers are not looked for."""
        self._subjects = [each for each in self._subjects if each.digest != manifest.digest]

    def take_subjects(self) -> list[Descriptor]:
        """Those noted since this was called last."""
        taken, self._subjects = self._subjects, []
        return taken

    # -- manifests that an index lists -------------------------------------------------------------------

    async def _copy_manifest(self, descriptor: Descriptor, expected: bool) -> None:
        """One manifest with everything below it, pushed by digest when the target lacks it.

        `expected`: the target has the index that lists it, so most likely the manifest as well.
        """
        shown = f"{self._target.name}@{descriptor.digest}"
        if expected:
            data, found = await self._find_or_fetch(descriptor, shown)
        else:
            data, found = await both(self._fetch_listed(descriptor), self.manifests.has(descriptor))
        if note := size_note(data, descriptor):
            self._tally.warn(note)
        # An index that is there was accepted with this manifest, unless it is known for a blob.
        doubtful = not expected or self._checks_blobs or self._target.knows_blob(descriptor)
        proven = found and (not doubtful or await self.manifests.is_pushed(descriptor))
        descriptor, whole = await self.copy_below(descriptor, data, present=proven)
        if proven and whole:
            self._promised[descriptor.digest] = descriptor
        else:
            await self.push(descriptor, data, None, shown)
            self.pushed(descriptor)
        self._tally.manifest_done(descriptor, pushed=not (found and whole))

    async def _find_or_fetch(self, descriptor: Descriptor, shown: str) -> tuple[bytes, bool]:
        """The manifest, and whether it is the target's own."""
        found = await self.manifests.look(descriptor.digest, shown)
        if found is not None and descriptor.digest.matches(found):
            return found, True
        return await self._fetch_listed(descriptor), False

    async def _fetch_listed(self, descriptor: Descriptor) -> bytes:
        """A manifest that an index lists. Clean-ups may have deleted it, since it has no tag. # network"""
        try:
            return await self.manifests.fetch(descriptor)
        except CopyError as error:
            if not isinstance(error.cause, NotFound):
                raise
            from crossdock.transfer.platforms import advice_on_missing  # only needed after failures

            advice = advice_on_missing(descriptor, chosen=bool(self._request.platforms))
            raise error.replace(advice=advice) from error.cause

    # -- content that the target only promised to have ---------------------------------------------------

    async def _copy_promised(self, descriptor: Descriptor, data: bytes, error: RegistryError) -> bool:
        """Copy content that the target reported as present and now misses; False: there is none."""
        missed = error.digests
        if "MANIFEST_INVALID" in error.codes and not missed:
            return False  # it says nothing about blobs
        manifest = await read_manifest(data, descriptor.media_type)
        if any(layer.urls for layer in manifest.layers):
            return False  # registries refuse such layers in the same words
        manifests, blobs = _split(manifest)
        copied = await self._blobs.copy_promised(blobs, missed)
        for below in manifests:
            if below.digest in self._promised and (not missed or str(below.digest) in missed):
                del self._promised[below.digest]
                copied = True
                await self._copy_again(below)
        return copied

    async def _copy_again(self, descriptor: Descriptor) -> None:
        """One manifest that the target was believed to have, with its blobs."""
        data = await self.manifests.fetch(descriptor)
        for blob in _split(await read_manifest(data, descriptor.media_type))[1]:
            if self._begun.get(("blob", blob.digest), blob) is None:  # skipped, not looked for
                del self._begun["blob", blob.digest]
        descriptor, _ = await self.copy_below(descriptor, data, present=False)
        await self.push(descriptor, data, None, f"{self._target.name}@{descriptor.digest}")

    # -- blobs -------------------------------------------------------------------------------------------

    async def _copy_blob(self, blob: Descriptor) -> None:
        limits = self._target.limits_sizes
        if limits is not None and limits.limits_blobs:
            await self._size_check.wait()
        await self._blobs.copy(blob)

    def _looks_below(self, manifest: Descriptor) -> bool:
        return not self.stands_for_blobs() and not self._target.knows_manifest(manifest)

    def _skip(self, blob: Descriptor) -> None:
        """Count a blob that the target has because it has the manifest."""
        self._check_size(blob)
        if ("blob", blob.digest) not in self._begun:
            self._begun["blob", blob.digest] = None
            self._blobs.skip(blob)

    def _blobs_to_copy(self, found: list[Descriptor]) -> list[Descriptor]:
        """The blobs to copy, largest first: the largest decides the end, and starts earliest."""
        blobs = []
        for blob in found:
            if _is_foreign(blob) and not self._request.copies_foreign:
                said = f"{blob.digest} is a foreign layer: its URLs are kept and its bytes are not copied"
                self._tally.warn(Notice(said, Advice("copy-foreign-layers", side="source")))
            else:
                blobs.append(blob)
        return sorted(blobs, key=lambda blob: -blob.size)

    def _check_limits(self, manifest: Descriptor, blobs: list[Descriptor], *, present: bool) -> None:
        """Raise `CopyError` for what the target would not take, before anything of the image is sent."""
        limits = self._target.limits_sizes
        if limits is None:
            return
        if not present:
            with during("push manifest to", "target", f"{self._target.name}@{manifest.digest}"):
                limits.check_size(manifest, is_manifest=True)
        for blob in blobs:
            with during("push blob to", "target", f"{self._target.name}@{blob.digest}"):
                limits.check_size(blob, is_manifest=False)

    def _check_size(self, descriptor: Descriptor) -> None:
        """Raise `CopyError` when another manifest of the copy lists the blob with another size."""
        size = self._sizes.setdefault(descriptor.digest, descriptor.size)
        if size != descriptor.size:
            with during("read manifest of", "source", f"{self._source.name}@{descriptor.digest}"):
                raise SizeMismatch(
                    f"its manifests list {descriptor.digest} with {size} and with {descriptor.size} bytes",
                    expected=size,
                    received=descriptor.size,
                )

    async def _once(
        self, kind: Kind, descriptor: Descriptor, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Run `work` unless it was begun for this digest; then wait for its end."""
        key = kind, str(descriptor.digest)
        while key in self._begun:
            begun = self._begun[key]
            if begun is None:
                return
            await asyncio.wait([begun])
            if not begun.cancelled():
                return begun.result()
            if self._begun.get(key) is begun:  # it was cancelled for a reason that is not ours
                del self._begun[key]
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begun[key] = done
        try:
            await work()
        except CrossdockError as error:
            done.set_exception(error)
            done.exception()  # retrieved: it may be that nothing awaits it
            raise
        except BaseException:
            done.cancel()
            raise
        done.set_result(None)


def _is_foreign(blob: Descriptor) -> bool:
    """Whether the blob may be at its URLs alone."""
    return bool(blob.urls) and is_foreign_layer(blob.media_type)


def _split(parent: Manifest) -> tuple[list[Descriptor], list[Descriptor]]:
    """Its manifests and its blobs. BuildKit's cache index lists layers among its manifests."""
    if not parent.is_index:
        return [], list(parent.successors())
    manifests: dict[Digest, Descriptor] = {}
    blobs: dict[Digest, Descriptor] = {}
    for below in parent.manifests:
        kind = manifests if not below.media_type or is_manifest(below.media_type) else blobs
        kind.setdefault(below.digest, below)
    return list(manifests.values()), list(blobs.values())
