"""Referrers of a copy's manifests: found, copied before the tag, bounded, with warnings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crossdock.content import Source
from crossdock.errors import (
    CopyError,
    CrossdockError,
    Denied,
    RateLimited,
    ReadFailed,
    ReferrersIncomplete,
    RegistryError,
    ServerBusy,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.transfer.workshop import Workshop
from unit.transfer.test_image import OCI_MANIFEST, World

COPYING = {"referrers": True}


class Signed(World):
    """A world whose manifests can be referred to."""

    def attach(
        self, subject: dict[str, Any], tag: str = "", layers: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        """A referrer of `subject`, by its field or by a tag of its digest."""
        config = self.blob(0, "application/vnd.oci.empty.v1+json", b"{}")
        fields = {} if tag else {"subject": {name: subject[name] for name in ("mediaType", "digest", "size")}}
        entry = self.document(
            OCI_MANIFEST,
            config=config,
            layers=layers or [self.blob(40, "application/x")],
            n=len(self.source.manifests),
            **fields,
        )
        referrers, tags = self.source.attachments.setdefault(subject["digest"], ([], []))
        if tag:
            self.source.tags[tag] = entry["digest"]
            tags.append(tag)
        else:
            referrers.append(Descriptor(OCI_MANIFEST, Digest(entry["digest"]), entry["size"]))
        return entry


@pytest.fixture
def world() -> Signed:
    return Signed()


def order(world: World, *digests: str) -> list[int]:
    return [world.target.log.index(f"manifest {name}") for name in digests]


async def test_referrers_of_the_root_and_its_children_come_before_the_tag(
    world: Signed, workshop: Workshop
) -> None:
    child = world.image("linux/amd64")
    root = world.index(child)
    world.source.tags["v1"] = root["digest"]
    of_root, of_child = world.attach(root), world.attach(child)
    signature = world.attach(of_child)
    named = world.attach(child, "sha256-x.sig")
    tally = await world.copy(workshop, **COPYING)
    steps = order(world, root["digest"], of_child["digest"], signature["digest"], "v1")
    assert steps == sorted(steps)
    assert world.target.log[-1] == "manifest v1"
    assert world.target.manifests.keys() == world.source.manifests.keys()
    assert world.target.blobs == world.source.blobs
    assert world.target.tags == {"v1": root["digest"], "sha256-x.sig": named["digest"]}
    assert [each.digest for each in world.target.listed[root["digest"]]] == [of_root["digest"]]
    assert (tally.referrers, tally.referrers_copied, tally.manifests) == (4, 4, 6)


async def test_without_the_wish_nothing_is_looked_for(world: Signed, workshop: Workshop) -> None:
    image = world.image()
    world.source.tags["v1"] = image["digest"]
    world.attach(image)
    tally = await world.copy(workshop)
    assert list(world.target.manifests) == [image["digest"]]
    assert tally.referrers == 0


async def test_a_signature_that_came_later_is_brought_to_an_image_that_is_there(
    world: Signed, workshop: Workshop
) -> None:
    image = world.image()
    world.source.tags["v1"] = image["digest"]
    await world.copy(workshop, **COPYING)
    late = world.attach(image)
    world.attach(image, "sha256-x.sig")
    before = len(world.target.log)
    tally = await world.copy(workshop, **COPYING)
    assert (tally.referrers, tally.referrers_copied) == (2, 2)
    assert "manifest v1" not in world.target.log[before:]
    assert world.target.listed[image["digest"]][0].digest == late["digest"]
    again = await world.copy(workshop, **COPYING)
    assert (again.referrers, again.referrers_copied) == (2, 0)


async def test_a_referrer_that_the_target_has_and_does_not_list_is_listed(
    world: Signed, workshop: Workshop
) -> None:
    image = world.image()
    world.source.tags["v1"] = image["digest"]
    world.attach(image)
    await world.copy(workshop, **COPYING)
    world.target.listed.clear()
    assert (await world.copy(workshop, **COPYING)).referrers_copied == 1
    assert world.target.listed[image["digest"]]


async def test_an_untagged_root_is_pushed_once(world: Signed, workshop: Workshop) -> None:
    image = world.image()
    world.source.tags["v1"] = image["digest"]
    world.attach(image)
    await world.copy(workshop, target_tag=None, **COPYING)
    assert world.target.log.count(f"manifest {image['digest']}") == 1
    assert world.target.tags == {}


async def test_referrers_that_cannot_be_listed_are_a_warning_or_an_error(
    world: Signed, workshop: Workshop
) -> None:
    async def attached(digest: Digest) -> Any:
        raise RegistryError("403 DENIED", status=403)

    world.source.attached = attached  # type: ignore[method-assign]
    world.source.tags["v1"] = world.image()["digest"]
    with pytest.raises(CopyError, match=r"look for referrers of source .*DENIED") as raised:
        await world.copy(workshop, requires_referrers=True, **COPYING)
    assert raised.value.advice is not None
    assert raised.value.advice.kind == "omit-referrers"
    assert world.target.tags == {}
    tally = await world.copy(workshop, **COPYING)
    assert "signatures" in tally.warnings[0]
    assert set(world.target.tags) == {"v1"}


async def test_a_list_that_names_what_is_gone_is_warned_of(world: Signed, workshop: Workshop) -> None:
    image = world.image()
    world.source.tags["v1"] = image["digest"]
    gone, kept = world.attach(image), world.attach(image)
    del world.source.manifests[gone["digest"]]
    tally = await world.copy(workshop, **COPYING)
    assert gone["digest"] in tally.warnings[0]
    assert kept["digest"] in world.target.manifests
    assert (tally.referrers, set(world.target.tags)) == (1, {"v1"})


def break_layer(world: Signed, attached: dict[str, Any]) -> None:
    """Give a referrer's layer other bytes than its manifest states."""
    document = json.loads(world.source.manifests[attached["digest"]][1])
    world.source.blobs[document["layers"][0]["digest"]] = b"other bytes, of this length: exactly 40."


