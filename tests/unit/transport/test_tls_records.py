"""Records of every size and in every piece, alerts, key updates: both engines against OpenSSL, no loop."""

from __future__ import annotations

import itertools
import random
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import trustme

from crossdock.errors import ReadFailed, TlsFailed, TransportError
from crossdock.transport.tls import TlsEngine
from crossdock.transport.tls_door import TlsEngines
from crossdock.transport.tls_judge import _server_flight as server_flight
from support.process import free_port
from unit.transport.engines import ENGINES, use_engine
from unit.transport.wire import pattern

BODY = pattern(300_000)
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
ROOMS = [1, 13, 16383, 16384, 16385, 100_000, 1 << 20]


@pytest.fixture(params=ENGINES, autouse=True)
def engine_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    use_engine(request.param, monkeypatch)
    return str(request.param)


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    chosen: ssl.TLSVersion = request.param
    return chosen


@dataclass
class Wire:
    """An engine and an OpenSSL server, with bytes between them."""

    engine: TlsEngine
    server: ssl.SSLObject
    to_server: ssl.MemoryBIO
    from_server: ssl.MemoryBIO
    received: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes, room: int, piece: int = 1 << 30) -> None:
        """Give ciphertext to the engine in pieces; take the plaintext through a buffer of `room` bytes."""
        memory = memoryview(bytearray(room))
        while data:
            buffer = self.engine.get_buffer()
            count = min(len(buffer), len(data), piece)
            buffer[:count] = data[:count]
            data = data[count:]
            self.engine.received(count)
            while count := self.engine.read_into(memory):
                self.received += memory[:count]
            self.to_server.write(self.engine.take())

    def shake(self, piece: int = 1 << 30) -> None:
        """The handshake, the server's flight arriving in pieces."""
        done = self.engine.handshake()
        while True:
            self.to_server.write(self.engine.take())
            try:
                self.server.do_handshake()
            except ssl.SSLWantReadError:
                pass
            data = self.from_server.read()
            if done and not data:
                return
            while data:
                buffer = self.engine.get_buffer()
                count = min(piece, len(data), len(buffer))
                buffer[:count] = data[:count]
                data = data[count:]
                self.engine.received(count)
                if not done:
                    done = self.engine.handshake()
                else:  # session tickets
                    assert self.engine.read_into(memoryview(bytearray(1))) == 0

    def records(self, data: bytes, size: int) -> bytes:
        """`data` as the server encrypts it, in records of `size`."""
        for at in range(0, len(data), size):
            self.server.write(data[at : at + size])
        return self.from_server.read()


@pytest.fixture
def wire(client_tls: ssl.SSLContext, authority: trustme.CA, version: ssl.TLSVersion) -> Wire:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.maximum_version = version
    to_server, from_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, from_server, server_side=True)
    engine = TlsEngines(lambda host, port: client_tls).engine_for("127.0.0.1", 443)
    return Wire(engine, server, to_server, from_server)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("size", [1, 100, 16383, 16384, 1 << 20])
def test_records_of_every_size_arrive_whole_in_buffers_of_every_size(
    wire: Wire, size: int, room: int
) -> None:
    body = BODY[: 2_000 if size == 1 else len(BODY) if room > 13 else 40_000]
    wire.shake()
    wire.feed(wire.records(body, size), room)
    assert wire.received == body


@pytest.mark.parametrize("seed", range(5))
def test_records_and_pieces_and_buffers_of_random_sizes_arrive_whole(wire: Wire, seed: int) -> None:
    chance = random.Random(seed)
    wire.shake(piece=7)
    sent = bytearray()
    for _ in range(60):
        body = BODY[: int(2 ** chance.uniform(0, 17))]
        data = wire.records(body, int(2 ** chance.uniform(8, 15)))
        wire.feed(data, int(2 ** chance.uniform(6, 18)), int(2 ** chance.uniform(6, 19)))
        sent += body
    assert wire.received == sent


def test_a_handshake_and_a_record_arrive_byte_by_byte(wire: Wire) -> None:
    wire.shake(piece=1)
    wire.feed(wire.records(BODY[:1000], 600), 50, piece=1)
    assert wire.received == BODY[:1000]


