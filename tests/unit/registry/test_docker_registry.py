"""The main flows against Debian's docker-registry 2.8.2."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from crossdock.errors import NotFound, Side, UploadInterrupted, UploadRejected
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.options import RegistryOptions
from crossdock.registry.client import RegistryClient
from crossdock.registry.context import Context
from crossdock.registry.kinds import Kinds
from crossdock.registry.repository import RegistryRepository
from support.docker_registry import DockerRegistry
from unit.registry.scripted_registry import Collector, PatientNetwork, content, describe

pytestmark = pytest.mark.real

MiB = 1 << 20
DATA = content(9 * MiB + 17)
BLOB = describe(DATA)

Open = Callable[..., RegistryRepository]


@pytest.fixture
async def repositories(target: DockerRegistry, repository: str) -> AsyncIterator[Open]:
    """Opens repositories of the registry; each test has its own names."""
    async with AsyncExitStack() as stack:

        def open_repository(
            suffix: str = "", side: Side = "target", values: dict[str, Any] | None = None
        ) -> RegistryRepository:
            kinds = Kinds({"own": {"upload.is_limit": False, **(values or {})}})
            context = Context(network=PatientNetwork(), environ={}, kinds=kinds)
            options = RegistryOptions(plain_http=True, kind="own" if values else "")
            client = RegistryClient(target.host, side, options, context)
            stack.push_async_callback(client.close)
            return RegistryRepository(client, f"{target.host}/{repository}{suffix}")

        yield open_repository


async def push(repository: RegistryRepository, data: bytes, blob: Descriptor) -> list[int]:
    """Upload as the engine does; returns the offsets at which it had to begin again."""
    session = await repository.start_upload(blob)
    again = []
    while True:
        try:
            while session.offset < len(data):
                await session.append(memoryview(data)[session.offset : session.offset + MiB])
            await session.commit()
        except UploadInterrupted as interruption:
            again.append(interruption.offset)
        else:
            return again


def open_sessions(registry: DockerRegistry, repository: RegistryRepository) -> list[str]:
    name = repository.name.partition("/")[2]
    return [path for path in registry.upload_sessions() if f"/{name}/_uploads/" in path]


async def pull(repository: RegistryRepository, blob: Descriptor, start: int, stop: int) -> bytes:
    body = await repository.blob(blob).open(start, stop)
    assert (body.start, body.stop) == (start, stop)
    sink = Collector(64 * 1024)
    await body.receive(sink)
    return bytes(sink.data)


async def push_image(repository: RegistryRepository, tag: str | None, **fields: object) -> Descriptor:
    config = b"{}"
    described = describe(config, mediatype.OCI_EMPTY)
    if not await repository.has_blob(described):
        await push(repository, config, described)
    data = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": mediatype.OCI_MANIFEST,
            "config": described.to_json(),
            "layers": [],
            **fields,
        }
    ).encode()
    manifest = describe(data, mediatype.OCI_MANIFEST)
    await repository.push_manifest(manifest, data, tag)
    return manifest


@pytest.mark.parametrize("chunk", [None, 4 * MiB])
@pytest.mark.parametrize("last_in_put", [False, True])
async def test_a_blob_goes_up_and_comes_down_in_ranges(
    repositories: Open,
    target: DockerRegistry,
    chunk: int | None,
    last_in_put: bool,
) -> None:
    values = None
    if chunk is not None:
        values = {"upload.max_put": 0, "upload.max_chunk": chunk, "upload.last_in_put": last_in_put}
    repository = repositories(values=values)
    assert not await repository.has_blob(BLOB)
    assert await push(repository, DATA, BLOB) == []
    assert await repository.has_blob(BLOB)
    parts = [(start, min(start + 2 * MiB, len(DATA))) for start in range(0, len(DATA), 2 * MiB)]
    source = repositories(side="source")
    got = await asyncio.gather(*(pull(source, BLOB, *part) for part in parts))
    assert b"".join(got) == DATA
    assert await pull(source, BLOB, 0, len(DATA)) == DATA
    assert open_sessions(target, repository) == []


async def test_an_empty_blob_goes_up(repositories: Open) -> None:
    repository = repositories()
    empty = describe(b"")
    await push(repository, b"", empty)
    assert await repository.has_blob(empty)
    assert await pull(repository, empty, 0, 0) == b""


async def test_a_wrong_digest_is_refused(repositories: Open) -> None:
    repository = repositories()
    wrong = Descriptor(BLOB.media_type, Digest.of(b"other"), len(DATA))
    session = await repository.start_upload(wrong)
    for start in range(0, len(DATA), MiB):
        await session.append(memoryview(DATA)[start : start + MiB])
    with pytest.raises(UploadRejected, match="DIGEST_INVALID"):
        await session.commit()
    await session.cancel()
    assert not await repository.has_blob(wrong)


async def test_a_cancelled_upload_leaves_no_session(repositories: Open, target: DockerRegistry) -> None:
    repository = repositories(values={"upload.max_put": 0, "upload.max_chunk": 4 * MiB})
    session = await repository.start_upload(BLOB)
    await session.append(memoryview(DATA)[: 4 * MiB])
    assert len(open_sessions(target, repository)) == 1
    await session.cancel()
    assert open_sessions(target, repository) == []


async def test_a_session_that_was_removed_is_begun_again(repositories: Open, target: DockerRegistry) -> None:
    repository = repositories(values={"upload.max_put": 0, "upload.max_chunk": 4 * MiB})
    session = await repository.start_upload(BLOB)
    await session.append(memoryview(DATA)[: 4 * MiB])
    [path] = open_sessions(target, repository)
    shutil.rmtree(target.storage / path)
    with pytest.raises(UploadInterrupted) as interrupted:
        await session.append(memoryview(DATA)[4 * MiB : 9 * MiB])
    assert interrupted.value.offset == 0
    assert interrupted.value.announce
    for start in range(0, len(DATA), MiB):
        await session.append(memoryview(DATA)[start : start + MiB])
    await session.commit()
    assert await repository.has_blob(BLOB)


async def test_a_blob_is_mounted_or_its_session_used(repositories: Open, target: DockerRegistry) -> None:
    first, second = repositories("/first"), repositories("/second")
    await push(first, DATA, BLOB)
    name = first.name.partition("/")[2]
    assert await second.mount(BLOB, name) is True
    assert await second.has_blob(BLOB)
    missing = describe(b"missing")
    assert await second.mount(missing, name) is False
    assert len(open_sessions(target, second)) == 1
    assert await push(second, b"missing", missing) == []
    assert open_sessions(target, second) == []


async def test_a_manifest_is_pushed_resolved_and_fetched(repositories: Open) -> None:
    repository = repositories()
    manifest = await push_image(repository, "v1")
    source = repositories(side="source")
    assert await source.resolve("v1") == manifest
    assert await source.resolve(manifest.digest) == manifest
    assert Digest.of(await source.fetch_manifest(manifest)) == manifest.digest
    assert await repository.has_manifest(manifest)
    assert await source.tags() == ["v1"]
    with pytest.raises(NotFound):
        await source.resolve("v2")
    with pytest.raises(NotFound):
        await repositories("/nowhere", "source").tags()


async def test_referrers_are_listed_under_the_fallback_tag(repositories: Open) -> None:
    repository = repositories()
    subject = await push_image(repository, "v1")
    about = [
        await push_image(repository, None, subject=subject.to_json(), artifactType=f"application/{n}")
        for n in range(3)
    ]
    found = await repositories(side="source").referrers(subject.digest)
    assert [one.digest for one in found] == [one.digest for one in about]
    [second] = await repositories(side="source").referrers(subject.digest, "application/1")
    assert second.digest == about[1].digest
