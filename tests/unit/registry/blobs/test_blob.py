"""Blob downloads: redirects, ranges, expiry and wrong responses."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest

from crossdock.errors import (
    CrossdockError,
    Denied,
    NotFound,
    ProtocolError,
    ReadFailed,
    RedirectRefused,
    ServerBusy,
    SizeMismatch,
)
from crossdock.registry.blobs.blob import RegistryBlob
from unit.registry.scripted_registry import (
    Answer,
    Collector,
    Connect,
    ScriptedRegistry,
    Seen,
    content,
    describe,
)

DATA = content(100_000)
BLOB = describe(DATA)
PATH = f"/v2/x/blobs/{BLOB.digest}"


def part(seen: Seen, data: bytes = DATA) -> Answer:
    """A right answer to any GET."""
    assert seen.method == "GET"
    assert seen.headers["accept-encoding"] == "identity"
    if seen.range is None:
        return Answer(200, {}, data)
    start, stop = seen.range
    return Answer(206, {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}, data[start:stop])


CHUNKED = {"Transfer-Encoding": "chunked"}


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)


class Halting:
    """A `ByteSink` that is full after every `room` bytes, until it is emptied."""

    def __init__(self, room: int) -> None:
        self.data = bytearray()
        self.full = asyncio.Event()
        self._room = memoryview(bytearray(room))
        self._filled = 0

    def get_buffer(self) -> memoryview | None:
        if self._filled == len(self._room):
            self.full.set()
            return None
        return self._room[self._filled :]

    def received(self, count: int) -> None:
        self.data += self._room[self._filled : self._filled + count]
        self._filled += count

    def empty(self) -> None:
        self._filled = 0
        self.full.clear()


async def read(blob: RegistryBlob, start: int, stop: int) -> tuple[int, int, bytes]:
    body = await blob.open(start, stop)
    sink = Collector()
    await body.receive(sink)
    return body.start, body.stop, bytes(sink.data)


async def test_ranges_are_closed_and_come_from_the_registry_itself(
    server: ScriptedRegistry, connect: Connect
) -> None:
    async def handler(seen: Seen) -> Answer:
        assert seen.target == PATH
        return part(seen)

    server.handler = handler
    blob = connect("source").blob(BLOB)
    for start, stop in [(0, 1000), (99_000, 100_000), (5, 6)]:
        assert await read(blob, start, stop) == (start, stop, DATA[start:stop])
    assert [seen.headers.get("range") for seen in server.seen] == [
        "bytes=0-999",
        "bytes=99000-99999",
        "bytes=5-5",
    ]


async def test_the_whole_blob_is_requested_without_a_range(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("GET", PATH, Answer(200, {}, DATA))
    assert await read(connect("source").blob(BLOB), 0, len(DATA)) == (0, len(DATA), DATA)
    assert "range" not in server.seen[0].headers


async def test_an_empty_blob_is_read(server: ScriptedRegistry, connect: Connect) -> None:
    empty = describe(b"")
    server.expect("GET", f"/v2/x/blobs/{empty.digest}", Answer(200))
    assert await read(connect("source").blob(empty), 0, 0) == (0, 0, b"")


async def test_a_source_that_ignores_ranges_gives_the_whole_blob(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("GET", PATH, Answer(200, {}, DATA))
    assert await read(connect("source").blob(BLOB), 5000, 6000) == (0, len(DATA), DATA)


# -- redirects ---------------------------------------------------------------------------------------


async def test_one_redirect_serves_all_ranges_and_authorization_stays_at_home(
    server: ScriptedRegistry, storage: ScriptedRegistry, connect: Connect
) -> None:
    async def registry(seen: Seen) -> Answer:
        if seen.target == "/v2/":
            return Answer(401, {"WWW-Authenticate": f'Bearer realm="{server.url}/token",service="s"'})
        if seen.path == "/token":
            return Answer(200, {}, b'{"token": "secret-token"}')
        if seen.headers.get("authorization") != "Bearer secret-token":
            return Answer(401, {"WWW-Authenticate": f'Bearer realm="{server.url}/token",service="s"'})
        assert seen.target == PATH
        return Answer(307, {"Location": f"{storage.url}/hop?sig=1"}, b"<a>Temporary Redirect</a>")

    async def store(seen: Seen) -> Answer:
        assert "authorization" not in seen.headers
        if seen.path == "/hop":
            return Answer(302, {"Location": "final?Signature=a%2Fb"})
        assert seen.target == "/final?Signature=a%2Fb"
        return part(seen)

    server.handler, storage.handler = registry, store
    blob = connect("source").blob(BLOB)
    assert (await read(blob, 0, 1000))[2] == DATA[:1000]
    parts = await asyncio.gather(*(read(blob, n * 1000, (n + 1) * 1000) for n in range(1, 9)))
    assert b"".join(piece for _, _, piece in parts) == DATA[1000:9000]
    assert sum(seen.target == PATH and "authorization" in seen.headers for seen in server.seen) == 1
    assert sum(seen.path == "/hop" for seen in storage.seen) == 1


async def test_eight_ranges_resolve_an_expired_url_once(
    server: ScriptedRegistry, storage: ScriptedRegistry, connect: Connect
) -> None:
    generation = 0
    waiting: list[asyncio.Future[None]] = []

    async def registry(seen: Seen) -> Answer:
        nonlocal generation
        generation += 1
        return Answer(307, {"Location": f"{storage.url}/g{generation}"})

    async def store(seen: Seen) -> Answer:
        if seen.path == "/g1" and seen.range != (0, 1000):
            waiting.append(asyncio.get_running_loop().create_future())
            if len(waiting) == 8:  # all eight are refused together
                for gate in waiting:
                    gate.set_result(None)
            await waiting[-1] if len(waiting) < 8 else None
            return Answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
        return part(seen)

    server.handler, storage.handler = registry, store
    blob = connect("source").blob(BLOB)
    await read(blob, 0, 1000)
    parts = await asyncio.gather(*(read(blob, n * 1000, (n + 1) * 1000) for n in range(1, 9)))
    assert b"".join(piece for _, _, piece in parts) == DATA[1000:9000]
    assert generation == 2


async def test_a_failure_to_resolve_is_shared_by_all_that_waited_for_it(
    server: ScriptedRegistry, storage: ScriptedRegistry, connect: Connect
) -> None:
    """Each would meet the same, one after the other: with silence instead of a refusal that takes minutes."""

    async def registry(seen: Seen) -> Answer:
        if len(server.seen) == 1:
            return Answer(307, {"Location": f"{storage.url}/g1"})
        return Answer(307, {"Location": "ftp://storage.invalid/"})

    async def store(seen: Seen) -> Answer:
        return part(seen) if seen.range == (0, 1000) else Answer(403)

    server.handler, storage.handler = registry, store
    blob = connect("source").blob(BLOB)
    await read(blob, 0, 1000)
    opened = [blob.open(n * 1000, (n + 1) * 1000) for n in range(1, 9)]
    failures = await asyncio.gather(*opened, return_exceptions=True)
    assert all(isinstance(failure, RedirectRefused) for failure in failures)
    assert str(failures[0]).startswith(f"GET {server.url}{PATH}: a Location is not a usable URL")
    assert len(server.seen) < 1 + 8
    with pytest.raises(RedirectRefused):
        await blob.open(1000, 2000)  # a later try asks again
    assert len(server.seen) > 2


async def test_a_multipart_206_is_not_taken_for_the_bytes_in_it(
    server: ScriptedRegistry, connect: Connect
) -> None:
    async def registry(seen: Seen) -> Answer:
        answer = part(seen)
        return Answer(
            206, {**answer.headers, "Content-Type": "multipart/byteranges; boundary=x"}, answer.body
        )

    server.handler = registry
    with pytest.raises(ProtocolError, match="multipart"):
        await connect("source").blob(BLOB).open(1000, 2000)


async def test_a_url_that_is_refused_when_fresh_is_an_error(
    server: ScriptedRegistry, storage: ScriptedRegistry, connect: Connect
) -> None:
    async def registry(seen: Seen) -> Answer:
        return Answer(307, {"Location": f"{storage.url}/f?X-Amz-Signature=secret"})

    async def store(seen: Seen) -> Answer:
        return Answer(403)

    server.handler, storage.handler = registry, store
    with pytest.raises(Denied) as refused:
        await connect("source").blob(BLOB).open(0, 1000)
    assert "secret" not in str(refused.value)
    assert "credentials" not in str(refused.value.advice)
    assert len(server.seen) == len(storage.seen) == 1


async def test_a_url_near_its_end_is_resolved_again_before_it_is_refused(
    server: ScriptedRegistry, storage: ScriptedRegistry, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossdock.registry.blobs.blob.refresh_after", lambda url, now: 0.0)

    async def registry(seen: Seen) -> Answer:
        return Answer(307, {"Location": f"{storage.url}/g{len(server.seen)}"})

    async def store(seen: Seen) -> Answer:
        return part(seen)

    server.handler, storage.handler = registry, store
    blob = connect("source").blob(BLOB)
    await read(blob, 0, 1000)
    await read(blob, 1000, 2000)
    assert [seen.path for seen in storage.seen] == ["/g1", "/g2"]


async def test_a_registry_that_redirects_only_plain_requests_serves_both(
    server: ScriptedRegistry, storage: ScriptedRegistry, connect: Connect
) -> None:
    async def zot(seen: Seen) -> Answer:
        return part(seen) if seen.range else Answer(307, {"Location": f"{storage.url}/all"})

    async def store(seen: Seen) -> Answer:
        return part(seen)

    server.handler, storage.handler = zot, store
    blob = connect("source").blob(BLOB)
    assert (await read(blob, 0, 1000))[2] == DATA[:1000]
    assert (await read(blob, 0, len(DATA)))[2] == DATA
    assert (await read(blob, 1000, 2000))[2] == DATA[1000:2000]


async def test_a_circle_of_redirects_ends(server: ScriptedRegistry, connect: Connect) -> None:
    async def registry(seen: Seen) -> Answer:
        return Answer(307, {"Location": PATH})

    server.handler = registry
    with pytest.raises(RedirectRefused):
        await connect("source").blob(BLOB).open(0, 1000)


async def test_a_redirect_to_another_scheme_is_refused(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", PATH, Answer(307, {"Location": "file:///etc/passwd"}))
    with pytest.raises(RedirectRefused):
        await connect("source").blob(BLOB).open(0, 1000)


# -- lies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_range", "length"),
    [
        ("bytes 0-999/100000", 1000),  # another place
        ("bytes 5000-5998/100000", 999),  # shorter
        ("bytes 5000-6000/100000", 1001),  # longer
        ("bytes 5000-5999/100000", 999),  # says one thing and sends another
        ("", 1000),
        ("bytes */100000", 1000),
    ],
)
async def test_a_206_of_another_range_may_be_right_the_next_time(
    server: ScriptedRegistry, connect: Connect, content_range: str, length: int
) -> None:
    headers = {"Content-Range": content_range} if content_range else {}
    server.expect("GET", PATH, Answer(206, headers, DATA[5000 : 5000 + length]))
    server.expect("GET", PATH, Answer(206, {"Content-Range": "5000-5999/*"}, DATA[5000:6000]))
    blob = connect("source").blob(BLOB)
    with pytest.raises(ProtocolError, match="requested bytes 5000-5999") as wrong:
        await blob.open(5000, 6000)
    assert wrong.value.retryable
    assert (await read(blob, 5000, 6000))[2] == DATA[5000:6000]


async def test_ranges_are_given_up_after_several_wrong_ones(
    server: ScriptedRegistry, connect: Connect
) -> None:
    for _ in range(3):
        server.expect("GET", PATH, Answer(206, {"Content-Range": "bytes 0-9/100000"}, DATA[:10]))
    server.expect("GET", PATH, Answer(200, {}, DATA))
    blob = connect("source").blob(BLOB)
    for _ in range(3):
        with pytest.raises(ProtocolError):
            await blob.open(5000, 6000)
    assert await read(blob, 5000, 6000) == (0, len(DATA), DATA)
    assert "range" not in server.seen[-1].headers


@pytest.mark.parametrize(
    "answer",
    [
        Answer(206, {"Content-Range": "bytes 5000-5999/99999"}, DATA[5000:6000]),
        Answer(200, {}, DATA[:-1]),
        Answer(200, {}, DATA + b"x"),
        Answer(416, {"Content-Range": "bytes */7"}),
    ],
)
async def test_another_total_is_the_sources_lie(
    server: ScriptedRegistry, connect: Connect, answer: Answer
) -> None:
    server.expect("GET", PATH, answer)
    with pytest.raises(SizeMismatch) as lie:
        await connect("source").blob(BLOB).open(5000, 6000)
    assert not lie.value.retryable
    assert lie.value.expected == len(DATA)


async def test_a_refused_range_becomes_a_plain_request(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", PATH, Answer(416, {}, b"no"))
    server.expect("GET", PATH, Answer(200, {}, DATA))
    assert await read(connect("source").blob(BLOB), 5000, 6000) == (0, len(DATA), DATA)
    assert ["range" in seen.headers for seen in server.seen] == [True, False]


async def test_a_compressed_range_becomes_a_plain_request(server: ScriptedRegistry, connect: Connect) -> None:
    headers = {"Content-Range": "bytes 5000-5999/100000", "Content-Encoding": "gzip"}
    server.expect("GET", PATH, Answer(206, headers, b"z" * 1000))
    server.expect("GET", PATH, Answer(200, {"Content-Encoding": "identity"}, DATA))
    assert await read(connect("source").blob(BLOB), 5000, 6000) == (0, len(DATA), DATA)


async def test_a_compressed_whole_is_refused_in_words(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", PATH, Answer(200, {"Content-Encoding": "br"}, b"z" * 77))
    with pytest.raises(ProtocolError, match="the response is in br") as refused:
        await connect("source").blob(BLOB).open(0, len(DATA))
    assert not refused.value.retryable
    assert refused.value.advice


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("room", [1000, 1 << 20])
async def test_a_compressed_whole_is_decoded(
    server: ScriptedRegistry, connect: Connect, coding: str, framing: str, room: int
) -> None:
    packed = gzip.compress(DATA) if coding == "gzip" else zlib.compress(DATA)
    headers = {"Content-Encoding": coding}
    if framing == "chunked":
        server.expect("GET", PATH, Answer(200, {**headers, **CHUNKED}, chunked(packed)))
    else:
        server.expect("GET", PATH, Answer(200, headers, packed))
    body = await connect("source").blob(BLOB).open(0, len(DATA))
    sink = Collector(room)
    await body.receive(sink)
    assert (body.start, body.stop, bytes(sink.data)) == (0, len(DATA), DATA)


async def test_a_compressed_whole_waits_for_room(server: ScriptedRegistry, connect: Connect) -> None:
    zeros = bytes(100_000)  # so small that all of it has come long before there is room
    blob = describe(zeros)
    path = f"/v2/x/blobs/{blob.digest}"
    server.expect("GET", path, Answer(200, {"Content-Encoding": "gzip"}, gzip.compress(zeros)))
    body = await connect("source").blob(blob).open(0, len(zeros))
    sink = Halting(7_000)
    receiving = asyncio.ensure_future(body.receive(sink))
    while not receiving.done():
        full = asyncio.ensure_future(sink.full.wait())
        await asyncio.wait({receiving, full}, return_when=asyncio.FIRST_COMPLETED)
        full.cancel()
        sink.empty()
        body.resume()
    await receiving
    assert bytes(sink.data) == zeros


async def test_a_compressed_whole_that_is_given_up_ends(server: ScriptedRegistry, connect: Connect) -> None:
    zeros = bytes(100_000)
    blob = describe(zeros)
    answer = Answer(200, {"Content-Encoding": "gzip"}, gzip.compress(zeros))
    server.expect("GET", f"/v2/x/blobs/{blob.digest}", answer)
    body = await connect("source").blob(blob).open(0, len(zeros))
    sink = Halting(7_000)
    receiving = asyncio.ensure_future(body.receive(sink))
    await sink.full.wait()
    body.close()
    with pytest.raises(ReadFailed):
        await receiving


async def test_a_layer_that_is_only_called_encoded_stays_as_it_is(
    server: ScriptedRegistry, connect: Connect
) -> None:
    layer = gzip.compress(DATA)
    blob = describe(layer, "application/vnd.oci.image.layer.v1.tar+gzip")
    path = f"/v2/x/blobs/{blob.digest}"
    server.expect("GET", path, Answer(200, {"Content-Encoding": "gzip"}, layer))
    server.expect("GET", path, Answer(200, {"Content-Encoding": "gzip", **CHUNKED}, chunked(layer)))
    server.expect("GET", path, Answer(200, {"Content-Encoding": "gzip"}, gzip.compress(layer)))
    for _ in range(3):
        assert await read(connect("source").blob(blob), 0, len(layer)) == (0, len(layer), layer)


@pytest.mark.parametrize(
    ("packed", "error"),
    [
        (gzip.compress(DATA + b"x"), SizeMismatch),
        (gzip.compress(DATA[:-1]), SizeMismatch),
        (gzip.compress(DATA)[:-1], ReadFailed),
        (gzip.compress(DATA)[:-5] + b"\0" + gzip.compress(DATA)[-4:], ProtocolError),
        (gzip.compress(bytes(64 << 20)), SizeMismatch),
        (gzip.compress(b"") * 20_000, ProtocolError),
    ],
    ids=["longer", "shorter", "cut", "broken", "bomb", "endless nothing"],
)
async def test_a_compressed_whole_delivers_the_blob_or_fails(
    server: ScriptedRegistry, connect: Connect, packed: bytes, error: type[Exception]
) -> None:
    server.expect("GET", PATH, Answer(200, {"Content-Encoding": "gzip"}, packed))
    body = await connect("source").blob(BLOB).open(0, len(DATA))
    sink = Collector()
    with pytest.raises(error):
        await body.receive(sink)
    assert len(sink.data) <= len(DATA)


async def test_203_is_a_whole_blob(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", PATH, Answer(203, {}, DATA))
    assert await read(connect("source").blob(BLOB), 0, len(DATA)) == (0, len(DATA), DATA)


@pytest.mark.parametrize("status", [201, 202, 226, 300, 304])
async def test_no_error_holds_bytes_of_a_blob(
    server: ScriptedRegistry, connect: Connect, status: int
) -> None:
    server.expect("GET", PATH, Answer(status, {}, b"layer bytes " * 10, drop=True))
    with pytest.raises(CrossdockError) as caught:
        await connect("source").blob(BLOB).open(0, len(DATA))
    assert "layer" not in str(caught.value)


async def test_a_truncated_part_is_a_broken_connection_and_its_bytes_are_good(
    server: ScriptedRegistry, connect: Connect
) -> None:
    answer = Answer(206, {"Content-Range": "bytes 5000-5999/100000"}, DATA[5000:5400], length=1000, drop=True)
    server.expect("GET", PATH, answer)
    body = await connect("source").blob(BLOB).open(5000, 6000)
    sink = Collector()
    with pytest.raises(ReadFailed):
        await body.receive(sink)
    assert bytes(sink.data) == DATA[5000:5400]


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
async def test_a_whole_without_a_length_is_counted(
    server: ScriptedRegistry, connect: Connect, size: int
) -> None:
    server.expect("GET", PATH, Answer(200, CHUNKED, chunked(content(size))))
    body = await connect("source").blob(BLOB).open(0, len(DATA))
    sink = Collector()
    with pytest.raises(SizeMismatch):
        await body.receive(sink)
    assert len(sink.data) <= len(DATA)


async def test_a_range_without_a_length_never_fills_more_than_was_asked(
    server: ScriptedRegistry, connect: Connect
) -> None:
    headers = {"Content-Range": "bytes 5000-5999/100000", **CHUNKED}
    server.expect("GET", PATH, Answer(206, headers, chunked(DATA[5000:7000])))
    body = await connect("source").blob(BLOB).open(5000, 6000)
    sink = Collector()
    with pytest.raises(ReadFailed):
        await body.receive(sink)
    assert bytes(sink.data) == DATA[5000:6000]


async def test_a_whole_without_a_length_that_is_right_is_taken(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("GET", PATH, Answer(200, CHUNKED, chunked(DATA)))
    assert await read(connect("source").blob(BLOB), 0, len(DATA)) == (0, len(DATA), DATA)


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "error"), [(404, NotFound), (403, Denied), (503, ServerBusy)])
async def test_a_refusal_is_one_error_after_one_request(
    server: ScriptedRegistry, connect: Connect, status: int, error: type[Exception]
) -> None:
    server.expect("GET", PATH, Answer(status, {}, b'{"errors":[{"code":"BLOB_UNKNOWN","message":"gone"}]}'))
    with pytest.raises(error, match=f"{status} BLOB_UNKNOWN: gone"):
        await connect("source").blob(BLOB).open(0, 1000)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (5, 5), (10, 5), (0, 100_001), (-1, 5)])
async def test_a_range_outside_the_blob_is_a_mistake_of_the_caller(
    connect: Connect, start: int, stop: int
) -> None:
    with pytest.raises(ValueError):
        await connect("source").blob(BLOB).open(start, stop)


async def test_a_cancelled_range_leaves_the_next_ones_working(
    server: ScriptedRegistry, connect: Connect
) -> None:
    asked = asyncio.Event()
    never = asyncio.Event()

    async def handler(seen: Seen) -> Answer:
        if len(server.seen) == 1:
            asked.set()
            await never.wait()
        return part(seen)

    server.handler = handler
    blob = connect("source").blob(BLOB)
    first = asyncio.ensure_future(blob.open(0, 1000))
    await asked.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await read(blob, 0, 1000))[2] == DATA[:1000]


# -- existence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(200, {"Content-Length": str(len(DATA))}), True),
        (Answer(200, {"Content-Length": "7"}), False),
        (Answer(200, {"Transfer-Encoding": "chunked"}), True),
        (Answer(307, {"Location": "http://127.0.0.1:1/never-asked"}), True),
        (Answer(404), False),
        *((Answer(status), False) for status in (400, 403, 405, 501)),
    ],
)
async def test_a_blob_exists_when_its_size_fits(
    server: ScriptedRegistry, connect: Connect, answer: Answer, expected: bool
) -> None:
    server.expect("HEAD", PATH, answer)
    assert await connect().has_blob(BLOB) is expected


async def test_a_head_that_is_always_an_error_is_a_no_and_waited_for_once(
    server: ScriptedRegistry, connect: Connect
) -> None:
    repository = connect()
    other = describe(b"another blob")
    for _ in range(3):  # with the retries
        server.expect("HEAD", PATH, Answer(500))
    assert not await repository.has_blob(BLOB)
    server.expect("HEAD", PATH.replace(str(BLOB.digest), str(other.digest)), Answer(500))
    assert not await repository.has_blob(other)


async def test_a_head_that_is_an_error_once_is_requested_again(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("HEAD", PATH, Answer(500))
    server.expect("HEAD", PATH, Answer(200, {"Content-Length": str(len(DATA))}))
    assert await connect().has_blob(BLOB)
