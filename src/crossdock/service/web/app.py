"""The service as an aiohttp application."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import msgspec
from aiohttp import web

from crossdock.acr.command import check_request
from crossdock.acr.plan import make_plan
from crossdock.acr.request import ImportRequest
from crossdock.errors import CrossdockError
from crossdock.inventory.values import Entry, Inventory, ResourceId
from crossdock.service.operations.imports import Imports
from crossdock.service.problems import problem_of
from crossdock.service.values import ANYBODY, Order, Problem
from crossdock.service.web import arm

log = logging.getLogger(__name__)

MAX_BODY = 256 * 1024  # bytes of an import's JSON; passwords may be JSON keys of some 4,000
RETRY_AFTER = "1"  # seconds, a whole number (contract, 2.4)

Handler = Callable[[web.Request, dict[str, str]], Awaitable[web.Response]]


class Refusal(Exception):
    """A request that ends in an ARM error."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class Service:
    """What the handlers need."""

    def __init__(self, inventory: Inventory, imports: Imports) -> None:
        self.inventory = inventory
        self.imports = imports
        registry = r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
        provider = rf"/providers/{re.escape(arm.PROVIDER)}"
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = [
            (method, re.compile(pattern + "/?", re.IGNORECASE), handler)
            for method, pattern, handler in (
                ("GET", "/subscriptions", self.subscriptions),
                ("GET", "/subscriptions/(?P<subscription>[^/]+)/resources", self.resources),
                ("GET", f"/subscriptions/(?P<subscription>[^/]+){provider}/registries", self.registries),
                ("GET", f"{registry}{provider}/registries", self.registries),
                ("GET", f"{registry}{provider}/registries/(?P<name>[^/]+)", self.registry),
                ("POST", f"{registry}{provider}/registries/(?P<name>[^/]+)/importImage", self.import_image),
                (
                    "GET",
                    f"/subscriptions/(?P<subscription>[^/]+){provider}/locations/[^/]+"
                    "/operationResults/(?P<operation>[^/]+)",
                    self.result,
                ),
            )
        ]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request; errors as ARM's."""
        try:
            for method, pattern, handler in self._routes:
                if (found := pattern.fullmatch(request.path)) and method == request.method:
                    return await handler(request, found.groupdict())
            _refuse(404, "InvalidResourceType", f"nothing answers {request.method} {request.path}")
        except Refusal as refusal:
            return _json(refusal.problem.as_dict(), refusal.problem.status)
        except CrossdockError as error:
            problem = problem_of(error)
            return _json(problem.as_dict(), problem.status)

    # -- registries ----------------------------------------------------------------------------------

    async def subscriptions(self, request: web.Request, path: dict[str, str]) -> web.Response:
        """Every subscription of the inventory."""
        known = dict.fromkeys(each.subscription for each in self.inventory.registries)
        return _json(
            {
                "value": [
                    {
                        "id": f"/subscriptions/{each}",
                        "subscriptionId": each,
                        "displayName": each,
                        "state": "Enabled",
                    }
                    for each in known
                ]
            }
        )

    async def resources(self, request: web.Request, path: dict[str, str]) -> web.Response:
        """The registries as resources; the filter may ask for their type alone."""
        found = arm.registries_of(self.inventory, path["subscription"])
        keys = ("id", "name", "type", "location")
        return _json({"value": [{key: arm.registry_document(each)[key] for key in keys} for each in found]})

    async def registries(self, request: web.Request, path: dict[str, str]) -> web.Response:
        """The registries of a subscription or group."""
        found = arm.registries_of(self.inventory, path["subscription"], path.get("group", ""))
        return _json({"value": [arm.registry_document(each) for each in found]})

    async def registry(self, request: web.Request, path: dict[str, str]) -> web.Response:
        """One registry."""
        return _json(arm.registry_document(self._entry(path)))

    def _entry(self, path: dict[str, str]) -> Entry:
        wanted = ResourceId(path["subscription"], path["group"], path["name"])
        entry = arm.find_registry(self.inventory, wanted)
        if entry is None:
            raise Refusal(arm.not_found(wanted))
        return entry

    # -- imports -------------------------------------------------------------------------------------

    async def import_image(self, request: web.Request, path: dict[str, str]) -> web.Response:
        """Accept an import: 202 and where its result will be."""
        target = self._entry(path)
        body = await _body(request)
        wanted = ImportRequest.from_json(body)
        make_plan(check_request(wanted, target, self.inventory))  # what can be refused now is
        order = Order(
            registry=ResourceId(target.subscription, target.resource_group, target.name),
            request=wanted,
            principal=ANYBODY,
            request_id=request.headers.get("x-ms-client-request-id", ""),
            client=request.remote or "",
        )
        operation = await self.imports.submit(order)
        return self._accepted(request, arm.result_path(operation, target.location))

    async def result(self, request: web.Request, path: dict[str, str]) -> web.Response:
        """How far an import is, or how it ended."""
        operation = self.imports.find(arm.result_id(path["operation"]))
        if operation is None or operation.order.registry.subscription.lower() != path["subscription"].lower():
            _refuse(404, "OperationNotFound", "there is no such operation, or it is too old")
        if operation.problem is not None:
            return _json(operation.problem.as_dict(), operation.problem.status)
        document = arm.result_document(operation)
        if operation.state == "Succeeded":
            return _json(document)
        return self._accepted(request, request.path, document)

    def _accepted(
        self, request: web.Request, path: str, document: dict[str, Any] | None = None
    ) -> web.Response:
        version = request.query.get("api-version", "")
        location = f"{request.scheme}://{request.host}{path}" + (f"?api-version={version}" if version else "")
        answer = _json(document, 202) if document is not None else web.Response(status=202)
        answer.headers.update({"Location": location, "Retry-After": RETRY_AFTER})
        return answer


def make_app(service: Service) -> web.Application:
    """The application."""
    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_route("*", "/{path:.*}", service.handle)
    return app


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        _refuse(413, "RequestEntityTooLarge", f"the body is over {MAX_BODY} bytes")


def _refuse(status: int, code: str, message: str) -> NoReturn:
    raise Refusal(Problem(status=status, code=code, message=message))


def _json(document: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(document), status=status, content_type="application/json", charset="utf-8"
    )
