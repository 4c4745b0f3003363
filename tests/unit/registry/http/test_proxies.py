"""Which connections go through a proxy, and that they really do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator

import pytest

from crossdock.errors import ConnectFailed, InvalidOption, RegistryError
from crossdock.options import NetworkOptions
from crossdock.registry.client import NONE
from crossdock.registry.http.proxies import ProxySettings
from unit.registry.http.scripted import ClientUnderTest, ScriptedServer

PROXY = "http://proxy.example:3128"


def settings(**environ: str) -> ProxySettings:
    return ProxySettings.from_environ(environ)


def test_each_scheme_has_its_own_proxy() -> None:
    found = settings(HTTP_PROXY="http://a:1", HTTPS_PROXY="http://b:2")
    assert found.proxy_for("http", "r.example", 80) == "http://a:1"
    assert found.proxy_for("https", "r.example", 443) == "http://b:2"


def test_upper_case_wins_over_lower_case() -> None:
    assert (
        settings(HTTPS_PROXY="http://a:1", https_proxy="http://b:2").proxy_for("https", "r", 1)
        == "http://a:1"
    )
    assert settings(https_proxy="http://b:2").proxy_for("https", "r", 1) == "http://b:2"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("proxy.example", "http://proxy.example:80"),
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("http://u:p%40w@proxy.example:3128/", "http://u:p%40w@proxy.example:3128"),
        ("http://[fd00::1]:3128", "http://[fd00::1]:3128"),
        ("https://u:p@proxy.example", "https://u:p@proxy.example:443"),
        ("socks5://proxy.example", "socks5://proxy.example:1080"),
        ("socks5h://proxy.example:9050", "socks5h://proxy.example:9050"),
    ],
)
def test_addresses_are_completed(value: str, expected: str) -> None:
    assert settings(HTTPS_PROXY=value).proxy_for("https", "r.example", 443) == expected


@pytest.mark.parametrize("value", ["socks4://h:1", "http://", "http://h:99999", "ftp://h:1", "http://[::1"])
def test_an_unusable_proxy_is_refused_where_it_is_needed(value: str) -> None:
    found = settings(HTTPS_PROXY=value.replace("://", "://u:s3cret@"), NO_PROXY="direct.example")
    with pytest.raises(InvalidOption, match="HTTPS_PROXY") as caught:
        found.proxy_for("https", "r.example", 443)
    assert "s3cret" not in str(caught.value)
    assert found.proxy_for("http", "r.example", 80) is None
    for host in ("localhost", "127.0.0.1", "direct.example"):
        assert found.proxy_for("https", host, 443) is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]", "LOCALHOST"])
def test_loopback_is_never_proxied(host: str) -> None:
    assert settings(HTTPS_PROXY=PROXY).proxy_for("https", host, 443) is None


NO_PROXY = [
    ("*", "r.example", True),
    ("example", "r.example", True),
    ("r.example", "r.example", True),
    ("R.Example", "r.EXAMPLE", True),
    ("r.example", "r.example.", True),
    ("r.example", "x.r.example", True),
    ("r.example", "xr.example", False),
    (".example", "r.example", True),
    (".r.example", "r.example", False),
    ("*.example", "r.example", True),
    ("*.r.example", "r.example", False),
    ("r.example:443", "r.example", True),
    ("r.example:5000", "r.example", False),
    ("10.0.0.0/8", "10.1.2.3", True),
    ("10.0.0.0/8", "11.1.2.3", False),
    ("10.0.0.0/8", "r.example", False),
    ("10.1.2.3", "10.1.2.3", True),
    ("10.1.2.3:443", "10.1.2.3", True),
    ("2.3", "10.1.2.3", False),
    ("fd00::/8", "fd00::1", True),
    ("fd00:0::1", "fd00::1", True),
    ("[fd00::1]:443", "fd00::1", True),
    ("other.example , r.example", "r.example", True),
    ("", "r.example", False),
    ("nonsense/xx", "r.example", False),
]


@pytest.mark.parametrize(("entry", "host", "is_direct"), NO_PROXY)
def test_no_proxy_is_read_as_go_reads_it(entry: str, host: str, is_direct: bool) -> None:
    found = settings(HTTPS_PROXY=PROXY, NO_PROXY=entry).proxy_for("https", host, 443)
    assert (found is None) is is_direct


def test_settings_never_show_the_proxys_password() -> None:
    assert "s3cret" not in repr(settings(HTTPS_PROXY="http://u:s3cret@h:1"))


class ConnectProxy:
    """A proxy that tunnels every CONNECT to one server, and forwards plain requests to it, by their head."""

    def __init__(self, server: ScriptedServer, status: int = 200) -> None:
        self.server = server
        self.status = status
        self.heads: list[str] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[ConnectProxy]:
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head.decode())
            if self.status != 200:
                writer.write(f"HTTP/1.1 {self.status} no\r\nContent-Length: 0\r\n\r\n".encode())
                return
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.server.port)
            if head.startswith(b"CONNECT"):
                writer.write(b"HTTP/1.1 200 go\r\n\r\n")
            else:
                up_writer.write(head)
            await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))
        finally:
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
    writer.close()


async def test_plain_requests_carry_the_whole_url_and_the_proxys_credentials(
    registry: ScriptedServer,
) -> None:
    async with ConnectProxy(registry).listening() as proxy:
        environ = {"HTTP_PROXY": f"http://us%65r:p%40ss@127.0.0.1:{proxy.port}"}
        async with ClientUnderTest("registry.test", environ=environ, plain_http=True) as client:
            await client.request("GET", "/v2/", scope=NONE)
    assert proxy.heads[0].startswith("GET http://registry.test/v2/ HTTP/1.1")
    expected = base64.b64encode(b"user:p@ss").decode()
    assert f"Proxy-Authorization: Basic {expected}" in proxy.heads[0]


async def test_tls_goes_through_a_tunnel_that_sees_no_credentials_of_ours(
    tls_registry: ScriptedServer, ca: str
) -> None:
    async with ConnectProxy(tls_registry).listening() as proxy:
        environ = {"HTTPS_PROXY": f"http://user:pass@127.0.0.1:{proxy.port}"}
        async with ClientUnderTest("registry.test", environ=environ, ca_file=ca) as client:
            await client.request("GET", "/v2/", scope=NONE)
            exchange, head = await client.fetch("https://registry.test/v2/blob", scope=NONE)
            assert head.status == 200
            await exchange.read(100)
    assert [head.split("\r\n")[0] for head in proxy.heads] == [
        "CONNECT registry.test:443 HTTP/1.1"
    ]  # one connection for both
    for head in proxy.heads:
        assert "proxy-authorization: basic" in head.lower()
        assert "/v2/" not in head
    assert all("Proxy-Authorization" not in seen.headers for seen in tls_registry.seen)


@pytest.mark.parametrize("status", [407, 403])
async def test_a_proxy_that_refuses_is_reported(registry: ScriptedServer, status: int) -> None:
    async with ConnectProxy(registry, status).listening() as proxy:
        environ = {"HTTPS_PROXY": f"http://user:s3cret@127.0.0.1:{proxy.port}"}
        async with ClientUnderTest("registry.test", environ=environ) as client:
            with pytest.raises(
                ConnectFailed, match=f"the proxy .* refused to connect to .*: {status}"
            ) as caught:
                await client.request("GET", "/v2/", scope=NONE)
    assert "s3cret" not in str(caught.value)
    assert ("password" in str(caught.value.advice)) == (status == 407)


async def test_a_proxy_that_refuses_a_plain_request_is_reported(registry: ScriptedServer) -> None:
    async with ConnectProxy(registry, 407).listening() as proxy:
        environ = {"HTTP_PROXY": f"http://user:s3cret@127.0.0.1:{proxy.port}"}
        async with ClientUnderTest("registry.test", environ=environ, plain_http=True) as client:
            with pytest.raises(RegistryError, match="407: the proxy demands") as caught:
                await client.request("GET", "/v2/", scope=NONE)
    assert "password" in str(caught.value.advice)


async def test_a_proxy_that_is_not_there_is_reported(unused_port: int) -> None:
    environ = {"HTTPS_PROXY": f"http://user:s3cret@127.0.0.1:{unused_port}"}
    network = NetworkOptions(retries=0)
    async with ClientUnderTest("registry.test", environ=environ, network=network) as client:
        with pytest.raises(ConnectFailed, match=r"through the proxy .*: Connection refused") as caught:
            await client.request("GET", "/v2/", scope=NONE)
    assert "s3cret" not in str(caught.value)