def test_a_server_reads_the_written_request(wire: Wire) -> None:
    wire.shake()
    sizes = (1, 5, 16384, 16385, len(BODY))
    for size in sizes:
        wire.engine.write(memoryview(BODY)[:size])
    wire.to_server.write(wire.engine.take())
    got = bytearray()
    while len(got) < sum(sizes):
        got += wire.server.read(1 << 20)
    assert got == b"".join(BODY[:size] for size in sizes)


def test_ciphertext_that_waits_to_be_sent_is_not_written_over(wire: Wire) -> None:
    """Memory to send from is used again, but not while the loop holds it."""
    wire.shake()
    for waiting in (8, 1, 3):
        held = []
        for number in range(waiting):
            wire.engine.write(memoryview(BODY)[number : number + 100_000])
            held.append(wire.engine.take())
        for ciphertext in held:
            wire.to_server.write(ciphertext)
        got = bytearray()
        while len(got) < waiting * 100_000:
            got += wire.server.read(1 << 20)
        assert got == b"".join(BODY[number : number + 100_000] for number in range(waiting))


def test_unrequested_plaintext_waits_while_we_write(wire: Wire) -> None:
    """The sink is full: ciphertext has arrived, and a request's body continues."""
    wire.shake()
    data = wire.records(BODY[:100_000], 1 << 14)
    buffer = wire.engine.get_buffer()
    buffer[: len(data)] = data
    wire.engine.received(len(data))
    wire.engine.write(memoryview(b"more"))
    wire.to_server.write(wire.engine.take())
    assert wire.server.read(100) == b"more"
    wire.feed(wire.records(BODY[100_000:], 1 << 14), 5000)
    assert wire.received == BODY


def test_an_alert_in_the_middle_of_a_body_breaks_the_session(wire: Wire) -> None:
    wire.shake()
    wire.feed(wire.records(BODY, 1 << 14), 1 << 16)
    wire.to_server.write(b"\x17\x03\x03\x00\x20" + bytes(32))  # a record that nobody sealed
    with pytest.raises(ssl.SSLError):
        wire.server.read(1)
    with pytest.raises(ReadFailed, match=r"the TLS session with 127\.0\.0\.1 broke: .*bad record mac"):
        wire.feed(wire.from_server.read(), 1 << 16)
    assert wire.received == BODY
    assert not wire.engine.closed


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x17\x03\x03\x00\x20" + bytes(32),
        b"\x17\x03\x03\xff\xff" + bytes(70_000),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x14\x03\x03\x00\x02\x01\x01",
    ],
    ids=["unsealed", "oversized", "no record", "change cipher spec"],
)
def test_bytes_that_are_not_a_record_of_the_session_break_it(wire: Wire, garbage: bytes) -> None:
    wire.shake()
    wire.feed(wire.records(BODY, 1 << 14), 1 << 16)
    with pytest.raises(ReadFailed, match=r"the TLS session with 127\.0\.0\.1 broke"):
        wire.feed(garbage, 1 << 16)
    assert wire.received == BODY
    assert not wire.engine.closed


@pytest.mark.parametrize("at", [0, 4, 5, 100, -1])
def test_a_bit_that_turns_is_found_wherever_it_is(wire: Wire, at: int) -> None:
    wire.shake()
    data = bytearray(wire.records(BODY[:16384], 1 << 14))
    data[at] ^= 4
    try:
        wire.feed(bytes(data), 1 << 16)
        wire.feed(wire.records(BODY[:16384], 1 << 14), 1 << 16)  # the header may have named a longer record
    except TransportError:
        pass
    else:
        pytest.fail("nobody saw it")
    assert wire.received == b""


def test_a_fault_among_handshake_messages_of_one_record_is_an_error_as_any_other(
    client_tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    engine = TlsEngines(lambda host, port: client_tls).engine_for("127.0.0.1", 443)
    assert not engine.handshake()
    suite = next(suite["id"] & 0xFFFF for suite in client_tls.get_ciphers() if suite["protocol"] == "TLSv1.2")
    chain = [ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode())]
    hello = server_flight([], suite)
    certificates = server_flight(chain, suite)[len(hello) - 7 :]
    record = hello[5:-7] + 3 * certificates  # the second is one too many, with a third still to be looked at
    engine.take()
    buffer = engine.get_buffer()
    flight = b"\x16\x03\x03" + len(record).to_bytes(2, "big") + record
    buffer[: len(flight)] = flight
    engine.received(len(flight))
    with pytest.raises(TlsFailed):
        engine.handshake()
    assert engine.take()[:1] == b"\x15"  # the peer is told by an alert


