"""The graph walk: order, once per digest, tag last, platforms, skipped and mounted blobs."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from crossdock.errors import (
    CopyError,
    Denied,
    DigestMismatch,
    InvalidManifest,
    LimitExceeded,
    NotFound,
    SizeMismatch,
    UploadRejected,
    root_cause,
)
from crossdock.events import BlobDone, BlobPlanned, CopyDone, CopyStarted, Event, ManifestDone
from crossdock.oci.digest import Digest
from crossdock.oci.platform import Platform
from crossdock.tally import Tally
from crossdock.transfer.image import ImageCopy
from crossdock.transfer.request import CopyRequest
from crossdock.transfer.workshop import LARGE_BLOBS_AT_ONCE, Workshop
from unit.transfer.doubles import MemorySession, MemorySource, MemoryTarget
from unit.transfer.shop import WHOLE, assert_nothing_left

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

Entry = dict[str, Any]


class World:
    """A source that is filled piece by piece, and an empty target."""

    def __init__(self) -> None:
        self.source = MemorySource()
        self.target = MemoryTarget()
        self.events: list[Event] = []
        self.random = random.Random(11)

    def blob(
        self, size: int, media_type: str = LAYER, data: bytes | None = None, **extra: Any
    ) -> dict[str, Any]:
        data = self.random.randbytes(size) if data is None else data
        digest = Digest.of(data)
        self.source.blobs[digest] = data
        return {"mediaType": media_type, "digest": str(digest), "size": len(data)}

    def document(self, media_type: str, **fields: Any) -> dict[str, Any]:
        data = json.dumps({"schemaVersion": 2, "mediaType": media_type, **fields}).encode()
        digest = Digest.of(data)
        self.source.manifests[digest] = (media_type, data)
        return {"mediaType": media_type, "digest": str(digest), "size": len(data)}

    def image(
        self, platform: str | None = None, layers: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        config: dict[str, Any] = {"n": self.random.random()}
        if platform:
            config["os"], config["architecture"] = platform.split("/")
        blob = self.blob(0, "application/vnd.oci.image.config.v1+json", json.dumps(config).encode())
        entry = self.document(
            OCI_MANIFEST, config=blob, layers=layers or [self.blob(3000), self.blob(70_000)]
        )
        if platform:
            entry["platform"] = {"os": config["os"], "architecture": config["architecture"]}
        return entry

    def index(self, *entries: dict[str, Any]) -> dict[str, Any]:
        return self.document(OCI_INDEX, manifests=list(entries))

    async def copy(self, workshop: Workshop, **changes: Any) -> Tally:
        fields: dict[str, Any] = {
            "source_reference": "source.test/repo:v1",
            "target_reference": "target.test/repo:v1",
            "source_name": "v1",
            "source_digest": None,
            "target_tag": "v1",
            "target_digest": None,
            "platforms": (),
            "mount_from": (),
        }
        tally = Tally(self.events.append)
        request = CopyRequest(**(fields | changes))
        copying = ImageCopy(request, self.source, self.target, workshop, WHOLE, tally)
        self.named, self.root = await copying.run()
        self.became = copying.tag, copying.previous_digest
        return tally


@pytest.fixture
def world() -> World:
    return World()


async def test_everything_below_an_index_is_copied_and_the_tag_comes_last(
    world: World, workshop: Workshop
) -> None:
    shared = world.blob(5000)
    images = [world.image("linux/amd64", [shared, world.blob(900)]), world.image("linux/arm64", [shared])]
    nested = world.index(world.image("windows/amd64"))
    root = world.index(*images, nested)
    world.source.tags["v1"] = root["digest"]
    tally = await world.copy(workshop)
    assert world.target.manifests == world.source.manifests
    assert world.target.blobs == world.source.blobs
    assert world.target.log[-1] == "manifest v1"
    assert world.target.tags == {"v1": root["digest"]}
    assert tally.manifests == 5
    assert tally.blobs == {"moved": len(world.source.blobs), "skipped": 0, "mounted": 0}
    assert tally.bytes["moved"] == sum(map(len, world.source.blobs.values()))
    for digest, (_, data) in world.source.manifests.items():
        place = world.target.log.index(f"manifest {'v1' if digest == root['digest'] else digest}")
        document = json.loads(data)
        for below in document.get("manifests", []):
            assert world.target.log.index(f"manifest {below['digest']}") < place
        for below in [*document.get("layers", []), *filter(None, [document.get("config")])]:
            assert world.target.log.index(f"blob {below['digest']}") < place


async def test_a_second_copy_moves_nothing_and_pushes_nothing(world: World, workshop: Workshop) -> None:
    world.source.tags["v1"] = world.index(world.image("linux/amd64"), world.image("linux/arm64"))["digest"]
    await world.copy(workshop)
    world.target.log.clear()
    tally = await world.copy(workshop)
    assert world.target.log == []
    assert tally.manifests == 3
    assert tally.blobs == {"moved": 0, "skipped": 6, "mounted": 0}
    assert tally.bytes_requested == 0


async def test_a_copy_says_what_became_of_the_tag(world: World, workshop: Workshop) -> None:
    first, second = world.image()["digest"], world.image()["digest"]
    world.source.tags["v1"] = first
    await world.copy(workshop)
    assert world.became == ("new", None)
    await world.copy(workshop)
    assert world.became == ("unchanged", first)
    world.source.tags["v1"] = second
    await world.copy(workshop)
    assert world.became == ("moved", first)
    done = world.events[-1]
    assert isinstance(done, CopyDone)
    assert (done.tag, done.previous_digest) == world.became
    await world.copy(workshop, target_tag=None, target_digest=Digest(second))
    assert world.became == (None, None)


async def test_a_target_that_refuses_to_say_what_it_has_leaves_the_tag_unknown(
    world: World, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(name: str) -> bytes | None:
        raise Denied("this login may only push", status=403)

    world.source.tags["v1"] = world.image()["digest"]
    await world.copy(workshop)
    world.source.tags["v1"] = world.image()["digest"]
    monkeypatch.setattr(world.target, "find_manifest", refuse)
    await world.copy(workshop)
    assert world.target.tags["v1"] == world.root.digest
    assert world.became == (None, None)


async def test_a_new_tag_for_present_content_pushes_one_manifest(world: World, workshop: Workshop) -> None:
    world.source.tags["v1"] = world.image()["digest"]
    await world.copy(workshop)
    world.target.log.clear()
    await world.copy(workshop, target_tag="v2")
    assert world.target.log == ["manifest v2"]


async def test_a_target_without_tag_gets_the_manifest_by_digest(world: World, workshop: Workshop) -> None:
    world.source.tags["v1"] = root = world.image()["digest"]
    await world.copy(workshop, target_tag=None)
    assert world.target.tags == {}
    assert world.target.log[-1] == f"manifest {root}"


async def test_moving_the_source_tag_meanwhile_changes_nothing(world: World, workshop: Workshop) -> None:
    first, second = world.image(), world.image()
    world.source.tags["v1"] = first["digest"]
    world.source.on_open = lambda *a: world.source.tags.update(v1=second["digest"])
    await world.copy(workshop)
    assert world.target.tags == {"v1": first["digest"]}


async def test_a_digest_listed_with_two_sizes_by_two_manifests_is_refused(
    world: World, workshop: Workshop
) -> None:
    layer = world.blob(5000)
    world.index(world.image(layers=[layer]), world.image(layers=[{**layer, "size": 4999}]))
    root = list(world.source.manifests)[-1]
    with pytest.raises(CopyError) as failed:
        await world.copy(workshop, source_name=str(root))
    assert isinstance(root_cause(failed.value), SizeMismatch)
    assert failed.value.side == "source"


async def test_manifests_over_the_limit_of_one_graph_are_refused(
    world: World, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossdock.transfer.manifests.MANIFEST_BYTES", 1000)
    world.index(*(world.image() for _ in range(4)))
    root = list(world.source.manifests)[-1]
    with pytest.raises(CopyError) as failed:
        await world.copy(workshop, source_name=str(root))
    assert isinstance(root_cause(failed.value), LimitExceeded)


async def test_an_index_that_lists_itself_below_many_times_is_searched_once(
    world: World, workshop: Workshop
) -> None:
    inner = world.index(world.image("linux/arm64"))
    for _ in range(3):
        inner = world.index(*[inner] * 50)
    root = list(world.source.manifests)[-1]
    with pytest.raises(CopyError) as failed:
        await world.copy(workshop, source_name=str(root), platforms=(Platform("linux", "amd64"),))
    assert isinstance(root_cause(failed.value), NotFound)


async def test_a_failure_moves_no_tag_and_ends_every_other_blob(world: World, workshop: Workshop) -> None:
    world.source.tags["v1"] = world.image(None, [world.blob(400_000 + n) for n in range(12)])["digest"]
    taken: list[int] = []

    def on_append(session: Any, count: int) -> None:
        taken.append(count)
        if len(taken) == 5:
            raise UploadRejected("full")

    world.target.on_append = on_append
    with pytest.raises(CopyError, match="full"):
        await world.copy(workshop)
    assert world.target.tags == {}
    assert world.target.manifests == {}
    assert {session.state for session in world.target.sessions} <= {"cancelled", "committed"}
    assert world.source.live == 0


async def test_a_blob_is_mounted_when_another_repository_has_it(world: World, workshop: Workshop) -> None:
    layer = world.blob(5000)
    world.source.tags["v1"] = world.image(None, [layer])["digest"]
    world.target.elsewhere["other"] = {layer["digest"]: world.source.blobs[layer["digest"]]}
    tally = await world.copy(workshop, mount_from=("other",))
    assert tally.blobs == {"moved": 1, "skipped": 0, "mounted": 1}
    assert tally.bytes["mounted"] == 5000


async def test_a_blob_is_mounted_from_where_another_copy_saw_it(world: World, workshop: Workshop) -> None:
    layer = world.blob(5000)
    world.source.tags["v1"] = world.image(None, [layer])["digest"]
    world.target.elsewhere["other"] = {layer["digest"]: world.source.blobs[layer["digest"]]}
    world.target.seen.append("other")
    tally = await world.copy(workshop)
    assert tally.blobs == {"moved": 1, "skipped": 0, "mounted": 1}


async def test_copies_at_once_bring_a_shared_blob_once(world: World, workshop: Workshop) -> None:
    shared = world.blob(400_000)
    for number in range(4):
        world.source.tags[f"v{number}"] = world.image(None, [shared])["digest"]
    tallies = await asyncio.gather(
        *(world.copy(workshop, source_name=f"v{number}", target_tag=f"v{number}") for number in range(4))
    )
    assert sorted(tally.blobs["moved"] for tally in tallies) == [1, 1, 1, 2]
    assert sum(tally.blobs["skipped"] for tally in tallies) == 3
    uploads = [session.descriptor.digest for session in world.target.sessions]
    assert uploads.count(Digest(shared["digest"])) == 1
    assert_nothing_left(workshop)


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_copy_that_fails_or_is_cancelled_leaves_its_blob_to_the_next(
    cancelled: bool, world: World, workshop: Workshop
) -> None:
    shared = world.blob(400_000)
    world.source.tags["v1"] = world.image(None, [shared])["digest"]
    world.source.tags["v2"] = world.image(None, [shared])["digest"]
    reached = asyncio.Event()

    def on_append(session: Any, count: int) -> None:
        if session.descriptor.digest == shared["digest"] and not reached.is_set():
            reached.set()
            if not cancelled:
                raise UploadRejected("full")

    world.target.on_append = on_append
    first = asyncio.ensure_future(world.copy(workshop))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(world.copy(workshop, source_name="v2", target_tag="v2"))
    await reached.wait()
    if cancelled:
        first.cancel()
    await asyncio.wait([first, second])
    assert first.cancelled() == cancelled
    assert second.result().blobs["moved"] == 2
    assert set(world.target.tags) == {"v2"}
    assert_nothing_left(workshop)


async def test_a_foreign_layer_keeps_its_urls_and_is_not_fetched(world: World, workshop: Workshop) -> None:
    foreign = {
        "mediaType": FOREIGN,
        "digest": str(Digest.of(b"far")),
        "size": 3,
        "urls": ["https://far.test/x"],
    }
    world.source.tags["v1"] = world.image(None, [foreign, world.blob(9)])["digest"]
    tally = await world.copy(workshop)
    assert foreign["digest"] not in world.target.blobs
    assert len(tally.warnings) == 1


async def test_layers_listed_in_an_index_move_as_blobs(world: World, workshop: Workshop) -> None:
    """As in BuildKit's cache export, the index lists the layers and a config of a special type."""
    layers = [world.blob(5000), world.blob(100)]
    world.source.tags["v1"] = world.index(*layers, world.image("linux/amd64"))["digest"]
    tally = await world.copy(workshop)
    assert world.target.blobs == world.source.blobs
    assert tally.manifests == 2


