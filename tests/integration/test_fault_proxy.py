"""The fault proxy in front of a real registry: it forwards everything unchanged, and each fault works.

Checked by other clients than crossdock: http.client, curl, and plain sockets where the end of a connection is
the question.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import (
    Answer,
    Break,
    Fault,
    Rewrite,
    Seen,
    add_header,
    as_chunked,
    content_length,
    content_range,
    drop_headers,
    error,
    expired_url,
    redirect,
    retry_after,
    set_header,
)
from support.docker_registry import DockerRegistry
from support.images import assert_holds, one_layer_image, push
from support.push import Remote, Reply
from support.skopeo import copy_all, raw_digest

pytestmark = pytest.mark.real

DATA = bytes(range(256)) * 1024
SIZE = len(DATA)


@dataclass
class Front:
    """A blob of `DATA` behind a proxy that speaks plain HTTP."""

    proxy: FaultProxy
    path: str
    tls: ssl.SSLContext | None = None

    @property
    def seen(self) -> list[Seen]:
        """The requests that the proxy saw, complete."""
        self.proxy.settle()
        return self.proxy.seen

    def plan(self, **fault: object) -> Fault:
        """A fault for the GETs of the blob."""
        return self.proxy.add(Fault("GET */blobs/*", **fault))  # type: ignore[arg-type]

    def get(self, range_: str = "", method: str = "GET") -> Reply:
        """The blob, or a range of it."""
        headers = {"Range": f"bytes={range_}"} if range_ else {}
        return Remote(self.proxy.host, self.tls).request(method, self.path, headers=headers)

    def raw(self, request: bytes = b"") -> tuple[bytes, str]:
        """All that a bare socket receives, and how it ended: ``eof``, ``reset``, ``silence`` or ``cut``."""
        request = request or f"GET {self.path} HTTP/1.1\r\nHost: {self.proxy.host}\r\n\r\n".encode()
        received = bytearray()
        try:  # connecting may meet the reset already
            with socket.create_connection(("127.0.0.1", self.proxy.port), timeout=1) as connection:
                read, write = connection.recv, connection.sendall
                if self.tls is not None:
                    read, write = tls_client(connection, self.tls)
                write(request)
                while data := read(65536):
                    received += data
        except ConnectionResetError:
            return bytes(received), "reset"
        except TimeoutError:
            return bytes(received), "silence"
        except EOFError:
            return bytes(received), "cut"
        return bytes(received), "eof"


def tls_client(
    connection: socket.socket, context: ssl.SSLContext
) -> tuple[Callable[[int], bytes], Callable[[bytes], None]]:
    """Read and write over TLS, with the socket's own errors: `ssl` shows a reset as an early end.

    Reading raises `EOFError` at an end without close_notify.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")

    def until_done(step: Callable[[], bytes | None]) -> bytes:
        while True:
            try:
                return step() or b""
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                data = connection.recv(65536)
                if not data:
                    raise EOFError from None
                incoming.write(data)

    def write(data: bytes) -> None:
        until_done(session.do_handshake)
        session.write(data)
        connection.sendall(outgoing.read())

    return lambda size: until_done(lambda: session.read(size)), write


@pytest.fixture
def front(source: DockerRegistry, repository: str, fault_proxy: Callable[..., FaultProxy]) -> Front:
    """Plain HTTP on both sides."""
    digest = source.remote.push_blob(repository, DATA)
    return Front(fault_proxy(source.host, seed=7), f"/v2/{repository}/blobs/{digest}")


@pytest.fixture
def secure(
    source: DockerRegistry, repository: str, fault_proxy: Callable[..., FaultProxy], authority: trustme.CA
) -> Front:
    """TLS towards the client."""
    digest = source.remote.push_blob(repository, DATA)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Front(fault_proxy(source.host, tls=server), f"/v2/{repository}/blobs/{digest}", client)


@pytest.fixture(params=["plain", "tls"])
def either(request: pytest.FixtureRequest) -> Front:
    """With and without TLS."""
    front: Front = request.getfixturevalue("front" if request.param == "plain" else "secure")
    return front


def body_of(answer: bytes) -> bytes:
    """The bytes after the head."""
    return answer.partition(b"\r\n\r\n")[2]


# -- nothing planned ---------------------------------------------------------------------------------------


