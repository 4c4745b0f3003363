"""Lists are complete, or an error with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import pytest

from crossdock.errors import CrossdockError, Denied, LimitExceeded, NotFound, ProtocolError
from unit.registry.scripted_registry import Answer, Connect, ScriptedRegistry, Seen

FIRST = "/v2/x/tags/list?n=1000"
TAGS = [f"t{number:04}" for number in range(2345)]


def page(*tags: object, link: str = "") -> Answer:
    body = json.dumps({"name": "x", "tags": list(tags)}).encode()
    return Answer(200, {"Link": link} if link else {}, body)


def query(seen: Seen) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(seen.target).query))


def serve(server: ScriptedRegistry, answer: Callable[[dict[str, str]], Answer]) -> None:
    async def handler(seen: Seen) -> Answer:
        return answer(query(seen))

    server.handler = handler


def behind(asked: dict[str, str], tags: list[str] = TAGS) -> list[str]:
    return [tag for tag in tags if tag > asked.get("last", "")]


async def test_a_full_page_without_a_link_is_continued(server: ScriptedRegistry, connect: Connect) -> None:
    """Nexus honours `n` and sends no Link (sonatype/nexus-public#117)."""
    serve(server, lambda asked: page(*behind(asked)[: int(asked["n"])]))
    assert await connect("source").tags() == TAGS


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 1500])
async def test_a_server_that_knows_no_pages_has_sent_everything(
    server: ScriptedRegistry, connect: Connect, count: int
) -> None:
    """docker-registry 2 ignores `n` and `last`, so that a thousand tags look like a full page."""
    serve(server, lambda asked: page(*TAGS[:count]))
    assert await connect("source").tags() == TAGS[:count]
    assert len(server.seen) == (2 if count == 1000 else 1)


async def test_a_full_last_page_of_a_server_with_links_of_its_own(
    server: ScriptedRegistry, connect: Connect
) -> None:
    """It ignores `last` and names the next page by a token: the thousand tags are complete."""

    def answer(asked: dict[str, str]) -> Answer:
        start, n = int(asked.get("next_page", 0)), int(asked["n"])
        more = start + n < 1000
        link = f'</v2/x/tags/list?n={n}&next_page={start + n}>; rel="next"' if more else ""
        return page(*TAGS[start : min(1000, start + n)], link=link)

    serve(server, answer)
    assert await connect("source").tags() == TAGS[:1000]


async def test_a_server_that_honours_n_and_ignores_last_is_an_error(
    server: ScriptedRegistry, connect: Connect
) -> None:
    serve(server, lambda asked: page(*TAGS[: int(asked["n"])]))
    with pytest.raises(ProtocolError, match="repeats a page") as caught:
        await connect("source").tags()
    assert "cannot be read to its end" in str(caught.value.advice)
    assert not caught.value.retryable


@pytest.mark.parametrize("status", [400, 404, 405, 501])
async def test_a_later_page_that_is_not_there_is_not_an_empty_repository(
    server: ScriptedRegistry, connect: Connect, status: int
) -> None:
    server.expect("GET", FIRST, page("a", link='</v2/x/tags/list?last=a>; rel="next"'))
    server.expect("GET", "/v2/x/tags/list?last=a", Answer(status))
    with pytest.raises(ProtocolError, match="ends before it is whole"):
        await connect("source").tags()


