"""The ``Authorization`` header of a request, per scope.

With credentials, the client sends ``GET /v2/`` first, because a registry may show less to anonymous clients
without ever responding 401: zot sends its challenge with a 200, GitHub's docker registry responds 404 to
content. Without credentials, no ``Authorization`` is sent until the registry demands it. The first challenge
(that of the 401, or else that of ``GET /v2/``) decides between Basic with the credentials and a bearer token
per scope. Tokens are cached until shortly before they expire, and tasks that need the same token share one
request.

After a 401, or an equivalent status, `Authenticator.improve` tells whether to send the request again. That is
worthwhile once, in four cases: no header was sent yet, another task already has a newer token, the token was
older than this request and is replaced now, or a credential helper now returns other credentials. When a
token that was issued for this very request is refused, the refusal is final, with two exceptions: the new
challenge names a scope that was not requested (a mirror that keeps its repositories under another name), or
the token has never been accepted and is only seconds old, so that an instance whose clock is behind may
accept it soon. The wait is short. It is longer only for the token of a login that ``GET /v2/`` refuses too:
a token that is accepted there has no right to the content, and an anonymous token seldom has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct

from crossdock.errors import (
    Advice,
    CredentialsError,
    InvalidInput,
    RegistryError,
    RetriesExhausted,
    Side,
    TokenExpired,
    TransportError,
    Unauthorized,
    WrongScope,
    root_cause,
)
from crossdock.oci.registryname import registry_key
from crossdock.options import Credentials, InventoryEntry
from crossdock.protocol import endpoints
from crossdock.protocol.acrtoken import NULL_USER
from crossdock.protocol.challenge import Challenge, basic, parse_challenges
from crossdock.protocol.errorcode import parse_error
from crossdock.registry.auth.credentials import CredentialStore
from crossdock.registry.auth.issuer import Issuer
from crossdock.registry.flight import SingleFlight
from crossdock.registry.http.refusal import EXPIRED
from crossdock.registry.http.reply import Reply
from crossdock.registry.http.retry import Clock
from crossdock.url import Url

if TYPE_CHECKING:
    from crossdock.registry.auth.tokens import Asker, Token

_SPOKEN = ("bearer", "basic")  # in order of preference
_REFUSED_ACTIONS = frozenset({"delete", "*"})  # a copy needs none; Quay refuses the whole token (A1)

EXPIRY_MARGIN_S = 5.0
"""A token is replaced this long before it expires; at most a tenth of its lifetime."""
CHECK_S = 60.0
"""How long the response to ``GET /v2/`` with a login or token is trusted."""
YOUNG_S = 10.0
"""A token younger than this may not be valid yet on every instance; clocks of a cluster differ by less."""
SETTLES_S = 2.0
"""A young token that is still refused after this long is tried at ``GET /v2/``. If it is accepted there, it
has no right to the content; else it may have been revoked, and is replaced once. An anonymous token is not
waited for any longer."""
LONG_REQUEST_S = 60.0
"""Remaining lifetime that a token needs to start an upload; at most half of the whole (U14)."""


class Scope(Struct, frozen=True, cache_hash=True):
    """The rights that a request needs. ``entries`` are scopes in the token service's form,
    ``type:name:actions``."""

    entries: tuple[str, ...] = ()
    repository: str = ""  # whose credentials count; empty: the registry's
    is_optional: bool = False  # a refusal says nothing about the login: it may be good for everything else

    @classmethod
    def pull(cls, repository: str) -> Scope:
        """Read a repository."""
        return cls((f"repository:{repository}:pull",), repository)

    @classmethod
    def push(cls, repository: str, mount_from: str | None = None) -> Scope:
        """Write a repository, and read the one that blobs are mounted from."""
        entries = [f"repository:{repository}:pull,push"]
        if mount_from is not None and mount_from != repository:
            entries.append(f"repository:{mount_from}:pull")
        return cls(tuple(entries), repository)

    @classmethod
    def delete(cls, repository: str) -> Scope:
        """Remove tags of a repository."""
        return cls((f"repository:{repository}:delete",), repository)

    @classmethod
    def metadata(cls, repository: str, *, is_optional: bool = False) -> Scope:
        """Read an Azure registry's metadata of a repository's manifests and tags."""
        return cls((f"repository:{repository}:metadata_read",), repository, is_optional)

    @classmethod
    def catalog(cls) -> Scope:
        """List the registry's repositories."""
        return cls(("registry:catalog:*",))


