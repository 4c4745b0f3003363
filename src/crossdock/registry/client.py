"""The client of one registry, for one side of any number of copies: every request goes through here.

Requests with a small response (`RegistryClient.request`) follow redirects and are retried. Bodies of blobs
(`open`) and of uploads (`start`) get one try: the code that moves the body decides about retries. All share
the loop that answers a 401, the gates, the connections, the tokens, the TLS settings and the proxies.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from crossdock.errors import (
    Advice,
    CrossdockError,
    InvalidInput,
    InvalidOption,
    ProtocolError,
    RateLimited,
    RedirectRefused,
    RegistryError,
    Side,
    TokenExpired,
)
from crossdock.options import Credentials, MiB, RegistryOptions
from crossdock.protocol import endpoints
from crossdock.protocol.errorcode import MAX_BODY, parse_error
from crossdock.protocol.redirect import MAX_HOPS, REDIRECTS, RESENT, next_hop
from crossdock.redact import redact_url
from crossdock.registry.auth.authorization import NONE, Authenticator, Judgement, Scope
from crossdock.registry.auth.guests import Guests
from crossdock.registry.context import Context
from crossdock.registry.flight import SingleFlight
from crossdock.registry.http.connections import Connections
from crossdock.registry.http.gate import Gates, HostGate
from crossdock.registry.http.headers import AnyHeaders, HeaderView, case_insensitive
from crossdock.registry.http.refusal import BUSY, EXPIRED, refusal
from crossdock.registry.http.reply import Reply, Stream, read_body
from crossdock.registry.http.retry import retry_after
from crossdock.registry.kinds import Kind
from crossdock.registry.memory import memory_of
from crossdock.transport.base import Exchange, Headers, HttpClientInterface, Request
from crossdock.transport.outgoing import JOINED
from crossdock.url import Origin, Url

if TYPE_CHECKING:
    from crossdock.registry.creation import Creation

__all__ = ["NONE", "OnRetry", "RegistryClient", "Reply", "Scope"]

REPLY_LIMIT = 4 * MiB  # bytes; the specification wants registries to accept manifests of this size
TOKEN_REPLY_LIMIT = 1 * MiB

OnRetry = Callable[[str, str], None]
"""Called with ``(operation, reason)`` before a request is sent again."""

_READING = frozenset({"GET", "HEAD"})  # any redirect of them is followed
_AUTH_TRIES = (False, False, True)  # bare, with a cached token, with its replacement; True: the last one
_REFUSED = EXPIRED | {401}
_MAY_PASS = BUSY | {429}
_ALL = range(100, 600)
_NOT_REDIRECTED = frozenset(_ALL) - REDIRECTS

_Response = TypeVar("_Response", Reply, Stream)


class _Call(Struct, frozen=True):
    """The parts of a request that stay the same over its redirects and retries."""

    method: str
    scope: Scope | None  # None: without the registry's ``Authorization``
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
        side: Side,
        options: RegistryOptions,
        context: Context,
        *,
        http: HttpClientInterface | None = None,
    ) -> None:
        """`host` is the API host with an optional port; `options` are the registry's own.

        `http` is a transfer core that the caller owns; without it one is made when first needed. No I/O
        happens here. Raises `InvalidOption` for a proxy or a kind that cannot be used, `InvalidInput` for
        a malformed host.
        """
        self.host = host
        self.side = side
        self.options = options
        self.context = context
        self.network = context.network
        self.memory = memory_of(host, options, context)
        """Learned about the registry by all of its users."""
        self.requests = 0
        """How many were sent, those for tokens included."""
        self._connections = Connections(host, side, options, context, http)
        self.is_inside = self._connections.is_inside
        """As `Connections.is_inside`."""
        self._clock = context.clock
        limits = context.limits
        self._gates = Gates(context.clock, context.network, limits.pauses if limits is not None else None)
        self._pace = limits.of_requests(host) if limits is not None else None
        self._base: Url | None = None
        self._base_flight: SingleFlight[Url] = SingleFlight()
        self._creation: Creation | None = None
        self._guests = Guests(self, context.clock)
        self.auth = Authenticator(
            host,
            side=side,
            store=context.credentials_of(host, side, options),
            asker=self,
            clock=context.clock,
            entry=options.login_entry,
        )
        """The login and the tokens at the registry."""

    @property
    def kind(self) -> Kind:
        """The registry's kind, as far as it is known."""
        return self.memory.kind

    @property
    def creation(self) -> Creation | None:
        """The creator of missing repositories; None unless the options ask for that."""
        if self._creation is None and self.options.create is not None:
            from crossdock.registry.creation import Creation  # seldom asked for

            self._creation = Creation(self, self.options.create, self.options.kind)
        return self._creation

    @property
    def origin(self) -> Origin:
        """The registry's own, once `base_url` has decided it."""
        assert self._base is not None
        return self._base.origin

    async def base_url(self) -> Url:
        """The registry's root; HTTPS or plain HTTP is decided once (`scheme`). # network, on loopback only"""
        if self._base is None:
            self._base = await self._base_flight.run("base", self._connections.choose_base)
        return self._base

    async def request(
        self,
        method: str,
        target: str | Url,
        *,
        scope: Scope | None,
        headers: Headers = (),
        body: bytes | None = None,
        ok: Collection[int] = (200,),
        limit: int | None = None,
        timeout: float | None = None,
        retry: bool = True,
        on_retry: OnRetry | None = None,
    ) -> Reply:
        """A small request and its whole response, whose status is one of `ok`. # network

        `target` is an absolute path with its query, or a URL (which gets no ``Authorization`` unless it is
        the registry's own and there is a `scope`). GET and HEAD follow redirects, other methods 307 and 308,
        with their body. `timeout`: seconds until the first byte of the response.

        With `retry`, failures that may pass are retried as `NetworkOptions.delay_after` says. Without, there
        is one try (and its repetition after a 401). Raises `RegistryError` by status and codes,
        `TransportError`, `RedirectRefused`, `LimitExceeded` for a body over `limit`, `CredentialsError`, and
        `RetriesExhausted`.
        """
        call = _Call(method, scope, headers, body, ok, limit or REPLY_LIMIT, timeout)
        failures: list[CrossdockError] = []
        while True:
            try:
                base = self._base or await self.base_url()
                url = base.with_target(target) if isinstance(target, str) else target
                reply = await self._authorized(call, url, self._whole)
                return reply if reply.status in ok else await self._follow(call, url, self._whole, reply)
            except CrossdockError as error:
                if not retry or not error.retryable:
                    raise
                shown = redact_url(target) if isinstance(target, str) else target
                await self._pause(failures, error, f"{method} {shown}", on_retry)

    async def open(
        self, target: str | Url, *, scope: Scope | None, headers: Headers = (), follow: bool = True
    ) -> Stream:
        """GET a blob: the response to one try, of any status, whose body has not been read. # network

        ``Authorization`` is sent to the registry's own origin if `scope` is given. Raises `TransportError`,
        `RedirectRefused`, `RateLimited` (the gate), and as a token service does.
        """
        base = self._base or await self.base_url()
        url = base.with_target(target) if isinstance(target, str) else target
        ok = _NOT_REDIRECTED if follow else _ALL
        return await self._follow(_Call("GET", scope, headers, None, ok, 0, None), url, self._stream)

    async def start(
        self, method: str, url: Url, *, scope: Scope, headers: Headers = (), content_length: int
    ) -> Exchange:
        """Begin a request with a body of `content_length` bytes. # network

        It carries a token that has a good part of its life left, never just the one of an earlier request
        (U14). The response is the caller's; after a refusal `improve` says whether to start again. One try.
        """
        base = self._base or await self.base_url()
        own = url.origin == base.origin
        sent = await self.auth.authorization(scope, for_long=True) if own else None
        return await self._send(Request(method, url, _with_auth(headers, sent), content_length))

    async def ask(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        follow: bool = False,
    ) -> Reply:
        """As `auth.tokens.Asker.ask`."""
        fields = tuple(headers.items()) if headers else ()
        ok = _NOT_REDIRECTED if follow else _ALL
        call = _Call(method, None, fields, body, ok, TOKEN_REPLY_LIMIT, None)
        failures: list[CrossdockError] = []
        while True:
            try:
                reply = await self._follow(call, url, self._whole, registry=url.origin)
                if reply.status in _MAY_PASS or parse_error(reply.body).is_rate_limit(reply.status):
                    shown = url.with_target(url.path)
                    raise self.error_from(reply.status, reply.headers, reply.body, method, shown)
                return reply
            except CrossdockError as error:
                if not error.retryable:
                    raise
                await self._pause(failures, error, f"{method} {url.with_target(url.path)}", None)

    async def improve(
        self,
        scope: Scope,
        sent: str | None,
        status: int,
        headers: AnyHeaders,
        text: bytes,
        since: float = math.inf,
    ) -> bool:
        """Whether the registry's refusal of a request can be answered by another ``Authorization``. # network

        The request carried `sent`, and was first sent at `since` (monotonic); `text` is the start of the
        response's body. A token that was made after `since` is not replaced. A request that takes long gives
        none, because its token may have expired meanwhile.
        """
        if status != 401:  # a login that has expired? Responses to HEAD do not say so, `/v2/` does
            if status not in _REFUSED or not sent:
                return False
            if not (parse_error(text).is_expired if text else await self.auth.has_ended(sent)):
                return False
        demands = case_insensitive(headers).getall("WWW-Authenticate")
        return await self.auth.improve(scope, sent, since, demands)

    async def log_in(self) -> Credentials | None:
        """Let the registry check the credentials; returns `Authenticator.logged_in_as`. # network

        Raises `Unauthorized`, `Denied`, and as `request`.
        """
        await self.request("GET", endpoints.base(), scope=NONE)
        await self.auth.authorization(NONE)  # also where `GET /v2/` is open to anonymous clients
        return await self.auth.logged_in_as()

    def throttle(self, origin: Origin, status: int, headers: AnyHeaders) -> None:
        """Tell the host's gate about a response to `start`."""
        self._gates.of(origin).saw(status, case_insensitive(headers))

    def error_from(
        self, status: int, headers: AnyHeaders, body: bytes, method: str, url: Url, scope: Scope = NONE
    ) -> RegistryError:
        """The error for a response that refuses."""
        view = case_insensitive(headers)
        elsewhere = "" if url.origin == self.origin else url.origin.authority
        judged = None
        if not elsewhere:
            judged = self.auth.judge(status, scope, view.getall("WWW-Authenticate"))
        said = judged or Judgement()
        error = refusal(
            *(method, url, status, body),
            retry_after=retry_after(view, self._clock.wall()),
            secrets=(*self.auth.secrets(), *self._guests.secrets()),
            advice=said.advice,
            kind=said.kind if judged else None,
            may_pass=said.may_pass,
            location=view.get("Location", ""),
        )
        if isinstance(error, RateLimited) and status != 429:
            self._gates.of(url.origin).saw(429, view)
        if error.advice is not None:
            return error
        means = 429 if isinstance(error, RateLimited) else 401 if isinstance(error, TokenExpired) else status
        if means in (401, 403) and elsewhere and not url.path.startswith("/v2/"):
            return error.replace(advice=Advice("retry-elsewhere"))  # not a registry to log in to
        return error.replace(advice=self.auth.advice(means, scope, elsewhere=elsewhere))

    async def close(self) -> None:
        """Close every connection that was opened here, also when it is cancelled meanwhile."""
        await self._connections.close()

    # -- redirects, authorization, one try -----------------------------------------------------------

    async def _follow(
        self,
        call: _Call,
        url: Url,
        attempt: Callable[[_Call, Url, str | None], Awaitable[_Response]],
        reply: _Response | None = None,
        registry: Origin | None = None,
    ) -> _Response:
        """The response of `call` at `url` or where that redirects to. `registry`: on whose behalf.

        `reply` is the response at `url`, if it is there.
        """
        registry = registry or self.origin
        first = url
        for _ in range(MAX_HOPS + 1):
            if reply is None:
                reply = await self._authorized(call, url, attempt)
            if reply.status in call.ok:
                return reply
            if isinstance(reply, Stream):
                await reply.discard()
            elif reply.status not in (REDIRECTS if call.method in _READING else RESENT):
                raise self.error_from(
                    reply.status, reply.headers, reply.body, call.method, url, call.scope or NONE
                )
            call, url = self._redirected(call, url, reply, registry)
            reply = None
        raise RedirectRefused(f"{call.method} {first}: more than {MAX_HOPS} redirects")

    def _redirected(
        self, call: _Call, url: Url, reply: Reply | Stream, registry: Origin
    ) -> tuple[_Call, Url]:
        """The next request of a redirect. Cookies and given credentials stay with the origin they are for."""
        inside = self.is_inside and registry == self.origin
        try:
            hop = next_hop(url, reply.headers.get("Location", ""), registry=registry, inside=inside)
        except RedirectRefused as error:
            raise RedirectRefused(f"{call.method} {url}: {error}") from None
        if hop.origin == url.origin:
            return call, hop
        if any(name == "Authorization" for name, _ in call.headers):
            raise RedirectRefused(
                f"token service {url.origin} redirects to {hop.origin}: no credentials are sent there"
            )
        kept = tuple(field for field in call.headers if field[0].lower() != "cookie")
        return (call if len(kept) == len(call.headers) else replace(call, headers=kept)), hop

    async def _authorized(
        self, call: _Call, url: Url, attempt: Callable[[_Call, Url, str | None], Awaitable[_Response]]
    ) -> _Response:
        """The response of `call` at `url`, sent again with a newer token where one is demanded.

        Another registry that this one redirects to gets an anonymous token, if it demands one.
        """
        scope, own = call.scope, url.origin == self.origin
        if scope is None or not (own or call.method in _READING):
            return await attempt(call, url, None)
        since = self._clock.monotonic()
        for is_last in _AUTH_TRIES:
            sent = self.auth.ready(scope) if own else self._guests.authorization(url)
            if sent == "":
                sent = await self.auth.authorization(scope)
            reply = await attempt(call, url, sent)
            if own and reply.status != 401:
                self.auth.was_let_in(scope, sent)
            if is_last or reply.status not in _REFUSED:
                return reply
            try:
                if not await self._is_repeated(scope if own else None, sent, since, reply):
                    return reply
            except BaseException:
                if isinstance(reply, Stream):
                    reply.exchange.close()
                raise
        raise AssertionError("the last try returns")

    async def _is_repeated(
        self, scope: Scope | None, sent: str | None, since: float, reply: Reply | Stream
    ) -> bool:
        text = reply.body if isinstance(reply, Reply) else await reply.exchange.read_start(MAX_BODY)
        if scope is not None:
            return await self.improve(scope, sent, reply.status, reply.headers, text, since)
        demands = reply.headers.getall("WWW-Authenticate")
        return reply.status == 401 and await self._guests.improve(reply.url, sent, since, demands)

    async def _whole(self, call: _Call, url: Url, sent: str | None) -> Reply:
        """One try of a request with a small response, within the host's gate."""
        method, body, headers = call.method, call.body, _with_auth(call.headers, sent)
        if body is None:
            request = Request(method, url, headers)
        else:
            request = Request(method, url, headers, len(body), body if len(body) <= JOINED else b"")
        gate = self._gates.of(url.origin)
        pull = method == "GET" and "/manifests/" in url.target
        if not gate.enter_now(pull=pull):
            await gate.enter(pull=pull)
        try:
            if self._pace is not None:
                await self._admit(gate)
            responses = gate.responses
            exchange = await self._transport().send(request)
            try:
                if body is not None and len(body) > JOINED:
                    await exchange.write(memoryview(body))
                head = await exchange.response(call.timeout)
                # A proxy that may have changed the content says 203 for 200 (RFC 9110 15.3.4); digests tell.
                status = 200 if head.status == 203 else head.status
                view = HeaderView(head.headers, head.by_name)
                if method == "HEAD":
                    content = b""
                    exchange.close()
                else:
                    content = await read_body(exchange, method, status, view, call.limit)
                reply = Reply(status, view, content, url)
            except BaseException:
                exchange.close()
                raise
        except InvalidOption:  # a certificate, key or proxy that the person named
            raise
        except InvalidInput:  # a header value made from the server's words
            raise ProtocolError(
                f"{method} {url}: the server sent a URL or header value that cannot be used", retryable=False
            ) from None
        finally:
            gate.leave(pull=pull)
        gate.saw(status, view, responses)
        if self.memory.is_unsure and url.origin == self.origin:
            is_base = status == 200 and url.path == endpoints.base()
            self.memory.saw(view.pairs, reply.body if is_base else None)
        return reply

    async def _stream(self, call: _Call, url: Url, sent: str | None) -> Stream:
        """One try of a request whose response is read by the caller."""
        exchange = await self._send(Request(call.method, url, _with_auth(call.headers, sent)))
        try:
            head = await exchange.response()
        except BaseException:
            exchange.close()
            raise
        view = HeaderView(head.headers, head.by_name)
        self._gates.of(url.origin).saw(head.status, view)
        return Stream(head.status, view, url, head, exchange)

    async def _send(self, request: Request) -> Exchange:
        """Send a request without a place in the gate; it only waits while the gate is closed."""
        gate = self._gates.of(request.url.origin)
        if self._pace is not None or gate.is_closed:
            await self._admit(gate)
        return await self._transport().send(request)

    async def _admit(self, gate: HostGate) -> None:
        """Wait until a request may be sent: the gate is open, and the limits of the options allow it."""
        while True:
            if gate.is_closed:
                await gate.wait()
            if self._pace is None:
                return
            await self._pace.take(1)
            if not gate.is_closed:
                return

    async def _pause(
        self, failures: list[CrossdockError], error: CrossdockError, operation: str, on_retry: OnRetry | None
    ) -> None:
        """Wait before the try after `error`, or raise it. A ``Retry-After`` is waited for at the gate."""
        failures.append(error)
        delay = self.network.delay_after(failures, self._clock.random())
        if on_retry is not None:
            on_retry(operation, str(error))
        elif self.context.on_retry is not None:
            self.context.on_retry(self.side, operation, str(error))
        if getattr(error, "retry_after", None) is None:
            await self._clock.sleep(delay)

    def _transport(self) -> HttpClientInterface:
        """The transfer core for one more request."""
        self.requests += 1
        return self._connections.http()


def _with_auth(headers: Headers, authorization: str | None) -> Headers:
    return headers if authorization is None else (*headers, ("Authorization", authorization))
