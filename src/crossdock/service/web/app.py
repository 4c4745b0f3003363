"""The service as an aiohttp application: `handle` gets every request, whatever its path."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from crossdock.errors import CrossdockError
from crossdock.protocol.redirect import is_loopback
from crossdock.service import audit
from crossdock.service.problems import Refused, problem_of, refuse
from crossdock.service.values import Principal, Problem
from crossdock.service.web import pageaccess
from crossdock.service.web.arm import VERSIONS
from crossdock.service.web.imports import MAX_BODY
from crossdock.service.web.metrics import Metrics
from crossdock.service.web.routes import ROUTER
from crossdock.service.web.routing import Match, Route
from crossdock.service.web.service import CLIENT_REQUEST_ID, Call, Document, Reply, Service, client_request_id
from crossdock.webpage import HEADERS

log = logging.getLogger(__name__)

SAFE_METHODS = frozenset({"GET", "HEAD"})
NOBODY = Principal(id="")


def make_app(service: Service) -> web.Application:
    """The application."""

    @web.middleware
    async def handle(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.match_info.http_exception is None:  # a route of the development cloud
            return cast(web.StreamResponse, await handler(request))
        return await _Exchange(service, request).respond()

    # Compressed bodies are refused, never decompressed.
    return web.Application(
        middlewares=[handle], client_max_size=MAX_BODY, handler_args={"auto_decompress": False}
    )


class _Exchange:
    """One request and its response."""

    def __init__(self, service: Service, request: web.Request) -> None:
        self._service = service
        self._request = request
        self._match: Match | None = ROUTER.find(request.rel_url.raw_path)
        self._route = self._match.routes.get(request.method) if self._match else None
        self._principal = NOBODY
        self._problem: Problem | None = None
        self._call: Call | None = None

    async def respond(self) -> web.Response:
        """The response, counted and logged once. Errors are ARM's."""
        started = time.perf_counter()
        request, match = self._request, self._match
        try:
            reply = await self._handled()
        except Refused as refused:
            reply = self._failed(refused.problem, refused.headers)
        except CrossdockError as error:
            reply = self._failed(problem_of(error))
        except Exception as error:  # a bug: the log has the details, the client gets none
            log.error("the service failed at a request", exc_info=error)
            reply = self._failed(Problem(status=500, code="InternalServerError", message="Internal error."))
        response = _response(reply)
        headers = _common_headers(request.headers, is_arm=match is not None and match.first.tag == "arm")
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        template = match.template if match else Metrics.NO_ROUTE
        seconds = time.perf_counter() - started
        self._service.metrics.responded(request.method, template, response.status, seconds)
        self._log(response.status, seconds, template, headers["x-ms-request-id"])
        return response

    async def _handled(self) -> Reply | Document:
        request, service = self._request, self._service
        match, route = self._match, self._route
        self._check_origin()
        if match is None:
            # Unauthenticated callers get 401 before 404, so that paths do not leak.
            self._principal = await service.identity.authenticate(request.headers.get("Authorization"))
            refuse(404, "InvalidResourceType", f"There is no resource at {request.rel_url.raw_path[:300]}.")
        if route is None:
            methods = ", ".join(match.routes)
            message = f"{match.first.note}{match.template} supports {methods}."
            raise Refused(Problem(status=405, code="MethodNotAllowed", message=message), {"Allow": methods})
        self._principal = await self._caller(route)
        self._check_rate(route)
        if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            refuse(415, "UnsupportedMediaType", "Bodies with a Content-Encoding are not supported.")
        self._call = Call(request, self._principal, match.values, self._base())
        return await route.handler(service, self._call)

    async def _caller(self, route: Route) -> Principal:
        identity, sent = self._service.identity, self._request.headers.get("Authorization")
        match route.guard:
            case "open":
                return NOBODY
            case "page":
                return await pageaccess.authenticate(self._service, self._request)
            case "bearer":
                return await identity.authenticate(sent)

    def _check_rate(self, route: Route) -> None:
        """Polls are not counted: our responses set their rate, and clients fail if a poll is refused."""
        if route.guard == "open" or route.is_poll:
            return
        who = f"{self._principal.issuer} {self._principal.id}"
        allowed, wait = self._service.rate.take(who, time.monotonic())
        if not allowed:
            refuse(429, "TooManyRequests", f"Too many requests; retry in {math.ceil(wait)} s.")

    def _check_origin(self) -> None:
        """Refuse requests that other sites' pages make through a browser on this machine.

        Without identities, everyone who can reach the service may use it. So requests are refused if foreign
        DNS points their host name here, or if another site's page sends them, reads excepted, since that page
        cannot see the response.
        """
        request, service = self._request, self._service
        name = _name_of(request.host)
        if service.hosts and name not in service.hosts and not is_loopback(name):
            refuse(421, "MisdirectedRequest", "The service is not known by the name in the Host header.")
        origin, base = request.headers.get("Origin", ""), urlsplit(self._base())
        if origin and request.method not in SAFE_METHODS and origin != f"{base.scheme}://{base.netloc}":
            refuse(403, "CrossOriginRequest", "Pages of other sites may not use the service.")

    def _base(self) -> str:
        # Any client can send X-Forwarded-*; behind a proxy the operator sets public_url or tls.
        return self._service.public_url or f"{self._service.scheme}://{self._request.host}"

    def _failed(self, problem: Problem, headers: Mapping[str, str] | None = None) -> Reply:
        self._problem = problem
        if self._route is not None and self._route.is_audited:
            self._audit(problem)
        is_page = self._route is not None and self._route.guard == "page"
        if is_page and problem.status == 401 and "text/html" in self._request.headers.get("Accept", ""):
            return Reply(pageaccess.refusal(problem), problem.status, {**(headers or {}), **HEADERS})
        return Reply(problem.as_dict(), problem.status, headers or {})

    def _audit(self, problem: Problem) -> None:
        request = self._request
        audit.write(
            audit.refused(
                problem,
                principal=self._principal if self._principal is not NOBODY else None,
                client=request.remote or "",
                registry=request.path.rpartition("/")[0],
                request=self._call.wanted if self._call is not None else None,
                request_id=client_request_id(request.headers),
            )
        )

    def _log(self, status: int, seconds: float, route: str, request_id: str) -> None:
        fields: dict[str, Any] = {
            "method": self._request.method[:16],
            "route": route,
            "status": status,
            "seconds": round(seconds, 6),
            "principal": self._principal.id,
            "client": self._request.remote or "",
            "request_id": request_id,
        }
        if self._problem is not None:
            fields |= {"code": self._problem.code, "problem": self._problem.message}
            level = logging.ERROR if status >= 500 and status != 503 else logging.WARNING
        else:
            level = logging.DEBUG if self._request.method in SAFE_METHODS else logging.INFO
        log.log(level, "request", extra={"fields": fields})


