"""The limits that the service documents, for who wants to find out before it does: ``--strict-limits``."""

from __future__ import annotations

from crossdock.content import Source
from crossdock.errors import LimitExceeded
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import parse_manifest
from crossdock.oci.mediatype import is_manifest
from crossdock.oci.reference import Reference
from crossdock.options import GiB
from crossdock.transfer.blob import during

MOST_MANIFESTS = 50  # below an image's index; the document does not say that the index counts
LARGEST_LAYER = 2 * GiB


async def check_limits(reference: Reference, source: Source, root: Descriptor, data: bytes) -> None:
    """Raise `CopyError` over `LimitExceeded` when the image below `root` is over a limit. # network"""
    with during("check limits of", "source", str(reference)):
        found: set[Digest] = set()
        pending = [(root, data)]
        while pending:
            descriptor, document = pending.pop()
            below = list(parse_manifest(document, descriptor.media_type).successors())
            for blob in below:
                if not is_manifest(blob.media_type) and blob.size > LARGEST_LAYER:
                    raise _over(f"{blob.digest} has {blob.size} bytes, more than {LARGEST_LAYER}")
            new = [each for each in below if is_manifest(each.media_type) and each.digest not in found]
            found |= {each.digest for each in new}
            if len(found) > MOST_MANIFESTS:
                raise _over(f"the image has more than {MOST_MANIFESTS} manifests")
            pending += [(each, await source.fetch_manifest(each)) for each in new]  # network


def _over(problem: str) -> LimitExceeded:
    return LimitExceeded(problem, hint="leave --strict-limits out: crossdock itself has no such limit")