@pytest.mark.parametrize("tag", ["", "sha256-x.sig"])
async def test_a_broken_referrer_is_a_warning_or_an_error(
    world: Signed, workshop: Workshop, tag: str
) -> None:
    image = world.image()
    world.source.tags["v1"] = image["digest"]
    broken, whole = world.attach(image, tag), world.attach(image)
    world.attach(broken)
    break_layer(world, broken)
    with pytest.raises(CopyError) as raised:
        await world.copy(workshop, requires_referrers=True, **COPYING)
    assert raised.value.advice is not None
    assert raised.value.advice.kind == "omit-referrers"
    assert world.target.tags == {}
    tally = await world.copy(workshop, **COPYING)
    (warning,) = tally.warnings
    assert warning.startswith(tag or broken["digest"])
    assert "is missing at the target: fetch blob from source" in warning
    assert set(world.target.tags) == {"v1"}
    assert set(world.target.manifests) == {image["digest"], whole["digest"]}  # nor what refers to it
    assert tally.referrers == 1


async def test_those_that_share_a_blob_with_a_broken_one_arrive(world: Signed, workshop: Workshop) -> None:
    """Artifacts have the same config. It is on its way when the broken one is given up."""
    image = world.image()
    world.source.tags["v1"] = image["digest"]
    broken = [world.attach(image) for _ in range(4)]
    for each in broken:
        break_layer(world, each)
    whole = [world.attach(image) for _ in range(12)]
    tally = await world.copy(workshop, **COPYING)
    assert len(tally.warnings) == len(broken)
    assert set(world.target.manifests) == {each["digest"] for each in (image, *whole)}


async def test_those_that_share_the_broken_blob_are_each_warned_of(world: Signed, workshop: Workshop) -> None:
    image = world.image()
    world.source.tags["v1"] = image["digest"]
    first = world.attach(image)
    break_layer(world, first)
    layers = json.loads(world.source.manifests[first["digest"]][1])["layers"]
    second = world.attach(image, layers=layers)
    tally = await world.copy(workshop, **COPYING)
    assert sorted(warning.partition(",")[0] for warning in tally.warnings) == sorted(
        each["digest"] for each in (first, second)
    )
    assert set(world.target.tags) == {"v1"}


