"""Listing tags, page by page."""

from __future__ import annotations

import json

import pytest

from crossdock.errors import LimitExceeded, NotFound, ProtocolError, RedirectRefused
from unit.registry.scripted_registry import Answer, Connect, ScriptedRegistry, Seen

FIRST = "/v2/x/tags/list?n=1000"


def page(*tags: object, following: str = "") -> Answer:
    headers = {"Link": f'<{following}>; rel="next"'} if following else {}
    return Answer(200, headers, json.dumps({"name": "x", "tags": list(tags)}).encode())


async def test_every_page_is_read_by_its_link(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", FIRST, page("a", "b", following="/v2/x/tags/list?last=b&n=2"))
    server.expect("GET", "/v2/x/tags/list?last=b&n=2", page(following=f"{server.url}/v2/x/tags/list?last=c"))
    server.expect("GET", "/v2/x/tags/list?last=c", page("b", "d"))
    assert await connect("source").tags() == ["a", "b", "d"]


async def test_nulls_and_digests_are_no_tags(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", FIRST, page("a", None, "sha256:" + "0" * 64, "sha256-" + "0" * 64, 7))
    assert await connect("source").tags() == ["a", "sha256-" + "0" * 64]


async def test_a_null_list_is_empty(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", FIRST, Answer(200, {}, b'{"name": "x", "tags": null}'))
    assert await connect("source").tags() == []


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"tags": "a"}'])
async def test_what_is_no_list_is_said(server: ScriptedRegistry, connect: Connect, body: bytes) -> None:
    server.expect("GET", FIRST, Answer(200, {}, body))
    with pytest.raises(ProtocolError):
        await connect("source").tags()


async def test_a_missing_repository_is_not_found(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", FIRST, Answer(404, {}, b'{"errors":[{"code":"NAME_UNKNOWN"}]}'))
    with pytest.raises(NotFound, match="NAME_UNKNOWN"):
        await connect("source").tags()


async def test_a_list_that_goes_in_circles_ends(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", FIRST, page("a", following="/v2/x/tags/list?last=a"))
    server.expect("GET", "/v2/x/tags/list?last=a", page("b", following="/v2/x/tags/list?last=b"))
    server.expect("GET", "/v2/x/tags/list?last=b", page("c", following="/v2/x/tags/list?last=a"))
    with pytest.raises(ProtocolError, match="circles"):
        await connect("source").tags()


async def test_a_list_without_end_ends(
    server: ScriptedRegistry, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossdock.registry.tags.MAX_PAGES", 5)

    async def endless(seen: Seen) -> Answer:
        return page("a", following=f"/v2/x/tags/list?last={len(server.seen)}")

    server.handler = endless
    with pytest.raises(LimitExceeded, match="5 pages"):
        await connect("source").tags()
    assert len(server.seen) == 5


async def test_a_link_to_another_scheme_is_not_followed(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", FIRST, page("a", following="file:///etc/passwd"))
    with pytest.raises(RedirectRefused):
        await connect("source").tags()
