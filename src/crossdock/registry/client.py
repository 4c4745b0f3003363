"""The client of one registry: authorized, patient and careful where it sends what.

Small requests (`RegistryClient.request`) follow redirects and are retried here. Blob bodies (`fetch`,
`start`) get one try each: whoever moves the body knows what to do about a failure. Both share the host's
back-off, its connections, the tokens, the TLS settings and the proxies.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Self, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from crossdock.errors import RedirectRefused, RegistryError, Side
from crossdock.options import AddressGuard, Credentials, NetworkOptions, RegistryOptions
from crossdock.protocol import endpoints
from crossdock.protocol.errorcode import MAX_BODY
from crossdock.protocol.redirect import MAX_HOPS, REDIRECTS, RESENT, next_hop, same_origin
from crossdock.registry.auth.authorization import NONE, Scope
from crossdock.registry.door import REFUSED, Door, GuestDoor, OwnDoor
from crossdock.registry.host import REPLY_LIMIT, Host
from crossdock.registry.http.control import Reply
from crossdock.registry.http.headers import AnyHeaders, case_insensitive
from crossdock.registry.http.retry import Clock, Retrier
from crossdock.registry.memory import HostMemory
from crossdock.transport.base import (
    Exchange,
    Headers,
    HttpClientInterface,
    Request,
    ResponseHead,
    ServedAt,
)
from crossdock.transport.redact import redact_url

__all__ = ["NONE", "RegistryClient", "Reply", "Scope"]

T = TypeVar("T")

_READING = frozenset({"GET", "HEAD"})  # any redirect of them is followed
_AUTH_TRIES = (False, False, True)  # bare, with a cached token, with its replacement; True: the last one


class _Call(Struct, frozen=True):
    """What stays the same over the redirects and repetitions of one `RegistryClient.request`."""

    method: str
    scope: Scope
    headers: Headers
    body: bytes | None
    ok: Collection[int]
    limit: int
    timeout: float | None


class RegistryClient:
    """Speaks to one registry for one side of a copy."""

    def __init__(
        self,
        host: str,
        *,
        side: Side,
        options: RegistryOptions,
        network: NetworkOptions,
        environ: Mapping[str, str],
        on_retry: Callable[[str, str], None] | None = None,
        http: HttpClientInterface | None = None,
        served_at: ServedAt | None = None,
        user_agent: str = "crossdock",
        clock: Clock | None = None,
        guard: AddressGuard | None = None,
        on_warning: Callable[[str], None] = lambda message: None,
        is_sole: Callable[[], bool] = lambda: True,
    ) -> None:
        """`host` is the API host with an optional port; `environ` stands for the process's environment.

        `on_retry` is told ``(operation, reason)`` before a request is sent again. `http` is a transfer core
        that the caller owns; without it one is made when first needed, which connects as `served_at`
        says and asks `guard` before each connection. `on_warning` is told of places of logins that cannot be
        used. `is_sole` tells whether variables of the environment for this side can mean no other registry.
        No I/O happens here. Raises `InvalidOption` for a proxy that cannot be used, `InvalidInput` for a host
        that is none.
        """
        clock = clock or Clock()
        self.host = host
        self.side = side
        self.network = network
        self._clock = clock
        self._retrier = Retrier(clock, network, on_retry)
        self._shared = Host(
            host,
            side=side,
            options=options,
            network=network,
            environ=environ,
            on_retry=on_retry,
            http=http,
            served_at=served_at,
            user_agent=user_agent,
            clock=clock,
            guard=guard,
            on_warning=on_warning,
            is_sole=is_sole,
        )
        self._owns_host = True

    def for_copy(self, on_retry: Callable[[str, str], None] | None) -> Self:
        """A client for one more copy: it shares everything of the host and tells `on_retry` of its retries.

        Those of the token service, which serve all copies, are told to the original's listener. Closing it
        does nothing; the original's `close` closes what all of them share.
        """
        other = object.__new__(type(self))
        vars(other).update(vars(self))  # as copy.copy does, in a fifth of its time
        other._retrier = Retrier(self._clock, self.network, on_retry)
        other._owns_host = False
        return other

    def note_retry(self, operation: str, error: BaseException) -> None:
        """Count a repetition that `request` does not make, such as of an upload's request after a 503."""
        self._retrier.note(operation, error)

    @property
    def memory(self) -> HostMemory:
        """What was learned of the host's way of taking uploads, by all of its clients."""
        return self._shared.memory

    @property
    def has_shown_credentials(self) -> bool:
        """The registry has demanded credentials, and was shown some."""
        auth = self._shared.known_auth
        return auth is not None and auth.has_shown_credentials

    @property
    def is_inside(self) -> bool:
        """The registry is served on an internal address: its redirects may lead to such ones."""
        return self._shared.is_inside

    async def base_url(self) -> str:
        """``https://host[:port]`` or ``http://…``, decided once (`scheme`). # network, on loopback only"""
        return self._shared.known_base or await self._shared.base_url()

    async def request(
        self,
        method: str,
        target: str,
        *,
        scope: Scope,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        ok: Collection[int] = (200,),
        limit: int = REPLY_LIMIT,
        timeout: float | None = None,
        retry: bool = True,
    ) -> Reply:
        """A small request and its whole answer, whose status is one of `ok`. # network

        `target` is an absolute path with its query, or an absolute URL (which gets no ``Authorization``
        unless it is the registry's own). GET and HEAD follow redirects, other methods 307 and 308, with their
        body. `timeout` is what the first byte may take.

        With `retry`, failures that may pass are repeated up to ``network.retries`` times, and the last one is
        then wrapped in `RetriesExhausted`. Without, there is one try (and its repetition after a 401).
        Raises `RegistryError` by status and codes, `TransportError`, `RedirectRefused`, `LimitExceeded` for a
        body over `limit`, `CredentialsError`.
        """
        call = _Call(method, scope, tuple(headers.items()) if headers else (), body, ok, limit, timeout)
        if not retry:
            return await self._follow(call, target)
        return await self._retrier.run(
            lambda: f"{method} {redact_url(target)}", lambda: self._follow(call, target)
        )

    async def log_in(self) -> Credentials | None:
        """Let the registry check who asks; who that is, as `Authenticator.logged_in_as` says. # network

        Raises `Unauthorized`, `Denied` and what requests raise.
        """
        await self.request("GET", endpoints.base(), scope=NONE)
        auth = self._shared.auth()
        await auth.authorization(NONE)  # also where `GET /v2/` is open to anybody
        return await auth.logged_in_as()

    async def once_more(self, operation: Callable[[], str], attempt: Callable[[], Awaitable[T]]) -> T:
        """As `Retrier.once_more`."""
        return await self._retrier.once_more(operation, attempt)

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        scope: Scope | None,
        headers: Headers = (),
        as_guest: bool = False,
    ) -> tuple[Exchange, ResponseHead]:
        """Send a request without a body over the transfer core; its answer's head, of any status. # network

        ``Authorization`` is added when `url` has the registry's own origin and `scope` is given; a refusal
        for what was sent there is answered with something newer once. So is, with `as_guest`, a demand for a
        token elsewhere. Redirects are the caller's. One try. Raises `TransportError`, `RateLimited` (the
        gate), and what a token service raises.
        """
        base = await self.base_url()
        door = self._door(url, scope if same_origin(url, base) else None, as_guest=as_guest)
        since = self._clock.monotonic()
        for is_last in _AUTH_TRIES:
            sent = None if door is None else await door.authorization()
            await self._shared.gates.of(url).wait()
            exchange = await self._shared.transfer_core().send(
                Request(method, url, _with_auth(headers, sent))
            )
            try:
                head = await exchange.response()
                self.throttle(url, head.status, head.headers)
                if door is not None and head.status != 401:
                    door.was_let_in(sent)
                if door is None or is_last or head.status not in REFUSED:
                    return exchange, head
                text = await exchange.read_start(MAX_BODY)  # the connection can carry the next try, too
                if not await door.improve(sent, since, head.status, head.headers, text):
                    return exchange, head
            except BaseException:
                exchange.close()
                raise
        raise AssertionError("the last try returns")

    async def start(
        self, method: str, url: str, *, scope: Scope, headers: Headers = (), content_length: int
    ) -> Exchange:
        """Begin a request with a body of `content_length` bytes over the transfer core. # network

        It carries a token that has a good part of its life left, never the one of an earlier request by habit
        (U14). Answers are the caller's; when it is refused for that, `renew` and start again. One try.
        """
        base = await self.base_url()
        own = same_origin(url, base)
        sent = await self._shared.auth().authorization(scope, for_long=True) if own else None
        await self._shared.gates.of(url).wait()
        return await self._shared.transfer_core().send(
            Request(method, url, _with_auth(headers, sent), content_length=content_length)
        )

    async def renew(self, scope: Scope, refused: str | None, headers: AnyHeaders) -> None:
        """See that the next request carries something newer than the ``Authorization`` that was `refused`."""
        demands = case_insensitive(headers).getall("WWW-Authenticate")
        await self._shared.auth().improve(scope, refused, math.inf, demands)

    def error_from(
        self, status: int, headers: AnyHeaders, body: bytes, method: str, url: str, scope: Scope = NONE
    ) -> RegistryError:
        """The error for an answer that refuses, whichever way it came."""
        return self._shared.error_from(status, headers, body, method, url, scope)

    def throttle(self, url: str, status: int, headers: AnyHeaders) -> None:
        """Tell the host's gate about an answer that came over the transfer core."""
        self._shared.gates.of(url).saw(status, case_insensitive(headers))

    async def close(self) -> None:
        """Close every connection of the host, also when it is cancelled meanwhile; see `for_copy`."""
        if self._owns_host:
            await self._shared.close()

    # -- one try -------------------------------------------------------------------------------------

    async def _follow(self, call: _Call, target: str) -> Reply:
        base = self._shared.known_base or await self._shared.base_url()
        url = base + target if target.startswith("/") else target
        allowed = call.scope if url is not target or same_origin(url, base) else None
        for _ in range(MAX_HOPS + 1):
            reply = await self._ask(call, url, self._door(url, allowed, as_guest=call.method in _READING))
            if reply.status in call.ok:
                return reply
            if reply.status not in (REDIRECTS if call.method in _READING else RESENT):
                raise self.error_from(reply.status, reply.headers, reply.body, call.method, url, call.scope)
            hop = next_hop(url, reply.headers.get("Location", ""), registry_url=base, inside=self.is_inside)
            if not same_origin(url, hop.url):
                call = _without_cookies(call)
            url, allowed = hop.url, call.scope if hop.authorized else None
        raise RedirectRefused(
            f"{call.method} {redact_url(target)}: over {MAX_HOPS} redirects, the last to {redact_url(url)}"
        )

    async def _ask(self, call: _Call, url: str, door: Door | None) -> Reply:
        since = self._clock.monotonic()
        for is_last in _AUTH_TRIES:
            sent = None if door is None else await door.authorization()
            reply = await self._shared.control.send(
                call.method,
                url,
                headers=_with_auth(call.headers, sent),
                body=call.body,
                limit=call.limit,
                timeout=call.timeout,
            )
            if door is not None and reply.status != 401:
                door.was_let_in(sent)
            if door is None or is_last or reply.status not in REFUSED:
                return reply
            if not await door.improve(sent, since, reply.status, reply.headers, reply.body):
                return reply
        raise AssertionError("the last try returns")

    def _door(self, url: str, allowed: Scope | None, *, as_guest: bool) -> Door | None:
        if allowed is not None:
            return OwnDoor(self._shared.auth(), allowed)
        return GuestDoor(self._shared.guests, url) if as_guest else None


def _without_cookies(call: _Call) -> _Call:
    kept = tuple(field for field in call.headers if field[0].lower() != "cookie")
    return call if len(kept) == len(call.headers) else replace(call, headers=kept)


def _with_auth(headers: Headers, authorization: str | None) -> Headers:
    if authorization is None:
        return headers
    return (*headers, ("Authorization", authorization))
