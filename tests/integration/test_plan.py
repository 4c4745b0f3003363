"""``crossdock plan`` between real registries: its sums are those of the test's own walk."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Fault, error
from support.command import NOT_FOUND, SOURCE, USAGE, Crossdock
from support.docker_registry import DockerRegistry, htpasswd_file
from support.embedded import start_embedded
from support.images import push, walk

pytestmark = pytest.mark.real

DIFFERENT, SOMETHING_TO_DO, HINDERED = 9, 12, 13
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"


def migration(folder: Path, *mirrors: dict[str, Any], **more: Any) -> Path:
    """A migration file of these mirrors."""
    path = folder / "migration.yaml"
    path.write_text(json.dumps({"version": 1, "mirrors": mirrors, **more}))
    return path


def planned(crossdock: Crossdock, *args: str | Path, code: int = 0) -> dict[str, Any]:
    """The JSON of a plan that exits so."""
    finished = crossdock("plan", *args, "--output", "json")
    assert finished.code == code, finished
    return finished.result


@pytest.fixture
def other(new_registry: Callable[..., DockerRegistry]) -> DockerRegistry:
    """A target that holds nothing yet."""
    return new_registry("other")


def test_a_plan_says_what_a_mirror_then_moves(
    crossdock: Crossdock,
    source: DockerRegistry,
    other: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    shared = builder.random_layer(50_000)
    blobs: dict[str, int] = {}
    for number in range(4):
        image = builder.image([shared, builder.random_layer(3000)])
        index = builder.index([image, builder.image([shared, builder.random_layer(700)], "linux/arm64")])
        for content, tags in ((image, ["v1"]), (index, ["v2", "latest"])):
            for tag in tags:
                blobs |= push(source.remote, f"{repository}/r{number}", builder, content, tag).blobs
    file = migration(tmp_path, {"source": f"{source.host}/{repository}", "targets": [f"{other.host}/copy"]})
    marks = source.mark(), other.mark()
    plan = planned(crossdock, file, "--exit-code", code=SOMETHING_TO_DO)
    [entry] = plan["entries"]
    assert {each.method for each in other.accesses(marks[1])} <= {"GET", "HEAD"}
    gets = [
        each.path for each in source.accesses(marks[0]) if each.method == "GET" and "/manifests/" in each.path
    ]
    assert len(gets) == len(set(gets)) == 12, "each manifest is fetched once"
    assert (entry["name"], entry["target"]) == (f"{source.host}/{repository}", f"{other.host}/copy")
    assert (entry["repositories"], entry["tags"], entry["images"]) == (4, 12, 8)
    assert (entry["tags_new"], entry["tags_changed"], entry["tags_unchanged"]) == (12, 0, 0)
    assert entry["bytes_to_move"] == sum(blobs.values())
    assert entry["bytes_to_mount"] == 3 * 50_000
    assert (entry["bytes_present"], entry["problems"]) == (0, [])
    assert plan["totals"] == {name: entry[name] for name in plan["totals"]}
    assert plan["seconds"] is None

    places = f"{source.host}/{repository}", f"{other.host}/copy"
    done = crossdock.ok("mirror", *places, "--output", "json", "--progress", "none").result["totals"]
    assert (done["bytes_moved"], done["bytes_mounted"]) == (entry["bytes_to_move"], entry["bytes_to_mount"])

    again = planned(crossdock, file, "--exit-code")["entries"][0]
    assert (again["tags_unchanged"], again["tags_new"], again["bytes_to_move"]) == (12, 0, 0)


def test_changed_and_present_content(
    crossdock: Crossdock,
    source: DockerRegistry,
    other: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    base, layer = builder.random_layer(9000), builder.random_layer(400)
    old, new = builder.image([base]), builder.image([base, layer])
    push(other.remote, "copy/app", builder, old, "v1")
    push(other.remote, "copy/app", builder, old, "gone")
    graph = push(source.remote, f"{repository}/app", builder, new, "v1")
    same = push(source.remote, f"{repository}/app", builder, old, "same")
    mirror = {"name": "team", "source": f"{source.host}/{repository}", "targets": [f"{other.host}/copy"]}
    delete = {"mode": "delete", "max_percent": 100}
    file = migration(tmp_path, {**mirror, "delete": delete})
    entry = planned(crossdock, file, "--out", tmp_path / "PLAN.json")["entries"][0]
    assert entry["deletes"] == [f"{other.host}/copy/app:gone"]
    [row] = json.loads((tmp_path / "PLAN.json").read_text())["repositories"]
    assert row["delete"] == [{"gone": old.digest}]
    assert f"to delete: {other.host}/copy/app:gone" in crossdock.ok("plan", file).stdout
    counts = [entry[f"tags_{each}"] for each in ("new", "changed", "unchanged", "to_delete")]
    assert counts == [1, 1, 0, 1]
    assert entry["bytes_to_move"] == graph.blob_bytes - 9000
    # The new tag of the old image needs nothing but what is there.
    present = {**graph.blobs, **same.blobs}
    assert entry["bytes_present"] == sum(present.values()) - entry["bytes_to_move"]
    capped = planned(crossdock, migration(tmp_path, {**mirror, "delete": {"mode": "report"}}))["entries"][0]
    [problem] = capped["problems"]
    assert (problem["kind"], problem["reference"]) == ("denied", f"{other.host}/copy")
    assert "1 of 2 tags" in problem["detail"]
    for existing, code in (("report", 0), ("refuse", HINDERED)):
        file = migration(tmp_path, {**mirror, "existing": existing})
        crossdock.ok("mirror", mirror["source"], f"{other.host}/copy", "--tags", "same", "--progress", "none")
        entry = planned(crossdock, file, "--exit-code", code=code)["entries"][0]
        [problem] = entry["problems"]
        assert (problem["kind"], problem["reference"]) == ("existing", f"{other.host}/copy/app:v1")
        assert new.digest in problem["detail"]
        assert entry["bytes_to_move"] == 0


def test_names_that_become_one_or_none(
    crossdock: Crossdock,
    source: DockerRegistry,
    other: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    image = builder.image([builder.random_layer(100)])
    for name in ("a/app", "b/app", "c"):
        push(source.remote, f"{repository}/{name}", builder, image, "v1")
    mirror = {"source": f"{source.host}/{repository}", "targets": [f"{other.host}/copy"], "flatten": 1}
    long = [{"match": "^c$", "to": "c" * 253}]
    file = migration(tmp_path, {**mirror, "rename": long})
    problems = planned(crossdock, file, "--exit-code", code=HINDERED)["entries"][0]["problems"]
    assert [each["kind"] for each in problems] == ["collision", "name"]
    assert "a/app" in problems[0]["detail"]
    assert "b/app" in problems[0]["detail"]
    assert problems[0]["reference"] == f"{other.host}/copy/app"
    assert "255" in problems[1]["detail"]


def test_layers_that_a_kind_of_registry_does_not_take(
    crossdock: Crossdock,
    source: DockerRegistry,
    other: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    """The kinds follow from the hosts' names; connections to them go to loopback."""
    layers = [builder.random_layer(10) for _ in range(3)]
    manifest = json.loads(builder.read(builder.image(layers)))
    for each in (manifest["config"], *manifest["layers"]):
        source.remote.push_blob(f"{repository}/app", builder.read(each["digest"]))
    for each, size in zip(manifest["layers"], (60 << 30, 12 * 10**9, 43 * 10**8), strict=True):
        each["size"] = size
    source.remote.push_manifest(
        f"{repository}/app", json.dumps(manifest).encode(), manifest["mediaType"], "large"
    )
    hosts = ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "ghcr.io", "example.azurecr.io")
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(json.dumps({"hosts": dict.fromkeys(hosts, other.host)}))
    targets = [f"{host}/copy" for host in hosts]
    file = migration(tmp_path, {"source": f"{source.host}/{repository}", "targets": targets})
    plan = planned(crossdock, file, "--inventory", inventory, "--exit-code", code=HINDERED)
    found = {each["target"]: each["problems"] for each in plan["entries"]}
    first, second = (each["digest"] for each in manifest["layers"][:2])
    refused = [(f"{first} has 60.0 GiB", {0, 1}), (f"{second} has 11.2 GiB", {1})]
    for number, target in enumerate(targets):
        said = [(each["kind"], each["reference"], each["detail"].partition(",")[0]) for each in found[target]]
        expected = [what for what, where in refused if number in where]
        assert sorted(said) == sorted(("too_large", f"{target}/app:large", each) for each in expected)
    assert "50.8 GiB" in found[targets[0]][0]["detail"]


