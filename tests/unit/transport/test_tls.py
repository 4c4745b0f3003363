"""Errors of TLS, and that a truncated TLS stream is never a complete body."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
import threading

import pytest
import trustme

from crossdock.errors import (
    Advice,
    ReadFailed,
    TimedOut,
    TlsFailed,
)
from crossdock.options import NetworkOptions
from crossdock.transport.client import HttpClient
from crossdock.transport.tls_door import TlsEngines
from unit.transport.engines import ENGINES, use_engine
from unit.transport.wire import Memory, Peer, Server, always, ok, pattern, request_to

BODY = pattern(1_000_000)


@pytest.fixture(params=ENGINES, autouse=True)
def engine(request, monkeypatch):
    """Everything here holds for both engines."""
    use_engine(request.param, monkeypatch)
    return request.param


@pytest.fixture
def serve_tls(stack):
    """Starts a server with `certificate`, and makes a client whose context `trust` has set up."""

    async def start(certificate, trust):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        server = await stack.enter_async_context(Server(always(ok(BODY)), context))
        client_context = ssl.create_default_context()
        trust(client_context)
        client = HttpClient(NetworkOptions(), lambda host, port: client_context, lambda *origin: None)
        stack.push_async_callback(client.close)
        return server, client

    return start


async def get(client, url):
    exchange = await client.send(request_to("GET", url))
    await exchange.response()
    sink = Memory(len(BODY))
    await exchange.receive(sink)
    return sink.content


async def test_an_unknown_authority_is_refused_with_the_way_out(serve_tls):
    server, client = await serve_tls(trustme.CA().issue_cert("127.0.0.1"), lambda context: None)
    with pytest.raises(
        TlsFailed, match=r"certificate of 127\.0\.0\.1 was refused: unable to get local"
    ) as caught:
        await get(client, server.url)
    assert caught.value.advice == Advice("give-ca")
    assert not caught.value.retryable


async def test_a_wrong_name_is_refused(serve_tls):
    authority = trustme.CA()
    server, client = await serve_tls(authority.issue_cert("registry.example"), authority.configure_trust)
    with pytest.raises(TlsFailed, match="mismatch") as caught:
        await get(client, server.url)
    assert caught.value.advice == Advice("use-certified-name")


async def test_an_expired_certificate_is_refused(serve_tls):
    authority = trustme.CA()
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate = authority.issue_cert("127.0.0.1", not_after=yesterday)
    server, client = await serve_tls(certificate, authority.configure_trust)
    with pytest.raises(TlsFailed, match="expired") as caught:
        await get(client, server.url)
    assert caught.value.advice == Advice("renew-certificate")


async def test_a_self_signed_certificate_serves_when_it_is_given_as_its_own_authority(serve_tls, tmp_path):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = tmp_path / "self.pem"
    chain.write_bytes(private + pem)

    class SelfSigned:
        def configure_cert(self, context: ssl.SSLContext) -> None:
            context.load_cert_chain(chain)

    server, client = await serve_tls(
        SelfSigned(), lambda context: context.load_verify_locations(cadata=pem.decode())
    )
    assert await get(client, f"https://localhost:{server.port}") == BODY
    server, client = await serve_tls(SelfSigned(), lambda context: None)
    with pytest.raises(TlsFailed, match="self-signed") as caught:
        await get(client, f"https://localhost:{server.port}")
    assert caught.value.advice == Advice("give-ca")


@pytest.fixture
def mutual_tls(authority):
    """The port of a server on blocking sockets, which wants a client certificate.

    OpenSSL on a socket sends the alert of a refusal; asyncio's servers lose it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    def serve() -> None:
        while True:
            raw, _ = listener.accept()
            if over.is_set():
                raw.close()
                return
            with raw, context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False) as peer:
                try:
                    peer.do_handshake()
                    peer.recv(65536)
                    peer.sendall(ok(BODY))
                    peer.recv(1)
                except OSError:
                    with contextlib.suppress(OSError):  # the client may be gone
                        socket.socket.shutdown(peer, socket.SHUT_WR)
                        while socket.socket.recv(peer, 65536):
                            pass

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        yield port
        over.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_missing_client_certificate_is_named_and_a_given_one_serves(
    authority, mutual_tls, stack, version
):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.maximum_version = version
    url = f"https://127.0.0.1:{mutual_tls}"
    client = HttpClient(NetworkOptions(), lambda host, port: context, lambda *origin: None)
    stack.push_async_callback(client.close)
    with pytest.raises(TlsFailed, match="refused the TLS") as caught:
        await get(client, url)
    assert caught.value.advice is not None
    assert caught.value.advice.kind == "client-certificate"
    authority.issue_cert("client@example.org").configure_cert(context)
    assert await get(client, url) == BODY


