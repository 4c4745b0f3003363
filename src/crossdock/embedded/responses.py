"""Responses of the distribution specification: error codes, their HTTP status, and JSON bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from crossdock.oci.text import encodable

JSON_TYPE = "application/json"

# Codes and their usual status (distribution-spec, "Error Codes"; statuses as distribution sends them).
STATUS = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DENIED": 403,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 400,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "PAGINATION_NUMBER_INVALID": 400,  # distribution's own, for a bad `n`
    "REGISTRY_DISALLOWED_OPERATION": 405,  # ACR's own, for requests that a lock forbids
    "SIZE_INVALID": 400,
    "TAG_INVALID": 400,
    "TOOMANYREQUESTS": 429,
    "UNAUTHORIZED": 401,
    "UNKNOWN": 500,
    "UNSUPPORTED": 405,
}


class Refused(Exception):
    """A request that ends in an error response.

    ``code`` is one of `STATUS`; ``status`` overrides its usual HTTP status; ``detail`` is any JSON.
    ``also`` holds further (message, detail) pairs of the same code.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        detail: Any = None,
        headers: Mapping[str, str] | None = None,
        also: tuple[tuple[str, Any], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status or STATUS[code]
        self.headers = dict(headers or {})
        self.problems = ((message, detail), *also)

    def response(self) -> web.Response:
        """The error as the specification's JSON body."""
        errors = [
            {"code": self.code, "message": message, "detail": detail} for message, detail in self.problems
        ]
        return json_response({"errors": errors}, status=self.status, headers=self.headers)


def page_size(given: str, least: int, limit: int) -> int:
    """The value of ``n`` in a query, at most `limit`. Raises `Refused` unless it is a number from `least`."""
    if not (given.isascii() and given.isdigit() and len(given) < 10) or int(given) < least:
        raise Refused("PAGINATION_NUMBER_INVALID", f"n must be a number from {least}", detail={"n": given})
    return min(int(given), limit)


def json_response(
    body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None, content_type: str = JSON_TYPE
) -> web.Response:
    """`body` as JSON. Bytes of a request in `body` that are not UTF-8 become ``?``."""
    try:
        data = msgspec.json.encode(body, enc_hook=str)
    except UnicodeEncodeError:
        data = msgspec.json.encode(encodable(msgspec.to_builtins(body, enc_hook=str)))
    return web.Response(status=status, headers=headers, body=data, content_type=content_type)
