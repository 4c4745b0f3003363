"""The exact requests for an image: requests that are not in these lists are not sent.

`test_referrers` covers the requests for referrers, which lists of images are copied without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Break, Fault, Seen
from support.command import Crossdock
from support.docker_registry import DockerRegistry
from support.images import Graph, assert_holds, push
from support.interrupted import start_target
from support.push import Remote

pytestmark = pytest.mark.real

Requests = Counter[str]


def kind(seen: Seen) -> str:
    """``METHOD place``: the kind of a request, without names."""
    path = seen.path.partition("?")[0]
    if "/manifests/" in path:
        return f"{seen.method} manifest by {'digest' if 'sha256:' in path else 'tag'}"
    if "/blobs/uploads/" in path:
        return f"{seen.method} {'mount' if 'mount=' in seen.path else 'upload'}"
    return f"{seen.method} {'blob' if '/blobs/' in path else path}"


@dataclass
class Pair:
    """A source and a target that note every request."""

    crossdock: Crossdock
    source: FaultProxy
    target: FaultProxy
    repository: str

    def copy(self, source: str = "v1", target: str = "v1", *flags: str) -> tuple[Requests, Requests]:
        """Copy; returns the requests to each side, without those for authorization."""
        marks = len(self.source.seen), len(self.target.seen)
        names = (
            f"{self.source.host}/{self.repository}:{source}",
            f"{self.target.host}/{self.repository}:{target}",
        )
        self.result = self.crossdock.copy(*names, "--no-referrers", *flags)
        asked = [
            Counter(map(kind, side.seen[mark:]))
            for side, mark in zip((self.source, self.target), marks, strict=True)
        ]
        for side in asked:
            del side["GET /v2/"]
        return asked[0], asked[1]


@pytest.fixture
def pair(crossdock: Crossdock, source_faults: FaultProxy, target_faults: FaultProxy, repository: str) -> Pair:
    return Pair(crossdock, source_faults, target_faults, repository)


@pytest.fixture
def fill(source: DockerRegistry, repository: str, builder: ImageBuilder) -> Callable[[Content, str], Graph]:
    return lambda content, tag: push(source.remote, repository, builder, content, tag)


@pytest.fixture
def start(
    pair: Pair, fault_proxy: Callable[..., FaultProxy], tmp_path: Path, closing: ExitStack
) -> Callable[[str], Remote]:
    """Start an empty registry of a kind as the pair's target."""

    def started(registry: str) -> Remote:
        host = start_target(registry, tmp_path / "target", closing)
        pair.target = fault_proxy(host)
        return Remote(host)

    return started


def small_image(builder: ImageBuilder, platform: str = "linux/amd64") -> Content:
    return builder.image([builder.random_layer(64 * 1024) for _ in range(5)], platform)


@pytest.mark.parametrize("registry", ["docker-registry-2.8", "distribution-3"])
def test_a_new_small_image(
    pair: Pair,
    fill: Callable[[Content, str], Graph],
    builder: ImageBuilder,
    start: Callable[[str], Remote],
    repository: str,
    registry: str,
) -> None:
    target = start(registry)
    graph = fill(small_image(builder), "v1")
    at_source, at_target = pair.copy()
    assert at_source == {"HEAD manifest by tag": 1, "GET manifest by digest": 1, "GET blob": 6}
    assert at_target == {
        "GET manifest by tag": 1,
        "POST mount": 6,
        "PUT upload": 6,
        "PUT manifest by tag": 1,
    }
    assert at_source.total() + at_target.total() == 22
    assert_holds(target, repository, "v1", graph)


def test_a_new_small_image_for_a_registry_that_says_that_the_repository_is_new(
    pair: Pair,
    fill: Callable[[Content, str], Graph],
    builder: ImageBuilder,
    start: Callable[[str], Remote],
    repository: str,
) -> None:
    target = start("embedded")
    graph = fill(small_image(builder), "v1")
    _, at_target = pair.copy()
    # The first blob is sent in its POST, to find out if this registry takes blobs so; HEAD confirms that.
    assert at_target["POST upload"] == 6
    assert at_target["POST mount"] == 0
    assert at_target["HEAD blob"] <= 1
    assert at_target.total() <= 14
    assert_holds(target, repository, "v1", graph)


def test_blobs_of_an_interrupted_copy_are_found(
    pair: Pair,
    fill: Callable[[Content, str], Graph],
    builder: ImageBuilder,
    start: Callable[[str], Remote],
    repository: str,
) -> None:
    """A repository with blobs and no manifest is not one that the registry does not know."""
    target, image = start("embedded"), small_image(builder)
    graph = fill(image, "v1")
    for digest in builder.digests():
        if digest != image.digest:
            target.push_blob(repository, builder.read(digest))
    _, at_target = pair.copy()
    assert at_target["PUT upload"] == at_target["POST upload"] == 0
    assert pair.result["blobs_skipped"] == 6
    assert_holds(target, repository, "v1", graph)


