"""Referrers of a manifest at a source: how they are found, and with how few requests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crossdock.errors import RetriesExhausted
from unit.registry.scripted_registry import Answer, Connect, ScriptedRegistry
from unit.registry.test_referrers import API, INDEX_TYPE, LIST, SUBJECT, TAG, artifact, entry, index

TAGS = "/v2/x/tags/list?n=1000"
LAST = f"{TAGS}&last=sha256-"


def tags(*names: str, **headers: str) -> Answer:
    return Answer(200, headers, json.dumps({"name": "x", "tags": names}).encode())


def listed(*entries: dict[str, Any]) -> Answer:
    return Answer(200, INDEX_TYPE, index(*entries))


async def find(connect: Connect) -> tuple[list[str], list[str]]:
    referrers, names = await connect("source").attached(SUBJECT.digest)
    return [each.digest for each in referrers], names


async def test_the_api_and_the_tags_of_digests_are_requested(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("GET", LAST, tags(TAG, f"{TAG}.att", f"{TAG}.sig", "sha256-" + "f" * 64 + ".sig", "v1"))
    server.expect("GET", API, listed(entry(1)))
    assert await find(connect) == ([artifact(1)[0].digest], [f"{TAG}.att", f"{TAG}.sig"])


async def test_the_list_is_left_at_the_first_tag_behind_those_of_digests(
    server: ScriptedRegistry, connect: Connect
) -> None:
    more = {"Link": f'<{LAST}x>; rel="next"'}
    server.expect("GET", LAST, tags(f"{TAG}.att", **more))
    server.expect("GET", f"{LAST}x", tags(f"{TAG}.sig", "v1", **more))
    server.expect("GET", API, listed())
    assert await find(connect) == ([], [f"{TAG}.att", f"{TAG}.sig"])


async def test_all_tags_at_once_and_in_no_order_are_all_read(
    server: ScriptedRegistry, connect: Connect
) -> None:
    more = {"Link": f'<{LAST}x>; rel="next"'}
    server.expect("GET", LAST, tags("v1", f"{TAG}.sig", "a", **more))
    server.expect("GET", f"{LAST}x", tags(f"{TAG}.att"))
    server.expect("GET", API, listed())
    assert await find(connect) == ([], [f"{TAG}.att", f"{TAG}.sig"])


async def test_a_registry_that_does_not_know_last_is_asked_for_everything(
    server: ScriptedRegistry, connect: Connect
) -> None:
    """zot answers 404, with an empty body, to a ``last`` that is no tag."""
    server.expect("GET", LAST, Answer(404))
    server.expect("GET", TAGS, tags(f"{TAG}.sig", "v1"))
    server.expect("GET", API, listed())
    assert await find(connect) == ([], [f"{TAG}.sig"])


async def test_without_the_api_the_list_of_tags_says_whether_there_is_a_fallback_list(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("GET", LAST, tags(TAG, "v1"))
    server.expect("GET", API, Answer(404))
    server.expect("GET", LIST, listed(entry(1)))
    repository = connect("source")
    referrers, _ = await repository.attached(SUBJECT.digest)
    assert [each.digest for each in referrers] == [artifact(1)[0].digest]
    other = artifact(2)[0].digest
    assert await repository.attached(other) == ([], [])  # asks nothing any more


@pytest.mark.parametrize("status", [403, 405])
async def test_a_list_that_is_refused_is_replaced_by_cosigns_names(
    server: ScriptedRegistry, connect: Connect, status: int
) -> None:
    server.expect("GET", LAST, Answer(status))
    for word, found in (("sig", 200), ("att", 404), ("sbom", 404)):
        server.expect("HEAD", f"{LIST}.{word}", Answer(found))
    server.expect("GET", API, listed())
    assert await find(connect) == ([], [f"{TAG}.sig"])


async def test_a_list_without_end_is_replaced_as_well(server: ScriptedRegistry, connect: Connect) -> None:
    path = LAST
    for number in range(10):
        following = f"{TAGS}&page={number}"
        server.expect("GET", path, tags(f"a{number}", Link=f'<{following}>; rel="next"'))
        path = following
    for word in ("sig", "att", "sbom"):
        server.expect("HEAD", f"{LIST}.{word}", Answer(404))
    server.expect("GET", API, listed())
    assert await find(connect) == ([], [])


async def test_a_registry_that_fails_is_an_error(server: ScriptedRegistry, connect: Connect) -> None:
    for _ in range(3):
        server.expect("GET", LAST, Answer(500))
    with pytest.raises(RetriesExhausted):
        await connect("source").attached(SUBJECT.digest)
