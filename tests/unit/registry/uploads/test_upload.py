"""Blobs going up: every request in its order, every recovery, nothing left open."""

from __future__ import annotations

import asyncio
import re

import pytest

from crossdock.errors import (
    ConnectFailed,
    CrossdockError,
    Denied,
    DigestMismatch,
    NotFound,
    ProtocolError,
    RedirectRefused,
    RegistryError,
    ServerBusy,
    Unauthorized,
    UploadInterrupted,
    UploadRejected,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.options import Credentials
from crossdock.registry.repository import RegistryRepository
from crossdock.registry.uploads.upload import RegistryUpload
from unit.registry.conftest import Known
from unit.registry.scripted_registry import (
    Answer,
    Connect,
    ScriptedRegistry,
    Seen,
    content,
    describe,
)

MiB = 1 << 20
DATA = content(10 * MiB)
BLOB = describe(DATA)
POST = "/v2/x/blobs/uploads/"
DIGEST = f"digest=sha256%3A{BLOB.digest.encoded}"
OPENED = Answer(202, {"Location": "/u/1?_state=a", "Range": "0-0"})
PUT = f"/u/1?_state=a&{DIGEST}"
OTHER = str(describe(b"other").digest)
SHA512 = str(describe(DATA, algorithm="sha512").digest)
HEAD = f"/v2/x/blobs/{BLOB.digest}"
HERE = Answer(200, {"Content-Length": str(len(DATA))})


@pytest.fixture
def small_chunks(known: Known) -> None:
    """The host begins with chunks of 4 MiB."""
    known.values = {"upload.max_put": 0, "upload.max_chunk": 4 * MiB}


async def feed(session: RegistryUpload, data: bytes = DATA, piece: int = 3 * MiB) -> list[tuple[int, bool]]:
    """Feed everything as the engine does; returns the interruptions as ``(offset, announce)``."""
    interruptions: list[UploadInterrupted] = []
    view = memoryview(data)
    while True:
        try:
            while session.offset < len(data):
                await session.append(view[session.offset : session.offset + piece])
            await session.commit()
        except UploadInterrupted as interruption:
            interruptions.append(interruption)
            if session.offset != interruption.offset:
                raise
        else:
            return [(interruption.offset, interruption.announce) for interruption in interruptions]


async def upload(
    repository: RegistryRepository, blob: Descriptor = BLOB, data: bytes = DATA
) -> list[tuple[int, bool]]:
    return await feed(await repository.start_upload(blob), data)


async def swallow(seen: Seen) -> None:
    """Takes a body, and never answers."""
    await seen.read()


def bodies(server: ScriptedRegistry, *methods: str) -> bytes:
    return b"".join(seen.body for seen in server.seen if seen.method in methods)


# -- redirects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [307, 308])
async def test_every_request_of_an_upload_may_be_redirected(
    server: ScriptedRegistry, connect: Connect, status: int
) -> None:
    server.expect("POST", POST, Answer(status, {"Location": f"{POST}?moved=1"}))
    server.expect("POST", f"{POST}?moved=1", OPENED)
    server.expect("PUT", PUT, Answer(status, {"Location": "/elsewhere?a=b%2F"}))
    server.expect("PUT", "/elsewhere?a=b%2F", Answer(201))
    assert await upload(connect()) == [(0, False)]  # it had taken everything before it said so
    assert server.seen[-1].body == DATA


async def test_a_redirect_before_the_bytes_costs_none(server: ScriptedRegistry, connect: Connect) -> None:
    async def at_once(seen: Seen) -> Answer:
        return Answer(307, {"Location": "/elsewhere", "Connection": "close"})

    server.expect("POST", POST, OPENED)
    server.expect("PUT", PUT, at_once)
    server.expect("PUT", "/elsewhere", Answer(201))
    session = await connect().start_upload(BLOB)
    await session.append(memoryview(DATA))  # in one piece: nothing must be given again
    await session.commit()
    assert server.seen[-1].body == DATA


async def test_redirected_chunks_arrive_once_each(
    server: ScriptedRegistry, connect: Connect, small_chunks: None
) -> None:
    async def handler(seen: Seen) -> Answer:
        if seen.method == "POST":
            return OPENED
        if "moved" not in seen.target:
            return Answer(307, {"Location": f"{seen.target}&moved=1", "Connection": "close"})
        await seen.read()
        taken.extend(seen.body)
        if seen.method == "PUT":
            return Answer(201)
        return Answer(202, {"Location": "/u/1?_state=a", "Range": f"0-{len(taken) - 1}"})

    taken = bytearray()
    server.handler = handler
    await upload(connect())
    assert bytes(taken) == DATA


@pytest.mark.parametrize("redirected", ["POST", "PUT"])
async def test_another_host_gets_the_bytes_and_never_the_credentials(
    server: ScriptedRegistry, storage: ScriptedRegistry, connect: Connect, redirected: str
) -> None:
    async def handler(seen: Seen) -> Answer:
        await seen.read()
        if "authorization" not in seen.headers:
            return Answer(401, {"WWW-Authenticate": "Basic realm=x"})
        if seen.method == redirected:
            return Answer(307, {"Location": f"{storage.url}{seen.target}"})
        return OPENED

    async def elsewhere(seen: Seen) -> Answer:
        await seen.read()
        return OPENED if seen.method == "POST" else Answer(201)

    server.handler, storage.handler = handler, elsewhere
    await upload(connect(credentials=Credentials("ann", "s3cret")))
    assert storage.seen[-1].method == "PUT"
    assert storage.seen[-1].body == DATA
    assert all("authorization" not in seen.headers for seen in storage.seen)
    assert any("authorization" in seen.headers for seen in server.seen)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(307, {"Location": PUT}), "more than 10 redirects"),
        (Answer(307), "a redirect came without a Location"),
        (Answer(307, {"Location": "ftp://x/"}), "not a usable URL"),
        (
            Answer(302, {"Location": "/login?token=s3cret"}),
            "redirected to /login?token=…, which is not followed",
        ),
    ],
)
async def test_an_upload_that_is_redirected_in_vain_says_where_to(
    server: ScriptedRegistry, connect: Connect, answer: Answer, words: str
) -> None:
    async def handler(seen: Seen) -> Answer:
        await seen.read()
        return {"POST": OPENED, "PUT": answer}.get(seen.method, Answer(404))

    server.handler = handler
    with pytest.raises(CrossdockError, match=re.escape(words)) as refused:
        await upload(connect())
    assert f"PUT {server.url}/u/1" in str(refused.value)
    assert "s3cret" not in str(refused.value)


