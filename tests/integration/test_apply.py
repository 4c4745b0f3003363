"""``crossdock apply`` does what a migration file specifies, once, whatever happens in between."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from crossdock.migration.runfile import FILE, RunFile
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Break, Fault, Seen, error
from support.command import AUTH, CANCELLED, CONFLICT, DONE, TARGET, USAGE, VERIFICATION, Crossdock
from support.docker_registry import DockerRegistry
from support.embedded import Embedded, start_embedded
from support.faults import wait_set
from support.images import one_layer_image, push
from support.process import wait_until
from support.push import Remote

pytestmark = pytest.mark.real

QUIET = ("--output", "json", "--progress", "none")


def write(path: Path, source: str, *targets: str, **more: Any) -> Path:
    """A migration file with one entry. JSON is YAML."""
    entry = {"name": "team", "source": source, "targets": list(targets), **more}
    path.write_text(json.dumps({"version": 1, "mirrors": [entry]}))
    return path


def state_of(remote: Remote, repository: str) -> dict[str, str]:
    """Tag → digest."""
    return {
        tag: remote.manifest(repository, tag).headers["docker-content-digest"]
        for tag in remote.tags(repository)
    }


def fill(remote: Remote, repository: str, builder: ImageBuilder, images: int, tags: int) -> list[Content]:
    """A repository with so many images, each with `tags` tags."""
    made = [one_layer_image(builder, 3000 + number)[0] for number in range(images)]
    for number, image in enumerate(made):
        for tag in range(tags):
            push(remote, repository, builder, image, f"v{number}.{tag}")
    return made


@pytest.fixture
def places(source: DockerRegistry, target: DockerRegistry, repository: str) -> tuple[str, str]:
    return f"{source.host}/{repository}", f"{target.host}/copy/{repository}"


def test_tags_of_one_manifest_are_copied_together_and_a_second_run_requests_each_tag_once(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    places: tuple[str, str],
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    fill(source.remote, f"{repository}/app", builder, 10, 5)
    file = write(tmp_path / "m.yaml", *places, repositories={"include": ["app"]})
    begin = source.mark()
    first = crossdock.ok("apply", str(file), *QUIET).result
    gets = [each for each in source.accesses(begin) if each.method == "GET" and "/manifests/" in each.path]
    assert len(gets) == 10
    assert state_of(target.remote, f"copy/{repository}/app") == state_of(source.remote, f"{repository}/app")
    totals = first["totals"]
    assert (totals["tags"], totals["images"], totals["copied"], totals["failed"]) == (50, 10, 50, 0)
    assert first["not_copied"] == []
    assert {(each["tag"], each["previous_digest"]) for each in first["copies"]} == {("new", None)}
    assert len({each["target"] for each in first["copies"]}) == 50
    marks = source.mark(), target.mark()
    again = crossdock.ok("apply", str(file), *QUIET).result
    assert again["run"] != first["run"]
    assert (again["totals"]["unchanged"], again["totals"]["copied"]) == (50, 0)
    for registry, mark in ((source, marks[0]), (target, marks[1])):
        asked = [each for each in registry.accesses(mark) if "/manifests/" in each.path]
        assert [each.method for each in asked] == ["HEAD"] * 50


def asked(proxy: FaultProxy, *words: str) -> list[str]:
    """``METHOD path`` of the requests whose path holds one of `words`."""
    return [f"{each.method} {each.path}" for each in proxy.seen if any(word in each.path for word in words)]


@pytest.fixture
def pair(
    tmp_path: Path, closing: ExitStack, fault_proxy: Callable[..., FaultProxy]
) -> tuple[Embedded, Embedded, FaultProxy, FaultProxy]:
    """Two of our own registries, each behind a proxy that counts."""
    both = [start_embedded(tmp_path, tmp_path / name, closing) for name in ("old", "new")]
    return both[0], both[1], fault_proxy(both[0].host), fault_proxy(both[1].host)


Pair = tuple[Embedded, Embedded, FaultProxy, FaultProxy]


def test_with_bulk_lists_a_second_run_asks_for_no_tag(
    crossdock: Crossdock, pair: Pair, builder: ImageBuilder, tmp_path: Path
) -> None:
    old, new, reading, writing = pair
    fill(old.remote, "team/app", builder, 10, 5)
    file = write(tmp_path / "m.yaml", f"{reading.host}/team", f"{writing.host}/moved")
    crossdock.ok("apply", file, *QUIET)
    assert state_of(new.remote, "moved/app") == state_of(old.remote, "team/app")
    assert len(asked(reading, "/manifests/")) == 10
    assert len(asked(reading, "/referrers/")) <= 10
    pushed = [each for each in writing.seen if each.method == "PUT" and "/manifests/" in each.path]
    assert len(pushed) == 10, "all tags of a manifest go in one PUT"
    reading.seen.clear()
    writing.seen.clear()
    assert crossdock.ok("apply", file, *QUIET).result["totals"]["unchanged"] == 50
    assert asked(reading, "/manifests/", "/referrers/", "/blobs/") == []
    assert asked(writing, "/manifests/", "/referrers/", "/blobs/") == []


def test_a_mirror_asks_for_a_manifest_once_whatever_tags_it_has(
    crossdock: Crossdock, pair: Pair, builder: ImageBuilder, tmp_path: Path
) -> None:
    old, new, reading, writing = pair
    fill(old.remote, "team/app", builder, 10, 5)
    crossdock.ok("mirror", f"{reading.host}/team", f"{writing.host}/moved", *QUIET)
    assert state_of(new.remote, "moved/app") == state_of(old.remote, "team/app")
    assert len([each for each in asked(reading, "/manifests/") if each.startswith("GET")]) == 10
    assert len(asked(reading, "/referrers/")) <= 10


def test_a_referrer_that_came_later_is_brought_by_the_next_run(
    crossdock: Crossdock, pair: Pair, builder: ImageBuilder, tmp_path: Path
) -> None:
    old, new, reading, writing = pair
    (image,) = fill(old.remote, "team/app", builder, 1, 3)
    file = write(tmp_path / "m.yaml", f"{reading.host}/team", f"{writing.host}/moved")
    crossdock.ok("apply", file, *QUIET)
    referrer = builder.artifact("application/vnd.example", [builder.random_layer(300)], subject=image)
    push(old.remote, "team/app", builder, referrer)
    assert crossdock.ok("apply", file, *QUIET).result["totals"]["copied"] == 3
    assert new.remote.manifest("moved/app", referrer.digest).status == 200
    assert crossdock.ok("apply", file, *QUIET).result["totals"]["unchanged"] == 3


def test_after_a_kill_nothing_is_requested_for_what_was_done(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    source_faults: FaultProxy,
    target_faults: FaultProxy,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    for number in range(4):
        fill(source.remote, f"{repository}/r{number}", builder, 12, 2)
    places = f"{source_faults.host}/{repository}", f"{target_faults.host}/{repository}"
    file = write(tmp_path / "m.yaml", *places)
    stall = target_faults.add(
        Fault("PUT */manifests/v*", nth=70, times=None, breaks=Break("stall", "request"))
    )
    with crossdock.start("apply", file, "--progress", "none") as running:
        wait_set(stall.reached, "most manifests to be pushed")
        time.sleep(1.0)
        os.kill(running.pid, signal.SIGKILL)
        running.finish()
    target_faults.settle()
    target_faults.clear()
    (before,) = crossdock.ok("runs", "list", "--output", "json").result["runs"]
    assert before["status"] == "interrupted"
    done = {
        each.path
        for each in target_faults.seen
        if each.method == "PUT" and each.status == 201 and "/manifests/v" in each.path
    }
    assert before["totals"]["copied"] >= 60
    source_faults.seen.clear()
    target_faults.seen.clear()
    again = crossdock.ok("apply", file, *QUIET).result
    assert again["run"] == before["run"]
    assert again["totals"]["tags"] == again["totals"]["copied"] + again["totals"]["unchanged"] == 96
    for number in range(4):
        name = f"{repository}/r{number}"
        assert state_of(target.remote, name) == state_of(source.remote, name)
    for proxy in (source_faults, target_faults):
        tags = {each.path for each in proxy.seen if "/manifests/v" in each.path}
        assert not tags & done
    assert crossdock.ok("apply", file, *QUIET).result["run"] != before["run"]


def is_done(seen: Seen) -> bool:
    """Whether the request has written a tag."""
    return (
        seen.method == "PUT" and seen.status == 201 and "/manifests/v" in seen.path and seen.ended == "whole"
    )


@pytest.mark.parametrize("seed", range(2))
def test_kills_at_random_moments(
    seed: int,
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    source_faults: FaultProxy,
    target_faults: FaultProxy,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    chance = random.Random(seed)
    for number in range(6):
        fill(source.remote, f"{repository}/r{number}", builder, 10, 1)
    places = f"{source_faults.host}/{repository}", f"{target_faults.host}/{repository}"
    file = write(tmp_path / "m.yaml", *places)
    target_faults.add(Fault("PUT */manifests/v*", times=None, rate=80.0))  # some seconds for each
    done: dict[str, float] = {}
    for _ in range(4):
        with crossdock.start("apply", file, "--progress", "none") as running:
            wanted = chance.randint(1, 6)
            wait_until(
                lambda started=running, least=wanted: (
                    started.has_ended or target_faults.count(is_done) >= least
                ),
                "tags to be done",
                60,
            )
            time.sleep(chance.uniform(1.0, 1.5))  # those are on disk then
            killed = time.monotonic()
            has_ended = running.has_ended  # a later start would be a new run, which looks at everything
            running.interrupt(signal.SIGKILL)
            running.finish()
        target_faults.settle()
        asked = {each.path for each in (*source_faults.seen, *target_faults.seen)}
        assert not asked & done.keys(), {k: v for k, v in done.items() if k in asked}
        done |= {
            each.path: killed - each.ended_at
            for each in target_faults.seen
            if is_done(each) and each.ended_at < killed - 1.0
        }
        source_faults.seen.clear()
        target_faults.seen.clear()
        if has_ended:
            break
    target_faults.clear()
    assert done
    if not has_ended:
        crossdock("apply", file, *QUIET)
        asked = {each.path for each in (*source_faults.seen, *target_faults.seen)}
        assert not asked & done.keys()
    crossdock.ok("verify", file, *QUIET[:2])
    (run, *_) = crossdock.ok("runs", "list", "--output", "json").result["runs"]
    assert run["status"] == "done"
    assert run["totals"]["tags"] == run["totals"]["copied"] + run["totals"]["unchanged"] == 60
    assert run["totals"]["images"] == 60


def test_a_second_process_is_refused(
    crossdock: Crossdock,
    source: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    fill(source.remote, f"{repository}/app", builder, 1, 1)
    file = write(tmp_path / "m.yaml", f"{source.host}/{repository}", f"{target_faults.host}/{repository}")
    stall = target_faults.add(Fault("PUT */manifests/*", breaks=Break("stall", "request")))
    with crossdock.start("apply", file, "--progress", "none") as running:
        wait_set(stall.reached, "a manifest to be pushed")
        crossdock.fail("apply", file, code=USAGE, naming=["under way in another process"])
        running.interrupt()
        done = running.finish()
    assert done.code == CANCELLED
    assert "the same command goes on" in done.error
    assert crossdock.ok("apply", file, *QUIET).result["totals"]["copied"] == 1


def test_only_what_failed_is_done_again(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    source_faults: FaultProxy,
    target_faults: FaultProxy,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    fill(source.remote, f"{repository}/app", builder, 6, 2)
    places = f"{source_faults.host}/{repository}", f"{target_faults.host}/{repository}"
    file = write(tmp_path / "m.yaml", *places)
    target_faults.add(Fault("PUT */manifests/v3.*", times=None, answer=error(403)))
    failed = crossdock("apply", file, *QUIET)
    assert failed.code == AUTH, str(failed)
    totals = failed.result["totals"]
    assert (totals["tags"], totals["copied"], totals["failed"]) == (12, 10, 2)
    assert failed.result["not_copied"] == [
        f"{places[0]}/app:v3.{number} {places[1]}/app:v3.{number}" for number in range(2)
    ]
    target_faults.clear()
    source_faults.seen.clear()
    again = crossdock.ok("apply", file, "--failed", *QUIET).result
    assert (again["totals"]["tags"], again["totals"]["copied"]) == (2, 2)
    assert set(asked(source_faults, "/manifests/v")) <= {
        f"HEAD /v2/{repository}/app/manifests/v3.{number}" for number in range(2)
    }
    assert state_of(target.remote, f"{repository}/app") == state_of(source.remote, f"{repository}/app")


def test_a_report_has_the_whole_path_of_a_layout_with_a_space(
    crossdock: Crossdock, target: DockerRegistry, repository: str, tmp_path: Path
) -> None:
    made = ImageBuilder(tmp_path / "my images")
    made.tag(made.image([made.random_layer(10)]), "v1")
    file = write(tmp_path / "m.yaml", "oci:my images", f"{target.host}/{repository}")
    (copied,) = crossdock.ok("apply", file, *QUIET).result["copies"]
    assert copied["source"] == f"oci:{tmp_path}/my images:v1"
    assert copied["target"] == f"{target.host}/{repository}:v1"


@pytest.mark.parametrize(("existing", "code"), [("report", DONE), ("refuse", CONFLICT)])
def test_a_tag_that_means_something_else_there(
    existing: str, code: int, crossdock: Crossdock, pair: Pair, builder: ImageBuilder, tmp_path: Path
) -> None:
    old, new, reading, writing = pair
    images = fill(old.remote, "team/app", builder, 2, 2)
    push(new.remote, "moved/app", builder, images[1], "v0.1")
    places = f"{reading.host}/team", f"{writing.host}/moved"
    done = crossdock("apply", write(tmp_path / "m.yaml", *places, existing=existing), *QUIET)
    assert done.code == code, str(done)
    found = state_of(new.remote, "moved/app")
    assert found == {**state_of(old.remote, "team/app"), "v0.1": images[1].digest}
    (entry,) = done.result["entries"]
    kept = f"{places[1]}/app:v0.1"
    if existing == "report":
        assert [(each["kind"], each["reference"]) for each in entry["problems"]] == [("existing", kept)]
        assert done.result["not_copied"] == []
        assert (entry["tags"], entry["failed"]) == (4, 0)
    else:
        assert done.result["not_copied"] == [f"{places[0]}/app:v0.1 {kept}"]
        assert (entry["tags"], entry["failed"]) == (4, 1)


def test_names_that_become_one_are_refused_before_anything_is_sent(
    crossdock: Crossdock, pair: Pair, builder: ImageBuilder, tmp_path: Path
) -> None:
    old, _, reading, writing = pair
    for name in ("team/a/app", "team/b/app"):
        fill(old.remote, name, builder, 1, 1)
    file = write(tmp_path / "m.yaml", f"{reading.host}/team", f"{writing.host}/moved", flatten=1)
    crossdock.fail("apply", file, code=USAGE, naming=["a/app", "b/app"])
    assert [each for each in writing.seen if each.method != "GET"] == []


def test_a_plan_does_exactly_what_it_says(
    crossdock: Crossdock, pair: Pair, builder: ImageBuilder, tmp_path: Path
) -> None:
    old, new, reading, writing = pair
    images = fill(old.remote, "team/app", builder, 3, 1)
    file = write(tmp_path / "m.yaml", f"{reading.host}/team", f"{writing.host}/moved")
    plan = tmp_path / "plan.json"
    crossdock.ok("plan", file, "--out", plan, *QUIET[:2])
    push(old.remote, "team/app", builder, images[1], "v0.0")  # it means something else now
    push(old.remote, "team/app", builder, images[1], "later")
    forget_tag(old, "team/app", "v2.0")
    done = crossdock("apply", plan, *QUIET)
    assert done.code == CONFLICT, str(done)
    assert set(state_of(new.remote, "moved/app")) == {"v1.0"}
    changed = [f"{reading.host}/team/app:{tag} {writing.host}/moved/app:{tag}" for tag in ("v0.0", "v2.0")]
    assert done.result["not_copied"] == changed
    assert {each["kind"] for each in done.result["failures"]} == {"ChangedSincePlan"}
    assert "make the plan again" in done.stderr
    assert crossdock.ok("apply", file, *QUIET).result["totals"]["copied"] == 2


def test_one_odd_manifest_does_not_end_the_run(
    crossdock: Crossdock,
    source: DockerRegistry,
    source_faults: FaultProxy,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    images = fill(source.remote, f"{repository}/app", builder, 3, 2)
    source_faults.add(
        Fault(f"GET */manifests/{images[1].digest}", times=None, answer=Answer(200, body=b"not a manifest"))
    )
    file = write(tmp_path / "m.yaml", f"{source_faults.host}/{repository}", f"{target.host}/{repository}/to")
    done = crossdock("apply", file, *QUIET)
    assert done.code == VERIFICATION, str(done)
    assert (done.result["totals"]["copied"], done.result["totals"]["failed"]) == (4, 2)


def test_progress_has_the_totals(
    crossdock: Crossdock, pair: Pair, builder: ImageBuilder, tmp_path: Path
) -> None:
    old, _, reading, writing = pair
    fill(old.remote, "team/app", builder, 2, 1)
    reading.add(Fault("GET */blobs/*", times=None, rate=500.0))
    file = write(tmp_path / "m.yaml", f"{reading.host}/team", f"{writing.host}/moved")
    done = crossdock.ok("apply", file, "--output", "json", "--progress", "json")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    totals = [each for each in events if each["event"] == "totals"]
    assert totals
    assert events[-1] == totals[-1], "the last event has the figures of the whole run"
    assert (totals[-1]["images_found"], totals[-1]["images_done"]) == (2, 2)


# -- mounts ----------------------------------------------------------------------------------------------


def shared_layers(remote: Remote, builder: ImageBuilder, repositories: int) -> int:
    """Repositories whose images share three layers; the bytes of all different blobs."""
    layers = [builder.random_layer(200_000 + number) for number in range(3)]
    sizes: dict[str, int] = {}
    for number in range(repositories):
        image = builder.image([*layers, builder.random_layer(1000 + number)])
        push(remote, f"team/r{number}", builder, image, "v1")
        document = remote.manifest(f"team/r{number}", "v1").json()
        sizes |= {each["digest"]: each["size"] for each in (document["config"], *document["layers"])}
    return sum(sizes.values())


def bytes_read(proxy: FaultProxy) -> int:
    return sum(each.sent for each in proxy.seen if each.method == "GET" and "/blobs/" in each.path)


def mounts_late(registry: Embedded, refused: list[str]) -> Fault:
    """Mounts are refused, as ECR does, from repositories without a manifest that refers to the blob."""

    def is_early(seen: Seen) -> bool:
        query = parse_qs(urlsplit(seen.path).query)
        if seen.method != "POST" or "mount" not in query:
            return False
        giver = query["from"][0]
        tags = registry.remote.request("GET", f"/v2/{giver}/tags/list")
        return tags.status != 200 or not tags.json()["tags"]

    def refuse(seen: Seen) -> Answer:
        refused.append(seen.path)
        path = urlsplit(seen.path).path
        opened = registry.remote.request("POST", path, b"")
        return Answer(202, {"Location": urlsplit(opened.headers["location"]).path})

    return Fault(is_early, times=None, answer=refuse)


@pytest.mark.parametrize("late", [False, True])
def test_layers_that_repositories_share_are_read_once(
    late: bool, crossdock: Crossdock, pair: Pair, builder: ImageBuilder, tmp_path: Path
) -> None:
    old, new, reading, writing = pair
    unique = shared_layers(old.remote, builder, 12)
    refused: list[str] = []
    if late:
        writing.add(mounts_late(new, refused))
    file = write(tmp_path / "m.yaml", f"{reading.host}/team", f"{writing.host}/moved")
    done = crossdock.ok("apply", file, *QUIET).result
    assert bytes_read(reading) <= 1.05 * unique
    assert done["totals"]["bytes_mounted"] > 2 * unique
    assert len(refused) <= 3, "how the registry mounts is found out once"


# -- deletes ---------------------------------------------------------------------------------------------


def delete(mode: str = "delete", **more: Any) -> dict[str, Any]:
    return {"mode": mode, "grace": "0h", "max_percent": 100, **more}


def forget_tag(registry: Embedded, repository: str, *tags: str) -> None:
    for tag in tags:
        assert registry.remote.request("DELETE", f"/v2/{repository}/manifests/{tag}").status == 202


@pytest.fixture
def mirrored(crossdock: Crossdock, pair: Pair, builder: ImageBuilder, tmp_path: Path) -> tuple[str, str]:
    """Both sides have 2 images with 3 tags each; then the source loses two tags of one of them."""
    old, _, reading, writing = pair
    fill(old.remote, "team/app", builder, 2, 3)
    places = f"{reading.host}/team", f"{writing.host}/moved"
    crossdock.ok("apply", write(tmp_path / "first.yaml", *places), *QUIET)
    forget_tag(old, "team/app", "v0.0", "v0.1")
    return places


def test_tags_that_the_source_has_no_more_are_deleted_alone(
    crossdock: Crossdock, pair: Pair, mirrored: tuple[str, str], tmp_path: Path
) -> None:
    done = crossdock.ok("apply", write(tmp_path / "m.yaml", *mirrored, delete=delete()), *QUIET).result
    assert done["totals"]["deleted"] == 2
    assert set(state_of(pair[1].remote, "moved/app")) == {"v0.2", "v1.0", "v1.1", "v1.2"}


def test_a_plan_deletes_what_is_as_it_was(
    crossdock: Crossdock, pair: Pair, mirrored: tuple[str, str], builder: ImageBuilder, tmp_path: Path
) -> None:
    """One tag means something else at the target by now, one is at the source again, one is as it was."""
    old, new, _, _ = pair
    forget_tag(old, "team/app", "v0.2")
    plan = tmp_path / "plan.json"
    crossdock.ok("plan", write(tmp_path / "m.yaml", *mirrored, delete=delete()), "--out", plan, *QUIET[:2])
    other = one_layer_image(builder, 5000)[0]
    push(new.remote, "moved/app", builder, other, "v0.0")
    push(old.remote, "team/app", builder, other, "v0.1")
    done = crossdock("apply", plan, *QUIET)
    assert done.code == CONFLICT, str(done)
    assert set(state_of(new.remote, "moved/app")) == {"v0.0", "v0.1", "v1.0", "v1.1", "v1.2"}
    left = [f"{mirrored[0]}/app:{tag} {mirrored[1]}/app:{tag}" for tag in ("v0.0", "v0.1")]
    assert done.result["not_copied"] == left
    assert {each["kind"] for each in done.result["failures"]} == {"ChangedSincePlan"}
    assert (done.result["totals"]["deleted"], done.result["totals"]["failed"]) == (1, 2)
    again = crossdock("apply", plan, "--failed", *QUIET)
    assert (again.code, again.result["not_copied"]) == (CONFLICT, left), str(again)


def test_a_plan_that_does_not_know_what_a_tag_meant_leaves_it(
    crossdock: Crossdock, pair: Pair, mirrored: tuple[str, str], tmp_path: Path
) -> None:
    plan = tmp_path / "plan.json"
    crossdock.ok("plan", write(tmp_path / "m.yaml", *mirrored, delete=delete()), "--out", plan, *QUIET[:2])
    document = json.loads(plan.read_text())
    document["repositories"][0]["delete"][0]["v0.0"] = None
    plan.write_text(json.dumps(document))
    done = crossdock("apply", plan, *QUIET)
    assert done.code == CONFLICT, str(done)
    assert set(state_of(pair[1].remote, "moved/app")) == {"v0.0", "v0.2", "v1.0", "v1.1", "v1.2"}


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"max_tags": 1}, TARGET),
        ({"max_percent": 20}, TARGET),
        ({"grace": "1h"}, DONE),
        ({"mode": "report"}, DONE),
        ({"mode": "off"}, DONE),
    ],
)
def test_nothing_is_deleted(
    more: dict[str, Any],
    code: int,
    crossdock: Crossdock,
    pair: Pair,
    mirrored: tuple[str, str],
    tmp_path: Path,
) -> None:
    file = write(tmp_path / "m.yaml", *mirrored, delete={**delete(), **more})
    done = crossdock("apply", file, *QUIET)
    assert done.code == code, str(done)
    assert done.result["totals"]["deleted"] == 0
    assert len(state_of(pair[1].remote, "moved/app")) == 6
    (entry,) = done.result["entries"]
    wanted = [f"{mirrored[1]}/app:{tag}" for tag in ("v0.0", "v0.1")]
    assert entry.get("missing", []) == (wanted if more.get("mode") == "report" else [])
    assert [each["kind"] for each in entry["problems"]] == (["denied"] if code else [])
    assert len(done.result["failures"]) == (1 if code else 0)


def test_an_empty_source_is_no_success(crossdock: Crossdock, pair: Pair, tmp_path: Path) -> None:
    _, _, reading, writing = pair
    file = write(tmp_path / "m.yaml", f"{reading.host}/team", f"{writing.host}/moved")
    done = crossdock("apply", file, *QUIET)
    assert done.code == 12, str(done)
    assert "nothing to copy" in done.stderr


def test_tags_that_a_selection_leaves_out_are_not_deleted(
    crossdock: Crossdock, pair: Pair, mirrored: tuple[str, str], builder: ImageBuilder, tmp_path: Path
) -> None:
    push(pair[1].remote, "moved/app", builder, builder.image([builder.random_layer(100)]), "own")
    file = write(
        tmp_path / "m.yaml", *mirrored, tags={"include": ["v*"], "exclude": ["v0.1"]}, delete=delete()
    )
    assert crossdock.ok("apply", file, *QUIET).result["totals"]["deleted"] == 1
    assert set(state_of(pair[1].remote, "moved/app")) == {"own", "v0.1", "v0.2", "v1.0", "v1.1", "v1.2"}


def test_nothing_is_deleted_after_a_list_that_was_not_whole(
    crossdock: Crossdock, pair: Pair, mirrored: tuple[str, str], builder: ImageBuilder, tmp_path: Path
) -> None:
    old, new, reading, _ = pair
    fill(old.remote, "team/other", builder, 1, 1)
    for path in ("*/other/tags/list", "*/other/_manifests"):
        reading.add(Fault(f"GET {path}", times=None, answer=error(500)))
    done = crossdock(
        "apply", write(tmp_path / "m.yaml", *mirrored, delete=delete()), *QUIET, "--retries", "0"
    )
    assert done.code != DONE
    assert done.result["totals"]["deleted"] == 0
    assert len(state_of(new.remote, "moved/app")) == 6


def test_a_tag_that_a_list_missed_is_not_deleted(
    crossdock: Crossdock, pair: Pair, mirrored: tuple[str, str], builder: ImageBuilder, tmp_path: Path
) -> None:
    old, new, reading, _ = pair
    image = builder.image([builder.random_layer(100)])

    def come_back(seen: Seen) -> bool:
        if seen.method == "HEAD" and seen.path.endswith("/manifests/v0.0"):
            push(old.remote, "team/app", builder, image, "v0.0")
        return False

    reading.add(Fault(come_back))
    file = write(tmp_path / "m.yaml", *mirrored, delete=delete())
    assert crossdock.ok("apply", file, *QUIET).result["totals"]["deleted"] == 1
    assert "v0.0" in state_of(new.remote, "moved/app")


def test_a_registry_that_deletes_other_tags_as_well_gets_them_back(
    crossdock: Crossdock, pair: Pair, mirrored: tuple[str, str], tmp_path: Path
) -> None:
    _, new, _, writing = pair
    digest = state_of(new.remote, "moved/app")["v0.0"]

    def delete_all(seen: Seen) -> Answer:
        new.remote.request("DELETE", f"/v2/moved/app/manifests/{digest}")
        return Answer(202)

    writing.add(Fault("DELETE */manifests/v*", times=None, answer=delete_all))
    done = crossdock("apply", write(tmp_path / "m.yaml", *mirrored, delete=delete()), *QUIET)
    assert done.code == TARGET, str(done)
    found = state_of(new.remote, "moved/app")
    assert found["v0.2"] == found["v0.1"] == digest, "only one was to go, and no more were tried"
    assert done.result["entries"][0]["problems"][0]["kind"] == "unsupported"


def test_a_registry_that_deletes_no_tag_by_name_is_a_problem(
    crossdock: Crossdock,
    pair: Pair,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    old = pair[0]
    fill(old.remote, "team/app", builder, 1, 3)
    places = f"{old.host}/team", f"{target.host}/{repository}"
    file = write(tmp_path / "m.yaml", *places, delete=delete())
    crossdock.ok("apply", file, *QUIET)
    forget_tag(old, "team/app", "v0.1")
    done = crossdock("apply", file, *QUIET)
    assert done.code == TARGET, str(done)
    assert [each["kind"] for each in done.result["entries"][0]["problems"]] == ["unsupported"]
    assert len(state_of(target.remote, f"{repository}/app")) == 3


def test_a_repository_that_two_mirrors_write_loses_nothing(
    crossdock: Crossdock, pair: Pair, builder: ImageBuilder, tmp_path: Path
) -> None:
    old, new, reading, writing = pair
    image = one_layer_image(builder, 3000)[0]
    for place, tag in (("one", "x1"), ("two", "y1")):
        push(old.remote, f"{place}/app", builder, image, tag)
    push(new.remote, "all/app", builder, image, "x2")
    mirrors = [
        {
            "name": name,
            "source": f"{reading.host}/{name}",
            "targets": [f"{writing.host}/all"],
            "delete": delete(),
        }
        for name in ("one", "two")
    ]
    file = tmp_path / "both.yaml"
    file.write_text(json.dumps({"version": 1, "mirrors": mirrors}))
    planned = crossdock.ok("plan", file, *QUIET[:2])
    done = crossdock.ok("apply", file, *QUIET[:2])
    assert planned.result["totals"]["tags_to_delete"] == done.result["totals"]["deleted"] == 0
    assert set(state_of(new.remote, "all/app")) == {"x1", "x2", "y1"}
    for stderr in (planned.stderr, done.stderr):
        for name in ("one", "two"):
            assert f"{name}: no tags are deleted in repositories that another mirror writes too" in stderr


def test_two_mirrors_of_one_tag_are_refused_before_anything_is_sent(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    """Sources of several registries may be put together, as long as their tags differ."""
    images = [one_layer_image(builder, 3000 + number)[0] for number in range(2)]
    for place, image, tags in (("one", images[0], ("1", "2")), ("two", images[1], ("2", "3"))):
        for tag in tags:
            push(source.remote, f"{repository}/{place}/app", builder, image, tag)
    there = f"{target.host}/{repository}"

    def entries(**more: Any) -> Path:
        mirrors = [
            {"source": f"{source.host}/{repository}/one", "targets": [there]},
            {"source": f"{source.host}/{repository}/two", "targets": [there], **more},
        ]
        path = tmp_path / "both.yaml"
        path.write_text(json.dumps({"version": 1, "mirrors": mirrors}))
        return path

    before = target.mark()
    naming = [f"{repository}/one/app:2", f"{repository}/two/app:2", "both copied to", "/app:2"]
    crossdock.fail("apply", entries(), *QUIET, code=USAGE, naming=naming)
    assert target.accesses(before) == []
    crossdock.ok("apply", entries(tags={"exclude": ["2"]}), *QUIET)
    assert state_of(target.remote, f"{repository}/app") == {
        "1": images[0].digest,
        "2": images[0].digest,
        "3": images[1].digest,
    }


@pytest.mark.parametrize(
    ("entry", "flags", "copied"),
    [
        ({"referrers": False}, ["--no-referrers"], []),
        ({"tags": {"exclude": ["*.sig"]}}, ["--exclude-tags", "*.sig"], ["att"]),
        ({}, [], ["sig", "att"]),
        ({"referrers": False, "tags": {"include": ["*", "*.att"]}}, None, ["att"]),
    ],
)
def test_plan_apply_mirror_and_verify_agree_on_the_tags_of_signatures(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    places: tuple[str, str],
    builder: ImageBuilder,
    tmp_path: Path,
    entry: dict[str, Any],
    flags: list[str] | None,
    copied: list[str],
) -> None:
    (image,) = fill(source.remote, f"{repository}/app", builder, 1, 1)
    stem = image.digest.replace(":", "-")
    for word in ("sig", "att"):
        push(source.remote, f"{repository}/app", builder, one_layer_image(builder, 200)[0], f"{stem}.{word}")
    file = str(write(tmp_path / "m.yaml", *places, repositories={"include": ["app"]}, **entry))
    wanted = {"v0.0", *(f"{stem}.{word}" for word in copied)}
    crossdock.ok("apply", file, *QUIET)
    assert set(target.remote.tags(f"copy/{repository}/app")) == wanted
    verified = crossdock.ok("verify", file, "--output", "json").result
    assert (verified["missing"], verified["extra"]) == ([], [])
    plan = crossdock.ok("plan", file, "--output", "json").result
    assert sum(each["tags_new"] for each in plan["entries"]) == 0
    if flags is not None:
        there = f"{target.host}/mirrored/{repository}"
        crossdock.ok("mirror", places[0], there, "--repository", "app", *flags, *QUIET)
        assert set(target.remote.tags(f"mirrored/{repository}/app")) == wanted


def test_a_state_that_cannot_be_written_fails_the_run_once_everything_is_copied(
    crossdock: Crossdock, pair: Pair, builder: ImageBuilder, tmp_path: Path
) -> None:
    old, new, reading, writing = pair
    fill(old.remote, "team/app", builder, 2, 3)
    file = write(tmp_path / "m.yaml", f"{reading.host}/team", f"{writing.host}/moved")
    state, report = tmp_path / "own-state", tmp_path / "report.json"
    RunFile(state).close()
    with closing(sqlite3.connect(state / FILE)) as other:
        other.execute("CREATE TRIGGER no_space BEFORE INSERT ON item BEGIN SELECT RAISE(ABORT, 'full'); END")
        other.commit()
    done = crossdock("apply", file, "--state", state, "--report", report, *QUIET)
    assert done.code == TARGET, str(done)
    assert state_of(new.remote, "moved/app") == state_of(old.remote, "team/app")
    assert (done.result["totals"]["copied"], done.result["not_copied"]) == (6, [])
    assert [each["kind"] for each in done.result["failures"]] == ["OutputFailed"]
    assert "could not be recorded" in json.loads(report.read_text())["error"]["message"]
    with closing(sqlite3.connect(state / FILE)) as other:
        other.execute("DROP TRIGGER no_space")
        other.commit()
    again = crossdock.ok("apply", file, "--state", state, *QUIET).result
    assert again["run"] == done.result["run"]
    assert (again["totals"]["unchanged"], again["totals"]["failed"]) == (6, 0)


def test_a_tag_that_is_immutable_at_the_target_is_named_with_advice(
    crossdock: Crossdock, pair: Pair, builder: ImageBuilder, tmp_path: Path
) -> None:
    old, _, reading, writing = pair
    fill(old.remote, "team/app", builder, 1, 2)
    file = write(tmp_path / "m.yaml", f"{reading.host}/team", f"{writing.host}/moved")
    writing.add(Fault("PUT */manifests/*", times=None, answer=error(409, "TAG_IMMUTABLE")))
    failed = crossdock("apply", file, *QUIET)
    assert failed.code == TARGET, str(failed)
    assert "the tag is immutable there" in failed.stderr
