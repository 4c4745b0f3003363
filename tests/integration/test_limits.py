"""Limits on bytes and requests a second, by real copies: none is faster. Slower is the machine's business."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

import crossdock
from crossdock import CopyOptions, HostLimits, NetworkOptions, Session
from crossdock.imagebuilder import ImageBuilder
from crossdock.limits import BURST_S, PART_S
from crossdock_testing.faultproxy import FaultProxy
from support.command import Crossdock
from support.docker_registry import DockerRegistry
from support.images import one_layer_image, push

pytestmark = pytest.mark.real

MiB = 1 << 20
LAYER = 6 * MiB
RATE = 3 * MiB
OPTIONS = CopyOptions(network=NetworkOptions(timeout=20), environ={})


@pytest.fixture
def image(source: DockerRegistry, repository: str, builder: ImageBuilder) -> str:
    """An image of one large layer."""
    push(source.remote, repository, builder, one_layer_image(builder, LAYER)[0], "v1")
    return f"{source.host}/{repository}:v1"


@pytest.fixture
def images(source: DockerRegistry, repository: str, builder: ImageBuilder) -> list[str]:
    """Twelve images of a small layer each."""
    for number in range(12):
        content = builder.image([builder.random_layer(MiB // 2)])
        push(source.remote, repository, builder, content, f"v{number}")
    return [f"{source.host}/{repository}:v{number}" for number in range(12)]


def assert_within(count: float, per_second: float, seconds: float, at_once: float) -> None:
    """`count` in `seconds`, of which a burst and `at_once` may come before any time has passed."""
    assert count - at_once <= per_second * (seconds + BURST_S) * 1.01


@pytest.mark.parametrize("verify", ["stream", "target", "reread"])
async def test_a_copy_is_not_faster_than_its_limit(
    image: str, target: DockerRegistry, repository: str, verify: crossdock.options.Verify
) -> None:
    async with Session(replace(OPTIONS, limit_rate=RATE, verify=verify)) as session:
        run = session.copy(image, f"{target.host}/{repository}:v1")
        task = asyncio.ensure_future(run)
        reasons = set()
        while not task.done():
            await asyncio.wait([task], timeout=0.1)
            reasons.add(run.totals.limited_by)
        result = await task
    assert result.bytes_moved > LAYER
    times = 2 if verify == "reread" else 1  # what is read back counts as well
    assert_within(result.bytes_moved * times, RATE, result.seconds, PART_S * RATE + MiB)
    assert "rate limit" in reasons
    assert await crossdock.list_tags(f"{target.host}/{repository}") == ["v1"]


async def test_layouts_keep_to_it_as_well(
    image: str, target: DockerRegistry, repository: str, tmp_path: Path
) -> None:
    options = replace(OPTIONS, limit_rate=RATE)
    for source, there in (
        (image, f"oci:{tmp_path}/layout:v1"),
        (f"oci:{tmp_path}/layout:v1", f"{target.host}/{repository}/from-layout:v1"),
    ):
        result = await crossdock.copy(source, there, options)
        assert_within(result.bytes_moved, RATE, result.seconds, PART_S * RATE + MiB)


async def test_all_copies_of_a_run_share_it(
    images: list[str], target: DockerRegistry, repository: str
) -> None:
    pairs = [(each, f"{target.host}/{repository}/shared:{number}") for number, each in enumerate(images)]
    result = await crossdock.copy_many(pairs, replace(OPTIONS, limit_rate=RATE))
    assert_within(result.totals()["bytes_moved"], RATE, result.seconds, MiB)


@pytest.mark.parametrize("limited", ["source", "target"])
async def test_a_registry_has_a_limit_of_its_own(
    images: list[str], source: DockerRegistry, target: DockerRegistry, repository: str, limited: str
) -> None:
    host = source.host if limited == "source" else target.host
    options = replace(
        OPTIONS, limit_hosts={host: HostLimits(bytes_per_second=RATE), "x.example": HostLimits()}
    )
    pairs = [(each, f"{target.host}/{repository}/own:{number}") for number, each in enumerate(images)]
    result = await crossdock.copy_many(pairs, options)
    assert_within(result.totals()["bytes_moved"], RATE, result.seconds, MiB)


async def test_requests_are_no_more_than_their_limits(
    images: list[str],
    source: DockerRegistry,
    source_faults: FaultProxy,
    target_faults: FaultProxy,
    repository: str,
) -> None:
    """Those to all registries together, and those to one of them."""
    options = replace(
        OPTIONS,
        limit_requests=40,
        limit_hosts={source_faults.host: HostLimits(requests_per_second=10)},
    )
    pairs = [
        (each.replace(source.host, source_faults.host), f"{target_faults.host}/{repository}/slow:{number}")
        for number, each in enumerate(images)
    ]
    began = time.monotonic()
    result = await crossdock.copy_many(pairs, options)
    seconds = time.monotonic() - began
    assert result.failure is None
    at_source, at_target = len(source_faults.seen), len(target_faults.seen)
    assert at_source > 20
    assert_within(at_source, 10, seconds, 1)
    assert_within(at_source + at_target, 40, seconds, 1)


async def test_connections_to_a_registry_are_no_more_than_its_limit(
    images: list[str],
    image: str,
    source: DockerRegistry,
    source_faults: FaultProxy,
    target_faults: FaultProxy,
    repository: str,
) -> None:
    hosts = {each.host: HostLimits(connections=2) for each in (source_faults, target_faults)}
    pairs = [
        (each.replace(source.host, source_faults.host), f"{target_faults.host}/{repository}/few:{number}")
        for number, each in enumerate([image, *images])
    ]
    result = await crossdock.copy_many(pairs, replace(OPTIONS, limit_hosts=hosts))
    assert [each.error for each in result.copies if each.error] == []
    # One more has asked each whether it speaks TLS.
    assert source_faults._connections <= 3 + result.totals()["retries"]
    assert target_faults._connections <= 3 + result.totals()["retries"]


def test_the_command_has_flags_for_them(
    crossdock: Crossdock, image: str, target: DockerRegistry, repository: str
) -> None:
    began = time.monotonic()
    done = crossdock(
        *("copy", image, f"{target.host}/{repository}:v1"),
        *("--limit-rate", "3MiB", "--limit-requests", "100"),
    )
    assert done.code == 0, done
    assert_within(LAYER, RATE, time.monotonic() - began, PART_S * RATE + MiB)
    refused = crossdock("copy", image, f"{target.host}/{repository}:v1", "--limit-rate", "0")
    assert (refused.code, "--limit-rate" in refused.stderr) == (2, True)


def test_a_migration_keeps_to_the_limits_of_its_file(
    crossdock: Crossdock, image: str, target: DockerRegistry, repository: str, tmp_path: Path
) -> None:
    source = image.rpartition("/")[0]
    name = repository.rpartition("/")[2]
    mirror = {"source": source, "targets": [f"{target.host}/by-file"], "repositories": {"include": [name]}}
    limits = {"hosts": {source.partition("/")[0]: {"bytes_per_second": "3MiB"}}}
    content = json.dumps({"version": 1, "limits": limits, "mirrors": [mirror]})  # which is YAML
    (tmp_path / "m.yaml").write_text(content)
    began = time.monotonic()
    done = crossdock("apply", tmp_path / "m.yaml", "--output", "json")
    assert done.code == 0, done
    moved = json.loads(done.stdout)["totals"]["bytes_moved"]
    assert moved > LAYER
    assert_within(moved, RATE, time.monotonic() - began, PART_S * RATE + MiB)