# -- cookies -----------------------------------------------------------------------------------------


async def test_the_cookies_of_a_session_come_back_in_it(
    server: ScriptedRegistry, connect: Connect, small_chunks: None
) -> None:
    def taken(end: int, **cookie: str) -> Answer:
        return Answer(202, {"Location": "/u/1?_state=a", "Range": f"0-{end * MiB - 1}", **cookie})

    there = "/u/1?_state=a"
    server.expect("POST", POST, Answer(202, {**OPENED.headers, "Set-Cookie": "LB=one; Path=/; HttpOnly"}))
    server.expect("PATCH", there, taken(4, **{"Set-Cookie": "LB=two"}))
    server.expect("PATCH", there, Answer(500))
    server.expect("GET", there, taken(4))
    server.expect("PATCH", there, taken(8))
    server.expect("PATCH", there, taken(10))
    server.expect("PUT", PUT, Answer(201))
    await upload(connect())
    cookies = [seen.headers.get("cookie") for seen in server.seen]
    assert cookies == [None, "LB=one", *["LB=two"] * 5]


async def test_cookies_of_a_cancelled_session_come_back_and_the_next_begins_without(
    server: ScriptedRegistry, connect: Connect
) -> None:
    with_cookie = Answer(202, {**OPENED.headers, "Set-Cookie": "LB=one"})
    repository = connect()
    server.expect("POST", POST, with_cookie)
    server.expect("PUT", PUT, swallow)
    session = await repository.start_upload(BLOB)
    await session.append(memoryview(DATA)[:MiB])
    server.expect("DELETE", "/u/1?_state=a", Answer(204))
    await session.cancel()
    assert server.seen[-1].headers["cookie"] == "LB=one"
    server.expect("POST", POST, OPENED)
    server.expect("PUT", PUT, Answer(201))
    await upload(repository)
    assert "cookie" not in server.seen[-1].headers


@pytest.mark.parametrize("by", ["location", "redirect"])
async def test_cookies_go_to_no_other_host(
    server: ScriptedRegistry, storage: ScriptedRegistry, connect: Connect, by: str
) -> None:
    elsewhere = f"{storage.url}/u/1?_state=a"
    location = elsewhere if by == "location" else "/u/1?_state=a"
    server.expect("POST", POST, Answer(202, {"Location": location, "Set-Cookie": "LB=one"}))
    if by == "redirect":
        server.expect("PUT", PUT, Answer(307, {"Location": f"{storage.url}{PUT}"}))
    storage.expect("PUT", PUT, Answer(201))
    await upload(connect())
    assert "cookie" not in storage.seen[0].headers
    assert [seen.headers.get("cookie") for seen in server.seen[1:]] == ["LB=one"] * (by == "redirect")


