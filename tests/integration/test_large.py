"""Memory stays under the budget, whatever the layer's size and however slow the target."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from crossdock import imagebuilder
from crossdock.imagebuilder import Content, ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Fault
from support.command import Crossdock
from support.docker_registry import DockerRegistry
from support.images import assert_holds, one_layer_image, place_sparse_blob, push

pytestmark = [pytest.mark.real, pytest.mark.slow]

MIB = 1 << 20
OVERHEAD = 64 * MIB

GIB = 1 << 30
SPARSE = {  # digests of `images.write_sparse`, by size
    1 * GIB: "sha256:7362696586c78597e2fd3f548bf5beaa6354a7ec179512d3b2d171392a9ccf7e",
    3 * GIB: "sha256:d7aecb29d1bab0c6b4df550837f244efb22181bb9a4b510cfb5023fca9edb9e2",
}


def push_giant(registry: DockerRegistry, repository: str, builder: ImageBuilder, size: int) -> None:
    """An image with one layer of `size`, placed in the registry's storage as a sparse file."""
    layer = Content(imagebuilder.OCI_LAYER, SPARSE[size], size)
    graph = builder.image([layer])
    place_sparse_blob(registry, repository, size, SPARSE[size])
    push(registry.remote, repository, builder, graph, "v1")


@pytest.mark.parametrize(
    ("memory", "command", "size"), [(64 * MIB, "copy", 3 * GIB), (256 * MIB, "acr import", 1 * GIB)]
)
def test_a_giant_layer_stays_under_budget_plus_64_mib(
    memory: int,
    command: str,
    size: int,
    crossdock: Crossdock,
    new_registry: Callable[..., DockerRegistry],
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    source, target = new_registry("source"), new_registry("target")
    push_giant(source, repository, builder, size)
    reference, words = f"{source.host}/{repository}:v1", ["--output", "json", "--progress", "none"]
    if command == "copy":
        words += ["copy", reference, f"{target.host}/{repository}:v1", "--memory", f"{memory >> 20}MiB"]
    else:  # which has no --memory: the default
        known = tmp_path / "inventory.json"
        known.write_text(json.dumps({"registries": [{"name": "myregistry", "login_server": target.host}]}))
        words += ["acr", "import", "-n", "myregistry", "--source", reference, "--inventory", str(known)]
    done, peak = crossdock.measured(tmp_path / "peak", *words[4:], *words[:4], timeout=240)
    assert done.code == 0, str(done)
    stored = target.blob_file(SPARSE[size])
    assert stored.stat().st_size == size  # the registry has checked the digest itself
    shutil.rmtree(target.directory / "data")
    assert done.result["bytes_moved"] > size
    assert peak <= memory + OVERHEAD


def test_a_slow_target_does_not_fill_the_memory(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    image, layer = one_layer_image(builder, 120 * MIB)
    graph = push(source.remote, repository, builder, image, "v1")
    target_faults.add(Fault(lambda r: r.is_upload_body(), times=None, rate=30 * MIB))
    done, peak = crossdock.measured(
        tmp_path / "peak",
        *("copy", f"{source.host}/{repository}:v1", f"{target_faults.host}/{repository}:v1"),
        *("--memory", "16MiB", "--chunk-size", "1MiB", "--output", "json", "--progress", "none"),
    )
    assert done.code == 0, str(done)
    assert peak <= 16 * MIB + OVERHEAD
    assert_holds(target.remote, repository, "v1", graph)
    assert done.result["bytes_requested"] < graph.blob_bytes + MIB
    assert target.blob_file(layer.digest).stat().st_size == 120 * MIB


def test_a_slow_source_is_waited_for(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    """Three seconds of steady trickle are no stall, even with a timeout of one."""
    image, layer = one_layer_image(builder, 3 * MIB)
    graph = push(source.remote, repository, builder, image, "v1")
    source_faults.add(Fault(lambda r: r.is_blob_get(layer.digest), times=None, rate=MIB))
    words = f"{source_faults.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    result = crossdock.copy(*words, "--timeout", "1s", "--connections", "1")
    assert result["retries"] == 0
    assert_holds(target.remote, repository, "v1", graph)


def test_many_small_blobs_in_many_platforms(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    entries = [
        builder.image([builder.random_layer(2000 + n) for n in range(6)], f"linux/arch{number}")
        for number in range(25)
    ]
    graph = push(source.remote, repository, builder, builder.index(entries), "v1")
    result = crossdock.copy(f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1")
    assert (result["manifests"], result["blobs_moved"]) == (26, len(graph.blobs))
    assert_holds(target.remote, repository, "v1", graph)
