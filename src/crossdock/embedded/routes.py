"""Maps paths to endpoints: one row per endpoint of the distribution specification, of ``/acr/v1``, and of our
own page and metrics."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from crossdock.embedded import blobs, listing, manifests, page
from crossdock.embedded.acr import metadata
from crossdock.embedded.responses import Refused, json_response
from crossdock.oci.reference import is_repository

if TYPE_CHECKING:
    from crossdock.embedded.app import Registry


@dataclass(frozen=True, slots=True)
class Route:
    """The meaning of a path. ``argument`` is the tag, digest or session id, unchecked."""

    endpoint: str  # a key of `ENDPOINTS`
    name: str = ""  # of the repository
    argument: str = ""
    owner: str = ""  # a user or address, set when the request is admitted

    @property
    def is_own(self) -> bool:
        """Whether the endpoint belongs to no registry API. Such endpoints check their callers themselves."""
        return self.endpoint in ("page", "page-style", "health", "metrics")

    def is_costly(self, method: str) -> bool:
        """Whether the response may have to read many files or manifests. Requests with a body never do."""
        lists = self.endpoint in ("catalog", "referrers", "page") or self.endpoint.startswith("acr-")
        return lists and method in ("GET", "DELETE")


Handler = Callable[["Registry", web.Request, Route], Awaitable[web.StreamResponse]]


async def _base(registry: Registry, request: web.Request, route: Route) -> web.Response:
    return json_response({})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The paths of an endpoint, and its handlers by method."""

    path: re.Pattern[str]
    handlers: Mapping[str, Handler]


def _row(path: str, **handlers: Handler) -> Endpoint:
    pattern = path.replace("NAME", "(?P<name>.+)").replace("ARGUMENT", "(?P<argument>[^/]+)")
    return Endpoint(re.compile(pattern), handlers)


# Tried in this order, with greedy names: a repository may be called `blobs` or `a/tags/list`.
ENDPOINTS = {
    "base": _row("/v2/?", GET=_base, HEAD=_base),
    "catalog": _row("/v2/_catalog/?", GET=listing.catalog),
    "tags": _row("/v2/NAME/tags/list/?", GET=listing.tags),
    "uploads": _row("/v2/NAME/blobs/uploads/?", POST=blobs.start_upload),
    "upload": _row(
        "/v2/NAME/blobs/uploads/ARGUMENT",
        GET=blobs.upload_status,
        PATCH=blobs.append,
        PUT=blobs.finish,
        DELETE=blobs.cancel,
    ),
    "blob": _row("/v2/NAME/blobs/ARGUMENT", GET=blobs.pull, HEAD=blobs.pull, DELETE=blobs.delete),
    "manifest": _row(
        "/v2/NAME/manifests/ARGUMENT",
        GET=manifests.pull,
        HEAD=manifests.pull,
        PUT=manifests.push,
        DELETE=manifests.delete,
    ),
    "referrers": _row("/v2/NAME/referrers/ARGUMENT", GET=listing.referrers),
    # No component of a repository name begins with an underscore.
    "acr-catalog": _row("/acr/v1/_catalog/?", GET=metadata.catalog),
    "acr-manifests": _row("/acr/v1/NAME/_manifests/?", GET=metadata.manifests),
    "acr-manifest": _row("/acr/v1/NAME/_manifests/ARGUMENT", GET=metadata.manifest, PATCH=metadata.manifest),
    "acr-tags": _row("/acr/v1/NAME/_tags/?", GET=metadata.tags),
    "acr-tag": _row(
        "/acr/v1/NAME/_tags/ARGUMENT", GET=metadata.tag, PATCH=metadata.tag, DELETE=metadata.delete_tag
    ),
    "acr-repository": _row(
        "/acr/v1/(?P<name>[a-z0-9].*)",
        GET=metadata.repository,
        PATCH=metadata.repository,
        DELETE=metadata.delete_repository,
    ),
    "page": _row("/", GET=page.page, HEAD=page.page),
    "page-style": _row("/page.css", GET=page.style, HEAD=page.style),
    "health": _row("/healthz", GET=page.health, HEAD=page.health),
    "metrics": _row("/metrics", GET=page.metrics, HEAD=page.metrics),
}


def find_route(method: str, path: str) -> Route:
    """The endpoint behind `path` (percent-decoded), its repository name checked.

    Raises `Refused`: 404 for a path outside the specification, 400 NAME_INVALID, 405 with Allow.
    """
    for endpoint, row in ENDPOINTS.items():
        found = row.path.fullmatch(path)
        if found is None:
            continue
        route = Route(endpoint, **found.groupdict())
        if "name" in found.groupdict() and not is_repository(route.name):
            raise Refused("NAME_INVALID", "invalid repository name", detail={"name": route.name})
        if method not in row.handlers:
            allow = ", ".join(row.handlers)
            raise Refused("UNSUPPORTED", f"{method} is not supported here", headers={"Allow": allow})
        return route
    raise Refused("UNSUPPORTED", "no such endpoint", status=404, detail={"path": path})


def check_mount_source(query: Mapping[str, str]) -> None:
    """Check the repository that a mount names, before it is used in a scope. Raises `Refused` (400)."""
    source = query.get("from", "")
    if source and not is_repository(source):
        raise Refused("NAME_INVALID", "invalid repository name", detail={"from": source})
