"""Which tags of digests an import without force would change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crossdock.errors import CopyError, Denied, ServerBusy
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.mediatype import OCI_INDEX, OCI_MANIFEST
from crossdock.oci.reference import Reference
from crossdock.runs.attached import taken_tags
from unit.transfer.doubles import MemorySource, MemoryTarget

SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
PLACE = Reference.parse("registry.test/app")


def document(*layers: str) -> bytes:
    """A manifest with signatures of these names."""
    config = {"mediaType": "application/x", "digest": f"sha256:{'1' * 64}", "size": 2}
    parts = [{**config, "mediaType": SIMPLE, "annotations": {"signature": name}} for name in layers]
    return json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": parts}
    ).encode()


def keep(
    side: MemorySource | MemoryTarget, data: bytes, tag: str = "", media_type: str = OCI_MANIFEST
) -> Descriptor:
    descriptor = Descriptor(media_type, Digest.of(data), len(data))
    side.manifests[descriptor.digest] = media_type, data
    if tag:
        side.tags[tag] = descriptor.digest
    return descriptor


def signed(source: MemorySource, subject: Descriptor, *names: str) -> str:
    tag = f"{subject.digest.replace(':', '-')}.sig"
    keep(source, document(*names), tag)
    source.attachments[subject.digest] = ([], [tag])
    return tag


async def taken(
    source: MemorySource, root: Descriptor, target: MemoryTarget, data: bytes | None = None
) -> list[str]:
    found = await taken_tags(source, root, data, [(PLACE, target)])
    return [str(each.reference.tag) for each in found]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [("a", "a", False), ("a", "ab", False), ("ab", "a", True), ("a", "b", True), ("a", None, False)],
)
async def test_content_that_the_target_has_not_makes_a_conflict(
    ours: str, theirs: str | None, expected: bool
) -> None:
    source, target = MemorySource(), MemoryTarget()
    image = keep(source, document())
    tag = signed(source, image, *ours)
    if theirs is not None:
        keep(target, document(*theirs), tag)
    assert await taken(source, image, target) == ([tag] if expected else [])


async def test_children_and_signatures_of_signatures_are_looked_at() -> None:
    source, target = MemorySource(), MemoryTarget()
    child = keep(source, document("child"))
    listed: dict[str, Any] = {"mediaType": child.media_type, "digest": child.digest, "size": child.size}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]}).encode()
    root = keep(source, index, media_type=OCI_INDEX)
    first = signed(source, child, "x")
    second = signed(source, Descriptor(OCI_MANIFEST, Digest(source.tags[first]), 1), "y")
    keep(target, document("own"), second)
    assert await taken(source, root, target) == [second]
    del source.manifests[root.digest]  # an index that was made by a choice of platforms is only here
    assert await taken(source, root, target, index) == [second]


class Refusing(MemoryTarget):
    error: Exception = Denied("403", status=403)

    async def find_manifest(self, reference: str) -> bytes | None:
        raise self.error


async def test_a_login_that_may_only_push_is_not_a_conflict() -> None:
    source, target = MemorySource(), Refusing()
    image = keep(source, document())
    signed(source, image, "a")
    assert await taken(source, image, target) == []
    target.error = ServerBusy("503", status=503)
    with pytest.raises(CopyError, match="503"):
        await taken(source, image, target)
