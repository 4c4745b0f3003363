"""Signatures, SBOMs and theirs, between registries with the referrers API, without it, and layouts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from support.command import Crossdock
from support.images import Graph, assert_holds, layout_entries, push
from support.interrupted import KINDS, start_target
from support.push import Remote

pytestmark = pytest.mark.real

API = "embedded"
INDEX = "application/vnd.oci.image.index.v1+json"
SIGNATURE, SBOM = "application/vnd.example.signature", "application/spdx+json"


def stem(content: Content) -> str:
    return content.digest.replace(":", "-")


def listed(remote: Remote, repository: str, subject: Content) -> dict[str, str]:
    """The referrers of `subject` at the registry, from its API or the fallback tag: digest → type."""
    reply = remote.request("GET", f"/v2/{repository}/referrers/{subject.digest}")
    if reply.status == 404:
        reply = remote.manifest(repository, stem(subject))
    if reply.status == 404:
        return {}
    assert reply.headers["content-type"] == INDEX
    return {each["digest"]: each["artifactType"] for each in reply.json()["manifests"]}


class Signed:
    """An index of two images. Referrers: of the index, of one image, of that referrer; a cosign tag."""

    def __init__(self, builder: ImageBuilder) -> None:
        self.builder = builder
        self.image = builder.image([builder.random_layer(5000)])
        self.index = builder.index([self.image, builder.image([builder.random_layer(900)], "linux/arm64")])
        self.of_index = self.artifact(SIGNATURE, self.index)
        self.sbom = self.artifact(SBOM, self.image)
        self.of_sbom = self.artifact(SIGNATURE, self.sbom)
        self.cosign = builder.image([builder.random_layer(300)])
        self.graphs: dict[str, Graph] = {}

    def artifact(self, kind: str, subject: Content) -> Content:
        return self.builder.artifact(kind, [self.builder.random_layer(700)], subject=subject)

    @property
    def pairs(self) -> list[tuple[Content, Content]]:
        """Subject, referrer."""
        return [(self.index, self.of_index), (self.image, self.sbom), (self.sbom, self.of_sbom)]

    def push(self, host: str, repository: str) -> None:
        remote = Remote(host)
        tags = ((self.index, "v1"), (self.cosign, f"{stem(self.index)}.sig"))
        for content, tag in tags:
            self.graphs[tag] = push(remote, repository, self.builder, content, tag)
        for subject, referrer in self.pairs:
            self.refer(remote, repository, subject, referrer)

    def refer(self, remote: Remote, repository: str, subject: Content, referrer: Content) -> None:
        """As a client attaches: push, and keep the list where the registry has no API."""
        self.graphs[referrer.digest] = push(remote, repository, self.builder, referrer)
        if referrer.digest not in listed(remote, repository, subject):
            entry = {
                **referrer.document(),
                "artifactType": json.loads(self.builder.read(referrer))["artifactType"],
            }
            data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
            remote.push_manifest(repository, data, INDEX, stem(subject))

    def assert_at(self, host: str, repository: str) -> None:
        for name, graph in self.graphs.items():
            assert_holds(Remote(host), repository, name, graph)
        for subject, referrer in self.pairs:
            assert referrer.digest in listed(Remote(host), repository, subject)


@pytest.fixture
def signed(builder: ImageBuilder) -> Signed:
    return Signed(builder)


@pytest.fixture
def start(tmp_path: Path, closing: ExitStack) -> Callable[[str, str], str]:
    return lambda kind, name: start_target(kind, tmp_path / name, closing)


@pytest.mark.parametrize(
    ("here", "there"), [*((kind, API) for kind in KINDS), *((API, kind) for kind in KINDS[:2])]
)
def test_everything_attached_arrives_and_a_second_copy_finds_it(
    crossdock: Crossdock,
    start: Callable[[str, str], str],
    repository: str,
    signed: Signed,
    here: str,
    there: str,
) -> None:
    source, target = start(here, "source"), start(there, "target")
    signed.push(source, repository)
    names = (f"{source}/{repository}:v1", f"{target}/{repository}:v1")
    result = crossdock.copy(*names)
    signed.assert_at(target, repository)
    assert (result["referrers"], result["referrers_copied"], result["manifests"]) == (4, 4, 7)
    assert result["warnings"] == []
    again = crossdock.copy(*names)
    assert (again["referrers"], again["referrers_copied"], again["blobs_moved"]) == (4, 0, 0)


def test_entries_of_others_in_the_fallback_list_stay(
    crossdock: Crossdock, start: Callable[[str, str], str], repository: str, signed: Signed
) -> None:
    source, target = start(API, "source"), start("docker-registry-2.8", "target")
    signed.push(source, repository)
    other = signed.artifact("application/vnd.example.other", signed.index)
    remote = Remote(target)
    push(remote, repository, signed.builder, signed.index)
    signed.refer(remote, repository, signed.index, other)
    crossdock.copy(f"{source}/{repository}:v1", f"{target}/{repository}:v1", "--referrers")
    assert set(listed(remote, repository, signed.index)) == {other.digest, signed.of_index.digest}


def test_the_tag_is_written_after_what_is_attached(
    crossdock: Crossdock,
    start: Callable[[str, str], str],
    fault_proxy: Callable[..., FaultProxy],
    repository: str,
    signed: Signed,
) -> None:
    source, target = start(API, "source"), start(API, "target")
    signed.push(source, repository)
    proxy = fault_proxy(target)
    crossdock.copy(f"{source}/{repository}:v1", f"{proxy.host}/{repository}:v1", "--referrers")
    pushed = [
        seen.path.rpartition("/")[2]
        for seen in proxy.seen
        if seen.method == "PUT" and "/manifests/" in seen.path
    ]
    assert pushed[-1] == "v1"
    assert set(pushed) >= {signed.of_sbom.digest, signed.index.digest, f"{stem(signed.index)}.sig"}


def test_layouts_carry_them_both_ways(
    crossdock: Crossdock, start: Callable[[str, str], str], repository: str, signed: Signed, tmp_path: Path
) -> None:
    source, target = start(API, "source"), start("docker-registry-2.8", "target")
    signed.push(source, repository)
    layout = f"oci:{tmp_path / 'layout'}"
    crossdock.copy(f"{source}/{repository}:v1", f"{layout}:v1", "--referrers")
    entries = {each["digest"] for each in layout_entries(tmp_path / "layout")}
    assert entries == {
        each.digest for each in (signed.index, signed.cosign, signed.of_index, signed.sbom, signed.of_sbom)
    }
    result = crossdock.copy(layout, f"{target}/{repository}:v1", "--referrers")
    assert (result["referrers"], result["referrers_copied"]) == (4, 4)
    signed.assert_at(target, repository)


def test_with_the_opposite_flag_or_in_a_list_only_the_image_is_copied(
    crossdock: Crossdock,
    start: Callable[[str, str], str],
    repository: str,
    signed: Signed,
    tmp_path: Path,
) -> None:
    source, target = start(API, "source"), start(API, "target")
    signed.push(source, repository)
    result = crossdock.copy(f"{source}/{repository}:v1", f"{target}/{repository}:v1", "--no-referrers")
    assert (result["referrers"], result["manifests"]) == (0, 3)
    pairs = tmp_path / "pairs"
    pairs.write_text(f"{source}/{repository}:v1 {target}/{repository}/listed:v1\n")
    crossdock.ok("copy", "--from-file", pairs, "--progress", "none")
    for copied in (repository, f"{repository}/listed"):
        assert Remote(target).tags(copied) == ["v1"]


@pytest.mark.parametrize(("kind", "cost"), [("docker-registry-2.8", 2), ("distribution-3", 2), (API, 2)])
def test_requests_for_the_referrers_of_an_unsigned_image(
    crossdock: Crossdock,
    start: Callable[[str, str], str],
    fault_proxy: Callable[..., FaultProxy],
    repository: str,
    builder: ImageBuilder,
    kind: str,
    cost: int,
) -> None:
    source, target = start(kind, "source"), start(API, "target")
    push(Remote(source), repository, builder, builder.image([builder.random_layer(900)]), "v1")
    proxies = fault_proxy(source), fault_proxy(target)
    names = [f"{proxy.host}/{repository}:v1" for proxy in proxies]
    crossdock.copy(*names, "--referrers")
    marks = [len(proxy.seen) for proxy in proxies]
    crossdock.copy(*names, "--referrers")
    asked = [
        Counter(f"{seen.method} {seen.path.partition('?')[0].split('/')[-2]}" for seen in proxy.seen[mark:])
        for proxy, mark in zip(proxies, marks, strict=True)
    ]
    for each in asked:
        del each["GET v2"]
    assert asked[0] == {"HEAD manifests": 1, "GET tags": 1, "GET referrers": 1}
    assert asked[0].total() == 1 + cost
    assert asked[1] == {"GET manifests": 1}


def test_a_run_of_many_asks_for_the_tags_of_a_repository_once(
    crossdock: Crossdock,
    start: Callable[[str, str], str],
    fault_proxy: Callable[..., FaultProxy],
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    source, target = start("docker-registry-2.8", "source"), start(API, "target")
    names = [f"v{number}" for number in range(20)]
    for name in names:
        push(Remote(source), repository, builder, builder.image([builder.random_layer(90)]), name)
    proxy = fault_proxy(source)
    pairs = tmp_path / "pairs"
    pairs.write_text("".join(f"{proxy.host}/{repository}:{n} {target}/{repository}:{n}\n" for n in names))
    crossdock.ok("copy", "--from-file", pairs, "--referrers", "--progress", "none")
    asked = Counter(seen.path.partition("?")[0].split("/")[-2] for seen in proxy.seen)
    assert asked["tags"] == 1
    assert 1 <= asked["referrers"] <= len(names)  # those under way at once ask before one is answered
