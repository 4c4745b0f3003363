"""Which certificates are trusted and shown."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from cryptography.hazmat.primitives import serialization

from crossdock.cli.advice import advice_text
from crossdock.errors import (
    Advice,
    CopyError,
    InvalidOption,
    TlsFailed,
    TransportError,
)
from crossdock.options import NetworkOptions, RegistryOptions
from crossdock.registry.client import NONE
from crossdock.registry.http.tls import TlsContexts, certs_dirs
from crossdock.steps import during
from unit.registry.http.scripted import ClientUnderTest, ScriptedServer


def certs_d(home: Path, host: str) -> Path:
    directory = home / ".config" / "containers" / "certs.d" / host
    directory.mkdir(parents=True)
    return directory


async def ping(host: str, **options: object) -> None:
    environ = options.pop("environ", {})
    async with ClientUnderTest(host, environ=environ, **options) as client:  # type: ignore[arg-type]
        await client.request("GET", "/v2/", scope=NONE)


async def test_an_unknown_authority_is_refused_with_the_flag_that_helps(tls_registry: ScriptedServer) -> None:
    for side, flag in (("source", "--src-ca"), ("target", "--dest-ca")):
        with (
            pytest.raises(CopyError) as caught,
            during("resolve", side, f"{tls_registry.host}/a:b"),
        ):
            await ping(tls_registry.host, side=side)
        assert re.match(r"GET https://.*certificate of .* was refused", str(caught.value.cause))
        assert isinstance(caught.value.cause, TlsFailed)
        assert caught.value.advice == Advice("give-ca", side=side, registry=tls_registry.host)
        said = advice_text(caught.value.advice)
        assert f"with {flag}" in said
        assert " or --" not in said  # the other side's flag would not help
    assert tls_registry.seen == []


async def test_a_given_authority_is_trusted(tls_registry: ScriptedServer, ca: Path) -> None:
    await ping(tls_registry.host, ca_file=ca)
    assert tls_registry.seen


async def test_a_certificate_for_another_name_is_refused(authority: trustme.CA, ca: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.test").configure_cert(context)
    async with ScriptedServer(lambda request: web.Response(), context) as server:
        with pytest.raises(TlsFailed, match="not valid for"):
            await ping(server.host, ca_file=ca)


async def test_a_given_authority_means_https_even_on_loopback(registry: ScriptedServer, ca: Path) -> None:
    with pytest.raises(TlsFailed) as caught:
        await ping(registry.host, ca_file=ca)
    assert caught.value.advice == Advice("plain-http")
    assert registry.seen == []


async def test_certs_d_of_the_host_and_port_is_trusted(
    tls_registry: ScriptedServer, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(certs_d(tmp_path, tls_registry.host) / "ca.crt"))
    await ping(tls_registry.host, environ={"HOME": str(tmp_path)})
    assert tls_registry.seen


async def test_certs_d_of_another_port_is_not(
    tls_registry: ScriptedServer, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(certs_d(tmp_path, "127.0.0.1:1") / "ca.crt"))
    with pytest.raises(TlsFailed):
        await ping(tls_registry.host, environ={"HOME": str(tmp_path)})


@pytest.fixture
def mutual_tls(server_tls: ssl.SSLContext, authority: trustme.CA) -> ssl.SSLContext:
    """A server's context that demands a client certificate."""
    server_tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server_tls)
    return server_tls


def client_pair(authority: trustme.CA, directory: Path, name: str = "client") -> tuple[Path, Path]:
    issued = authority.issue_cert("client.test")
    cert, key = directory / f"{name}.cert", directory / f"{name}.key"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    return cert, key


async def test_a_client_certificate_is_shown(
    mutual_tls: ssl.SSLContext, authority: trustme.CA, ca: Path, tmp_path: Path
) -> None:
    cert, key = client_pair(authority, tmp_path)
    async with ScriptedServer(lambda request: web.Response(text="{}"), mutual_tls) as server:
        await ping(server.host, ca_file=ca, cert_file=cert, key_file=key)
        both = tmp_path / "both.pem"
        both.write_bytes(cert.read_bytes() + key.read_bytes())
        await ping(server.host, ca_file=ca, cert_file=both)
        with pytest.raises(TransportError):
            await ping(server.host, ca_file=ca, network=NetworkOptions(retries=0))


