"""Foreign layers: the registry first, then their URLs in order, without credentials."""

from __future__ import annotations

import pytest

from crossdock.errors import (
    Advice,
    NotFound,
    RedirectRefused,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.options import Credentials
from crossdock.registry.blobs.blob import RegistryBlob
from crossdock.registry.blobs.foreign import ForeignBlob
from unit.registry.scripted_registry import (
    Answer,
    Collector,
    Connect,
    ScriptedRegistry,
    Seen,
    content,
    describe,
)

DATA = content(5000)
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
PLAIN = describe(DATA, FOREIGN)
PATH = f"/v2/x/blobs/{PLAIN.digest}"


def layer(*urls: str) -> Descriptor:
    return Descriptor(FOREIGN, PLAIN.digest, PLAIN.size, urls)


async def read(connect: Connect, *urls: str) -> bytes:
    body = await connect("source").blob(layer(*urls)).open(0, len(DATA))
    sink = Collector()
    await body.receive(sink)
    return bytes(sink.data)


async def test_a_registry_that_has_it_is_all_that_is_asked(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("GET", PATH, Answer(200, {}, DATA))
    assert await read(connect, f"{server.url}/far") == DATA


async def test_the_urls_are_tried_in_order_and_the_first_that_answers_serves_all_ranges(
    server: ScriptedRegistry, connect: Connect
) -> None:
    for path, answer in ((PATH, Answer(404)), ("/a", Answer(403)), ("/b", Answer(200, {}, DATA))):
        server.expect("GET", path, answer)
    blob = connect("source").blob(layer(*(f"{server.url}/{name}" for name in "abc")))
    assert isinstance(blob, ForeignBlob)
    (await blob.open(0, len(DATA))).close()
    server.expect("GET", "/b", Answer(200, {}, DATA))
    (await blob.open(0, len(DATA))).close()


async def test_a_page_instead_of_the_layer_is_not_taken_for_it(
    server: ScriptedRegistry, connect: Connect
) -> None:
    server.expect("GET", PATH, Answer(404))
    server.expect("GET", "/page", Answer(200, {}, b"<html>moved</html>"))
    server.expect("GET", "/layer", Answer(200, {}, DATA))
    assert await read(connect, f"{server.url}/page", f"{server.url}/layer") == DATA


async def test_a_url_that_leads_back_to_the_registry_sees_no_credentials(
    server: ScriptedRegistry, connect: Connect
) -> None:
    async def handler(seen: Seen) -> Answer:
        if seen.target in ("/far", "/back"):
            assert "authorization" not in seen.headers
            is_first = seen.target == "/far"
            return Answer(307, {"Location": f"{server.url}/back"}) if is_first else Answer(200, {}, DATA)
        if "authorization" not in seen.headers:
            return Answer(401, {"WWW-Authenticate": 'Basic realm="r"'})
        return Answer(404)

    server.handler = handler
    blob = connect("source", credentials=Credentials("u", "p")).blob(layer(f"{server.url}/far"))
    (await blob.open(0, len(DATA))).close()
    assert [(seen.target, "authorization" in seen.headers) for seen in server.seen][-3:] == [
        (PATH, True),
        ("/far", False),
        ("/back", False),
    ]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://user:secret@layers.test/x", "ftp://h/x"])
async def test_an_invalid_web_address_is_not_requested(
    server: ScriptedRegistry, connect: Connect, url: str
) -> None:
    server.expect("GET", PATH, Answer(404))
    with pytest.raises(RedirectRefused, match="the layer's URL") as raised:
        await connect("source").blob(layer(url)).open(0, 10)
    assert "secret" not in str(raised.value)


async def test_nothing_anywhere_says_how_to_go_without(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", PATH, Answer(404))
    server.expect("GET", "/far", Answer(404))
    with pytest.raises(NotFound) as raised:
        await connect("source").blob(layer(f"{server.url}/far")).open(0, len(DATA))
    assert raised.value.advice == Advice("keep-foreign-layers")


def test_content_that_a_target_has_is_read_from_the_target_alone(connect: Connect) -> None:
    assert isinstance(connect("target").blob(layer("https://far.test/x")), RegistryBlob)
