"""``--platform`` in mirrors and lists: tags of digests are copied unchanged, and single images are copied."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from crossdock.imagebuilder import OCI_CONFIG, OCI_MANIFEST, Content, ImageBuilder
from support.command import NOT_FOUND, Crossdock, Finished
from support.scripted import ScriptedRegistry

AMD64 = ("--platform", "linux/amd64")
BOTH = (*AMD64, "--platform", "linux/arm64")
SIGNATURE = "application/vnd.example.signature"


@pytest.fixture
def lenient(closing: ExitStack) -> ScriptedRegistry:
    return ScriptedRegistry(closing)


@pytest.fixture
def other(closing: ExitStack) -> ScriptedRegistry:
    """The target."""
    registry = ScriptedRegistry(closing)
    registry.is_strict = True
    return registry


class Signed:
    """An image ``v1`` of two platforms with a referrer of each manifest, and a signature by cosign."""

    def __init__(self, lenient: ScriptedRegistry, builder: ImageBuilder) -> None:
        self.images = [
            builder.image([builder.random_layer(100)], f"linux/{each}") for each in ("amd64", "arm64")
        ]
        self.index = builder.index(self.images)
        self.lists = {tag_of(each): listing(builder, each) for each in (self.index, *self.images)}
        self.cosign = cosign(builder)
        lenient.hold(builder)
        lenient.name("v1", self.index)
        for tag, content in self.lists.items():
            lenient.name(tag, content)
        lenient.name(f"{tag_of(self.index)}.sig", self.cosign)


@pytest.fixture
def signed(lenient: ScriptedRegistry, builder: ImageBuilder) -> Signed:
    return Signed(lenient, builder)


def tag_of(content: Content) -> str:
    return content.digest.replace(":", "-")


def listing(builder: ImageBuilder, *subjects: Content) -> Content:
    """A list of new referrers. Its entries state a platform, as those of some tools do."""
    entries = []
    for each in subjects:
        referrer = builder.artifact(SIGNATURE, [builder.random_layer(50)], subject=each)
        platform = {"platform": {"os": "linux", "architecture": "amd64"}}
        entries.append(referrer.having(artifactType=SIGNATURE, **platform))
    return builder.index(entries)


def cosign(builder: ImageBuilder) -> Content:
    layer = builder.blob(b"{}", "application/vnd.dev.cosign.simplesigning.v1+json").document()
    config = builder.blob(b'{"architecture":"","os":""}', OCI_CONFIG).document()
    return builder.manifest(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
    )


def mirrored(
    crossdock: Crossdock, source: ScriptedRegistry, target: ScriptedRegistry, *words: str
) -> Finished:
    command = ("mirror", source.host, target.host, "--repository", "app", "--output", "json")
    return crossdock.ok(*command, *words, "--progress", "none")


def entries(registry: ScriptedRegistry, tag: str, name: str = "app") -> list[str]:
    return [each["digest"] for each in registry.document(name, tag)["manifests"]]


# -- lists of referrers and signatures -----------------------------------------------------------------------


@pytest.mark.parametrize("referrers", [(), ("--referrers",)])
@pytest.mark.parametrize("platforms", [AMD64, BOTH], ids=["one", "two"])
def test_a_mirror_copies_tags_of_digests_as_they_are(
    crossdock: Crossdock,
    lenient: ScriptedRegistry,
    other: ScriptedRegistry,
    signed: Signed,
    platforms: tuple[str, ...],
    referrers: tuple[str, ...],
) -> None:
    done = mirrored(crossdock, lenient, other, *platforms, *referrers)
    for tag in (*signed.lists, f"{tag_of(signed.index)}.sig"):
        assert other.find("app", tag) == lenient.find("app", tag)
        assert not other.missing("app", other.find("app", tag)[1])
    assert "left out" not in done.stderr
    if platforms == AMD64:
        assert other.find("app", "v1") == lenient.find("app", signed.images[0].digest)
    else:
        assert entries(other, "v1") == [each.digest for each in signed.images]
    again = mirrored(crossdock, lenient, other, *platforms, *referrers).result
    assert again["totals"]["blobs_moved"] == 0
    status = {each["target"].rpartition(":")[2]: each["status"] for each in again["copies"]}
    assert all(status[tag] == "unchanged" for tag in signed.lists)


def test_the_entries_of_the_target_stay_in_its_list(
    crossdock: Crossdock,
    lenient: ScriptedRegistry,
    other: ScriptedRegistry,
    signed: Signed,
    tmp_path: Path,
) -> None:
    subject = signed.images[0]
    tag = tag_of(subject)
    own = sign_at(other, tmp_path, subject)
    document = lenient.document("app", subject.digest)
    for blob in (document["config"], *document["layers"]):
        other.blobs[blob["digest"]] = lenient.blobs[blob["digest"]]
    other.manifests["app", subject.digest] = lenient.find("app", subject.digest)
    mirrored(crossdock, lenient, other, *AMD64)
    assert sorted(entries(other, tag)) == sorted([own, *entries(lenient, tag)])


def test_a_list_brings_no_platform_that_was_not_chosen(
    crossdock: Crossdock,
    lenient: ScriptedRegistry,
    other: ScriptedRegistry,
    signed: Signed,
    tmp_path: Path,
) -> None:
    """The target has its own list for an index that it lacks."""
    own = sign_at(other, tmp_path, signed.index)
    done = mirrored(crossdock, lenient, other, *AMD64)
    assert own in entries(other, tag_of(signed.index))
    assert ("app", signed.images[1].digest) not in other.manifests
    warnings = [text for each in done.result["copies"] for text in each["warnings"]]
    assert any("is not replaced" in each for each in warnings)


def sign_at(registry: ScriptedRegistry, folder: Path, subject: Content) -> str:
    """Give the registry a list with its own referrer; returns the referrer's digest."""
    builder = ImageBuilder(folder / "own", seed=7)
    made = listing(builder, subject)
    for digest in builder.digests():
        registry.blobs[digest] = builder.read(digest)
    (entry,) = json.loads(builder.read(made))["manifests"]
    digest: str = entry["digest"]
    registry.manifests["app", digest] = OCI_MANIFEST, builder.read(digest)
    registry.manifests["app", tag_of(subject)] = made.media_type, builder.read(made)
    return digest


