"""Large manifests: read once, listed in pages, and never in the way of short requests."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from crossdock.embedded import facts, listing
from crossdock.embedded.facts import ANNOTATIONS_KEPT, FactBook
from crossdock.embedded.repositories import Repository
from crossdock.imagebuilder import OCI_INDEX, OCI_MANIFEST
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest, parse_manifest
from unit.embedded.test_registry_server import Served, digest_of, running

SUBJECT = "sha256:" + "1" * 64
CONFIG = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2}


def manifest(**more: Any) -> bytes:
    subject = {"mediaType": OCI_MANIFEST, "digest": SUBJECT, "size": 1}
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": CONFIG,
        "layers": [],
        "subject": subject,
    }
    return json.dumps(document | more).encode()


async def put(served: Served, name: str, data: bytes, reference: str = "", kind: str = OCI_MANIFEST) -> str:
    await served.push_blob(name, b"{}")
    path = f"/v2/{name}/manifests/{reference or digest_of(data)}"
    status, _, body = await served.call("PUT", path, data, {"Content-Type": kind})
    assert status == 201, body
    return digest_of(data)


async def listed(served: Served, path: str) -> tuple[list[dict[str, Any]], int]:
    """All entries of a list of referrers, and how many pages they came in."""
    found, pages = [], 0
    while path:
        _, headers, body = await served.call("GET", path)
        document = json.loads(body)
        assert document["mediaType"] == OCI_INDEX
        found += document["manifests"]
        pages += 1
        path = headers.get("link", "").partition(">")[0].lstrip("<")
    return found, pages


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the manifests that were parsed to learn their facts."""
    sizes: list[int] = []

    def counted(data: bytes, media_type: str | None = None) -> Manifest:
        sizes.append(len(data))
        return parse_manifest(data, media_type)

    monkeypatch.setattr(facts, "parse_manifest", counted)
    return sizes


async def test_a_manifest_of_any_size_is_parsed_once(tmp_path: Path, parsed: list[int]) -> None:
    root, large = tmp_path / "root", manifest(x="y" * (3 << 20))
    async with running(root) as served:
        digest = await put(served, "a", large, "v1")
        for _ in range(3):
            found, _ = await listed(served, f"/v2/a/referrers/{SUBJECT}")
            assert [each["digest"] for each in found] == [digest]
            assert (await served.call("HEAD", "/v2/a/manifests/v1"))[0] == 200
            assert (await served.call("GET", f"/v2/a/manifests/{digest}"))[0] == 200
    assert parsed == []  # the push was enough
    async with running(root) as served:
        answers = await asyncio.gather(*(listed(served, f"/v2/a/referrers/{SUBJECT}") for _ in range(8)))
        assert [found[0]["digest"] for found, _ in answers] == [digest] * 8
        assert (await served.call("GET", "/v2/a/manifests/v1"))[0] == 200
    assert parsed == [len(large)]


async def test_later_pushes_and_deletes_are_seen(tmp_path: Path) -> None:
    async with running(tmp_path / "root") as served:
        one = await put(served, "a", manifest(annotations={"n": "1"}))
        two = await put(served, "a", manifest(annotations={"n": "2"}))
        found, _ = await listed(served, f"/v2/a/referrers/{SUBJECT}")
        assert sorted(each["digest"] for each in found) == sorted([one, two])
        assert (await served.call("DELETE", f"/v2/a/manifests/{one}"))[0] == 202
        found, _ = await listed(served, f"/v2/a/referrers/{SUBJECT}")
        assert [(each["digest"], each["annotations"]) for each in found] == [(two, {"n": "2"})]


@pytest.mark.parametrize("length", [10, ANNOTATIONS_KEPT + 1])
async def test_annotations_are_listed_whether_they_are_kept_or_not(
    tmp_path: Path, parsed: list[int], length: int
) -> None:
    async with running(tmp_path / "root") as served:
        digest = await put(served, "a", manifest(artifactType="a/b", annotations={"long": "x" * length}))
        for _ in range(2):
            ((entry,), _) = await listed(served, f"/v2/a/referrers/{SUBJECT}")
            assert entry["annotations"] == {"long": "x" * length}
            assert (entry["digest"], entry["artifactType"]) == (digest, "a/b")
    assert len(parsed) == (0 if length <= ANNOTATIONS_KEPT else 2)


async def test_a_long_list_comes_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "REFERRERS_PAGE", 1000)
    async with running(tmp_path / "root") as served:
        digests = [
            await put(served, "a", manifest(artifactType=f"a/{n % 2}", annotations={"n": str(n) * 300}))
            for n in range(9)
        ]
        found, pages = await listed(served, f"/v2/a/referrers/{SUBJECT}")
        assert sorted(each["digest"] for each in found) == sorted(digests)
        assert pages > 1
        found, pages = await listed(served, f"/v2/a/referrers/{SUBJECT}?artifactType=a%2F1")
        assert sorted(each["digest"] for each in found) == sorted(digests[1::2])
        assert pages > 1
        monkeypatch.setattr(listing, "REFERRERS_PAGE", 1)
        assert (await listed(served, f"/v2/a/referrers/{SUBJECT}"))[1] == 9  # each page has one at least


async def test_short_requests_are_answered_while_long_ones_are_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def stuck(self: Repository, *arguments: object, **more: object) -> tuple[list[object], bool]:
        release.wait()
        return [], False

    async with running(tmp_path / "root") as served:
        await put(served, "hostile", manifest())
        await put(served, "good", manifest(), "v1")
        monkeypatch.setattr(Repository, "referrers", stuck)
        waiting = [
            asyncio.create_task(served.call("GET", f"/v2/hostile/referrers/{SUBJECT}")) for _ in range(20)
        ]
        try:
            async with asyncio.timeout(20):
                for path in (
                    "/v2/good/tags/list",
                    "/v2/good/manifests/v1",
                    "/v2/",
                    f"/v2/good/blobs/{digest_of(b'{}')}",
                ):
                    assert (await served.call("GET", path))[0] == 200
                await put(served, "good", manifest(annotations={"n": "2"}), "v2")
        finally:
            release.set()
            await asyncio.gather(*waiting)


def test_children_of_many_indexes_are_kept_once() -> None:
    digests = [Digest.of(bytes([n])) for n in range(200)]
    entries = [{"mediaType": OCI_MANIFEST, "digest": str(each), "size": 1} for each in digests]
    book = FactBook(lambda descriptor: pytest.fail("nothing is read"))
    found = []
    for n in range(3):
        document = {"schemaVersion": 2, "manifests": entries, "annotations": {"n": str(n)}}
        data = json.dumps(document).encode()
        descriptor = Descriptor(OCI_INDEX, Digest.of(data), len(data))
        book.learn(descriptor, parse_manifest(data, OCI_INDEX))
        found.append(book.of(descriptor).children)
    assert [each.digest for each in found[0]] == digests
    assert all(one is other for one, other in zip(found[0], found[2], strict=True))


async def test_sizes_of_indexes_are_those_of_their_children(tmp_path: Path, parsed: list[int]) -> None:
    async with running(tmp_path / "root") as served:
        child = manifest()
        digest = await put(served, "a", child)
        entry = {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(child)}
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
        await put(served, "a", index, "v1", OCI_INDEX)
        _, _, body = await served.call("GET", f"/acr/v1/a/_manifests/{digest_of(index)}")
        assert json.loads(body)["manifest"]["imageSize"] == 2
    assert parsed == []
