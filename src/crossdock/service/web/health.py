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
    """Metrics in Prometheus's text format. Labels name only registries that the caller may read."""
    caller = call.principal
    readable = {each.login_server for each in service.readable(caller)}
    if not readable and not service.identity.is_open:
        refuse(
            403,
            "AuthorizationFailed",
            f"The client '{caller.name or caller.id}' may read no registry, and so no metrics.",
        )
    text = service.metrics.render(service.imports.all(), service.ends.labels)
    hidden = {each.login_server for each in service.inventory.registries} - readable
    lines = [each for each in text.splitlines(keepends=True) if _registry_of(each) not in hidden]
    return Reply(b"".join(lines), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _registry_of(line: bytes) -> str:
    """The label `registry` of a sample; empty if it has none."""
    return line.partition(b'registry="')[2].partition(b'"')[0].decode()
