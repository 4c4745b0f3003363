"""One registry as one side of any number of copies sees it: what all clients of that registry share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from urllib.parse import urlsplit

from crossdock.errors import (
    Advice,
    RateLimited,
    RegistryError,
    RetriesExhausted,
    Side,
    TokenExpired,
    TransportError,
    root_cause,
)
from crossdock.options import AddressGuard, MiB, NetworkOptions, RegistryOptions
from crossdock.protocol.acrtoken import is_azure_host
from crossdock.protocol.errorcode import parse_error
from crossdock.protocol.redirect import is_internal, same_origin
from crossdock.registry.auth.authorization import NONE, Authenticator, Judgement, Scope
from crossdock.registry.auth.credentials import CredentialStore
from crossdock.registry.auth.guests import Guests
from crossdock.registry.auth.tokens import TokenService
from crossdock.registry.flight import SingleFlight
from crossdock.registry.http.control import ControlHttp, Reply
from crossdock.registry.http.gate import Gates
from crossdock.registry.http.headers import AnyHeaders, case_insensitive
from crossdock.registry.http.proxies import ProxySettings
from crossdock.registry.http.refusal import BUSY, EXPIRED, refusal
from crossdock.registry.http.retry import Clock, Retrier, retry_after
from crossdock.registry.http.scheme import choose_scheme, place_of, split_host
from crossdock.registry.http.tls import TlsContexts, certs_dirs
from crossdock.registry.memory import HostMemory
from crossdock.transport.base import HttpClientInterface, ServedAt
from crossdock.transport.redact import redact_url

REPLY_LIMIT = 4 * MiB  # bytes; the distribution specification asks registries to take manifests of this size
TOKEN_REPLY_LIMIT = 1 * MiB

_MAY_PASS = BUSY | {429}


class Host:
    """Base URL, tokens, gates, TLS contexts, proxies, connections, and what was learned about uploads."""

    def __init__(
        self,
        host: str,
        *,
        side: Side,
        options: RegistryOptions,
        network: NetworkOptions,
        environ: Mapping[str, str],
        on_retry: Callable[[str, str], None] | None,
        http: HttpClientInterface | None,
        served_at: ServedAt | None,
        user_agent: str,
        clock: Clock,
        guard: AddressGuard | None,
        on_warning: Callable[[str], None],
        is_sole: Callable[[], bool],
    ) -> None:
        """As `client.RegistryClient`. `on_retry` is told about the token service alone."""
        name, port = split_host(host)
        self.name = host
        self.clock = clock
        self.memory = HostMemory(host)
        self.gates = Gates(clock)
        self._side = side
        self._options = options
        self._is_sole = is_sole
        self._network = network
        self._environ = environ
        self._user_agent = user_agent
        self._on_warning = on_warning
        self._retrier = Retrier(clock, network, on_retry)
        self._proxies = ProxySettings.from_environ(environ)
        scheme, usual = ("http", 80) if options.plain_http else ("https", 443)
        if served_at is None or served_at(name, port or usual) is None:
            self._proxies.proxy_for(scheme, name, port or usual)  # of no use: said before anything is asked
        self._tls = TlsContexts(
            options, side=side, host=name, port=port or 443, base_dirs=certs_dirs(environ)
        )
        self.control = ControlHttp(self.transfer_core, self.gates)
        self._transfer = http
        self._served_at = served_at
        self._check = partial(guard.check, registry=host) if guard is not None else None
        self.is_inside = is_internal(place_of(name, port or 443, served_at)[0])
        self._owns_transfer = http is None
        self.known_base = ""  # of `base_url`, once it is decided
        self._base_flight: SingleFlight[str] = SingleFlight()
        self._auth: Authenticator | None = None
        self.guests = Guests(self._ask_token_service, clock, inside=self.is_inside)

    async def base_url(self) -> str:
        """``https://host[:port]`` or ``http://…``, decided once (`scheme`). # network, on loopback only"""
        if not self.known_base:
            scheme = await self._base_flight.run(
                "base",
                lambda: choose_scheme(
                    self.name, self._options, self._network.connect_timeout, self._served_at, self._check
                ),
            )
            self.known_base = f"{scheme}://{self.name}"
        return self.known_base

    @property
    def known_auth(self) -> Authenticator | None:
        """The authenticator, if anything was asked of it yet."""
        return self._auth

    def auth(self) -> Authenticator:
        """The way in; call it after `base_url`."""
        if self._auth is None:
            self._auth = Authenticator(
                self.name,
                side=self._side,
                entry=self._options.login_entry,
                store=CredentialStore(
                    self.name,
                    given=self._options.credentials,
                    environ=self._environ,
                    side=self._side,
                    helper=self._options.helper,
                    own_only=self._options.own_only,
                    is_sole=self._is_sole,
                    az_login=self._options.az_login if is_azure_host(self.name.partition(":")[0]) else "",
                    authfile=self._options.authfile,
                    on_trouble=self._on_warning,
                ),
                tokens=TokenService(
                    self.known_base, self._ask_token_service, self.clock, inside=self.is_inside
                ),
                clock=self.clock,
                ping=self._ping,
                check=self._is_refused,
            )
        return self._auth

    def transfer_core(self) -> HttpClientInterface:
        """The transfer core, made when first needed."""
        if self._transfer is None:
            from crossdock.transport.client import HttpClient

            self._transfer = HttpClient(
                self._network,
                self._tls.settings_for,
                self._proxies.proxy_for,
                self._user_agent,
                self._served_at,
                self._check,
                self._side,
            )
        return self._transfer

    def error_from(
        self, status: int, headers: AnyHeaders, body: bytes, method: str, url: str, scope: Scope = NONE
    ) -> RegistryError:
        """The error for an answer that refuses, whichever way it came."""
        auth, view = self.auth(), case_insensitive(headers)
        secrets = (*auth.secrets(), *self.guests.secrets())
        asked = retry_after(view, self.clock.wall())
        place = urlsplit(url)
        elsewhere = "" if same_origin(url, self.known_base) else place.netloc
        judged = None
        if not elsewhere:
            judged = auth.judge(status, scope, view.getall("WWW-Authenticate"))
        said = judged or Judgement()
        error = refusal(
            *(method, url, status, body),
            retry_after=asked,
            secrets=secrets,
            advice=said.advice,
            kind=said.kind if judged else None,
            may_pass=said.may_pass,
            location=view.get("Location", ""),
        )
        if isinstance(error, RateLimited) and status != 429:
            self.gates.of(url).saw(429, view)
        if error.advice is not None:
            return error
        means = 429 if isinstance(error, RateLimited) else 401 if isinstance(error, TokenExpired) else status
        if means in (401, 403) and elsewhere and not place.path.startswith("/v2/"):
            return error.replace(advice=Advice("retry-elsewhere"))  # not a registry to log in to
        return error.replace(advice=auth.advice(means, scope, elsewhere=elsewhere))

    async def close(self) -> None:
        """Close every connection that was opened here."""
        if self._owns_transfer and self._transfer is not None:
            await self._transfer.close()

    async def _ping(self) -> Sequence[str]:
        url = f"{await self.base_url()}/v2/"

        async def attempt() -> Reply:
            reply = await self.control.send("GET", url, headers=(), limit=REPLY_LIMIT)
            if reply.status in _MAY_PASS:
                raise refusal("GET", url, reply.status, reply.body)
            return reply

        try:
            reply = await self._retrier.run(lambda: f"GET {redact_url(url)}", attempt)
        except (RegistryError, RetriesExhausted) as error:
            if isinstance(root_cause(error), TransportError):
                raise
            return ()  # content may be served all the same, and will say what it demands
        return reply.headers.getall("WWW-Authenticate") if reply.status in (200, 401) else ()

    async def _is_refused(self, authorization: str) -> bool:
        headers = (("Authorization", authorization),)
        url = f"{await self.base_url()}/v2/"
        reply = await self.control.send("GET", url, headers=headers, limit=REPLY_LIMIT)
        return reply.status == 401 or (reply.status in EXPIRED and parse_error(reply.body).is_expired)

    async def _ask_token_service(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Reply:
        bare = urlsplit(url)._replace(query="").geturl()

        async def attempt() -> Reply:
            reply = await self.control.send(
                method, url, headers=tuple(headers.items()), body=body, limit=TOKEN_REPLY_LIMIT
            )
            if reply.status in _MAY_PASS or parse_error(reply.body).is_rate_limit(reply.status):
                raise self.error_from(reply.status, reply.headers, reply.body, method, bare)
            return reply

        return await self._retrier.run(lambda: f"{method} {redact_url(bare)}", attempt)
