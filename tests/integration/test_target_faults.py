"""Targets that refuse, break, stall or stand behind a proxy with limits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Fault, Seen, set_header
from support import nginx
from support.command import TARGET, Crossdock
from support.docker_registry import DockerRegistry
from support.images import Graph, assert_holds, one_layer_image, push

pytestmark = pytest.mark.real

LAYER = 6_000_000


@dataclass
class Case:
    """An image with one layer, its target behind a fault proxy."""

    command: Crossdock
    source: DockerRegistry
    proxy: FaultProxy
    target: DockerRegistry
    repository: str
    graph: Graph
    layer: str

    @property
    def words(self) -> tuple[str, str]:
        """Source and target reference."""
        return f"{self.source.host}/{self.repository}:v1", f"{self.proxy.host}/{self.repository}:v1"

    def plan(self, match: Callable[[Seen], bool], **fault: object) -> Fault:
        """A fault for the target's requests that match."""
        return self.proxy.add(Fault(match, **fault))  # type: ignore[arg-type]

    def recovers(self, *flags: str) -> dict[str, object]:
        """The copy succeeds, the target is exact and no upload session is left open."""
        result = self.command.copy(*self.words, *flags)
        assert_holds(self.target.remote, self.repository, "v1", self.graph)
        assert result["digest"] == self.graph.root
        return result

    def fails(self, code: int, *flags: str) -> str:
        """The copy fails with this code, names the target, and writes no tag."""
        line = self.command.fail_copy(
            *self.words, *flags, code=code, naming=["target", f"{self.proxy.host}/{self.repository}"]
        )
        assert self.target.remote.tags(self.repository) == []
        return line


@pytest.fixture
def case(
    crossdock: Crossdock,
    source: DockerRegistry,
    target_faults: FaultProxy,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> Case:
    """The image is in the source; no fault is planned yet."""
    image, layer = one_layer_image(builder, LAYER)
    graph = push(source.remote, repository, builder, image, "v1")
    return Case(crossdock, source, target_faults, target, repository, graph, layer.digest)


def large_body(request: Seen) -> bool:
    """The upload of the layer, not of the config."""
    return request.is_upload_body() and request.body_size > 100_000


def manifest_put(request: Seen) -> bool:
    """A PUT of a manifest."""
    return request.method == "PUT" and "/manifests/" in request.path


def test_a_proxy_that_answers_413_above_20_mib_gets_chunks(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    front = nginx.start_body_limit(tmp_path / "nginx", f"http://{target.host}", "20m")
    closing.callback(front.stop)
    layers = [builder.random_layer(45_000_000), builder.random_layer(23_000_000)]
    graph = push(source.remote, repository, builder, builder.image(layers), "v1")
    result = crossdock.copy(f"{source.host}/{repository}:v1", f"{front.host}/{repository}:v1")
    assert_holds(target.remote, repository, "v1", graph)
    assert result["blobs_moved"] == len(graph.blobs)
    statuses = [(entry["method"], entry["status"]) for entry in front.accesses()]
    assert ("PATCH", 202) in statuses
    refused = [s for _, s in statuses if s == 413]
    assert len(refused) <= 4, "what the host refused is remembered"
    assert target.forgotten_sessions(repository) == []


@pytest.mark.parametrize("status", [405, 411])
def test_a_target_that_refuses_one_request_uploads_gets_chunks(case: Case, status: int) -> None:
    case.plan(lambda r: large_body(r) and r.method == "PUT", times=None, answer=Answer(status))
    case.recovers()
    assert case.proxy.count(lambda r: r.method == "PATCH") >= 1


def test_a_target_that_refuses_manifests_is_the_targets_fault(case: Case) -> None:
    body = b'{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"}]}'
    case.plan(manifest_put, times=None, answer=Answer(400, {"Content-Type": "application/json"}, body))
    assert "MANIFEST_INVALID" in case.fails(TARGET)


def test_a_manifest_stored_under_another_digest_is_noticed(case: Case) -> None:
    case.plan(manifest_put, times=None, head=set_header("Docker-Content-Digest", "sha256:" + "0" * 64))
    done = case.command("copy", *case.words, "--progress", "none")
    assert done.code not in (0, 1), str(done)
    assert "target" in done.error


def test_the_tag_is_written_last(case: Case) -> None:
    case.recovers()
    writes = [r for r in case.proxy.seen if r.method in ("PUT", "PATCH", "POST")]
    assert writes[-1].path.endswith("/manifests/v1")


def test_foreign_layers_are_referred_to_and_not_fetched(
    crossdock: Crossdock,
    new_registry: Callable[..., DockerRegistry],
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    allowing = {"manifests": {"urls": {"allow": ["^https?://"]}}}
    source = new_registry("windows", validation=allowing)
    willing = new_registry("willing", validation=allowing)
    foreign = builder.foreign_layer()
    image = builder.image(
        [foreign, builder.random_layer(3000)], "windows/amd64", os_version="10.0.20348.2113"
    )
    graph = push(source.remote, repository, builder, image, "v1")
    reference = f"{source.host}/{repository}:v1"
    result = crossdock.copy(reference, f"{willing.host}/{repository}:v1")
    assert result["bytes_moved"] == graph.blob_bytes
    assert_holds(willing.remote, repository, "v1", graph)
    assert not [a for a in source.accesses() if a.method == "GET" and foreign.digest in a.path]
    crossdock.fail_copy(
        reference,
        f"{target.host}/{repository}:v1",
        *("--retries", "1"),
        code=TARGET,
        naming=["target", f"{target.host}/{repository}"],
    )
    assert target.remote.tags(repository) == []
