"""Peers that send nothing, read nothing, or are too many: each is given up, and others are served."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from crossdock import listening
from crossdock.embedded import bodies
from crossdock.embedded.app import make_app
from crossdock.listening import Peers, serve_app
from unit.embedded.test_registry_server import users_file

SOON = 20.0  # seconds in which what is given up after parts of one is gone, whatever the load


@asynccontextmanager
async def served(root: Path, users: Path | None = None, idle: float = 60.0) -> AsyncIterator[int]:
    """The registry behind `serve_app`; its port."""
    stopping = asyncio.Event()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve_app(
            make_app(root, users),
            "127.0.0.1",
            0,
            on_ready=port.set_result,
            stopping=stopping,
            grace=1,
            idle=idle,
        )
    )
    try:
        yield await port
    finally:
        stopping.set()
        await serving


async def closed_after(port: int, sent: bytes) -> bytes:
    """The response that the server sends before it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(), SOON)
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies are given up after parts of a second."""
    monkeypatch.setattr(bodies, "STALLED_AFTER", 0.1)
    monkeypatch.setattr(bodies, "DRAINED_AFTER", 0.1)
    monkeypatch.setattr(listening, "LINGERING", 0.1)


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A file with one user."""
    return users_file(tmp_path, {"users": [{"name": "a", "password": "secret"}]})


@pytest.mark.parametrize(
    "sent", [b"", b"GET /v2/ HTTP/1.1\r\nHost: x\r\n", b"GET /v2/ HTTP/1.1\r\nA: " + b"a" * 99]
)
async def test_a_head_that_does_not_come(tmp_path: Path, sent: bytes) -> None:
    async with served(tmp_path / "root", idle=0.2) as port:
        assert await closed_after(port, sent) == b""


FORM = "Content-Type: application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("PUT /v2/a/manifests/v1", "Content-Type: application/vnd.oci.image.manifest.v1+json"),
        ("PUT /v2/a/manifests/v1", "Transfer-Encoding: chunked"),
        (f"POST /v2/a/blobs/uploads/?digest=sha256:{'1' * 64}", "X: y"),
        ("PATCH /acr/v1/a", "X: y"),
        ("GET /v2/", "X: a body that nobody wants"),
        ("POST /v2/a/blobs/uploads/", "X: a body that nobody wants"),
    ],
)
@pytest.mark.usefixtures("impatient")
async def test_a_body_that_does_not_come(tmp_path: Path, line: str, field: str) -> None:
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root" / "a" / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (tmp_path / "root" / "a" / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    length = "" if "chunked" in field else "Content-Length: 1000\r\n"
    async with served(tmp_path / "root") as port:
        await closed_after(port, f"{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{field}\r\n{length}\r\n".encode())


@pytest.mark.parametrize(
    "line",
    ["POST /oauth2/token", "POST /oauth2/exchange", "PUT /v2/a/manifests/v1", "PATCH /v2/a/blobs/uploads/x"],
)
@pytest.mark.usefixtures("impatient")
async def test_a_stalled_body_of_an_unknown_client(tmp_path: Path, users: Path, line: str) -> None:
    async with served(tmp_path / "root", users) as port:
        head = f"{line} HTTP/1.1\r\nHost: x\r\n{FORM}\r\nContent-Length: 1000\r\n\r\n"
        await closed_after(port, head.encode())


@pytest.mark.usefixtures("impatient")
async def test_a_body_in_time_is_taken(tmp_path: Path, users: Path) -> None:
    form = b"grant_type=password&service=x&username=a&password=secret&scope=registry:catalog:*"
    head = f"POST /oauth2/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{FORM}\r\n"
    async with served(tmp_path / "root", users) as port:
        answer = await closed_after(port, f"{head}Content-Length: {len(form)}\r\n\r\n".encode() + form)
    assert answer.startswith(b"HTTP/1.1 200 ")


DIGEST = f"sha256:{'1' * 64}"


@pytest.mark.parametrize(
    ("line", "length"),
    [
        ("PUT /v2/a/manifests/v1", "Content-Length: 4000000"),
        ("PUT /v2/a/manifests/v1", "Transfer-Encoding: chunked"),
        (f"POST /v2/a/blobs/uploads/?digest={DIGEST}", "Content-Length: 4000000"),
        (f"POST /v2/a/blobs/uploads/?digest={DIGEST}", "Transfer-Encoding: chunked"),
        ("PATCH {session}", "Content-Length: 4000000"),
        ("PATCH {session}", "Transfer-Encoding: chunked"),
        ("PUT {session}?digest=" + DIGEST, "Transfer-Encoding: chunked"),
        ("PATCH /acr/v1/a/_tags/v1", "Content-Length: 4000"),
    ],
)
async def test_a_body_that_trickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, length: str
) -> None:
    monkeypatch.setattr(bodies, "STALLED_AFTER", 0.5)
    monkeypatch.setattr(listening, "LINGERING", 0.1)
    bit = b"1\r\n{\r\n" if "chunked" in length else b"{"
    async with served(tmp_path / "root") as port:
        host = f"Host: 127.0.0.1:{port}\r\n"
        begun = f"POST /v2/a/blobs/uploads/ HTTP/1.1\r\n{host}Connection: close\r\n\r\n".encode()
        head, _, _ = (await closed_after(port, begun)).decode().partition("\r\n\r\n")
        fields = dict(field.split(": ", 1) for field in head.split("\r\n")[1:])
        line = line.replace("{session}", fields["Location"])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{line} HTTP/1.1\r\n{host}{length}\r\n\r\n".encode())

        async def trickle() -> None:
            while True:
                writer.write(bit)
                await asyncio.sleep(0.05)

        sending = asyncio.create_task(trickle())
        try:
            with suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), SOON)
        finally:
            sending.cancel()
            writer.close()


