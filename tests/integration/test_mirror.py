"""``crossdock mirror`` between registries: everything arrives, and the second run has nothing to do."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from crossdock import CopyOptions, PairResult, mirror_sync
from crossdock.events import CopyDone, CopyStarted, Event
from crossdock.imagebuilder import Content, ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Break, Fault
from support.command import AUTH, CANCELLED, NOT_FOUND, USAGE, Crossdock
from support.docker_registry import DockerRegistry, htpasswd_file
from support.embedded import start_embedded
from support.faults import wait_set
from support.images import push
from support.nginx import start_proxy
from support.push import Remote

pytestmark = pytest.mark.real

REPOSITORIES = 30
QUIET = ("--output", "json", "--progress", "none")
INDEX = "application/vnd.oci.image.index.v1+json"
SIGNATURE = "application/vnd.example.signature"

State = dict[str, dict[str, str]]


def attach(
    remote: Remote, repository: str, builder: ImageBuilder, subject: Content, *, count: int = 1
) -> str:
    """Referrers of `subject` with their list in the fallback tag, which is returned."""
    entries = []
    for _ in range(count):
        referrer = builder.artifact(SIGNATURE, [builder.random_layer(300)], subject=subject)
        push(remote, repository, builder, referrer)
        entries.append({**referrer.document(), "artifactType": SIGNATURE})
    tag = subject.digest.replace(":", "-")
    # Not as this project would write it: what is mirrored has other authors.
    data = json.dumps({"manifests": entries, "mediaType": INDEX, "schemaVersion": 2}, indent=1).encode()
    remote.push_manifest(repository, data, INDEX, tag)
    return tag


def fill(remote: Remote, prefix: str, builder: ImageBuilder, repositories: int = REPOSITORIES) -> None:
    """Repositories ``PREFIX/r0``, ``PREFIX/group/r1``, … with an image and an index; the first is signed."""
    shared = builder.random_layer(20_000)
    for number in range(repositories):
        name = f"{prefix}/{'group/' if number % 2 else ''}r{number}"
        image = builder.image([shared, builder.random_layer(2000)])
        index = builder.index([image, builder.image([shared, builder.random_layer(500)], "linux/arm64")])
        push(remote, name, builder, image, "v1")
        push(remote, name, builder, index, "v2")
        push(remote, name, builder, index, "latest")
        if number == 0:
            attach(remote, name, builder, image)
            cosign = builder.image([builder.random_layer(200)])
            push(remote, name, builder, cosign, index.digest.replace(":", "-") + ".sig")


def state_of(remote: Remote, prefix: str = "") -> State:
    """Repository, below the prefix → tag → digest."""
    start = f"{prefix}/" if prefix else ""
    catalog = remote.request("GET", "/v2/_catalog?n=1000").json()["repositories"]
    return {
        name.removeprefix(start): {
            tag: remote.manifest(name, tag).headers["docker-content-digest"] for tag in remote.tags(name)
        }
        for name in catalog
        if name.startswith(start)
    }


@pytest.fixture
def state(source: DockerRegistry, repository: str, builder: ImageBuilder) -> State:
    """The content of `repository` at the source."""
    fill(source.remote, repository, builder)
    return state_of(source.remote, repository)


def test_everything_arrives_and_a_second_run_requests_each_tag_once(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    state: State,
    tmp_path: Path,
) -> None:
    places = f"{source.host}/{repository}", f"{target.host}/copy/{repository}"
    copies = sum(map(len, state.values()))
    assert copies == 3 * REPOSITORIES + 2
    begin = source.mark()
    first = crossdock.ok("mirror", *places, *QUIET, "--report", tmp_path / "report").result
    assert state_of(target.remote, f"copy/{repository}") == state
    assert first["totals"]["repositories"] == REPOSITORIES
    assert first["totals"]["tags"] == first["totals"]["copies"] == copies
    assert first["totals"]["failed"] == 0
    assert first["not_copied"] == []
    assert {each["source"] for each in first["copies"]} == {
        f"{places[0]}/{name}:{tag}" for name, tags in state.items() for tag in tags
    }
    read = [each.path for each in source.accesses(begin) if each.method == "GET" and "/blobs/" in each.path]
    digests = [path.rpartition("/")[2] for path in read]
    assert len(digests) == len(set(digests)), "one repository brings a layer, the others mount it"
    report = json.loads((tmp_path / "report").read_text())
    assert sum(len(each["blobs"]) for each in report["copies"]) > copies
    assert report["error"] is None

    marks = source.mark(), target.mark()
    again = crossdock.ok("mirror", *places, *QUIET).result["totals"]
    assert (again["unchanged"], again["copied"], again["bytes_moved"]) == (copies, 0, 0)
    asked = [each for each in target.accesses(marks[1]) if "/manifests/" in each.path]
    assert {each.method for each in asked} == {"HEAD"}
    assert len(asked) == copies
    asked = [each for each in source.accesses(marks[0]) if "/manifests/" in each.path]
    assert ([each.method for each in asked], len(asked)) == (["HEAD"] * copies, copies)


def test_two_targets_get_everything(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    new_registry: Callable[..., DockerRegistry],
    repository: str,
    state: State,
) -> None:
    other = new_registry("other")
    places = f"{source.host}/{repository}", f"{target.host}/{repository}", other.host
    done = crossdock.ok("mirror", *places, "--progress", "none")
    assert state_of(target.remote, repository) == state_of(other.remote) == state
    last = done.stdout.splitlines()[-1]
    copies = 2 * sum(map(len, state.values()))
    assert last.startswith(f"mirrored 30 repositories, {copies // 2} tags to 2 registries: ")
    again = crossdock.ok("mirror", *places, "--progress", "none").stdout.splitlines()
    assert len(again) == 1
    assert f"0 copied, {copies} unchanged, 0 failed" in again[0]


@pytest.mark.parametrize("command", ["mirror", "apply"])
def test_the_source_is_read_once_for_all_targets(
    command: str,
    crossdock: Crossdock,
    source: DockerRegistry,
    source_faults: FaultProxy,
    target: DockerRegistry,
    closing: ExitStack,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    other = start_embedded(tmp_path, tmp_path / "served", closing)
    shared = [builder.random_layer(size) for size in (3_000_000, 30_000)]  # with and without ranges
    sizes: dict[str, int] = {}
    for number in range(6):
        own = [builder.random_layer(size + number) for size in (2_000_000, 20_000)]
        graph = push(source.remote, f"{repository}/r{number}", builder, builder.image([*shared, *own]), "v1")
        sizes |= graph.blobs
    places = [f"{source_faults.host}/{repository}", f"{target.host}/{repository}", other.host]
    if command == "mirror":
        crossdock.ok("mirror", *places, *QUIET)
    else:
        entry = {"source": places[0], "targets": places[1:]}
        (tmp_path / "m.yaml").write_text(json.dumps({"version": 1, "mirrors": [entry]}))
        crossdock.ok("apply", tmp_path / "m.yaml", *QUIET)
    source_faults.settle()
    assert sum(seen.sent for seen in source_faults.seen if seen.is_blob_get()) == sum(sizes.values())
    assert source_faults.count(lambda r: r.method == "GET" and "/manifests/" in r.path) == 6
    state = state_of(source.remote, repository)
    assert state_of(target.remote, repository) == state_of(other.remote) == state


def test_a_target_that_refuses_does_not_keep_the_others_from_anything(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    target_faults: FaultProxy,
    closing: ExitStack,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    other = start_embedded(tmp_path, tmp_path / "served", closing)
    for number in range(3):
        layers = [builder.random_layer(size) for size in (2_000_000, 20_000)]
        push(source.remote, f"{repository}/r{number}", builder, builder.image(layers), "v1")
    target_faults.add(Fault(lambda r: r.is_upload_start(), times=None, answer=Answer(403)))
    places = [f"{source.host}/{repository}", f"{target_faults.host}/{repository}", other.host]
    done = crossdock("mirror", *places, *QUIET)
    assert done.code == AUTH, str(done)
    totals = done.result["totals"]
    assert (totals["copies"], totals["copied"], totals["failed"]) == (6, 3, 3)
    assert {line.partition(" ")[2].partition("/")[0] for line in done.result["not_copied"]} == {
        target_faults.host
    }
    assert state_of(other.remote) == state_of(source.remote, repository)
    assert state_of(target.remote, repository) == {}


def test_patterns_choose_and_a_dry_run_lists_what_from_file_takes(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    state: State,
    tmp_path: Path,
) -> None:
    places = f"{source.host}/{repository}", f"{target.host}/{repository}"
    words = ("--repository", "group/*", "--repository", "r1?", "--exclude", "*9", "--tags", "v*")
    before = target.mark()
    listing = crossdock.ok("mirror", *places, *words, "--dry-run").stdout
    assert target.accesses(before) == []
    wanted = {
        f"{name}:{tag}"
        for name in state
        if (name.startswith("group/") or (name.startswith("r1") and len(name) == 3)) and name[-1] != "9"
        for tag in ("v1", "v2")
    }
    assert set(listing.splitlines()) == {f"{places[0]}/{each} {places[1]}/{each}" for each in wanted}
    crossdock.ok("copy", "--from-file", "-", "--progress", "none", stdin=listing)
    totals = crossdock.ok("mirror", *places, *words, *QUIET).result["totals"]
    assert (totals["unchanged"], totals["copied"]) == (len(wanted), 0)


def test_tags_are_chosen_by_version_and_number_and_names_changed(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    images = [builder.image([builder.random_layer(300)]) for _ in range(6)]
    tags = ("1.0", "1.1", "1.2-rc.1", "2.0", "3.0", "latest")
    for name in ("lib-a", "team/app"):
        for image, tag in zip(images, tags, strict=True):
            push(source.remote, f"{repository}/{name}", builder, image, tag)
        signature = builder.image([builder.random_layer(100)])
        for signed in (images[1], images[4]):
            tag = signed.digest.replace(":", "-") + ".sig"
            push(source.remote, f"{repository}/{name}", builder, signature, tag)
    places = f"{source.host}/{repository}", f"{target.host}/{repository}"
    words = (
        "--semver",
        ">=1 <3",
        "--newest",
        "2",
        "--rename",
        r"^lib-(.*)$=libs/\1",
        "--exclude-tags",
        "/^2/",
    )
    done = crossdock.ok("mirror", *places, *words, *QUIET).result["totals"]
    assert (done["tags"], done["copied"]) == (4, 4)
    signatures = {images[1].digest.replace(":", "-") + ".sig"}
    for name in ("libs/a", "team/app"):
        assert set(target.remote.tags(f"{repository}/{name}")) == {"1.0", "1.1"} | signatures
    again = crossdock.ok("mirror", *places, *words, *QUIET).result["totals"]
    assert (again["unchanged"], again["copied"]) == (4, 0)
    crossdock.ok("mirror", *places, "--tags", "/^[23]\\./", "--flatten", "1", *QUIET)
    assert {"2.0", "3.0"} <= set(target.remote.tags(f"{repository}/app"))


def test_names_that_become_one_are_refused_before_anything_is_copied(
    crossdock: Crossdock, source: DockerRegistry, target: DockerRegistry, repository: str, state: State
) -> None:
    places = f"{source.host}/{repository}", f"{target.host}/{repository}"
    before = target.mark()
    words = ("--rename", "^.*r[01]$=r")
    crossdock.fail("mirror", *places, *words, code=USAGE, naming=["group/r1 and r0 both become r"])
    assert target.accesses(before) == []


def test_tags_are_chosen_by_push_time_where_the_source_tells_it(
    crossdock: Crossdock,
    closing: ExitStack,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    tmp_path: Path,
    builder: ImageBuilder,
) -> None:
    azure = start_embedded(tmp_path, tmp_path / "root", closing)
    image = builder.image([builder.random_layer(900)])
    push(azure.remote, f"{repository}/a", builder, image, "v1")
    push(source.remote, f"{repository}/a", builder, image, "v1")
    there = f"{target.host}/times"
    young = crossdock("mirror", azure.host, there, "--min-age", "1h")
    assert (young.code, "none of the 1 tag" in young.stderr) == (12, True), str(young)
    crossdock.ok("mirror", azure.host, there, "--pushed-after", "1h", "--newest", "1", "--sort", "pushed")
    assert target.remote.tags(f"times/{repository}/a") == ["v1"]
    words = "mirror", f"{source.host}/{repository}", f"{target.host}/else", "--min-age", "1h"
    before = target.mark()
    crossdock.fail(*words, code=USAGE, naming=["does not say when", "push time"])
    assert target.accesses(before) == []


@pytest.mark.parametrize(("existing", "code"), [("report", 0), ("refuse", 11)])
def test_tags_that_mean_something_else_stay(
    existing: str,
    code: int,
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    images = [builder.image([builder.random_layer(300)]) for _ in range(2)]
    push(source.remote, f"{repository}/a", builder, images[0], "moved")
    push(source.remote, f"{repository}/a", builder, images[0], "new")
    push(target.remote, f"{repository}/a", builder, images[1], "moved")
    places = f"{source.host}/{repository}", f"{target.host}/{repository}"
    done = crossdock("mirror", *places, "--existing", existing, *QUIET)
    assert done.code == code, str(done)
    totals = done.result["totals"]
    assert (totals["copied"], totals["reported"], totals["failed"]) == (1, int(not code), int(bool(code)))
    assert state_of(target.remote, repository)["a"] == {
        "moved": images[1].digest,
        "new": images[0].digest,
    }
    pair = f"{source.host}/{repository}/a:moved", f"{target.host}/{repository}/a:moved"
    assert crossdock("copy", *pair, "--existing", existing).code == code
    listed = crossdock("copy", "--from-file", "-", "--existing", existing, stdin=" ".join(pair))
    assert listed.code == code


def test_a_list_of_sources_goes_below_a_place(
    crossdock: Crossdock, source: DockerRegistry, target: DockerRegistry, repository: str, state: State
) -> None:
    sources = [f"{source.host}/{repository}/r0:v1", f"{source.host}/{repository}/group/r1:v2"]
    crossdock.ok("copy", "--from-file", "-", "--to", f"{target.host}/below", stdin="\n".join(sources))
    assert target.remote.tags(f"below/{repository}/r0") == ["v1"]
    assert target.remote.tags(f"below/{repository}/group/r1") == ["v2"]


def test_content_that_the_target_attached_itself_stays(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    image = builder.image([builder.random_layer(900)])
    push(source.remote, f"{repository}/a", builder, image, "v1")
    places = f"{source.host}/{repository}", f"{target.host}/{repository}"
    crossdock.ok("mirror", *places, *QUIET)
    tag = attach(source.remote, f"{repository}/a", builder, image, count=2)
    attach(target.remote, f"{repository}/a", builder, image)

    def listed(remote: Remote) -> set[str]:
        return {each["digest"] for each in remote.manifest(f"{repository}/a", tag).json()["manifests"]}

    ours, theirs = listed(source.remote), listed(target.remote)
    assert not ours & theirs
    crossdock.ok("mirror", *places, *QUIET)
    assert listed(target.remote) == ours | theirs
    assert crossdock.ok("mirror", *places, *QUIET).result["totals"]["unchanged"] == 2


def test_signatures_that_come_later_are_found_by_the_referrers_api(
    crossdock: Crossdock, closing: ExitStack, target: DockerRegistry, tmp_path: Path, builder: ImageBuilder
) -> None:
    source = start_embedded(tmp_path, tmp_path / "root", closing)
    image = builder.image([builder.random_layer(900)])
    push(source.remote, "late/a", builder, image, "v1")
    places = source.host, target.host
    crossdock.ok("mirror", *places, *QUIET)
    assert crossdock.ok("mirror", *places, *QUIET).result["totals"]["unchanged"] == 1
    referrer = builder.artifact(SIGNATURE, [builder.random_layer(300)], subject=image)
    push(source.remote, "late/a", builder, referrer)
    assert crossdock.ok("mirror", *places, *QUIET).result["totals"]["copied"] == 1
    assert target.remote.manifest("late/a", referrer.digest).status == 200
    assert crossdock.ok("mirror", *places, *QUIET).result["totals"]["unchanged"] == 1
    assert crossdock.ok("mirror", *places, "--no-referrers", *QUIET).result["totals"]["unchanged"] == 1


def test_manifests_without_a_tag_are_copied_where_they_can_be_listed(
    crossdock: Crossdock,
    closing: ExitStack,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    tmp_path: Path,
    builder: ImageBuilder,
) -> None:
    azure = start_embedded(tmp_path, tmp_path / "root", closing)
    image, loose = (builder.image([builder.random_layer(900)]) for _ in range(2))
    push(azure.remote, f"{repository}/a", builder, image, "v1")
    push(azure.remote, f"{repository}/a", builder, loose)
    crossdock.ok("mirror", azure.host, target.host, *QUIET)
    assert target.remote.manifest(f"{repository}/a", loose.digest).status == 404
    crossdock.ok("mirror", azure.host, target.host, "--untagged", *QUIET)
    assert target.remote.manifest(f"{repository}/a", loose.digest).status == 200
    assert target.remote.tags(f"{repository}/a") == ["v1"]
    again = crossdock.ok("mirror", azure.host, target.host, "--untagged", *QUIET).result["totals"]
    assert (again["unchanged"], again["copied"]) == (2, 0)
    push(source.remote, f"{repository}/a", builder, image, "v1")
    words = "mirror", f"{source.host}/{repository}", f"{target.host}/else", "--untagged"
    error = crossdock.fail(*words, code=5, naming=["no API", "omit --untagged"])
    assert error.count("list manifests of") == 1


def test_a_broken_repository_leaves_the_others_alone(
    crossdock: Crossdock,
    source: DockerRegistry,
    source_faults: FaultProxy,
    target: DockerRegistry,
    repository: str,
    state: State,
) -> None:
    source_faults.add(Fault(lambda r: "/r2/tags/list" in r.path, times=None, answer=Answer(403)))
    source_faults.add(Fault(lambda r: r.path.endswith("/r4/manifests/v1"), times=None, answer=Answer(404)))
    places = f"{source_faults.host}/{repository}", f"{target.host}/{repository}"
    done = crossdock("mirror", *places, *QUIET)
    assert done.code == 9, str(done)
    totals, lines = done.result["totals"], done.stderr.splitlines()
    assert (totals["failed"], totals["repositories"]) == (2, REPOSITORIES)
    assert len([line for line in lines if line.startswith("crossdock: ")]) == 3
    assert "2 of 90 copies failed" in lines[-2]
    assert sorted(done.result["not_copied"]) == [
        f"{places[0]}/r2 {places[1]}/r2",
        f"{places[0]}/r4:v1 {places[1]}/r4:v1",
    ]
    there = state_of(target.remote, repository)
    missing = {name: tags for name, tags in state.items() if there.get(name) != tags}
    assert set(missing) == {"r2", "r4"}
    assert set(there["r4"]) == {"v2", "latest"}
    fast = crossdock("mirror", *places, "--fail-fast", *QUIET)
    assert fast.result["totals"]["failed"] >= 1


def test_a_catalog_that_is_refused_needs_names(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    closing: ExitStack,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    push(source.remote, f"{repository}/a", builder, builder.helm_chart(), "v1")
    front = start_proxy(
        tmp_path / "nginx",
        f"http://{source.host}",
        "proxy_set_header Host $http_host; } location /v2/_catalog { return 403;",
    )
    closing.callback(front.stop)
    places = f"{front.host}/{repository}", f"{target.host}/{repository}"
    for words in ((), ("--repository", "a*")):
        naming = ["list repositories of source", "with --repository"]
        crossdock.fail("mirror", *places, *words, code=AUTH, naming=naming)
    crossdock.ok("mirror", *places, "--repository", "a", *QUIET)
    assert state_of(target.remote, repository) == state_of(source.remote, repository)
    missing = crossdock("mirror", *places, "--repository", "none", *QUIET)
    assert missing.code == NOT_FOUND, str(missing)


def test_both_sides_take_credentials_and_names_of_the_inventory(
    crossdock: Crossdock,
    new_registry: Callable[..., DockerRegistry],
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    registries, entries = [], []
    for name in ("here", "there"):
        path = htpasswd_file(tmp_path / f"htpasswd-{name}", name, f"pw-{name}")
        auth = {"htpasswd": {"realm": name, "path": str(path)}}
        registries.append(new_registry(name, auth=auth, basic=f"{name}:pw-{name}"))
        entries.append(
            {
                "name": f"registry{name}",
                "login_server": registries[-1].host,
                "credentials": {"username": name, "password_env": f"PW_{name.upper()}"},
            }
        )
    here, there = registries
    (tmp_path / "inventory.yaml").write_text(json.dumps({"registries": entries}))
    fill(here.remote, repository, builder, 2)
    flags = ("--inventory", tmp_path / "inventory.yaml", *QUIET)
    secrets = {"PW_HERE": "pw-here", "PW_THERE": "pw-there"}
    crossdock.ok("mirror", "registryhere", f"registrythere/{repository}", *flags, env=secrets)
    assert state_of(there.remote, f"{repository}") == state_of(here.remote)
    stdin = "here:pw-here\nthere:pw-there\n"
    words = (here.host, f"{there.host}/again", "--src-creds-stdin", "--dest-creds-stdin", *QUIET)
    crossdock.ok("mirror", *words, stdin=stdin)
    assert state_of(there.remote, "again") == state_of(here.remote)
    crossdock.fail("mirror", here.host, there.host, code=AUTH, naming=["list repositories of source"])


def test_after_a_kill_the_same_command_resumes(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
    state: State,
) -> None:
    places = f"{source.host}/{repository}", f"{target_faults.host}/{repository}"
    stall = target_faults.add(
        Fault(lambda r: r.method == "PUT" and "/r20/manifests/" in r.path, breaks=Break("stall", "request"))
    )
    with crossdock.start("mirror", *places, "--progress", "none") as running:
        wait_set(stall.reached, "a manifest to be pushed")
        os.kill(running.pid, signal.SIGKILL)
        running.finish()
    target_faults.settle()
    target_faults.faults.clear()
    crossdock.ok("mirror", *places, *QUIET)
    assert state_of(target.remote, repository) == state


def test_ctrl_c_says_what_was_done_and_what_was_not(
    crossdock: Crossdock,
    source: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
    state: State,
    tmp_path: Path,
) -> None:
    stall = target_faults.add(
        Fault(lambda r: r.method == "PUT" and "/r20/manifests/" in r.path, breaks=Break("stall", "request"))
    )
    places = f"{source.host}/{repository}", f"{target_faults.host}/{repository}"
    report = tmp_path / "report"
    with crossdock.start("mirror", *places, "--report", report, "--progress", "none") as running:
        wait_set(stall.reached, "a manifest to be pushed")
        running.interrupt()
        done = running.finish()
    assert done.code == CANCELLED, str(done)
    document = json.loads(report.read_text())
    totals = document["totals"]
    assert done.error == (
        f"crossdock: cancelled when {totals['copied']} of {totals['copies']} copies were done"
    )
    assert totals["cancelled"] >= 1
    assert len(document["copies"]) == totals["copies"]
    assert len(document["not_copied"]) == totals["cancelled"] + totals["not_begun"]


def test_the_library_tells_of_each_copy(
    source: DockerRegistry, target: DockerRegistry, repository: str, builder: ImageBuilder
) -> None:
    fill(source.remote, repository, builder, 2)
    places = f"{source.host}/{repository}", f"{target.host}/{repository}"
    told: dict[int, str] = {}

    def note(index: int, result: PairResult) -> None:
        told[index] = result.status

    result = mirror_sync(*places, CopyOptions(), tags=["v*"], on_result=note)
    assert told == dict.fromkeys(range(4), "copied")
    assert (result.copied, result.unchanged, result.failure) == (4, 0, None)
    assert result.totals["blobs_moved"] > 0
    again = mirror_sync(places[0], [places[1]], repositories=["r0"], tags=["v1"])
    assert (again.repositories, again.tags, again.copied, again.unchanged) == (1, 1, 0, 1)


def test_tags_of_one_manifest_are_copied_together_and_told_one_by_one(
    source: DockerRegistry,
    source_faults: FaultProxy,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    images = [builder.image([builder.random_layer(400)]) for _ in range(2)]
    wanted = {}
    for number in range(6):
        push(source.remote, f"{repository}/a", builder, images[number % 2], f"v{number}")
        wanted[f"v{number}"] = images[number % 2].digest
    places = f"{source_faults.host}/{repository}", f"{target.host}/{repository}"
    results: dict[int, PairResult] = {}
    events: list[tuple[int, type]] = []

    def listen(index: int, event: Event) -> None:
        if isinstance(event, CopyStarted | CopyDone):
            events.append((index, type(event)))

    for status in ("copied", "unchanged"):
        events.clear()
        before = len(source_faults.seen)
        done = mirror_sync(*places, on_result=results.__setitem__, on_event=listen)
        assert (done.tags, done.copies, getattr(done, status), done.failed) == (6, 6, 6, 0)
        assert {each.source.rpartition(":")[2]: each.result.digest for each in results.values()} == wanted
        assert {each.target.rpartition(":")[2] for each in results.values()} == set(wanted)
        assert {each.status for each in results.values()} == {status}
        assert {each.result.tag for each in results.values()} == {"new" if status == "copied" else status}
        assert Counter(events) == Counter(
            (index, kind) for index in range(6) for kind in (CopyStarted, CopyDone)
        )
        assert done.totals["manifests"] == 6
        source_faults.settle()
        got = [each for each in source_faults.seen[before:] if "/manifests/" in each.path]
        assert [each.method for each in got].count("GET") == (2 if status == "copied" else 0)
    assert state_of(target.remote, repository) == {"a": wanted}
    for name in ("v0", "v2"):  # both follow the first, and are copied together
        push(source.remote, f"{repository}/a", builder, images[1], name)
    push(source.remote, f"{repository}/a", builder, images[1], "v6")
    mirror_sync(*places, on_result=results.__setitem__)
    became = {each.target.rpartition(":")[2]: each.result for each in results.values()}
    assert {name: each.tag for name, each in became.items()} == {
        **dict.fromkeys(wanted, "unchanged"),
        **dict.fromkeys(("v0", "v2"), "moved"),
        "v6": "new",
    }
    assert {name: each.previous_digest for name, each in became.items()} == {**wanted, "v6": None}


def test_a_layout_is_mirrored_to_the_repository_that_a_target_names(
    crossdock: Crossdock, target: DockerRegistry, repository: str, tmp_path: Path
) -> None:
    made = ImageBuilder(tmp_path / "layout")
    image = made.image([made.random_layer(700)])
    for tag in ("v1", "v2", "not/a:tag"):
        made.tag(image, tag)
    words = ("mirror", f"oci:{tmp_path}/layout", f"{target.host}/{repository}/a", *QUIET)
    listed = crossdock.ok(*words[:3], "--tags", "v*", "--dry-run").stdout.splitlines()
    assert listed == [f"{words[1]}:{tag} {words[2]}:{tag}" for tag in ("v1", "v2")]
    done = crossdock(*words)
    totals = done.result["totals"]
    assert (done.code, totals["copied"], totals["failed"]) == (USAGE, 2, 1), str(done)
    assert done.result["not_copied"] == [f"{words[1]}:not/a:tag {words[2]}:not/a:tag"]
    assert state_of(target.remote, repository)["a"] == {"v1": image.digest, "v2": image.digest}
    again = crossdock.ok(*words, "--exclude-tags", "not*").result["totals"]
    assert (again["unchanged"], again["copied"]) == (2, 0)


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (("127.0.0.1:1/a", "127.0.0.1:1/a"), "hold the same repositories"),
        (("127.0.0.1:1", "127.0.0.1:1/backup"), "hold the same repositories"),
        (("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:2/x"), "hold the same repositories"),
        (("nowhere", "127.0.0.1:1"), "names no registry"),
        (("127.0.0.1:1/a:tag", "127.0.0.1:2"), "invalid reference"),
        (("oci:somewhere", "127.0.0.1:2"), "a layout is copied to HOST[:PORT]/REPOSITORY"),
        (("oci:somewhere:v1", "127.0.0.1:2/a"), "names one image"),
        (("oci:somewhere", "127.0.0.1:2/a", "--flatten", "1"), "named by the target"),
        (("127.0.0.1:1", "oci:somewhere"), "is no registry"),
    ],
)
def test_places_that_cannot_be_mirrored_are_refused(
    crossdock: Crossdock, places: tuple[str, ...], words: str
) -> None:
    crossdock.fail("mirror", *places, code=USAGE, naming=[words])
