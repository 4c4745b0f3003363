"""Answers: JSON documents, and the headers of Azure Resource Manager."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from crossdock.service.web.versions import VERSIONS

CLIENT_REQUEST_ID = "x-ms-client-request-id"


def json_answer(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """`document` as ``application/json``."""
    return web.Response(
        body=msgspec.json.encode(document, enc_hook=str),  # digests are texts of a class of their own
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers=headers,
    )


def common_headers(asked: Mapping[str, str], *, is_arm: bool) -> dict[str, str]:
    """The headers of every answer. `asked` are the request's.

    The ids of a client come back when they are what it says they are: a correlation is a GUID, its own
    request's id is short and plain.
    """
    request_id = str(uuid.uuid4())
    headers = {
        "Server": "crossdock",
        "x-ms-request-id": request_id,
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    try:
        headers["x-ms-correlation-request-id"] = str(uuid.UUID(asked["x-ms-correlation-request-id"]))
    except (KeyError, ValueError):
        headers["x-ms-correlation-request-id"] = request_id
    own = client_request_id(asked)
    if own and asked.get("x-ms-return-client-request-id", "").lower() == "true":
        headers[CLIENT_REQUEST_ID] = own
    if is_arm:
        headers["api-supported-versions"] = VERSIONS
    return headers


def client_request_id(asked: Mapping[str, str]) -> str:
    """The client's own id of its request; empty when there is none that can be used."""
    text = asked.get(CLIENT_REQUEST_ID, "")
    return text if len(text) <= 128 and text.isascii() and text.isprintable() else ""
