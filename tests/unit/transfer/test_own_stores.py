"""Custom stores with only the members of `content.Source` and `content.Target` (docs/stores.md)."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from crossdock import (
    BlobSource,
    Body,
    BytesBlob,
    ByteSink,
    CopyOptions,
    Digest,
    Session,
    Source,
    StreamBlob,
    Target,
)
from crossdock.errors import CopyError, ReadFailed, Unsupported, root_cause
from crossdock.oci.descriptor import Descriptor
from crossdock.options import Verify
from crossdock.tally import Tally
from crossdock.transfer.image import ImageCopy
from crossdock.transfer.request import CopyRequest
from crossdock.transfer.workshop import Workshop
from unit.transfer import memorystore
from unit.transfer.memorystore import MemorySource, MemoryTarget
from unit.transfer.shop import WHOLE
from unit.transfer.test_image import World

EXAMPLE = Path(memorystore.__file__).read_text()
ROOT = Path(__file__).parents[3]
LARGE = 300_000  # several slots of the workshop


class WriteOnly:
    """As few members as a target may have."""

    def __init__(self, store: MemoryTarget) -> None:
        self.name = store.name
        self.find_manifest = store.find_manifest
        self.has_blob = store.has_blob
        self.start_upload = store.start_upload
        self.push_manifest = store.push_manifest


@pytest.fixture
def source() -> MemorySource:
    """An index of two images, with small, large and empty blobs."""
    world = World()
    large = world.blob(LARGE)
    empty = world.blob(0, data=b"")
    root = world.index(
        world.image("linux/amd64", [large, world.blob(500), empty]),
        world.image("linux/arm64", [large, world.blob(70_000)]),
    )
    source = MemorySource("memory/source")
    source.manifests |= world.source.manifests
    source.blobs |= world.source.blobs
    source.tags["1"] = root["digest"]
    return source


async def copy(
    source: Source, target: Target, workshop: Workshop, verify: Verify = "stream", **changes: bool
) -> Tally:
    tally = Tally(lambda event: None)
    request = CopyRequest("memory/source:1", "memory/target:2", "1", None, "2", None, (), (), **changes)
    await ImageCopy(request, source, target, replace(workshop, verify=verify), WHOLE, tally).run()
    return tally


@pytest.mark.parametrize("verify", ["stream", "target", "reread"])
async def test_the_example_goes_through_the_whole_copy(
    source: MemorySource, workshop: Workshop, verify: Verify
) -> None:
    target = MemoryTarget("memory/target")
    tally = await copy(source, target, workshop, verify)
    assert target.manifests == source.manifests
    assert target.blobs == source.blobs
    assert target.tags == {"2": source.tags["1"]}
    assert tally.blobs["moved"] == len(source.blobs)
    assert any("compares no digests" in each for each in tally.warnings) is (verify == "target")
    again = await copy(source, target, workshop, verify)
    assert again.blobs["moved"] == 0


@pytest.mark.parametrize("verify", ["stream", "reread"])
async def test_it_goes_through_a_session(source: MemorySource, verify: Verify) -> None:
    target = MemoryTarget("memory/target")
    async with Session(CopyOptions(verify=verify)) as session:
        result = await session.copy(source, target, source_name="1", target_name="2")
    assert (target.manifests, target.blobs) == (source.manifests, source.blobs)
    assert target.tags == {"2": result.digest}


async def test_a_target_that_cannot_be_read_is_refused_before_anything_is_copied(
    source: MemorySource, workshop: Workshop
) -> None:
    target = MemoryTarget("memory/target")
    with pytest.raises(CopyError, match="cannot be read back"):
        await copy(source, WriteOnly(target), workshop, "reread")
    assert not target.blobs
    await copy(source, WriteOnly(target), workshop)
    assert target.blobs == source.blobs


async def test_missing_content_is_a_copy_error(source: MemorySource, workshop: Workshop) -> None:
    del source.blobs[max(source.blobs, key=lambda each: len(source.blobs[each]))]
    with pytest.raises(CopyError, match="fetch blob from source memory/source@sha256"):
        await copy(source, MemoryTarget("memory/target"), workshop)


async def test_a_source_without_referrers_has_none_unless_they_are_required(
    source: MemorySource, workshop: Workshop
) -> None:
    tally = await copy(source, MemoryTarget("memory/target"), workshop, referrers=True)
    assert tally.warnings == []
    with pytest.raises(CopyError, match="cannot list") as raised:
        await copy(source, MemoryTarget("memory/other"), workshop, referrers=True, requires_referrers=True)
    assert isinstance(root_cause(raised.value), Unsupported)


def test_the_example_is_small_and_is_the_one_of_the_docs() -> None:
    assert EXAMPLE in (ROOT / "docs" / "stores.md").read_text()
    classes = {node.name: node for node in ast.parse(EXAMPLE).body if isinstance(node, ast.ClassDef)}
    lines = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in classes.items()}
    assert lines["MemorySource"] <= 40
    assert lines["MemoryTarget"] + lines["MemoryUpload"] <= 40


class Sink:
    """Takes at most `room` bytes at a time, up to `most`."""

    def __init__(self, room: int, most: int = 1 << 20) -> None:
        self.data = bytearray()
        self.most = most
        self._buffer = memoryview(bytearray(room))

    def get_buffer(self) -> memoryview | None:
        return self._buffer[: self.most - len(self.data)] if len(self.data) < self.most else None

    def received(self, count: int) -> None:
        self.data += self._buffer[:count]


async def opened(blob: BlobSource, start: int, stop: int) -> Body:
    return await blob.open(start, stop)


@pytest.mark.parametrize("room", [1, 3, 100])
async def test_bytes_are_given_in_ranges(room: int) -> None:
    sink = Sink(room)
    body = await opened(BytesBlob(b"0123456789"), 2, 9)
    await body.receive(sink)
    assert (body.start, body.stop, bytes(sink.data)) == (2, 9, b"2345678")


@pytest.mark.parametrize(("given", "match"), [(b"01", "ended 3 bytes before"), (b"012345", "more bytes")])
async def test_an_iterator_of_another_length_is_a_broken_connection(given: bytes, match: str) -> None:
    async def read(start: int, stop: int) -> AsyncIterator[bytes]:
        yield given

    body = await opened(StreamBlob(read), 0, 5)
    with pytest.raises(ReadFailed, match=match) as raised:
        await body.receive(Sink(10))
    assert raised.value.retryable


async def test_a_body_waits_for_room_and_can_be_closed_while_it_waits() -> None:
    closed = False

    async def read(start: int, stop: int) -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            yield b"0123"
            await asyncio.Event().wait()
        finally:
            closed = True

    sink: ByteSink = Sink(10, most=2)
    body = await opened(StreamBlob(read), 0, 8)
    receiving = asyncio.ensure_future(body.receive(sink))
    await asyncio.sleep(0.01)
    assert isinstance(sink, Sink)
    assert bytes(sink.data) == b"01"
    sink.most = 4
    body.resume()
    await asyncio.sleep(0.01)
    assert bytes(sink.data) == b"0123"
    body.close()
    body.close()
    with pytest.raises(ReadFailed):
        await receiving
    assert closed
    with pytest.raises(ReadFailed):
        await body.receive(sink)


async def test_cancelling_the_reader_cancels_the_iterator() -> None:
    async def read(start: int, stop: int) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    body = await opened(StreamBlob(read), 0, 8)
    receiving = asyncio.ensure_future(body.receive(Sink(1)))
    await asyncio.sleep(0)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    body.close()


def test_public_protocols_are_enough() -> None:
    """mypy checks here that the example is a `Source` and a `Target`."""
    source: Source = MemorySource("a")
    target: Target = MemoryTarget("b")
    assert source.name != target.name
    assert Descriptor("text/plain", Digest.of(b""), 0).size == 0
