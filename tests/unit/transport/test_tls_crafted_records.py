"""Records of TLS 1.3 that no OpenSSL server sends, sealed with its key: both engines, no loop."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from crossdock.errors import TransportError
from crossdock.transport.tls import TlsEngine
from crossdock.transport.tls_door import TlsEngines
from unit.transport.engines import ENGINES, use_engine
from unit.transport.wire import pattern

CHANGE_CIPHER_SPEC, HANDSHAKE, DATA = 20, 22, 23
LARGEST = 1 << 14
ROOMS = [1, 13, LARGEST, LARGEST + 1, 1 << 18]


class Crafter:
    """Encrypts given records as the server of a session with a known secret (TLS_AES_256_GCM_SHA384)."""

    def __init__(self, secret: bytes) -> None:
        self._key = AESGCM(self._expanded(secret, b"key", 32))
        self._iv = self._expanded(secret, b"iv", 12)
        self._number = 0

    @staticmethod
    def _expanded(secret: bytes, label: bytes, size: int) -> bytes:
        """HKDF-Expand-Label without a context (RFC 8446 7.1)."""
        label = b"tls13 " + label
        info = struct.pack("!HB", size, len(label)) + label + b"\0"
        return HKDFExpand(SHA384(), size, info).derive(secret)

    def record(self, data: bytes, kind: int = DATA, padding: int = 0) -> bytes:
        """One record. Kind 0: no type and no padding, just `data`."""
        plain = data + (bytes([kind]) + bytes(padding) if kind else b"")
        header = b"\x17\3\3" + (len(plain) + 16).to_bytes(2, "big")
        counter = bytes(4) + self._number.to_bytes(8, "big")
        nonce = bytes(a ^ b for a, b in zip(self._iv, counter, strict=True))
        self._number += 1
        return header + self._key.encrypt(nonce, plain, header)


Opened = tuple[TlsEngine, Crafter]


@pytest.fixture(params=ENGINES)
def opened(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    client_tls: ssl.SSLContext,
    authority: trustme.CA,
    tmp_path: Path,
) -> Opened:
    """An engine after its handshake, and a crafter of the server's next records."""
    use_engine(request.param, monkeypatch)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.keylog_filename = str(tmp_path / "keys")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    engine = TlsEngines(lambda host, port: client_tls).engine_for("127.0.0.1", 443)
    while not engine.handshake():
        incoming.write(engine.take())
        with pytest.raises(ssl.SSLWantReadError):
            server.do_handshake()
        give(engine, outgoing.read())
    incoming.write(engine.take())
    server.do_handshake()
    cipher = server.cipher()
    assert cipher is not None
    assert cipher[0] == "TLS_AES_256_GCM_SHA384"
    lines = [line.split() for line in (tmp_path / "keys").read_text().splitlines() if line[:1] != "#"]
    secrets = {words[0]: bytes.fromhex(words[2]) for words in lines}
    return engine, Crafter(secrets["SERVER_TRAFFIC_SECRET_0"])


def give(engine: TlsEngine, data: bytes) -> None:
    engine.get_buffer()[: len(data)] = data
    engine.received(len(data))


def taken(engine: TlsEngine, room: int) -> bytes:
    """Read all plaintext through a zeroed buffer, which may contain nothing but plaintext afterwards."""
    plain = bytearray()
    while True:
        memory = bytearray(room)
        count = engine.read_into(memoryview(memory))
        plain += memory[:count]
        assert not any(memory[count:])
        if not count:
            return bytes(plain)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("padding", [1, 2, 255, 16000])
def test_padding_is_not_a_plaintext(opened: Opened, padding: int, room: int) -> None:
    engine, crafter = opened
    pieces = [pattern(size) for size in (1, 2, 300, LARGEST - padding, 1)]
    for piece in pieces:
        give(engine, crafter.record(piece, padding=padding))
        assert taken(engine, room) == piece
    give(engine, b"".join(crafter.record(piece, padding=padding) for piece in pieces))
    assert taken(engine, room) == b"".join(pieces)


@pytest.mark.parametrize("room", ROOMS)
def test_data_that_ends_in_zeros_or_looks_like_a_type_is_whole(opened: Opened, room: int) -> None:
    engine, crafter = opened
    pieces = [b"\0", b"\0" * 500, b"\x17" * 500, b"\x17" + bytes(LARGEST - 1), b"end"]
    give(engine, b"".join(crafter.record(piece) for piece in pieces))
    assert taken(engine, room) == b"".join(pieces)


@pytest.mark.parametrize("room", ROOMS)
def test_messages_and_empty_records_between_data_leave_no_trace(opened: Opened, room: int) -> None:
    engine, crafter = opened
    body = pattern(5000)
    ticket = b"\4" + (13 + 16).to_bytes(3, "big") + bytes(8) + b"\0" + b"\0\x10" + b"t" * 16 + b"\0\0"
    give(engine, crafter.record(body) + crafter.record(ticket, HANDSHAKE) + crafter.record(b"", padding=9))
    assert taken(engine, room) == body
    give(engine, crafter.record(ticket, HANDSHAKE, padding=3) + crafter.record(body))
    assert taken(engine, room) == body


HOSTILE: dict[str, Callable[[Crafter], bytes]] = {
    "nothing sealed": lambda crafter: crafter.record(b"", kind=0),
    "zeros only": lambda crafter: crafter.record(bytes(100), kind=0),
    "the most zeros": lambda crafter: crafter.record(bytes(LARGEST + 1), kind=0),
    "a byte too much data": lambda crafter: crafter.record(bytes(LARGEST) + b"d"),
    "an unknown type": lambda crafter: crafter.record(b"data", kind=99),
    "change_cipher_spec": lambda crafter: crafter.record(b"\1", CHANGE_CIPHER_SPEC),
    "a message cut in two by data": lambda crafter: (
        crafter.record(b"\4\0\0", HANDSHAKE) + crafter.record(b"data")
    ),
    "empty records without end": lambda crafter: b"".join(crafter.record(b"") for _ in range(1000)),
    "a number left out": lambda crafter: crafter.record(b"lost")[:0] + crafter.record(b"data"),
    "the same record again": lambda crafter: crafter.record(b"data") * 2,
}


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_record_against_the_rules_breaks_the_session(opened: Opened, name: str, room: int) -> None:
    engine, crafter = opened
    body = pattern(40_000)
    give(engine, b"".join(crafter.record(body[at : at + 10_000]) for at in range(0, 40_000, 10_000)))
    assert taken(engine, room) == body
    give(engine, HOSTILE[name](crafter))
    for _ in range(2):
        with pytest.raises(TransportError, match="the TLS session with 127"):
            taken(engine, room)
    engine.close()
    assert not engine.closed
