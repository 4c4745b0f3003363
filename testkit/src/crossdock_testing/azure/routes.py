"""The identity provider's endpoints, as routes of the service's own server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from crossdock_testing.azure.provider import Declined, Provider

MAX_FORM = 64 * 1024  # bytes
MSI_PATH = "/msi/token"
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749, 5.1


def routes(provider: Provider) -> list[web.RouteDef]:
    """The routes, to be added before a catch-all route."""

    async def metadata(request: web.Request) -> web.Response:
        return _json(provider.metadata())

    async def configuration(request: web.Request) -> web.Response:
        prefix = "/adfs" if request.path.startswith("/adfs/") else ""
        tenant = request.match_info["tenant"]
        return _response(lambda: provider.configuration(tenant, "" if tenant == "adfs" else prefix))

    async def keys(request: web.Request) -> web.Response:
        return _json(provider.key_set())

    async def token(request: web.Request) -> web.Response:
        body = bytearray()
        async for piece in request.content.iter_chunked(65536):
            body += piece
            if len(body) > MAX_FORM:
                response = _json(
                    {"error": "invalid_request", "error_description": "The form is too large."}, 413
                )
                response.force_close()
                return response
        try:
            form = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=64))
        except ValueError:
            return _json({"error": "invalid_request", "error_description": "The body is not a form."}, 400)
        return _response(lambda: provider.by_secret(request.match_info["tenant"], form))

    async def machine(request: web.Request) -> web.Response:
        header = request.headers.get("X-IDENTITY-HEADER", "")
        return _response(lambda: provider.by_machine(header, dict(request.query)))

    tenants = [  # az leaves out the tenant after /adfs, other clients do not
        route
        for place in ("/{tenant}", "/adfs/{tenant}")
        for route in (
            web.get(f"{place}/v2.0/.well-known/openid-configuration", configuration),
            web.get(f"{place}/.well-known/openid-configuration", configuration),
            web.get(f"{place}/discovery/v2.0/keys", keys),
            web.post(f"{place}/oauth2/v2.0/token", token),
            web.post(f"{place}/oauth2/token", token),
        )
    ]
    return [web.get("/metadata/endpoints", metadata), web.get(MSI_PATH, machine), *tenants]


def _response(make: Callable[[], Mapping[str, Any]]) -> web.Response:
    try:
        return _json(make())
    except Declined as declined:
        return _json(declined.document, declined.status)


def _json(document: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(document),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers=_NO_STORE,
    )