def test_content_passes_unchanged_in_both_directions(either: Front, source: DockerRegistry) -> None:
    builder = ImageBuilder(seed=1)
    repository = either.path.split("/blobs/")[0].removeprefix("/v2/") + "/image"
    image, _ = one_layer_image(builder, 300_000)
    through = Remote(either.proxy.host, either.tls)
    graph = push(through, repository, builder, image, "v1")
    assert_holds(through, repository, "v1", graph)
    assert_holds(source.remote, repository, "v1", graph)
    assert either.proxy.count(lambda seen: seen.is_upload_body()) == 2
    assert all(seen.ended == "whole" for seen in either.seen)


def test_skopeo_copies_through_it(front: Front, source: DockerRegistry, tmp_path: Path) -> None:
    builder = ImageBuilder(seed=2)
    repository = "it/skopeo-through-the-proxy"
    graph = push(source.remote, repository, builder, one_layer_image(builder, 3_000_000)[0], "v1")
    copy_all(
        f"docker://{front.proxy.host}/{repository}:v1", f"docker://{front.proxy.host}/{repository}/to:v1"
    )
    assert raw_digest(f"docker://{source.host}/{repository}/to:v1") == graph.root
    assert_holds(source.remote, f"{repository}/to", "v1", graph)


def test_observations_are_reported_without_secrets(front: Front) -> None:
    secret = {"Authorization": "Basic YTpoaWRkZW4=", "Range": "bytes=5-9"}
    Remote(front.proxy.host).request("GET", f"{front.path}?sig=hidden&digest=x", headers=secret)
    (seen,) = front.seen
    assert (seen.method, seen.range, seen.status, seen.sent, seen.ended) == (
        "GET",
        "bytes=5-9",
        206,
        5,
        "whole",
    )
    assert seen.path.startswith(front.path)
    assert "digest=x" in seen.path
    assert "hidden" not in repr(seen)
    assert "aGlkZGVu" not in repr(seen)
    assert "YTpoaWRkZW4" not in repr(seen)


def test_connections_are_kept(front: Front) -> None:
    connection = http.client.HTTPConnection(front.proxy.host, timeout=10)
    for _ in range(3):
        connection.request("GET", front.path)
        assert connection.getresponse().read() == DATA
    connection.close()
    assert [(seen.connection, seen.earlier) for seen in front.seen] == [(1, 0), (1, 1), (1, 2)]


# -- breaks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "plain", "tls"),
    [
        ("close", "eof", "eof"),
        ("cut", "eof", "cut"),
        ("reset", "reset", "reset"),
        ("stall", "silence", "silence"),
    ],
)
def test_a_body_ends_at_its_byte_as_planned(how: str, plain: str, tls: str, either: Front) -> None:
    fault = either.plan(nth=2, breaks=Break(how, at=70_000))  # type: ignore[arg-type]
    assert either.get().body == DATA
    received, end = either.raw()
    assert body_of(received) == DATA[:70_000]
    assert end == (tls if either.tls else plain)
    assert fault.reached.is_set()
    assert either.get().body == DATA, "once means once"
    assert [seen.ended for seen in either.seen] == ["whole", how, "whole"]
    assert either.seen[1].sent == 70_000


@pytest.mark.parametrize(("at", "passed"), [(0, 0), (-1, SIZE - 1), (-2, SIZE - 2), (SIZE, SIZE)])
def test_offsets_count_from_either_end(at: int, passed: int, front: Front) -> None:
    front.plan(breaks=Break("reset", at=at))
    received, end = front.raw()
    assert (len(body_of(received)), end) == (passed, "reset")


def test_an_offset_left_open_is_chosen_by_the_seed(
    front: Front, source: DockerRegistry, fault_proxy: Callable[..., FaultProxy]
) -> None:
    def cuts(seed: int) -> list[int]:
        proxy = fault_proxy(source.host, seed=seed)
        other = Front(proxy, front.path)
        other.plan(times=None, breaks=Break("close", at=None))
        return [len(body_of(other.raw()[0])) for _ in range(4)]

    assert cuts(1) == cuts(1)
    assert cuts(1) != cuts(2)
    assert len(set(cuts(1))) > 1


@pytest.mark.parametrize("how", ["cut", "reset"])
def test_a_record_is_left_incomplete(how: str, secure: Front) -> None:
    secure.plan(breaks=Break(how, at=1000, in_record=True))  # type: ignore[arg-type]
    received, end = secure.raw()
    assert body_of(received) == DATA[:1000]
    assert end == how


def test_heads_and_idle_connections_break(either: Front) -> None:
    either.plan(breaks=Break("close", "head", 9))
    assert either.raw() == (b"HTTP/1.1 ", "eof")
    either.proxy.clear()
    either.plan(breaks=Break("close", "idle"))
    received, end = either.raw()
    assert (body_of(received), end) == (DATA, "eof")
    assert either.seen[0].ended == "close"