async def test_a_client_certificate_of_certs_d_is_shown(
    mutual_tls: ssl.SSLContext, authority: trustme.CA, tmp_path: Path
) -> None:
    async with ScriptedServer(lambda request: web.Response(text="{}"), mutual_tls) as server:
        directory = certs_d(tmp_path, server.host)
        authority.cert_pem.write_to_path(str(directory / "ca.crt"))
        client_pair(authority, directory)
        await ping(server.host, environ={"HOME": str(tmp_path)})


async def test_a_client_certificate_does_not_follow_a_redirect(
    mutual_tls: ssl.SSLContext, authority: trustme.CA, ca: Path, tmp_path: Path
) -> None:
    cert, key = client_pair(authority, tmp_path)
    async with (
        ScriptedServer(lambda request: web.Response(), mutual_tls) as storage,
        ScriptedServer(
            lambda request: web.Response(status=307, headers={"Location": f"{storage.url}/x"}), mutual_tls
        ) as server,
    ):
        with pytest.raises(TransportError, match=storage.host):
            await ping(
                server.host, ca_file=ca, cert_file=cert, key_file=key, network=NetworkOptions(retries=0)
            )
        assert server.seen
        assert storage.seen == []


def contexts(base: Path | None = None, **options: object) -> TlsContexts:
    return TlsContexts(
        RegistryOptions(**options),  # type: ignore[arg-type]
        side="source",
        host="r.example",
        port=443,
        base_dirs=[base] if base else (),
    )


def test_contexts_are_made_once_and_shared_where_nothing_differs(
    ca: Path, authority: trustme.CA, tmp_path: Path
) -> None:
    cert, key = client_pair(authority, tmp_path)
    found = contexts(ca_file=ca, cert_file=cert, key_file=key)
    own = found.settings_for("r.example", 443).context
    assert own is found.settings_for("R.example", 443).context
    cdn = found.settings_for("cdn.example", 443).context
    assert cdn is found.settings_for("other.example", 8443).context
    assert cdn is not own
    for context in (own, cdn):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname


def test_the_default_port_may_be_left_out_of_the_directorys_name(
    tmp_path: Path, authority: trustme.CA
) -> None:
    (tmp_path / "r.example").mkdir()
    found = contexts(tmp_path)
    assert found.settings_for("r.example", 443).context is not found.settings_for("cdn.example", 443).context


def test_the_persons_own_directories_come_first() -> None:
    names = [str(path) for path in certs_dirs({"HOME": "/h"})]
    assert names == [
        "/h/.config/containers/certs.d",
        "/h/.config/docker/certs.d",
        "/etc/containers/certs.d",
        "/etc/docker/certs.d",
    ]
    assert len(certs_dirs({})) == 2


def test_files_that_cannot_be_used_are_named(tmp_path: Path, authority: trustme.CA, ca: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    cert, key = client_pair(authority, tmp_path)
    locked = tmp_path / "locked.key"
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"s3cret"),
        )
    )
    cases = [
        ({"ca_file": tmp_path / "none"}, "CA file .*none cannot be read: No such file"),
        ({"ca_file": empty}, "CA file .*empty.pem holds no certificate"),
        ({"cert_file": cert, "key_file": empty}, "client certificate .*cannot be used"),
        ({"cert_file": cert, "key_file": tmp_path / "none"}, "client certificate .*none cannot be read"),
        ({"cert_file": cert}, "client certificate .*cannot be used"),
        ({"cert_file": cert, "key_file": locked}, "locked.key is encrypted"),
    ]
    for options, words in cases:
        with pytest.raises(InvalidOption, match=words):
            contexts(**options).settings_for("r.example", 443)


def test_a_client_certificate_without_its_key_is_named(tmp_path: Path, authority: trustme.CA) -> None:
    directory = tmp_path / "r.example"
    directory.mkdir()
    client_pair(authority, directory)[1].unlink()
    with pytest.raises(InvalidOption, match=r"client.cert has no key client.key"):
        contexts(tmp_path).settings_for("r.example", 443)
