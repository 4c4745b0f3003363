"""``/acr/v1`` of the embedded registry: fields, order, paging and refusals."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from aiohttp.test_utils import TestClient, TestServer

from crossdock.embedded.app import make_app
from crossdock.imagebuilder import DOCKER_CONFIG, DOCKER_MANIFEST, OCI_INDEX, ImageBuilder, sample_index

EPOCH = 1_700_000_000 * 10**9  # ns
UNLOCKED = {"deleteEnabled": True, "writeEnabled": True, "readEnabled": True, "listEnabled": True}


class Asked:
    """A server in this loop, and requests for its JSON."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def __call__(self, path: str, *, method: str = "GET", status: int = 200) -> Any:
        async with self.client.request(method, path) as answer:
            body = await answer.read()
            assert answer.status == status, body
            self.link = answer.headers.get("Link")
            self.allow = answer.headers.get("Allow")
            return json.loads(body) if body else None

    async def all(self, path: str, index: str) -> list[list[Any]]:
        """Every page's list, by its Link as `az` reads it: the query alone, each part with a ``=``."""
        pages = [(await self(path))[index]]
        while self.link:
            target = self.link[self.link.index("<") + 1 : self.link.index(">")]
            assert all("=" in part for part in target.partition("?")[2].split("&"))
            pages.append((await self(urljoin(path, target)))[index])
        return pages


@asynccontextmanager
async def serving(root: Path) -> AsyncIterator[Asked]:
    async with TestClient(TestServer(make_app(root))) as client:
        yield Asked(client)


def dated(builder: ImageBuilder, digest: str, second: int) -> str:
    """Let the manifest have been pushed `second` seconds after the epoch of these tests."""
    os.utime(builder.path(digest), ns=(EPOCH, EPOCH + second * 10**9))
    return digest


def many(builder: ImageBuilder, count: int) -> list[str]:
    """So many images with tags t000 and on, the last of them pushed first; their digests in that order."""
    layer = builder.random_layer(100)
    digests = []
    for number in range(count):
        image = builder.image([layer], annotations={"number": str(number)})
        builder.tag(image, f"t{number:03}")
        digests.append(dated(builder, image.digest, count - number))
    return digests


async def test_an_image_is_listed_with_the_fields_of_the_service(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "team" / "app")
    layer = builder.random_layer(1000)
    image = builder.tag(builder.image([layer], "linux/arm64", flavour="docker"), "v1")
    builder.tag(image, "latest")
    dated(builder, image.digest, 5)
    config = json.loads(builder.read(image.digest))["config"]
    entry = {
        "digest": image.digest,
        "imageSize": 1000 + config["size"],
        "createdTime": "2023-11-14T22:13:25.0000000Z",
        "lastUpdateTime": "2023-11-14T22:13:25.0000000Z",
        "architecture": "arm64",
        "os": "linux",
        "mediaType": DOCKER_MANIFEST,
        "configMediaType": DOCKER_CONFIG,
        "tags": ["latest", "v1"],
        "changeableAttributes": UNLOCKED,
    }
    async with serving(tmp_path) as ask:
        listed = await ask("/acr/v1/team/app/_manifests")
        assert listed["imageName"] == "team/app"
        assert listed["registry"].startswith("127.0.0.1:")
        assert listed["manifests"] == [entry]
        assert (await ask(f"/acr/v1/team%2Fapp/_manifests/{image.digest}"))["manifest"] == entry
        tag = (await ask("/acr/v1/team/app/_tags/v1"))["tag"]
        assert (tag["name"], tag["digest"]) == ("v1", image.digest)
        assert tag["lastUpdateTime"] == entry["lastUpdateTime"]
        assert [each["name"] for each in (await ask("/acr/v1/team/app/_tags"))["tags"]] == ["latest", "v1"]
        about = await ask("/acr/v1/team/app")
        assert (about["imageName"], about["manifestCount"], about["tagCount"]) == ("team/app", 1, 2)
        assert (await ask("/acr/v1/_catalog"))["repositories"] == ["team/app"]


async def test_an_index_its_children_and_referrers_are_all_listed(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "app")
    index = builder.tag(sample_index(builder), "v1")
    note = builder.list_untagged(builder.artifact("application/vnd.example.sbom", subject=index))
    children = json.loads(builder.read(index.digest))["manifests"]
    async with serving(tmp_path) as ask:
        entries = {each["digest"]: each for each in (await ask("/acr/v1/app/_manifests"))["manifests"]}
    assert entries.keys() == {index.digest, note.digest, *(child["digest"] for child in children)}
    top = entries[index.digest]
    assert (top["mediaType"], top["tags"]) == (OCI_INDEX, ["v1"])
    assert "architecture" not in top
    assert [each["digest"] for each in top["references"]] == [child["digest"] for child in children]
    assert top["references"][0] == {"digest": children[0]["digest"], "architecture": "amd64", "os": "linux"}
    assert top["imageSize"] == sum(entries[child["digest"]]["imageSize"] for child in children)
    assert "tags" not in entries[note.digest]
    assert "os" not in entries[note.digest]


