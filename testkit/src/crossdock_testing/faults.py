"""The faults of a `FaultProxy`, as plain values.

A `Fault` says which requests it is for and what happens to them. Everything is tied to a request and a byte,
never to a clock, so a test with faults gives the same result every time:

    Fault("GET */blobs/*", nth=2, breaks=Break("reset", at=300_000))  # RST in the body of the second response
    Fault("GET */blobs/*", times=None, flip_at=70_000)                # byte 70,000 is wrong whenever it comes
    Fault("PUT */manifests/*", answer=error(503))                     # once, in place of the registry
    Fault("GET */blobs/*", head=content_range(shift=1))               # a 206 that lies about its place
    Fault(lambda seen: seen.range == "bytes=0-9", strip_range=True)   # 200 and everything for one range

Several effects of one fault combine: `strip_range` with `breaks` cuts a whole-blob answer, for example.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import urlsplit

HeaderList = list[tuple[str, str]]

How = Literal["close", "cut", "reset", "stall"]
"""``close``: in order, over TLS after close_notify. ``cut``: FIN alone, over TLS without close_notify.
``reset``: RST. ``stall``: nothing more is sent or read, and the connection stays open."""

Where = Literal["connect", "handshake", "request", "head", "body", "blob", "idle"]
"""``connect``: after accept, before anything is read. ``handshake``: after the TLS ClientHello, inside the
server's part. ``request``: inside the request's body. ``head``: after the registry has acted, inside the head
of its response. ``body``: inside the response's body. ``blob``: the same, in responses that hold the byte,
counted from the start of the blob. ``idle``: after a whole response, while the connection is kept."""


@dataclass
class Seen:
    """One request as it arrived, and its outcome; the last five fields are filled while it is served."""

    method: str
    path: str  # path and query as sent; of the query, values that may be secrets are hidden
    headers: dict[str, str]  # names in lower case; of credentials only the scheme
    connection: int = 1  # on which connection, the first is 1
    earlier: int = 0  # requests before it on the same connection
    at: float = field(
        default_factory=time.monotonic
    )  # when; shows whether the client waited for a Retry-After
    ended_at: float = 0.0  # when it ended, on the same clock
    status: int = 0  # of the response; 0: none
    received: int = 0  # bytes of the request's body that were read
    sent: int = 0  # bytes of the response's body that were sent
    ended: str = ""  # "whole", how the connection was broken, or "left" by the client; empty: running

    @property
    def range(self) -> str:
        """The Range header, or an empty string."""
        return self.headers.get("range", "")

    @property
    def body_size(self) -> int:
        """The request's Content-Length, 0 without one."""
        return int(self.headers.get("content-length", "0"))

    def is_blob_get(self, digest: str = "") -> bool:
        """Whether it is a GET of a blob (of this digest)."""
        return self.method == "GET" and "/blobs/" in self.path and digest in self.path

    def is_upload_body(self) -> bool:
        """Whether it is a PUT or PATCH of an upload session with a body."""
        carries = self.body_size > 0 or "transfer-encoding" in self.headers
        return self.method in ("PUT", "PATCH") and "/blobs/uploads/" in self.path and carries

    def is_upload_start(self) -> bool:
        """Whether it is the POST that opens an upload session."""
        return self.method == "POST" and "/blobs/uploads/" in self.path


@dataclass(frozen=True, slots=True)
class Break:
    """Where the connection breaks, and how.

    `at` counts the bytes of `where` that are still sent: 0 none, -1 all but the last, -2 all but two …, None:
    a number that the proxy's seed decides. In a body of unknown size, negative numbers and None count as 0.
    """

    how: How
    where: Where = "body"
    at: int | None = 0
    in_record: bool = False  # over TLS: begin one more record and leave it incomplete


AS_SENT = "{target}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that the registry never sent. Content-Length is added unless `headers` frame the body.

    `AS_SENT` in a header's value becomes the target of the request, path and query as they were sent.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


Matcher = Callable[[Seen], bool]
Rewrite = Callable[[int, HeaderList], tuple[int, HeaderList]]


