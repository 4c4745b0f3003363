"""Checks that a target kept the blob that it accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossdock.errors import (
    Advice,
    DigestMismatch,
    InvalidDigest,
    UploadRejected,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.registry.blobs.blob import blob_exists
from crossdock.url import Url

if TYPE_CHECKING:
    from crossdock.registry.handle import Repository


def check_stated(expected: Digest, stated: str, url: Url) -> None:
    """Raises `DigestMismatch` if the target states another digest of the same algorithm for the blob.

    `stated`: its ``Docker-Content-Digest``.
    """
    try:
        actual = Digest(stated.strip())
    except InvalidDigest:  # none, or of an unknown form
        return
    if actual.algorithm == expected.algorithm and actual != expected:
        raise DigestMismatch(
            f"PUT {url}: the target reports digest {actual} for blob {expected}",
            advice=Advice("report", "the target, or a proxy in front of it, changes what it is sent"),
            expected=expected,
            actual=actual,
        )


async def check_kept(repository: Repository, descriptor: Descriptor) -> None:
    """Raises `UploadRejected` if an accepted blob is missing, which happens with crane's registry on disk.

    # network
    """
    if not await blob_exists(repository, descriptor):
        algorithm = descriptor.digest.algorithm
        raise UploadRejected(
            f"the target accepted {descriptor.digest} but does not have it",
            advice=Advice("report", f"it seems not to keep blobs with {algorithm} digests"),
        )