@pytest.mark.parametrize(
    ("where", "context"), [("connect", "front"), ("connect", "secure"), ("handshake", "secure")]
)
def test_connections_break_before_any_request(
    where: str, context: str, request: pytest.FixtureRequest
) -> None:
    front: Front = request.getfixturevalue(context)
    front.proxy.add(Fault(nth=2, breaks=Break("reset", where)))  # type: ignore[arg-type]
    assert front.get().body == DATA
    assert front.raw() == (b"", "reset")
    assert front.get().body == DATA
    assert len(front.seen) == 2


def test_a_request_that_is_broken_at_its_start_never_reaches_the_registry(
    front: Front, source: DockerRegistry
) -> None:
    mark = source.mark()
    front.plan(breaks=Break("reset", "request"))
    assert front.raw() == (b"", "reset")
    assert source.accesses(mark) == []


def test_an_upload_is_reset_at_its_byte(front: Front, repository: str) -> None:
    fault = front.proxy.add(Fault("PUT|PATCH */blobs/uploads/*", breaks=Break("reset", "request", 1 << 20)))
    with pytest.raises(ConnectionError):
        Remote(front.proxy.host).push_blob(repository, bytes(8 << 20))
    assert fault.reached.is_set()
    assert [seen.received for seen in front.seen if seen.is_upload_body()] == [1 << 20]
    assert Remote(front.proxy.host).push_blob(repository, bytes(8 << 20))


def test_an_upload_whose_answer_is_lost_has_happened(front: Front, repository: str) -> None:
    front.proxy.add(Fault("PUT */blobs/uploads/*", breaks=Break("reset", "head")))
    data = b"arrived all the same"
    with pytest.raises(ConnectionError):
        Remote(front.proxy.host).push_blob(repository, data)
    assert front.proxy.count(lambda seen: seen.received == len(data)) == 1
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    assert Remote(front.proxy.host).has_blob(repository, digest)


@pytest.mark.parametrize(("range_", "passed"), [("60000-", 10_000), ("70000-", 0), ("70001-", SIZE - 70_001)])
def test_a_byte_of_the_blob_is_a_place_in_any_range(range_: str, passed: int, front: Front) -> None:
    front.plan(times=None, breaks=Break("reset", "blob", 70_000))
    received, end = front.raw(
        f"GET {front.path} HTTP/1.1\r\nHost: {front.proxy.host}\r\nRange: bytes={range_}\r\n\r\n".encode()
    )
    assert len(body_of(received)) == passed
    assert end == ("silence" if passed > 70_000 else "reset")


def test_a_handshake_ends_at_its_byte(secure: Front) -> None:
    cut = secure.proxy.add(Fault(breaks=Break("reset", "handshake", 100)))
    assert secure.raw() == (b"", "reset")
    assert cut.reached.is_set()
    assert secure.get().body == DATA


def test_a_handshake_is_spoilt_or_trickles(secure: Front) -> None:
    secure.proxy.add(Fault(flip_at=700, within="handshake"))
    with pytest.raises(ssl.SSLError):
        secure.raw()
    secure.proxy.add(Fault(rate=1.0, within="handshake"))
    assert secure.raw() == (b"", "silence")
    assert secure.get().body == DATA


def test_a_head_trickles(front: Front) -> None:
    front.plan(rate=0.9, within="head")
    received, end = front.raw()
    assert len(received) < len("HTTP/1.1")
    assert end == "silence"


@pytest.mark.parametrize(
    ("fault", "stored"),
    [({"flip_at": 3}, b"untouched"[:3] + b"n" + b"uched"), ({"passes": 5}, b"untou")],
    ids=["flipped", "shortened"],
)
def test_a_requests_body_arrives_damaged(
    fault: dict[str, int], stored: bytes, front: Front, repository: str
) -> None:
    front.proxy.add(Fault("PUT */blobs/uploads/*", **fault))  # type: ignore[arg-type]
    remote = Remote(front.proxy.host)
    location = remote.request("POST", f"/v2/{repository}/blobs/uploads/", b"").headers["location"]
    digest = "sha256:" + hashlib.sha256(stored).hexdigest()
    kind = {"Content-Type": "application/octet-stream"}
    assert remote.request("PUT", f"{location}&digest={digest}", b"untouched", kind).status == 201
    assert remote.blob(repository, digest) == stored


# -- what is said ------------------------------------------------------------------------------------------


