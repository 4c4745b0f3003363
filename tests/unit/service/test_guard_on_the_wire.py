"""Responses of registries, on real sockets: no host that they name is contacted against the guard.

The source is in the inventory. The inner server, which is not permitted, counts connections.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohappyeyeballs.utils import addr_to_addr_infos

from crossdock.api import copy, list_tags
from crossdock.errors import AddressRefused, CopyError, root_cause
from crossdock.imagebuilder import Content, ImageBuilder
from crossdock.inventory.values import Entry, Inventory
from crossdock.options import CopyOptions, Credentials, RegistryOptions
from crossdock.service.config import Sources
from crossdock.service.guard import SourceGuard
from crossdock.transport.connect import Resolver
from unit.registry.scripted_registry import Answer, PatientNetwork, ScriptedRegistry, Seen

PLAIN = RegistryOptions(plain_http=True, credentials=Credentials())


class Inner:
    """A server inside. `connections` counts who came, on whichever of its addresses."""

    def __init__(self) -> None:
        self.connections: list[str] = []
        self.port = 0

    def came(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer.get_extra_info("sockname")[0])
        writer.close()


class Source:
    """An image at ``app:v1`` of a registry; `says` has responses by path in place of the content."""

    def __init__(self, registry: ScriptedRegistry, builder: ImageBuilder) -> None:
        self.registry = registry
        self.builder = builder
        self.says: dict[str, Answer] = {}
        registry.handler = self._answer
        layer = builder.random_layer(5000)
        self.foreign = builder.foreign_layer(url="http://unset.example/")
        self.image = builder.image([layer])
        self.layer = layer

    def tag(self, content: Content) -> None:
        self.image = content

    def manifest_path(self) -> str:
        return "/v2/app/manifests/v1"

    def blob_path(self) -> str:
        return f"/v2/app/blobs/{self.layer.digest}"

    async def _answer(self, seen: Seen) -> Answer:
        await seen.read()
        if (answer := self.says.get(seen.path) or self.says.get("*")) is not None:
            return answer
        name = seen.path.rpartition("/")[2]
        if "/manifests/" in seen.path and name in ("v1", self.image.digest):
            kind = {"Content-Type": self.image.media_type, "Docker-Content-Digest": self.image.digest}
            return Answer(200, kind, self.builder.read(self.image))
        if "/blobs/" in seen.path and name in self.builder.digests():
            data = self.builder.read(name)
            if seen.range is not None:
                start, stop = seen.range
                return Answer(
                    206, {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}, data[start:stop]
                )
            return Answer(200, {}, data)
        return Answer(404)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def inner(stack: AsyncExitStack) -> Inner:
    inner = Inner()
    server = await asyncio.start_server(inner.came, "127.0.0.1", 0)
    stack.push_async_callback(server.wait_closed)
    stack.callback(server.close)
    inner.port = server.sockets[0].getsockname()[1]
    return inner


@pytest.fixture
async def source(stack: AsyncExitStack, tmp_path: Path) -> Source:
    registry = ScriptedRegistry()
    await registry.start()
    stack.push_async_callback(registry.stop)
    return Source(registry, ImageBuilder(tmp_path / "built", seed=7))


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Addresses of names in ``.test``, one for each time that they are looked up; the last one stays."""
    names: dict[str, list[str]] = {}
    real = Resolver._look_up

    async def look_up(self: Resolver, host: str, port: int) -> list[Any]:
        if not host.endswith(".test"):
            return await real(self, host, port)
        answers = names[host]
        addresses = (answers.pop(0) if len(answers) > 1 else answers[0]).split()
        return [info for each in addresses for info in addr_to_addr_infos((each, port)) or []]

    monkeypatch.setattr(Resolver, "_look_up", look_up)
    return names


def options(*login_servers: str, networks: tuple[str, ...] = (), **more: Any) -> CopyOptions:
    entries = tuple(Entry(name=f"r{n}", login_server=each) for n, each in enumerate(login_servers))
    sources = Sources(allow=("*",), private_addresses=tuple(ip_network(each) for each in networks))
    guard = SourceGuard(sources, Inventory(entries))
    values: dict[str, Any] = {"source": PLAIN, "target": PLAIN, "environ": {}, "network": PatientNetwork()}
    return CopyOptions(**values | {"guard": guard} | more)


async def refused_copy(source: Source, target: Path | str, chosen: CopyOptions) -> AddressRefused:
    where = f"oci:{target}:v1" if isinstance(target, Path) else target
    with pytest.raises(CopyError) as raised:
        await copy(f"{source.registry.host}/app:v1", where, chosen)
    cause = root_cause(raised.value)
    assert isinstance(cause, AddressRefused), repr(cause)
    assert f"({cause.rule})" in str(raised.value)
    return cause


