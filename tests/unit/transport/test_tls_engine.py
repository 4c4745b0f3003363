"""The interface of `crossdock_tls`, without a server."""

from __future__ import annotations

import pytest

rustls = pytest.importorskip("crossdock_tls")


def test_the_engine_holds_its_callers_to_its_interface():
    suites = [0x1301, 0x1302, 0xC02B]
    with pytest.raises(ValueError, match="none of the cipher suites"):
        rustls.Client(suites=[1], tls13=True)
    with pytest.raises(ValueError, match="belong together"):
        rustls.Client(suites=suites, tls13=True, certificate=b"")
    with pytest.raises(ValueError, match="the key cannot be used"):
        rustls.Client(suites=suites, tls13=True, certificate=b"", key=b"no key")
    client = rustls.Client(suites=suites, tls13=True)
    memory = rustls.Memory(65536)
    with pytest.raises(ValueError, match="invalid dns name"):
        client.session("no name", memory, print)
    with pytest.raises(ValueError, match="two records"):
        rustls.Memory(100)
    session = client.session("localhost", memory, print)
    assert not session.handshake()
    hello = session.take()
    assert hello[:1] == b"\x16"
    assert session.take() == b""
    for early in (lambda: session.write(b"data"), session.close):
        with pytest.raises(rustls.TlsError, match="not complete"):
            early()
    assert session.read_into(bytearray(10)) == 0
    with pytest.raises(BufferError):
        session.read_into(bytes(10))
    with pytest.raises(ValueError, match="more bytes than"):
        session.received(65537)
    session.received(65536)
    other = client.session("localhost", memory, print)
    with pytest.raises(BufferError, match="another session"):
        other.get_buffer()
    with pytest.raises(BufferError, match="full"):
        session.get_buffer()
    with pytest.raises(ValueError, match="more bytes than"):
        session.received(1)
    with pytest.raises(rustls.TlsError) as caught:
        session.handshake()  # zeros are no record
    assert caught.value.args[1] is None
    assert not session.closed