@pytest.mark.parametrize("platforms", [AMD64, BOTH], ids=["one", "two"])
def test_a_list_of_copies_copies_tags_of_digests_as_they_are(
    crossdock: Crossdock,
    lenient: ScriptedRegistry,
    other: ScriptedRegistry,
    signed: Signed,
    tmp_path: Path,
    platforms: tuple[str, ...],
) -> None:
    tag = tag_of(signed.images[0])
    pairs = [("v1", "v1"), (tag, tag), (tag, "renamed"), (f"{tag_of(signed.index)}.sig", "sig")]
    lines = [f"{lenient.host}/app:{each} {other.host}/copy:{new}" for each, new in pairs]
    (tmp_path / "list").write_text("\n".join(lines))
    crossdock.ok("copy", "--from-file", str(tmp_path / "list"), *platforms)
    for each, new in pairs[1:]:
        assert other.find("copy", new) == lenient.find("app", each)


# -- single images -------------------------------------------------------------------------------------------


def test_single_images_and_charts_are_copied_for_several_platforms(
    crossdock: Crossdock, lenient: ScriptedRegistry, other: ScriptedRegistry, builder: ImageBuilder
) -> None:
    contents = {
        "arm64": builder.image([builder.random_layer(100)], "linux/arm64"),
        "chart": builder.helm_chart(),
        "sig": cosign(builder),
    }
    lenient.hold(builder)
    for tag, content in contents.items():
        lenient.name(tag, content)
        result = crossdock.copy(f"{lenient.host}/app:{tag}", f"{other.host}/copy:{tag}", *BOTH)
        assert (result["digest"], result["digest_changed"]) == (content.digest, False)
    mirrored(crossdock, lenient, other, *BOTH)
    assert all(other.find("app", tag) == lenient.find("app", tag) for tag in contents)


@pytest.mark.parametrize("platforms", [AMD64, BOTH], ids=["one", "two"])
def test_a_single_image_for_another_platform_is_not_found(
    crossdock: Crossdock,
    lenient: ScriptedRegistry,
    other: ScriptedRegistry,
    builder: ImageBuilder,
    platforms: tuple[str, ...],
) -> None:
    image = builder.image([builder.random_layer(100)], "linux/s390x")
    lenient.hold(builder)
    lenient.name("v1", image)
    line = crossdock.fail_copy(
        f"{lenient.host}/app:v1", f"{other.host}/copy:v1", *platforms, code=NOT_FOUND, naming=[image.digest]
    )
    assert f"the image is for linux/s390x, not {' or '.join(platforms[1::2])}" in line
    assert not other.manifests