@dataclass
class Fault:
    """What happens to `times` requests, from the `nth` match of `on` on.

    `on` is a function, or a pattern ``METHOD PATH``: methods separated by ``|`` or ``*``, a space, the path
    (without query) with ``*``, ``?`` and ``[…]`` as in `fnmatch`. For breaks at ``connect`` and ``handshake``
    there is no request yet: connections are counted instead, and `on` is ignored.
    """

    on: str | Matcher = "* *"
    nth: int = 1
    times: int | None = 1  # None: all from then on
    breaks: Break | None = None
    # Respond with this instead of the registry. Bytes are sent as they are; then the connection is closed.
    answer: Answer | bytes | Callable[[Seen], Answer | bytes] | None = None
    # Bytes of the request's body to read before `answer`; None: all. If not all, the connection is closed.
    answer_after: int | None = 0
    strip_range: bool = False  # forward without Range: 200 and everything
    widen: int = 0  # forward with a range that ends so many bytes later: a 206 with more than requested
    head: Rewrite | None = None  # rewrites status and headers of the response, which frame the body
    flip_at: int | None = None  # flip a bit of the byte at this offset, counted from the start of the blob
    rate: float | None = None  # bytes a second
    # Of `flip_at` and `rate`. ``body``: of requests and responses. ``head``: of the response, for `rate`.
    # ``handshake``: the server's part of it; connections are counted, not requests.
    within: Literal["handshake", "head", "body"] = "body"
    extra: bytes = b""  # sent after the body
    passes: int | None = None  # forward only so many bytes of the request's body, framed as if they were all
    reached: threading.Event = field(default_factory=threading.Event)  # set when the fault happens
    when_reached: Callable[[], object] | None = (
        None  # called in the proxy's thread when it happens, before it
    )
    matched: int = 0  # requests (or connections) that `on` has matched so far

    def __post_init__(self) -> None:
        if self.nth < 1:
            raise ValueError("the first request is number 1")
        if isinstance(self.on, str) and self.on.count(" ") != 1:
            raise ValueError(f"not METHOD PATH: {self.on!r}")

    @property
    def before_requests(self) -> bool:
        """Whether it is for connections, not for requests."""
        if self.breaks is None:
            return self.within == "handshake"
        return self.breaks.where in ("connect", "handshake")

    def matches(self, seen: Seen) -> bool:
        """Whether `on` matches the request."""
        if callable(self.on):
            return self.on(seen)
        methods, path = self.on.split(" ")
        fits = methods == "*" or seen.method in methods.split("|")
        return fits and fnmatchcase(seen.path.partition("?")[0], path)

    def take(self) -> bool:
        """Count one match. Returns whether the fault is due."""
        self.matched += 1
        return self.matched >= self.nth and (self.times is None or self.matched < self.nth + self.times)

    def happens(self) -> None:
        """Note that the fault happens now."""
        if self.when_reached is not None:
            self.when_reached()
        self.reached.set()


# -- responses ---------------------------------------------------------------------------------------------

_CODES = {
    401: "UNAUTHORIZED",
    403: "DENIED",
    404: "BLOB_UPLOAD_UNKNOWN",
    413: "SIZE_INVALID",
    416: "RANGE_INVALID",
    429: "TOOMANYREQUESTS",
}


def error(status: int, code: str = "", **headers: str) -> Answer:
    """A registry's error document (distribution-spec, "Error Codes"); `headers` with ``_`` for ``-``.

    401, 403, 404 (an unknown upload), 413, 416 and 429 have their usual code; others, such as 500, 502 and
    503, are plain text, as from a proxy in front of a registry.
    """
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    code = code or _CODES.get(status, "")
    if not code:
        return Answer(status, {"Content-Type": "text/plain", **fields}, b"try again")
    document = {"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}
    return Answer(status, {"Content-Type": "application/json", **fields}, json.dumps(document).encode())


def retry_after(wait: int | str, status: int = 429) -> Answer:
    """A response with Retry-After; `wait`: seconds, or any other value."""
    return error(status, "TOOMANYREQUESTS", Retry_After=str(wait))


def expired_url() -> Answer:
    """S3's response when the signature in a URL has expired."""
    return Answer(403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>")


def redirect(base: str, status: int = 307) -> Callable[[Seen], Answer]:
    """To the same path under `base` (``https://host:port``), with a query that looks like a permission."""

    def answer(seen: Seen) -> Answer:
        path = urlsplit(seen.path).path
        return Answer(status, {"Location": f"{base}{path}?X-Amz-Signature=not-to-be-logged"})

    return answer


def redirect_upload(base: str, status: int = 307) -> Answer:
    """To the same path and query under `base`: an upload's query is its session."""
    return Answer(status, {"Location": f"{base}{AS_SENT}"})


# -- rewritten heads ---------------------------------------------------------------------------------------


def set_header(name: str, value: str, status: int | None = None) -> Rewrite:
    """Replace one header, and the status if given."""

    def rewrite(was: int, headers: HeaderList) -> tuple[int, HeaderList]:
        return status or was, [*_without(headers, name), (name, value)]

    return rewrite


def add_header(name: str, value: str) -> Rewrite:
    """Add a header, even if one of that name exists."""
    return lambda status, headers: (status, [*headers, (name, value)])


def drop_headers(*names: str) -> Rewrite:
    """Drop headers; without Content-Length the body ends with the connection."""
    return lambda status, headers: (status, _without(headers, *names))


def as_chunked(status: int, headers: HeaderList) -> tuple[int, HeaderList]:
    """Frame the body in chunks instead of by its length."""
    return status, [*_without(headers, "content-length"), ("Transfer-Encoding", "chunked")]


def content_length(change: int) -> Rewrite:
    """State a length that is wrong by `change`; if the body is shorter, the connection ends after it."""

    def rewrite(status: int, headers: HeaderList) -> tuple[int, HeaderList]:
        return status, [
            (name, str(int(value) + change) if name.lower() == "content-length" else value)
            for name, value in headers
        ]

    return rewrite


_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def content_range(*, shift: int = 0, end: int = 0, total: int = 0) -> Rewrite:
    """Change Content-Range: move it by `shift`, its end by `end` more, the total size by `total`."""

    def rewrite(status: int, headers: HeaderList) -> tuple[int, HeaderList]:
        def change(match: re.Match[str]) -> str:
            first, last, size = map(int, match.groups())
            return f"bytes {first + shift}-{last + shift + end}/{size + total}"

        return status, [
            (name, _RANGE.sub(change, value) if name.lower() == "content-range" else value)
            for name, value in headers
        ]

    return rewrite


def _without(headers: HeaderList, *names: str) -> HeaderList:
    unwanted = {name.lower() for name in names}
    return [(name, value) for name, value in headers if name.lower() not in unwanted]
