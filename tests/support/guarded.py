"""A registry in memory with a guard before it, which a test writes as a function."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from msgspec import Struct

from support.lenient import LenientRegistry, _Handler


class Refusal(Struct, frozen=True):
    """An answer in place of the registry's."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Request(Struct, frozen=True):
    """What the guard sees of a request."""

    method: str
    path: str
    query: str
    authorization: str


Guard = Callable[[Request], Refusal | None]


def basic(user: str, password: str) -> str:
    """The ``Authorization`` of Basic."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def demand(challenge: str, status: int = 401) -> Refusal:
    """An answer with a challenge."""
    return Refusal(status, b"{}", {"WWW-Authenticate": challenge})


def refuse(status: int, code: str, message: str = "") -> Refusal:
    """An answer with an error's body."""
    return Refusal(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode())


def document(value: Any) -> Refusal:
    """200 with a JSON document."""
    return Refusal(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def guarded_registry(closing: ExitStack, guard: Guard) -> LenientRegistry:
    """A registry whose requests `guard` sees first; what it returns is the answer."""

    class Guarded(_Handler):
        def _guarded(self, serve: Callable[[], None]) -> None:
            path, _, query = self.path.partition("?")
            answer = guard(Request(self.command, path, query, self.headers.get("Authorization", "")))
            if answer is None:
                return serve()
            self._body()
            self._answer(answer.status, answer.body, answer.headers)

        def do_GET(self) -> None:
            self._guarded(super().do_GET)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            self._guarded(super().do_POST)

        def do_PUT(self) -> None:
            self._guarded(super().do_PUT)

    registry = LenientRegistry(closing)
    registry.RequestHandlerClass = Guarded
    return registry