NONE = Scope()
"""No rights in particular: ``GET /v2/``."""


class Judgement(Struct, frozen=True):
    """The meaning of a 401, where more than its status is known."""

    kind: type[RegistryError] = Unauthorized
    advice: Advice | None = None
    may_pass: bool = False  # the same request may succeed in a moment


class _Ready(Struct, frozen=True):
    """A header that may be sent before `until` (monotonic clock)."""

    header: str | None
    until: float


class Authenticator:
    """Authenticates with one registry: its challenge, its tokens and our credentials."""

    def __init__(
        self,
        host: str,
        *,
        side: Side,
        store: CredentialStore,
        asker: Asker,
        clock: Clock,
        entry: InventoryEntry | None = None,
    ) -> None:
        """`asker` sends the requests for challenges and tokens. `entry` is the inventory entry that the login
        comes from.
        """
        self._host = registry_key(host)  # as docker login knows it
        self._side = side
        self._entry = entry or InventoryEntry("", "")
        self._store = store
        self._asker = asker
        self._issuer = Issuer(store, asker, clock)
        self._clock = clock
        self._checked: dict[str, tuple[bool, float]] = {}  # only the last: whether it was refused, and when
        self._challenge: Challenge | None = None
        self._was_let_in = False
        self._was_asked = False  # `ping`
        self._strangers: set[str] = set()  # repositories without credentials, searched only once
        self._tokens: dict[Scope, Token] = {}
        self._taken: dict[Scope, str] = {}  # the last header that got a response other than 401
        self._ready: dict[Scope, _Ready] = {}
        self._replaced: set[Scope] = set()  # replaced because their token was never accepted
        self._valid = ""  # the last token that `GET /v2/` accepted after content was refused to it
        self._wider: dict[Scope, tuple[str, ...]] = {}
        self._flights: SingleFlight[Token] = SingleFlight()
        self._pings: SingleFlight[None] = SingleFlight()
        self._checks: SingleFlight[bool] = SingleFlight()

    @property
    def has_shown_credentials(self) -> bool:
        """The registry has demanded credentials, and some are known."""
        return self._challenge is not None and any(True for _ in self._store.all_known())

    def ready(self, scope: Scope) -> str | None:
        """As `authorization`, but without waiting; an empty string: await `authorization`."""
        ready = self._ready.get(scope)
        if ready is not None:
            return ready.header if self._clock.monotonic() < ready.until else ""
        is_open = self._was_asked or scope.repository in self._strangers or self._store.has_nothing
        return None if self._challenge is None and is_open else ""

    async def authorization(self, scope: Scope, *, for_long: bool = False) -> str | None:
        """The header's value for a request that starts now; None: not demanded, or no credentials.

        `for_long`: the request takes long and is expensive to repeat. Raises the errors of `fetch_token` and
        `CredentialStore.find`.
        """
        if self._challenge is None and not self._was_asked:
            is_unsure = for_long and not self._was_let_in
            if is_unsure or await self._has_credentials(scope.repository):
                await self._ask_first()
        challenge = self._challenge
        if challenge is None:
            return None
        credentials = await self._store.find(scope.repository)
        if credentials is not None and credentials.registry_token:
            return self._keep(scope, f"Bearer {credentials.registry_token}")
        if challenge.scheme == "basic":
            header = _basic_of(credentials) or None if credentials else None
            return self._keep(scope, header, self._store.renewed_at(credentials))
        token = self._tokens.get(scope)
        if token is None or not self._is_fresh(token, for_long=for_long):
            token = await self._flights.run(scope, lambda: self._mint(scope, challenge))
        return self._keep(scope, f"Bearer {token.value}", token.expires - _margin(token))

    def _keep(self, scope: Scope, header: str | None, until: float = math.inf) -> str | None:
        self._ready[scope] = _Ready(header, until)
        return header

    async def improve(self, scope: Scope, sent: str | None, since: float, headers: Sequence[str]) -> bool:
        """Whether to repeat the request that carried `sent` and got a 401, with a new header.

        `since`: when the request was first sent (monotonic). `headers`: the 401's ``WWW-Authenticate``.
        """
        self._ready.clear()
        self._learn(headers)
        if self._challenge is None and not self._was_asked:
            await self._ask_first()
        widened = self._widen(scope)
        current = await self.authorization(scope)
        if current is None or current != sent:
            return current is not None
        token = self._tokens.get(scope)
        if token is None or current != f"Bearer {token.value}":
            # Basic, or a token from the credentials themselves.
            self._ready.clear()
            return await self._store.renew(scope.repository, self._store.known(scope.repository))
        if not widened and (token.minted >= since or await self._is_waited_for(scope, token)):
            why = "has no right to this request"
            known = self._store.known(scope.repository)
            if scope.is_optional or not self._store.withdraw(scope.repository, known, why):
                return False
        self._ready.clear()
        del self._tokens[scope]
        return True

    async def has_ended(self, sent: str) -> bool:
        """Whether the registry refuses `sent` at ``GET /v2/`` too. # network"""
        is_refused, at = self._checked.get(sent, (False, -CHECK_S))
        if self._clock.monotonic() - at < CHECK_S:
            return is_refused

        async def check() -> bool:
            reply = await self._get_base({"Authorization": sent})
            is_refused = reply is not None and (
                reply.status == 401 or (reply.status in EXPIRED and parse_error(reply.body).is_expired)
            )
            self._checked = {sent: (is_refused, self._clock.monotonic())}
            return is_refused

        return await self._checks.run(sent, check)

    @property
    def token_seconds(self) -> float | None:
        """How long a token lasts, by the token service's own number; None where there is none."""
        return next((token.stated_s for token in self._tokens.values() if token.stated_s is not None), None)

    @property
    def service(self) -> str:
        """The service that the challenge names; empty while there is none."""
        return self._challenge.get("service") if self._challenge is not None else ""

    async def login_seen_here(self, repository: str) -> Credentials | None:
        """The login for an API beside the registry's, which this host sees anyway. # network

        None where the password goes to a token service on another host: it is not this host's to know.
        """
        if self._challenge is None and not self._was_asked and await self._has_credentials(repository):
            await self._ask_first()
        challenge = self._challenge
        if challenge is None:
            return None
        credentials = await self._store.find(repository)
        if credentials is None or credentials.registry_token or challenge.scheme == "basic":
            return credentials
        from crossdock.registry.auth.tokens import TokenService

        service = TokenService.named_by(challenge, self._asker.origin, inside=self._asker.is_inside)
        return credentials if service.realm.origin == self._asker.origin else None

    async def logged_in_as(self) -> Credentials | None:
        """The accepted login in the form that docker stores: a refresh token in place of an access token.

        None when it was anonymous, or an access token that the registry does not exchange.
        """
        credentials = await self._store.find("")
        if credentials is None or not credentials.access_token:
            return credentials
        refresh = self._issuer.refresh_token(credentials.access_token)
        return Credentials(username=NULL_USER, password=refresh) if refresh else None

    def was_let_in(self, scope: Scope, sent: str | None) -> None:
        """The request that carried `sent` got a status other than 401."""
        self._was_let_in = True
        if sent is not None and self._taken.get(scope) is not sent:
            self._taken[scope] = sent
            self._replaced.discard(scope)

    def forget(self, repository: str) -> None:
        """Get new tokens for a repository: those from before it was there grant nothing."""
        self._tokens = {
            scope: token for scope, token in self._tokens.items() if scope.repository != repository
        }
        self._ready.clear()

    def advice(self, status: int, scope: Scope, *, elsewhere: str = "") -> Advice | None:
        """Advice for a refusal with this status; None when credentials have nothing to do with it.

        `elsewhere` is the host that refused, if the request was redirected to one that gets no credentials.
        """
        if status not in (401, 403, 429):
            return None
        log_in = Advice("log-in", side=self._side, registry=self._host)
        if status == 429:
            is_known = any(True for _ in self._store.all_known())
            return None if is_known else log_in.replace(why=f"logged in, {self._host} may allow more")
        if elsewhere:
            return Advice(
                "name-registry",
                why=f"{self._host} redirected this request to {elsewhere}, and credentials are not forwarded",
                registry=elsewhere,
            )
        credentials = self._store.known(scope.repository)
        if credentials is None and self._store.troubles:
            trouble, remedy = next(iter(self._store.troubles.items()))
            return (remedy or log_in).replace(why=trouble)
        if credentials is None:
            return log_in.replace(why=f"no credentials for {self._host} were found")
        if self._challenge is None:
            return Advice("omit-login", f"{self._host} does not ask for a login, so yours was not sent")
        refusal = self._issuer.refusal(credentials.access_token)
        if refusal is not None or credentials.access_token:
            why = str(refusal or f"the request to {self._host} was sent with an access token")
            return Advice("new-azure-token", why=why, registry=self._host)
        if cloud := self._store.cloud_of(credentials):
            why = f"the request to {self._host} was sent with the login of {cloud}"
            return Advice("give-rights", "give its identity a role on this registry, or log in", why=why)
        who = f"as user {credentials.username!r}" if credentials.username else "with a token"
        return log_in.replace(
            kind="check-login", why=f"the request to {self._host} was sent {who}", **self._entry._asdict()
        )

    def judge(self, status: int, scope: Scope, headers: Sequence[str]) -> Judgement | None:
        """The meaning of a 401 to one of our tokens, with advice; None when only the status is known.

        `headers`: its ``WWW-Authenticate``. A registry responds ``insufficient_scope`` (RFC 6750) when the
        token grants too little; an issued token may also tell by its ``access`` claim.
        """
        if status != 401:
            return None
        from crossdock.protocol import webtoken  # only needed after refusals

        credentials = self._store.known(scope.repository) or Credentials()
        given = credentials.registry_token or credentials.access_token
        token = self._tokens.get(scope)
        if credentials.registry_token or (token is not None and token.value == given):
            ago = webtoken.expired_s(given, self._clock.wall())
            advice = Advice("new-token", why=f"the token expired {ago:.0f} s ago")
            return Judgement(TokenExpired, advice) if ago else None
        if token is None:
            return None
        missing = webtoken.missing(token.value, scope.entries)
        if missing or any(each.get("error") == "insufficient_scope" for each in parse_challenges(headers)):
            if self._store.known(scope.repository) is None:
                return None
            who = f"user {credentials.username!r}" if credentials.username else "the token"
            rights = " ".join(missing or scope.entries)
            return Judgement(WrongScope, Advice("give-rights", why=f"{who} has no right to {rights}"))
        is_young = self._is_young(scope, token)
        return Judgement(advice=self.advice(401, scope), may_pass=True) if is_young else None

    def secrets(self) -> Iterator[str]:
        """Every value that must not appear in messages."""
        for credentials in self._store.all_known():
            yield from (credentials.password, credentials.identity_token, credentials.registry_token)
            yield credentials.access_token
            yield basic(credentials.username, credentials.password).removeprefix("Basic ")
            yield basic(NULL_USER, credentials.access_token).removeprefix("Basic ")
        yield from self._issuer.secrets()
        for token in self._tokens.values():
            yield token.value

    async def _has_credentials(self, repository: str) -> bool:
        if repository in self._strangers:
            return False
        with suppress(CredentialsError):  # raised again if the registry demands a login
            if await self._store.find(repository) not in (None, Credentials()):
                return True
        self._strangers.add(repository)
        return False

    async def _ask_first(self) -> None:
        async def ask() -> None:
            reply = await self._get_base()
            if reply is not None and reply.status in (200, 401):
                self._learn(reply.headers.getall("WWW-Authenticate"))
            self._was_asked = True

        await self._pings.run("ping", ask)

    async def _get_base(self, headers: Mapping[str, str] | None = None) -> Reply | None:
        """The response to ``GET /v2/``; None for a refusal, since content may still be served. # network"""
        try:
            base = await self._asker.base_url()
            return await self._asker.ask("GET", base.with_target(endpoints.base()), headers)
        except (RegistryError, RetriesExhausted) as error:
            if isinstance(root_cause(error), TransportError):
                raise
            return None

    def _learn(self, headers: Iterable[str]) -> None:
        challenges = {challenge.scheme: challenge for challenge in reversed(parse_challenges(headers))}
        if "basic" in challenges and "bearer" in challenges and not _has_realm(challenges["bearer"]):
            del challenges["bearer"]
        for scheme in _SPOKEN:
            if scheme in challenges:
                self._challenge = challenges[scheme]
                return

    def _is_young(self, scope: Scope, token: Token) -> bool:
        """Whether the token is new and has never been accepted: it may not be valid yet."""
        if self._taken.get(scope) == f"Bearer {token.value}" or self._valid == token.value:
            return False
        longest = YOUNG_S
        if self._store.known(scope.repository) is None:  # private content is the likely reason
            longest = 0.0 if scope in self._replaced else SETTLES_S
        return self._clock.monotonic() - token.minted < longest

    async def _is_waited_for(self, scope: Scope, token: Token) -> bool:
        """Whether to keep a refused token: it may become valid soon, or a new one would grant no more."""
        header = f"Bearer {token.value}"
        if self._taken.get(scope) == header:
            return False
        is_young = self._is_young(scope, token)
        if self._clock.monotonic() - token.minted < SETTLES_S:
            return is_young
        if is_young and not await self.has_ended(header):
            self._valid = token.value
            return True
        if scope in self._replaced:
            return is_young
        self._replaced.add(scope)
        return False

    def _widen(self, scope: Scope) -> bool:
        """Add the challenge's scopes that ours do not cover. Returns whether any were added."""
        if self._challenge is None or not scope.entries:
            return False
        asked = scope.entries + self._wider.get(scope, ())
        new = tuple(
            entry
            for entry in map(_without_refused, self._challenge.get("scope").split())
            if entry and not _covers(asked, entry)
        )
        if new:
            self._wider[scope] = self._wider.get(scope, ()) + new
        return bool(new)

    def _is_fresh(self, token: Token, *, for_long: bool) -> bool:
        margin = min(LONG_REQUEST_S, token.lifetime / 2) if for_long else _margin(token)
        return self._clock.monotonic() < token.expires - margin

    async def _mint(self, scope: Scope, challenge: Challenge) -> Token:
        scopes = scope.entries + self._wider.get(scope, ())
        try:
            token = await self._issuer.issue(
                challenge, scopes, scope.repository, is_optional=scope.is_optional
            )
        except RegistryError as error:
            if error.advice is not None:
                raise
            raise error.replace(advice=self.advice(401, scope)) from error.__cause__
        self._tokens[scope] = token
        return token


def _basic_of(credentials: Credentials) -> str:
    if credentials.access_token:
        return basic(NULL_USER, credentials.access_token)
    return basic(credentials.username, credentials.password)


def _margin(token: Token) -> float:
    return min(EXPIRY_MARGIN_S, token.lifetime / 10)


def _has_realm(challenge: Challenge) -> bool:
    try:
        Url.parse(challenge.get("realm"))
    except InvalidInput:
        return False
    return True


def _without_refused(entry: str) -> str:
    """The scope entry without the actions that a copy never needs; empty if none are left."""
    resource, _, actions = entry.rpartition(":")
    kept = [action for action in actions.split(",") if action and action not in _REFUSED_ACTIONS]
    return f"{resource}:{','.join(kept)}" if resource and kept else ""


def _covers(asked: Iterable[str], entry: str) -> bool:
    resource, _, actions = entry.rpartition(":")
    held = {
        action
        for other in asked
        if other.rpartition(":")[0] == resource
        for action in other.rpartition(":")[2].split(",")
    }
    return "*" in held or held.issuperset(actions.split(","))
