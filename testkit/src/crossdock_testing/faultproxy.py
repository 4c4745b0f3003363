"""A reverse proxy on loopback that applies planned faults, each exactly as often as planned.

It stands in front of a real registry or file server, so everything but the fault is real:

    with FaultProxy("127.0.0.1:5000") as proxy:
        cut = proxy.add(Fault("GET */blobs/*", nth=2, breaks=Break("reset", at=300_000)))
        ...  # a client copies from proxy.host
        assert cut.reached.is_set()
        assert proxy.violations == []

It runs an event loop in a thread of its own and can be used from any code, asynchronous or not. `seen`
records the requests, `violations` the client's breaches of HTTP/1.1: such a request gets 400 and its
connection is closed. A planned function that raises is recorded there, too. Every request goes to the
registry over a connection of its own; bodies are streamed. Secrets (credentials, permissions in a query) are
forwarded and not recorded.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable

from crossdock_testing.faults import Fault, Seen
from crossdock_testing.relay import Relay
from crossdock_testing.threads import ThreadedServer
from crossdock_testing.wire import Wire


class FaultProxy(ThreadedServer):
    """A running proxy. Use as a context manager, or `close` it."""

    def __init__(
        self,
        upstream: str,
        *,
        seed: int = 0,
        tls: ssl.SSLContext | None = None,
        upstream_tls: ssl.SSLContext | None = None,
        hostname: str = "127.0.0.1",
    ) -> None:
        """Listen on a free loopback port. `upstream` is the real server's ``host:port``.

        `seed` decides where a `Break` without an offset falls. `tls`: the server's context, to speak TLS to
        clients; `upstream_tls`: a client's context, to speak it to the registry. `hostname` is the name under
        which clients reach the proxy; it has to resolve to 127.0.0.1. Raises `OSError`.
        """
        super().__init__("fault proxy")
        host, _, port = upstream.rpartition(":")
        self.upstream = upstream
        self.upstream_address = host, int(port)
        self.upstream_tls = upstream_tls
        self.tls = tls
        self.seed = seed
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.violations: list[str] = []
        self.hostname = hostname
        self._connections = 0
        self._lock = threading.RLock()  # reentrant, because a matcher may call `count`
        self._ended = threading.Condition(self._lock)
        self.start()

    def __repr__(self) -> str:
        return f"<FaultProxy {self.url} in front of {self.upstream}>"

    @property
    def host(self) -> str:
        """``host:port`` as references have it."""
        return f"{self.hostname}:{self.port}"

    @property
    def url(self) -> str:
        """``http://host:port``, or ``https``."""
        return f"{'https' if self.tls else 'http'}://{self.host}"

    @property
    def names(self) -> tuple[str, ...]:
        """The permitted values of a Host header."""
        return tuple(f"{name}:{self.port}" for name in (self.hostname, "127.0.0.1", "localhost"))

    def add(self, fault: Fault) -> Fault:
        """Plan a fault. If several match a request, the first one planned is applied; all count the match."""
        with self._lock:
            self.faults.append(fault)
        return fault

    def clear(self) -> None:
        """Drop all planned faults and everything recorded."""
        with self._lock:
            self.faults.clear()
            self.seen.clear()
            self.violations.clear()

    def count(self, match: Callable[[Seen], bool]) -> int:
        """How many recorded requests match."""
        with self._lock:
            return sum(match(seen) for seen in self.seen)

    def settle(self, timeout_s: float = 10.0) -> None:
        """Wait until every recorded request has ended or stalls, so that its `Seen` is complete.

        A client receives the last byte of a response before the proxy records that it was the last. Raises
        `TimeoutError`.
        """
        with self._ended:
            if not self._ended.wait_for(lambda: all(seen.ended for seen in self.seen), timeout_s):
                raise TimeoutError(f"a request through {self!r} has not ended within {timeout_s:g} s")

    # -- for `Relay`, in the proxy's thread ----------------------------------------------------------------

    def take(self, seen: Seen) -> tuple[Fault | None, int]:
        """Record a request. Returns the fault for it, if any, and its number."""
        with self._lock:
            self.seen.append(seen)
            matching = [f for f in self.faults if not f.before_requests and f.matches(seen)]
            return _first(matching), len(self.seen)

    def end(self, seen: Seen, how: str) -> None:
        """Record how the request ended; the first call counts."""
        with self._ended:
            seen.ended_at = seen.ended_at or time.monotonic()
            seen.ended = seen.ended or how
            self._ended.notify_all()

    def take_for_connection(self) -> Fault | None:
        """The fault for a connection that was just accepted, if any."""
        with self._lock:
            return _first([fault for fault in self.faults if fault.before_requests])

    # -- the thread ----------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        relays: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            relays.add(task)
            self._connections += 1
            try:
                await Relay(self, Wire(reader, writer), self._connections).run(self.tls)
            except asyncio.CancelledError:
                pass  # the proxy is stopping; the callback of asyncio's streams would log it
            finally:
                relays.discard(task)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=128)
        self.port = server.sockets[0].getsockname()[1]
        await self._until_closed()
        server.close()
        for task in tuple(relays):
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)


def _first(matching: list[Fault]) -> Fault | None:
    """Count the match for each fault; return the first one that is due."""
    due = [fault for fault in matching if fault.take()]
    return due[0] if due else None
