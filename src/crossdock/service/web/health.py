"""Health, readiness and metrics."""

from __future__ import annotations

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from crossdock.service.problems import refuse
from crossdock.service.web.service import Call, Document, Reply, Service


async def health(service: Service, call: Call) -> Document:
    """The process responds."""
    return {"status": "ok"}


async def ready(service: Service, call: Call) -> Document:
    """Imports are accepted: the service is not stopping and can store them."""
    if service.is_stopping:
        refuse(503, "ServiceStopping", "The service is stopping.")
    await service.imports.check()
    return {"status": "ready"}


async def metrics(service: Service, call: Call) -> Reply:
    """Counters and gauges in Prometheus's text format. They cover all registries."""
    caller = call.principal
    if not service.readable(caller):
        refuse(
            403,
            "AuthorizationFailed",
            f"The client '{caller.name or caller.id}' may read no registry, and so no metrics.",
        )
    text = service.metrics.render(service.imports.all(), service.ends.labels)
    return Reply(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
