"""Bodies with and without a Content-Encoding."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import LimitExceeded, ProtocolError
from crossdock.protocol.contentcoding import Decoder, can_decode, coding_of, decoded, decoded_start

BODY = b'{"schemaVersion": 2}' * 500


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def pieces(decoder: Decoder, data: bytes, step: int, room: int) -> bytes:
    out = b""
    for start in range(0, len(data), step):
        decoder.feed(data[start : start + step])
        while decoder.pending:
            piece = decoder.take(room)
            assert len(piece) <= room
            out += piece
    decoder.end()
    while decoder.pending:
        out += decoder.take(room)
    return out


@pytest.mark.parametrize(
    ("value", "coding"),
    [
        ("", ""),
        ("identity", ""),
        ("gzip", "gzip"),
        (" GZIP ", "gzip"),
        ("x-gzip", "gzip"),
        ("deflate", "deflate"),
        ("identity, gzip", "gzip"),
        ("aws-chunked,gzip", "gzip"),
        ("UTF-8", ""),
        ("utf-8, none", ""),
        ("aws-chunked", ""),
        ("br", "br"),
        ("gzip, br", "gzip, br"),
        ("zstd", "zstd"),
        ("gzip, gzip", "gzip, gzip"),
    ],
)
def test_only_what_changes_bytes_counts(value: str, coding: str) -> None:
    assert coding_of(value) == coding
    assert can_decode(coding) is (coding in ("", "gzip", "deflate"))


ENCODED = [
    ("gzip", gzip.compress(BODY), BODY),
    ("gzip in two members", gzip.compress(BODY[:77]) + gzip.compress(BODY[77:]), BODY),
    ("gzip with padding", gzip.compress(BODY) + b"\0" * 512, BODY),
    ("gzip of nothing", gzip.compress(b""), b""),
    ("gzip, but it is not", BODY, BODY),
    ("gzip, and nothing", b"", b""),
    ("gzip, and one byte", b"\x1f", b"\x1f"),
    ("deflate", zlib.compress(BODY), BODY),
    ("deflate, bare", bare_deflate(BODY), BODY),
]


@pytest.mark.parametrize(("name", "data", "plain"), ENCODED, ids=[case[0] for case in ENCODED])
@pytest.mark.parametrize(("step", "room"), [(1, 1), (7, 1000), (1 << 20, 1 << 20), (1 << 20, 3)])
def test_a_body_is_decoded_however_it_is_split(
    name: str, data: bytes, plain: bytes, step: int, room: int
) -> None:
    coding = name.split(",")[0].split()[0]
    decoder = Decoder(coding)
    assert pieces(decoder, data, step, room) == plain
    assert decoder.is_whole
    assert decoded(coding, data, len(plain)) == plain


@pytest.mark.parametrize("step", [1, 9, 1 << 20])
def test_a_gzip_file_that_is_only_called_encoded_stays_a_gzip_file(step: int) -> None:
    layer = gzip.compress(BODY)
    assert pieces(Decoder("gzip", is_gzip=True), layer, step, 100) == layer
    assert pieces(Decoder("gzip", is_gzip=True), gzip.compress(layer), step, 100) == layer
    assert pieces(Decoder("gzip", is_gzip=True), b"ab", step, 100) == b"ab"


@pytest.mark.parametrize(
    "data",
    [gzip.compress(BODY)[:-1], gzip.compress(BODY)[:40], zlib.compress(BODY)[:-1]],
    ids=["gzip", "gzip's start", "deflate"],
)
def test_a_body_that_ends_too_early_is_not_a_whole_one(data: bytes) -> None:
    coding = "gzip" if data[:1] == b"\x1f" else "deflate"
    with pytest.raises(ProtocolError, match="ends too early"):
        decoded(coding, data, 1 << 20)


def test_a_broken_body_is_an_error() -> None:
    data = bytearray(gzip.compress(BODY))
    data[-6] ^= 1  # of the checksum
    with pytest.raises(ProtocolError, match="gzip coding is broken"):
        decoded("gzip", bytes(data), 1 << 20)
    with pytest.raises(ProtocolError, match="broken"):
        decoded("gzip", gzip.compress(BODY) + b"more", 1 << 20)


def test_a_bomb_costs_what_the_limit_allows() -> None:
    bomb = gzip.compress(b"\0" * (64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(LimitExceeded, match="over the limit of 1000000"):
            decoded("gzip", bomb, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [gzip.compress(BODY), gzip.compress(BODY)[:50], gzip.compress(BODY)[:20] + b"x" * 30],
    ids=["whole", "cut", "broken"],
)
def test_the_start_of_an_error_is_read_whatever_follows(data: bytes) -> None:
    assert BODY.startswith(decoded_start("gzip", data, 100))
    assert decoded_start("br", data, 100) == b""
    assert decoded_start("", data, 10) == data[:10]


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", ""]), st.booleans())
def test_any_bytes_end_in_bytes_or_a_protocol_error(data: bytes, coding: str, is_gzip: bool) -> None:
    decoder = Decoder(coding, is_gzip=is_gzip)
    try:
        pieces(decoder, data, 50, 64)
    except ProtocolError:
        pass
    assert len(decoded_start(coding, data, 64)) <= 64