def _response(given: Reply | Document) -> web.Response:
    reply = given if isinstance(given, Reply) else Reply(given)
    body, headers = reply.body, dict(reply.headers)
    if isinstance(body, dict):
        headers["Content-Type"] = "application/json; charset=utf-8"
        body = msgspec.json.encode(body, enc_hook=str)  # digests are a subclass of str
    return web.Response(body=body or None, status=reply.status, headers=headers)


def _common_headers(sent: Mapping[str, str], *, is_arm: bool) -> dict[str, str]:
    """The headers of every response. `sent` are the request's.

    A client's ids are returned if they are well formed: a correlation id must be a GUID, a client request id
    short and printable.
    """
    request_id = str(uuid.uuid4())
    headers = {
        "Server": "crossdock",
        "x-ms-request-id": request_id,
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    try:
        headers["x-ms-correlation-request-id"] = str(uuid.UUID(sent["x-ms-correlation-request-id"]))
    except (KeyError, ValueError):
        headers["x-ms-correlation-request-id"] = request_id
    own = client_request_id(sent)
    if own and sent.get("x-ms-return-client-request-id", "").lower() == "true":
        headers[CLIENT_REQUEST_ID] = own
    if is_arm:
        headers["api-supported-versions"] = VERSIONS
    return headers


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    return name.strip("[]").lower()