async def test_a_session_that_is_asked_about_elsewhere_shows_no_cookie_there(
    server: ScriptedRegistry, storage: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("POST", POST, Answer(202, {**OPENED.headers, "Set-Cookie": "LB=one"}))
    server.expect("PUT", PUT, swallow)
    session = await connect().start_upload(BLOB)
    await session.append(memoryview(DATA)[:MiB])
    server.expect("DELETE", "/u/1?_state=a", Answer(307, {"Location": f"{storage.url}/u/1"}))
    storage.expect("DELETE", "/u/1", Answer(204))
    await session.cancel()
    assert "cookie" not in storage.seen[0].headers


# -- monolithic --------------------------------------------------------------------------------------


async def test_one_put_carries_the_blob_with_its_length(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("POST", POST, OPENED)
    server.expect("PUT", PUT, Answer(201))
    assert await upload(connect()) == []
    post, put = server.seen
    assert post.headers["content-length"] == "0"
    assert put.headers["content-length"] == str(len(DATA))
    assert put.headers["content-type"] == "application/octet-stream"
    assert "content-range" not in put.headers
    assert put.body == DATA


@pytest.mark.parametrize(
    ("stated", "fits"), [(OTHER, False), (str(BLOB.digest), True), (SHA512, True), ("nonsense", True)]
)
async def test_a_target_that_names_the_blob_otherwise_is_an_error(
    stated: str, fits: bool, server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("POST", POST, OPENED)
    server.expect("PUT", PUT, Answer(201, {"Docker-Content-Digest": stated}))
    if fits:
        assert await upload(connect()) == []
    else:
        with pytest.raises(DigestMismatch, match="reports digest"):
            await upload(connect())


async def test_an_empty_blob_is_an_empty_put(server: ScriptedRegistry, connect: Connect) -> None:
    empty = describe(b"")
    server.expect("POST", POST, OPENED)
    server.expect("PUT", f"/u/1?_state=a&digest=sha256%3A{empty.digest.encoded}", Answer(201))
    assert await upload(connect(), empty, b"") == []
    assert server.seen[1].headers["content-length"] == "0"


async def test_sha512_is_announced_when_the_session_is_opened(
    server: ScriptedRegistry, connect: Connect
) -> None:
    blob = describe(DATA, algorithm="sha512")
    server.expect("POST", f"{POST}?digest-algorithm=sha512", OPENED)
    server.expect("PUT", f"/u/1?_state=a&digest=sha512%3A{blob.digest.encoded}", Answer(201))
    server.expect("HEAD", f"/v2/x/blobs/{blob.digest}", Answer(200, {"Content-Length": str(len(DATA))}))
    assert await upload(connect(), blob) == []


async def test_a_sha512_blob_that_was_accepted_and_is_not_there_is_an_error(
    server: ScriptedRegistry, connect: Connect
) -> None:
    blob = describe(DATA, algorithm="sha512")
    server.expect("POST", f"{POST}?digest-algorithm=sha512", OPENED)
    server.expect("PUT", f"/u/1?_state=a&digest=sha512%3A{blob.digest.encoded}", Answer(201))
    server.expect("HEAD", f"/v2/x/blobs/{blob.digest}", Answer(404))
    with pytest.raises(UploadRejected) as lost:
        await upload(connect(), blob)
    assert "sha512" in str(lost.value.advice)


async def test_nothing_is_opened_before_there_is_something_to_send(
    server: ScriptedRegistry, connect: Connect
) -> None:
    session = await connect().start_upload(BLOB)
    assert session.offset == 0
    assert session.boundary is None
    await session.cancel()
    assert server.seen == []


async def test_more_than_the_blob_or_less_is_a_mistake_of_the_caller(connect: Connect) -> None:
    session = await connect().start_upload(BLOB)
    with pytest.raises(ValueError):
        await session.append(memoryview(DATA + b"x"))
    with pytest.raises(ValueError):
        await session.commit()


async def test_a_missing_repository_is_reported_with_what_to_do(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("POST", POST, Answer(404, {}, b'{"errors":[{"code":"NAME_UNKNOWN"}]}'))
    with pytest.raises(NotFound) as missing:
        await upload(connect())
    assert "create the repository" in str(missing.value.advice)


async def test_a_session_without_a_location_is_a_protocol_error(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("POST", POST, Answer(202))
    with pytest.raises(ProtocolError, match="has no Location"):
        await upload(connect())


# -- locations and credentials -----------------------------------------------------------------------


async def test_a_location_elsewhere_gets_the_bytes_and_no_credentials(
    server: ScriptedRegistry, storage: ScriptedRegistry, connect: Connect
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{server.url}/token",service="s"'}

    async def registry(seen: Seen) -> Answer:
        if seen.path == "/token":
            return Answer(200, {}, b'{"token": "secret-token", "expires_in": 3600}')
        if "authorization" not in seen.headers:
            return Answer(401, challenge)
        return Answer(202, {"Location": f"{storage.url}/u/1?sig=x"})

    async def store(seen: Seen) -> Answer:
        assert "authorization" not in seen.headers
        assert seen.target == f"/u/1?sig=x&{DIGEST}"
        await seen.read()
        return Answer(201)

    server.handler, storage.handler = registry, store
    assert await upload(connect()) == []
    assert storage.seen[0].body == DATA


async def test_a_location_of_another_scheme_is_refused(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("POST", POST, Answer(202, {"Location": "ftp://127.0.0.1/x"}))
    with pytest.raises(RedirectRefused):
        await upload(connect())


async def test_a_token_that_ends_meanwhile_is_renewed_and_the_put_repeated(
    server: ScriptedRegistry, connect: Connect
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{server.url}/token",service="s"'}
    tokens = 0

    async def registry(seen: Seen) -> Answer:
        nonlocal tokens
        if seen.path == "/token":
            tokens += 1
            return Answer(200, {}, b'{"token": "t%d", "expires_in": 3600}' % tokens)
        if seen.headers.get("authorization") is None:
            return Answer(401, challenge)
        if seen.method == "PUT" and seen.headers["authorization"] == "Bearer t1":
            return Answer(401, challenge)
        await seen.read()
        if seen.method == "DELETE":
            return Answer(204)
        return OPENED if seen.method == "POST" else Answer(201)

    server.handler = registry
    assert await upload(connect()) in ([], [(0, False)])
    assert tokens == 2
    assert server.seen[-1].body == DATA


async def test_a_401_that_no_newer_token_can_answer_ends_the_upload_and_sends_no_byte_again(
    server: ScriptedRegistry, connect: Connect
) -> None:
    async def registry(seen: Seen) -> Answer:
        if seen.method == "PUT":
            return Answer(401, {}, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
        return Answer(204) if seen.method == "DELETE" else OPENED if seen.method == "POST" else Answer(200)

    server.handler = registry
    with pytest.raises(Unauthorized):
        await upload(connect())
    assert [seen.method for seen in server.seen].count("PUT") == 1


# -- early answers and the ladder --------------------------------------------------------------------


async def test_an_early_refusal_stops_the_body_at_once(server: ScriptedRegistry, connect: Connect) -> None:
    async def refuse(seen: Seen) -> Answer:
        await seen.read(1 * MiB)
        seen.unread = 0  # and never reads the rest
        return Answer(403, {}, b'{"errors":[{"code":"DENIED","message":"quota"}]}', drop=True)

    server.expect("POST", POST, OPENED)
    server.expect("PUT", PUT, refuse)
    server.expect("DELETE", "/u/1?_state=a", Answer(204))
    session = await connect().start_upload(BLOB)
    with pytest.raises(Denied, match="quota"):
        await feed(session)
    assert session.offset < len(DATA)
    await session.cancel()


async def test_413_becomes_chunks_below_the_limit_and_the_host_is_remembered(
    server: ScriptedRegistry, connect: Connect
) -> None:
    async def refuse(seen: Seen) -> Answer:
        return Answer(413, {}, b"<title>413 Request Entity Too Large</title>")

    server.expect("POST", POST, OPENED)
    server.expect("PUT", PUT, refuse)
    server.expect("DELETE", "/u/1?_state=a", Answer(204))
    server.expect("POST", POST, Answer(202, {"Location": "/u/2"}))
    server.expect("PATCH", "/u/2", Answer(202, {"Location": "/u/2", "Range": f"0-{8 * MiB - 1}"}))
    server.expect("PATCH", "/u/2", Answer(202, {"Location": "/u/2", "Range": f"0-{10 * MiB - 1}"}))
    server.expect("PUT", f"/u/2?{DIGEST}", Answer(201))
    repository = connect()
    assert await upload(repository) in ([], [(0, False)])
    patches = [seen for seen in server.seen if seen.method == "PATCH"]
    assert [seen.headers["content-range"] for seen in patches] == [
        f"0-{8 * MiB - 1}",
        f"{8 * MiB}-{10 * MiB - 1}",
    ]
    assert bodies(server, "PATCH") == DATA

    server.expect("POST", POST, Answer(202, {"Location": "/u/3"}))
    for _ in range(2):
        server.expect("PATCH", "/u/3", Answer(202))
    server.expect("PUT", f"/u/3?{DIGEST}", Answer(201))
    again = await repository.start_upload(BLOB)
    assert again.boundary == MiB
    assert await feed(again) == []

    small = describe(DATA[:100])
    server.expect("POST", POST, Answer(202, {"Location": "/u/4"}))
    server.expect("PUT", f"/u/4?digest=sha256%3A{small.digest.encoded}", Answer(201))
    assert await upload(repository, small, DATA[:100]) == []


async def test_a_413_to_the_smallest_chunk_names_the_limit(
    server: ScriptedRegistry, connect: Connect, small_chunks: None
) -> None:
    server.expect("POST", POST, OPENED)
    server.expect("PATCH", "/u/1?_state=a", Answer(413))
    with pytest.raises(UploadRejected, match="413") as refused:
        await upload(connect())
    assert "limit on request bodies" in str(refused.value.advice)


async def test_chunk_lengths_that_the_registry_asks_for_are_kept(
    server: ScriptedRegistry, connect: Connect, small_chunks: None
) -> None:
    server.expect("POST", POST, Answer(202, {"Location": "/u/1", "OCI-Chunk-Min-Length": str(6 * MiB)}))
    server.expect("PATCH", "/u/1", Answer(202))
    server.expect("PATCH", "/u/1", Answer(202))
    server.expect("PUT", f"/u/1?{DIGEST}", Answer(201))
    assert await upload(connect()) == []
    assert [len(seen.body) for seen in server.seen if seen.method == "PATCH"] == [6 * MiB, 4 * MiB]


# -- recovery of chunks ------------------------------------------------------------------------------


async def test_416_moves_to_the_offset_that_the_registry_names(
    server: ScriptedRegistry, connect: Connect, small_chunks: None
) -> None:
    server.expect("POST", POST, OPENED)
    server.expect("PATCH", "/u/1?_state=a", Answer(202, {"Location": "/u/1?_state=b"}))
    server.expect("PATCH", "/u/1?_state=b", Answer(416, {"Location": "/u/1?_state=c", "Range": "0-999"}))
    server.expect("PATCH", "/u/1?_state=c", Answer(202))
    server.expect("PATCH", "/u/1?_state=c", Answer(202))
    server.expect("PATCH", "/u/1?_state=c", Answer(202))
    server.expect("PUT", f"/u/1?_state=c&{DIGEST}", Answer(201))
    assert await upload(connect()) == [(1000, True)]
    sent = [seen for seen in server.seen if seen.method == "PATCH"]
    assert sent[2].headers["content-range"] == f"1000-{4 * MiB - 1}"  # up to where chunks end
    assert sent[0].body[:1000] + b"".join(seen.body for seen in sent[2:]) == DATA


async def test_a_broken_chunk_continues_where_the_session_says(
    server: ScriptedRegistry, connect: Connect, small_chunks: None
) -> None:
    async def cut(seen: Seen) -> None:
        await seen.read(1 * MiB)

    server.expect("POST", POST, OPENED)
    server.expect("PATCH", "/u/1?_state=a", Answer(202, {"Location": "/u/1?_state=b"}))
    server.expect("PATCH", "/u/1?_state=b", cut)
    state = {"Location": "/u/1?_state=c", "Range": f"0-{5 * MiB - 1}"}
    server.expect("GET", "/u/1?_state=b", Answer(204, state))
    server.expect("PATCH", "/u/1?_state=c", Answer(202))
    server.expect("PATCH", "/u/1?_state=c", Answer(202))
    server.expect("PUT", f"/u/1?_state=c&{DIGEST}", Answer(201))
    [(offset, announce)] = await upload(connect())
    assert (offset, announce) == (5 * MiB, False)


async def test_a_lost_session_starts_again_announced(
    server: ScriptedRegistry, connect: Connect, small_chunks: None
) -> None:
    gone = Answer(404, {}, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
    server.expect("POST", POST, OPENED)
    server.expect("PATCH", "/u/1?_state=a", Answer(202))
    server.expect("PATCH", "/u/1?_state=a", gone)
    server.expect("DELETE", "/u/1?_state=a", gone)
    server.expect("POST", POST, Answer(202, {"Location": "/u/2"}))
    for _ in range(3):
        server.expect("PATCH", "/u/2", Answer(202))
    server.expect("PUT", f"/u/2?{DIGEST}", Answer(201))
    assert await upload(connect()) == [(0, True)]


async def test_a_session_that_is_always_lost_ends_with_the_real_error(
    server: ScriptedRegistry, connect: Connect, small_chunks: None
) -> None:
    gone = Answer(404, {}, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')

    async def registry(seen: Seen) -> Answer:
        await seen.read()
        return OPENED if seen.method == "POST" else gone

    server.handler = registry
    with pytest.raises(RegistryError, match="BLOB_UPLOAD_UNKNOWN") as failed:
        await upload(connect())
    assert "instances" in str(failed.value.advice)  # and not how to list tags
    assert sum(seen.method == "PATCH" for seen in server.seen) == 3  # the first and two retries


async def test_ecr_keeps_naming_the_first_chunk_and_answers_201(
    server: ScriptedRegistry, connect: Connect, small_chunks: None
) -> None:
    stuck = {"Location": "/u/1", "Range": f"0-{4 * MiB - 1}"}
    server.expect("POST", POST, Answer(202, {"Location": "/u/1"}))
    server.expect("PATCH", "/u/1", Answer(201, stuck))
    server.expect("PATCH", "/u/1", Answer(201, stuck))
    server.expect("GET", "/u/1", Answer(204, stuck))
    server.expect("PATCH", "/u/1", Answer(201, stuck))
    server.expect("PUT", f"/u/1?{DIGEST}", Answer(201))
    assert await upload(connect()) == []
    assert bodies(server, "PATCH") == DATA


async def test_limits_of_a_kind_hold_for_each_request(
    server: ScriptedRegistry, connect: Connect, known: Known
) -> None:
    """10 MiB in chunks of 3 to 4 MiB, all multiples of 1 MiB but the last."""
    known.values = {
        "upload.min_chunk": 3 * MiB,
        "upload.max_chunk": 4 * MiB,
        "upload.chunk_multiple": MiB,
    }
    sizes: list[int] = []

    async def handler(seen: Seen) -> Answer:
        body = await seen.read()
        if seen.method == "POST":
            return OPENED
        sizes.append(len(body))
        if seen.method == "PUT":
            return Answer(201)
        return Answer(202, {"Location": "/u/1?_state=a", "Range": f"0-{sum(sizes) - 1}"})

    server.handler = handler
    assert await upload(connect()) == []
    assert sizes == [4 * MiB, 4 * MiB, 2 * MiB, 0]


async def test_the_last_chunk_travels_in_the_put_for_ecr(
    server: ScriptedRegistry, connect: Connect, known: Known
) -> None:
    known.values = {
        "upload.max_put": 0,
        "upload.max_chunk": 4 * MiB,
        "upload.trust_range": False,
        "upload.last_in_put": True,
    }
    stuck = {"Location": "/u/1", "Range": f"0-{4 * MiB - 1}"}
    server.expect("POST", POST, Answer(202, {"Location": "/u/1"}))
    server.expect("PATCH", "/u/1", Answer(201, stuck))
    server.expect("PATCH", "/u/1", Answer(201, stuck))
    server.expect("PUT", f"/u/1?{DIGEST}", Answer(201))
    assert await upload(connect()) == []
    assert server.seen[-1].headers["content-range"] == f"{8 * MiB}-{10 * MiB - 1}"
    assert bodies(server, "PATCH", "PUT") == DATA


# -- the end -----------------------------------------------------------------------------------------


async def test_a_commit_without_an_answer_looks_for_the_blob(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("POST", POST, OPENED)
    server.expect("PUT", PUT, None)
    server.expect("HEAD", HEAD, Answer(200, {"Content-Length": str(len(DATA))}))
    assert await upload(connect()) == []


async def test_a_commit_that_timed_out_looks_for_the_blob(server: ScriptedRegistry, connect: Connect) -> None:
    async def silent(seen: Seen) -> None:
        await seen.read()
        await asyncio.Event().wait()

    server.expect("POST", POST, OPENED)
    server.expect("PUT", PUT, silent)
    server.expect("HEAD", HEAD, Answer(200, {"Content-Length": str(len(DATA))}))
    assert await upload(connect(commit_timeout=0.2)) == []


async def test_a_commit_that_failed_is_fed_again(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("POST", POST, OPENED)
    server.expect("PUT", PUT, Answer(500))
    server.expect("HEAD", HEAD, Answer(404))
    server.expect("DELETE", "/u/1?_state=a", Answer(204))
    server.expect("POST", POST, Answer(202, {"Location": "/u/2"}))
    server.expect("PUT", f"/u/2?{DIGEST}", Answer(201))
    assert await upload(connect()) == [(0, False)]


async def test_an_empty_closing_put_is_repeated_without_new_bytes(
    server: ScriptedRegistry, connect: Connect, small_chunks: None
) -> None:
    server.expect("POST", POST, Answer(202, {"Location": "/u/1"}))
    for _ in range(3):
        server.expect("PATCH", "/u/1", Answer(202))
    server.expect("PUT", f"/u/1?{DIGEST}", Answer(502))
    server.expect("HEAD", HEAD, Answer(404))
    server.expect("GET", "/u/1", Answer(204, {"Range": f"0-{10 * MiB - 1}"}))
    server.expect("PUT", f"/u/1?{DIGEST}", Answer(201))
    assert await upload(connect()) == []


async def test_a_refused_digest_ends_the_upload_with_the_targets_words(
    server: ScriptedRegistry, connect: Connect
) -> None:
    body = b'{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match"}]}'
    server.expect("POST", POST, OPENED)
    server.expect("PUT", PUT, Answer(400, {}, body))
    with pytest.raises(UploadRejected, match="provided digest did not match") as refused:
        await upload(connect())
    assert refused.value.advice


async def test_failures_end_with_the_real_error(server: ScriptedRegistry, connect: Connect) -> None:
    async def registry(seen: Seen) -> Answer:
        await seen.read()
        if seen.method == "HEAD":
            return Answer(404)
        return OPENED if seen.method == "POST" else Answer(500, {}, b"disk full")

    server.handler = registry
    with pytest.raises(ServerBusy, match="disk full"):
        await upload(connect())
    assert sum(seen.method == "PUT" for seen in server.seen) == 3


async def test_an_unreachable_target_is_an_error(connect: Connect, server: ScriptedRegistry) -> None:
    repository = connect(retries=0)
    await server.stop()
    with pytest.raises(ConnectFailed):
        await upload(repository)


# -- cancelling --------------------------------------------------------------------------------------


async def test_cancelling_deletes_the_session_and_ends_the_request(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("POST", POST, OPENED)
    server.expect("PUT", PUT, swallow)
    server.expect("DELETE", "/u/1?_state=a", Answer(204))
    session = await connect().start_upload(BLOB)
    await session.append(memoryview(DATA)[:MiB])
    await session.cancel()


async def test_a_session_that_opens_while_it_is_cancelled_is_deleted(
    server: ScriptedRegistry, connect: Connect
) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(seen: Seen) -> Answer:
        asked.set()
        await go.wait()
        return OPENED

    server.expect("POST", POST, slow)
    server.expect("DELETE", "/u/1?_state=a", Answer(204))
    session = await connect().start_upload(BLOB)
    sending = asyncio.ensure_future(feed(session))
    await asked.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    go.set()
    await session.cancel()


async def test_cancelling_does_not_wait_for_a_session_that_never_opens(
    server: ScriptedRegistry, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossdock.registry.uploads.upload.CANCEL_TIMEOUT_S", 0.05)
    asked = asyncio.Event()

    async def silent(seen: Seen) -> None:
        asked.set()
        await asyncio.Event().wait()

    server.expect("POST", POST, silent)
    session = await connect().start_upload(BLOB)
    sending = asyncio.ensure_future(feed(session))
    await asked.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await session.cancel()
    assert asyncio.all_tasks() == {asyncio.current_task(), *server.tasks}


@pytest.mark.parametrize("answer", [Answer(403), Answer(404), Answer(500), None])
async def test_cancelling_never_raises(
    server: ScriptedRegistry, connect: Connect, answer: Answer | None
) -> None:
    async def registry(seen: Seen) -> Answer | None:
        await seen.read()
        return OPENED if seen.method == "POST" else answer

    server.handler = registry
    session = await connect().start_upload(BLOB)
    await session.append(memoryview(DATA)[:MiB])
    await session.cancel()
    assert server.seen[-1].method == "DELETE"


async def test_a_session_that_was_given_up_is_deleted_when_cancelled_before_the_next(
    server: ScriptedRegistry, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing = asyncio.Event()

    async def pause(seconds: float) -> None:
        pausing.set()
        await asyncio.Event().wait()

    async def fail(seen: Seen) -> Answer:
        await seen.read()
        return Answer(503)

    server.expect("POST", POST, OPENED)
    server.expect("PUT", PUT, fail)
    server.expect("DELETE", "/u/1?_state=a", Answer(204))
    session = await connect().start_upload(BLOB)
    monkeypatch.setattr("crossdock.registry.uploads.upload.asyncio.sleep", pause)
    sending = asyncio.ensure_future(feed(session))
    await pausing.wait()
    monkeypatch.undo()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await session.cancel()
    assert server.seen[-1].method == "DELETE"


async def test_nothing_is_deleted_after_commit(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("POST", POST, OPENED)
    server.expect("PUT", PUT, Answer(201))
    session = await connect().start_upload(BLOB)
    await feed(session)
    await session.cancel()


async def test_a_cancelled_append_leaves_a_session_that_can_be_dropped(
    server: ScriptedRegistry, connect: Connect
) -> None:
    stalled = asyncio.Event()

    async def stall(seen: Seen) -> None:
        stalled.set()
        await asyncio.Event().wait()

    server.expect("POST", POST, OPENED)
    server.expect("PUT", PUT, stall)
    server.expect("DELETE", "/u/1?_state=a", Answer(204))
    session = await connect().start_upload(BLOB)
    sending = asyncio.ensure_future(feed(session))
    await stalled.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await session.cancel()


# -- mounting ----------------------------------------------------------------------------------------

MOUNT = f"/v2/x/blobs/uploads/?mount=sha256%3A{BLOB.digest.encoded}&from=other%2Frepo"


async def test_a_mounted_blob_needs_no_upload(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("POST", MOUNT, Answer(201))
    assert await connect().mount(BLOB, "other/repo") is True
    assert server.seen[0].headers["content-length"] == "0"


@pytest.mark.parametrize(("status", "is_mounted"), [(200, True), (404, False), (500, False)])
async def test_the_mount_of_a_sha512_blob_is_looked_after(
    server: ScriptedRegistry, connect: Connect, status: int, is_mounted: bool
) -> None:
    blob = describe(DATA, algorithm="sha512")

    async def registry(seen: Seen) -> Answer:
        length = {"Content-Length": str(len(DATA))} if status == 200 else {}
        return Answer(201) if seen.method == "POST" else Answer(status, length)

    server.handler = registry
    assert await connect().mount(blob, "other/repo") is is_mounted


async def test_a_mount_that_became_a_session_is_used_by_the_upload(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("POST", MOUNT, OPENED)
    server.expect("PUT", PUT, Answer(201))
    repository = connect()
    assert await repository.mount(BLOB, "other/repo") is False
    assert await upload(repository) == []


async def test_a_session_of_a_mount_that_nobody_uses_is_dropped(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("POST", MOUNT, OPENED)
    server.expect("POST", MOUNT, Answer(202, {"Location": "/u/2"}))
    server.expect("DELETE", "/u/1?_state=a", Answer(204))
    server.expect("DELETE", "/u/2", Answer(204))
    repository = connect()
    assert await repository.mount(BLOB, "other/repo") is False
    assert await repository.mount(BLOB, "other/repo") is False
    await (await repository.start_upload(BLOB)).cancel()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 500])
async def test_a_refused_mount_is_an_upload(server: ScriptedRegistry, connect: Connect, status: int) -> None:
    async def registry(seen: Seen) -> Answer:
        if seen.target == MOUNT:
            return Answer(status)
        await seen.read()
        return OPENED if seen.method == "POST" else Answer(201 if seen.method == "PUT" else 200)

    server.handler = registry
    repository = connect()
    assert await repository.mount(BLOB, "other/repo") is False
    assert await upload(repository) == []
    assert sum(seen.target == MOUNT for seen in server.seen) == 1


async def test_sessions_run_beside_each_other(server: ScriptedRegistry, connect: Connect) -> None:
    async def registry(seen: Seen) -> Answer:
        await seen.read()
        if seen.method == "POST":
            return Answer(202, {"Location": f"/u/{len(server.seen)}"})
        return Answer(201)

    server.handler = registry
    repository = connect()
    parts = [DATA[n * MiB : (n + 1) * MiB] for n in range(8)]
    await asyncio.gather(*(upload(repository, describe(part), part) for part in parts))
    assert {seen.body for seen in server.seen if seen.method == "PUT"} == set(parts)


# -- what copies of one process tell each other ------------------------------------------------------


async def test_content_seen_or_pushed_is_not_looked_for_again(
    server: ScriptedRegistry, connect: Connect
) -> None:
    repository = connect()
    other = describe(b"other")
    place = f"/v2/x/blobs/{other.digest}"
    server.expect("HEAD", place, Answer(200, {"Content-Length": "5"}))
    server.expect("POST", POST, OPENED)
    server.expect("PUT", PUT, Answer(201))
    assert not repository.knows_blob(other)
    assert await repository.has_blob(other)
    assert await repository.has_blob(other)
    assert await upload(repository) == []
    assert await repository.has_blob(BLOB)
    assert repository.knows_blob(BLOB)
    assert repository.other_repository(BLOB) is None


async def test_a_blob_of_one_repository_is_offered_to_the_others(
    server: ScriptedRegistry, connect: Connect
) -> None:
    first = connect(repository="other/repo")
    second = RegistryRepository(first.client, f"{server.host}/x")
    server.expect("HEAD", f"/v2/other/repo/blobs/{BLOB.digest}", HERE)
    server.expect("POST", MOUNT, Answer(201))
    assert await first.has_blob(BLOB)
    assert not second.knows_blob(BLOB)
    assert second.other_repository(BLOB) == "other/repo"
    assert await second.mount(BLOB, "other/repo")
    assert second.knows_blob(BLOB)


async def test_a_mount_that_worked_early_is_no_proof_that_the_next_will(
    server: ScriptedRegistry, connect: Connect
) -> None:
    """The manifest may have been stored already, and its response on the way."""
    repository = RegistryRepository(connect(repository="other/repo").client, f"{server.host}/x")
    known = repository.client.memory.contents
    repository.rank = 2
    early = describe(b"early")
    known.add("other/repo", early, rank=1)
    known.add("other/repo", BLOB, rank=1)
    server.expect("POST", MOUNT.replace(BLOB.digest.encoded, early.digest.encoded), Answer(201))
    is_refused = asyncio.Event()

    async def refuse(seen: Seen) -> Answer:
        await seen.read()
        is_refused.set()
        return OPENED

    server.expect("POST", MOUNT, refuse)
    server.expect("POST", MOUNT, Answer(201))
    server.expect("DELETE", "/u/1?_state=a", Answer(204))
    assert await repository.mount(early, "other/repo")
    mounting = asyncio.ensure_future(repository.mount(BLOB, "other/repo"))
    await is_refused.wait()
    known.refer("other/repo", [BLOB.digest])
    assert await mounting


async def test_a_manifest_whose_blobs_went_away_makes_the_repository_unknown(
    server: ScriptedRegistry, connect: Connect
) -> None:
    repository = connect()
    media_type = "application/vnd.oci.image.index.v1+json"
    manifest = b'{"schemaVersion":2,"mediaType":"%b","manifests":[]}' % media_type.encode()
    described = describe(manifest, media_type)
    refused = Answer(404, {}, b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}')
    server.expect("HEAD", f"/v2/x/blobs/{BLOB.digest}", HERE)
    for _ in range(2):
        server.expect("PUT", f"/v2/x/manifests/{described.digest}", refused)
    assert await repository.has_blob(BLOB)
    with pytest.raises(RegistryError):
        await repository.push_manifest(described, manifest, None)
    assert not repository.knows_blob(BLOB)


async def test_a_session_that_holds_other_bytes_than_its_url_says_is_deleted_by_its_newest_one(
    server: ScriptedRegistry, connect: Connect
) -> None:
    # Distribution 3 after a request that was cut: 416 to the DELETE, and the session stays for a week.
    server.expect("POST", POST, OPENED)
    server.expect("DELETE", "/u/1?_state=a", Answer(416))
    server.expect("GET", "/u/1?_state=a", Answer(204, {"Location": "/u/1?_state=b", "Range": "0-99"}))
    server.expect("DELETE", "/u/1?_state=b", Answer(204))
    session = await connect().start_upload(BLOB)
    session.prepare()
    await session.cancel()
    assert server.seen[-1].target == "/u/1?_state=b"
