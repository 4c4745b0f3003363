"""`--verify target`: bytes that crossdock does not read, between real registries with faults."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Break, Fault, Seen
from support.command import TARGET, Crossdock
from support.docker_registry import DockerRegistry
from support.images import Graph, assert_holds, one_layer_image, push

pytestmark = pytest.mark.real

LAYER = 24_000_001
SOURCE_FAULTS = [
    Break("close", at=1_300_000),
    Break("reset", at=3_000_001),
    Break("stall", at=2_500_000),
]
TARGET_FAULTS = [
    Break("reset", "request", 5_000_003),
    Break("stall", "request", 9_000_000),
    Break("reset", "request", 1),
]


@dataclass
class Case:
    """An image with one layer between two fault proxies."""

    command: Crossdock
    source: FaultProxy
    proxy: FaultProxy
    target: DockerRegistry
    repository: str
    graph: Graph
    layer: str

    @property
    def words(self) -> tuple[str, ...]:
        """Source, target and the flags of all tests here."""
        places = (self.source.host, self.proxy.host)
        return *(f"{place}/{self.repository}:v1" for place in places), "--verify", "target"

    def recovers(self, *flags: str) -> dict[str, object]:
        """The copy succeeds, and the target is exact."""
        result = self.command.copy(*self.words, *flags)
        assert_holds(self.target.remote, self.repository, "v1", self.graph)
        return result


@pytest.fixture
def case(
    crossdock: Crossdock,
    source: DockerRegistry,
    source_faults: FaultProxy,
    target_faults: FaultProxy,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> Case:
    """The image is in the source; no fault is planned yet."""
    image, layer = one_layer_image(builder, LAYER)
    graph = push(source.remote, repository, builder, image, "v1")
    return Case(crossdock, source_faults, target_faults, target, repository, graph, layer.digest)


def large_body(request: Seen) -> bool:
    """The upload of the layer, or of a chunk of it."""
    return request.is_upload_body() and request.body_size > 100_000


@pytest.mark.parametrize("fault", SOURCE_FAULTS, ids=lambda fault: f"{fault.how} at {fault.at}")
def test_the_rest_is_requested_from_a_source_that_breaks(case: Case, fault: Break) -> None:
    planned = case.source.add(Fault(lambda r: r.is_blob_get(case.layer), breaks=fault))
    result = case.recovers("--timeout", "3s")
    assert planned.reached.is_set()
    assert int(str(result["retries"])) >= 1


@pytest.mark.parametrize("chunks", [(), ("--resume-above", "1MiB", "--upload-chunk", "8MiB")])
@pytest.mark.parametrize("fault", TARGET_FAULTS, ids=lambda fault: f"{fault.how} at {fault.at}")
def test_a_target_that_breaks_is_given_the_bytes_again(
    case: Case, fault: Break, chunks: tuple[str, ...]
) -> None:
    # A chunk is shortened to what the source brought in time: on a busy machine to a few hundred KB.
    fault = Break(fault.how, fault.where, min(fault.at or 0, 50_000) if chunks else fault.at)
    planned = case.proxy.add(Fault(large_body, breaks=fault))
    case.recovers("--timeout", "3s", *chunks)
    assert planned.reached.is_set()
    if not chunks:  # docker-registry 2.8 cannot drop a session whose chunk was cut
        assert case.target.forgotten_sessions(case.repository) == []


def test_a_bit_that_flips_once_costs_another_try(case: Case) -> None:
    planned = case.source.add(Fault(lambda r: r.is_blob_get(case.layer), flip_at=1_234_567))
    result = case.recovers()
    assert planned.reached.is_set()
    assert int(str(result["retries"])) >= 1


def test_a_bit_that_flips_every_time_is_found_by_the_target(case: Case) -> None:
    case.source.add(Fault(lambda r: r.is_blob_get(case.layer), times=None, flip_at=1_234_567))
    line = case.command.fail_copy(*case.words, code=TARGET, naming=["target", case.repository])
    assert "DIGEST_INVALID" in line
    assert case.target.remote.tags(case.repository) == []
