"""Who is let in: ``/oauth2/exchange``, ``/oauth2/token`` and what each request of the registry needs.

The forms are those of Azure/acr, ``docs/AAD-OAuth.md`` and ``docs/Token-BasicAuth.md``. A challenge has no
space between its parameters and always a scope: az's parser and azure-containerregistry's need it so.
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

from crossdock.embedded.acr.accounts import Account, Accounts, AccountsFile, granted, split_scope
from crossdock.embedded.acr.signing import Signer
from crossdock.embedded.answers import Refused, json_answer
from crossdock.embedded.bodies import receive_whole
from crossdock.embedded.routing import Route
from crossdock.rate import RateLimit
from crossdock.store.files import in_thread
from crossdock.webtokens.values import TokenRefused

if TYPE_CHECKING:
    from crossdock.webtokens.verify import Verifier

NULL_USER = "00000000-0000-0000-0000-000000000000"
"""The user name that says: the password is a refresh or access token."""

MAX_FORM = 256 * 1024  # bytes; access tokens of Entra ID have up to 16 KiB

TRIES_OF_USER = 30  # wrong passwords a minute of one user from one address, after as many at once
TRIES_OF_ADDRESS = 120  # of all users from one address
NAME_KEPT = 100  # characters of a user's name

_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")  # what may stand in a challenge
_CATALOG = "registry:catalog:*"
_FORM = "application/x-www-form-urlencoded"


class Access:
    """The way into one registry. Raises in `__init__` as `AccountsFile` does."""

    def __init__(self, users: Path) -> None:
        self._file = AccountsFile(users)
        self._signer = Signer()
        self._tries = RateLimit(TRIES_OF_ADDRESS)
        self._tries_of_user = RateLimit(TRIES_OF_USER)

    def reload(self) -> None:
        """Read the file of users anew. Raises as `AccountsFile.reload`."""
        self._file.reload()

    # -- the token service ---------------------------------------------------------------------------

    async def oauth2(self, request: web.Request) -> web.Response:
        """The answer of ``/oauth2/exchange`` or ``/oauth2/token``. Raises `Refused`."""
        accounts = await in_thread(self._file.current)
        service = _service(request)
        if request.path == "/oauth2/exchange" and request.method == "POST":
            form = await _form(request)
            _expect(form, service, "access_token")
            with self._counted(request, ""):
                name, more = await _exchanged(form.get("access_token", ""), accounts, self._file.verifier)
            life = accounts.refresh_token_s
            return json_answer(
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
        return json_answer({"access_token": self._access_token(accounts, service, user, scopes.split())})

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
        said = self._signer.claims(token, "refresh_token", service)
        user = None
        if said and said["sub"]:
            is_theirs = "idp" in said
            user = accounts.of_issuer(said["idp"], said["sub"]) if is_theirs else accounts.named(said["sub"])
        if user is None:
            raise _unauthorized("the refresh token has expired, or is none of this registry")
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

    async def admit(self, request: web.Request, asked: Route) -> str:
        """Whose request it is, if it may be answered; empty: nobody's.

        Raises `Refused`: 401 with a challenge, 403, or 429 after too many wrong passwords.
        """
        service = _service(request)
        needed = needed_scopes(request.method, asked, request.query.get("from", ""))
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
                raise _challenge(request, service, needed, str(refused), "") from None
            if not may(user.scopes, asked, needed):
                raise Refused("DENIED", "requested access to the resource is denied", detail=_detail(needed))
            return user.name
        if kind.lower() != "bearer":
            raise _challenge(request, service, needed, "authentication required", "")
        said = self._signer.claims(token.strip(), "access_token", service)
        if said is None:
            raise _challenge(
                request,
                service,
                needed,
                "the token has expired, or is none of this registry",
                "invalid_token",
            )
        if not may(_held(said), asked, needed):
            raise _challenge(request, service, needed, "the token has no such right", "insufficient_scope")
        return str(said["sub"])

    def _by_data_basic(self, accounts: Accounts, authorization: str, service: str) -> Account:
        name, password = _decoded(authorization)
        said = self._signer.claims(password, "access_token", service) if name == NULL_USER else None
        if said:
            return Account(str(said["sub"]), scopes=_held(said))
        return self._by_password(accounts, name, password, service)

    @contextmanager
    def _counted(self, request: web.Request, name: str) -> Iterator[None]:
        """Refuse by 429 who has guessed too often; what is refused by 401 within counts as a guess."""
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
    """Whose access token it is, and what a refresh token says of them besides. Raises `Refused`."""
    user = accounts.with_access_token(token)
    if user is not None:
        return user.name, {}
    if verifier is None:
        raise _unauthorized("the access token is not one of a user of this registry")
    try:
        said = await verifier.claims(token)
    except TokenRefused as refused:
        if refused.reason == "unavailable":
            raise Refused("UNKNOWN", str(refused), status=503) from None
        raise _unauthorized(str(refused)) from None
    name = said.get("oid") or said.get("sub")
    if not isinstance(name, str) or not name:
        raise _unauthorized("the access token has neither oid nor sub")
    return name, {"idp": said["iss"]}


def needed_scopes(method: str, asked: Route, mount_from: str = "") -> tuple[str, ...]:
    """The scopes that a request needs, all of them. ``GET /v2/`` names one, so that challenges have one."""
    if asked.endpoint in ("base", "catalog", "acr-catalog"):
        return (_CATALOG,)
    needed = [f"repository:{asked.name}:{_actions(method, asked)}"]
    if asked.endpoint == "uploads" and mount_from and mount_from != asked.name:
        needed.append(f"repository:{mount_from}:pull")
    return tuple(needed)


def may(held: tuple[str, ...], asked: Route, needed: tuple[str, ...]) -> bool:
    """Whether the scopes `held` are enough. Tags are listed by who may pull, too."""
    if asked.endpoint == "base":
        return True
    if asked.endpoint == "tags" and granted(held, f"repository:{asked.name}:metadata_read"):
        return True
    return all(granted(held, scope) == split_scope(scope)[2] for scope in needed)


def _actions(method: str, asked: Route) -> str:
    if method == "DELETE" and asked.endpoint != "upload":
        return "delete"
    if asked.endpoint.startswith("acr-"):
        return "metadata_write" if method == "PATCH" else "metadata_read"
    writes = asked.endpoint in ("uploads", "upload") or method == "PUT"
    return "pull,push" if writes else "pull"


def _service(request: web.Request) -> str:
    """The name that the client uses for this registry: what stands in challenges and tokens."""
    if not _HOST.fullmatch(request.host):
        raise Refused("UNSUPPORTED", "the Host header is no host", status=400)
    return request.host


def _challenge(
    request: web.Request, service: str, needed: tuple[str, ...], words: str, error: str
) -> Refused:
    realm = f"{request.scheme}://{service}/oauth2/token"
    value = f'Bearer realm="{realm}",service="{service}",scope="{" ".join(needed)}"'
    if error:
        value += f',error="{error}"'
    return _unauthorized(words, {"WWW-Authenticate": value}, detail=_detail(needed))


def _unauthorized(words: str, headers: Mapping[str, str] | None = None, detail: Any = None) -> Refused:
    return Refused("UNAUTHORIZED", words, headers=headers, detail=detail)


def _detail(needed: tuple[str, ...]) -> list[dict[str, str]]:
    """As distribution and ACR say what was missing."""
    parts = [split_scope(scope) for scope in needed]
    return [
        {"Type": kind, "Name": name, "Action": action} for kind, name, actions in parts for action in actions
    ]


def _held(said: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{each['type']}:{each['name']}:{','.join(each['actions'])}" for each in said["access"])


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
    """The name in a Basic header; empty when there is none."""
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
        raise _bad("the body is no form") from None
    fields = dict(pairs)
    if scopes := [value for name, value in pairs if name == "scope"]:
        fields["scope"] = " ".join(scopes)
    return fields


def _bad(words: str) -> Refused:
    return Refused("UNSUPPORTED", words, status=400)