def test_bytes_after_close_notify_are_ignored(wire: Wire) -> None:
    wire.shake()
    data = wire.records(BODY, 1 << 14)
    with pytest.raises(ssl.SSLWantReadError):
        wire.server.unwrap()
    wire.feed(data + wire.from_server.read() + b"garbage" * 100, 1 << 16)
    assert wire.received == BODY
    assert wire.engine.closed
    wire.feed(b"more garbage", 1 << 16)
    assert wire.received == BODY


@dataclass
class OpenSsl:
    """``openssl s_server``: it sends its input, except for its commands of one letter."""

    process: subprocess.Popen[bytes]
    port: int

    def type(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def until(self, words: bytes) -> None:
        """Read its output up to a line with these words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if words in line:
                return
        pytest.fail(f"s_server ended without {words!r}")


@pytest.fixture
def openssl(authority: trustme.CA, tmp_path, version: ssl.TLSVersion) -> Iterator[OpenSsl]:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    port = free_port()
    flag = {ssl.TLSVersion.TLSv1_2: "-tls1_2", ssl.TLSVersion.TLSv1_3: "-tls1_3"}[version]
    argv = [
        "openssl",
        "s_server",
        "-accept",
        f"127.0.0.1:{port}",
        "-cert",
        str(tmp_path / "server.pem"),
        flag,
    ]
    process = subprocess.Popen(
        [*argv, "-naccept", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    server = OpenSsl(process, port)
    server.until(b"ACCEPT")
    yield server
    process.kill()
    process.communicate()


@dataclass
class Talk:
    """An engine on a blocking socket."""

    engine: TlsEngine
    socket: socket.socket

    def shake(self) -> None:
        while not self.engine.handshake():
            self._exchange()
        self.socket.sendall(self.engine.take())

    def say(self, line: bytes) -> None:
        self.engine.write(memoryview(line + b"\n"))
        self.socket.sendall(self.engine.take())

    def hear(self, line: bytes) -> None:
        """The next plaintext is this line."""
        memory, heard = memoryview(bytearray(5)), bytearray()
        while len(heard) <= len(line):
            if count := self.engine.read_into(memory):
                heard += memory[:count]
            else:
                self._exchange()
        assert heard == line + b"\n"

    def notice(self) -> None:
        """Process the next records, which have no plaintext. Only then may more be typed: a command drops the
        rest."""
        self._exchange()
        assert self.engine.read_into(memoryview(bytearray(5))) == 0
        self.socket.sendall(self.engine.take())

    def _exchange(self) -> None:
        self.socket.sendall(self.engine.take())
        count = self.socket.recv_into(self.engine.get_buffer())
        assert count, "the server has closed"
        self.engine.received(count)


@pytest.fixture
def talk(openssl: OpenSsl, client_tls: ssl.SSLContext) -> Iterator[Talk]:
    client_tls.options |= ssl.OP_NO_RENEGOTIATION  # as of `registry.tls`
    engine = TlsEngines(lambda host, port: client_tls).engine_for("127.0.0.1", openssl.port)
    with socket.create_connection(("127.0.0.1", openssl.port), timeout=20) as sock:
        talk = Talk(engine, sock)
        talk.shake()
        yield talk


@pytest.mark.real
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3], indirect=True, ids=lambda v: v.name)
def test_keys_are_updated_when_the_server_wants_it(openssl: OpenSsl, talk: Talk) -> None:
    """``K``: the server updates its key and requests an update of ours; ``k``: only its own."""
    for number, command in enumerate(itertools.chain(b"KkKKkk")):
        openssl.type(b"before %d" % number)
        talk.hear(b"before %d" % number)
        openssl.type(bytes([command]))
        talk.notice()
        openssl.type(b"after %d" % number)
        talk.hear(b"after %d" % number)
        talk.say(b"heard %d" % number)
        openssl.until(b"heard %d" % number)


@pytest.mark.real
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2], indirect=True, ids=lambda v: v.name)
def test_a_renegotiation_is_refused(openssl: OpenSsl, talk: Talk) -> None:
    """``r`` requests one. OpenSSL's server ends the session after the refusal."""
    openssl.type(b"before")
    talk.hear(b"before")
    openssl.type(b"r")
    talk.notice()
    with pytest.raises(ReadFailed, match="handshake failure"):
        talk.hear(b"after")
