"""From a path to an endpoint: the distribution specification's, or ``/acr/v1``. Pure: no server, no store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from crossdock.embedded.answers import Refused

Endpoint = Literal[
    "base",
    "catalog",
    "blob",
    "uploads",
    "upload",
    "manifest",
    "tags",
    "referrers",
    "acr-catalog",
    "acr-repository",
    "acr-manifests",
    "acr-manifest",
    "acr-tags",
    "acr-tag",
]

# distribution-spec, "Pulling manifests"
NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
NAME_MAX = 255  # "Many clients impose a limit of 255 characters"; also the longest file name of Linux

METHODS: dict[Endpoint, tuple[str, ...]] = {
    "base": ("GET", "HEAD"),
    "catalog": ("GET",),
    "blob": ("GET", "HEAD", "DELETE"),
    "uploads": ("POST",),
    "upload": ("GET", "PATCH", "PUT", "DELETE"),
    "manifest": ("GET", "HEAD", "PUT", "DELETE"),
    "tags": ("GET",),
    "referrers": ("GET",),
    "acr-catalog": ("GET",),
    "acr-repository": ("GET", "PATCH", "DELETE"),
    "acr-manifests": ("GET",),
    "acr-manifest": ("GET", "PATCH"),
    "acr-tags": ("GET",),
    "acr-tag": ("GET", "PATCH", "DELETE"),
}

# Tried in this order, names greedy: a repository may itself be called `blobs` or `a/tags/list`.
_PATTERNS: tuple[tuple[re.Pattern[str], Endpoint], ...] = (
    (re.compile(r"/v2/?"), "base"),
    (re.compile(r"/v2/_catalog/?"), "catalog"),
    (re.compile(r"/v2/(?P<name>.+)/tags/list/?"), "tags"),
    (re.compile(r"/v2/(?P<name>.+)/blobs/uploads/?"), "uploads"),
    (re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<argument>[^/]+)"), "upload"),
    (re.compile(r"/v2/(?P<name>.+)/blobs/(?P<argument>[^/]+)"), "blob"),
    (re.compile(r"/v2/(?P<name>.+)/manifests/(?P<argument>[^/]+)"), "manifest"),
    (re.compile(r"/v2/(?P<name>.+)/referrers/(?P<argument>[^/]+)"), "referrers"),
    # No part of a name begins with an underscore.
    (re.compile(r"/acr/v1/_catalog/?"), "acr-catalog"),
    (re.compile(r"/acr/v1/(?P<name>.+)/_manifests/?"), "acr-manifests"),
    (re.compile(r"/acr/v1/(?P<name>.+)/_manifests/(?P<argument>[^/]+)"), "acr-manifest"),
    (re.compile(r"/acr/v1/(?P<name>.+)/_tags/?"), "acr-tags"),
    (re.compile(r"/acr/v1/(?P<name>.+)/_tags/(?P<argument>[^/]+)"), "acr-tag"),
    (re.compile(r"/acr/v1/(?P<name>[a-z0-9].*)"), "acr-repository"),
)


@dataclass(frozen=True, slots=True)
class Route:
    """What a path asks for. ``argument`` is the tag, digest or session id, unchecked."""

    endpoint: Endpoint
    name: str = ""
    argument: str = ""

    def is_costly(self, method: str) -> bool:
        """Whether the answer may need many files or manifests. Requests with a body are none of these."""
        lists = self.endpoint in ("catalog", "referrers") or self.endpoint.startswith("acr-")
        return lists and method in ("GET", "DELETE")


def route(method: str, path: str) -> Route:
    """The endpoint behind `path` (percent-decoded), its repository name checked.

    Raises `Refused`: 404 for a path outside the specification, 400 NAME_INVALID, 405 with Allow.
    """
    for pattern, endpoint in _PATTERNS:
        found = pattern.fullmatch(path)
        if found is None:
            continue
        groups = found.groupdict()
        name = groups.get("name", "")
        if "name" in groups and not is_name(name):
            raise Refused("NAME_INVALID", "invalid repository name", detail={"name": name})
        if method not in METHODS[endpoint]:
            allow = ", ".join(METHODS[endpoint])
            raise Refused("UNSUPPORTED", f"{method} is not possible here", headers={"Allow": allow})
        return Route(endpoint, name, groups.get("argument", ""))
    raise Refused("UNSUPPORTED", "no such endpoint", status=404, detail={"path": path})


def check_names(query: Mapping[str, str]) -> None:
    """Check what stands for a repository in a query, before it gets into a scope. Raises `Refused` (400)."""
    origin = query.get("from", "")
    if origin and not is_name(origin):
        raise Refused("NAME_INVALID", "invalid repository name", detail={"from": origin})


def is_name(name: str) -> bool:
    """Whether `name` is a repository name."""
    return len(name) <= NAME_MAX and NAME.fullmatch(name) is not None


def is_tag(tag: str) -> bool:
    """Whether `tag` is a tag."""
    return TAG.fullmatch(tag) is not None
