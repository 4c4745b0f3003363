"""Source and target with their capabilities, as `content` names them: each is found by one of its methods."""

from __future__ import annotations

from typing import Any, cast

from msgspec import Struct

from crossdock.content import (
    ChecksDigests,
    ChecksManifests,
    FindsAttached,
    FindsOnUpload,
    HoldsImages,
    LimitsSizes,
    ListsReferrers,
    ListsRoots,
    Mounts,
    ReadsBack,
    Remembers,
    ResumesUploads,
    Source,
    Target,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest


class TargetSide(Struct, frozen=True):
    """A target, and the same object for each capability that it has; None for those that it lacks."""

    target: Target
    name: str
    checks_digests: ChecksDigests | None
    checks_manifests: ChecksManifests | None
    finds: FindsOnUpload | None
    holds_images: HoldsImages | None
    limits_sizes: LimitsSizes | None
    lists_referrers: ListsReferrers | None
    lists_roots: ListsRoots | None
    mounts: Mounts | None
    reads_back: ReadsBack | None
    remembers: Remembers | None
    resumes: ResumesUploads | None

    def checks_digest(self, blob: Descriptor) -> bool:
        """Whether the target itself compares the blob's bytes and digest."""
        return self.checks_digests is not None and self.checks_digests.checks_digest(blob)

    def finds_on_upload(self, blob: Descriptor) -> bool:
        """As `FindsOnUpload.finds_on_upload`."""
        return self.finds is not None and self.finds.finds_on_upload(blob)

    def knows_manifest(self, manifest: Descriptor) -> bool:
        """As `Remembers.knows_manifest`."""
        return self.remembers is not None and self.remembers.knows_manifest(manifest)

    def knows_blob(self, blob: Descriptor) -> bool:
        """As `Remembers.knows_blob`."""
        return self.remembers is not None and self.remembers.knows_blob(blob)

    async def referrers(self, digest: Digest) -> list[Descriptor]:
        """As `ListsReferrers.referrers`; empty where the target lists none. # network"""
        return [] if self.lists_referrers is None else await self.lists_referrers.referrers(digest)


def target_side(target: Target) -> TargetSide:
    """`target` with what it can do. One method of a protocol stands for all of it."""

    def having(method: str) -> Any:
        return target if hasattr(target, method) else None

    return TargetSide(
        target=target,
        name=target.name,
        checks_digests=having("checks_digest"),
        checks_manifests=having("has_manifest"),
        finds=having("finds_on_upload"),
        holds_images=having("check_image"),
        limits_sizes=having("check_size"),
        lists_referrers=having("push_referrer"),
        lists_roots=having("add_root"),
        mounts=having("mount"),
        reads_back=having("fetch_manifest") and having("blob"),
        remembers=having("knows_blob"),
        resumes=having("resumable_upload"),
    )


def finds_attached(source: Source) -> bool:
    """Whether the source knows what refers to its manifests (`content.FindsAttached`)."""
    return hasattr(source, "attached")


async def find_attached(source: Source, digest: Digest) -> tuple[list[Descriptor], list[str]]:
    """As `FindsAttached.attached`; nothing where the source does not know. # network"""
    if not finds_attached(source):
        return [], []
    return await cast(FindsAttached, source).attached(digest)
