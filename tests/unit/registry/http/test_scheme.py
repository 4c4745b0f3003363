"""HTTPS or plain HTTP, found out without telling anything."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from crossdock.errors import ConnectFailed
from crossdock.options import RegistryOptions
from crossdock.registry.http import scheme
from crossdock.registry.http.scheme import choose_scheme, speaks_tls, split_host
from unit.registry.http.scripted import ClientUnderTest, ScriptedServer


async def chosen(host: str, **options: object) -> str:
    return await choose_scheme(host, RegistryOptions(**options), 5)  # type: ignore[arg-type]


async def test_hosts_elsewhere_are_https_and_nobody_asks_them() -> None:
    assert await chosen("registry.example") == "https"
    assert await chosen("10.0.0.1:5000") == "https"


async def test_explicit_settings_count() -> None:
    assert await chosen("registry.example", plain_http=True) == "http"
    assert await chosen("127.0.0.1:1", plain_http=True) == "http"
    assert await chosen("127.0.0.1:1", plain_http=False) == "https"
    assert await chosen("127.0.0.1:1", ca_file=Path("ca.pem")) == "https"
    assert await chosen("127.0.0.1:1", cert_file=Path("me.pem")) == "https"


async def test_loopback_without_tls_is_plain(registry: ScriptedServer) -> None:
    assert await chosen(registry.host) == "http"
    assert await chosen(f"localhost:{registry.port}") == "http"


async def test_loopback_with_tls_is_https_whoever_signed_it(tls_registry: ScriptedServer) -> None:
    assert await chosen(tls_registry.host) == "https"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_the_hello_is_one_that_servers_answer_by_a_handshake(
    server_tls: ssl.SSLContext, host: str, version: ssl.TLSVersion
) -> None:
    server_tls.minimum_version = server_tls.maximum_version = version
    names: list[str | None] = []
    server_tls.sni_callback = lambda _, name, __: names.append(name)
    server_tls.set_alpn_protocols(["http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = server_tls.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(scheme._client_hello(host))
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    assert outgoing.read(1) == b"\x16"
    if version is ssl.TLSVersion.TLSv1_2:  # of TLS 1.3 the callback waits for the second hello
        assert names == ["localhost" if host == "localhost" else None]


@contextlib.asynccontextmanager
async def answering(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object],
) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await serve(reader, writer)  # type: ignore[misc]
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_an_alert_is_tls_too() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"\x15\x03\x01\x00\x02\x02\x28")

    async with answering(serve) as port:
        assert await speaks_tls("127.0.0.1", port, 5)


async def test_a_server_that_hangs_up_is_plain() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with answering(serve) as port:
        assert not await speaks_tls("127.0.0.1", port, 5)


async def test_a_server_that_waits_for_a_line_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheme, "_SILENCE_S", 0.01)
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with answering(serve) as port:
        assert not await speaks_tls("127.0.0.1", port, 5)
    assert heard[0][0] == 0x16


async def test_a_server_that_says_nothing_is_plain_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheme, "_SILENCE_S", 0.01)
    monkeypatch.setattr(scheme, "_BOUND_S", 0.05)
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()

    async with answering(serve) as port:
        assert not await speaks_tls("127.0.0.1", port, 5)
        release.set()


async def test_nothing_listening_is_an_error_and_asked_again_next_time(unused_port: int) -> None:
    async with ClientUnderTest(f"127.0.0.1:{unused_port}") as client:
        for _ in range(2):
            with pytest.raises(ConnectFailed, match="Connection refused"):
                await client.base_url()


async def test_many_tasks_find_out_once(monkeypatch: pytest.MonkeyPatch, registry: ScriptedServer) -> None:
    probes = 0

    async def counted(host: str, port: int, connect_timeout: float) -> bool:
        nonlocal probes
        probes += 1
        return await speaks_tls(host, port, connect_timeout)

    monkeypatch.setattr(scheme, "speaks_tls", counted)
    async with ClientUnderTest(registry.host) as client:
        found = await asyncio.gather(*(client.base_url() for _ in range(8)))
        assert {str(each.origin) for each in found} == {registry.url}
        assert str((await client.base_url()).origin) == registry.url
    assert probes == 1


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("r.example", ("r.example", None)),
        ("r.example:5000", ("r.example", 5000)),
        ("r.example:80", ("r.example", 80)),
        ("[::1]", ("::1", None)),
        ("[::1]:5000", ("::1", 5000)),
    ],
)
def test_a_host_is_split(host: str, expected: tuple[str, int | None]) -> None:
    assert split_host(host) == expected