def test_a_registry_that_refuses_a_look(
    crossdock: Crossdock,
    source: DockerRegistry,
    new_registry: Callable[..., DockerRegistry],
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    push(source.remote, f"{repository}/app", builder, builder.image([builder.random_layer(100)]), "v1")
    users = htpasswd_file(tmp_path / "users", "somebody", "secret")
    auth = {"htpasswd": {"realm": "test", "path": str(users)}}
    closed = new_registry("closed", auth=auth)
    file = migration(tmp_path, {"source": f"{source.host}/{repository}", "targets": [closed.host]})
    [problem] = planned(crossdock, file, "--exit-code", code=HINDERED)["entries"][0]["problems"]
    assert (problem["kind"], problem["reference"]) == ("denied", f"{closed.host}/app")


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_a_choice_that_a_source_cannot_answer(
    command: str,
    crossdock: Crossdock,
    source: DockerRegistry,
    other: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    """The advice is in the words of the file."""
    push(source.remote, f"{repository}/app", builder, builder.image([builder.random_layer(100)]), "v1")
    mirror = {"source": f"{source.host}/{repository}", "targets": [other.host], "untagged": True}
    naming = ["no API", "leave untagged out of this mirror in the file"]
    crossdock.fail(command, migration(tmp_path, mirror), code=USAGE, naming=naming)


def test_the_file_of_a_plan_has_the_digests_of_both_sides(
    crossdock: Crossdock,
    source: DockerRegistry,
    other: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    old, new = (builder.image([builder.random_layer(300)]) for _ in range(2))
    push(source.remote, f"{repository}/app", builder, new, "v1")
    push(source.remote, f"{repository}/app", builder, new, "v2")
    push(other.remote, "app", builder, old, "v1")
    file = migration(tmp_path, {"source": f"{source.host}/{repository}", "targets": [other.host]})
    plan = planned(crossdock, file, "--out", tmp_path / "PLAN.json")
    written = json.loads((tmp_path / "PLAN.json").read_text())
    assert written["plan"] == plan
    [row] = written["repositories"]
    assert row["tags"] == {"v1": [new.digest, old.digest], "v2": [new.digest, None]}
    assert written["file"] == str(file)


def test_a_source_that_is_not_there_writes_no_plan(
    crossdock: Crossdock, other: DockerRegistry, tmp_path: Path
) -> None:
    file = migration(tmp_path, {"source": "127.0.0.1:1", "targets": [other.host]})
    crossdock.fail("plan", file, "--out", tmp_path / "PLAN.json", code=SOURCE)
    assert list(tmp_path.glob("*PLAN*")) == []


def test_measuring_reads_64_mib_at_most_and_gives_seconds(
    crossdock: Crossdock,
    source: DockerRegistry,
    other: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    image = builder.image([builder.random_layer(5 << 20), builder.random_layer(1000)])
    push(source.remote, f"{repository}/app", builder, image, "v1")
    mirror = {"source": f"{source.host}/{repository}", "targets": [other.host]}
    slow = migration(tmp_path, mirror, limits={"bytes_per_second": "1MiB"})
    assert planned(crossdock, slow)["seconds"] == pytest.approx(5, abs=0.1)
    assert planned(crossdock, slow, "--measure")["seconds"] >= 5
    mark = source.mark()
    measured = planned(crossdock, migration(tmp_path, mirror), "--measure")
    assert 0 < measured["seconds"] < 60
    read = [each for each in source.accesses(mark) if each.method == "GET" and "/blobs/" in each.path]
    assert read


def test_a_mistake_in_the_file_is_shown_with_its_place(crossdock: Crossdock, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("version: 1\nmirrors:\n  - source: a.example\n    target: b.example\n")
    assert f"{file}:4" in crossdock.fail("plan", file, code=USAGE)


def test_a_table_for_people(
    crossdock: Crossdock,
    source: DockerRegistry,
    other: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    push(source.remote, f"{repository}/app", builder, builder.image([builder.random_layer(2048)]), "v1")
    mirror = {"name": "team", "source": f"{source.host}/{repository}", "targets": [other.host]}
    text = crossdock.ok("plan", migration(tmp_path, mirror)).stdout
    head, row, *_ = text.splitlines()
    assert head.split()[:4] == ["mirror", "target", "repositories", "tags"]
    assert row.split()[:5] == ["team", other.host, "1", "1", "1"]
    assert "no problems" in text


def test_plain_registries_are_asked_once_a_tag_and_side(
    crossdock: Crossdock,
    source: DockerRegistry,
    other: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    image = builder.image([builder.random_layer(100)])
    for number in range(20):
        push(source.remote, f"{repository}/app", builder, image, f"v{number}")
        push(other.remote, "app", builder, image, f"v{number}")
    file = migration(tmp_path, {"source": f"{source.host}/{repository}", "targets": [other.host]})
    marks = source.mark(), other.mark()
    assert planned(crossdock, file)["totals"]["tags_unchanged"] == 20
    for registry, mark in zip((source, other), marks, strict=True):
        asked = [each for each in registry.accesses(mark) if "/manifests/" in each.path]
        assert ([each.method for each in asked], len(asked)) == (["HEAD"] * 20, 20)


def test_our_own_registry_is_listed_in_bulk(
    crossdock: Crossdock, builder: ImageBuilder, tmp_path: Path, closing: ExitStack
) -> None:
    """One list per repository and side, as the log of requests shows."""
    sides = [start_embedded(tmp_path, tmp_path / name, closing) for name in ("one", "two")]
    image = builder.image([builder.random_layer(100)])
    for side in sides:
        for number in range(10):
            push(side.remote, "app", builder, image, f"v{number}")
    file = migration(tmp_path, {"source": sides[0].host, "targets": [sides[1].host]})
    plan = planned(crossdock, file)
    assert plan["totals"]["tags_unchanged"] == 10
    assert all(each["needed"] <= 4 for each in plan["requests"].values()), plan["requests"]


def test_a_layout_as_source(
    crossdock: Crossdock, other: DockerRegistry, builder: ImageBuilder, tmp_path: Path
) -> None:
    """Its repository is the target's prefix itself."""
    made = ImageBuilder(tmp_path / "layout")
    image, lost = (made.image([made.random_layer(size)]) for size in (700, 900))
    made.tag(image, "v1")
    made.tag(image, "not/a:tag")
    made.list_untagged(lost)
    file = migration(
        tmp_path, {"source": "oci:layout", "targets": [f"{other.host}/one/app"], "untagged": True}
    )
    [entry] = planned(crossdock, file)["entries"]
    assert (entry["source"], entry["repositories"], entry["images"]) == (f"oci:{tmp_path}/layout", 1, 2)
    assert (entry["tags"], entry["tags_new"]) == (3, 3)
    graphs = [walk(made.read, each.digest) for each in (image, lost)]
    assert entry["bytes_to_move"] == sum({**graphs[0].blobs, **graphs[1].blobs}.values())
    [problem] = entry["problems"]
    assert (problem["kind"], problem["reference"]) == ("name", f"{other.host}/one/app:not/a:tag")


def test_chosen_platforms_are_compared_as_they_are_at_the_target(
    crossdock: Crossdock,
    source: DockerRegistry,
    other: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    images = [
        builder.image([builder.random_layer(500)], f"linux/{each}") for each in ("amd64", "arm64", "s390x")
    ]
    graph = push(source.remote, f"{repository}/app", builder, builder.index(images), "v1")
    single = walk(builder.read, images[0].digest)
    for platforms in (["linux/amd64"], ["linux/amd64", "linux/arm64"]):
        target = f"{other.host}/p{len(platforms)}"
        mirror = {"source": f"{source.host}/{repository}", "targets": [target], "platforms": platforms}
        file = migration(tmp_path, mirror)
        [entry] = planned(crossdock, file)["entries"]
        assert entry["bytes_to_move"] + entry["bytes_to_mount"] < graph.blob_bytes
        if len(platforms) == 1:
            assert entry["bytes_to_move"] == single.blob_bytes
        flags = [word for each in platforms for word in ("--platform", each)]
        crossdock.ok("mirror", f"{source.host}/{repository}", target, *flags, "--progress", "none")
        [entry] = planned(crossdock, file, "--exit-code")["entries"]
        assert (entry["tags_unchanged"], entry["tags_changed"]) == (1, 0)


def test_a_blob_is_moved_once_to_a_registry_whatever_entry_needs_it(
    crossdock: Crossdock,
    source: DockerRegistry,
    other: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    image = builder.image([builder.random_layer(5000)])
    size = push(source.remote, f"{repository}/a/app", builder, image, "v1").blob_bytes
    push(source.remote, f"{repository}/b/app", builder, image, "v1")
    mirrors = [
        {"source": f"{source.host}/{repository}/{name}", "targets": [f"{other.host}/{name}"]} for name in "ab"
    ]
    plan = planned(crossdock, migration(tmp_path, *mirrors))
    assert (plan["totals"]["bytes_to_move"], plan["totals"]["bytes_to_mount"]) == (size, size)
    into_one = [
        {**mirror, "targets": [f"{other.host}/same"], "tags": {"include": ["v*"]}} for mirror in mirrors
    ]
    plan = planned(crossdock, migration(tmp_path, *into_one), "--exit-code", code=HINDERED)
    [problem] = [problem for entry in plan["entries"] for problem in entry["problems"]]
    assert (problem["kind"], problem["reference"]) == ("collision", f"{other.host}/same/app:v1")
    assert "/a/app:v1" in problem["detail"]
    assert "/b/app:v1" in problem["detail"]


def test_a_manifest_that_nobody_understands(
    crossdock: Crossdock,
    other: DockerRegistry,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    made = ImageBuilder(tmp_path / "layout")
    odd = made.manifest({"schemaVersion": 1, "mediaType": SCHEMA1, "fsLayers": []})
    made.tag(odd, "old")
    made.tag(made.image([made.random_layer(10)]), "new")
    file = migration(tmp_path, {"source": "oci:layout", "targets": [f"{other.host}/app"]})
    plan = planned(crossdock, file, "--exit-code", code=HINDERED)
    [problem] = plan["entries"][0]["problems"]
    assert problem["kind"] == "unsupported"
    assert "schema 1" in problem["detail"]


def test_tags_that_the_source_does_not_give(
    crossdock: Crossdock,
    source: DockerRegistry,
    other: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    fault_proxy: Callable[..., FaultProxy],
    tmp_path: Path,
) -> None:
    """They are problems, and counted."""
    image = builder.image([builder.random_layer(10)])
    names = ("denied", "gone", "good", "page", "schema1", "strange")
    for tag in names:
        push(source.remote, f"{repository}/app", builder, image, tag)
    proxy = fault_proxy(source.host)
    page = Answer(200, {"Content-Type": "text/html"}, b"<html>sign in</html>")
    odd = {"schemaVersion": 1, "name": "app", "tag": "schema1", "fsLayers": [], "history": []}
    answers = {
        "denied": error(403),
        "gone": error(404),
        "page": page,
        "schema1": Answer(200, {"Content-Type": SCHEMA1}, json.dumps(odd).encode()),
        "strange": Answer(200, {"Content-Type": "application/vnd.acme.thing+json"}, b'{"schemaVersion": 2}'),
    }
    for tag, answer in answers.items():
        proxy.add(Fault(f"* */app/manifests/{tag}", times=None, answer=answer))
    mirror = {"source": f"{proxy.host}/{repository}", "targets": [other.host]}
    plan = planned(crossdock, migration(tmp_path, mirror), "--exit-code", "--retries", "0", code=HINDERED)
    [entry] = plan["entries"]
    kinds = {each["reference"].rpartition(":")[2]: each["kind"] for each in entry["problems"]}
    unsupported = ("gone", "page", "schema1", "strange")
    assert kinds == {"denied": "denied", **dict.fromkeys(unsupported, "unsupported")}
    assert (entry["tags"], entry["tags_new"]) == (len(names), len(names))


def test_signatures_that_the_target_adds_to_are_unchanged(
    crossdock: Crossdock,
    source: DockerRegistry,
    other: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    """They are copied for all platforms, as the target's own stay."""
    image = builder.image([builder.random_layer(100)])
    theirs, own = builder.random_layer(200), builder.random_layer(300)
    tag = image.digest.replace(":", "-") + ".sig"
    for remote, name in ((source.remote, f"{repository}/app"), (other.remote, "app")):
        push(remote, name, builder, image, "v1")
    push(source.remote, f"{repository}/app", builder, builder.image([theirs]), tag)
    push(other.remote, "app", builder, builder.image([theirs, own]), tag)
    mirror = {"source": f"{source.host}/{repository}", "targets": [other.host], "platforms": ["linux/amd64"]}
    [entry] = planned(crossdock, migration(tmp_path, mirror), "--exit-code")["entries"]
    assert (entry["tags_unchanged"], entry["problems"]) == (2, [])
    push(other.remote, "app", builder, builder.image([own]), tag)
    [entry] = planned(crossdock, migration(tmp_path, mirror), "--exit-code", code=SOMETHING_TO_DO)["entries"]
    assert (entry["tags_unchanged"], entry["tags_changed"]) == (1, 1)


def test_the_limits_of_the_file_hold_for_a_plan_too(
    crossdock: Crossdock,
    source: DockerRegistry,
    other: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    """As many requests within a second as a second's limit and what may come at once."""
    image = builder.image([builder.random_layer(100)])
    for number in range(12):
        push(source.remote, f"{repository}/app", builder, image, f"v{number}")
    mirror = {"source": f"{source.host}/{repository}", "targets": [other.host]}
    file = migration(tmp_path, mirror, limits={"hosts": {source.host: {"requests_per_second": 4}}})
    requests = planned(crossdock, file)["requests"]
    assert requests[source.host]["limit_per_minute"] == 240
    assert requests[source.host]["minutes"] == pytest.approx(requests[source.host]["needed"] / 240, abs=0.01)
    assert requests[other.host]["limit_per_minute"] is None


def test_a_source_that_does_not_answer_is_left_out_of_the_plan(
    crossdock: Crossdock,
    source: DockerRegistry,
    other: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    """The others are planned; the exit code is that of the error."""
    push(source.remote, f"{repository}/app", builder, builder.image([builder.random_layer(10)]), "v1")
    mirrors = [
        {"source": "127.0.0.1:2", "targets": [f"{other.host}/one"]},
        {"source": f"{source.host}/{repository}", "targets": [f"{other.host}/two", "127.0.0.1:1/three"]},
    ]
    file = migration(tmp_path, *mirrors)
    finished = crossdock("plan", file, "--output", "json", "--exit-code", "--retries", "0")
    assert [each["tags_new"] for each in finished.result["entries"]] == [0, 1, 0]
    assert finished.result["entries"][2]["bytes_to_move"] == 0
    assert finished.code == DIFFERENT
    missing = {
        "source": f"{source.host}/{repository}",
        "targets": [other.host],
        "repositories": {"include": ["missing"]},
    }
    finished = crossdock("plan", migration(tmp_path, missing), "--output", "json", "--exit-code")
    assert (finished.code, finished.result["entries"][0]["problems"]) == (NOT_FOUND, [])