def redirect(url: str) -> Answer:
    return Answer(307, {"Location": url})


Place = Callable[[Source], str]
WHERE: list[tuple[str, Place]] = [("manifest", Source.manifest_path), ("blob", Source.blob_path)]
INSIDE = [
    ("http://127.0.0.1:{port}/x", "loopback-address"),
    ("http://127.1:{port}/x", "loopback-address"),
    ("http://2130706433:{port}/x", "loopback-address"),
    ("http://[::ffff:127.0.0.1]:{port}/x", "loopback-address"),
    ("http://[::1]:{port}/x", "loopback-address"),
    ("http://localhost:{port}/x", "loopback-address"),
    ("http://inside.test:{port}/x", "loopback-address"),
    ("http://mixed.test:{port}/x", "loopback-address"),
    ("http://0.0.0.0:{port}/x", "unspecified-address"),
    ("http://169.254.169.254/latest/meta-data", "metadata-address"),
    ("http://metadata.google.internal/x", "metadata-address"),
    ("http://metadata.test/x", "metadata-address"),
    ("https://10.0.0.1/x", "private-address"),
    ("http://[fd00::1]/x", "private-address"),
]


@pytest.mark.parametrize(("name", "where"), WHERE, ids=[name for name, _ in WHERE])
@pytest.mark.parametrize(("url", "rule"), INSIDE, ids=[url for url, _ in INSIDE])
async def test_a_redirect_does_not_lead_inside(
    source: Source,
    inner: Inner,
    looked_up: dict[str, list[str]],
    tmp_path: Path,
    name: str,
    where: Place,
    url: str,
    rule: str,
) -> None:
    looked_up |= {
        "inside.test": ["127.0.0.1"],
        "mixed.test": ["8.8.8.8 127.0.0.1"],
        "metadata.test": ["169.254.169.254"],
    }
    source.says[where(source)] = redirect(url.format(port=inner.port))
    refused = await refused_copy(source, tmp_path / "target", options(source.registry.host))
    assert refused.rule == rule
    assert inner.connections == []


async def test_the_same_redirect_is_followed_to_a_registry_of_the_inventory(
    source: Source, inner: Inner, tmp_path: Path
) -> None:
    source.says[source.blob_path()] = redirect(f"http://127.0.0.1:{inner.port}/x")
    chosen = options(source.registry.host, f"127.0.0.1:{inner.port}")
    with pytest.raises(CopyError) as raised:
        await copy(f"{source.registry.host}/app:v1", f"oci:{tmp_path / 'target'}:v1", chosen)
    assert not isinstance(root_cause(raised.value), AddressRefused)
    assert set(inner.connections) == {"127.0.0.1"}


async def test_a_source_that_nobody_named_is_not_asked_inside(
    source: Source, looked_up: dict[str, list[str]], tmp_path: Path
) -> None:
    looked_up["public.test"] = ["127.0.0.1"]
    port = source.registry.port
    for host in ("public.test", "localhost", "127.0.0.1"):
        for plain_http in (True, None):
            how = RegistryOptions(plain_http=plain_http, credentials=Credentials())
            with pytest.raises(CopyError) as raised:
                await copy(f"{host}:{port}/app:v1", f"oci:{tmp_path}:v1", options(source=how))
            assert isinstance(root_cause(raised.value), AddressRefused)
    assert source.registry.seen == []


async def test_an_allowed_network_may_be_asked(source: Source, tmp_path: Path) -> None:
    chosen = options(networks=("127.0.0.0/8",))
    done = await copy(f"{source.registry.host}/app:v1", f"oci:{tmp_path / 'target'}:v1", chosen)
    assert done.digest == source.image.digest


async def test_a_token_realm_does_not_lead_inside(source: Source, inner: Inner, tmp_path: Path) -> None:
    challenge = f'Bearer realm="http://127.0.0.1:{inner.port}/token",service="x"'
    source.says["*"] = Answer(401, {"WWW-Authenticate": challenge})
    secret = RegistryOptions(plain_http=True, credentials=Credentials("u", "s3cr3t"))
    refused = await refused_copy(source, tmp_path / "t", options(source.registry.host, source=secret))
    assert refused.rule == "loopback-address"
    assert "s3cr3t" not in str(refused)
    assert inner.connections == []


