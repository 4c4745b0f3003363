"""``--shard`` of apply and mirror: together the shards do what one process does, and none does it twice."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import ImageBuilder
from support.command import Crossdock
from support.docker_registry import DockerRegistry
from support.embedded import start_embedded
from support.images import one_layer_image, push

pytestmark = pytest.mark.real

QUIET = ("--output", "json", "--progress", "none")
COUNT = 3
NAMES = [f"r{number}" for number in range(8)]


@pytest.fixture
def places(
    source: DockerRegistry, target: DockerRegistry, repository: str, builder: ImageBuilder
) -> tuple[str, str]:
    """A source of repositories with two images each, of different sizes, and an empty target."""
    for number, name in enumerate(NAMES):
        for tag in ("v1", "v2"):
            image = one_layer_image(builder, 3000 * (number + 1))[0]
            push(source.remote, f"{repository}/{name}", builder, image, tag)
    return f"{source.host}/{repository}", f"{target.host}/copy/{repository}"


def write(path: Path, places: tuple[str, str], **more: Any) -> str:
    entry = {"name": "team", "source": places[0], "targets": [places[1]], **more}
    path.write_text(json.dumps({"version": 1, "mirrors": [entry]}))
    return str(path)


def pushed(target: DockerRegistry, repository: str) -> list[str]:
    """The repositories, once for each manifest that was pushed."""
    puts = [each.path for each in target.accesses() if each.method == "PUT" and "/manifests/" in each.path]
    start = f"/v2/copy/{repository}/"
    return [each.removeprefix(start).partition("/")[0] for each in puts if each.startswith(start)]


def test_shards_of_apply_copy_everything_once(
    crossdock: Crossdock, target: DockerRegistry, repository: str, places: tuple[str, str], tmp_path: Path
) -> None:
    file = write(tmp_path / "m.yaml", places)
    results = [
        crossdock.ok("apply", file, *QUIET, "--shard", f"{index}/{COUNT}").result for index in range(COUNT)
    ]
    assert Counter(pushed(target, repository)) == dict.fromkeys(NAMES, 2)
    assert sum(each["totals"]["copied"] for each in results) == 2 * len(NAMES)
    assert [each["shard"] for each in results] == [f"{index}/{COUNT}" for index in range(COUNT)]
    assert len({each["run"] for each in results}) == COUNT
    runs = json.loads(crossdock.ok("runs", "list", "--output", "json").stdout)["runs"]
    assert {each["file"] for each in runs} == {f"{file}, shard {index}/{COUNT}" for index in range(COUNT)}
    assert crossdock.ok("apply", file, *QUIET).result["totals"]["unchanged"] == 2 * len(NAMES)


def test_shards_of_a_plan_have_about_the_same_bytes(
    crossdock: Crossdock, target: DockerRegistry, repository: str, places: tuple[str, str], tmp_path: Path
) -> None:
    plan = str(tmp_path / "PLAN.json")
    crossdock.ok("plan", write(tmp_path / "m.yaml", places), "--out", plan)
    rows = json.loads(Path(plan).read_text())["repositories"]
    assert min(each["bytes"] for each in rows) > 6000
    results = [
        crossdock.ok("apply", plan, *QUIET, "--shard", f"{index}/{COUNT}").result for index in range(COUNT)
    ]
    assert Counter(pushed(target, repository)) == dict.fromkeys(NAMES, 2)
    moved = [each["totals"]["bytes_moved"] for each in results]
    assert max(moved) < 1.1 * sum(moved) / COUNT


def test_a_shard_repeats_its_own_failures(
    crossdock: Crossdock, source: DockerRegistry, repository: str, places: tuple[str, str], tmp_path: Path
) -> None:
    for name in NAMES:
        digest = source.remote.manifest(f"{repository}/{name}", "v2").headers["docker-content-digest"]
        source.blob_file(digest).write_bytes(b"spoilt")
    file = write(tmp_path / "m.yaml", places)
    crossdock.fail("apply", file, *QUIET, "--shard", "0/2", "--failed", code=2, naming=["no run of"])
    total = 0
    for shard in ("0/2", "1/2"):
        first = json.loads(crossdock("apply", file, *QUIET, "--shard", shard).stdout)["totals"]
        again = json.loads(crossdock("apply", file, *QUIET, "--shard", shard, "--failed").stdout)["totals"]
        assert first["failed"] == first["copied"] == again["failed"]
        assert again["copied"] == 0
        total += int(first["failed"])
    assert total == len(NAMES)


def test_a_shard_deletes_in_its_repositories_below_its_part_of_the_cap(
    crossdock: Crossdock, places: tuple[str, str], builder: ImageBuilder, closing: ExitStack, tmp_path: Path
) -> None:
    target = start_embedded(tmp_path, tmp_path / "new", closing)  # docker-registry 2.8 deletes no tags
    places = places[0], f"{target.host}/copy"
    crossdock.ok("apply", write(tmp_path / "first.yaml", places), *QUIET)
    for name in NAMES:
        push(target.remote, f"copy/{name}", builder, one_layer_image(builder, 100)[0], "old")
    shards = [f"{index}/{COUNT}" for index in range(COUNT)]
    deletes = {"mode": "delete", "max_percent": 100, "grace": "0h"}
    # The fullest shard has 3 of the 8 repositories at least.
    file = write(tmp_path / "few.yaml", places, delete={**deletes, "max_tags": 2 * COUNT})
    assert any(
        "are over the limit of 2" in crossdock("apply", file, "--shard", each).stderr for each in shards
    )
    file = write(tmp_path / "m.yaml", places, delete={**deletes, "max_tags": len(NAMES) * COUNT})
    for each in shards:
        left = sum("old" in target.remote.tags(f"copy/{name}") for name in NAMES)
        totals = crossdock.ok("apply", file, *QUIET, "--shard", each).result["totals"]
        now = sum("old" in target.remote.tags(f"copy/{name}") for name in NAMES)
        assert totals["deleted"] == left - now <= totals["tags"] // 2
    assert now == 0


@pytest.mark.parametrize("auto", [False, True])
def test_shards_of_mirror_copy_everything_once(
    crossdock: Crossdock, target: DockerRegistry, repository: str, places: tuple[str, str], auto: bool
) -> None:
    listed: list[str] = []
    results = []
    for index in range(COUNT):
        shard, environ = f"{index}/{COUNT}", {}
        if auto:
            shard, environ = "auto", {"CI_NODE_INDEX": str(index + 1), "CI_NODE_TOTAL": str(COUNT)}
        words = ("mirror", *places, "--shard", shard)
        listed += crossdock.ok(*words, "--dry-run", env=environ).stdout.splitlines()
        results.append(crossdock.ok(*words, *QUIET, env=environ).result)
    assert Counter(pushed(target, repository)) == dict.fromkeys(NAMES, 2)
    assert sum(each["totals"]["repositories"] for each in results) == len(NAMES)
    copied = [f"{each['source']} {each['target']}" for result in results for each in result["copies"]]
    assert sorted(listed) == sorted(copied)
    assert len(set(copied)) == 2 * len(NAMES)


def test_a_shard_without_a_repository_is_done_and_one_of_nothing_is_not(
    crossdock: Crossdock, places: tuple[str, str]
) -> None:
    codes = [
        crossdock("mirror", *places, "--repository", "r1", "--shard", f"{index}/2", *QUIET).code
        for index in range(2)
    ]
    assert codes == [0, 0]
    done = crossdock("mirror", *places, "--repository", "none*", "--shard", "0/2", *QUIET)
    assert done.code == 12
    assert "none of the" in done.stderr


@pytest.mark.parametrize("command", ["apply", "mirror"])
def test_reports_of_shards_join_to_that_of_the_whole(
    crossdock: Crossdock, places: tuple[str, str], tmp_path: Path, command: str
) -> None:
    what = [write(tmp_path / "m.yaml", places)] if command == "apply" else [*places]
    reports = [tmp_path / f"{index}.json" for index in range(COUNT)]
    for index, report in enumerate(reports):
        crossdock.ok(command, *what, "--shard", f"{index}/{COUNT}", "--report", report, "--progress", "none")
    crossdock.ok("report", "merge", tmp_path / "joined.json", *reports)
    crossdock.ok(command, *what, "--report", tmp_path / "whole.json", "--progress", "none")
    joined, whole = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("joined", "whole"))
    assert joined["totals"].keys() == whole["totals"].keys()
    assert joined["totals"]["copied"] == whole["totals"]["unchanged"] == 2 * len(NAMES)
    assert joined["totals"]["tags"] == whole["totals"]["tags"]
    assert joined.keys() - whole.keys() == {"shards"}
    if command == "mirror":
        names = [sorted(each["source"] for each in report["copies"]) for report in (joined, whole)]
        assert names[0] == names[1]
    done = crossdock("report", "merge", tmp_path / "twice.json", *reports, reports[1])
    assert done.code == 2
    assert str(reports[1]) in done.stderr
