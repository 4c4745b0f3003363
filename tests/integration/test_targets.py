"""One source for several targets: it is read once, and no target depends on how another one fares."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Break, Fault, Seen, error
from support.command import AUTH, CANCELLED, DIFFERENT, NOT_FOUND, TARGET, Crossdock
from support.docker_registry import DockerRegistry
from support.embedded import Embedded, start_embedded
from support.faults import wait_set
from support.images import Graph, assert_holds, assert_layout_holds, one_layer_image, push
from support.interrupted import CHUNK, RESUMING, span
from support.interrupted import LAYER as LAYER_IN_CHUNKS
from support.push import Remote

pytestmark = pytest.mark.real

QUIET = ("--output", "json", "--progress", "none")
LAYER = 30_000_000


@pytest.fixture
def image(source: DockerRegistry, repository: str, builder: ImageBuilder) -> Graph:
    """Five large layers and four small ones, in the source."""
    layers = [builder.random_layer(4_000_000 + 1000 * n) for n in range(5)]
    layers += [builder.random_layer(20_000 + n) for n in range(4)]
    return push(source.remote, repository, builder, builder.image(layers), "v1")


@pytest.fixture
def large(source: DockerRegistry, repository: str, builder: ImageBuilder) -> Graph:
    """An image with one layer, in the source."""
    content, _ = one_layer_image(builder, LAYER)
    return push(source.remote, repository, builder, content, "v1")


@pytest.fixture
def embedded(tmp_path: Path, closing: ExitStack) -> Embedded:
    """The embedded registry."""
    return start_embedded(tmp_path, tmp_path / "served", closing)


def blob_bytes(source: FaultProxy) -> int:
    """Bytes of blobs that the source has sent."""
    source.settle()
    return sum(seen.sent for seen in source.seen if seen.is_blob_get())


def statuses(result: dict[str, list[dict[str, str]]]) -> list[str]:
    """How each target ended."""
    return [each["status"] for each in result["targets"]]


def test_the_source_is_read_once_for_two_registries_and_a_layout(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    target: DockerRegistry,
    embedded: Embedded,
    repository: str,
    image: Graph,
    tmp_path: Path,
) -> None:
    layout = tmp_path / "layout"
    words = (
        f"{source_faults.host}/{repository}:v1",
        f"{target.host}/{repository}:v1",
        f"{embedded.host}/{repository}:v2",
        f"oci:{layout}:v3",
    )
    done = crossdock.ok("copy", *words, *QUIET).result
    assert list(done) == ["source", "digest", "source_bytes", "targets"]
    assert (done["source"], done["digest"]) == (words[0], image.root)
    assert [each["target"] for each in done["targets"]] == list(words[1:])
    assert statuses(done) == ["copied"] * 3
    assert [each["error"] for each in done["targets"]] == [None] * 3
    assert [each["bytes_moved"] for each in done["targets"]] == [image.blob_bytes] * 3
    assert done["source_bytes"] == blob_bytes(source_faults) == image.blob_bytes
    assert source_faults.count(lambda r: r.method == "GET" and "/manifests/" in r.path) == 1
    assert_holds(target.remote, repository, "v1", image)
    assert_holds(embedded.remote, repository, "v2", image)
    assert_layout_holds(layout, image, "v3")
    again = crossdock.ok("copy", *words, *QUIET).result
    assert (statuses(again), again["source_bytes"]) == (["unchanged"] * 3, 0)


def test_every_target_gets_only_what_it_lacks(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    target: DockerRegistry,
    embedded: Embedded,
    repository: str,
    image: Graph,
) -> None:
    name = f"{source_faults.host}/{repository}:v1"
    crossdock.ok("copy", name, f"{target.host}/{repository}:v1", *QUIET)
    before = blob_bytes(source_faults)
    targets = [f"{target.host}/{repository}:v2", f"{target.host}/{repository}/other:v1"]
    done = crossdock.ok("copy", name, *targets, f"{embedded.host}/{repository}:v1", *QUIET).result
    first, second, third = done["targets"]
    assert (first["bytes_moved"], first["bytes_skipped"]) == (0, image.blob_bytes)
    assert second["bytes_moved"] + second["bytes_mounted"] == image.blob_bytes
    assert third["bytes_moved"] == image.blob_bytes
    assert done["source_bytes"] == blob_bytes(source_faults) - before == image.blob_bytes


def test_the_second_repository_of_one_registry_mounts_what_the_first_got(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    target: DockerRegistry,
    embedded: Embedded,
    repository: str,
    image: Graph,
) -> None:
    targets = (
        f"{target.host}/{repository}/one:v1",
        f"{target.host}/{repository}/two:v1",
        f"{embedded.host}/{repository}:v1",
    )
    done = crossdock.ok("copy", f"{source_faults.host}/{repository}:v1", *targets, *QUIET).result
    assert statuses(done) == ["copied"] * 3
    assert done["source_bytes"] == blob_bytes(source_faults) == image.blob_bytes
    one, two, _ = done["targets"]
    assert one["bytes_moved"] + two["bytes_moved"] == image.blob_bytes
    assert one["bytes_mounted"] + two["bytes_mounted"] == image.blob_bytes
    assert_holds(target.remote, f"{repository}/two", "v1", image)


def test_a_target_that_refuses_does_not_end_the_others(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    target: DockerRegistry,
    target_faults: FaultProxy,
    embedded: Embedded,
    repository: str,
    image: Graph,
) -> None:
    target_faults.add(Fault(lambda r: r.is_upload_start(), times=None, answer=error(403)))
    words = (
        f"{source_faults.host}/{repository}:v1",
        f"{target_faults.host}/{repository}:v1",
        f"{embedded.host}/{repository}:v1",
    )
    done = crossdock("copy", *words, *QUIET)
    assert done.code == AUTH, str(done)
    result = json.loads(done.stdout)
    assert statuses(result) == ["failed", "copied"]
    assert result["targets"][0]["error"]["exit_code"] == AUTH
    assert result["source_bytes"] == image.blob_bytes
    assert_holds(embedded.remote, repository, "v1", image)
    assert target.remote.tags(repository) == []


def test_a_target_whose_connections_break_in_mid_blob_fails_alone(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    target_faults: FaultProxy,
    embedded: Embedded,
    repository: str,
    large: Graph,
    tmp_path: Path,
) -> None:
    target_faults.add(
        Fault(lambda r: r.is_upload_body(), times=None, breaks=Break("reset", "request", 5_000_000))
    )
    words = (
        f"{source_faults.host}/{repository}:v1",
        f"{embedded.host}/{repository}:v1",
        f"{target_faults.host}/{repository}:v1",
        f"oci:{tmp_path / 'layout'}:v1",
    )
    done = crossdock("copy", *words, *QUIET, "--retries", "0")
    assert done.code == TARGET, str(done)
    assert statuses(json.loads(done.stdout)) == ["copied", "failed", "copied"]
    assert_holds(embedded.remote, repository, "v1", large)
    assert_layout_holds(tmp_path / "layout", large, "v1")


def test_one_broken_connection_costs_that_target_alone_a_read_of_its_own(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    target: DockerRegistry,
    target_faults: FaultProxy,
    embedded: Embedded,
    repository: str,
    large: Graph,
) -> None:
    is_layer = lambda r: r.is_upload_body() and r.body_size > 1_000_000  # noqa: E731
    target_faults.add(Fault(is_layer, breaks=Break("reset", "request", 5_000_000)))
    words = (
        f"{source_faults.host}/{repository}:v1",
        f"{target_faults.host}/{repository}:v1",
        f"{embedded.host}/{repository}:v1",
    )
    done = crossdock.ok("copy", *words, *QUIET).result
    assert [each["error"] for each in done["targets"]] == [None, None]
    assert done["targets"][0]["retries"] >= 1
    assert done["targets"][1]["retries"] == 0
    assert large.blob_bytes < done["source_bytes"] <= 2 * large.blob_bytes
    assert_holds(target.remote, repository, "v1", large)
    assert_holds(embedded.remote, repository, "v1", large)


def test_targets_that_fail_differently_and_a_source_that_has_nothing(
    crossdock: Crossdock,
    source: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
    image: Graph,
    tmp_path: Path,
) -> None:
    target_faults.add(Fault(lambda r: r.is_upload_start(), times=None, answer=error(403)))
    words = f"{target_faults.host}/{repository}:v1", "127.0.0.1:1/none:v1"
    done = crossdock("copy", f"{source.host}/{repository}:v1", *words, *QUIET, "--retries", "0")
    assert done.code == DIFFERENT, str(done)
    assert statuses(json.loads(done.stdout)) == ["failed", "failed"]
    layouts = [f"oci:{tmp_path / name}:v1" for name in "ab"]
    done = crossdock("copy", f"{source.host}/{repository}:gone", *layouts, *QUIET)
    assert done.code == NOT_FOUND, str(done)
    assert (json.loads(done.stdout)["digest"], json.loads(done.stdout)["source_bytes"]) == ("", 0)


def test_a_slow_target_is_left_behind_and_the_others_end_before_it(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    target: DockerRegistry,
    target_faults: FaultProxy,
    embedded: Embedded,
    fault_proxy: Callable[..., FaultProxy],
    repository: str,
    large: Graph,
) -> None:
    target_faults.add(Fault(lambda r: r.is_upload_body(), times=None, rate=4_000_000))
    quick = fault_proxy(embedded.host)
    words = (
        f"{source_faults.host}/{repository}:v1",
        f"{target_faults.host}/{repository}:v1",
        f"{quick.host}/{repository}:v1",
    )
    # A target's queue is a sixteenth of the memory at most.
    done = crossdock.ok("copy", *words, *QUIET, "--memory", "16MiB").result
    assert statuses(done) == ["left_behind", "copied"]
    assert large.blob_bytes < done["source_bytes"] <= 2 * large.blob_bytes
    tagged = [
        max(seen.ended_at for seen in proxy.seen if seen.method == "PUT" and "/manifests/" in seen.path)
        for proxy in (quick, target_faults)
    ]
    assert tagged == sorted(tagged)
    assert_holds(target.remote, repository, "v1", large)
    assert_holds(embedded.remote, repository, "v1", large)


def test_with_a_spool_the_source_is_read_once_even_for_a_target_left_behind(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    target: DockerRegistry,
    target_faults: FaultProxy,
    embedded: Embedded,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    content, _ = one_layer_image(builder, 20_000_000)
    image = push(Remote(source_faults.upstream), repository, builder, content, "v1")
    target_faults.add(Fault(lambda r: r.is_upload_body(), times=None, rate=4_000_000))
    words = (
        f"{source_faults.host}/{repository}:v1",
        f"{target_faults.host}/{repository}:v1",
        f"{embedded.host}/{repository}:v1",
    )
    spool = tmp_path / "spool"
    done = crossdock.ok("copy", *words, *QUIET, "--memory", "16MiB", "--spool", spool).result
    assert statuses(done) == ["left_behind", "copied"]
    assert done["source_bytes"] == blob_bytes(source_faults) == image.blob_bytes
    first, second = done["targets"]
    assert first["bytes_spooled"] > 0
    assert second["bytes_spooled"] == 0
    assert list(spool.glob("*.spool")) == []
    assert_holds(target.remote, repository, "v1", image)
    assert_holds(embedded.remote, repository, "v1", image)


def test_a_silent_target_does_not_hold_the_others(
    crossdock: Crossdock,
    source: DockerRegistry,
    target_faults: FaultProxy,
    embedded: Embedded,
    repository: str,
    large: Graph,
) -> None:
    target_faults.add(Fault(lambda r: r.method == "HEAD", times=None, breaks=Break("stall", "request")))
    words = (
        f"{source.host}/{repository}:v1",
        f"{target_faults.host}/{repository}:v1",
        f"{embedded.host}/{repository}:v1",
    )
    done = crossdock("copy", *words, *QUIET, "--retries", "0", "--timeout", "15s")
    assert done.code == TARGET, str(done)
    result = json.loads(done.stdout)
    assert statuses(result) == ["failed", "copied"]
    assert result["source_bytes"] == large.blob_bytes
    assert result["targets"][1]["seconds"] < result["targets"][0]["seconds"]


def test_ctrl_c_deletes_the_sessions_of_every_target(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    target_faults: FaultProxy,
    new_registry: Callable[[], DockerRegistry],
    fault_proxy: Callable[..., FaultProxy],
    repository: str,
    large: Graph,
) -> None:
    second = new_registry()
    other = fault_proxy(second.host)
    stalls = [
        proxy.add(Fault(lambda r: r.is_upload_body(), times=None, breaks=Break("stall", "request", 200)))
        for proxy in (target_faults, other)
    ]
    words = [f"{host}/{repository}:v1" for host in (source.host, target_faults.host, other.host)]
    with crossdock.start("copy", *words, *QUIET) as running:
        for stall in stalls:
            wait_set(stall.reached, "the upload to begin")
        running.interrupt()
        done = running.finish()
    assert done.code == CANCELLED, str(done)
    assert statuses(json.loads(done.stdout)) == ["cancelled", "cancelled"]
    for proxy in (target_faults, other):
        opened = proxy.count(lambda r: r.is_upload_start())
        deleted = proxy.count(lambda r: r.method == "DELETE" and "/blobs/uploads/" in r.path)
        assert (opened >= 1, deleted) == (True, opened)
    for registry in (target, second):
        assert registry.forgotten_sessions(repository) == []
        assert registry.remote.tags(repository) == []


def test_after_a_kill_every_target_resumes_its_own_upload(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    target: DockerRegistry,
    target_faults: FaultProxy,
    embedded: Embedded,
    fault_proxy: Callable[..., FaultProxy],
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    content, _ = one_layer_image(builder, LAYER_IN_CHUNKS)
    image = push(Remote(source_faults.upstream), repository, builder, content, "v1")
    other = fault_proxy(embedded.host)
    hosts = source_faults.host, target_faults.host, other.host
    words = ("copy", *(f"{host}/{repository}:v1" for host in hosts), "--state", tmp_path / "state")

    def is_chunk(seen: Seen) -> bool:
        return seen.method == "PATCH" and "/blobs/uploads/" in seen.path

    with crossdock.start(*words, *RESUMING, *QUIET) as running:
        target_faults.add(
            Fault(
                lambda r: is_chunk(r) and span(r)[0] == 3 * CHUNK,
                answer=error(503),
                when_reached=lambda: running.interrupt(signal.SIGKILL),
            )
        )
        assert running.finish().code == -signal.SIGKILL
    done = crossdock.ok(*words, *RESUMING, *QUIET).result
    first, second = done["targets"]
    assert (first["uploads_resumed"], first["bytes_resumed"]) == (1, 3 * CHUNK)
    assert second["uploads_resumed"] == 1
    assert done["source_bytes"] <= LAYER_IN_CHUNKS - CHUNK, "what both have is not read again"
    for proxy in (target_faults, other):
        proxy.settle()
        sent = sum(seen.received for seen in proxy.seen if is_chunk(seen))
        assert sent - LAYER_IN_CHUNKS <= CHUNK
    assert_holds(target.remote, repository, "v1", image)
    assert_holds(embedded.remote, repository, "v1", image)


def test_lines_of_a_list_may_have_several_targets(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    target: DockerRegistry,
    embedded: Embedded,
    repository: str,
    image: Graph,
    tmp_path: Path,
) -> None:
    name = f"{source_faults.host}/{repository}:v1"
    good = [f"{target.host}/{repository}:a", f"{embedded.host}/{repository}:a"]
    layout, bad = f"oci:{tmp_path / 'layout'}:v1", "127.0.0.1:1/none:v1"
    path = tmp_path / "list"
    path.write_text(f"{name} {good[0]} {bad} {good[1]}\n{name} {layout}\n")
    done = crossdock("copy", "--from-file", path, *QUIET, "--retries", "0")
    assert done.code == TARGET, str(done)
    result = json.loads(done.stdout)
    first, second = result["copies"]
    assert list(first) == ["source", "digest", "source_bytes", "targets"]
    assert (first["digest"], statuses(first)) == (image.root, ["copied", "failed", "copied"])
    assert first["source_bytes"] == image.blob_bytes
    assert (second["target"], statuses(second)) == (layout, ["copied"])
    assert result["not_copied"] == [f"{name} {bad}"]
    assert (result["totals"]["copies"], result["totals"]["copied"], result["totals"]["failed"]) == (4, 3, 1)
    assert_holds(target.remote, repository, "a", image)
    assert_holds(embedded.remote, repository, "a", image)
    assert_layout_holds(tmp_path / "layout", image, "v1")


def test_ctrl_c_keeps_and_names_the_large_uploads_of_every_target_and_deletes_the_others(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    embedded: Embedded,
    fault_proxy: Callable[..., FaultProxy],
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    small = builder.random_layer(CHUNK)  # too small for `--resume-above`
    content = builder.image([builder.random_layer(LAYER_IN_CHUNKS), small])
    image = push(Remote(source_faults.upstream), repository, builder, content, "v1")
    proxies = [fault_proxy(embedded.host) for _ in range(2)]
    words = (
        "copy",
        f"{source_faults.host}/{repository}:v1",
        *(f"{proxy.host}/{repository}/{n}:v1" for n, proxy in enumerate(proxies)),
        *("--state", tmp_path / "state", *RESUMING, *QUIET),
    )

    def is_chunk(seen: Seen) -> bool:
        return seen.method == "PATCH" and "content-range" in seen.headers and seen.body_size == CHUNK

    def is_small(seen: Seen) -> bool:
        return seen.is_upload_body() and "content-range" not in seen.headers and seen.body_size == CHUNK

    faults = [
        proxy.add(fault)
        for proxy in proxies
        for fault in (
            Fault(lambda r: is_chunk(r) and span(r)[0] == 2 * CHUNK, rate=2 * CHUNK),
            Fault(is_small, breaks=Break("stall", "request", CHUNK // 2)),
        )
    ]
    with crossdock.start(*words) as running:
        for fault in faults:
            wait_set(fault.reached, "the third chunk, and the small layer")
        running.interrupt()
        done = running.finish()
    assert done.code == CANCELLED, str(done)
    assert done.stderr.count("12.0 MiB of 22.0 MiB") == 2
    for proxy in proxies:
        (begun,) = [seen for seen in proxy.seen if is_small(seen)]
        deleted = [seen.path for seen in proxy.seen if seen.method == "DELETE"]
        assert [path.partition("?")[0] for path in deleted] == [begun.path.partition("?")[0]]
    again = crossdock.ok(*words).result
    assert [each["bytes_resumed"] for each in again["targets"]] == [3 * CHUNK] * 2
    for number, proxy in enumerate(proxies):
        proxy.settle()
        sent = [
            span(seen) for seen in proxy.seen if seen.method == "PATCH" and "content-range" in seen.headers
        ]
        assert sum(stop - start for start, stop in sent) == LAYER_IN_CHUNKS
        assert_holds(embedded.remote, f"{repository}/{number}", "v1", image)