async def test_a_redirect_of_the_token_service_does_not_lead_inside(
    source: Source, inner: Inner, tmp_path: Path
) -> None:
    source.says["*"] = Answer(401, {"WWW-Authenticate": f'Bearer realm="{source.registry.url}/token"'})
    source.says["/token"] = redirect(f"http://127.0.0.1:{inner.port}/token")
    refused = await refused_copy(source, tmp_path / "t", options(source.registry.host))
    assert refused.rule == "loopback-address"
    assert inner.connections == []


async def test_a_foreign_layers_url_does_not_lead_inside(
    source: Source, inner: Inner, tmp_path: Path
) -> None:
    builder = source.builder
    layer = builder.foreign_layer(url=f"http://127.0.0.1:{inner.port}/layer")
    source.tag(builder.image([layer]))
    source.says[f"/v2/app/blobs/{layer.digest}"] = Answer(404)
    chosen = options(source.registry.host, foreign_layers="copy")
    refused = await refused_copy(source, tmp_path / "target", chosen)
    assert refused.rule == "loopback-address"
    assert inner.connections == []


async def test_a_next_page_does_not_lead_inside(source: Source, inner: Inner) -> None:
    link = f'<http://127.0.0.1:{inner.port}/v2/app/tags/list?last=v1>; rel="next"'
    page = json.dumps({"name": "app", "tags": ["v1"]}).encode()
    source.says["/v2/app/tags/list"] = Answer(200, {"Link": link}, page)
    # Of the address only path and query count, and this registry has but one page.
    with pytest.raises(CopyError, match="repeats a page"):
        await list_tags(f"{source.registry.host}/app", options(source.registry.host))
    assert inner.connections == []


async def test_an_upload_location_does_not_lead_inside(source: Source, inner: Inner, tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "layout", seed=9)
    builder.tag(builder.image([builder.random_layer(3 << 20)]), "v1")
    uploads = "/v2/app/blobs/uploads/"
    source.says[uploads] = Answer(202, {"Location": f"http://127.0.0.1:{inner.port}{uploads}1"})
    with pytest.raises(CopyError) as raised:
        await copy(
            f"oci:{tmp_path / 'layout'}:v1", f"{source.registry.host}/app:v1", options(source.registry.host)
        )
    assert raised.value.side == "target"
    assert isinstance(root_cause(raised.value), AddressRefused)
    assert inner.connections == []


async def test_a_name_is_looked_up_once_and_its_first_address_is_the_one_connected_to(
    stack: AsyncExitStack, source: Source, looked_up: dict[str, list[str]], tmp_path: Path
) -> None:
    """Rebinding: the first answer is allowed, the next one would not be."""
    served, inner = Inner(), Inner()
    server = await asyncio.start_server(served.came, "127.0.0.2", 0)
    stack.push_async_callback(server.wait_closed)
    stack.callback(server.close)
    port = server.sockets[0].getsockname()[1]
    other = await asyncio.start_server(inner.came, "127.0.0.3", port)
    stack.push_async_callback(other.wait_closed)
    stack.callback(other.close)
    looked_up["rebinding.test"] = ["127.0.0.2", "127.0.0.3"]
    source.says[source.blob_path()] = redirect(f"http://rebinding.test:{port}/x")
    chosen = options(source.registry.host, networks=("127.0.0.2",))
    with pytest.raises(CopyError):
        await copy(f"{source.registry.host}/app:v1", f"oci:{tmp_path / 'target'}:v1", chosen)
    assert set(served.connections) == {"127.0.0.2"}
    assert inner.connections == []


async def test_a_name_that_becomes_private_later_is_refused_then(
    source: Source, inner: Inner, looked_up: dict[str, list[str]], tmp_path: Path
) -> None:
    looked_up["rebinding.test"] = ["127.0.0.9", "127.0.0.1"]  # nobody listens at the first
    source.says[source.blob_path()] = redirect(f"http://rebinding.test:{inner.port}/x")
    chosen = options(source.registry.host, networks=("127.0.0.9",))
    refused = await refused_copy(source, tmp_path / "target", chosen)
    assert refused.rule == "loopback-address"
    assert inner.connections == []


async def test_a_proxy_is_not_asked_for_what_is_inside_nor_to_look_names_up(
    source: Source, inner: Inner, tmp_path: Path
) -> None:
    proxy = f"http://127.0.0.1:{inner.port}"
    for url, rule in (("http://10.0.0.1/x", "private-address"), ("http://dns.test/x", "unchecked-proxy")):
        source.says[source.blob_path()] = redirect(url)
        environ = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy}
        refused = await refused_copy(source, tmp_path / "t", options(source.registry.host, environ=environ))
        assert refused.rule == rule
    assert inner.connections == []
