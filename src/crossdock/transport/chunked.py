"""The chunked transfer coding (RFC 9112 7.1) without sockets: strict, bounded, for input split anywhere."""

from __future__ import annotations

import re

from crossdock.errors import ProtocolError

MAX_LINE = 4096  # of a size line with its extensions, which are unused in practice
MAX_TRAILERS = 16 * 1024  # all trailer lines together

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")

_NOTHING = memoryview(b"")


class ChunkedDecoder:
    """Finds the payload in a chunked body. `next` takes input; `done` is set after the last chunk."""

    __slots__ = ("_left", "_line", "_step", "_trailers", "done")
    until_close = False

    def __init__(self) -> None:
        self.done = False
        self._line = b""  # the incomplete line of size, chunk end or trailer
        self._left = 0  # remaining payload bytes of this chunk
        self._trailers = 0  # bytes of trailer lines
        self._step = self._size_line

    def next(self, data: memoryview) -> tuple[memoryview, int]:
        """The next payload in `data`, and the number of bytes of `data` consumed, payload included.

        The payload is a slice of `data`, empty if `data` holds no more of it. Bytes after the end of the body
        are never consumed. Raises `ProtocolError`.
        """
        used = 0
        while not self.done and used < len(data):
            if self._left:
                payload = data[used : used + self._left]
                self._left -= len(payload)
                return payload, used + len(payload)
            # Search no further than the longest allowed line.
            window = bytes(data[used : used + MAX_LINE + 2])
            found = window.find(b"\n")
            taken = window if found < 0 else window[: found + 1]
            used += len(taken)
            self._line += taken
            if len(self._line) > MAX_LINE:
                raise ProtocolError(f"a line of a chunked body is longer than {MAX_LINE} bytes")
            if found >= 0:
                if not self._line.endswith(b"\r\n"):
                    raise ProtocolError("a line of a chunked body does not end in CRLF")
                line, self._line = self._line[:-2], b""
                self._step(line)
        return _NOTHING, used

    def _size_line(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise ProtocolError("a chunk begins with a line that is not a chunk size")
        self._left = int(match[1], 16)
        self._step = self._chunk_end if self._left else self._trailer_line

    def _chunk_end(self, line: bytes) -> None:
        if line:
            raise ProtocolError("a chunk is longer than its size")
        self._step = self._size_line

    def _trailer_line(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailers += len(line)
        if self._trailers > MAX_TRAILERS or not _TRAILER.fullmatch(line):
            raise ProtocolError("the trailer of a chunked body is too long or not made of header fields")


class UntilClose:
    """A body without framing, delimited by the end of the connection: everything is payload."""

    __slots__ = ("done",)
    until_close = True

    def __init__(self) -> None:
        self.done = False

    def next(self, data: memoryview) -> tuple[memoryview, int]:
        """As `ChunkedDecoder.next`."""
        return data, len(data)
