"""One request and its answer: the caller's side of a connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from crossdock.errors import LimitExceeded, ReadFailed, TimedOut, WriteFailed
from crossdock.transport.redact import redact_url

if TYPE_CHECKING:
    from crossdock.transport.base import Request, ResponseHead, Sink
    from crossdock.transport.client import HttpClient
    from crossdock.transport.connection import Connection
    from crossdock.transport.origin import Origin


READ_PATIENCE = 10  # `timeout`s for the whole of a small answer


class HttpExchange:
    """`base.Exchange`. Holds a place of the pool until it ends."""

    def __init__(
        self, client: HttpClient, request: Request, origin: Origin, connection: Connection, head: bytes
    ) -> None:
        self._client = client
        self._request = request
        self._origin = origin
        self._connection = connection
        self._head = head
        self._ended = False
        self._begin()

    def __repr__(self) -> str:
        return f"<HttpExchange {self._request.method} {redact_url(self.url)}>"

    @property
    def url(self) -> str:
        """As `Exchange.url`."""
        return self._request.url

    @property
    def answered_early(self) -> bool:
        """As `Exchange.answered_early`."""
        return self._connection.answered_early

    def _begin(self) -> None:
        request = self._request
        self._connection.begin(request.method, request.url, self._head, request.content_length)

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
        phase = "first byte" if timeout is None else "commit"
        bound = self._client.options.timeout if timeout is None else timeout
        try:
            try:
                return await self._connection.response(bound, phase)
            except ReadFailed:
                if not self._died_while_idle():
                    raise
            connection = await self._client.replace(self._origin, self._connection)
            if self._ended:  # meanwhile, by another task; the place is given back
                self._client.discard(self._origin, connection)
                self._check_open(ReadFailed)
            self._connection = connection
            self._begin()
            return await self._connection.response(bound, phase)
        except BaseException:
            self.close()
            raise

    def _died_while_idle(self) -> bool:
        """Whether the server most likely closed the kept connection before the request reached it."""
        connection = self._connection
        unanswered = connection.peer_ended and not connection.answer_began
        return unanswered and connection.exchanges > 1 and not self._request.content_length

    async def receive(self, sink: Sink) -> int:
        """As `Exchange.receive`."""
        self._check_open(ReadFailed)
        try:
            return await self._connection.receive(sink)
        finally:
            self.close()

    async def read(self, limit: int) -> bytes:
        """As `Exchange.read`."""
        what = f"{self._request.method} {redact_url(self.url)}"
        sink = _Collector(limit, what)
        bound = READ_PATIENCE * self._client.options.timeout
        try:
            async with asyncio.timeout(bound):
                await self.receive(sink)
        except TimedOut:
            raise
        except TimeoutError:  # dripped, just fast enough for the watchdog
            raise TimedOut(
                f"{what}: a small answer was not whole after {bound:g} s", phase="low speed"
            ) from None
        return bytes(sink.collected)

    def resume(self) -> None:
        """As `Exchange.resume`."""
        if not self._ended:
            self._connection.resume()

    def close(self) -> None:
        """As `Exchange.close`."""
        if not self._ended:
            self._ended = True
            self._connection.finish()
            self._client.release(self._origin, self._connection)

    def _check_open(self, kind: type[ReadFailed] | type[WriteFailed]) -> None:
        if self._ended:
            url = redact_url(self.url)
            method = self._request.method
            raise kind(f"{method} {url}: the exchange has ended", method=method, url=url, retryable=False)


class _Collector:
    """A sink that keeps a small body whole."""

    def __init__(self, limit: int, what: str) -> None:
        self.collected = bytearray()
        self._limit = limit
        self._what = what
        self._room = memoryview(
            bytearray(min(64 * 1024, limit + 1))
        )  # one byte over shows that it is too long

    def get_buffer(self) -> memoryview:
        return self._room

    def received(self, count: int) -> None:
        self.collected += self._room[:count]
        if len(self.collected) > self._limit:
            details: dict[str, Any] = {"limit": self._limit}
            raise LimitExceeded(f"{self._what}: the answer is longer than {self._limit} bytes", **details)