@pytest.mark.parametrize("kind", ["_manifests", "_tags"])
async def test_pages_hold_everything_once_and_in_order(tmp_path: Path, kind: str) -> None:
    digests = many(ImageBuilder(tmp_path / "app"), 250)
    index, name = kind[1:], "digest" if kind == "_manifests" else "name"
    by_age = digests if kind == "_manifests" else [f"t{number:03}" for number in range(250)]
    async with serving(tmp_path) as ask:
        for query, expected in (
            ("", sorted(by_age)),
            ("?orderby=timedesc", by_age),
            ("?orderby=timeasc", by_age[::-1]),
        ):
            pages = await ask.all(f"/acr/v1/app/{kind}{query}", index)
            assert [len(page) for page in pages] == [100, 100, 50], query
            assert [each[name] for page in pages for each in page] == expected
        assert [len(page) for page in await ask.all(f"/acr/v1/app/{kind}?n=125", index)] == [125, 125]
        page = (await ask(f"/acr/v1/app/{kind}?n=1&orderby=timedesc&last={by_age[6]}"))[index]
        assert page[0][name] == by_age[7]


async def test_who_deletes_what_is_listed_still_finds_the_next_page(tmp_path: Path) -> None:
    many(ImageBuilder(tmp_path / "app"), 6)
    seen = []
    path = "/acr/v1/app/_tags?n=2&orderby=timedesc"
    async with serving(tmp_path) as ask:
        while path:
            page, link = (await ask(path))["tags"], ask.link
            for each in page:
                seen.append(each["name"])
                await ask(f"/acr/v1/app/_tags/{each['name']}", method="DELETE", status=202)
            path = link[1 : link.index(">")] if link else ""
        assert seen == [f"t{number:03}" for number in range(6)]
        assert (await ask("/acr/v1/app/_tags"))["tags"] == []
        assert (await ask("/acr/v1/app"))["manifestCount"] == 6


async def test_tags_of_one_digest_can_be_requested(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "app")
    digests = many(builder, 3)
    builder.tag(builder.tags["t001"], "also")
    async with serving(tmp_path) as ask:
        found = (await ask(f"/acr/v1/app/_tags?digest={digests[1]}"))["tags"]
    assert [each["name"] for each in found] == ["also", "t001"]


async def test_damaged_entries_are_listed_as_far_as_they_are_known(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "app")
    image = builder.tag(builder.image([builder.random_layer(10)], "linux/amd64"), "v1")
    broken = builder.tag(builder.image([builder.random_layer(20)], "linux/amd64"), "v2")
    builder.path(json.loads(builder.read(image.digest))["config"]["digest"]).write_bytes(b"[1, 2")
    builder.path(broken.digest).write_bytes(b"no manifest")
    async with serving(tmp_path) as ask:
        entries = {each["tags"][0]: each for each in (await ask("/acr/v1/app/_manifests"))["manifests"]}
    assert "architecture" not in entries["v1"]
    assert entries["v1"]["imageSize"] > 10
    assert entries["v2"]["imageSize"] == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/acr/v1/missing", 404, "NAME_UNKNOWN"),
        ("GET", "/acr/v1/missing/_manifests", 404, "NAME_UNKNOWN"),
        ("GET", "/acr/v1/UPPER/_manifests", 400, "NAME_INVALID"),
        ("GET", f"/acr/v1/app/_manifests/sha256:{'0' * 64}", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/acr/v1/app/_manifests/latest", 400, "DIGEST_INVALID"),
        ("GET", "/acr/v1/app/_tags/missing", 404, "MANIFEST_UNKNOWN"),
        ("DELETE", "/acr/v1/app/_tags/missing", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/acr/v1/app/_manifests?n=0", 400, "PAGINATION_NUMBER_INVALID"),
        ("GET", "/acr/v1/app/_manifests?n=many", 400, "PAGINATION_NUMBER_INVALID"),
        ("GET", "/acr/v1/app/_tags?orderby=size", 400, "UNSUPPORTED"),
        ("GET", "/acr/v1/app/_tags?orderby=timeasc&last=gone", 400, "PAGINATION_NUMBER_INVALID"),
        ("GET", "/acr/v1/_deleted/app/_tags", 400, "NAME_INVALID"),
        ("PATCH", "/acr/v1/app/_tags", 405, "UNSUPPORTED"),
        ("PUT", "/acr/v1/app", 405, "UNSUPPORTED"),
    ],
)
async def test_refusals_are_in_the_form_of_the_service(
    tmp_path: Path, method: str, path: str, status: int, code: str
) -> None:
    many(ImageBuilder(tmp_path / "app"), 1)
    async with serving(tmp_path) as ask:
        errors = (await ask(path, method=method, status=status))["errors"]
        assert [each["code"] for each in errors] == [code]
        assert errors[0]["message"]
        assert (ask.allow is not None) == (status == 405)