async def test_events_tell_the_whole_story_in_order(world: World, workshop: Workshop) -> None:
    world.source.tags["v1"] = world.image()["digest"]
    await world.copy(workshop)
    assert isinstance(world.events[0], CopyStarted)
    assert isinstance(world.events[-1], CopyDone)
    planned = {event.digest for event in world.events if isinstance(event, BlobPlanned)}
    assert planned == {event.digest for event in world.events if isinstance(event, BlobDone)}
    assert sum(isinstance(event, ManifestDone) for event in world.events) == 1


# -- digests and platforms ---------------------------------------------------------------------------------


async def test_tag_and_digest_of_the_source_must_agree(world: World, workshop: Workshop) -> None:
    world.source.tags["v1"] = world.image()["digest"]
    other = Digest(world.image()["digest"])
    with pytest.raises(CopyError) as caught:
        await world.copy(workshop, source_digest=other)
    assert isinstance(root_cause(caught.value), DigestMismatch)
    assert world.target.log == []


async def test_a_target_digest_must_be_the_contents(world: World, workshop: Workshop) -> None:
    world.source.tags["v1"] = world.image()["digest"]
    with pytest.raises(CopyError) as caught:
        await world.copy(workshop, target_digest=Digest.of(b"else"))
    assert isinstance(root_cause(caught.value), DigestMismatch)
    assert world.target.log == []