def test_bits_lengths_and_places_are_changed(either: Front) -> None:
    either.plan(flip_at=170_000)
    flipped = either.get("100000-").body
    assert flipped == DATA[100_000:170_000] + bytes([DATA[170_000] ^ 1]) + DATA[170_001:]
    either.plan(nth=1, strip_range=True)
    ignored = either.get("5-9")
    assert (ignored.status, ignored.body) == (200, DATA)
    either.plan(widen=3)
    wider = either.get("5-9")
    assert (wider.body, wider.headers["content-range"]) == (DATA[5:13], f"bytes 5-12/{SIZE}")
    either.plan(extra=b"more")
    assert body_of(either.raw()[0]) == DATA + b"more"
    assert either.get("5-9").body == DATA[5:10]


@pytest.mark.parametrize(
    ("rewrite", "name", "value"),
    [
        (content_range(shift=3), "content-range", f"bytes 8-12/{SIZE}"),
        (content_range(end=3), "content-range", f"bytes 5-12/{SIZE}"),
        (content_range(total=-1), "content-range", f"bytes 5-9/{SIZE - 1}"),
        (set_header("Content-Encoding", "gzip"), "content-encoding", "gzip"),
        (set_header("Content-Range", "none", 200), "content-range", "none"),
        (add_header("Content-Length", "5"), "content-length", "5, 5"),
        (drop_headers("Content-Length"), "connection", "close"),
        (as_chunked, "transfer-encoding", "chunked"),
    ],
)
def test_heads_are_rewritten_and_bodies_are_not(
    rewrite: Rewrite, name: str, value: str, front: Front
) -> None:
    front.plan(head=rewrite)
    connection = http.client.HTTPConnection(front.proxy.host, timeout=10)
    connection.request("GET", front.path, headers={"Range": "bytes=5-9"})
    answer = connection.getresponse()
    assert answer.getheader(name) == value
    assert answer.read() == DATA[5:10]
    connection.close()


def test_a_length_that_is_too_long_ends_with_the_connection(front: Front) -> None:
    front.plan(head=content_length(+10))
    with pytest.raises(http.client.IncompleteRead) as cut:
        front.get()
    assert cut.value.partial == DATA


@pytest.mark.parametrize("status", [401, 403, 404, 413, 416, 500, 502, 503])
def test_answers_of_the_faults_own_never_reach_the_registry(
    status: int, front: Front, source: DockerRegistry
) -> None:
    mark = source.mark()
    front.plan(nth=2, answer=error(status, WWW_Authenticate="Bearer realm=x"))
    assert front.get().status == 200
    reply = front.get()
    assert (reply.status, reply.headers["www-authenticate"]) == (status, "Bearer realm=x")
    assert front.get(method="HEAD").status == 200
    assert len(source.accesses(mark)) == 2


def test_redirects_expired_urls_and_rate_limits(front: Front) -> None:
    front.plan(answer=redirect("http://127.0.0.2:1"))
    location = front.get().headers["location"]
    assert location.startswith(f"http://127.0.0.2:1{front.path}?X-Amz-Signature=")
    front.proxy.clear()
    front.plan(answer=expired_url())
    assert front.get().status == 403
    front.proxy.clear()
    front.plan(answer=retry_after(7))
    assert front.get().headers["retry-after"] == "7"


def test_raw_bytes_are_sent_as_they_are(front: Front) -> None:
    front.plan(answer=b"HTTP/1.0 200 \0\r\n\r\nx")
    assert front.raw() == (b"HTTP/1.0 200 \0\r\n\r\nx", "eof")


@pytest.mark.parametrize(("after", "taken"), [(0, 0), (None, 8 << 20)])
def test_an_answer_comes_before_or_after_the_requests_body(
    after: int | None, taken: int, front: Front, repository: str
) -> None:
    front.proxy.add(Fault("PUT */blobs/uploads/*", answer=Answer(413), answer_after=after))
    opened = Remote(front.proxy.host).request("POST", f"/v2/{repository}/blobs/uploads/", b"")
    connection = socket.create_connection(("127.0.0.1", front.proxy.port), timeout=10)
    path = opened.headers["location"].partition(front.proxy.host)[2]
    head = f"PUT {path} HTTP/1.1\r\nHost: {front.proxy.host}\r\nContent-Length: {8 << 20}\r\n\r\n"
    connection.sendall(head.encode() + (b"" if after == 0 else bytes(8 << 20)))
    assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    connection.close()
    assert front.seen[-1].received == taken


