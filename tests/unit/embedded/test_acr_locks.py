"""Locks of the embedded registry: PATCH and DELETE of ``/acr/v1``, and requests that locks forbid."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from crossdock.embedded.acr.locks import FILE_NAME
from crossdock.embedded.app import make_app
from crossdock.imagebuilder import ImageBuilder

ALL = {"deleteEnabled": True, "writeEnabled": True, "readEnabled": True, "listEnabled": True}
DISALLOWED = "REGISTRY_DISALLOWED_OPERATION"


class Served:
    """The repository ``team/app`` with the tags v1 and latest of one image, and v2 of another."""

    def __init__(self, client: Any, builder: ImageBuilder) -> None:
        self.client = client
        self.first, self.second = (builder.image([builder.random_layer(size)]) for size in (100, 200))
        self.builder = builder
        for tag in ("v1", "latest"):
            builder.tag(self.first, tag)
        builder.tag(self.second, "v2")

    async def __call__(
        self, method: str, path: str, body: Any = None, *, status: int = 200, code: str = ""
    ) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body) if body is not None else None
        headers = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
        async with self.client.request(method, path, data=data, headers=headers) as answer:
            received = await answer.read()
            assert answer.status == status, (method, path, received)
            document = json.loads(received) if received.startswith(b"{") else received
            if code:
                assert [each["code"] for each in document["errors"]] == [code]
            return document

    async def lock(self, item: str, **attributes: Any) -> Any:
        return await self("PATCH", f"/acr/v1/team/app{item}", attributes)

    async def refuses(self, method: str, path: str, body: Any = None) -> None:
        await self(method, path, body, status=405, code=DISALLOWED)


@asynccontextmanager
async def serving(root: Path) -> AsyncIterator[Served]:
    async with TestClient(TestServer(make_app(root))) as client:
        yield Served(client, ImageBuilder(root / "team" / "app"))


async def test_a_tag_s_attributes_change_alone_and_outlive_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        answer = await served.lock("/_tags/v1", writeEnabled=False)
        assert (answer["imageName"], answer["tag"]["name"]) == ("team/app", "v1")
        assert answer["tag"]["changeableAttributes"] == {**ALL, "writeEnabled": False}
        again = await served.lock("/_tags/v1", deleteEnabled=False, readEnabled=None, quarantineState="x")
        expected = {**ALL, "writeEnabled": False, "deleteEnabled": False}
        assert again["tag"]["changeableAttributes"] == expected
    async with TestClient(TestServer(make_app(tmp_path))) as client:
        async with client.get("/acr/v1/team/app/_tags") as answered:
            tags = {each["name"]: each["changeableAttributes"] for each in (await answered.json())["tags"]}
        assert tags == {"v1": expected, "latest": ALL, "v2": ALL}
        async with client.patch("/acr/v1/team/app/_tags/v1", json={**ALL}) as answered:
            assert (await answered.json())["tag"]["changeableAttributes"] == ALL
    assert not (tmp_path / "team/app" / FILE_NAME).exists(), "nothing is locked, so nothing is kept"


async def test_a_locked_tag_is_neither_moved_nor_deleted_nor_is_its_manifest(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.lock("/_tags/v1", writeEnabled=False)
        other = served.builder.read(served.second.digest)
        await served.refuses("PUT", "/v2/team/app/manifests/v1", other)
        await served.refuses("PUT", f"/v2/team/app/manifests/{served.second.digest}?tag=v1", other)
        await served.refuses("DELETE", "/v2/team/app/manifests/v1")
        await served.refuses("DELETE", "/acr/v1/team/app/_tags/v1")
        await served.refuses("DELETE", f"/v2/team/app/manifests/{served.first.digest}")
        await served.refuses("DELETE", "/acr/v1/team/app")
        await served("GET", "/v2/team/app/manifests/v1")
        # The lock is the tag's: others of the same manifest move and go.
        await served("PUT", "/v2/team/app/manifests/latest", other, status=201)
        await served("DELETE", "/acr/v1/team/app/_tags/latest", status=202)
        await served.lock("/_tags/v1", writeEnabled=True)
        await served("PUT", "/v2/team/app/manifests/v1", other, status=201)


async def test_delete_enabled_false_lets_a_tag_move(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.lock("/_tags/v1", deleteEnabled=False)
        await served.refuses("DELETE", "/acr/v1/team/app/_tags/v1")
        await served(
            "PUT", "/v2/team/app/manifests/v1", served.builder.read(served.second.digest), status=201
        )


async def test_a_locked_manifest_stays_while_its_tags_may_go(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        item = f"/_manifests/{served.first.digest}"
        answer = await served.lock(item, writeEnabled=False)
        assert answer["manifest"]["changeableAttributes"] == {**ALL, "writeEnabled": False}
        await served.refuses("DELETE", f"/v2/team/app/manifests/{served.first.digest}")
        await served("DELETE", "/acr/v1/team/app/_tags/v1", status=202)
        await served.lock(item, readEnabled=False)
        await served.refuses("GET", f"/v2/team/app/manifests/{served.first.digest}")
        await served.refuses("GET", "/v2/team/app/manifests/latest")
        await served("GET", "/v2/team/app/manifests/v2")


async def test_a_locked_repository_takes_nothing_and_loses_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        answer = await served.lock("", writeEnabled=False)
        assert answer["changeableAttributes"] == {**ALL, "writeEnabled": False}
        manifest = served.builder.read(served.second.digest)
        await served.refuses("PUT", "/v2/team/app/manifests/v3", manifest)
        await served.refuses("POST", "/v2/team/app/blobs/uploads/")
        await served.refuses("DELETE", "/v2/team/app/manifests/v2")
        await served.refuses("DELETE", f"/v2/team/app/blobs/{served.second.digest}")
        await served.refuses("DELETE", "/acr/v1/team/app")
        await served("GET", "/v2/team/app/manifests/v2")
        await served("PUT", f"/v2/team/other/manifests/{served.second.digest}", manifest, status=400)
        await served.lock("", writeEnabled=True, readEnabled=False)
        await served.refuses("GET", "/v2/team/app/manifests/v2")
        await served("GET", "/acr/v1/team/app/_tags")


async def test_unlisted_content_is_in_no_list_and_can_be_pulled(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.lock("/_tags/v1", listEnabled=False)
        await served.lock(f"/_manifests/{served.second.digest}", listEnabled=False)
        assert (await served("GET", "/v2/team/app/tags/list"))["tags"] == ["latest", "v2"]
        listed = (await served("GET", "/acr/v1/team/app/_tags"))["tags"]
        assert [each["name"] for each in listed] == ["latest", "v2"]
        listed = (await served("GET", "/acr/v1/team/app/_manifests"))["manifests"]
        assert [each["digest"] for each in listed] == [served.first.digest]
        assert (await served("GET", "/acr/v1/team/app/_tags/v1"))["tag"]["name"] == "v1"
        await served("GET", "/v2/team/app/manifests/v1")
        for path in ("/v2/_catalog", "/acr/v1/_catalog"):
            assert (await served("GET", path))["repositories"] == ["team/app"]
        await served.lock("", listEnabled=False)
        for path in ("/v2/_catalog", "/acr/v1/_catalog"):
            assert (await served("GET", path))["repositories"] == []


async def test_a_repository_is_deleted_whole_and_begins_again_unlocked(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        below = ImageBuilder(tmp_path / "team" / "app" / "more")
        below.tag(below.image([below.random_layer(10)]), "v1")
        await served.lock("/_tags/v1", readEnabled=False)
        had = await served("DELETE", "/acr/v1/team/app", status=202)
        assert had["tagsDeleted"] == ["latest", "v1", "v2"]
        assert had["manifestsDeleted"] == sorted([served.first.digest, served.second.digest])
        await served("GET", "/acr/v1/team/app", status=404, code="NAME_UNKNOWN")
        await served("DELETE", "/acr/v1/team/app", status=404, code="NAME_UNKNOWN")
        assert (await served("GET", "/v2/_catalog"))["repositories"] == ["team/app/more"]
        assert not (tmp_path / "team/app/blobs").exists()
        builder = ImageBuilder(tmp_path / "team" / "app")
        builder.tag(builder.image([builder.random_layer(30)]), "v1")
        assert (await served("GET", "/acr/v1/team/app/_tags/v1"))["tag"]["changeableAttributes"] == ALL


async def test_a_tag_that_comes_again_has_no_old_lock(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.lock("/_tags/v1", readEnabled=False)
        await served("DELETE", "/v2/team/app/manifests/v1", status=202)
        await served("PUT", "/v2/team/app/manifests/v1", served.builder.read(served.first.digest), status=201)
        assert (await served("GET", "/acr/v1/team/app/_tags/v1"))["tag"]["changeableAttributes"] == ALL


@pytest.mark.parametrize(
    ("item", "body", "status"),
    [
        ("/_tags/none", {"writeEnabled": False}, 404),
        (f"/_manifests/sha256:{'0' * 64}", {"writeEnabled": False}, 404),
        ("/_manifests/v1", {"writeEnabled": False}, 400),
        ("/_tags/v1", {"writeEnabled": "false"}, 400),
        ("/_tags/v1", [], 400),
        ("/_tags/v1", b"", 400),
        ("/_tags/v1", {"filler": "x" * 70_000}, 413),
    ],
)
async def test_a_change_that_is_none_is_refused(tmp_path: Path, item: str, body: Any, status: int) -> None:
    async with serving(tmp_path) as served:
        await served("PATCH", f"/acr/v1/team/app{item}", body, status=status)
        assert not (tmp_path / "team/app" / FILE_NAME).exists()
