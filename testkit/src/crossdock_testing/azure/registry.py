"""The token endpoints of Azure registries, strict: they refuse every form that Azure does not document.

`AcrIdentity` is a token service whose tokens docker-registry trusts, as its base, with ``/oauth2/exchange``
beside it (Azure/acr, ``docs/AAD-OAuth.md``, ``docs/Token-BasicAuth.md``). `ManagedIdentity` is the endpoint
that App Service gives a process in ``IDENTITY_ENDPOINT``.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from crossdock_testing.tokens import TokenServer

if TYPE_CHECKING:
    from aiohttp import web

NULL_USER = "00000000-0000-0000-0000-000000000000"
FORM = "application/x-www-form-urlencoded"

# Fields by grant: those that must be there, and those that may.
_EXCHANGE = {"grant_type", "service", "access_token"}, {"tenant", "refresh_token"}
_GRANTS = {
    "refresh_token": ({"grant_type", "service", "refresh_token"}, {"scope", "client_id"}),
    "password": ({"grant_type", "service", "username", "password"}, {"scope", "client_id"}),
}


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One request as it was sent, and the status of the response."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    form: tuple[tuple[str, str], ...] = field(repr=False)
    authorization: str = field(repr=False)
    status: int

    def fields(self) -> Mapping[str, str]:
        """The form as a mapping."""
        return dict(self.form)


class AcrIdentity(TokenServer):
    """``/oauth2/exchange`` and ``/oauth2/token`` of one registry."""

    def __init__(
        self,
        *,
        access_tokens: Mapping[str, str] | None = None,
        refresh_lifetime_s: float = 3 * 3600.0,
        exchanges: bool = True,
        **options: Any,
    ) -> None:
        """`access_tokens`: user names by Entra ID token. `options` are those of `TokenServer`.

        Without `exchanges` there is no ``/oauth2/exchange``, as on other registries.
        """
        super().__init__(**{"announced_s": 0.0, **options})  # ACR sends no expires_in
        self.access_tokens = dict(access_tokens or {})
        self.refresh_lifetime_s = refresh_lifetime_s
        self.exchanges = exchanges
        self.wire: list[WireRequest] = []
        self.violations: list[str] = []
        self._ends: dict[str, float] = {}

    @property
    def realm(self) -> str:
        """``/oauth2/token`` of the host, as ACR's challenges name it."""
        return super().realm.removesuffix("/token") + "/oauth2/token"

    def revoke_refresh_tokens(self) -> None:
        """Expire every refresh token that was exchanged for an access token."""
        self._ends = dict.fromkeys(self._ends, 0.0)

    def _add_routes(self, app: web.Application) -> None:
        app.router.add_route("*", "/oauth2/token", self._token)
        app.router.add_route("*", "/oauth2/exchange", self._exchange)

    async def _exchange(self, request: web.Request) -> web.Response:
        form = await self._read(request)
        fields = dict(form)
        user = self.access_tokens.get(fields.get("access_token", ""))
        if not self.exchanges:
            return self._said(request, form, 404, _errors("NOT_FOUND", "404 page not found"))
        if wrong := self._wrong(request, form, *_EXCHANGE) or _unless(
            fields.get("grant_type") == "access_token", "grant_type is not access_token"
        ):
            return self._violated(request, form, wrong)
        if fields["service"] != self.service:
            return self._violated(request, form, f"service is not {self.service}")
        if user is None:
            return self._said(request, form, 401, _errors("UNAUTHORIZED", "authentication required"))
        refresh_token = f"s3cret-refresh-{secrets.token_hex(16)}"
        self.identity_tokens[refresh_token] = user
        self._ends[refresh_token] = time.monotonic() + self.refresh_lifetime_s
        return self._said(request, form, 200, {"refresh_token": refresh_token})

    async def _token(self, request: web.Request) -> web.Response:
        from aiohttp import web

        form = await self._read(request)
        for token, end in self._ends.items():
            if end < time.monotonic():
                self.identity_tokens.pop(token, None)
        if request.method == "POST":
            must, may = _GRANTS.get(dict(form).get("grant_type", ""), (set(), set()))
            wrong = self._wrong(request, form, must, may) if must else "grant_type is unknown"
            if wrong:
                return self._violated(request, form, wrong)
        answer = await self._answer(request)
        self._note(request, form, answer.status)
        if answer.status != 200:
            return answer
        token = json.loads(answer.body)  # type: ignore[arg-type]
        return web.json_response({"access_token": token.get("access_token") or token["token"]})

    def _basic(self, authorization: str) -> str:
        name, password = _decoded(authorization)
        if name == NULL_USER and password in self.identity_tokens:
            return self.identity_tokens[password]
        return super()._basic(authorization)

    async def _read(self, request: web.Request) -> tuple[tuple[str, str], ...]:
        return tuple(parse_qsl((await request.read()).decode(), keep_blank_values=True))

    def _wrong(
        self,
        request: web.Request,
        form: tuple[tuple[str, str], ...],
        must: Collection[str],
        may: Collection[str],
    ) -> str:
        """The mistake in a POST; empty when it is as documented."""
        names = [name for name, _ in form]
        return (
            _unless(request.method == "POST", f"{request.method} instead of POST")
            or _unless(request.content_type == FORM, f"Content-Type is {request.content_type}")
            or _unless("Authorization" not in request.headers, "Authorization beside a form")
            or _unless(set(must) <= set(names), f"{', '.join(sorted(set(must) - set(names)))} missing")
            or _unless(
                set(names) <= {*must, *may}, f"{', '.join(sorted(set(names) - {*must, *may}))} not known"
            )
            or _unless(all(value for _, value in form), "an empty field")
            or _unless(set(dict(request.query)) <= {"api-version"}, "a query")
        )

    def _violated(self, request: web.Request, form: tuple[tuple[str, str], ...], wrong: str) -> web.Response:
        self.violations.append(f"{request.method} {request.path}: {wrong}")
        return self._said(request, form, 400, _errors("BAD_REQUEST", wrong))

    def _said(
        self, request: web.Request, form: tuple[tuple[str, str], ...], status: int, body: Any
    ) -> web.Response:
        from aiohttp import web

        self._note(request, form, status)
        return web.json_response(body, status=status)

    def _note(self, request: web.Request, form: tuple[tuple[str, str], ...], status: int) -> None:
        authorization = request.headers.get("Authorization", "")
        query = tuple(request.query.items())
        self.wire.append(WireRequest(request.method, request.path, query, form, authorization, status))


