"""Referrers by the API and by the fallback tag, and the list that clients keep there."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from crossdock.errors import InvalidManifest, LimitExceeded, ReferrersIncomplete, RegistryError
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from unit.registry.scripted_registry import Answer, Connect, ScriptedRegistry, Seen, describe

SUBJECT = describe(b"subject", mediatype.OCI_MANIFEST)
TAG = f"sha256-{SUBJECT.digest.encoded}"
LIST = f"/v2/x/manifests/{TAG}"
API = f"/v2/x/referrers/{SUBJECT.digest}"
CONFIG = describe(b"{}", "application/vnd.example.config+json")


def artifact(number: int, **fields: Any) -> tuple[Descriptor, bytes]:
    data = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": mediatype.OCI_MANIFEST,
            "config": CONFIG.to_json(),
            "layers": [],
            "subject": SUBJECT.to_json(),
            "annotations": {"number": str(number)},
            **fields,
        }
    ).encode()
    return describe(data, mediatype.OCI_MANIFEST), data


def index(*entries: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps(
        {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": list(entries), **fields}
    ).encode()


def entry(number: int, artifact_type: str = "application/example") -> dict[str, Any]:
    return {**artifact(number)[0].to_json(), "artifactType": artifact_type}


INDEX_TYPE = {"Content-Type": mediatype.OCI_INDEX}


# -- reading -----------------------------------------------------------------------------------------


async def test_a_list_without_end_is_left_at_its_limit(server: ScriptedRegistry, connect: Connect) -> None:
    async def endless(seen: Seen) -> Answer:
        start = 2000 * len(server.seen)
        entries = [
            {"mediaType": mediatype.OCI_MANIFEST, "digest": f"sha256:{number:064x}", "size": 7}
            for number in range(start, start + 2000)
        ]
        link = {"Link": f'<{API}?page={len(server.seen)}>; rel="next"'}
        return Answer(200, {**INDEX_TYPE, **link}, index(*entries))

    server.handler = endless
    with pytest.raises(LimitExceeded, match="over 5000 entries"):
        await connect("source").referrers(SUBJECT.digest)
    assert len(server.seen) == 3


async def test_entries_that_are_none_are_told_with_the_others(
    server: ScriptedRegistry, connect: Connect
) -> None:
    odd = [None, {"digest": "sha256:short", "size": 1}, {"size": 1}]
    server.expect("GET", API, Answer(200, INDEX_TYPE, index(entry(1), *odd)))  # type: ignore[arg-type]
    with pytest.raises(
        ReferrersIncomplete, match="3 invalid entries were left out: null, dict, dict"
    ) as told:
        await connect("source").referrers(SUBJECT.digest)
    assert [each.digest for each in told.value.referrers] == [artifact(1)[0].digest]


async def test_the_api_is_paged_and_filtered_here_too(server: ScriptedRegistry, connect: Connect) -> None:
    wanted = "application/example"
    first = f"{API}?artifactType=application%2Fexample"
    more = {"Link": f'<{API}?page=2>; rel="next"', **INDEX_TYPE}
    server.expect("GET", first, Answer(200, more, index(entry(1), entry(2, "other/type"))))
    server.expect("GET", f"{API}?page=2", Answer(200, INDEX_TYPE, index(entry(3), entry(1))))
    found = await connect("source").referrers(SUBJECT.digest, wanted)
    assert [one.digest for one in found] == [artifact(1)[0].digest, artifact(3)[0].digest]


@pytest.mark.parametrize(
    "answer",
    [Answer(404), Answer(400), Answer(405), Answer(200, {"Content-Type": "text/html"}, b"<html>")],
)
async def test_without_the_api_the_tag_is_read(
    server: ScriptedRegistry, connect: Connect, answer: Answer
) -> None:
    server.expect("GET", API, answer)
    server.expect("GET", LIST, Answer(200, INDEX_TYPE, index(entry(1))))
    [found] = await connect("source").referrers(SUBJECT.digest)
    assert found.digest == artifact(1)[0].digest


async def test_neither_api_nor_tag_is_an_empty_list(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", API, Answer(404))
    server.expect("GET", LIST, Answer(404))
    assert await connect("source").referrers(SUBJECT.digest) == []


async def test_an_image_under_the_tag_is_not_a_list(server: ScriptedRegistry, connect: Connect) -> None:
    server.expect("GET", API, Answer(404))
    server.expect("GET", LIST, Answer(200, {"Content-Type": mediatype.OCI_MANIFEST}, artifact(1)[1]))
    with pytest.raises(InvalidManifest, match="not an index"):
        await connect("source").referrers(SUBJECT.digest)


# -- writing -----------------------------------------------------------------------------------------


class TagServer:
    """One tag with an ETag, and a registry that knows nothing of `subject`."""

    def __init__(self, conditional: bool) -> None:
        self.conditional = conditional
        self.document: bytes | None = None
        self.before_write: list[bytes] = []  # what a racing writer puts first
        self.after_write: list[bytes] = []  # what a racing writer puts right after
        self.writes = 0

    async def handle(self, seen: Seen) -> Answer:
        await seen.read()
        if seen.target != LIST:
            assert seen.method == "PUT"
            return Answer(201)
        if seen.method == "GET":
            if self.document is None:
                return Answer(404)
            return Answer(200, {**INDEX_TYPE, "ETag": self.etag}, self.document)
        self.writes += 1
        assert seen.headers["content-type"] == mediatype.OCI_INDEX
        if self.before_write:
            self.document = self.before_write.pop(0)
        matches = seen.headers.get("if-match", self.etag) == self.etag
        if self.conditional and not matches:
            return Answer(412)
        self.document = seen.body
        if self.after_write:
            self.document = self.after_write.pop(0)
        return Answer(201)

    @property
    def etag(self) -> str:
        return f'"{Digest.of(self.document or b"")}"'

    def digests(self) -> list[str]:
        return [listed["digest"] for listed in json.loads(self.document or b"")["manifests"]]


async def test_a_registry_with_the_api_keeps_the_list_itself(
    server: ScriptedRegistry, connect: Connect
) -> None:
    descriptor, data = artifact(1)
    server.expect("PUT", f"/v2/x/manifests/{descriptor.digest}", Answer(201, {"OCI-Subject": SUBJECT.digest}))
    await connect().push_manifest(descriptor, data, None)


async def test_without_it_the_manifest_is_listed_with_its_type_and_annotations(
    server: ScriptedRegistry, connect: Connect
) -> None:
    tag = TagServer(conditional=False)
    server.handler = tag.handle
    descriptor, data = artifact(1)
    repository = connect()
    await repository.push_manifest(descriptor, data, None)
    typed, typed_data = artifact(2, artifactType="application/vnd.example.sbom")
    await repository.push_manifest(typed, typed_data, "v2")
    document = json.loads(tag.document or b"")
    assert document["schemaVersion"] == 2
    assert document["mediaType"] == mediatype.OCI_INDEX
    assert document["manifests"] == [
        {
            "mediaType": mediatype.OCI_MANIFEST,
            "digest": descriptor.digest,
            "size": len(data),
            "annotations": {"number": "1"},
            "artifactType": CONFIG.media_type,
        },
        {
            "mediaType": mediatype.OCI_MANIFEST,
            "digest": typed.digest,
            "size": len(typed_data),
            "annotations": {"number": "2"},
            "artifactType": "application/vnd.example.sbom",
        },
    ]


async def test_an_entry_that_is_there_is_not_written_again(
    server: ScriptedRegistry, connect: Connect
) -> None:
    tag = TagServer(conditional=False)
    tag.document = index(entry(1), annotations={"kept": "as it is"})
    server.handler = tag.handle
    await connect().push_manifest(*artifact(1), None)
    assert tag.writes == 0


@pytest.mark.parametrize("conditional", [True, False])
async def test_a_list_that_changed_meanwhile_loses_no_entry(
    server: ScriptedRegistry, connect: Connect, conditional: bool
) -> None:
    tag = TagServer(conditional)
    tag.document = index(entry(7))
    other = index(entry(7), entry(8))
    if conditional:
        tag.before_write = [other]  # our If-Match fails
    else:
        tag.after_write = [other]  # our write is undone
    server.handler = tag.handle
    await connect().push_manifest(*artifact(1), None)
    assert tag.digests() == [artifact(number)[0].digest for number in (7, 8, 1)]


async def test_an_entry_that_a_slower_writer_overwrites_is_written_again(
    server: ScriptedRegistry, connect: Connect
) -> None:
    tag = TagServer(conditional=False)
    tag.document = index(entry(7))
    stale = index(entry(7), entry(8))
    reads: list[bytes | None] = []

    async def registry(seen: Seen) -> Answer:
        if seen.method != "GET":
            return await tag.handle(seen)
        answer = await tag.handle(seen)
        reads.append(tag.document)
        if len(reads) == 2:  # our entry was seen; now the other one writes what it made of the old list
            tag.document = stale
        return answer

    server.handler = registry
    await connect().push_manifest(*artifact(1), None)
    assert tag.digests() == [artifact(number)[0].digest for number in (7, 8, 1)]


async def test_two_writers_at_once_both_end_up_in_the_list(
    server: ScriptedRegistry, connect: Connect
) -> None:
    tag = TagServer(conditional=True)
    tag.document = index(entry(7))
    server.handler = tag.handle
    await asyncio.gather(
        connect().push_manifest(*artifact(1), None), connect().push_manifest(*artifact(2), None)
    )
    assert sorted(tag.digests()) == sorted(artifact(number)[0].digest for number in (7, 1, 2))


async def test_one_process_does_not_race_with_itself(server: ScriptedRegistry, connect: Connect) -> None:
    tag = TagServer(conditional=False)
    server.handler = tag.handle
    repository = connect()
    await asyncio.gather(*(repository.push_manifest(*artifact(number), None) for number in range(8)))
    assert sorted(tag.digests()) == sorted(artifact(number)[0].digest for number in range(8))
    assert tag.writes == 8


async def test_an_entry_that_never_stays_is_an_error(server: ScriptedRegistry, connect: Connect) -> None:
    tag = TagServer(conditional=False)
    tag.after_write = [index(entry(8))] * 100
    server.handler = tag.handle
    with pytest.raises(RegistryError, match="does not stay"):
        await connect().push_manifest(*artifact(1), None)
    assert tag.writes < 10


async def test_a_tag_of_another_use_is_left_alone(server: ScriptedRegistry, connect: Connect) -> None:
    descriptor, data = artifact(1)
    server.expect("PUT", f"/v2/x/manifests/{descriptor.digest}", Answer(201))
    server.expect("GET", LIST, Answer(200, {"Content-Type": mediatype.OCI_MANIFEST}, data))
    with pytest.raises(RegistryError, match="is for a referrers list") as refused:
        await connect().push_manifest(descriptor, data, None)
    assert refused.value.advice
