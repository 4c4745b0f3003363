"""The service as an aiohttp application: every request goes through `handle`, whatever it asks for."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any, cast

from aiohttp import web

from crossdock.errors import CrossdockError
from crossdock.listening import is_loopback
from crossdock.service import audit
from crossdock.service.identity.tokens import Refused
from crossdock.service.problems import problem_of
from crossdock.service.values import Principal, Problem
from crossdock.service.web import documents, imports, page, registries
from crossdock.service.web.answers import client_request_id, common_headers, json_answer
from crossdock.service.web.imports import MAX_BODY
from crossdock.service.web.metrics import Metrics
from crossdock.service.web.refusal import refuse
from crossdock.service.web.routing import Endpoint, Match, allowed, find_route
from crossdock.service.web.service import Call, Handler, Service

log = logging.getLogger(__name__)

HANDLERS: Mapping[Endpoint, Handler] = {
    "subscriptions": registries.subscriptions,
    "subscription": registries.subscription,
    "resources": registries.resources,
    "provider": registries.provider,
    "register": registries.register,
    "registries": registries.registries,
    "registry": registries.registry,
    "importImage": imports.import_image,
    "operationResults": imports.operation_results,
    "imports": imports.list_imports,
    "import": imports.one_import,
    "openapi": documents.openapi,
    "schema": documents.schema,
    "health": documents.health,
    "ready": documents.ready,
    "metrics": documents.metrics,
    "page": page.page,
    "page-style": page.style,
    "page-script": page.script,
}
# What clients ask for again and again by themselves.
POLLED: frozenset[Endpoint] = frozenset({"operationResults", "import", "page"})
SAFE_METHODS = frozenset({"GET", "HEAD"})
NOBODY = Principal(id="")


def make_app(service: Service) -> web.Application:
    """The application."""

    @web.middleware
    async def handle(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.match_info.http_exception is None:  # a route that was added: not of this service
            return cast(web.StreamResponse, await handler(request))
        return await _Exchange(service, request).answer()

    # A body is never decompressed: who sends one that is compressed is refused.
    return web.Application(
        middlewares=[handle], client_max_size=MAX_BODY, handler_args={"auto_decompress": False}
    )


class _Exchange:
    """One request and its answer."""

    def __init__(self, service: Service, request: web.Request) -> None:
        self._service = service
        self._request = request
        self._match: Match | None = find_route(request.rel_url.raw_path)
        self._principal = NOBODY
        self._problem: Problem | None = None
        self._call: Call | None = None

    async def answer(self) -> web.StreamResponse:
        """What goes out, counted and logged once. Errors are ARM's."""
        started = time.perf_counter()
        is_arm = self._match is not None and self._match.route.is_arm
        headers = common_headers(self._request.headers, is_arm=is_arm)
        try:
            answer = await self._handled()
        except Refused as refused:
            answer = self._failed(refused.problem, refused.headers)
        except CrossdockError as error:
            answer = self._failed(problem_of(error))
        except Exception as error:  # a bug: the client learns nothing of it, the log where it is
            log.error("the service failed at a request", exc_info=error)
            answer = self._failed(Problem(status=500, code="InternalServerError", message="Internal error."))
        for name, value in headers.items():
            answer.headers.setdefault(name, value)
        route = self._match.route.template if self._match else Metrics.NO_ROUTE
        seconds = time.perf_counter() - started
        self._service.metrics.answered(self._request.method, route, answer.status, seconds)
        self._log(answer.status, seconds, route, headers["x-ms-request-id"])
        return answer

    async def _handled(self) -> web.StreamResponse:
        request, service, match = self._request, self._service, self._match
        self._check_origin()
        if match is None:
            # Whoever may not ask learns nothing of what there is.
            self._principal = await service.identity.authenticate(request.headers.get("Authorization"))
            refuse(404, "InvalidResourceType", f"Nothing answers at {request.rel_url.raw_path[:300]}.")
        if request.method not in allowed(match.route):
            methods = ", ".join(allowed(match.route))
            message = f"{match.route.template} answers {methods}."
            if match.route.endpoint in ("registry", "registries"):  # such as az acr update --admin-enabled
                message = (
                    f"Registries are defined in this service's inventory and not changed here. {message}"
                )
            raise Refused(Problem(status=405, code="MethodNotAllowed", message=message), {"Allow": methods})
        self._principal = await self._caller(match)
        self._check_rate(match)
        if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            refuse(415, "UnsupportedMediaType", "Bodies with a Content-Encoding are not read: send it plain.")
        self._call = Call(request, self._principal, match.values, self._base())
        return await HANDLERS[match.route.endpoint](service, self._call)

    async def _caller(self, match: Match) -> Principal:
        identity, sent = self._service.identity, self._request.headers.get("Authorization")
        match match.route.guarded:
            case "open":
                return NOBODY
            case "page":
                return await page.authenticate(identity, sent)
            case _:
                return await identity.authenticate(sent)

    def _check_rate(self, match: Match) -> None:
        """Polls do not count: we say how often they come, and clients give up when one is refused."""
        is_poll = match.route.endpoint in POLLED and self._request.method in SAFE_METHODS
        if match.route.guarded == "open" or is_poll:
            return
        who = f"{self._principal.issuer} {self._principal.id}"
        allowed, wait = self._service.rate.take(who, time.monotonic())
        if not allowed:
            refuse(429, "TooManyRequests", f"Too many requests; try again in {math.ceil(wait)} s.")

    def _check_origin(self) -> None:
        """Keep other sites' pages out, which a browser on this machine may show.

        Without identities what counts is who can reach the service: a name that somebody else's DNS leads
        here is refused, and so is whatever a page of another site asks for besides reading, which it cannot.
        """
        request, service = self._request, self._service
        name = _name_of(request.host)
        if service.hosts and name not in service.hosts and not is_loopback(name):
            refuse(421, "MisdirectedRequest", "The service is not known by the name in the Host header.")
        origin = request.headers.get("Origin", "")
        if origin and request.method not in SAFE_METHODS and origin != self._base():
            refuse(403, "CrossOriginRequest", "Pages of other sites may not use the service.")

    def _base(self) -> str:
        # X-Forwarded-* is what any client may write; whoever has a proxy in front sets public_url.
        return self._service.public_url or f"{self._request.scheme}://{self._request.host}"

    def _failed(self, problem: Problem, headers: Mapping[str, str] | None = None) -> web.Response:
        self._problem = problem
        if (
            self._match is not None
            and self._match.route.endpoint == "importImage"
            and self._request.method == "POST"
        ):
            self._audit(problem)
        return json_answer(problem.as_dict(), problem.status, headers)

    def _audit(self, problem: Problem) -> None:
        request = self._request
        audit.write(
            audit.refused(
                problem,
                principal=self._principal if self._principal is not NOBODY else None,
                client=request.remote or "",
                registry=request.path.rpartition("/")[0],
                request=self._call.asked if self._call is not None else None,
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


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    return name.strip("[]").lower()