class ManagedIdentity(TokenServer):
    """``IDENTITY_ENDPOINT``: issues `token` for `resource` to a client that sends the header's secret."""

    def __init__(
        self,
        token: str,
        *,
        header: str = "s3cret-header",
        resource: str = "https://containerregistry.azure.net",
    ) -> None:
        super().__init__()
        self.token = token
        self.header = header
        self.resource = resource
        self.asked: list[tuple[str, dict[str, str], int]] = []

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a process with this identity."""
        endpoint = super().realm.removesuffix("/token") + "/msi/token"
        return {"IDENTITY_ENDPOINT": endpoint, "IDENTITY_HEADER": self.header}

    def _add_routes(self, app: web.Application) -> None:
        app.router.add_route("*", "/msi/token", self._give)

    async def _give(self, request: web.Request) -> web.Response:
        from aiohttp import web

        query = dict(request.query)
        known = request.headers.get("X-IDENTITY-HEADER") == self.header
        expected = {"api-version": "2019-08-01", "resource": self.resource}
        status = 200 if known and request.method == "GET" and query == expected else 400
        self.asked.append((request.method, query, status))
        if status != 200:
            return web.json_response({"statusCode": 400, "message": "not as documented"}, status=400)
        ends = str(int(time.time()) + 3600)
        body = {"access_token": self.token, "expires_on": ends, "token_type": "Bearer"}
        return web.json_response({**body, "resource": self.resource})


def _unless(is_right: bool, wrong: str) -> str:
    return "" if is_right else wrong


def _decoded(authorization: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(authorization.removeprefix("Basic "), validate=True).decode()
    except ValueError:
        return "", ""
    name, _, password = text.partition(":")
    return name, password


def _errors(code: str, message: str) -> dict[str, Any]:
    return {"errors": [{"code": code, "message": message, "detail": None}]}
