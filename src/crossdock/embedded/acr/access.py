"""Authentication: ``/oauth2/exchange``, ``/oauth2/token``, and the scopes that each request needs.

The forms are those of Azure/acr, ``docs/AAD-OAuth.md`` and ``docs/Token-BasicAuth.md``. A challenge always
has a scope, because the parsers of az and azure-containerregistry require one.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from aiohttp import web

from crossdock.embedded.acr.accounts import CATALOG, Account, Accounts, AccountsFile, granted, split_scope
from crossdock.embedded.acr.signing import Signer
from crossdock.embedded.bodies import receive_whole
from crossdock.embedded.responses import Refused, json_response
from crossdock.protocol.acrtoken import NULL_USER
from crossdock.protocol.challenge import bearer_challenge
from crossdock.rate import RateLimit
from crossdock.tasks import in_thread
from crossdock.webtokens.values import TokenRefused

if TYPE_CHECKING:
    from crossdock.embedded.routes import Route
    from crossdock.webtokens.verify import Verifier

MAX_FORM = 256 * 1024  # bytes; access tokens of Entra ID have up to 16 KiB

# wrong passwords per minute for one user from one address, after a burst of the same number
TRIES_OF_USER = 30
TRIES_OF_ADDRESS = 120  # for all users from one address
NAME_KEPT = 100  # characters of a user's name

_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")  # safe to quote in a challenge
BROWSER_CHALLENGE = 'Basic realm="crossdock registry", charset="UTF-8"'
_FORM = "application/x-www-form-urlencoded"


class Access:
    """Authenticates the requests of one registry. Raises in `__init__` as `AccountsFile` does."""

    def __init__(self, users: Path) -> None:
        self._file = AccountsFile(users)
        self._signer = Signer()
        self._tries = RateLimit(TRIES_OF_ADDRESS)
        self._tries_of_user = RateLimit(TRIES_OF_USER)

    def reload(self) -> None:
        """Reload the users file. Raises as `AccountsFile.reload`."""
        self._file.reload()

    # -- the token service ---------------------------------------------------------------------------

    async def oauth2(self, request: web.Request) -> web.Response:
        """The response of ``/oauth2/exchange`` or ``/oauth2/token``. Raises `Refused`."""
        accounts = await in_thread(self._file.current)
        service = _service(request)
        if request.path == "/oauth2/exchange" and request.method == "POST":
            form = await _form(request)
            _expect(form, service, "access_token")
            with self._counted(request, ""):
                name, more = await _exchanged(form.get("access_token", ""), accounts, self._file.verifier)
            life = accounts.refresh_token_s
            return json_response(
                {"refresh_token": self._signer.token("refresh_token", service, name, life, **more)}
            )
        if request.path == "/oauth2/token" and request.method == "POST":
            form = await _form(request)
            with self._counted(request, form.get("username", "")):
                user = self._by_form(accounts, form, service)
            scopes = form.get("scope", "")
        elif request.path == "/oauth2/token" and request.method == "GET":
            _expect(request.query, service)
            authorization = request.headers.get("Authorization", "")
            with self._counted(request, _user_name(authorization)):
                user = self._by_basic(accounts, authorization, service)
            scopes = " ".join(request.query.getall("scope", []))
        else:
            raise Refused("UNSUPPORTED", "no such endpoint", status=404, detail={"path": request.path})
        return json_response({"access_token": self._access_token(accounts, service, user, scopes.split())})

    def _by_form(self, accounts: Accounts, form: Mapping[str, str], service: str) -> Account:
        _expect(form, service, "password", "refresh_token")
        if form["grant_type"] == "refresh_token":
            return self._by_refresh_token(accounts, form.get("refresh_token", ""), service)
        if not form.get("username") and not form.get("password"):  # azure-containerregistry's anonymous form
            return Account("", scopes=accounts.anonymous)
        return self._by_password(accounts, form.get("username", ""), form.get("password", ""), service)

    def _by_basic(self, accounts: Accounts, authorization: str, service: str) -> Account:
        if not authorization:
            return Account("", scopes=accounts.anonymous)
        return self._by_password(accounts, *_decoded(authorization), service)

    def _by_password(self, accounts: Accounts, name: str, password: str, service: str) -> Account:
        if name == NULL_USER:
            return self._by_refresh_token(accounts, password, service)
        user = accounts.with_password(name, password)
        if user is None:
            raise _unauthorized("incorrect user name or password")
        return user

    def _by_refresh_token(self, accounts: Accounts, token: str, service: str) -> Account:
        claims = self._signer.claims(token, "refresh_token", service) or {}
        name, issuer = claims.get("sub", ""), claims.get("idp")
        user = None
        if name:
            user = accounts.named(name) if issuer is None else accounts.of_issuer(issuer, name)
        if user is None:
            raise _unauthorized("the refresh token has expired or was not issued by this registry")
        return user

    def _access_token(self, accounts: Accounts, service: str, user: Account, scopes: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, name, _ = split_scope(scope)
            if actions := granted(user.scopes, scope):
                access.append({"type": kind, "name": name, "actions": actions})
        life = accounts.access_token_s
        return self._signer.token("access_token", service, user.name, life, access=access)

    # -- the registry --------------------------------------------------------------------------------

    async def admit(self, request: web.Request, route: Route) -> str:
        """The user of an authorized request; empty for an anonymous one.

        Raises `Refused`: 401 with a challenge, 403, or 429 after too many wrong passwords.
        """
        service = _service(request)
        needed = needed_scopes(request.method, route, request.query.get("from", ""))
        authorization = request.headers.get("Authorization", "")
        kind, _, token = authorization.partition(" ")
        if kind.lower() == "basic":
            accounts = await in_thread(self._file.current)
            try:
                with self._counted(request, _user_name(authorization)):
                    user = self._by_data_basic(accounts, authorization, service)
            except Refused as refused:
                if refused.status != 401:
                    raise
                raise _challenge(request, service, needed, str(refused)) from None
            if not may(user.scopes, route, needed):
                raise Refused("DENIED", "requested access to the resource is denied", detail=_detail(needed))
            return user.name
        if kind.lower() != "bearer":
            raise _challenge(request, service, needed, "authentication required")
        claims = self._signer.claims(token.strip(), "access_token", service)
        if claims is None:
            message = "the token has expired or was not issued by this registry"
            raise _challenge(request, service, needed, message, "invalid_token")
        if not may(_held(claims), route, needed):
            message = "the token does not grant this"
            raise _challenge(request, service, needed, message, "insufficient_scope")
        return str(claims["sub"])

    async def visitor(self, request: web.Request) -> tuple[str, ...]:
        """The scopes of a page's user.

        Raises `Refused`: 401 with a challenge that browsers understand, for anonymous users too, or 429.
        """
        accounts, service = await in_thread(self._file.current), _service(request)
        authorization = request.headers.get("Authorization", "")
        kind, _, token = authorization.partition(" ")
        try:
            if kind.lower() == "bearer":
                claims = self._signer.claims(token.strip(), "access_token", service)
                name, held = (str(claims["sub"]), _held(claims)) if claims else ("", ())
            else:
                with self._counted(request, _user_name(authorization)):
                    user = self._by_data_basic(accounts, authorization, service)
                name, held = user.name, user.scopes
            if name:
                return held
        except Refused as refused:
            if refused.status != 401:
                raise
        raise _unauthorized("a user name and a password are needed", {"WWW-Authenticate": BROWSER_CHALLENGE})

    def _by_data_basic(self, accounts: Accounts, authorization: str, service: str) -> Account:
        name, password = _decoded(authorization)
        claims = self._signer.claims(password, "access_token", service) if name == NULL_USER else None
        if claims:
            return Account(str(claims["sub"]), scopes=_held(claims))
        return self._by_password(accounts, name, password, service)

    @contextmanager
    def _counted(self, request: web.Request, name: str) -> Iterator[None]:
        """Respond 429 after too many wrong passwords; a 401 raised inside counts as one."""
        address, now = request.remote or "", time.monotonic()
        user = f"{address} {name[:NAME_KEPT]}"
        wait = max(self._tries.wait(address, now), self._tries_of_user.wait(user, now))
        if wait:
            raise Refused(
                "TOOMANYREQUESTS",
                "too many wrong passwords; wait before the next one",
                headers={"Retry-After": str(math.ceil(wait))},
            )
        try:
            yield
        except Refused as refused:
            if refused.status == 401:
                self._tries.take(address, now)
                self._tries_of_user.take(user, now)
            raise


async def _exchanged(token: str, accounts: Accounts, verifier: Verifier | None) -> tuple[str, dict[str, str]]:
    """The owner of an access token, and further claims for the refresh token. Raises `Refused`."""
    user = accounts.with_access_token(token)
    if user is not None:
        return user.name, {}
    if verifier is None:
        raise _unauthorized("the access token does not belong to a user of this registry")
    try:
        claims = await verifier.claims(token)
    except TokenRefused as refused:
        if refused.reason == "unavailable":
            raise Refused("UNKNOWN", str(refused), status=503) from None
        raise _unauthorized(str(refused)) from None
    name = claims.get("oid") or claims.get("sub")
    if not isinstance(name, str) or not name:
        raise _unauthorized("the access token has neither oid nor sub")
    return name, {"idp": claims["iss"]}


def needed_scopes(method: str, route: Route, mount_from: str = "") -> tuple[str, ...]:
    """All scopes that a request needs. ``GET /v2/`` needs one too, so that every challenge names a scope."""
    if route.endpoint in ("base", "catalog", "acr-catalog"):
        return (CATALOG,)
    needed = [f"repository:{route.name}:{_actions(method, route)}"]
    if route.endpoint == "uploads" and mount_from and mount_from != route.name:
        needed.append(f"repository:{mount_from}:pull")
    return tuple(needed)


def may(held: tuple[str, ...], route: Route, needed: tuple[str, ...]) -> bool:
    """Whether the scopes `held` suffice. Listing tags needs ``pull`` or ``metadata_read``."""
    if route.endpoint == "base":
        return True
    if route.endpoint == "tags" and granted(held, f"repository:{route.name}:metadata_read"):
        return True
    return all(granted(held, scope) == split_scope(scope)[2] for scope in needed)


def _actions(method: str, route: Route) -> str:
    if method == "DELETE" and route.endpoint != "upload":
        return "delete"
    if route.endpoint.startswith("acr-"):
        return "metadata_write" if method == "PATCH" else "metadata_read"
    writes = route.endpoint in ("uploads", "upload") or method == "PUT"
    return "pull,push" if writes else "pull"


def _service(request: web.Request) -> str:
    """The client's name for this registry, which challenges and tokens repeat."""
    if not _HOST.fullmatch(request.host):
        raise Refused("UNSUPPORTED", "the Host header is not a host[:port]", status=400)
    return request.host


