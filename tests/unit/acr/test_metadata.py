"""Listings over ``/acr/v1`` and over the distribution API alone: same fields, same order."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from crossdock.acr.metadata import list_manifests, list_repositories, list_tag_names, list_tags
from crossdock.embedded.app import Registry
from crossdock.errors import CopyError, NotFound, ProtocolError, RegistryError, root_cause
from crossdock.imagebuilder import Content, ImageBuilder, sample_index
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions, NetworkOptions
from crossdock.protocol.metadata import created_time, read_config, timestamp
from crossdock.registry import catalog

OPTIONS = CopyOptions(environ={}, network=NetworkOptions(retries=0))
Answer = Callable[[web.Request], web.Response | None]


@asynccontextmanager
async def serving(root: Path, instead: Answer = lambda request: None) -> AsyncIterator[tuple[str, list[str]]]:
    """An embedded registry: its ``host:port``, and its requests. `instead` may respond first."""
    asked: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        return instead(request) or await registry.handle(request)

    registry, app = Registry(root), web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(app) as server:
        yield f"127.0.0.1:{server.port}", asked


def no_api(status: int = 404, body: str = "404 page not found") -> Answer:
    """Answers ``/acr/v1`` as registries do that have none."""
    return lambda request: web.Response(status=status, text=body) if "/acr/v1" in request.path else None


def repository(host: str, name: str = "team/app") -> Reference:
    return Reference.parse(f"{host}/{name}", default_tag=None)


def dated(builder: ImageBuilder, created: str, number: int = 0) -> Content:
    """An image with its time of creation in the config."""
    layer = builder.random_layer(50 + number)
    config = json.dumps({"created": created, "architecture": "arm64", "os": "linux", "number": number})
    config_type = "application/vnd.oci.image.config.v1+json"
    described = builder.blob(config.encode(), config_type).document()
    return builder.manifest({"schemaVersion": 2, "config": described, "layers": [layer.document()]})


async def test_both_ways_tell_the_same_of_the_same_repository(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "team" / "app")
    index = builder.tag(sample_index(builder), "v1")
    builder.tag(builder.helm_chart(), "chart")
    note = builder.list_untagged(builder.artifact("application/vnd.example.sbom", subject=index))
    for number, digest in enumerate(builder.digests()):
        os.utime(builder.path(digest), (number, number))
    async with serving(tmp_path) as (host, asked):
        by_api = await list_manifests(repository(host), OPTIONS)
        assert [path for path in asked if "/acr/v1/" in path] == asked[-1:]
    async with serving(tmp_path, no_api()) as (host, _):
        walked = await list_manifests(repository(host), OPTIONS)
    assert len(walked) == 8
    assert {each["digest"] for each in walked} >= {index.digest, note.digest}
    for each in (*by_api, *walked):
        each.pop("createdTime", None)
        each.pop("lastUpdateTime", None)
    assert by_api == walked
    assert [each["digest"] for each in walked] == sorted(each["digest"] for each in walked)


async def test_pages_are_read_to_the_end_or_to_the_top(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "team" / "app")
    layer = builder.random_layer(10)
    images = [builder.image([layer], annotations={"number": str(number)}) for number in range(230)]
    for number, image in enumerate(images):
        builder.tag(image, f"v{number:03}")
        os.utime(builder.path(image.digest), (number, number))
    async with serving(tmp_path) as (host, asked):
        assert len(await list_manifests(repository(host), OPTIONS)) == 230
        assert sum("_manifests" in path for path in asked) == 3
        asked.clear()
        newest = await list_tags(repository(host), OPTIONS, order="timedesc", top=120)
        assert [each["name"] for each in newest] == [f"v{number:03}" for number in range(229, 109, -1)]
        assert sum("_tags" in path for path in asked) == 2
        assert await list_tag_names(repository(host), OPTIONS, top=3) == ["v000", "v001", "v002"]
    async with serving(tmp_path, no_api()) as (host, asked):
        assert await list_tag_names(repository(host), OPTIONS, top=3) == ["v000", "v001", "v002"]
        assert not any("/manifests/" in path for path in asked)
        few = await list_manifests(repository(host), OPTIONS, top=2)
        assert [each["digest"] for each in few] == sorted(image.digest for image in images)[:2]
        assert sum("/blobs/" in path for path in asked) == 2, "configs are read of what is shown alone"


async def test_without_the_api_time_is_what_the_images_say(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "team" / "app")
    old = builder.tag(dated(builder, "2020-01-01T00:00:00.25Z", 1), "old")
    young = dated(builder, "2021-01-01T01:00:00+01:00", 2)
    builder.tag(builder.index([young]), "index")
    builder.tag(dated(builder, "0001-01-01T00:00:00Z", 3), "reproducible")
    builder.tag(builder.artifact("application/vnd.example"), "artifact")
    async with serving(tmp_path, no_api(405)) as (host, _):
        tags = await list_tags(repository(host), OPTIONS, order="timedesc")
        assert [each["name"] for each in tags] == ["index", "old", "reproducible", "artifact"]
        assert await list_tag_names(repository(host), OPTIONS, order="timeasc") == [
            *("reproducible", "old", "index", "artifact"),
        ]
        manifests = await list_manifests(repository(host), OPTIONS, order="timeasc", top=2)
    assert [each.get("lastUpdateTime") for each in tags] == [
        *(
            "2021-01-01T00:00:00.0000000Z",
            "2020-01-01T00:00:00.2500000Z",
            "0001-01-01T00:00:00.0000000Z",
            None,
        ),
    ]
    assert manifests[1]["digest"] == old.digest
    assert manifests[1]["architecture"] == "arm64"


async def test_missing_or_unknown_content_ends_no_listing(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "team" / "app")
    child = builder.image([builder.random_layer(10)])
    index = builder.tag(builder.index([child, builder.image([builder.random_layer(20)])]), "sparse")
    builder.path(child.digest).unlink()
    builder.tag(dated(builder, "2020-01-01T00:00:00Z"), "old-format")
    stated = {
        "Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "Docker-Content-Digest": f"sha256:{'5' * 64}",
    }

    def schema1(request: web.Request) -> web.Response | None:
        if request.path.endswith("/manifests/old-format"):
            return web.Response(headers=stated, body=b"{}")
        return no_api()(request)

    async with serving(tmp_path, schema1) as (host, _):
        entries = {each["digest"]: each for each in await list_manifests(repository(host), OPTIONS)}
    assert child.digest not in entries
    assert entries[index.digest]["tags"] == ["sparse"]
    assert entries[stated["Docker-Content-Digest"]]["tags"] == ["old-format"]


@pytest.mark.parametrize(
    ("status", "body"), [(200, "<html>a portal</html>"), (200, '{"version": 1}'), (400, ""), (501, "")]
)
async def test_other_ways_to_have_no_api(tmp_path: Path, status: int, body: str) -> None:
    builder = ImageBuilder(tmp_path / "team" / "app")
    image = builder.tag(dated(builder, "2020-01-01T00:00:00Z"), "v1")
    async with serving(tmp_path, no_api(status, body)) as (host, _):
        assert [each["digest"] for each in await list_manifests(repository(host), OPTIONS)] == [image.digest]
        assert await list_tag_names(repository(host), OPTIONS) == ["v1"]


@pytest.mark.parametrize(("status", "kind"), [(403, RegistryError), (500, RegistryError)])
async def test_a_refusal_is_not_taken_for_a_missing_api(
    tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    ImageBuilder(tmp_path / "team" / "app").tag(ImageBuilder(tmp_path / "team" / "app").helm_chart(), "v1")
    async with serving(tmp_path, no_api(status)) as (host, asked):
        with pytest.raises(CopyError, match=f"^list manifests of {host}/team/app: ") as failed:
            await list_manifests(repository(host), OPTIONS)
    assert isinstance(root_cause(failed.value), kind)
    assert not any("/v2/team" in path for path in asked)


async def test_a_list_that_breaks_in_the_middle_is_an_error(tmp_path: Path) -> None:
    def broken(request: web.Request) -> web.Response | None:
        if "last" in request.query:
            return web.Response(text="<html>")
        link = f'<{request.path}?last=x&n=1&orderby=>; rel="next"'
        body = {"manifests": [{"digest": "x"}]}
        return web.json_response(body, headers={"Link": link}) if "/acr/v1" in request.path else None

    async with serving(tmp_path, broken) as (host, _):
        with pytest.raises(CopyError) as failed:
            await list_manifests(repository(host), OPTIONS)
    assert isinstance(root_cause(failed.value), ProtocolError)


async def test_a_repository_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with serving(tmp_path) as (host, _):
        for listing in (list_manifests, list_tags, list_tag_names):
            with pytest.raises(CopyError) as failed:
                await listing(repository(host, "missing"), OPTIONS)
            assert isinstance(root_cause(failed.value), NotFound)


async def test_repositories_come_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "NAMES", 100)
    for number in range(103):
        ImageBuilder(tmp_path / "team" / f"app{number:03}")
    for number in range(103):
        (tmp_path / "team" / f"app{number:03}" / "index.json").write_text(
            '{"schemaVersion": 2, "manifests": []}'
        )
    async with serving(tmp_path) as (host, asked):
        names = await list_repositories(host, OPTIONS)
        assert names == [f"team/app{number:03}" for number in range(103)]
        assert sum("_catalog" in path for path in asked) == 2
        assert await list_repositories(host, OPTIONS, top=2) == names[:2]


async def test_a_registry_without_a_catalog_is_reported(tmp_path: Path) -> None:
    def none(request: web.Request) -> web.Response | None:
        return web.Response(status=404) if request.path == "/v2/_catalog" else None

    async with serving(tmp_path, none) as (host, _):
        with pytest.raises(CopyError) as raised:
            await list_repositories(host, OPTIONS)
    cause = root_cause(raised.value)
    assert isinstance(cause, NotFound)
    assert "no catalog" in str(cause.advice)


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        ("2024-02-29T23:59:59.123456789Z", "2024-02-29T23:59:59.1234560Z"),
        ("2024-01-01T00:00:00", "2024-01-01T00:00:00.0000000Z"),
        ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5000000Z"),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times_are_read_as_they_come_and_shown_as_the_service_does(created: str, shown: str | None) -> None:
    from crossdock.oci.manifest import Manifest

    found = created_time(Manifest("application/x"), read_config(json.dumps({"created": created}).encode()))
    assert (None if found is None else timestamp(found)) == shown