async def test_a_later_page_that_is_denied_says_so(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", FIRST, page("a", link='</v2/x/tags/list?last=a>; rel="next"'))
    server.expect("GET", "/v2/x/tags/list?last=a", Answer(403))
    with pytest.raises(Denied):
        await connect("source").tags()


@pytest.mark.parametrize("status", [400, 413])
@pytest.mark.parametrize("limit", ["50", "", "0", "many", "5000", "99999999999999999999"])
async def test_fewer_are_requested_where_n_is_refused(
    server: ScriptedRegistry, connect: Connect, status: int, limit: str
) -> None:
    """opencontainers/distribution-spec#470: the error may state the limit or not."""
    most = 50 if limit == "50" else 100

    def answer(asked: dict[str, str]) -> Answer:
        if int(asked["n"]) > most:
            return Answer(status, {"OCI-Tag-Limit": limit} if limit else {})
        return page(*behind(asked, TAGS[:250])[: int(asked["n"])])

    serve(server, answer)
    assert await connect("source").tags() == TAGS[:250]


async def test_n_is_left_out_where_every_n_is_refused(server: ScriptedRegistry, connect: Connect) -> None:
    serve(server, lambda asked: Answer(400) if "n" in asked else page("a", "b"))
    assert await connect("source").tags() == ["a", "b"]


async def test_a_refusal_that_has_nothing_to_do_with_n(server: ScriptedRegistry, connect: Connect) -> None:
    serve(server, lambda asked: Answer(400, {}, b'{"errors":[{"code":"NAME_UNKNOWN"}]}'))
    with pytest.raises(NotFound):
        await connect("source").tags()
    assert len(server.seen) == 1


async def test_a_page_that_names_itself_is_continued_behind_its_last_entry(
    server: ScriptedRegistry, connect: Connect
) -> None:
    tags = TAGS[:10]

    def answer(asked: dict[str, str]) -> Answer:
        found = behind(asked, tags)[:4]
        here = "&".join(f"{name}={value}" for name, value in asked.items())
        following = f"n=4&last={found[-1]}" if found and found[-1] != tags[-1] else here
        return page(*found, link=f'</v2/x/tags/list?{following}>; rel="next"')

    serve(server, answer)
    assert await connect("source").tags() == tags


async def test_a_list_whose_pages_all_name_themselves(server: ScriptedRegistry, connect: Connect) -> None:
    """The first of three pages names itself: nothing of the others may be missing."""

    def answer(asked: dict[str, str]) -> Answer:
        here = "&".join(f"{name}={value}" for name, value in asked.items())
        return page(*behind(asked, TAGS[:10])[:4], link=f'</v2/x/tags/list?{here}>; rel="next"')

    serve(server, answer)
    assert await connect("source").tags() == TAGS[:10]


async def test_a_server_that_ignores_last_but_names_further_pages(
    server: ScriptedRegistry, connect: Connect
) -> None:
    serve(server, lambda asked: page(*TAGS[:4], link=f'<?x={len(server.seen)}>; rel="next"'))
    with pytest.raises(ProtocolError, match="repeats a page"):
        await connect("source").tags()
    assert len(server.seen) == 2


async def test_the_last_entry_again_may_be_all_of_the_last_page(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("GET", FIRST, page("a", "b", link='</v2/x/tags/list?last=b>; rel="next"'))
    server.expect("GET", "/v2/x/tags/list?last=b", page("b"))
    assert await connect("source").tags() == ["a", "b"]


async def test_one_entry_over_and_over_ends(server: ScriptedRegistry, connect: Connect) -> None:
    serve(server, lambda asked: page("a", link=f'<?x={len(server.seen)}>; rel="next"'))
    with pytest.raises(ProtocolError, match="repeats a page"):
        await connect("source").tags()
    assert len(server.seen) == 2


async def test_an_empty_page_is_not_an_end_but_a_hundred_of_them_are(
    server: ScriptedRegistry, connect: Connect
) -> None:
    serve(server, lambda asked: page(link=f'<?x={len(server.seen)}>; rel="next"'))
    with pytest.raises(LimitExceeded, match="100 pages in a row are empty"):
        await connect("source").tags()


async def test_a_list_without_end_ends(
    server: ScriptedRegistry, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossdock.registry.pages.MAX_PAGES", 5)
    serve(server, lambda asked: page(f"t{len(server.seen)}", link=f'<?x={len(server.seen)}>; rel="next"'))
    with pytest.raises(LimitExceeded, match="over 5 pages"):
        await connect("source").tags()
    assert len(server.seen) == 5


async def test_a_list_is_left_at_a_million_entries(server: ScriptedRegistry, connect: Connect) -> None:
    def answer(asked: dict[str, str]) -> Answer:
        start = int(asked.get("x", 0))
        tags = b",".join(b'"t%d"' % number for number in range(start, start + 300_000))
        link = f'<?x={start + 300_000}>; rel="next"'
        return Answer(200, {"Link": link}, b'{"tags": [' + tags + b"]}")

    serve(server, answer)
    with pytest.raises(LimitExceeded, match="over 1000000 entries"):
        await connect("source").tags()
    assert len(server.seen) == 4


async def test_a_vast_page_is_not_even_parsed(
    server: ScriptedRegistry, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(data: bytes) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr("crossdock.registry.pages.json.loads", never)
    server.expect("GET", FIRST, Answer(200, {}, b'{"tags": [' + b"[]," * 700_000 + b"1]}"))
    with pytest.raises(LimitExceeded, match="values"):
        await connect("source").tags()


@pytest.mark.parametrize(
    "link",
    [
        "{}; rel=next",
        "<{}>",
        "<{}>; rel='next'",
        "<http://registry.internal:5000{}>; rel=next",
        "<https://127.0.0.1{}>; rel=next",
    ],
)
async def test_links_as_servers_write_them(server: ScriptedRegistry, connect: Connect, link: str) -> None:
    def answer(asked: dict[str, str]) -> Answer:
        rest = behind(asked, TAGS[:9])
        more = link.format(f"/v2/x/tags/list?last={rest[3]}&n=4") if len(rest) > 4 else ""
        return page(*rest[:4], link=more)

    serve(server, answer)
    assert await connect("source").tags() == TAGS[:9]


async def test_a_link_that_is_not_understood_is_an_error(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", FIRST, page("a", link="next page at /v2/x/tags/list?last=a"))
    with pytest.raises(CrossdockError, match=r"GET http.*: the Link to the next page is not understood"):
        await connect("source").tags()
