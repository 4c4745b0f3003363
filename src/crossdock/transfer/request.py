"""The parameters of one copy."""

from __future__ import annotations

from msgspec import Struct

from crossdock.oci.digest import Digest
from crossdock.oci.platform import Platform


class CopyRequest(Struct, frozen=True):
    """A copy: the source, the target and the names of both."""

    source_reference: str  # for messages and events: the whole reference as given
    target_reference: str
    source_name: str  # tag or digest; empty: a layout's only manifest
    source_digest: Digest | None
    target_tag: str | None
    target_digest: Digest | None
    platforms: tuple[Platform, ...]
    mount_from: tuple[str, ...]  # other repositories of the target's registry that may have the blobs
    referrers: bool = False  # copy signatures and other referrers, too
    requires_referrers: bool = False  # and fail if they cannot be looked for
    copies_foreign: bool = False  # foreign layers are fetched and pushed like others; else their URLs serve
    keeps_existing: bool = False  # a tag that means something else at the target is not moved: `TagExists`
    keeps_attached: bool = False  # a tag of a digest was not named by the user: see `attachedtags`
