"""The arguments and results of handlers: the service's parts, a call, a reply."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from msgspec import Struct, field

from crossdock.acr.request import ImportRequest
from crossdock.inventory.values import Entry, Inventory
from crossdock.rate import RateLimit
from crossdock.service.guard import SourceGuard
from crossdock.service.identity.rights import Rights
from crossdock.service.identity.tokens import Identity
from crossdock.service.operations.imports import Imports
from crossdock.service.values import Operation, Principal
from crossdock.service.web.ends import Ends
from crossdock.service.web.metrics import Metrics

Document = dict[str, Any]
CLIENT_REQUEST_ID = "x-ms-client-request-id"


class PageLink(Struct, frozen=True):
    """The link that opens the status page without a prompt: its key, and who opens it."""

    key: str
    principal: Principal

    @classmethod
    def of(cls, principal: Principal) -> PageLink:
        """A link with a new key."""
        return cls(secrets.token_urlsafe(32), principal)


class Service(Struct, kw_only=True):
    """The parts of a running service."""

    inventory: Inventory
    imports: Imports
    identity: Identity
    rights: Rights
    guard: SourceGuard
    rate: RateLimit
    metrics: Metrics
    ends: Ends
    public_url: str = ""  # its URL for clients, without the last slash; empty: from their Host
    scheme: str = "http"  # of that URL, if it is from their Host
    hosts: frozenset[str] = frozenset()  # the only host names it accepts; empty: any
    is_stopping: bool = False
    link: PageLink | None = None  # of the development cloud
    page_key: bytes = field(default_factory=lambda: secrets.token_bytes(32))  # of the page's buttons

    def readable(self, principal: Principal) -> list[Entry]:
        """The registries that the caller may read."""
        return [each for each in self.inventory.registries if self.rights.may(principal, "read", each)]

    def seen_by(self, principal: Principal) -> list[Operation]:
        """The imports that the caller may see, the newest first; as `may_see`, for all at once."""
        if self.identity.is_open:
            return self.imports.all()
        readable = {each.resource_id.lower() for each in self.readable(principal)}
        return [
            each
            for each in self.imports.all()
            if is_own(each, principal) or str(each.order.registry).lower() in readable
        ]

    def may_see(self, principal: Principal, operation: Operation) -> bool:
        """Whether the caller may see an import: it started it, or may read the target."""
        if self.identity.is_open or is_own(operation, principal):
            return True
        entry = self.inventory.find(str(operation.order.registry))
        return entry is not None and self.rights.may(principal, "read", entry)

    def may_cancel(self, principal: Principal, operation: Operation) -> bool:
        """Whether the caller may cancel an import that it may see: it started it, or may import there."""
        if is_own(operation, principal):
            return True
        entry = self.inventory.find(str(operation.order.registry))
        return entry is None or self.rights.may(principal, "importImage", entry)


class Call(Struct):
    """One request, its caller, and the values of the places in its path."""

    request: web.Request
    principal: Principal
    values: Mapping[str, str]
    base: str  # the URL of the service, without the last slash
    wanted: ImportRequest | None = None  # an import's body, once it is parsed; for the audit log

    @property
    def query(self) -> Mapping[str, str]:
        """The query's parameters; the first of several with one name."""
        return self.request.query

    def url(self) -> str:
        """The URL of this request without its query."""
        return f"{self.base}{self.request.rel_url.raw_path}"


class Reply(Struct, frozen=True):
    """A response that is more than a JSON document with status 200."""

    body: Document | bytes = b""
    status: int = 200
    headers: Mapping[str, str] = {}


def is_own(operation: Operation, principal: Principal) -> bool:
    """Whether the principal started the import."""
    starter = operation.order.principal
    return (starter.id, starter.issuer) == (principal.id, principal.issuer)


def client_request_id(headers: Mapping[str, str]) -> str:
    """The client's id for its request; empty if missing or unusable."""
    text = headers.get(CLIENT_REQUEST_ID, "")
    return text if len(text) <= 128 and text.isascii() and text.isprintable() else ""


Handler = Callable[[Service, Call], Awaitable[Document | Reply]]