async def test_a_server_of_plain_http_is_called_that(stack, new_client):
    async def plain(peer: Peer) -> None:
        await peer.reader.read(100)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await peer.closed()

    server = await stack.enter_async_context(Server(plain))
    with pytest.raises(TlsFailed, match="does not speak TLS") as caught:
        await get(new_client(), f"https://127.0.0.1:{server.port}")
    assert caught.value.advice == Advice("plain-http")


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_server_that_goes_during_the_handshake_is_worth_another_try(stack, new_client, end):
    async def goes(peer: Peer) -> None:
        await peer.reader.read(100)
        if end == "reset":
            peer.reset()

    server = await stack.enter_async_context(Server(goes))
    with pytest.raises(TlsFailed, match="during the TLS handshake") as caught:
        await get(new_client(), f"https://127.0.0.1:{server.port}")
    assert caught.value.retryable


async def test_a_silent_server_is_given_up_within_the_connect_timeout(stack, new_client):
    async def silent(peer: Peer) -> None:
        await peer.closed()

    server = await stack.enter_async_context(Server(silent))
    with pytest.raises(TimedOut, match="no connection to") as caught:
        await get(new_client(connect_timeout=0.1), f"https://127.0.0.1:{server.port}")
    assert caught.value.phase == "connect"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("turns a bit", r"the TLS session with 127\.0\.0\.1 broke"),
        ("ends", rf"the body ended after \d+ of {len(BODY)} bytes"),
        ("resets", rf"the body ended after \d+ of {len(BODY)} bytes"),
    ],
)
async def test_a_fault_inside_a_record_is_never_the_end_of_a_body(stack, client_tls, server_tls, fault, said):
    """A proxy in the middle that does not know about records."""

    async def faulty(peer: Peer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)

        async def up() -> None:
            while data := await peer.reader.read(65536):
                writer.write(data)

        sending = asyncio.ensure_future(up())
        seen = 0
        try:
            while data := await reader.read(65536):
                at = 100_000 - seen
                seen += len(data)
                if not 0 <= at < len(data):
                    await peer.send(data)
                elif fault == "turns a bit":
                    await peer.send(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
                else:
                    await peer.send(data[:at])
                    if fault == "resets":
                        peer.reset()
                    return
        finally:
            writer.close()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    upstream = await stack.enter_async_context(Server(always(ok(BODY)), server_tls))
    server = await stack.enter_async_context(Server(faulty))
    client = HttpClient(NetworkOptions(), lambda host, port: client_tls, lambda *origin: None)
    stack.push_async_callback(client.close)
    with pytest.raises(ReadFailed, match=said) as caught:
        await get(client, f"https://127.0.0.1:{server.port}")
    assert caught.value.retryable


def test_an_engine_gives_the_same_plaintext_for_every_size_of_buffer(client_tls, server_tls, engine):
    engine_name = engine
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = server_tls.wrap_bio(incoming, outgoing, server_side=True)
    engine = TlsEngines(lambda host, port: client_tls).engine_for("127.0.0.1", 443)
    assert type(engine).__name__.lower() == f"{engine_name}engine"

    def to_engine() -> None:
        while outgoing.pending:
            data = outgoing.read(len(engine.get_buffer()))
            engine.get_buffer()[: len(data)] = data
            engine.received(len(data))

    done = False
    while not done:
        done = engine.handshake()
        incoming.write(engine.take())
        try:
            peer.do_handshake()
        except ssl.SSLWantReadError:
            pass
        to_engine()
    for size in (1, 100, 16384, 16385, 100_000):
        peer.write(BODY[:100_000])
        to_engine()
        plain = b""
        room = memoryview(bytearray(size))
        while count := engine.read_into(room):
            plain += room[:count]
        assert plain == BODY[:100_000]
    engine.write(memoryview(BODY))
    incoming.write(engine.take())
    assert b"".join(peer.read(16384) for _ in range(62)) == BODY
    assert not engine.closed
    with pytest.raises(ssl.SSLWantReadError):
        peer.unwrap()
    to_engine()
    assert engine.read_into(room) == 0
    assert engine.closed


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_only_close_notify_ends_a_body_that_nothing_else_frames(
    authority, client_tls, stack, version, in_order
):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.maximum_version = version

    def serve() -> None:
        while True:
            raw, _ = listener.accept()
            if over.is_set():
                raw.close()
                return
            with raw, context.wrap_socket(raw, server_side=True) as peer:
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
                with contextlib.suppress(OSError):  # the client may be gone
                    if in_order:
                        peer.unwrap()
                    else:
                        socket.socket.shutdown(peer, socket.SHUT_WR)
                        socket.socket.recv(peer, 1)

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=serve)
        thread.start()
        client = HttpClient(NetworkOptions(), lambda host, port: client_tls, lambda *origin: None)
        stack.push_async_callback(client.close)
        try:
            if in_order:
                assert await get(client, f"https://127.0.0.1:{port}") == BODY
            else:
                with pytest.raises(ReadFailed):
                    await get(client, f"https://127.0.0.1:{port}")
        finally:
            await client.close()
            over.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()
