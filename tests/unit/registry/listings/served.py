"""A registry scripted by path: its responses, and its requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

from unit.registry.scripted_registry import Answer, ScriptedRegistry, Seen

PLAIN = Answer(404, {"Content-Type": "text/plain"}, b"404 page not found\n")  # Go's own server
OTHER = Answer(404, {"Content-Type": "text/html"}, b"<html><title>404 Not Found</title></html>")

Reply = Callable[[dict[str, str]], Answer]


def document(value: object, **headers: str) -> Answer:
    return Answer(200, headers, json.dumps(value).encode())


class Served:
    """The responses of a scripted registry by path; `rest` for other paths."""

    def __init__(self, server: ScriptedRegistry, rest: Answer = OTHER) -> None:
        self.answers: dict[str, Answer | Reply] = {}
        self.rest = rest
        self._server = server
        server.handler = self._answer

    async def _answer(self, seen: Seen) -> Answer:
        await seen.read()
        answer = self.answers.get(seen.path, self.rest)
        return answer if isinstance(answer, Answer) else answer(dict(parse_qsl(urlsplit(seen.target).query)))

    @property
    def asked(self) -> list[str]:
        return [seen.target for seen in self._server.seen]
