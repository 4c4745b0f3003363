"""Copying what one reference names: the graph of manifests and blobs, each digest once, the tag last.

Rules:

1. The source's tag is resolved to a digest once, at the start. Moving it meanwhile changes nothing.
2. Blobs before the manifest that names them, manifests before their index, the tag at the very end
   (M2). So a copy that fails has moved no tag.
   Signatures and other referrers come between the root and its tag (`referrers`).
3. Bytes of manifests are pushed as they were fetched. Only a choice of several platforms makes a new index.
4. A manifest that the target repository has as a manifest stands for its blobs: registries refuse one without
   them. A layout refuses nothing, so there every blob is looked for, as with ``--check-blobs`` everywhere. An
   index does not stand for its manifests (registries store sparse indexes), so those are asked for.
5. The target is asked for manifests by GET where they are likely to be there. The answer says what they list,
   for the report, and nothing is fetched from the source, where a GET may count against a limit on pulls.
6. The same bytes may be a manifest and a blob, in one copy and at the target. What is known of the one says
   nothing of the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Literal

from msgspec.structs import replace

from crossdock.content import Source, Target
from crossdock.errors import (
    CopyError,
    CrossdockError,
    DigestMismatch,
    InvalidOption,
    LimitExceeded,
    NotFound,
    RegistryError,
    SizeMismatch,
    Unauthorized,
    root_cause,
    was_refused,
)
from crossdock.events import CopyDone, CopyStarted
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest, refuse_old_entries
from crossdock.oci.mediatype import is_foreign_layer, is_manifest
from crossdock.reading import read_manifest
from crossdock.transfer.attachedtags import is_attached_tag, settle
from crossdock.transfer.blobcopy import BlobCopies
from crossdock.transfer.inline import inline_bytes
from crossdock.transfer.naming import fetch_named, resolve
from crossdock.transfer.platforms import missing_child_hint, select
from crossdock.transfer.request import CopyRequest
from crossdock.transfer.reread import reread_manifest
from crossdock.transfer.resume import Resuming
from crossdock.transfer.sides import target_side
from crossdock.transfer.steps import during
from crossdock.transfer.tally import Tally
from crossdock.transfer.tasks import both, run_together
from crossdock.transfer.workshop import Workshop
from crossdock.verify import size_note

MANIFESTS_AT_ONCE = 16  # regsync's default parallelism; each is one or two small requests
MANIFEST_BYTES = 256 << 20  # of one graph: a manifest stays in memory until all below it is copied
MISSED = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_INVALID"})  # the last one is zot's

Kind = Literal["blob", "manifest"]


class ImageCopy:
    """One reference on its way from a source to a target."""

    def __init__(
        self,
        wish: CopyRequest,
        source: Source,
        target: Target,
        workshop: Workshop,
        resuming: Resuming,
        tally: Tally,
    ) -> None:
        self._wish = wish
        self._source = source
        self._target = target_side(target)
        self._workshop = workshop
        self._resuming = resuming
        self._tally = tally
        self._subjects: list[Descriptor] = []  # manifests for which referrers are still to be looked for
        self._unpushed: tuple[Descriptor, bytes] | None = None  # the root, until the target has it
        self.verified = workshop.verify  # what is done of it: not every target can do all
        self.merged = False  # the target's tag got what the source has beside its own content
        self._once: dict[tuple[Kind, str], asyncio.Future[None] | None] = {}  # None: nothing to wait for
        self._blobs = BlobCopies(source, self._target, workshop, resuming, tally, wish.mount_from)
        self._promised: dict[Digest, Descriptor] = {}  # manifests that the target is believed to have
        self._sizes: dict[str, int] = {}
        self._manifest_bytes = 0
        self._refused: CopyError | None = None  # the first look at the target that was
        self._asked = ""  # the name that the target was asked for at the beginning
        self._found: bytes | None = None  # and the manifest that it had there
        self._manifests = asyncio.Semaphore(MANIFESTS_AT_ONCE)

    async def run(self) -> tuple[Descriptor, Descriptor]:
        """Copy it. Returns the descriptor the source named and the one the target has now."""
        started = time.monotonic()
        self._check_verify()
        wish = self._wish
        named = await self._look_up()
        if self._found is not None and self._is_found(named):
            data = self._found
        else:
            named, data = await fetch_named(self._fetch, named, self._resolve)
        root, data = await select(named, data, wish.platforms, self._source, self._tally.warn)
        if wish.target_digest is not None and wish.target_digest != root.digest:
            with during("check digest of", "target", wish.target_reference):
                raise DigestMismatch(
                    f"the target names {wish.target_digest}, the content is {root.digest}",
                    hint="leave the digest out of the target, or give the one of the content",
                    expected=str(wish.target_digest),
                    actual=str(root.digest),
                )
        if is_attached_tag(wish.target_tag) and self._found is not None and not self._is_found(root):
            root, data = await self._settle_root(root, data, self._found)
        self._tally.emit(
            CopyStarted(wish.source_reference, wish.target_reference, root.digest, root.media_type)
        )
        try:
            root = await self._copy_root(root, data)
        except CopyError as error:
            if self._refused is None or error.side != "target" or not _lacks_login(error, self._refused):
                raise
            raise self._refused from self._refused.cause  # it names what was asked for, not one of its blobs
        if wish.target_tag is None and self._target.lists_roots is not None:
            with during("push manifest to", "target", wish.target_reference):
                await self._target.lists_roots.add_root(root)
        self._tally.emit(CopyDone(root.digest, time.monotonic() - started))
        return named, root

    def _check_verify(self) -> None:
        """Adjust `verified` to what the target can do. Raises `CopyError` when it cannot be read back."""
        if self.verified == "reread" and self._target.reads_back is None:
            with during("read back from", "target", self._wish.target_reference):
                raise InvalidOption("this target cannot be read back", hint="verify by stream instead")
        if self.verified == "target" and self._target.checks_digests is None:
            self.verified = "stream"
            self._tally.warn(
                "the target compares no digests itself: the blobs were hashed here, not by the target"
            )

    async def _settle_root(self, root: Descriptor, data: bytes, there: bytes) -> tuple[Descriptor, bytes]:
        """What is to be at the target under a tag that clients attach content by, where it has another."""
        wish = self._wish
        if wish.keeps_attached:
            settled = await settle(root, data, there, wish.target_reference, self._tally)
            self.merged = settled[0].digest not in (root.digest, Digest.of(there, root.digest.algorithm))
            return settled
        was = Digest.of(there, root.digest.algorithm)
        self._tally.warn(f"{wish.target_reference} is replaced, as it was asked for by name; it was {was}")
        return root, data

    # -- the root ----------------------------------------------------------------------------------------

    async def _look_up(self) -> Descriptor:
        """What the source names; at the same time, what the target has under the name to be written."""
        wish = self._wish
        unchanged = wish.source_digest if not wish.platforms else None
        self._asked = wish.target_tag or wish.target_digest or unchanged or ""
        if not self._asked:
            return await self._resolve()
        named, self._found = await both(self._resolve(), self._look(self._asked, wish.target_reference))
        return named

    async def _look(self, name: str, shown: str) -> bytes | None:
        """As `find`, where it only saves work: None as well for what may not be looked at. # network"""
        try:
            return await self.find(name, shown)
        except CopyError as error:
            keeps = self._wish.keeps_attached and is_attached_tag(name)  # what may not be seen may be its own
            if keeps or not was_refused(error):
                raise
            self._refused = self._refused or error
            return None

    async def _resolve(self) -> Descriptor:
        wish = self._wish
        return await resolve(self._source, wish.source_reference, wish.source_name, wish.source_digest)

    async def find(self, name: str, shown: str) -> bytes | None:
        """The manifest that the target has under a tag or digest; errors call it `shown`. # network"""
        with during("resolve", "target", shown):
            async with self._manifests:
                data = await self._target.target.find_manifest(name)  # network
            self._count(data or b"")
            return data

    def _is_found(self, root: Descriptor) -> bool:
        """Whether the name to be written means `root` at the target already."""
        return self._found is not None and _is_content_of(self._found, root.digest)

    async def _copy_root(self, root: Descriptor, data: bytes) -> Descriptor:
        wish = self._wish
        tag, found = wish.target_tag, self._is_found(root)
        if tag is None and not found and self._asked != root.digest:
            found = await self.has_manifest(root)
        # A registry gives a tag to manifests alone.
        proven = found and (tag is not None or await self._is_pushed_manifest(root))
        known = proven or self._target.knows_manifest(root)
        root, whole = await self._copy_successors(root, data, known)
        if found:
            tag = None  # it is right already; the manifest may have to be put again
        pushes = not (proven and whole)
        if pushes:
            self._unpushed = root, data
        if wish.referrers:
            await self._copy_referrers()
        if self._tally.lags:
            await self._tally.room()
        if pushes and (self._unpushed or tag):
            with during("push manifest to", "target", wish.target_reference):
                await self._push(root, data, tag)
        if pushes:
            self._note("manifest", root)
        self._tally.manifest_done(root, pushed=not (found and whole))
        return root

    # -- what refers to it: the engine's part of `referrers.ReferrersCopy` ---------------------------------

    async def _copy_referrers(self) -> None:
        from crossdock.transfer.referrers import ReferrersCopy  # not of every copy

        required = self._wish.requires_referrers
        copy = ReferrersCopy(self, self._source, self._target, self._tally, required=required)
        await copy.run(self.take_subjects())

    def take_subjects(self) -> list[Descriptor]:
        """The manifests that were copied, or found, since this was called last."""
        taken, self._subjects = self._subjects, []
        return taken

    def forget_subject(self, subject: Descriptor) -> None:
        """It was not copied: nothing that refers to it is looked for."""
        self._subjects = [each for each in self._subjects if each.digest != subject.digest]

    async def bring_root(self) -> None:
        """See to it that the target has the root, under its digest: some refuse referrers of what they lack.

        Not to be called twice at once. # network
        """
        if self._unpushed is not None:
            with during("push manifest to", "target", self._wish.target_reference):
                await self._push(*self._unpushed, None)
            self._unpushed = None

    async def copy_attached_tag(self, named: Descriptor, tag: str) -> bool:
        """Copy what `tag` names; the target's own content under it stays. Whether it was pushed. # network"""
        shown = f"{self._target.name}:{tag}"
        there = await self.find(tag, shown)
        data = None
        if there is not None and not _is_content_of(there, named.digest):
            named, data = await settle(named, await self._fetch(named), there, shown, self._tally)
        present = there is not None and _is_content_of(there, named.digest)
        return await self.copy_attached(named, tag, present, data)

    async def copy_attached(
        self, found: Descriptor, tag: str | None, present: bool, data: bytes | None = None
    ) -> bool:
        """Copy a referrer, or what `tag` names, with everything below it; whether it was pushed. # network

        `present`: the target has it and lists it so. `data`: its bytes, where they are not the source's.
        """
        if present and not found.is_index and not self._looks:
            self._subjects.append(found)
        else:
            data = data or await self._fetch(found)
            found, whole = await self._copy_successors(found, data, present)
            if present and not whole:
                tag, present = None, False  # a tag is right already; the manifest is put again
            if not present:
                with during("push manifest to", "target", f"{self._target.name}@{found.digest}"):
                    await self._push(found, data, tag, refers=tag is None)
                self._note("manifest", found)
        self._tally.manifest_done(found, pushed=not present)
        return not present

    # -- the graph ---------------------------------------------------------------------------------------

    async def _copy_manifest(self, descriptor: Descriptor, expected: bool) -> None:
        """One manifest with everything below it, pushed by digest when the target lacks it.

        `expected`: the target has the index that lists it, so most likely the manifest as well.
        """
        shown = f"{self._target.name}@{descriptor.digest}"
        if expected:
            data, found = await self._find_or_fetch(descriptor, shown)
        else:
            data, found = await both(self._fetch_listed(descriptor), self.has_manifest(descriptor))
        if note := size_note(data, descriptor):
            self._tally.warn(note)
        # An index that is there was accepted with this manifest, unless it is known for a blob.
        doubtful = not expected or self._workshop.checks_blobs or self._target.knows_blob(descriptor)
        proven = found and (not doubtful or await self._is_pushed_manifest(descriptor))
        descriptor, whole = await self._copy_successors(descriptor, data, proven)
        if proven and whole:
            self._promised[descriptor.digest] = descriptor
        else:
            with during("push manifest to", "target", shown):
                await self._push(descriptor, data, None)
            self._note("manifest", descriptor)
        self._tally.manifest_done(descriptor, pushed=not (found and whole))

    async def _push(
        self, descriptor: Descriptor, data: bytes, tag: str | None, *, refers: bool = False
    ) -> None:
        """`_put`, and once more when the target had only promised to have what is below. # network"""
        try:
            await self._put(descriptor, data, tag, refers=refers)
        except RegistryError as error:
            if MISSED.isdisjoint(error.codes) or not await self._bring_promised(descriptor, data, error):
                raise
            await self._put(descriptor, data, tag, refers=refers)

    async def _bring_promised(self, descriptor: Descriptor, data: bytes, error: RegistryError) -> bool:
        """Bring what the target reported as present and now misses; False: it reported nothing."""
        missed = error.digests
        if "MANIFEST_INVALID" in error.codes and not missed:
            return False  # it says nothing about blobs
        manifest = await read_manifest(data, descriptor.media_type)
        if any(layer.urls for layer in manifest.layers):
            return False  # registries refuse such layers in the same words
        manifests, blobs = _split(manifest)
        brought = await self._blobs.bring_promised(blobs, missed)
        for below in manifests:
            if below.digest in self._promised and (not missed or str(below.digest) in missed):
                del self._promised[below.digest]
                brought = True
                await self._copy_again(below)
        return brought

    async def _copy_again(self, descriptor: Descriptor) -> None:
        """One manifest that the target was believed to have, with its blobs."""
        data = await self._fetch(descriptor)
        for blob in _split(await read_manifest(data, descriptor.media_type))[1]:
            if self._once.get(("blob", blob.digest), blob) is None:  # skipped, not looked for
                del self._once["blob", blob.digest]
        descriptor, _ = await self._copy_successors(descriptor, data, False)
        await self._push(descriptor, data, None)

    async def _put(
        self, descriptor: Descriptor, data: bytes, tag: str | None, *, refers: bool = False
    ) -> None:
        """PUT the manifest; where it is found only after it was read back, if it is to be. # network"""
        if self._workshop.verify == "reread":
            await self._target.target.push_manifest(descriptor, data, None)
            await reread_manifest(descriptor, self._target)
            if tag is None and not refers:
                return
        async with self._manifests:
            if refers and self._target.lists_referrers is not None:
                await self._target.lists_referrers.push_referrer(descriptor, data)
            else:
                await self._target.target.push_manifest(descriptor, data, tag)

    async def _find_or_fetch(self, descriptor: Descriptor, shown: str) -> tuple[bytes, bool]:
        """The manifest, and whether it is the target's own."""
        found = await self._look(descriptor.digest, shown)
        if found is not None and _is_content_of(found, descriptor.digest):
            return found, True
        return await self._fetch_listed(descriptor), False

    async def _fetch_listed(self, descriptor: Descriptor) -> bytes:
        """A manifest that an index lists. Clean-ups may have deleted it, since it has no tag. # network"""
        try:
            return await self._fetch(descriptor)
        except CopyError as error:
            if isinstance(error.cause, NotFound):
                error.hint = missing_child_hint(descriptor, chosen=bool(self._wish.platforms))
            raise

    async def _copy_successors(
        self, descriptor: Descriptor, data: bytes, present: bool
    ) -> tuple[Descriptor, bool]:
        """Copy what the manifest lists. `present`: the target has the manifest.

        Returns its descriptor with its own media type and size, since what lists or serves it may state
        another type or size, and the target compares; and whether the target had all of its blobs.
        """
        if self._tally.lags:
            await self._tally.room()
        with during("read manifest of", "source", f"{self._source.name}@{descriptor.digest}"):
            manifest = await read_manifest(data, descriptor.media_type)
            refuse_old_entries(manifest)
        descriptor = replace(descriptor, media_type=manifest.media_type, size=len(data))
        self._subjects.append(descriptor)
        manifests, found = _split(manifest)
        blobs = self._blobs_to_copy(found)
        self._tally.planned(descriptor, manifests, blobs)
        # An index does not stand for what it lists, a manifest does: rule 4. Registries do not ask for
        # foreign layers.
        wanted = blobs
        if present and not manifest.is_index and not self._looks_below(descriptor):
            for blob in blobs:
                if not _is_foreign(blob):
                    self._skip(blob)
            wanted = [blob for blob in blobs if _is_foreign(blob)]
        work = [
            self._once_per("manifest", below, partial(self._copy_manifest, below, present))
            for below in manifests
        ]
        for blob in wanted:
            self._check_size(blob)
        work += [self._once_per("blob", blob, partial(self._blobs.copy, blob)) for blob in wanted]
        await run_together(work)
        return descriptor, not self._blobs.brought(blobs)

    @property
    def _looks(self) -> bool:
        """Whether a manifest at the target does not stand for its blobs."""
        return self._workshop.checks_blobs or self._target.checks_manifests is None

    def _looks_below(self, manifest: Descriptor) -> bool:
        return self._looks and not self._target.knows_manifest(manifest)

    def _skip(self, blob: Descriptor) -> None:
        """Count a blob that the target has because it has the manifest."""
        self._check_size(blob)
        if ("blob", blob.digest) not in self._once:
            self._once["blob", blob.digest] = None
            self._blobs.skip(blob)

    def _blobs_to_copy(self, found: list[Descriptor]) -> list[Descriptor]:
        """The blobs to copy, largest first: the largest decides the end, and starts earliest."""
        blobs = []
        for blob in found:
            if _is_foreign(blob) and not self._wish.copies_foreign:
                self._tally.warn(
                    f"{blob.digest} is a foreign layer: its URLs are kept and its bytes are not copied; "
                    "--foreign-layers copy copies them"
                )
            else:
                blobs.append(blob)
        return sorted(blobs, key=lambda blob: -blob.size)

    async def _once_per(
        self, kind: Kind, descriptor: Descriptor, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Run `work` if nobody has begun it for this digest; else wait for who has."""
        key = kind, str(descriptor.digest)
        while key in self._once:
            begun = self._once[key]
            if begun is None:
                return
            await asyncio.wait([begun])
            if not begun.cancelled():
                return begun.result()
            if self._once.get(key) is begun:  # it was given up for a reason that is not ours
                del self._once[key]
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._once[key] = done
        try:
            await work()
        except CrossdockError as error:
            done.set_exception(error)
            done.exception()  # there may be nobody who waits
            raise
        except BaseException:
            done.cancel()
            raise
        done.set_result(None)

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

    async def _fetch(self, descriptor: Descriptor) -> bytes:
        with during("fetch manifest from", "source", f"{self._source.name}@{descriptor.digest}"):
            data = inline_bytes(descriptor)
            if data is None:
                async with self._manifests:
                    data = await self._source.fetch_manifest(descriptor)  # network
            self._count(data)
            return data

    def _count(self, data: bytes) -> None:
        self._manifest_bytes += len(data)
        if self._manifest_bytes > MANIFEST_BYTES:
            raise LimitExceeded(f"the manifests of one copy are over the limit of {MANIFEST_BYTES} bytes")

    async def has_manifest(self, descriptor: Descriptor) -> bool:
        """Whether the target has it under its digest. # network"""
        shown = f"{self._target.name}@{descriptor.digest}"
        checking = self._target.checks_manifests
        if checking is None or self._workshop.verify == "reread":  # only what was read counts as read back
            return _is_content_of(await self.find(descriptor.digest, shown) or b"", descriptor.digest)
        with during("check manifest at", "target", shown):
            async with self._manifests:
                return await checking.has_manifest(descriptor)  # network

    async def _is_pushed_manifest(self, descriptor: Descriptor) -> bool:
        """Whether what was found under the digest is certainly not a mere blob. # network"""
        checking = self._target.checks_manifests
        if checking is None:  # what is below it is looked for anyway
            return True
        with during("check manifest at", "target", f"{self._target.name}@{descriptor.digest}"):
            async with self._manifests:
                return await checking.is_pushed_manifest(descriptor)  # network

    def _note(self, kind: Kind, brought: Descriptor) -> None:
        if self._resuming.journal is not None:
            self._resuming.journal.finished(kind, self._target.name, str(brought.digest), brought.size)


def _lacks_login(*errors: CopyError) -> bool:
    return all(isinstance(root_cause(error), Unauthorized) for error in errors)


def _is_foreign(blob: Descriptor) -> bool:
    """Whether the blob may be at its URLs alone."""
    return bool(blob.urls) and is_foreign_layer(blob.media_type)


def _is_content_of(data: bytes, digest: Digest) -> bool:
    return Digest.of(data, digest.algorithm) == digest


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
