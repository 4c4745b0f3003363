"""The values that the parts of the service exchange."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from crossdock.acr.request import ImportRequest
from crossdock.inventory.values import ResourceId

State = Literal["Accepted", "Running", "Succeeded", "Failed", "Canceled"]
"""The state of an import. ``Canceled`` is ARM's spelling."""

ENDED: frozenset[State] = frozenset({"Succeeded", "Failed", "Canceled"})


class Principal(Struct, frozen=True, kw_only=True):
    """The caller. Settings and logs name it by `id`."""

    id: str
    name: str = ""
    tenant: str = ""
    issuer: str = ""  # of a JSON web token; empty for a static one
    others: tuple[str, ...] = ()  # other names that settings may use for it


ANYBODY = Principal(id="anonymous")
"""The caller of a service without identity settings, which listens on loopback only."""


class Detail(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cause in an ARM error: phase, registry, URL and status."""

    code: str
    message: str
    target: str = ""


class Problem(Struct, frozen=True, kw_only=True):
    """An error in ARM's form: ``{"error": {"code", "message", "target", "details"}}``, with its `status`.

    Never 408, 429 or 5xx for an import that failed, since these make clients repeat polls (az-contract 2.4).
    """

    status: int
    code: str
    message: str
    target: str = ""
    details: tuple[Detail, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The response's body."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.target:
            error["target"] = self.target
        error["details"] = [
            {"code": each.code, "message": each.message, "target": each.target} for each in self.details
        ]
        error["additionalInfo"] = []
        return {"error": error}


class Order(Struct, frozen=True, kw_only=True):
    """One import as it was requested and permitted. `request` may hold the caller's secret."""

    registry: ResourceId  # the target, complete
    request: ImportRequest
    principal: Principal
    request_id: str = ""  # x-ms-client-request-id; repeating it returns the same import
    client: str = ""  # its address, for the audit log
    # the principal has no right to the source, which must demand the caller's credentials
    by_login: bool = False


class Progress(Struct, kw_only=True):
    """Progress of an import. Sizes in bytes, rates in bytes per second."""

    manifests: dict[str, str] = field(default_factory=dict)  # repo:tag or repo@digest → Pending, Succeeded
    bytes: int = 0  # moved by this import, since it was last started
    present: int = 0  # at the target: copied, mounted or already present
    total: int = 0  # of all blobs found so far
    rate: float = 0.0
    blob: str = ""  # a digest that is being copied
    in_flight: int = 0  # sent, of blobs that are not complete at the target
    retries: dict[str, int] = field(default_factory=dict)  # by side
    limited_by: str = ""  # as `Totals.limited_by`


class Operation(Struct, kw_only=True):
    """An accepted import. Times are seconds since the epoch, 0 for events that have not happened yet."""

    id: str
    order: Order
    state: State = "Accepted"
    created: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    progress: Progress = field(default_factory=Progress)
    result: dict[str, Any] | None = None  # `ImportResult.as_dict`
    problem: Problem | None = None
    source_digest: str = ""  # what the source's tag resolved to, once for all runs