@pytest.mark.parametrize("kind", ["application/vnd.cncf.oras.artifact.manifest.v1+json", "application/json"])
async def test_a_referrer_of_an_unknown_type_is_a_warning_or_an_error(
    world: Signed, workshop: Workshop, kind: str
) -> None:
    image = world.image()
    world.source.tags["v1"] = image["digest"]
    unknown = world.document(kind, blobs=[], subject=image)
    world.source.attachments[image["digest"]] = (
        [Descriptor(kind, Digest(unknown["digest"]), unknown["size"])],
        [],
    )
    with pytest.raises(CopyError):
        await world.copy(workshop, requires_referrers=True, **COPYING)
    assert world.target.tags == {}
    tally = await world.copy(workshop, **COPYING)
    assert unknown["digest"] in tally.warnings[0]
    assert set(world.target.tags) == {"v1"}


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (RegistryError("400 MANIFEST_INVALID", status=400), True),
        (Denied("403 DENIED", status=403), True),
        (ServerBusy("500", status=500), True),
        (ServerBusy("503", status=503), False),
        (RateLimited("429", status=429), False),
        (ReadFailed("broken"), False),
    ],
    ids=repr,
)
async def test_a_refusal_is_a_warning_and_a_transient_error_is_a_failure(
    world: Signed, workshop: Workshop, error: CrossdockError, is_final: bool
) -> None:
    image = world.image()
    world.source.tags["v1"] = image["digest"]
    world.attach(image)

    async def push_referrer(descriptor: Descriptor, data: bytes) -> None:
        raise error

    world.target.push_referrer = push_referrer  # type: ignore[method-assign]
    if not is_final:
        with pytest.raises(CopyError):
            await world.copy(workshop, **COPYING)
        assert world.target.tags == {}
        return
    tally = await world.copy(workshop, **COPYING)
    assert "is missing at the target: push manifest to target" in tally.warnings[0]
    assert set(world.target.tags) == {"v1"}


async def test_a_target_whose_list_may_not_be_seen_gets_everything(world: Signed, workshop: Workshop) -> None:
    async def referrers(digest: Digest) -> Any:
        raise Denied("403 DENIED", status=403)

    world.target.referrers = referrers  # type: ignore[method-assign]
    image = world.image()
    world.source.tags["v1"] = image["digest"]
    referrer = world.attach(image)
    tally = await world.copy(workshop, requires_referrers=True, **COPYING)
    assert referrer["digest"] in world.target.manifests
    assert tally.warnings == []


async def test_the_rest_of_a_list_that_is_not_all_understood_is_copied(
    world: Signed, workshop: Workshop
) -> None:
    image = world.image()
    world.source.tags["v1"] = image["digest"]
    referrer = world.attach(image)
    listed, _ = world.source.attachments[image["digest"]]

    async def attached(digest: Digest) -> Any:
        if digest == image["digest"]:
            raise ReferrersIncomplete("1 entry is not understood: null", referrers=tuple(listed))
        return [], []

    world.source.attached = attached  # type: ignore[method-assign]
    with pytest.raises(CopyError, match="not understood"):
        await world.copy(workshop, requires_referrers=True, **COPYING)
    tally = await world.copy(workshop, **COPYING)
    assert "not understood: null" in tally.warnings[0]
    assert referrer["digest"] in world.target.manifests


@pytest.mark.parametrize("steps", [4, 5, 9])
async def test_a_chain_is_followed_four_steps_and_no_further(
    world: Signed, workshop: Workshop, steps: int
) -> None:
    last = world.image()
    world.source.tags["v1"] = last["digest"]
    for _ in range(steps):
        last = world.attach(last)
    tally = await world.copy(workshop, **COPYING)
    assert tally.referrers == 4
    assert ["4 steps" in warning for warning in tally.warnings] == [True] * (steps > 4)
    world.target.tags.clear()
    if steps > 4:
        with pytest.raises(CopyError, match="4 steps"):
            await world.copy(workshop, requires_referrers=True, **COPYING)
        assert world.target.tags == {}
    else:
        await world.copy(workshop, requires_referrers=True, **COPYING)


async def test_tags_that_name_each_other_end(world: Signed, workshop: Workshop) -> None:
    one, other = world.image(), world.image()
    world.source.tags |= {"v1": one["digest"], "a.sig": other["digest"], "b.sig": one["digest"]}
    world.source.attachments = {one["digest"]: ([], ["a.sig"]), other["digest"]: ([], ["b.sig"])}
    tally = await world.copy(workshop, **COPYING)
    assert (tally.referrers, tally.warnings) == (2, [])


def test_the_double_is_a_source(world: Signed) -> None:
    source: Source = world.source
    assert source.name
