"""Limits on imported images, checked before anything is copied."""

from __future__ import annotations

from msgspec import Struct

from crossdock.content import Source
from crossdock.errors import Advice, LimitExceeded
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.mediatype import is_index, is_manifest
from crossdock.oci.reference import Reference
from crossdock.options import GiB
from crossdock.reading import read_manifest
from crossdock.steps import during


class ImageLimits(Struct, frozen=True, kw_only=True):
    """The limits of one image. None: no limit."""

    manifests: int | None = None  # below its index; Azure's documentation does not count the index itself
    layer: int | None = None  # bytes of its largest blob
    advice: Advice | None = None  # on an image over a limit

    def concern(self, media_type: str) -> bool:
        """Whether a manifest of this type has to be read for the limits."""
        return self.layer is not None or (self.manifests is not None and is_index(media_type))


NO_LIMITS = ImageLimits()
DOCUMENTED = ImageLimits(manifests=50, layer=2 * GiB, advice=Advice("lift-limits"))
"""Azure's documented limits."""


async def check_limits(
    reference: Reference, source: Source, root: Descriptor, data: bytes, limits: ImageLimits
) -> list[Descriptor]:
    """The manifests below `root`, each once, as far as the limits need them. # network

    `data` is the manifest of `root`. Raises `CopyError` over `LimitExceeded` when the image is over a limit.
    """
    with during("check limits of", "source", str(reference)):
        found: dict[Digest, Descriptor] = {}
        pending = [(root, data)]
        while pending:
            descriptor, document = pending.pop()
            below = list((await read_manifest(document, descriptor.media_type)).successors())
            for blob in below:
                if limits.layer is not None and not is_manifest(blob.media_type) and blob.size > limits.layer:
                    raise _over(f"{blob.digest} has {blob.size} bytes, more than {limits.layer}", limits)
            new = [each for each in below if is_manifest(each.media_type) and each.digest not in found]
            found |= {each.digest: each for each in new}
            if limits.manifests is not None and len(found) > limits.manifests:
                raise _over(f"the image has more than {limits.manifests} manifests", limits)
            telling = [each for each in new if limits.concern(each.media_type)]
            pending += [(each, await source.fetch_manifest(each)) for each in telling]  # network
    return list(found.values())


def _over(problem: str, limits: ImageLimits) -> LimitExceeded:
    return LimitExceeded(problem, advice=limits.advice)
