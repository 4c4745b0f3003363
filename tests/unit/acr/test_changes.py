"""Deleting and locking at registries with odd responses: nothing is reported as done that is not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from crossdock.acr import changes, metadata
from crossdock.errors import CopyError, NotFound, Unsupported, root_cause
from crossdock.imagebuilder import Content, ImageBuilder
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions, NetworkOptions

OPTIONS = CopyOptions(network=NetworkOptions(retries=0), environ={})
PAGE = "<html>a web interface</html>"
Answers = Mapping[tuple[str, str], Callable[[], web.Response]]


class Odd:
    """A registry with the repository ``app``: v1, v2, and an index of both. It records requests."""

    def __init__(self, answers: Answers) -> None:
        self.builder = ImageBuilder()
        self.images = [self.builder.image([self.builder.random_layer(size)]) for size in (10, 20)]
        self.index = self.builder.index(self.images)
        self.tags = {"v1": self.images[0], "v2": self.images[1], "all": self.index}
        self.answers = answers
        self.asked: list[str] = []
        self.host = ""

    def item(self, text: str = "app") -> Reference:
        return Reference.parse(f"{self.host}/{text}", default_tag=None)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path}")
        for (method, start), answer in self.answers.items():
            if request.method == method and request.path.startswith(start):
                return answer()
        if request.path == "/v2/app/tags/list":
            return web.json_response({"name": "app", "tags": list(self.tags)})
        wanted = request.path.removeprefix("/v2/app/manifests/")
        found = self.tags.get(wanted) or {each.digest: each for each in (*self.images, self.index)}.get(
            wanted
        )
        if found is None:
            return web.Response(status=404, text="404 page not found")
        return self._manifest(request, found)

    def _manifest(self, request: web.Request, found: Content) -> web.Response:
        if request.method == "DELETE":
            self.tags = {name: each for name, each in self.tags.items() if each.digest != found.digest}
            return web.Response(status=202)
        headers = {"Docker-Content-Digest": found.digest, "Content-Type": found.media_type}
        return web.Response(body=self.builder.read(found.digest), headers=headers)


@asynccontextmanager
async def odd(answers: Answers) -> AsyncIterator[Odd]:
    registry = Odd(answers)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", registry.handle)
    async with TestServer(app) as server:
        registry.host = f"127.0.0.1:{server.port}"
        yield registry


def page() -> web.Response:
    return web.Response(text=PAGE, content_type="text/html")


def refusal(code: str, status: int) -> Callable[[], web.Response]:
    return lambda: web.json_response({"errors": [{"code": code, "message": "no"}]}, status=status)


async def test_a_web_interface_that_answers_every_path_deletes_and_locks_nothing() -> None:
    answers = {(method, "/acr/"): page for method in ("GET", "PATCH", "DELETE")}
    async with odd(answers) as registry:
        shown = await metadata.show_item(registry.item("app:v1"), OPTIONS)
        assert shown["digest"] == registry.images[0].digest
        await changes.untag(registry.item("app:v1"), OPTIONS)
        assert "DELETE /v2/app/manifests/v1" in registry.asked, "the page was no answer"
        with pytest.raises(CopyError) as failed:
            await changes.change_attributes(registry.item("app:v2"), {"writeEnabled": False}, OPTIONS)
        assert isinstance(root_cause(failed.value), Unsupported)
        assert "has no locks" in str(failed.value)
        had = await changes.delete_repository(registry.item(), OPTIONS)
        assert registry.tags == {}
        assert sorted(had["tagsDeleted"]) == ["all", "v2"]


async def test_indexes_go_before_what_they_hold() -> None:
    async with odd({}) as registry:
        had = await changes.delete_repository(registry.item(), OPTIONS)
        deleted = [line.rpartition("/")[2] for line in registry.asked if line.startswith("DELETE /v2/")]
        assert deleted[0] == registry.index.digest
        assert (
            sorted(deleted)
            == had["manifestsDeleted"]
            == sorted(each.digest for each in (*registry.images, registry.index))
        )


@pytest.mark.parametrize("status", [405, 403, 400])
async def test_a_repository_that_is_not_deleted_says_how_far_it_came(status: int) -> None:
    async with odd({("DELETE", "/v2/app/manifests/"): refusal("UNSUPPORTED", status)}) as registry:
        with pytest.raises(CopyError) as failed:
            await changes.delete_repository(registry.item(), OPTIONS)
        said = str(root_cause(failed.value).advice)  # type: ignore[attr-defined]
        assert said.startswith("0 of 3 manifests were deleted")
        assert set(registry.tags) == {"v1", "v2", "all"}


async def test_a_lock_is_not_taken_for_a_missing_api() -> None:
    locked = refusal("REGISTRY_DISALLOWED_OPERATION", 405)
    async with odd({("DELETE", "/acr/"): locked, ("PATCH", "/acr/"): locked}) as registry:
        for change in (
            changes.untag(registry.item("app:v1"), OPTIONS),
            changes.delete_repository(registry.item(), OPTIONS),
            changes.change_attributes(registry.item("app:v1"), {"writeEnabled": True}, OPTIONS),
        ):
            with pytest.raises(CopyError) as failed:
                await change
            assert "REGISTRY_DISALLOWED_OPERATION" in str(failed.value)
        assert not [line for line in registry.asked if line.startswith("DELETE /v2/")]


async def test_missing_content_is_not_deleted() -> None:
    async with odd({}) as registry:
        for change in (
            changes.untag(registry.item("app:none"), OPTIONS),
            changes.find_manifest(registry.item("app:none"), OPTIONS, with_tags=True),
            changes.change_attributes(registry.item("app:none"), {}, OPTIONS),
            changes.delete_repository(registry.item("other"), OPTIONS),
        ):
            with pytest.raises(CopyError) as failed:
                await change
            assert isinstance(root_cause(failed.value), NotFound)
        assert not [line for line in registry.asked if line.startswith("DELETE /v2/")]


async def test_an_answer_that_describes_something_else_is_not_an_entry() -> None:
    answers = {("GET", "/acr/"): lambda: web.json_response({"tag": {"name": "v1"}})}
    async with odd(answers) as registry:
        shown = await metadata.show_item(registry.item("app:v1"), OPTIONS)
        assert shown["digest"] == registry.images[0].digest