class Sender:
    """A body with slow pieces, by its own clock; its reader waits once for each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *pieces: tuple[int, float]) -> None:
        self.now = 0.0
        self.content = self
        self._pieces = iter(pieces)
        monkeypatch.setattr(bodies, "time", SimpleNamespace(monotonic=lambda: self.now))

    async def readany(self) -> bytes:
        await asyncio.sleep(0)
        size, seconds = next(self._pieces, (0, 0.0))
        self.now += seconds
        return b"x" * size


async def taken(sender: Sender, between: float = 0.0) -> int:
    """The number of bytes until the end, or until the sender was dropped."""
    pieces, count = bodies.Pieces(sender), 0  # type: ignore[arg-type]
    with suppress(TimeoutError):
        while piece := await pieces.next():
            count += len(piece)
            sender.now += between
    return count


@pytest.mark.parametrize(
    ("size", "seconds", "comes"),
    [
        (8 << 10, 1.0, 100),  # 64 kbit/s
        (128, 1.0, 100),  # 1 kbit/s
        (4096, 59.0, 100),
        (1, 10.0, 6),
        (1, 0.0, 100),
        (60, 1.0, 60),
        (4095, 60.0, 1),
    ],
)
async def test_the_least_that_a_sender_must_bring(
    monkeypatch: pytest.MonkeyPatch, size: int, seconds: float, comes: int
) -> None:
    sender = Sender(monkeypatch, *[(size, seconds)] * 100)
    assert await taken(sender) == comes * size


async def test_only_time_spent_waiting_for_the_sender_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await taken(Sender(monkeypatch, *[(1, 0.1)] * 100), between=1000.0) == 100


@pytest.mark.parametrize("size", [2 << 20, 300 << 10])
@pytest.mark.usefixtures("impatient")
async def test_a_body_over_the_limit_is_413(tmp_path: Path, users: Path, size: int) -> None:
    head = f"POST /oauth2/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{FORM}\r\n"
    async with served(tmp_path / "root", users) as port:
        answer = await closed_after(port, f"{head}Content-Length: {size}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux's")
async def test_a_peer_that_reads_nothing(
    tmp_path: Path, users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = asyncio.Event()
    leave: Callable[[Peers, str], None] = Peers.leave

    def left(self: Peers, key: str) -> None:
        leave(self, key)
        gone.set()

    monkeypatch.setattr(listening, "GIVEN_UP_AFTER", 0.5)
    monkeypatch.setattr(Peers, "leave", left)
    async with served(tmp_path / "root", users) as port:
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            peer.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(peer, ("127.0.0.1", port))
            request = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
            sending = asyncio.create_task(loop.sock_sendall(peer, request * 300_000))
            try:
                await asyncio.wait_for(gone.wait(), SOON * 2)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)


# -- how many ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "share"),
    [
        ("192.0.2.1", 25),
        ("::ffff:192.0.2.1", 25),
        ("2001:db8::1", 25),
        ("127.0.0.1", 75),
        ("::1", 75),
        ("", 100),
    ],
)
def test_one_address_has_a_share(address: str, share: int) -> None:
    peers = Peers(100)
    keys = [key for _ in range(200) if (key := peers.enter(address)) is not None]
    assert len(keys) == share
    if address:
        assert peers.enter("198.51.100.7") is not None
    peers.leave(keys[0])
    assert peers.enter(address) is not None


def test_a_network_of_ipv6_is_one_peer() -> None:
    peers = Peers(100)
    inside = [peers.enter(f"2001:db8::{n:x}") for n in range(100)]
    assert len([key for key in inside if key is not None]) == 25
    assert peers.enter("2001:db8:0:1::1") is not None


def test_all_together_have_no_more_than_all() -> None:
    peers = Peers(10)
    keys = [peers.enter(f"192.0.2.{n}") for n in range(20)]
    assert len([key for key in keys if key is not None]) == 10
    assert peers.enter("127.0.0.1") is None
    for key in keys:
        if key is not None:
            peers.leave(key)
    assert peers.enter("127.0.0.1") is not None


def test_a_server_of_one_connection_serves_one() -> None:
    assert Peers(1).enter("192.0.2.1") is not None
    assert Peers(1).enter("127.0.0.1") is not None
