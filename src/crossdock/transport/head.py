"""HTTP/1.1 heads (RFC 9112) without sockets: strict, bounded, for input split anywhere.

A head that breaks one of these rules is refused with `ProtocolError`, because when two readers disagree about
where a message ends, bytes of one response end up in another:

1. Lines end in CRLF. A bare CR, LF or NUL has no meaning anywhere in a head (RFC 9112 2.2, RFC 9110 5.5).
2. A field name is a token and touches its colon (RFC 9112 5.1). A line that begins with space or tab
   continues the one before it (obs-fold, RFC 9112 5.2: user agents must read it), except in framing fields.
3. Content-Length is digits; repeats must agree (RFC 9112 6.3).
4. Transfer-Encoding is exactly ``chunked``. It overrides Content-Length; with both, the connection is closed
   after the response (RFC 9112 6.3), since a proxy on the way may see the next response begin elsewhere.
5. A head has at most 64 KiB and 1000 fields. Precedents: h11 100 KiB in all, nginx 4 × 8 KiB, Go 1 MiB.
"""

from __future__ import annotations

import re

from crossdock.errors import InvalidInput, ProtocolError
from crossdock.transport.base import Headers, ResponseHead

MAX_HEAD = 64 * 1024
MAX_FIELDS = 1000
MAX_WORD = 16  # bytes quoted of a response that is not HTTP
MAX_INTERIM = 16  # 1xx responses before the final one; only 100 and 103 are known to come unrequested

# One pattern over the whole head: most heads match, and only others are checked line by line.
_FIELDS = re.compile(r"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_DIGITS = re.compile(r"[0-9]{1,18}")
_METHODS = frozenset({"GET", "HEAD", "PATCH", "POST", "PUT", "DELETE"})
# Compiled when first used: for a response that is wrong.
_FRAMING = r"(?i)(?:content-length|transfer-encoding|connection):"
_PRINTABLE = rb"[\x21-\x7e]+"

# Fields for framing and routing. Only the transport writes them, so that they are always true.
RESERVED = frozenset({"host", "connection", "content-length", "transfer-encoding", "proxy-authorization"})


def encode_request(method: str, target: str, headers: Headers) -> bytes:
    """The bytes of a request head. Raises `InvalidInput` for characters that could end a line or field
    early."""
    return b"%b%b\r\n" % (encode_request_line(method, target), encode_fields(headers))


def encode_request_line(method: str, target: str) -> bytes:
    """The first line with its CRLF. Raises `InvalidInput`."""
    if method not in _METHODS and not _TOKEN.fullmatch(method):
        raise InvalidInput(f"not an HTTP method: {method[:40]!r}")
    if not (target and target.isascii() and target.isprintable()) or " " in target:
        raise InvalidInput("a request target must be printable ASCII without spaces")
    return f"{method} {target} HTTP/1.1\r\n".encode()


def encode_fields(headers: Headers) -> bytes:
    """Header lines, each with its CRLF. Raises `InvalidInput`."""
    lines = []
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise InvalidInput(f"not a header name: {name[:40]!r}")
        if not _VALUE.fullmatch(value):
            raise InvalidInput(f"the value of header {name} holds a control or non-Latin-1 character")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1")


def parse_response_head(data: bytes) -> ResponseHead:
    """Parse a complete head, including the empty line at its end. Raises `ProtocolError`."""
    if len(data) > MAX_HEAD:
        raise ProtocolError(f"the response's head is longer than {MAX_HEAD} bytes")
    text = data.decode("latin-1")
    if not text.endswith("\r\n\r\n"):
        raise ProtocolError("the response's head does not end in an empty line")
    status_line, *lines = text[:-4].split("\r\n")
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise ProtocolError("the response does not begin with an HTTP/1.1 status line")
    if len(lines) > MAX_FIELDS:
        raise ProtocolError(f"the response has more than {MAX_FIELDS} header fields")
    if not _FIELDS.fullmatch(text, len(status_line) + 2, len(text) - 2):
        lines = _mended_fields(lines)
    headers = []
    for line in lines:
        name, _, value = line.partition(":")
        headers.append((name.lower(), value.strip(" \t")))
    by_name = dict(headers)
    if len(by_name) < len(headers):
        for name in by_name:
            by_name[name] = ", ".join([value for other, value in headers if other == name])
    http10 = match[1] == "0"
    chunked = _is_chunked(by_name, http10)
    return ResponseHead(
        status=int(match[2]),
        reason=match[3] or "",
        headers=tuple(headers),
        content_length=None if chunked else _content_length(by_name),
        by_name=by_name,
        chunked=chunked,
        keep_alive=_keeps_alive(by_name, http10) and not (chunked and "content-length" in by_name),
    )


def _mended_fields(lines: list[str]) -> list[str]:
    """The fields with folded lines joined. Raises `ProtocolError` for malformed lines.

    Errors quote names only, since a server may echo secrets that it was sent.
    """
    whole: list[str] = []
    for line in lines:
        if line.startswith((" ", "\t")) and whole:
            if re.match(_FRAMING, whole[-1]):
                raise ProtocolError("a header field that frames the response is folded")
            whole[-1] += " " + line.strip(" \t")
        else:
            whole.append(line)
    for line in whole:
        name, colon, _ = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name):
            raise ProtocolError("a line of the response's head is not a header field")
        if not _VALUE.fullmatch(line):
            raise ProtocolError(f"the value of header {name[:60]} holds a control character")
    return whole


