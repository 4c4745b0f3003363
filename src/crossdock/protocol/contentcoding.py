"""Content-Encoding of responses, although identity was requested: proxies compress what passes through them.

Gzip and deflate are decoded, in bounded steps. Other codings that exist are named, so that the error can say
what to turn off. What is no coding at all (``UTF-8``, ``aws-chunked``) says nothing about the bytes; nor does
``gzip`` say much, which storage puts on layers that are gzip files themselves (moby#25122). Whether the bytes
are right is for a digest, or a parser, to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossdock.errors import LimitExceeded, ProtocolError

if TYPE_CHECKING:
    import zlib

_DECODED = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}  # RFC 9110 8.4.1.3
# The others of IANA's "HTTP Content Coding Registry" that change bytes.
_NOT_DECODED = frozenset(
    {"aes128gcm", "br", "compress", "dcb", "dcz", "exi", "pack200-gzip", "x-compress", "zstd"}
)

_GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952 2.3.1
_WBITS = {"gzip": 31, "zlib": 15, "deflate": -15}


def coding_of(value: str) -> str:
    """The coding of a ``Content-Encoding``: none (empty), ``gzip``, ``deflate``, or one or more that are not
    decoded here.
    """
    if not value:
        return ""
    words = [word.strip(" \t").lower() for word in value.split(",")]
    codings = [_DECODED.get(word, word) for word in words if word in _DECODED or word in _NOT_DECODED]
    return ", ".join(codings)


def can_decode(coding: str) -> bool:
    """Whether `Decoder` takes this result of `coding_of`."""
    return coding in ("", "gzip", "deflate")


AMBIGUOUS = 64 * 1024  # bytes; larger ones are never as long encoded as they are decoded, but by chance


def most_encoded(size: int) -> int:
    """Bytes that `size` bytes may take encoded: incompressible ones grow, by less than this."""
    return size + (size >> 6) + 64 * 1024


class Decoder:
    """Decodes a body piece by piece: `feed`, then `take` until ``pending`` is False.

    A body that is not encoded, whatever it was called, comes out as it went in. That is seen from its first
    bytes: no gzip header, or one with something else than gzip in it where a gzip file is expected
    (`is_gzip`).
    """

    def __init__(self, coding: str, *, is_gzip: bool = False, size: int | None = None) -> None:
        """`size` is that of the body, where it came with just the length that it has decoded: then it is
        looked at as a whole, for a small one may be as long encoded.
        """
        self._coding = coding
        self._is_gzip = is_gzip
        self._size = size
        self._raw = b""  # not decoded yet
        self._stream: zlib._Decompress | None = None  # of the member under way
        self._is_held = False  # the stream may hold more output
        self._is_begun = False  # `_coding` is certain

    @property
    def pending(self) -> bool:
        """`take` may have something to give."""
        return self._is_begun and (bool(self._raw) or self._is_held)

    @property
    def is_whole(self) -> bool:
        """Nothing lacks at the end of what was fed."""
        return self._stream is None and not self._raw

    def feed(self, data: bytes) -> None:
        """The next bytes as they came."""
        self._raw += data
        if not self._is_begun:
            self._begin(at_end=False)

    def end(self) -> None:
        """No more bytes will be fed."""
        if not self._is_begun:
            self._begin(at_end=True)

    def take(self, most: int) -> bytes:
        """The next decoded bytes, at most so many; empty when more must be fed. Raises `ProtocolError`."""
        if not self._coding:
            taken, self._raw = self._raw[:most], self._raw[most:]
            return taken
        while self.pending:
            taken = self._inflate(most)
            if taken:
                return taken
        return b""

    def _inflate(self, most: int) -> bytes:
        if self._stream is None:
            if not self._raw.strip(b"\0"):  # padding behind the last member, as gzip(1) takes it
                self._raw = b""
                return b""
            self._stream = _inflater(_kind(self._coding, self._raw))
        import zlib

        try:
            taken = self._stream.decompress(self._raw, most)
        except zlib.error as error:
            raise ProtocolError(f"the response's {self._coding} coding is broken: {error}") from None
        self._raw, self._is_held = self._stream.unconsumed_tail, len(taken) == most
        if self._stream.eof:
            self._raw, self._is_held, self._stream = self._stream.unused_data, False, None
        return taken

    def _begin(self, *, at_end: bool) -> None:
        if self._size is not None:
            if len(self._raw) < self._size and not at_end:
                return
            if not _has_size(self._coding, self._raw, self._size):
                self._coding = ""
        if self._coding == "gzip" and len(self._raw) < len(_GZIP_MAGIC) and not at_end:
            return
        if self._coding == "gzip" and not self._raw.startswith(_GZIP_MAGIC):
            self._coding = ""
        elif self._coding and self._is_gzip:
            inside = _first_bytes(self._coding, self._raw, len(_GZIP_MAGIC))
            if len(inside) < len(_GZIP_MAGIC) and not at_end:
                return
            if inside != _GZIP_MAGIC:
                self._coding = ""
        self._is_begun = True


def decoded(coding: str, body: bytes, limit: int) -> bytes:
    """A whole small body without its coding. Raises `LimitExceeded`, `ProtocolError`."""
    if not coding:
        return body
    decoder = Decoder(coding)
    decoder.feed(body)
    decoder.end()
    plain = bytearray()
    while decoder.pending:
        plain += decoder.take(limit + 1 - len(plain))
        if len(plain) > limit:
            raise LimitExceeded(f"the response is over the limit of {limit} bytes when decoded", limit=limit)
    if not decoder.is_whole:
        raise ProtocolError(f"the response's {coding} coding ends too early")
    return bytes(plain)


def decoded_start(coding: str, body: bytes, limit: int) -> bytes:
    """As much as possible of the first `limit` decoded bytes, for error responses. Raises nothing."""
    if not coding:
        return body[:limit]
    if not can_decode(coding):
        return b""
    decoder = Decoder(coding)
    decoder.feed(body)
    decoder.end()
    plain = b""
    try:
        while decoder.pending and len(plain) < limit:
            plain += decoder.take(limit - len(plain))
    except ProtocolError:
        pass
    return plain


def _kind(coding: str, data: bytes) -> str:
    """``deflate`` means zlib's format (RFC 9110 8.4.1.2); some send deflate's own."""
    return "zlib" if coding == "deflate" and data[0] & 0x8F == 8 else coding


def _has_size(coding: str, data: bytes, size: int) -> bool:
    try:
        return len(decoded(coding, data, size)) == size
    except (LimitExceeded, ProtocolError):
        return False


def _first_bytes(coding: str, data: bytes, count: int) -> bytes:
    if not data:
        return b""
    import zlib

    try:
        return _inflater(_kind(coding, data)).decompress(data, count)
    except zlib.error:
        return b"\0" * count


def _inflater(kind: str) -> zlib._Decompress:
    import zlib  # nearly no response is encoded

    return zlib.decompressobj(_WBITS[kind])
