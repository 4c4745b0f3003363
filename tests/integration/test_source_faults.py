"""Sources that break, lie, stall, redirect or do not know ranges: recovered from, or said plainly."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Break, Fault, expired_url
from support import nginx
from support.command import VERIFICATION, Crossdock
from support.docker_registry import DockerRegistry, htpasswd_file
from support.images import Graph, assert_holds, one_layer_image, push
from support.nginx import Nginx

pytestmark = pytest.mark.real

LAYER = 6_000_000
SMALL_CHUNKS = ("--chunk-size", "1MiB", "--connections", "4")


@dataclass
class Case:
    """An image with one layer of six chunks, behind a fault proxy."""

    command: Crossdock
    proxy: FaultProxy
    target: DockerRegistry
    repository: str
    graph: Graph
    layer: str

    @property
    def words(self) -> tuple[str, str]:
        """Source and target reference."""
        return f"{self.proxy.host}/{self.repository}:v1", f"{self.target.host}/{self.repository}:v1"

    def plan(self, **fault: object) -> Fault:
        """A fault for GETs of the layer."""
        return self.proxy.add(Fault(lambda request: request.is_blob_get(self.layer), **fault))  # type: ignore[arg-type]

    def recovers(self, *flags: str) -> dict[str, object]:
        """The copy succeeds and the target is exact."""
        result = self.command.copy(*self.words, *SMALL_CHUNKS, *flags)
        assert_holds(self.target.remote, self.repository, "v1", self.graph)
        assert result["bytes_moved"] == self.graph.blob_bytes
        return result

    def fails(self, code: int, *flags: str) -> str:
        """The copy fails with this code, names the source, and leaves nothing at the target."""
        line = self.command.fail_copy(
            *self.words,
            *SMALL_CHUNKS,
            *flags,
            code=code,
            naming=["source", f"{self.proxy.host}/{self.repository}"],
        )
        self.nothing_left()
        return line

    def nothing_left(self) -> None:
        """No tag, no blob, no upload session at the target."""
        assert self.target.remote.tags(self.repository) == []
        assert not self.target.remote.has_blob(self.repository, self.layer)
        assert self.target.forgotten_sessions(self.repository) == []


@pytest.fixture
def case(
    crossdock: Crossdock,
    source: DockerRegistry,
    source_faults: FaultProxy,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> Case:
    """The image is in the source; no fault is planned yet."""
    image, layer = one_layer_image(builder, LAYER)
    graph = push(source.remote, repository, builder, image, "v1")
    return Case(crossdock, source_faults, target, repository, graph, layer.digest)


# -- recovered from ----------------------------------------------------------------------------------


def test_a_body_cut_once_resumes_at_its_own_offset(case: Case) -> None:
    fault = case.plan(breaks=Break("close", at=300_000))
    result = case.recovers()
    assert fault.reached.is_set()
    assert result["retries"] == 1
    # 300,000 bytes were good: asking for them again would be a restart, not a resume.
    assert int(str(result["bytes_requested"])) < case.graph.blob_bytes + (1 << 20)


def test_bodies_cut_every_time_still_arrive_while_each_brings_something(case: Case) -> None:
    case.plan(times=None, breaks=Break("close", at=400_000))
    case.recovers("--retries", "2")


@pytest.mark.parametrize("status", [429, 503])
def test_a_source_that_refuses_more_connections_is_asked_by_fewer(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
    status: int,
) -> None:
    image = builder.image([builder.random_layer(4_000_000 + number) for number in range(6)])
    graph = push(source.remote, repository, builder, image, "v1")
    front = nginx.start_connection_limit(tmp_path / "nginx", f"http://{source.host}", 1, status)
    try:
        result = crossdock.copy(f"{front.host}/{repository}:v1", f"{target.host}/{repository}:v1")
        refused = [entry for entry in front.accesses() if entry["status"] == status]
    finally:
        front.stop()
    assert_holds(target.remote, repository, "v1", graph)
    assert 0 < len(refused) < 30
    assert result["bytes_requested"] == graph.blob_bytes


def test_a_source_that_ignores_ranges_is_read_once_as_one_stream(
    case: Case, source: DockerRegistry, tmp_path: Path, closing: ExitStack
) -> None:
    front = nginx.start_range_stripper(tmp_path / "nginx", f"http://{source.host}")
    closing.callback(front.stop)
    mark = source.mark()
    result = case.command.copy(f"{front.host}/{case.repository}:v1", case.words[1], *SMALL_CHUNKS)
    assert_holds(case.target.remote, case.repository, "v1", case.graph)
    assert result["bytes_moved"] == case.graph.blob_bytes
    reads = [a for a in source.accesses(mark) if a.method == "GET" and case.layer in a.path]
    assert [a.status for a in reads] == [200]


def test_a_source_that_ignores_ranges_and_breaks_once_is_recovered(
    case: Case, source: DockerRegistry, tmp_path: Path
) -> None:
    case.plan(strip_range=True, breaks=Break("close", at=2_500_000))
    case.proxy.add(Fault(lambda r: r.is_blob_get(case.layer), times=None, strip_range=True))
    case.recovers()


# -- redirects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
def test_a_redirect_to_another_host_never_carries_authorization(
    address: str,
    crossdock: Crossdock,
    new_registry: Callable[..., DockerRegistry],
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    path = htpasswd_file(tmp_path / "htpasswd", "ann", "s3cret")
    private = new_registry(auth={"htpasswd": {"realm": "here", "path": str(path)}}, basic="ann:s3cret")
    image, layer = one_layer_image(builder, LAYER)
    graph = push(private.remote, repository, builder, image, "v1")
    front, behind = nginx.start_redirector(
        tmp_path / "nginx", f"http://{private.host}", private.storage, address
    )
    closing.callback(front.stop)
    closing.callback(behind.stop)
    done = crossdock.ok(
        "copy",
        f"{front.host}/{repository}:v1",
        f"{target.host}/{repository}:v1",
        *SMALL_CHUNKS,
        *("--src-creds-stdin", "--progress", "plain", "--output", "json"),
        stdin="ann:s3cret\n",
    )
    assert_holds(target.remote, repository, "v1", graph)
    reads = [entry for entry in behind.accesses() if layer.digest in str(entry["uri"])]
    assert reads
    assert {str(entry["authorization"]) for entry in behind.accesses()} == {""}
    assert all(entry["status"] == 206 for entry in reads)
    assert len(redirected(front, layer.digest)) == 1, "the redirect is resolved once for all parts"
    assert "not-to-be-logged" not in done.stdout + done.stderr


def redirected(front: Nginx, digest: str) -> list[dict[str, object]]:
    """The blob's requests that the first nginx sent on."""
    return [e for e in front.accesses() if digest in str(e["uri"]) and e["status"] == 307]


