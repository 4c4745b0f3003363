"""Listing tags, page by page."""

from __future__ import annotations

import json

import pytest

from crossdock.errors import NotFound, ProtocolError
from unit.registry.scripted_registry import Answer, Connect, ScriptedRegistry

FIRST = "/v2/x/tags/list?n=1000"


def page(*tags: object, following: str = "") -> Answer:
    headers = {"Link": f'<{following}>; rel="next"'} if following else {}
    return Answer(200, headers, json.dumps({"name": "x", "tags": list(tags)}).encode())


async def test_every_page_is_read_by_its_link(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", FIRST, page("a", "b", following="/v2/x/tags/list?last=b&n=2"))
    server.expect("GET", "/v2/x/tags/list?last=b&n=2", page(following=f"{server.url}/v2/x/tags/list?last=c"))
    server.expect("GET", "/v2/x/tags/list?last=c", page("b", "d"))
    assert await connect("source").tags() == ["a", "b", "d"]


async def test_an_invalid_tag_is_left_out_and_reported(server: ScriptedRegistry, connect: Connect) -> None:
    told: list[str] = []
    odd = [None, 7, {}, "bad tag", "", "a" * 129, "x/y", "-x", "é", "sha256:" + "0" * 64]
    server.expect("GET", FIRST, page("a", *odd, "sha256-" + "0" * 64))
    assert await connect("source").tags(told.append) == ["a", "sha256-" + "0" * 64]
    assert told == ["list of tags of x: 9 invalid entries were left out: null, 7, dict, …"]


async def test_digests_among_tags_are_left_out_without_a_word(
    server: ScriptedRegistry, connect: Connect
) -> None:
    told: list[str] = []
    server.expect("GET", FIRST, page("a", "sha256:" + "0" * 64))
    assert await connect("source").tags(told.append) == ["a"]
    assert told == []


async def test_a_null_list_is_empty(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", FIRST, Answer(200, {}, b'{"name": "x", "tags": null}'))
    assert await connect("source").tags() == []


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"tags": "a"}'])
async def test_a_document_that_is_not_a_list_is_reported(
    server: ScriptedRegistry, connect: Connect, body: bytes
) -> None:
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


async def test_a_link_to_another_scheme_is_not_followed(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", FIRST, page("a", following="file:///etc/passwd"))
    with pytest.raises(ProtocolError, match="not understood"):
        await connect("source").tags()
