"""A registry that a test writes as a function, a clock that a test moves, and clients for both."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any

from aiohttp import web
from multidict import CIMultiDictProxy

from crossdock.errors import Side
from crossdock.options import NetworkOptions, RegistryOptions
from crossdock.registry.client import RegistryClient, Scope
from crossdock.registry.context import Context
from crossdock.registry.http.retry import Clock
from crossdock.transport.base import Exchange, Headers, ResponseHead
from crossdock.url import Url

Handler = Callable[[web.Request], web.Response | Awaitable[web.Response]]


class MovedClock(Clock):
    """Advances only with `sleep` and `advance`; records sleeps. Random numbers are always ``chance``."""

    def __init__(self, chance: float = 1.0) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.chance = chance

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def random(self) -> float:
        return self.chance


@dataclass(frozen=True)
class Seen:
    """One request that arrived."""

    method: str
    path: str  # with query
    headers: CIMultiDictProxy[str] = field(repr=False)
    body: bytes = b""

    @property
    def authorization(self) -> str | None:
        return self.headers.get("Authorization")


class ScriptedServer:
    """Serves `handler` on a free loopback port and records requests."""

    def __init__(self, handler: Handler, tls: SSLContext | None = None) -> None:
        self.handler = handler
        self.seen: list[Seen] = []
        self._tls = tls
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}"

    def count(self, path_start: str) -> int:
        return sum(seen.path.startswith(path_start) for seen in self.seen)

    async def __aenter__(self) -> ScriptedServer:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.seen.append(Seen(request.method, request.raw_path, request.headers, body))
        answer = self.handler(request)
        return await answer if inspect.isawaitable(answer) else answer


class ClientUnderTest(RegistryClient):
    """A client that closes itself and remembers its retries."""

    def __init__(
        self,
        host: str,
        *,
        side: Side = "source",
        environ: Mapping[str, str] | None = None,
        network: NetworkOptions | None = None,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        self.retried: list[tuple[str, str]] = []
        context = Context(
            network=network or NetworkOptions(timeout=10, retries=3),
            environ=environ or {},
            on_retry=lambda side, operation, reason: self.retried.append((operation, reason)),
            clock=clock or Clock(),
        )
        super().__init__(host, side, RegistryOptions(**options), context)

    async def fetch(
        self, url: str, *, scope: Scope | None, headers: Headers = ()
    ) -> tuple[Exchange, ResponseHead]:
        """GET a blob's URL without following redirects."""
        reply = await self.open(Url.parse(url), scope=scope, headers=headers, follow=False)
        return reply.exchange, reply.head

    async def __aenter__(self) -> ClientUnderTest:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def demand(challenge: str) -> web.Response:
    """A 401 with a challenge."""
    return web.json_response(
        {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]},
        status=401,
        headers={"WWW-Authenticate": challenge},
    )


def refuse(status: int, code: str, message: str = "", **headers: str) -> web.Response:
    """An answer with an error body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"errors": [{"code": code, "message": message}]}, status=status, headers=named)
