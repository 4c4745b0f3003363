"""The documented features of an import besides its commands: content, sources, sizes, targets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from crossdock.imagebuilder import OCI_LAYER, Content, ImageBuilder, sample_index
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Break, Fault
from support import nginx
from support.cloud import Cloud, put
from support.command import SOURCE, VERIFICATION, Crossdock
from support.docker_registry import DockerRegistry
from support.images import Graph, assert_holds, everything, one_layer_image, push
from support.skopeo import raw_digest

pytestmark = pytest.mark.real

WORDS = ("-n", "myregistry", "--source", "docker.io/library/app:v1", "-t", "app:v1")
GET_LAYER = "GET /v2/library/app/blobs/{}"


@pytest.fixture
def cloud(crossdock: Crossdock, new_registry: Callable[..., DockerRegistry], tmp_path: Path) -> Cloud:
    public = new_registry("public")
    return Cloud(crossdock, tmp_path, public, public, public, new_registry("target"))


def test_any_system_without_docker(cloud: Cloud) -> None:
    builder = ImageBuilder(seed=1)
    layer = builder.random_layer(5000)
    systems = (("windows/amd64", "10.0.17763.5936"), ("linux/s390x", ""), ("unknown/unknown", ""))
    images = [builder.image([layer], system, os_version=version) for system, version in systems]
    graph = push(cloud.public.remote, "library/app", builder, builder.index(images), "v1")
    alone = push(cloud.public.remote, "library/windows", builder, images[0], "v1")
    cloud.run(*WORDS, env={"PATH": "/nonexistent"})
    assert_holds(cloud.target.remote, "app", "v1", graph)
    entries = cloud.target.remote.manifest("app", "v1").json()["manifests"]
    assert entries[0]["platform"] == {
        "os": "windows",
        "architecture": "amd64",
        "os.version": "10.0.17763.5936",
    }
    cloud.run("-n", "myregistry", "--source", "docker.io/library/windows:v1", "-t", "windows:v1")
    assert_holds(cloud.target.remote, "windows", "v1", alone)


def test_all_platforms_nested_indexes_attestations_and_artifacts_as_skopeo_sees_them(cloud: Cloud) -> None:
    builder = ImageBuilder(seed=2)
    layer = builder.random_layer(5000)
    names = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x", "windows/amd64")
    images = [builder.image([layer], name) for name in names]
    index = builder.index([*images, *(builder.attestation(each) for each in images), everything(builder)])
    graph = push(cloud.public.remote, "library/app", builder, index, "v1")
    cloud.run(*WORDS)
    assert_holds(cloud.target.remote, "app", "v1", graph)
    assert raw_digest(f"docker://{cloud.target.host}/app:v1") == graph.root


def test_a_target_that_only_this_machine_reaches(
    cloud: Cloud, new_registry: Callable[..., DockerRegistry]
) -> None:
    graph = put(cloud.public, "library/app", "v1")
    inside = new_registry("inside", address="127.0.0.2", hostname="127.0.0.2")
    cloud.target_settings = {"login_server": inside.host}
    cloud.run(*WORDS)
    assert_holds(inside.remote, "app", "v1", graph)


# -- sources and RFC 7233 --------------------------------------------------------------------------------


@pytest.fixture
def layered(cloud: Cloud) -> tuple[Graph, Content]:
    """``docker.io/library/app:v1`` with a layer that is read in ranges."""
    builder = ImageBuilder(seed=3)
    image, layer = one_layer_image(builder, 9_000_000)
    return push(cloud.public.remote, "library/app", builder, image, "v1"), layer


def test_a_source_without_ranges_is_read_as_one_stream(
    cloud: Cloud, layered: tuple[Graph, Content], tmp_path: Path, closing: ExitStack
) -> None:
    graph, layer = layered
    front = nginx.start_range_stripper(tmp_path / "nginx", f"http://{cloud.public.host}")
    closing.callback(front.stop)
    cloud.hosts = {"docker.io": front.host}
    mark = cloud.public.mark()
    cloud.run(*WORDS)
    assert_holds(cloud.target.remote, "app", "v1", graph)
    reads = [
        each for each in cloud.public.accesses(mark) if each.method == "GET" and layer.digest in each.path
    ]
    assert [each.status for each in reads] == [200]


@pytest.mark.parametrize(
    ("fault", "code", "naming"),
    [
        (Fault(times=None, answer=Answer(416)), SOURCE, "RFC 7233"),
        (Fault(times=None, answer=Answer(403)), 3, "403"),
        (
            Fault(times=None, answer=Answer(206, {"Content-Range": "bytes 0-9/10"}, bytes(10))),
            VERIFICATION,
            "10",
        ),
        (Fault(times=None, answer=Answer(200, {}, bytes(10))), VERIFICATION, "10"),
        (Fault(times=None, breaks=Break("close", at=0)), SOURCE, "ended after 0"),
    ],
    ids=["416", "another-status", "another-length", "too-short", "cut"],
)
def test_ranges_that_are_answered_wrongly_are_reported_with_what_came(
    cloud: Cloud,
    layered: tuple[Graph, Content],
    fault_proxy: Callable[..., FaultProxy],
    fault: Fault,
    code: int,
    naming: str,
) -> None:
    _, layer = layered
    proxy = fault_proxy(cloud.public.host)
    fault.on = GET_LAYER.format(layer.digest)
    proxy.add(fault)
    mark = cloud.target.mark()
    words = ("-n", "myregistry", "--source", f"{proxy.host}/library/app:v1", "-t", "app:v1")
    line = cloud.fail(*words, "--retries", "1", code=code, naming=("source", naming))
    assert layer.digest in line
    assert not [
        each for each in cloud.target.accesses(mark) if each.method == "PUT" and "/app/manifests" in each.path
    ]
    assert cloud.target.remote.tags("app") == []


@pytest.mark.parametrize("at", [0, 1_234_567, -1])
def test_a_body_that_is_cut_once_is_gone_on_with(
    cloud: Cloud, layered: tuple[Graph, Content], fault_proxy: Callable[..., FaultProxy], at: int
) -> None:
    graph, layer = layered
    proxy = fault_proxy(cloud.public.host)
    proxy.add(Fault(on=GET_LAYER.format(layer.digest), breaks=Break("close", at=at)))
    cloud.run("-n", "myregistry", "--source", f"{proxy.host}/library/app:v1", "-t", "app:v1")
    assert_holds(cloud.target.remote, "app", "v1", graph)


# -- sizes -----------------------------------------------------------------------------------------------


def test_a_layer_over_two_gibibytes_is_refused_with_strict_limits_before_anything_is_sent(
    cloud: Cloud,
) -> None:
    builder = ImageBuilder(seed=4)
    small = builder.random_layer(100)
    cloud.public.remote.push_blob("library/app", builder.read(small))
    large = Content(OCI_LAYER, small.digest, (2 << 30) + 1)
    image = builder.image([large])
    push(cloud.public.remote, "library/app", builder, image, "v1")
    mark = cloud.target.mark()
    cloud.fail(*WORDS, "--strict-limits", code=SOURCE, naming=(str(large.size), "--strict-limits"))
    assert {each.method for each in cloud.target.accesses(mark)} <= {"GET", "HEAD"}


# -- several targets -------------------------------------------------------------------------------------


def test_one_import_fans_out_to_many_repositories_and_moves_every_byte_once(cloud: Cloud) -> None:
    builder = ImageBuilder(seed=5)
    graph = push(cloud.public.remote, "library/app", builder, sample_index(builder), "v1")
    tags = [word for number in range(10) for word in ("-t", f"team{number}/app:v{number}")]
    bare = [word for number in range(5) for word in ("--repository", f"bare{number}")]
    result = cloud.run(*WORDS[:4], *tags, *bare, "-o", "json").result
    assert (result["bytes_moved"], len(result["targets"])) == (graph.blob_bytes, 15)
    assert result["bytes_mounted"] == 14 * graph.blob_bytes
    for number in range(10):
        assert_holds(cloud.target.remote, f"team{number}/app", f"v{number}", graph)
    for number in range(5):
        assert_holds(cloud.target.remote, f"bare{number}", graph.root, graph)
        assert cloud.target.remote.tags(f"bare{number}") == []