def _content_length(by_name: dict[str, str]) -> int | None:
    value = by_name.get("content-length")
    if value is None:
        return None
    if _DIGITS.fullmatch(value):
        return int(value)
    # "a recipient MUST either reject the message ... or replace the duplicated field values" (RFC 9110 8.6)
    first, *others = (part.strip(" \t") for part in value.split(","))
    if not _DIGITS.fullmatch(first) or any(other != first for other in others):
        raise ProtocolError(f"not a Content-Length: {value[:60]!r}")
    return int(first)


def _is_chunked(by_name: dict[str, str], http10: bool) -> bool:
    value = by_name.get("transfer-encoding")
    if value is None:
        return False
    if value.lower() != "chunked" or http10:
        raise ProtocolError(f"unknown Transfer-Encoding: {value[:60]!r}")
    return True


def _keeps_alive(by_name: dict[str, str], http10: bool) -> bool:
    value = by_name.get("connection")
    if value is None:
        return not http10
    if value == "keep-alive":
        return True
    options = {option.strip(" \t").lower() for option in value.split(",")}
    return "close" not in options and (not http10 or "keep-alive" in options)


class HeadParser:
    """Collects the bytes of a head in one reused buffer, and keeps the bytes after it.

    `get_buffer` returns memory to fill, `filled` tells how much was filled; `rest` is the bytes after the
    head, and grows if more are filled later.
    """

    __slots__ = ("_end", "_filled", "_memory", "_scanned", "_view")

    def __init__(self) -> None:
        self._memory = bytearray(MAX_HEAD)
        self._view = memoryview(self._memory)
        self.reset()

    def reset(self) -> None:
        """Discard everything: the next byte starts a new head."""
        self._filled = 0
        self._scanned = 0
        self._end = 0  # of the last parsed head

    @property
    def room(self) -> int:
        """Bytes that `get_buffer` offers."""
        return MAX_HEAD - self._filled

    @property
    def empty(self) -> bool:
        """No byte has arrived since `reset`."""
        return self._filled == 0

    def get_buffer(self) -> memoryview:
        """Memory for the next bytes; empty if the buffer is full."""
        return self._view[self._filled :]

    @property
    def memory(self) -> memoryview:
        """The whole buffer, free for other uses once `rest` is consumed."""
        return self._view

    @property
    def rest(self) -> memoryview:
        """The bytes after the parsed head."""
        return self._view[self._end : self._filled]

    def stash(self, count: int) -> None:
        """Note that `count` bytes were filled after the parsed head."""
        self._filled += count

    def filled(self, count: int) -> ResponseHead | None:
        """Note that `count` bytes were filled; returns the head once it is complete. Raises
        `ProtocolError`."""
        self._filled += count
        return self._parse()

    def skip(self) -> ResponseHead | None:
        """Drop the parsed head of an interim response, and parse the next one if it has arrived."""
        rest = bytes(self.rest)
        self.reset()
        self._memory[: len(rest)] = rest
        self._filled = len(rest)
        return self._parse()

    def _parse(self) -> ResponseHead | None:
        found = self._memory.find(b"\r\n\r\n", max(0, self._scanned - 3), self._filled)
        self._scanned = self._filled
        if found < 0:
            if self._filled == MAX_HEAD:
                raise ProtocolError(f"the response's head is longer than {MAX_HEAD} bytes")
            if self._filled >= 5 and self._memory[:5] != b"HTTP/":
                # The first word may identify the server (SSH-2.0-…). More could echo our request, and
                # unprintable bytes could be content.
                word = b"".join(bytes(self._memory[: min(self._filled, MAX_WORD)]).split()[:1])
                begins = (
                    f"it begins with {word!r}"
                    if re.fullmatch(_PRINTABLE, word)
                    else "it begins with binary data"
                )
                raise ProtocolError(f"the response is not HTTP: {begins}")
            return None
        self._end = found + 4
        return parse_response_head(bytes(self._view[: self._end]))
