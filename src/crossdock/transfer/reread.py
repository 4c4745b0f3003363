"""Reading content back from the target before a tag is written (``verify="reread"``)."""

from __future__ import annotations

from crossdock.content import ReadsBack
from crossdock.errors import (
    Advice,
    ContentError,
    NotFound,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.steps import during
from crossdock.tally import Tally
from crossdock.transfer.ranges import RangedReader
from crossdock.transfer.sides import TargetSide
from crossdock.transfer.workshop import Workshop
from crossdock.verify import BlobVerifier

_CHECK = Advice(
    "report", "the target does not keep what it was sent and confirmed: look at its storage and proxies"
)


async def reread_blob(blob: Descriptor, target: TargetSide, workshop: Workshop, tally: Tally) -> None:
    """Read the whole blob from `target` and compare. Raises `CopyError`. # network"""
    verifier = BlobVerifier(blob)
    supply = workshop.supply.between("", target.name.partition("/")[0])
    reader = RangedReader(
        _readable(target).blob(blob),
        blob.size,
        supply,
        on_requested=lambda count: None,  # only requests to the source are counted
        on_retry=lambda error: tally.retried("target", "read back blob", str(error)),
    )
    with during("read back blob from", "target", f"{target.name}@{blob.digest}"):
        try:
            while pieces := await reader.next_pieces():
                try:
                    await workshop.hashing.update(verifier, *(piece.view for piece in pieces))
                finally:
                    for piece in pieces:
                        supply.release(piece)
            verifier.check()
        except (ContentError, NotFound) as error:
            raise error.replace(advice=_CHECK) from error.__cause__
        finally:
            await reader.close()


async def reread_manifest(manifest: Descriptor, target: TargetSide) -> None:
    """Fetch the manifest from `target` and compare. Raises `CopyError`. # network"""
    with during("read back manifest from", "target", f"{target.name}@{manifest.digest}"):
        try:
            await _readable(target).fetch_manifest(manifest)
        except (ContentError, NotFound) as error:
            raise error.replace(advice=_CHECK) from error.__cause__


def _readable(target: TargetSide) -> ReadsBack:
    assert target.reads_back is not None, "refused before anything was copied"
    return target.reads_back