def test_a_signed_url_that_expires_is_resolved_again(case: Case, source: DockerRegistry) -> None:
    """The storage answers 403 to the third range, as S3 does for an expired signature."""
    storage = case.proxy
    front = FaultProxy(source.host)
    try:
        path = f"/v2/{case.repository}/blobs/{case.layer}"
        front.add(
            Fault(
                lambda r: r.is_blob_get(case.layer),
                times=None,
                answer=Answer(307, {"Location": f"http://{storage.host}{path}?sig=x"}),
            )
        )
        storage.add(Fault(lambda r: r.is_blob_get(case.layer), nth=3, answer=expired_url()))
        case.command.copy(f"{front.host}/{case.repository}:v1", case.words[1], *SMALL_CHUNKS)
        assert_holds(case.target.remote, case.repository, "v1", case.graph)
        assert front.count(lambda r: r.is_blob_get(case.layer)) == 2
    finally:
        front.close()


# -- said plainly ------------------------------------------------------------------------------------


def test_a_manifest_that_is_wrong_once_is_fetched_again(case: Case) -> None:
    other = case.graph.manifests[case.graph.root][1].replace(b'"schemaVersion":2', b'"schemaVersion":3')
    kind = {"Content-Type": case.graph.media_type, "Docker-Content-Digest": case.graph.root}
    case.proxy.add(Fault("GET */manifests/*", answer=Answer(200, kind, other)))
    assert case.recovers()["retries"] == 1


def test_a_blob_that_is_shorter_than_promised_is_caught(case: Case, source: DockerRegistry) -> None:
    file = source.blob_file(case.layer)
    data = file.read_bytes()
    file.write_bytes(data[:-1000])
    case.fails(VERIFICATION, "--retries", "1")


def test_a_blob_that_is_longer_than_promised_is_caught(case: Case, source: DockerRegistry) -> None:
    with source.blob_file(case.layer).open("ab") as file:
        file.write(b"more")
    case.fails(VERIFICATION, "--retries", "1")


def test_html_for_a_blob_is_not_taken_for_it(case: Case) -> None:
    body = b"<html>please log in</html>"
    case.plan(times=None, answer=Answer(200, {"Content-Type": "text/html"}, body))
    case.fails(VERIFICATION, "--retries", "1")
