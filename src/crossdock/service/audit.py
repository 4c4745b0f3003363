"""The audit log: one line for each import that is accepted, refused or ended.

The lines are those of `logs`, which no client input can forge. Values are bounded. There are no secrets in
them: a request's credentials are left out, and its password is masked wherever else it occurs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Literal

from crossdock.acr.request import ImportRequest
from crossdock.service.values import Operation, Order, Principal, Problem, State

log = logging.getLogger("crossdock.audit")

Result = Literal["accepted", "refused", "succeeded", "failed", "canceled"]

LONGEST = 512  # characters of one value; a registry and an image have up to some 400
MOST_TARGETS = 50  # listed; the others are only counted
_ENDS: Mapping[State, Result] = {"Succeeded": "succeeded", "Failed": "failed", "Canceled": "canceled"}
_DIGEST = re.compile(r"sha\d+:")
_SHORTEST_SECRET = 4  # characters; shorter ones occur in ordinary words


def write(fields: Mapping[str, Any]) -> None:
    """Log one line."""
    log.info("importImage", extra={"fields": fields})


def refused(
    problem: Problem,
    *,
    principal: Principal | None = None,
    client: str = "",
    registry: str = "",
    request: ImportRequest | None = None,
    request_id: str = "",
) -> dict[str, Any]:
    """An import that was not started. Unknown values are left out; `registry` is the target's resource ID, or
    the requested path."""
    texts = {"client": client, "request_id": request_id, "registry": registry}
    return _fields("refused", principal, texts, request, problem)


def accepted(order: Order, operation: str) -> dict[str, Any]:
    """An import that will be run; `operation` is its id."""
    return _fields("accepted", order.principal, _texts(order, operation), order.request, None)


def ended(operation: Operation) -> dict[str, Any]:
    """An import whose state is one of `values.ENDED`."""
    order, result = operation.order, _ENDS[operation.state]
    fields = _fields(result, order.principal, _texts(order, operation.id), order.request, operation.problem)
    outcome = operation.result or {}
    return fields | {key: outcome[key] for key in ("digest", "bytes_moved", "seconds") if key in outcome}


def _texts(order: Order, operation: str) -> dict[str, str]:
    registry = str(order.registry)
    ids = {"operation": operation, "request_id": order.request_id}
    return {"client": order.client, **ids, "registry": registry}


def _fields(
    result: Result,
    principal: Principal | None,
    texts: Mapping[str, str],
    request: ImportRequest | None,
    problem: Problem | None,
) -> dict[str, Any]:
    fields: dict[str, Any] = {"result": result}
    if principal is not None:
        fields["who"] = principal.id
        fields |= {key: text for key in ("name", "tenant", "issuer") if (text := getattr(principal, key))}
    fields |= {key: text for key, text in texts.items() if text}
    if request is not None:
        fields |= _asked(request)
    if problem is not None:
        fields |= {"status": problem.status, "code": problem.code, "error": problem.message}
    secret = request.source.credentials.password if request and request.source.credentials else ""
    return {key: _clean(value, secret) for key, value in fields.items()}


def _asked(request: ImportRequest) -> dict[str, Any]:
    source = request.source
    registry = _without_userinfo(source.resource_id or source.registry_uri or "")
    targets = [*request.target_tags, *(f"{each} (untagged)" for each in request.untagged_target_repositories)]
    fields: dict[str, Any] = {
        "from": f"{registry} {_without_userinfo(source.source_image)}",
        "to": targets[:MOST_TARGETS],
        "mode": request.mode,
    }
    if len(targets) > MOST_TARGETS:
        fields["to_in_all"] = len(targets)
    if source.credentials is not None:
        fields["with_credentials"] = True
    return fields


def _without_userinfo(text: str) -> str:
    """`text` without userinfo: everything before an ``@`` in each path segment, digests excepted."""
    parts = []
    for part in text.split("/"):
        name, _, digest = part.rpartition("@")
        if _DIGEST.match(digest):
            parts.append(f"{name.rpartition('@')[2]}@{digest}")
        else:
            parts.append(digest)
    return "/".join(parts)


def _clean(value: Any, secret: str) -> Any:
    if isinstance(value, list):
        return [_clean(each, secret) for each in value]
    if not isinstance(value, str):
        return value
    if len(secret) >= _SHORTEST_SECRET:
        value = value.replace(secret, "…")
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
