"""Lists of referrers under tags ("Referrers Tag Schema" of distribution-spec), compared before a copy."""

from __future__ import annotations

from crossdock.content import Target
from crossdock.errors import InvalidManifest
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.manifest import parse_manifest
from crossdock.oci.reference import Reference
from crossdock.runs.kept import KeptSource
from crossdock.steps import during


async def compare_lists(
    kept: KeptSource, writing: Target, named: Descriptor, target: Reference
) -> tuple[bool, bool]:
    """Of a list of referrers: whether the source's has entries that the target's has not, and the other way
    round. Other content at the target has none. # network
    """
    with during("fetch manifest from", "source", f"{kept.name}@{named.digest}"):
        ours = _entries(await kept.fetch_manifest(named))
    with during("fetch manifest from", "target", str(target)):
        theirs = _entries(await writing.find_manifest(target.tag or "") or b"")
    return not ours <= theirs, not theirs <= ours


def _entries(data: bytes) -> frozenset[str]:
    try:
        return frozenset(each.digest for each in parse_manifest(data, None).manifests)
    except InvalidManifest:
        return frozenset()
