"""A source's name that several copies share."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from crossdock.errors import CopyError, DigestMismatch, NotFound, root_cause
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.mediatype import OCI_MANIFEST
from crossdock.runs import kept
from crossdock.runs.kept import KeptSource
from unit.transfer.doubles import MemorySource

REFERENCE = "source.test/repo:v1"


@dataclass
class CountedSource(MemorySource):
    asked: list[str] = field(default_factory=list)

    async def resolve(self, reference: str) -> Descriptor:
        self.asked.append(f"resolve {reference}")
        return await super().resolve(reference)

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        self.asked.append(f"fetch {descriptor.digest}")
        return await super().fetch_manifest(descriptor)

    async def attached(self, digest: Digest) -> tuple[list[Descriptor], list[str]]:
        self.asked.append(f"attached {digest}")
        return await super().attached(digest)


def put(source: MemorySource, data: bytes, tag: str = "v1") -> Digest:
    digest = Digest.of(data)
    source.manifests[digest] = OCI_MANIFEST, data
    source.tags[tag] = digest
    return digest


async def test_several_copies_ask_the_source_once() -> None:
    source = CountedSource()
    digest = put(source, b"one")
    shared = KeptSource(source, REFERENCE, "v1")
    for _ in range(2):
        assert (await shared.find()).digest == digest
        assert await shared.read() == b"one"
        assert (await shared.resolve(digest)).digest == digest
        assert await shared.fetch_manifest(shared.named) == b"one"
        assert await shared.attached(digest) == ([], [])
    assert source.asked == ["resolve v1", f"fetch {digest}", f"attached {digest}"]


async def test_a_manifest_that_is_gone_is_the_one_that_the_tag_means_by_now() -> None:
    source = CountedSource()
    first = put(source, b"one")
    shared = KeptSource(source, REFERENCE, "v1")
    await shared.find()
    second = put(source, b"two")
    del source.manifests[first]
    assert await shared.read() == b"two"
    assert shared.named.digest == second
    assert (await shared.find()).digest == second


async def test_a_manifest_that_is_gone_for_good_is_an_error() -> None:
    source = CountedSource()
    shared = KeptSource(source, REFERENCE, "v1")
    digest = put(source, b"one")
    named = await shared.find()
    del source.manifests[digest]
    with pytest.raises(CopyError) as failed:
        await shared.read()
    assert isinstance(root_cause(failed.value), NotFound)
    assert shared.named == named


async def test_a_given_digest_has_to_agree() -> None:
    source = CountedSource()
    put(source, b"one")
    shared = KeptSource(source, REFERENCE, "v1", Digest.of(b"other"), "import")
    with pytest.raises(CopyError, match=REFERENCE) as failed:
        await shared.find()
    assert isinstance(root_cause(failed.value), DigestMismatch)
    assert "digest to import the tag" in str(failed.value.advice)


async def test_manifests_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 4)
    source = CountedSource()
    small, large = put(source, b"abc"), put(source, b"abcdef", "v2")
    shared = KeptSource(source, REFERENCE, "v1")
    for _ in range(2):
        for digest in (small, large):
            await shared.fetch_manifest(await source.resolve(digest))
    fetched = [each for each in source.asked if each.startswith("fetch")]
    assert fetched == [f"fetch {small}", f"fetch {large}", f"fetch {large}"]