def _challenge(
    request: web.Request, service: str, needed: tuple[str, ...], message: str, error: str = ""
) -> Refused:
    realm = f"{request.scheme}://{service}/oauth2/token"
    challenge = bearer_challenge(realm=realm, service=service, scope=" ".join(needed), error=error)
    return _unauthorized(message, {"WWW-Authenticate": challenge}, detail=_detail(needed))


def _unauthorized(message: str, headers: Mapping[str, str] | None = None, detail: Any = None) -> Refused:
    return Refused("UNAUTHORIZED", message, headers=headers, detail=detail)


def _detail(needed: tuple[str, ...]) -> list[dict[str, str]]:
    """The missing scopes as distribution and ACR list them."""
    parts = [split_scope(scope) for scope in needed]
    return [
        {"Type": kind, "Name": name, "Action": action} for kind, name, actions in parts for action in actions
    ]


def _held(claims: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{each['type']}:{each['name']}:{','.join(each['actions'])}" for each in claims["access"])


def _decoded(authorization: str) -> tuple[str, str]:
    kind, _, encoded = authorization.partition(" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise _unauthorized("the credentials are not base64 of user:password") from None
    name, colon, password = text.partition(":")
    if kind.lower() != "basic" or not colon:
        raise _unauthorized("the credentials are not Basic")
    return name, password


def _user_name(authorization: str) -> str:
    """The user name in a Basic header; empty without one."""
    try:
        return _decoded(authorization)[0]
    except Refused:
        return ""


def _expect(fields: Mapping[str, str], service: str, *grants: str) -> None:
    if grants and fields.get("grant_type") not in grants:
        raise _bad(f"grant_type must be {' or '.join(grants)}")
    if fields.get("service") != service:
        raise _bad(f"service must be {service}")


async def _form(request: web.Request) -> dict[str, str]:
    """The fields of a form; a repeated ``scope`` is joined by spaces."""
    if request.content_type != _FORM:
        raise _bad(f"Content-Type must be {_FORM}")
    body = await receive_whole(request, MAX_FORM, "a form")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=64)
    except ValueError:
        raise _bad("the body is not a form") from None
    fields = dict(pairs)
    if scopes := [value for name, value in pairs if name == "scope"]:
        fields["scope"] = " ".join(scopes)
    return fields


def _bad(message: str) -> Refused:
    return Refused("UNSUPPORTED", message, status=400)
