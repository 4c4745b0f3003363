"""What the service says of itself: health, metrics, OpenAPI and the schema of imports."""

from __future__ import annotations

from aiohttp import web

from crossdock.service.identity.tokens import Refused
from crossdock.service.web import arm
from crossdock.service.web.answers import json_answer
from crossdock.service.web.importdocument import IMPORT_SCHEMA
from crossdock.service.web.openapi import openapi_document
from crossdock.service.web.refusal import refuse
from crossdock.service.web.service import Call, Service


async def openapi(service: Service, call: Call) -> web.Response:
    """The OpenAPI document."""
    return json_answer(openapi_document(call.base))


async def schema(service: Service, call: Call) -> web.Response:
    """The JSON schema of what ``/imports`` says."""
    return json_answer(IMPORT_SCHEMA)


async def health(service: Service, call: Call) -> web.Response:
    """The process answers."""
    return json_answer({"status": "ok"})


async def ready(service: Service, call: Call) -> web.Response:
    """Imports are taken: the service is not stopping and can keep them."""
    if service.is_stopping:
        refuse(503, "ServiceStopping", "The service is stopping.")
    await service.imports.check()
    return json_answer({"status": "ready"})


async def metrics(service: Service, call: Call) -> web.Response:
    """Counters and gauges in Prometheus's text format. They are about all registries."""
    if not service.readable(call.principal):
        raise Refused(arm.metrics_forbidden(call.principal), {})
    data, content_type = service.metrics.render(service.imports.all())
    return web.Response(body=data, headers={"Content-Type": content_type})
