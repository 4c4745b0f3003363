"""Routes, and the look-up of a path. Pure: no server.

Azure's paths ignore case, and clients send them with doubled and trailing slashes (az-contract 3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal
from urllib.parse import unquote

from msgspec import Struct

from crossdock.service.web.service import Handler

Guard = Literal["bearer", "page", "open"]
"""Permitted callers: `bearer` those with a token, `page` browsers as well, `open` anybody."""
Tag = Literal["arm", "imports", "service"]
"""OpenAPI's tag of an endpoint. Responses of `arm` carry Azure's headers."""

_PLACE = re.compile(r"\{([A-Za-z]+)\}")


class Route(Struct, frozen=True):
    """One endpoint: its handler, who may call it, and how the OpenAPI document describes it."""

    method: str
    template: str  # the path as OpenAPI writes it
    handler: Handler
    name: str  # `operationId`
    summary: str
    result: str = (
        ""  # of success: a schema of `openapischemas`, "object" for any other, or a text's media type
    )
    tag: Tag = "service"
    guard: Guard = "bearer"
    query: tuple[Mapping[str, Any], ...] = ()  # its own query parameters
    body: str = ""  # the schema of the request's body
    statuses: tuple[int, ...] = (200,)  # of success
    errors: Mapping[int, str] = {}  # in addition to those of the guard
    is_poll: bool = False  # clients repeat it automatically, so it is not counted as a request
    is_audited: bool = False  # a refusal goes to the audit log
    note: str = ""  # precedes the message for an unsupported method


class Match(Struct, frozen=True):
    """The routes of one template by their methods, HEAD included, and the decoded values of its places."""

    template: str
    routes: Mapping[str, Route]
    values: Mapping[str, str]

    @property
    def first(self) -> Route:
        """The first route; its tag and note are the same for all routes of the template."""
        return next(iter(self.routes.values()))


class Router:
    """Finds routes by paths."""

    def __init__(self, routes: Iterable[Route]) -> None:
        found: dict[str, dict[str, Route]] = {}
        for each in routes:
            found.setdefault(each.template, {})[each.method] = each
        for methods in found.values():
            if "GET" in methods:
                methods["HEAD"] = methods["GET"]
        self._table = [(tuple(_parts(template)), template, methods) for template, methods in found.items()]

    def find(self, raw_path: str) -> Match | None:
        """The routes of a path as in the request line, without its query; None for an unknown path."""
        given = _parts(raw_path)
        for wanted, template, methods in self._table:
            values = _values(wanted, given)
            if values is not None:
                return Match(template, methods, values)
        return None


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _values(template: tuple[str, ...], given: list[str]) -> dict[str, str] | None:
    """The values of the template's places; None when the path does not match it."""
    if len(template) != len(given):
        return None
    values: dict[str, str] = {}
    for wanted, part in zip(template, given, strict=True):
        decoded = unquote(part)
        if place := _PLACE.fullmatch(wanted):
            values[place[1]] = decoded
        elif wanted.lower() != decoded.lower():
            return None
    return values
