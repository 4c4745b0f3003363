"""One request and its response: the caller's side of a connection."""

from __future__ import annotations

from logging import DEBUG, getLogger
from typing import TYPE_CHECKING, Any

from crossdock.activity import CURRENT
from crossdock.errors import LimitExceeded, ReadFailed, TransportError, WriteFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossdock.transport.base import Request, ResponseHead, Sink
    from crossdock.transport.client import HttpClient
    from crossdock.transport.connection import Connection
    from crossdock.transport.route import Route
    from crossdock.url import Url

log = getLogger("crossdock.transport")

READ_PATIENCE = 10  # times `timeout`: limit for a whole small response

_ROOM = 16 * 1024  # bytes of a small response received at once
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})  # may be sent twice (RFC 9110 9.2.2)


class HttpExchange:
    """`base.Exchange`. It holds a place of the pool until it ends."""

    def __init__(
        self, client: HttpClient, request: Request, route: Route, connection: Connection, head: bytes
    ) -> None:
        self._client = client
        self._request = request
        self._route = route
        self._connection = connection
        self._head = head
        self._ended = False
        self._start: bytes | None = None
        self._activity = activity = CURRENT.get()
        self._begin()
        if activity is not None:
            activity.began(self)
        if log.isEnabledFor(DEBUG):
            log.debug("%s %s", request.method, request.url)

    def __repr__(self) -> str:
        return f"<HttpExchange {self._request.method} {self.url}>"

    @property
    def url(self) -> Url:
        """As `Exchange.url`."""
        return self._request.url

    @property
    def side(self) -> str:
        """As `activity.Exchange.side`."""
        return self._client.side

    @property
    def moved(self) -> int:
        """As `activity.Exchange.moved`."""
        return self._connection.moved

    @property
    def waits_here(self) -> bool:
        """As `activity.Exchange.waits_here`."""
        return self._connection.waits_here

    @property
    def responded_early(self) -> bool:
        """As `Exchange.responded_early`."""
        return self._connection.responded_early

    def _begin(self) -> None:
        request = self._request
        if request.body:  # one write, one packet
            self._connection.begin(request.method, request.url, self._head + request.body, None)
        else:
            self._connection.begin(request.method, request.url, self._head, request.content_length)

    @property
    def authorization(self) -> str | None:
        """As `Exchange.authorization`."""
        return next((value for name, value in self._request.headers if name == "Authorization"), None)

    async def write(self, data: memoryview) -> None:
        """As `Exchange.write`."""
        self._check_open(WriteFailed)
        try:
            await self._connection.write(data)
        except BaseException:
            self.close()
            raise

    async def response(self, timeout: float | None = None) -> ResponseHead:
        """As `Exchange.response`."""
        self._check_open(ReadFailed)
        commits = timeout is not None and self._request.content_length is not None
        phase = "commit" if commits else "first byte"
        bound = self._client.options.timeout if timeout is None else timeout
        try:
            head = None
            try:
                head = await self._connection.response(bound, phase)
            except ReadFailed:
                if not self._died_while_idle():
                    raise
            if head is None:
                connection = await self._client.replace(self._route, self._connection)
                if self._ended:  # meanwhile, by another task, which released the place
                    self._client.discard(self._route, connection)
                    self._check_open(ReadFailed)
                self._connection = connection
                self._begin()
                head = await self._connection.response(bound, phase)
        except BaseException:
            self.close()
            raise
        if log.isEnabledFor(DEBUG):
            log.debug("%d for %s %s", head.status, self._request.method, self.url)
        return head

    def _died_while_idle(self) -> bool:
        """Whether the server most likely closed the kept connection before the request reached it."""
        connection, request = self._connection, self._request
        ended_first = connection.peer_ended and not connection.response_began
        if not ended_first or connection.exchanges < 2:
            return False
        return not request.content_length or (bool(request.body) and request.method in _IDEMPOTENT)

    async def receive(self, sink: Sink) -> int:
        """As `Exchange.receive`."""
        self._check_open(ReadFailed)
        try:
            return await self._connection.receive(sink)
        finally:
            self.close()

    async def read(self, limit: int) -> bytes:
        """As `Exchange.read`."""
        if self._start is not None:
            return self._start
        self._check_open(ReadFailed)
        body = self._connection.take_body()
        if body is None:
            collected = bytearray()
            await self._collect(collected, limit)
            return bytes(collected)
        self.close()
        if len(body) > limit:
            raise self._too_long(limit)
        return body

    async def read_start(self, limit: int) -> bytes:
        """As `Exchange.read_start`."""
        collected = bytearray()
        try:
            self._check_open(ReadFailed)
            body = self._connection.take_body()
            if body is not None:
                self.close()
                collected += body
            else:
                await self._collect(collected, limit, is_cut=True)
        except (TransportError, LimitExceeded):
            pass
        self._start = bytes(collected[:limit])
        return self._start

    async def _collect(self, into: bytearray, limit: int, *, is_cut: bool = False) -> None:
        length = self._connection.body_length
        if length is not None and length > limit and not is_cut:
            self.close()
            raise self._too_long(limit)
        room = min(_ROOM, limit + 1) if length is None else min(_ROOM, limit + 1, max(length, 1))
        sink = _Collector(into, room, limit, self._too_long)
        try:
            await self._connection.receive(sink, READ_PATIENCE * self._client.options.timeout)
        finally:
            self.close()

    def _too_long(self, limit: int) -> LimitExceeded:
        what = f"{self._request.method} {self.url}"
        details: dict[str, Any] = {"limit": limit}
        return LimitExceeded(f"{what}: the response is over the limit of {limit} bytes", **details)

    def resume(self) -> None:
        """As `Exchange.resume`."""
        if not self._ended:
            self._connection.resume()

    def close(self) -> None:
        """As `Exchange.close`."""
        if not self._ended:
            self._ended = True
            if self._activity is not None:
                self._activity.end(self)
            self._connection.finish()
            self._client.release(self._route, self._connection)

    def _check_open(self, kind: type[ReadFailed] | type[WriteFailed]) -> None:
        if self._ended:
            url = str(self.url)
            method = self._request.method
            raise kind(f"{method} {url}: the exchange has ended", method=method, url=url, retryable=False)


class _Collector:
    """A sink that keeps a small body, up to one byte over its limit."""

    def __init__(
        self, into: bytearray, room: int, limit: int, too_long: Callable[[int], LimitExceeded]
    ) -> None:
        self._collected = into
        self._room = memoryview(bytearray(room))
        self._limit = limit
        self._too_long = too_long

    def get_buffer(self) -> memoryview:
        return self._room[: self._limit + 1 - len(self._collected)]

    def received(self, count: int) -> None:
        self._collected += self._room[:count]
        if len(self._collected) > self._limit:
            raise self._too_long(self._limit)
