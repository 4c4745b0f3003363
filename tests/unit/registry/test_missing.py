"""The explanation of a 404, for which the client never waits long."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from crossdock.errors import CrossdockError, Denied, TimedOut
from crossdock.registry import missing
from crossdock.registry.handle import Repository
from crossdock.registry.missing import explain_missing
from crossdock.url import Url


class Client:
    """A client of one answer, or of one failure."""

    def __init__(self, body: object = None, status: int = 200, error: BaseException | None = None) -> None:
        self._reply = SimpleNamespace(
            status=status,
            body=json.dumps(body).encode(),
            url=Url.parse("http://h:1/v2/app/tags/list"),
            headers={},
        )
        self._error = error
        self.asked = 0

    async def request(self, *words: Any, **how: Any) -> Any:
        assert how["retry"] is False
        self.asked += 1
        if self._error is not None:
            raise self._error
        return self._reply


async def explain(client: Any, reference: str = "v2", repository: str = "app") -> str:
    advice = await explain_missing(Repository.to_read(client, repository), f"h:1/{repository}", reference)
    assert advice is None or advice.kind == "check-name"
    return str(advice or "")


@pytest.mark.parametrize(
    ("tags", "reference", "said"),
    [
        (["1.27", "1.29"], "1.28", "h:1/app has no tag 1.28; did you mean 1.29 or 1.27?"),
        (["v1.0"], "v1.1", "h:1/app has no tag v1.1; did you mean v1.0?"),
        (["V2-RC"], "v2-rc", "h:1/app has no tag v2-rc; did you mean V2-RC?"),
        (["one", "two"], "99", "h:1/app has no tag 99; its tags are one, two"),
        (list("abcdefg"), "99", "h:1/app has no tag 99; its tags are a, b, c, d, e and 2 more"),
        (["v2"], "v2", "h:1/app lists the tag v2 and does not have its manifest"),
        ([], "v2", "h:1/app has no tags, or does not exist"),
        (None, "v2", "h:1/app has no tags, or does not exist"),
        (["v1"], f"sha256:{'0' * 64}", "h:1/app exists and has no such manifest"),
        (
            ["v1"],
            "latest",
            "h:1/app has no tag latest, which is assumed where none is given; its tags are v1",
        ),
        (["v1", None, "a b", 5], "v2", "h:1/app has no tag v2; its tags are v1"),
    ],
)
async def test_a_list_of_tags_tells_what_is_missing(tags: Any, reference: str, said: str) -> None:
    assert await explain(Client({"name": "app", "tags": tags}), reference) == said


async def test_a_repository_without_a_list_is_missing_or_has_no_tags() -> None:
    assert await explain(Client(status=404)) == "there is no repository app at h:1, or none with tags"


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (Client(status=404), "there is no repository app at h:1, or none with tags"),
        (Client({"tags": []}), "h:1/app has no tags, or does not exist"),
        (Client({"tags": ["v1"]}), ""),
    ],
)
async def test_a_repository_without_a_reference_is_missing_or_there(client: Client, said: str) -> None:
    assert await explain(client, "") == said


@pytest.mark.parametrize("part", ["v1", "v2"])
async def test_a_part_of_a_url_in_the_name_costs_no_question(part: str) -> None:
    client = Client({"tags": []})
    said = await explain(client, repository=f"{part}/team/app")
    assert said == f"{part}/ is a part of the API's URLs: leave it out, as in h:1/team/app"
    assert client.asked == 0


@pytest.mark.parametrize("error", [Denied("no", status=403), TimedOut("slow"), CrossdockError("odd")])
async def test_a_question_that_fails_adds_nothing(error: CrossdockError) -> None:
    assert await explain(Client(error=error)) == ""


@pytest.mark.parametrize("body", [[], {"tags": {}}, "text"])
async def test_other_content_adds_nothing_to_a_list(body: object) -> None:
    assert await explain(Client(body)) == ""


async def test_a_silent_registry_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        async def request(self, *words: Any, **how: Any) -> Any:
            await asyncio.Event().wait()

    monkeypatch.setattr(missing, "ANSWER_S", 0)
    assert await explain(Silent()) == ""