async def test_one_platform_takes_that_manifest_unchanged(world: World, workshop: Workshop) -> None:
    arm = world.image("linux/arm64")
    world.source.tags["v1"] = world.index(world.image("linux/amd64"), arm)["digest"]
    tally = await world.copy(workshop, platforms=(Platform.parse("linux/arm64"),))
    assert world.target.tags == {"v1": arm["digest"]}
    assert tally.manifests == 1
    assert world.named.digest != world.root.digest


async def test_one_platform_is_found_in_a_nested_index(world: World, workshop: Workshop) -> None:
    deep = world.image("linux/s390x")
    world.source.tags["v1"] = world.index(world.image("linux/amd64"), world.index(deep))["digest"]
    await world.copy(workshop, platforms=(Platform.parse("linux/s390x"),))
    assert world.target.tags == {"v1": deep["digest"]}


async def test_several_platforms_make_a_filtered_index(world: World, workshop: Workshop) -> None:
    entries = [world.image(f"linux/{name}") for name in ("amd64", "arm64", "s390x")]
    world.source.tags["v1"] = world.index(*entries)["digest"]
    await world.copy(workshop, platforms=(Platform.parse("linux/s390x"), Platform.parse("linux/amd64")))
    _, data = world.target.manifests[world.target.tags["v1"]]
    assert [entry["digest"] for entry in json.loads(data)["manifests"]] == [
        entries[0]["digest"],
        entries[2]["digest"],
    ]
    assert entries[1]["digest"] not in world.target.manifests


