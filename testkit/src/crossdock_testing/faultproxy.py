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
import contextlib
import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType

from crossdock_testing.faults import Fault, Seen
from crossdock_testing.relay import Relay
from crossdock_testing.wire import Wire

START_S = 10.0


class FaultProxy:
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
        self.port = 0
        self._connections = 0
        self._lock = threading.RLock()  # reentrant, because a matcher may call `count`
        self._ended = threading.Condition(self._lock)
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="fault proxy", daemon=True)
        self._thread.start()
        self._ready.wait(START_S)
        if self._failure is not None:
            raise self._failure

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

    def close(self) -> None:
        """Stop listening, end stalls, abort every connection and join the thread. Safe to call twice."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

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
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for task in tuple(relays):
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)


def _first(matching: list[Fault]) -> Fault | None:
    """Count the match for each fault; return the first one that is due."""
    due = [fault for fault in matching if fault.take()]
    return due[0] if due else None
