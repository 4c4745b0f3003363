"""The interface for programs that embed crossdock: names, arguments, listeners, the log."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

import crossdock
from crossdock import CopyError, CopyOptions, NetworkOptions
from crossdock.events import CopyDone, CopyStarted
from crossdock.imagebuilder import ImageBuilder
from crossdock.oci.reference import parse_location
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Fault
from support.docker_registry import DockerRegistry
from support.images import one_layer_image, push

pytestmark = pytest.mark.real


@pytest.fixture
def image(source: DockerRegistry, repository: str, builder: ImageBuilder) -> str:
    push(source.remote, repository, builder, one_layer_image(builder, 100_000)[0], "v1")
    return f"{source.host}/{repository}:v1"


async def test_parsed_references_are_taken_where_text_is(
    image: str, source: DockerRegistry, target: DockerRegistry, repository: str
) -> None:
    location = parse_location(image)
    result = await crossdock.copy(location, parse_location(f"{target.host}/{repository}:v1"))
    assert result.source == image
    assert (await crossdock.inspect(location)).digest == result.digest
    assert await crossdock.list_tags(parse_location(f"{source.host}/{repository}")) == ["v1"]
    many = await crossdock.copy_many([(location, f"{target.host}/{repository}:v2")])
    assert many.count("copied") == 1


class Listener:
    """A listener whose calls are awaited."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    async def __call__(self, *words: object) -> None:
        await asyncio.sleep(0)
        self.heard.append(words[-1])


async def test_an_async_listener_is_awaited_before_the_copy_has_ended(
    image: str, target: DockerRegistry, repository: str
) -> None:
    words = image, f"{target.host}/{repository}:v1"
    places = image.partition("/it/")[0] + "/it", f"{target.host}/mirrored"
    name = repository.removeprefix("it/")
    for number, copying in enumerate(
        (
            lambda on_event: crossdock.copy(*words, on_event=on_event),
            lambda on_event: crossdock.copy_many([words], on_event=on_event),
            lambda on_event: crossdock.mirror(*places, repositories=[name], on_event=on_event),
        )
    ):
        listener = Listener()
        await copying(listener)
        assert isinstance(listener.heard[0], CopyStarted), number
        assert isinstance(listener.heard[-1], CopyDone), number


async def test_retries_and_warnings_are_logged(
    image: str,
    source_faults: FaultProxy,
    target: DockerRegistry,
    repository: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source_faults.add(Fault("GET */manifests/*", answer=Answer(503)))
    through = image.replace(source_faults.upstream, source_faults.host)
    options = CopyOptions(state=None)
    with caplog.at_level(logging.DEBUG, "crossdock"):
        result = await crossdock.copy(through, f"{target.host}/{repository}:v1", options)
    retries = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len(retries) == result.retries == 1
    assert "503" in retries[0].getMessage()
    assert "source" in retries[0].getMessage()


async def test_a_retry_of_what_is_only_read_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # not listening: connections are refused
        name = f"127.0.0.1:{unused.getsockname()[1]}/a:v1"
        options = CopyOptions(network=NetworkOptions(retries=1))
        with caplog.at_level(logging.INFO, "crossdock"), pytest.raises(CopyError):
            await crossdock.inspect(name, options)
    assert [each.name for each in caplog.records] == ["crossdock"]


def test_nothing_is_printed_where_no_log_is_configured() -> None:
    handlers = logging.getLogger("crossdock").handlers
    assert any(isinstance(each, logging.NullHandler) for each in handlers)
