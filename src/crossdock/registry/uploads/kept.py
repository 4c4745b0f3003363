"""Whether a target has what it accepted."""

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
    """Raises `DigestMismatch` when the target names what it took by another digest of the same kind.

    `stated` is its ``Docker-Content-Digest``.
    """
    try:
        actual = Digest(stated.strip())
    except InvalidDigest:  # none, or one that says nothing to us
        return
    if actual.algorithm == expected.algorithm and actual != expected:
        raise DigestMismatch(
            f"PUT {url}: the target names the blob {expected} as {actual}",
            advice=Advice("report", "the target, or a proxy before it, does not keep what it was sent"),
            expected=expected,
            actual=actual,
        )


async def check_kept(repository: Repository, descriptor: Descriptor) -> None:
    """Raises `UploadRejected` when a blob was accepted and is not there, as crane's registry on disk does.

    # network
    """
    if not await blob_exists(repository, descriptor):
        algorithm = descriptor.digest.algorithm
        raise UploadRejected(
            f"the target accepted {descriptor.digest} and does not have it",
            advice=Advice("report", f"it seems not to keep blobs with {algorithm} digests"),
        )
