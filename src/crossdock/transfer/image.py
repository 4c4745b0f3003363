"""Copying what one reference names: its graph, what refers to it, and the tag last.

Rules:

1. The source's tag is resolved to a digest once, at the start. Moving it meanwhile changes nothing.
2. The tag is written at the very end (M2): a copy that fails has moved no tag. Signatures and other referrers
   come between the root and its tag (`referrers`).
3. Only a choice of several platforms makes a new index.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct

from crossdock.content import Source, Target
from crossdock.errors import (
    Advice,
    CopyError,
    DigestMismatch,
    InvalidOption,
    TagExists,
    Unauthorized,
    root_cause,
)
from crossdock.events import CopyDone, CopyStarted, TagOutcome, tag_outcome
from crossdock.oci.attachedtag import is_attached_tag
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.steps import during
from crossdock.tally import Tally
from crossdock.tasks import both
from crossdock.transfer.graph import Graph
from crossdock.transfer.naming import fetch_named, resolve
from crossdock.transfer.request import CopyRequest
from crossdock.transfer.sides import target_side
from crossdock.transfer.workshop import Resuming, Workshop

if TYPE_CHECKING:
    from crossdock.transfer.fanout import TargetReads


class _AtTarget(Struct, frozen=True):
    """The target's manifest under the name to be written, at the start of the copy."""

    name: str  # tag or digest; empty: not queried
    data: bytes | None
    is_refused: bool = False  # the target did not say what it has

    def means(self, descriptor: Descriptor) -> bool:
        """Whether the name means that manifest already."""
        return self.data is not None and descriptor.digest.matches(self.data)

    def replaced_by(self, root: Descriptor) -> tuple[TagOutcome | None, str | None]:
        """What becomes of the tag that means `root` now, and the digest it had before."""
        if self.data is None:
            return (None if self.is_refused else "new"), None
        return tag_outcome(Digest.of(self.data, root.digest.algorithm), root.digest)


