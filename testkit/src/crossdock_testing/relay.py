"""One client connection of a fault proxy: requests in, the registry's responses out, with faults applied."""

from __future__ import annotations

import asyncio
import random
import re
import ssl
from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from crossdock.redact import HIDDEN, redact_url
from crossdock_testing.faults import AS_SENT, Answer, Break, Fault, HeaderList, Seen, Where
from crossdock_testing.wire import MAX_HEAD, BadRequest, Head, Wire, parse_answer, parse_request

if TYPE_CHECKING:
    from crossdock_testing.faultproxy import FaultProxy

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "transfer-encoding",
        "upgrade",
        "te",
        "trailer",
        "proxy-connection",
        "expect",
    }
)
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie"})
_NOTHING = Fault()


class Ended(Exception):
    """The connection was broken or closed as planned."""


class Relay:
    """Serves one connection until it ends."""

    def __init__(self, proxy: FaultProxy, wire: Wire, number: int) -> None:
        self._proxy = proxy
        self._wire = wire
        self._number = number
        self._fault = _NOTHING
        self._seen = Seen("", "", {})
        self._is_read = False  # whether the whole body of the request was read
        self._begins_at = 0  # the offset in the blob of the response's first byte
        self._chance = random.Random()

    async def run(self, tls: ssl.SSLContext | None) -> None:
        """Serve until the connection ends, in whatever way."""
        try:
            await self._begin(tls)
            served = 0
            while await self._next(served):
                served += 1
            await self._wire.close()
        except (Ended, OSError, ssl.SSLError):
            pass
        except BadRequest as error:
            self._proxy.violations.append(f"{self._seen.method} {self._seen.path}: {error}".strip(" :"))
            await self._wire.send(_encode(400, "Bad Request", [("Connection", "close")]))
            await self._wire.close()
        except Exception as error:  # in a function that a test planned
            self._proxy.violations.append(
                f"{self._seen.method} {self._seen.path}: the fault failed: {error!r}"
            )
        finally:
            self._proxy.end(self._seen, "left")
            self._wire.drop()

    async def _begin(self, tls: ssl.SSLContext | None) -> None:
        self._use(self._proxy.take_for_connection(), self._number)
        if self._is_broken_at("connect"):
            await self._break()
        if tls is not None:
            if self._stop_at("handshake", None) == 0:
                await self._wire.hello()
                await self._break()
            await self._wire.accept_tls(tls, self._shake if self._fault.before_requests else None)

    async def _shake(self, data: bytes) -> None:
        """Send the server's next part of the TLS handshake."""
        fault = self._fault
        if fault.flip_at is not None and fault.flip_at < len(data):
            data = _flip(data, fault.flip_at)
            fault.happens()
        stop = self._stop_at("handshake", None)
        for part in self._paced(data[:stop], "handshake"):
            await self._pace(len(part), "handshake")
            await self._wire.send_raw(part)
        if stop is not None:
            await self._break()

    def _use(self, fault: Fault | None, number: int) -> None:
        self._fault = fault or _NOTHING
        self._chance = random.Random(f"{self._proxy.seed} {number} {self._fault.matched}")

    # -- one request ---------------------------------------------------------------------------------------

    async def _next(self, served: int) -> bool:
        """Serve one request. Returns whether the connection stays open."""
        wire = self._wire
        self._seen = Seen("", "", {})
        data = await wire.until(b"\r\n\r\n", MAX_HEAD)
        if not data:
            return False
        head = parse_request(data)
        self._check_host(head)
        shown = {name.lower(): _shown(name.lower(), value) for name, value in head.headers}
        seen = Seen(head.first, redact_url(head.second), shown, connection=self._number, earlier=served)
        self._seen = seen
        self._is_read = not head.length and not head.is_chunked
        self._use(*self._proxy.take(seen))
        stop = self._stop_at("request", head.length)
        if stop == 0:
            await self._break()
        body = self._request_body(head, stop)
        answer = self._fault.answer
        if answer is not None:
            goes_on = await self._say(answer(seen) if callable(answer) else answer, body, head.second)
        else:
            goes_on = await self._forward(head, body)
        if self._is_broken_at("idle"):
            await self._break()
        self._proxy.end(seen, "whole")
        return goes_on and "close" not in head.get("connection").lower()

    def _check_host(self, head: Head) -> None:
        place = urlsplit(head.second).netloc if not head.second.startswith("/") else ""
        host = head.get("host")
        if place and host != place:
            raise BadRequest(f"Host {host} and the target {place}")
        if not place and host not in self._proxy.names:
            raise BadRequest(f"Host {host} is not this server")

    async def _request_body(self, head: Head, stop: int | None) -> AsyncIterator[bytes]:
        """The request's body, as far as the fault permits."""
        if "100-continue" in head.get("expect").lower() and (head.length or head.is_chunked):
            await self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        async for piece in self._wire.body(head):
            await self._pace(len(piece), "body")
            before = self._seen.received
            if stop is not None and before + len(piece) >= stop:
                self._seen.received = stop
                yield piece[: stop - before]
                await self._break()
            self._seen.received += len(piece)
            yield piece
        self._is_read = True

    # -- a response of the fault's own ---------------------------------------------------------------------

    async def _say(self, answer: Answer | bytes, body: AsyncIterator[bytes], target: str) -> bool:
        limit = self._fault.answer_after
        if limit is None or limit > 0:
            async for _ in body:
                if limit is not None and self._seen.received >= limit:
                    break
        if isinstance(answer, bytes):
            self._fault.happens()
            await self._wire.send(answer)
            self._proxy.end(self._seen, "close")
            await self._wire.close()
            raise Ended
        headers = [(name, value.replace(AS_SENT, target)) for name, value in answer.headers.items()]
        if not _framed(headers):
            headers.append(("Content-Length", str(len(answer.body))))
        return await self._answer(answer.status, "", headers, _pieces(answer.body), len(answer.body))

    # -- the registry's response ---------------------------------------------------------------------------

    async def _forward(self, head: Head, body: AsyncIterator[bytes]) -> bool:
        reader, writer = await asyncio.open_connection(
            *self._proxy.upstream_address, limit=MAX_HEAD, ssl=self._proxy.upstream_tls
        )
        upstream = Wire(reader, writer)
        try:
            await upstream.send(self._request_head(head))
            await self._pass_on(head, body, upstream)
            answer = await self._registry_head(upstream)
            status = int(answer.first)
            size = answer.length
            if head.first == "HEAD" or status in (204, 304):
                pieces = _pieces(b"")
            elif answer.is_chunked or answer.length is not None:
                pieces = upstream.body(answer)
            else:
                pieces = upstream.rest()
            kept = [(name, value) for name, value in answer.headers if name.lower() not in _HOP_BY_HOP]
            if answer.is_chunked:
                kept.append(("Transfer-Encoding", "chunked"))
            begins = re.match(r"bytes (\d+)-", answer.get("content-range"))
            self._begins_at = int(begins[1]) if begins else 0
            if not (head.length or head.is_chunked):  # else the request's body was flipped
                pieces = self._flipped(self._begins_at, pieces)
            return await self._answer(status, answer.second, kept, pieces, size)
        finally:
            upstream.drop()

    async def _pass_on(self, head: Head, body: AsyncIterator[bytes], upstream: Wire) -> None:
        """Forward the request's body, until the registry closes the connection."""
        if self._fault.passes is not None:
            self._fault.happens()
        first = re.match(r"(\d+)-", head.get("content-range"))
        async for piece in self._flipped(int(first[1]) if first else 0, self._shortened(body)):
            try:
                await upstream.send(b"%x\r\n%b\r\n" % (len(piece), piece) if head.is_chunked else piece)
            except ConnectionError:
                self._is_read = False
                return  # its response says why
        if head.is_chunked:
            await upstream.send(b"0\r\n\r\n")

    async def _shortened(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        left = self._fault.passes
        async for piece in body:
            yield piece[:left]
            if left is not None:
                left = max(0, left - len(piece))

    async def _registry_head(self, upstream: Wire) -> Head:
        while True:
            data = await upstream.until(b"\r\n\r\n", MAX_HEAD)
            if not data:
                raise ConnectionResetError("the registry closed the connection without a response")
            answer = parse_answer(data)
            if answer.first >= "200":
                return answer

    def _request_head(self, head: Head) -> bytes:
        fault = self._fault
        lines = [f"{head.first} {head.second} HTTP/1.1"]
        for name, value in head.headers:
            if name.lower() == "range":
                if fault.strip_range:
                    continue
                if fault.widen:
                    value = re.sub(r"\d+$", lambda last: str(int(last[0]) + fault.widen), value)
            if name.lower() == "content-length" and fault.passes is not None:
                value = str(min(int(value), fault.passes))
            if name.lower() not in _HOP_BY_HOP:
                lines.append(f"{name}: {value}")
        if head.is_chunked:
            lines.append("Transfer-Encoding: chunked")
        if self._proxy.tls is not None:
            lines.append("X-Forwarded-Proto: https")  # docker-registry builds its Locations from it
        return ("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode("latin-1")

    async def _flipped(self, offset: int, pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """A body that begins at `offset` of its blob, with the fault's one bit flipped."""
        place = self._fault.flip_at
        async for piece in pieces:
            if place is not None and offset <= place < offset + len(piece):
                self._fault.happens()
                yield _flip(piece, place - offset)
            else:
                yield piece
            offset += len(piece)

    # -- sending -------------------------------------------------------------------------------------------

    async def _answer(
        self, status: int, reason: str, headers: HeaderList, pieces: AsyncIterable[bytes], size: int | None
    ) -> bool:
        """Send a response of `size` bytes (None: unknown). Returns whether the connection stays open."""
        fault, wire, seen = self._fault, self._wire, self._seen
        if fault.head is not None:
            status, headers = fault.head(status, headers)
        if fault.head is not None or fault.answer is not None or fault.strip_range or fault.widen:
            fault.happens()
        bodyless = seen.method == "HEAD" or status in (204, 304)
        if not self._is_read or not (bodyless or _framed(headers)):
            headers = [*headers, ("Connection", "close")]
        if self._is_read and await wire.is_ahead():
            raise BadRequest("more was sent before the response (pipelining)")
        seen.status = status
        await self._send_up_to(_encode(status, reason, headers), "head")
        chunked = any(name.lower() == "transfer-encoding" for name, _ in headers)
        if not bodyless:
            stop = self._stop_in_body(size)
            async for piece in pieces:
                await self._send_body(piece, stop, chunked)
            if stop is not None and seen.sent <= stop:
                await self._break()
            if fault.extra:
                await self._send_body(fault.extra, None, chunked)
                fault.happens()
            if chunked:
                await wire.send(b"0\r\n\r\n")
        stated = next((int(v) for n, v in headers if n.lower() == "content-length" and v.isdigit()), 0)
        short = not bodyless and seen.sent < stated
        return not short and not any(n.lower() == "connection" and "close" in v.lower() for n, v in headers)

    async def _send_body(self, piece: bytes, stop: int | None, chunked: bool) -> None:
        seen = self._seen
        limit = len(piece) if stop is None else min(len(piece), stop - seen.sent)
        for part in self._paced(piece[:limit], "body"):
            await self._pace(len(part), "body")
            await self._wire.send(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            seen.sent += len(part)
        if limit < len(piece):
            await self._break()

    async def _send_up_to(self, data: bytes, where: Where) -> None:
        stop = self._stop_at(where, len(data))
        for part in self._paced(data[:stop], where):
            await self._pace(len(part), where)
            await self._wire.send(part)
        if stop is not None:
            await self._break()

    def _paced(self, piece: bytes, where: Where) -> list[bytes]:
        """The piece, cut small enough for an even rate."""
        if self._fault.rate is None or self._fault.within != where or not piece:
            return [piece] if piece else []
        step = max(1, int(self._fault.rate / 20))
        return [piece[at : at + step] for at in range(0, len(piece), step)]

    async def _pace(self, count: int, where: Where) -> None:
        if self._fault.rate is not None and self._fault.within == where:
            if not self._fault.reached.is_set():
                self._fault.happens()
            await asyncio.sleep(count / self._fault.rate)

    # -- breaking ------------------------------------------------------------------------------------------

    def _is_broken_at(self, where: Where) -> bool:
        return self._fault.breaks is not None and self._fault.breaks.where == where

    def _stop_at(self, where: Where, size: int | None) -> int | None:
        """After how many bytes of `where` the connection breaks; None: not there."""
        if not self._is_broken_at(where):
            return None
        assert self._fault.breaks is not None
        at = self._fault.breaks.at
        if at is None:
            return self._chance.randrange(size + 1) if size else 0
        if at < 0:
            return max(0, (size or 0) + at)
        return at

    def _stop_in_body(self, size: int | None) -> int | None:
        """After how many bytes of the response's body the connection breaks; None: not there."""
        if not self._is_broken_at("blob"):
            return self._stop_at("body", size)
        assert self._fault.breaks is not None
        stop = (self._fault.breaks.at or 0) - self._begins_at
        return stop if stop >= 0 and (size is None or stop < size) else None

    async def _break(self) -> NoReturn:
        plan: Break | None = self._fault.breaks
        assert plan is not None
        self._fault.happens()
        self._proxy.end(self._seen, plan.how)
        if plan.in_record:
            await self._wire.begin_record()
        if plan.how == "stall":
            await asyncio.Event().wait()  # until the proxy stops
        elif plan.how == "reset":
            await self._wire.reset()
        else:
            await self._wire.close(notify=plan.how == "close")
        raise Ended


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data


def _flip(data: bytes, at: int) -> bytes:
    return b"%b%c%b" % (data[:at], data[at] ^ 1, data[at + 1 :])


def _framed(headers: HeaderList) -> bool:
    return any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers)


def _encode(status: int, reason: str, headers: HeaderList) -> bytes:
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _shown(name: str, value: str) -> str:
    return f"{value.partition(' ')[0]} {HIDDEN}" if name in _CREDENTIALS else value