@pytest.mark.parametrize("refusal", [Answer(405), Break("reset", "request")], ids=["405", "reset"])
def test_blobs_are_found_by_head_where_such_a_mount_is_refused(
    pair: Pair,
    fill: Callable[[Content, str], Graph],
    builder: ImageBuilder,
    target: DockerRegistry,
    repository: str,
    refusal: Answer | Break,
) -> None:
    graph = fill(small_image(builder), "v1")
    is_mount = lambda seen: "mount=" in seen.path  # noqa: E731
    if isinstance(refusal, Answer):
        pair.target.add(Fault(is_mount, times=None, answer=refusal))
    else:
        pair.target.add(Fault(is_mount, times=None, breaks=refusal))
    _, at_target = pair.copy()
    assert at_target["HEAD blob"] == at_target["POST upload"] == at_target["PUT upload"] == 6
    assert_holds(target.remote, repository, "v1", graph)


def test_a_mount_that_is_a_lie_costs_a_request(
    pair: Pair,
    fill: Callable[[Content, str], Graph],
    builder: ImageBuilder,
    target: DockerRegistry,
    repository: str,
) -> None:
    graph = fill(small_image(builder), "v1")
    pair.target.add(Fault(lambda seen: "mount=" in seen.path, times=None, answer=Answer(201)))
    pair.copy()
    assert pair.result["blobs_moved"] == 6
    assert_holds(target.remote, repository, "v1", graph)


def test_an_image_that_is_there(
    pair: Pair, fill: Callable[[Content, str], Graph], builder: ImageBuilder
) -> None:
    fill(small_image(builder), "v1")
    pair.copy()
    at_source, at_target = pair.copy()
    assert at_source == {"HEAD manifest by tag": 1}
    assert at_target == {"GET manifest by tag": 1}
    assert (pair.result["blobs_skipped"], pair.result["manifests"]) == (6, 1)


def test_a_new_tag_for_an_image_that_is_there(
    pair: Pair, fill: Callable[[Content, str], Graph], builder: ImageBuilder
) -> None:
    fill(small_image(builder), "v1")
    pair.copy()
    at_source, at_target = pair.copy("v1", "v2")
    assert at_source == {"HEAD manifest by tag": 1, "GET manifest by digest": 1}
    assert at_target == {
        "GET manifest by tag": 1,
        "POST mount": 6,
        "HEAD blob": 6,  # it confirms the size
        "PUT manifest by tag": 1,
    }


def test_an_index_that_is_there(
    pair: Pair, fill: Callable[[Content, str], Graph], builder: ImageBuilder
) -> None:
    fill(builder.index([small_image(builder), small_image(builder, "linux/arm64")]), "v1")
    pair.copy()
    at_source, at_target = pair.copy()
    assert at_source == {"HEAD manifest by tag": 1}
    assert at_target == {"GET manifest by tag": 1, "GET manifest by digest": 2}
    assert (pair.result["blobs_skipped"], pair.result["manifests"]) == (12, 3)


def test_a_platform_that_is_there(
    pair: Pair, fill: Callable[[Content, str], Graph], builder: ImageBuilder
) -> None:
    fill(builder.index([small_image(builder), small_image(builder, "linux/arm64")]), "v1")
    pair.copy("v1", "v1", "--platform", "linux/arm64")
    at_source, at_target = pair.copy("v1", "v1", "--platform", "linux/arm64")
    assert at_source == {"HEAD manifest by tag": 1, "GET manifest by digest": 2}
    assert at_target == {"GET manifest by tag": 1}
    assert (pair.result["blobs_skipped"], pair.result["manifests"]) == (6, 1)


def test_an_index_whose_manifest_went_away_is_completed(
    pair: Pair,
    fill: Callable[[Content, str], Graph],
    builder: ImageBuilder,
    target: DockerRegistry,
    repository: str,
) -> None:
    there, gone = small_image(builder), small_image(builder, "linux/arm64")
    graph = fill(builder.index([there, gone]), "v1")
    pair.copy()
    target.remote.request("DELETE", f"/v2/{repository}/manifests/{gone.digest}")
    at_source, at_target = pair.copy()
    assert at_source == {"HEAD manifest by tag": 1, "GET manifest by digest": 1}
    assert at_target == {
        "GET manifest by tag": 1,
        "GET manifest by digest": 2,
        "POST mount": 6,
        "HEAD blob": 6,
        "PUT manifest by digest": 1,
    }
    assert_holds(target.remote, repository, "v1", graph)