class ImageCopy:
    """One reference on its way from a source to a target."""

    def __init__(
        self,
        request: CopyRequest,
        source: Source,
        target: Target,
        workshop: Workshop,
        resuming: Resuming,
        tally: Tally,
        reads: TargetReads | None = None,
    ) -> None:
        """`reads`: the source is read for several targets, of which this is one."""
        self.verified = workshop.verify  # what is done of it: not every target can do all
        self.merged = False  # the target's tag got the source's content beside its own
        self.tag: TagOutcome | None = None  # None: there is none, or the target did not say what it had
        self.previous_digest: str | None = None  # of the tag
        self._request = request
        self._source = source
        self._target = target_side(target)
        self._tally = tally
        self._graph = Graph(request, source, self._target, workshop, resuming, tally, reads)

    async def run(self) -> tuple[Descriptor, Descriptor]:
        """Copy it. Returns the descriptor that the source named and the one that the target has now.

        Raises `CopyError`. # network
        """
        started = time.monotonic()
        self._check_verify()
        request = self._request
        named, there = await self._look_up()
        if not request.platforms:
            self._check_existing(named, there)
        if there.data is not None and there.means(named):
            data = there.data
        else:
            named, data = await fetch_named(self._graph.manifests.fetch, named, self._resolve)
        root = named
        if request.platforms:
            from crossdock.transfer.platforms import select

            root, data = await select(named, data, request.platforms, self._source, self._tally.warn)
        self._check_digest(root)
        self._check_existing(root, there)
        self._check_image(root, data)
        if is_attached_tag(request.target_tag) and there.data is not None and not there.means(root):
            root, data = await self._settle_root(root, data, there.data)
        self._tally.emit(
            CopyStarted(request.source_reference, request.target_reference, root.digest, root.media_type)
        )
        try:
            root = await self._copy_root(root, data, there)
        except CopyError as error:
            refused = self._graph.manifests.refused
            if refused is None or error.side != "target" or not _lacks_login(error, refused):
                raise
            raise refused from refused.cause  # it names the requested reference, not one of its blobs
        if request.target_tag is None and self._target.lists_roots is not None:
            with during("push manifest to", "target", request.target_reference):
                await self._target.lists_roots.add_root(root)
        if request.target_tag is not None:
            self.tag, self.previous_digest = there.replaced_by(root)
        tally, seconds = self._tally, time.monotonic() - started
        became = self.tag, self.previous_digest
        tally.emit(CopyDone(root.digest, seconds, *became, tally.bytes["moved"], tally.changed))
        return named, root

    # -- before anything is copied -----------------------------------------------------------------------

    def _check_verify(self) -> None:
        """Adjust `verified` to what the target can do. Raises `CopyError` when it cannot be read back."""
        if self.verified == "reread" and self._target.reads_back is None:
            with during("read back from", "target", self._request.target_reference):
                raise InvalidOption(
                    "this target cannot be read back",
                    advice=Advice("choose-verify", "verify by stream instead"),
                )
        if self.verified == "target" and self._target.checks_digests is None:
            self.verified = "stream"
            self._tally.warn(
                "the target compares no digests itself: the blobs were hashed here, not by the target"
            )

    async def _look_up(self) -> tuple[Descriptor, _AtTarget]:
        """Resolve the source and, in parallel, the name to be written at the target."""
        request = self._request
        unchanged = request.source_digest if not request.platforms else None
        name = request.target_tag or request.target_digest or unchanged or ""
        if not name:
            return await self._resolve(), _AtTarget("", None)
        # Under a tag of a digest the target may have content of its own, which a refusal would hide.
        needed = (request.keeps_attached and is_attached_tag(name)) or request.keeps_existing
        look = self._graph.manifests.look(name, request.target_reference, needed=needed)
        named, data = await both(self._resolve(), look)
        return named, _AtTarget(name, data, self._graph.manifests.refused is not None)

    async def _resolve(self) -> Descriptor:
        request = self._request
        return await resolve(
            self._source, request.source_reference, request.source_name, request.source_digest
        )

    def _check_digest(self, root: Descriptor) -> None:
        request = self._request
        if request.target_digest is not None and request.target_digest != root.digest:
            with during("check digest of", "target", request.target_reference):
                raise DigestMismatch(
                    f"the target names {request.target_digest}, the content is {root.digest}",
                    advice=Advice(
                        "omit-digest", "leave the digest out of the target, or give the one of the content"
                    ),
                    expected=str(request.target_digest),
                    actual=str(root.digest),
                )

    def _check_image(self, root: Descriptor, data: bytes) -> None:
        """Raise `CopyError` when the target cannot hold such content."""
        if self._target.holds_images is None:
            return
        with during("push manifest to", "target", self._request.target_reference):
            self._target.holds_images.check_image(root, data)
        if self._request.requires_referrers:
            self._tally.warn(f"{self._target.name} holds images alone: their referrers are not copied")

    def _check_existing(self, root: Descriptor, there: _AtTarget) -> None:
        """Raise `CopyError` when the target's tag would be moved and may not be."""
        request = self._request
        if not request.keeps_existing or request.target_tag is None or is_attached_tag(request.target_tag):
            return
        if there.data is not None and not there.means(root):
            with during("push manifest to", "target", request.target_reference):
                raise TagExists(
                    f"the tag means {Digest.of(there.data, root.digest.algorithm)} there, not {root.digest}",
                    references=(request.target_reference,),
                )

    async def _settle_root(self, root: Descriptor, data: bytes, there: bytes) -> tuple[Descriptor, bytes]:
        """The manifest to push under a tag that clients attach content by, where the target has another."""
        shown = self._request.target_reference
        was = Digest.of(there, root.digest.algorithm)
        if self._request.keeps_attached:
            from crossdock.transfer.attachedtags import settle  # of signatures on both sides

            settled = await settle(root, data, there, shown, self._tally)
            self.merged = settled[0].digest not in (root.digest, was)
            return settled
        self._tally.warn(f"{shown} is replaced, as it was asked for by name; it was {was}")
        return root, data

    # -- the root ----------------------------------------------------------------------------------------

    async def _copy_root(self, root: Descriptor, data: bytes, there: _AtTarget) -> Descriptor:
        request, graph = self._request, self._graph
        tag, found = request.target_tag, there.means(root)
        if tag is None and not found and there.name != root.digest:
            found = await graph.manifests.has(root)
        # A registry gives a tag to manifests alone.
        proven = found and (tag is not None or await graph.manifests.is_pushed(root))
        known = proven or self._target.knows_manifest(root)
        root, whole = await graph.copy_below(root, data, present=known)
        if found:
            tag = None  # it is right already; the manifest may have to be put again
        push = None if proven and whole else partial(graph.push, root, data, shown=request.target_reference)
        is_pushed = False
        if request.referrers and self._target.holds_images is None:
            from crossdock.transfer.referrers import copy_referrers  # not needed for every copy

            # Some registries refuse referrers of what they lack, so the root is pushed before.
            is_pushed = await copy_referrers(
                graph,
                *(self._source, self._target, self._tally),
                required=request.requires_referrers,
                push_root=partial(push, tag=None) if push else None,
            )
        if self._tally.lags:
            await self._tally.room()
        if push is not None:
            if tag or not is_pushed:
                await push(tag=tag)
            graph.pushed(root)
        self._tally.manifest_done(root, pushed=not (found and whole))
        return root


def _lacks_login(*errors: CopyError) -> bool:
    return all(isinstance(root_cause(error), Unauthorized) for error in errors)