def test_a_trickle_comes_byte_by_byte(front: Front) -> None:
    front.plan(rate=20)
    request = f"GET {front.path} HTTP/1.1\r\nHost: {front.proxy.host}\r\nRange: bytes=5-9\r\n\r\n"
    pieces = []
    with socket.create_connection(("127.0.0.1", front.proxy.port), timeout=10) as connection:
        connection.sendall(request.encode())
        while not b"".join(pieces).endswith(DATA[5:10]):
            pieces.append(connection.recv(65536))
    assert len(pieces) >= 3


def test_curl_calls_the_faults_by_their_names(either: Front, authority: trustme.CA, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    def fetch() -> int:
        argv = [curl, "-sS", "--cacert", str(tmp_path / "ca.pem"), "--max-time", "20", "-o", "/dev/null"]
        return subprocess.run(
            [*argv, either.proxy.url + either.path], capture_output=True, check=False
        ).returncode

    assert fetch() == 0
    either.plan(nth=1, breaks=Break("close", at=10))
    assert fetch() == 18, "CURLE_PARTIAL_FILE"
    either.plan(nth=1, breaks=Break("reset", at=10))
    assert fetch() == 56, "CURLE_RECV_ERROR"
    either.plan(nth=1, breaks=Break("close", "head"))
    assert fetch() == 52, "CURLE_GOT_NOTHING"
    either.plan(nth=1, answer=b"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc")
    assert fetch() == 0


# -- strictness --------------------------------------------------------------------------------------------


@pytest.fixture
def lax(source: DockerRegistry) -> Iterator[Front]:
    """A proxy whose violations do not fail the test."""
    with FaultProxy(source.host) as proxy:
        yield Front(proxy, "/v2/")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ("GET /v2/ HTTP/1.1\r\n\r\n", "0 Host headers"),
        ("GET /v2/ HTTP/1.1\r\nHost: {0}\r\nHost: {0}\r\n\r\n", "2 Host headers"),
        ("GET /v2/ HTTP/1.1\r\nHost: example.org\r\n\r\n", "not this server"),
        ("GET /v2/ HTTP/1.0\r\nHost: {0}\r\n\r\n", "request line"),
        ("GET /v2/#x HTTP/1.1\r\nHost: {0}\r\n\r\n", "fragment"),
        ("GET v2 HTTP/1.1\r\nHost: {0}\r\n\r\n", "target"),
        ("GET /v2/ HTTP/1.1\r\nHost : {0}\r\n\r\n", "header field"),
        ("GET /v2/ HTTP/1.1\r\nHost: {0}\r\nX: 1\r\n 2\r\n\r\n", "header field"),
        ("GET /v2/ HTTP/1.1\r\nHost: {0}\r\nContent-Length: 1\r\n\r\nx", "with a body"),
        ("POST /v2/ HTTP/1.1\r\nHost: {0}\r\n\r\n", "without Content-Length"),
        ("PUT /v2/ HTTP/1.1\r\nHost: {0}\r\nContent-Length: +1\r\n\r\nx", "Content-Length"),
        ("PUT /v2/ HTTP/1.1\r\nHost: {0}\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "1, 1"),
        (
            "PUT /v2/ HTTP/1.1\r\nHost: {0}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Transfer-Encoding",
        ),
        ("GET /v2/ HTTP/1.1\r\nHost: {0}\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: {0}\r\n\r\n", "pipelining"),
        ("POST /v2/ HTTP/1.1\r\nHost: {0}\r\nContent-Length: 1\r\n\r\nxy", "pipelining"),
    ],
)
def test_careless_requests_are_refused_and_noted(request_: str, words: str, lax: Front) -> None:
    received, _ = lax.raw(request_.format(lax.proxy.host).encode())
    assert received.startswith(b"HTTP/1.1 400 ")
    (violation,) = lax.proxy.violations
    assert words in violation


def test_a_planned_function_that_raises_is_noted(lax: Front) -> None:
    lax.proxy.add(Fault(answer=lambda seen: Answer(200, {"X": "\N{HORIZONTAL ELLIPSIS}"})))
    request = f"GET /v2/ HTTP/1.1\r\nHost: {lax.proxy.host}\r\n\r\n"
    assert lax.raw(request.encode())[0] == b""
    assert "the fault failed: UnicodeEncodeError" in lax.proxy.violations[0]


def test_closing_ends_stalls_and_threads(source: DockerRegistry) -> None:
    with FaultProxy(source.host) as proxy:
        stall = proxy.add(Fault(breaks=Break("stall", "request")))
        connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
        connection.sendall(f"GET /v2/ HTTP/1.1\r\nHost: {proxy.host}\r\n\r\n".encode())
        assert stall.reached.wait(10)
    assert connection.recv(10) == b""
    connection.close()
    proxy.close()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=1).close()