async def test_a_platform_that_is_not_there_names_those_that_are(world: World, workshop: Workshop) -> None:
    world.source.tags["v1"] = world.index(world.image("linux/amd64"))["digest"]
    with pytest.raises(CopyError, match="linux/amd64") as caught:
        await world.copy(workshop, platforms=(Platform.parse("linux/arm64"),))
    assert isinstance(root_cause(caught.value), NotFound)


@pytest.mark.parametrize(("platform", "fits"), [("linux/amd64", True), ("linux/arm64", False)])
async def test_a_single_image_is_checked_against_its_config(
    platform: str, fits: bool, world: World, workshop: Workshop
) -> None:
    root = world.image("linux/amd64")
    world.source.tags["v1"] = root["digest"]
    if fits:
        await world.copy(workshop, platforms=(Platform.parse(platform),))
        assert world.target.tags == {"v1": root["digest"]}
    else:
        with pytest.raises(CopyError, match="is for linux/amd64"):
            await world.copy(workshop, platforms=(Platform.parse(platform),))


# -- bad documents -----------------------------------------------------------------------------------------


async def test_a_broken_manifest_in_an_index_is_the_sources_fault(world: World, workshop: Workshop) -> None:
    bad = world.document(OCI_MANIFEST, config="nonsense", layers=[])
    world.source.tags["v1"] = world.index(world.image("linux/amd64"), bad)["digest"]
    with pytest.raises(CopyError) as caught:
        await world.copy(workshop)
    assert caught.value.side == "source"
    assert isinstance(root_cause(caught.value), InvalidManifest)
    assert world.target.tags == {}


async def test_cancelling_at_any_step_leaves_nothing_behind(workshop: Workshop) -> None:
    for steps in range(1, 120, 2):
        world = World()
        world.source.tags["v1"] = world.index(
            world.image("linux/amd64"), world.image("linux/arm64", [world.blob(300_000)])
        )["digest"]
        task = asyncio.ensure_future(world.copy(workshop))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        assert world.source.live == 0
        assert task.cancelled() == ("v1" not in world.target.tags)
        assert_nothing_left(workshop)


async def test_copies_at_once_keep_few_large_uploads_open(world: World, workshop: Workshop) -> None:
    size = 3 * workshop.supply.budget.slot_size
    images = [world.image(layers=[world.blob(size), world.blob(size)]) for _ in range(LARGE_BLOBS_AT_ONCE)]
    most = 0

    def count(session: MemorySession, _: int) -> None:
        nonlocal most
        opened = [each for each in world.target.sessions if each.state == "open"]
        most = max(most, sum(each.descriptor.size == size for each in opened))

    world.target.on_append = count
    for number, image in enumerate(images):
        world.source.tags[f"v{number}"] = image["digest"]
    await asyncio.gather(
        *(
            world.copy(workshop, source_name=f"v{number}", target_tag=f"v{number}")
            for number in range(len(images))
        )
    )
    assert world.target.blobs == world.source.blobs
    assert 1 < most <= LARGE_BLOBS_AT_ONCE
