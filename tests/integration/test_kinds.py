"""Copies between strict doubles of registries: byte for byte, and with next to no refused request."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock import CopyError, CopyOptions, Session
from crossdock.inventory.values import Entry, Inventory
from crossdock.options import Credentials, RegistryOptions
from support.doubles import PASSWORD, RULES, USER, DoubleRegistry, start_double
from support.scripted import INDEX, MANIFEST, Reply, Request, digest_of

KINDS = sorted(RULES)
MOST_REFUSED = 3
MiB = 1 << 20


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def options(**given: Any) -> CopyOptions:
    login = RegistryOptions(plain_http=True, credentials=Credentials(USER, PASSWORD))
    return CopyOptions(source=login, target=login, environ={}, **given)


def layer(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def assert_same(source: DoubleRegistry, target: DoubleRegistry, name: str, tag: str, digest: str) -> None:
    assert target.has(name, tag, digest)
    for each in target.held[name]:
        assert target.blobs[each] == source.blobs[each]
    assert target.open_sessions == 0


async def test_every_kind_copies_to_every_other(closing: ExitStack) -> None:
    """A small image and one of many parts; the doubles are made once, each is a source and a target."""
    doubles = {kind: start_double(kind, closing) for kind in KINDS}
    digests: dict[tuple[str, str], str] = {}
    for number, (kind, double) in enumerate(doubles.items()):
        digests[kind, "small"] = double.hold_image("team/own", "small", (layer(2000, number),), kind)
        digests[kind, "parts"] = double.hold_image("team/own", "parts", (layer(MiB, 50 + number),), kind)
        double.repositories |= {f"team/{other}" for other in KINDS}
    async with Session(options(chunk_size=64 * 1024)) as session:
        for source in doubles.values():
            for target in doubles.values():
                source.refusals.clear()
                target.refusals.clear()
                for tag in ("small", "parts"):
                    name = f"team/{source.kind}"
                    await session.copy(f"{source.host}/team/own:{tag}", f"{target.host}/{name}:{tag}")
                    assert target.has(name, tag, digests[source.kind, tag])
                    for each in target.held[name]:
                        assert target.blobs[each] == source.blobs[each]
                refused = [*source.refusals, *target.refusals]
                assert len(refused) <= MOST_REFUSED, (source.kind, target.kind, refused)
                assert target.open_sessions == 0, (source.kind, target.kind)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if RULES[kind].redirect == "storage"])
async def test_urls_that_expire_within_a_blob_cost_no_byte_twice(closing: ExitStack, kind: str) -> None:
    """A URL of the storage serves three parts of sixteen; the first one ends in the middle of its part."""
    source, target = start_double(kind, closing), start_double("artifactory", closing)
    data = layer(MiB, 3)
    digest = source.hold_image("team/app", "v1", (data,))
    source.uses, source.cuts = 3, 1
    async with Session(options(chunk_size=64 * 1024)) as session:
        await session.copy(f"{source.host}/team/app:v1", f"{target.host}/team/app:v1")
    assert_same(source, target, "team/app", "v1", digest)
    assert source.stored_bytes == sum(len(source.blobs[each]) for each in source.held["team/app"])
    assert source.refusals  # expired, which the next redirect mends
    assert set(source.refusals) == {("GET", "storage", RULES[kind].expired.status)}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_large_layer_goes_up_within_the_limits_of_its_kind(
    closing: ExitStack, kind: str, tmp_path: Path
) -> None:
    """24 MiB, so that it must be resumable: over what ACR and Docker Hub take in one request."""
    after = KINDS[KINDS.index(kind) - 1]
    source, target = start_double(after, closing), start_double(kind, closing)
    target.repositories.add("team/app")
    digest = source.hold_image("team/app", "v1", (layer(24 * MiB + 17, 7),))
    async with Session(options(resume_above=MiB, state=tmp_path)) as session:
        await session.copy(f"{source.host}/team/app:v1", f"{target.host}/team/app:v1")
    assert_same(source, target, "team/app", "v1", digest)
    assert len(source.refusals) + len(target.refusals) <= MOST_REFUSED, (source.refusals, target.refusals)


async def test_a_token_that_ecr_public_no_longer_takes_is_replaced(closing: ExitStack) -> None:
    """It answers 400, without a challenge."""
    source, target = start_double("ecr-public", closing), start_double("artifactory", closing)
    async with Session(options()) as session:
        for tag in ("v1", "v2"):
            digest = source.hold_image("team/app", tag, (layer(2000, len(source.blobs)),), tag)
            await session.copy(f"{source.host}/team/app:{tag}", f"{target.host}/team/app:{tag}")
            assert target.has("team/app", tag, digest)
            source.end_tokens()
    assert {status for _, _, status in source.refusals} == {400}
    assert len(source.refusals) <= MOST_REFUSED


@pytest.mark.parametrize("kind", ["quay", "harbor", "acr"])
async def test_a_chunk_that_was_stored_in_part_goes_on_where_it_ended(closing: ExitStack, kind: str) -> None:
    """Quay answers the query of a session with the offset of the next byte, others with that of the last."""
    source, target = start_double("artifactory", closing), start_double(kind, closing)
    target.repositories.add("team/app")
    digest = source.hold_image("team/app", "v1", (layer(3 * MiB + 17, 7),))
    values = (("upload.chunk", "1MiB"),)
    inventory = Inventory(
        (Entry(name="t", login_server=target.host, plain_http=True, kind=kind, values=values),)
    )
    target.torn = 1
    await copy_once(f"{source.host}/team/app:v1", f"{target.host}/team/app:v1", registries=inventory)
    assert_same(source, target, "team/app", "v1", digest)
    assert [status for _, _, status in target.refusals] == [500]


async def copy_once(source: str, target: str, **given: Any) -> None:
    """As a process of its own."""
    async with Session(options(**given)) as session:
        await session.copy(source, target)


async def test_a_400_of_docker_hub_leads_to_chunks_once(closing: ExitStack, tmp_path: Path) -> None:
    """The next process, which reads what the first one learned, sends nothing that is refused."""
    source, target = start_double("harbor", closing), start_double("docker-hub", closing)
    for tag, expected in (("v1", [("PUT", 400), ("DELETE", 404)]), ("v2", [])):
        source.hold_image("team/app", tag, (layer(17 * MiB, len(tag + tag)),), tag)
        target.refusals.clear()
        target.blobs.clear()
        target.held.clear()
        sent = len(target.seen)
        await copy_once(f"{source.host}/team/app:{tag}", f"{target.host}/team/app:{tag}", state=tmp_path)
        assert [(method, status) for method, _, status in target.refusals] == expected
        assert sum(len(each.body) for each in target.seen[sent:]) < (1 + bool(expected)) * 18 * MiB


async def test_ranges_that_are_wrong_are_not_requested_by_the_next_process(
    closing: ExitStack, tmp_path: Path
) -> None:
    source, target = start_double("artifactory", closing), start_double("harbor", closing)
    target.repositories.add("team/app")

    def shift(request: Request, reply: Reply) -> None:
        if reply.status == 206:
            reply.headers["Content-Range"] = f"bytes 1-{len(reply.body)}/{MiB}"

    source.after = shift
    for tag in ("v1", "v2"):
        source.hold_image("team/app", tag, (layer(MiB, len(tag)),), tag)
        target.blobs.clear()
        target.held.clear()
        source.seen.clear()
        given = {"state": tmp_path, "chunk_size": 64 * 1024}
        await copy_once(f"{source.host}/team/app:{tag}", f"{target.host}/team/app:{tag}", **given)
    ranged = [each for each in source.seen if "range" in each.headers]
    whole = [each for each in source.seen if each.is_for("blobs", "GET")]
    assert (ranged, len(whole)) == ([], 2)  # layer and config, each once


@pytest.mark.parametrize("what", ["blob", "manifest"])
async def test_content_over_a_limit_is_refused_before_anything_is_sent(closing: ExitStack, what: str) -> None:
    source, target = start_double("harbor", closing), start_double("ghcr", closing)
    source.hold_image("team/app", "v1", (layer(5000, 1),))
    inventory = Inventory(
        (Entry(name="ghcr", login_server=target.host, plain_http=True, values=((f"limits.{what}", "100"),)),)
    )
    with pytest.raises(
        CopyError, match=rf"{what} sha256:\w+ has \d+ bytes, and .* at most 100 \(limits.{what}\)"
    ):
        await copy_once(f"{source.host}/team/app:v1", f"{target.host}/team/app:v1", registries=inventory)
    assert {each.method for each in target.seen} <= {"GET", "HEAD"}


async def test_a_blob_of_one_platform_over_the_limit_stops_the_others(closing: ExitStack) -> None:
    """The manifest of that platform is the last to arrive."""
    source, target = start_double("harbor", closing), start_double("ghcr", closing)
    manifests = []
    for number in range(3):
        digest = source.hold_image(
            "team/app", f"p{number}", (layer(500 + 5000 * (number == 2), number),), f"{number}"
        )
        data = source.find("team/app", digest)[1]
        manifests.append({"mediaType": MANIFEST, "digest": digest, "size": len(data)})
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()
    source.manifests["team/app", "v1"] = source.manifests["team/app", digest_of(index)] = INDEX, index

    def delay(request: Request, reply: Reply) -> None:
        if request.path.endswith(str(manifests[2]["digest"])):
            time.sleep(0.3)

    source.after = delay
    values = (("limits.blob", "5000"),)
    inventory = Inventory((Entry(name="t", login_server=target.host, plain_http=True, values=values),))
    with pytest.raises(CopyError, match="takes at most 5000"):
        await copy_once(f"{source.host}/team/app:v1", f"{target.host}/team/app:v1", registries=inventory)
    assert {each.method for each in target.seen} <= {"GET", "HEAD"}
    paths = [each.path for each in source.seen if each.method == "GET" and "/manifests/sha256:" in each.path]
    assert len(paths) == len(set(paths))  # no request more than the copy makes


async def test_a_chunk_of_the_inventory_is_exact_whatever_the_kind(closing: ExitStack) -> None:
    source, target = start_double("quay", closing), start_double("gitlab", closing)
    source.hold_image("team/app", "v1", (layer(2 * MiB + 5, 1),))
    entry = Entry(name="t", login_server=target.host, plain_http=True, values=(("upload.chunk", "512KiB"),))
    await copy_once(
        f"{source.host}/team/app:v1", f"{target.host}/team/app:v1", registries=Inventory((entry,))
    )
    assert [len(each.body) for each in target.seen if each.method == "PATCH"] == [MiB // 2] * 4 + [5]
    assert target.refusals == []
