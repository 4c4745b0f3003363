"""``crossdock acr import`` with several ``--name``: one read; all targets are checked before a byte moves."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Break, Fault
from support.cloud import CONFLICT, POLICY, RESOURCE_ID, Cloud, put
from support.command import AUTH, CANCELLED, USAGE, Crossdock
from support.docker_registry import DockerRegistry, htpasswd_file
from support.faults import wait_set
from support.images import assert_holds
from support.process import wait_until

pytestmark = pytest.mark.real

BOTH = ("--name", "myregistry", "--name", "second")
HELLO = ("--source", "docker.io/library/hello-world:latest")
SECRET = "of-the-second"


@pytest.fixture
def second(new_registry: Callable[..., DockerRegistry], tmp_path: Path) -> DockerRegistry:
    """A target registry with a password of its own."""
    users = htpasswd_file(tmp_path / "htpasswd", "bea", SECRET)
    auth = {"htpasswd": {"realm": "here", "path": str(users)}}
    return new_registry("second", auth=auth, basic=f"bea:{SECRET}")


@pytest.fixture
def cloud(
    crossdock: Crossdock, new_registry: Callable[..., DockerRegistry], second: DockerRegistry, tmp_path: Path
) -> Cloud:
    public = new_registry("public")
    who = {"username": "bea", "password_env": "SECOND"}
    crossdock.environment["SECOND"] = SECRET
    other = {"name": "second", "login_server": second.host, "credentials": who}
    return Cloud(crossdock, tmp_path, public, public, public, new_registry("target"), others=[other])


def blob_gets(registry: DockerRegistry) -> list[str]:
    return [each.path for each in registry.accesses() if each.method == "GET" and "/blobs/" in each.path]


def writes(registry: DockerRegistry) -> list[str]:
    return [each.method for each in registry.accesses() if each.method not in ("GET", "HEAD")]


def test_the_source_is_read_once_and_every_registry_gets_all_its_targets(
    cloud: Cloud, second: DockerRegistry
) -> None:
    graph = put(cloud.public, "library/hello-world", "latest")
    signature = f"{graph.root.replace(':', '-')}.sig"
    signed = put(cloud.public, "library/hello-world", signature, seed=2)
    words = (
        *BOTH,
        "-n",
        "myregistry",
        "-n",
        "",
        *HELLO,
        "-t",
        "a:1",
        "-t",
        "a:2",
        "--repository",
        "b",
        "-o",
        "json",
    )
    dry = cloud.run(*words, "--dry-run").result
    assert [each["status"] for each in dry["registries"]] == ["not begun"] * 2
    assert writes(cloud.target) == writes(second) == []
    done = cloud.run(*words).result
    assert list(done) == ["digest", "registries", "source", "source_bytes"]
    assert (done["digest"], done["source_bytes"]) == (graph.root, graph.blob_bytes + signed.blob_bytes)
    assert [each["registry"] for each in done["registries"]] == [cloud.target.host, second.host]
    assert [(each["status"], each["error"]) for each in done["registries"]] == [("copied", None)] * 2
    for each, registry in zip(done["registries"], (cloud.target, second), strict=True):
        assert [target["reference"] for target in each["targets"]] == [
            f"{registry.host}/{name}" for name in ("a:1", "a:2", "b")
        ]
        assert each["bytes_moved"] == done["source_bytes"]
        assert each["digest"] == each["source_digest"] == graph.root
        for repository, reference in (("a", "1"), ("a", "2"), ("b", graph.root)):
            assert_holds(registry.remote, repository, reference, graph)
            assert_holds(registry.remote, repository, signature, signed)
    assert len(blob_gets(cloud.public)) == len(set(blob_gets(cloud.public)))
    again = cloud.run(*words).result
    assert [each["status"] for each in again["registries"]] == ["unchanged"] * 2
    assert again["source_bytes"] == 0
    lines = cloud.run(*words[:-1], "table").stdout.splitlines()
    assert lines[0].split() == ["Registry", "Repository", "Tag", "Digest", "Status"]
    assert lines[-1].split() == [second.host, "b", graph.root, "unchanged"]


def test_a_conflict_at_one_ends_the_import_before_a_byte_goes_to_any(
    cloud: Cloud, second: DockerRegistry
) -> None:
    old = put(second, "a", "2", seed=9)
    graph = put(cloud.public, "library/hello-world", "latest")
    before = len(writes(second))
    words = (*BOTH, *HELLO, "-t", "a:1", "-t", "a:2")
    naming = (f"a:2 Tag a:2 already exists in target registry {second.host}", "--force")
    cloud.fail(*words, code=CONFLICT, naming=naming)
    assert (writes(cloud.target), len(writes(second)), blob_gets(cloud.public)) == ([], before, [])
    assert_holds(second.remote, "a", "2", old)
    cloud.run(*words, "--force")
    for registry in (cloud.target, second):
        for tag in "12":
            assert_holds(registry.remote, "a", tag, graph)
    signature = f"{graph.root.replace(':', '-')}.sig"
    put(second, "a", signature, seed=3)
    put(cloud.public, "library/hello-world", signature, seed=4)
    before = len(writes(second)), len(writes(cloud.target))
    cloud.fail(*words, code=CONFLICT, naming=(signature, second.host))
    assert (len(writes(second)), len(writes(cloud.target))) == before


def test_a_policy_and_a_name_that_is_wrong_are_found_before_any_request(
    cloud: Cloud, second: DockerRegistry
) -> None:
    put(cloud.public, "library/hello-world", "latest")
    marks = [(each, each.mark()) for each in (cloud.public, cloud.target, second)]
    cloud.fail("-n", "myregistry", "-n", "no_name", *HELLO, code=USAGE, naming=("Registry names may",))
    cloud.others[0] |= {"public_network_access": "Disabled", "network_rule_bypass_options": "None"}
    cloud.fail(*BOTH, *HELLO, code=POLICY, naming=("target registry second",))
    for registry, mark in marks:
        assert registry.accesses(mark) == []


def test_a_registry_that_fails_does_not_end_the_other_and_has_no_new_tag(
    cloud: Cloud, second: DockerRegistry, fault_proxy: Callable[..., FaultProxy]
) -> None:
    graph = put(cloud.azure, "app", "v1", index=True)
    proxy = fault_proxy(second.host)
    proxy.add(Fault(on="PUT /v2/b/manifests/*", times=None, answer=Answer(403)))
    cloud.others[0]["login_server"] = proxy.host
    words = ("--source", "app:v1", "--registry", RESOURCE_ID, "-t", "a:1", "-t", "b:2", "-o", "json")
    done = cloud.crossdock("acr", "import", *BOTH, *words, "--inventory", cloud.inventory())
    assert done.code == AUTH, str(done)
    result: dict[str, Any] = json.loads(done.stdout)
    good, bad = result["registries"]
    assert (good["status"], good["error"], bad["status"]) == ("copied", None, "failed")
    assert bad["error"]["exit_code"] == AUTH
    assert "--dest" not in done.stderr + json.dumps(bad["error"]), "advice names flags of another command"
    assert "1 of 2 copies failed" in done.stderr
    assert_holds(cloud.target.remote, "a", "1", graph)
    assert_holds(cloud.target.remote, "b", "2", graph)
    assert second.remote.tags("a") == second.remote.tags("b") == []


def test_ctrl_c_says_which_registry_has_the_image(
    cloud: Cloud, second: DockerRegistry, fault_proxy: Callable[..., FaultProxy]
) -> None:
    graph = put(cloud.public, "library/hello-world", "latest")
    proxy = fault_proxy(second.host)
    stalled = proxy.add(Fault(on="PUT /v2/hello/manifests/*", times=None, breaks=Break("stall", "request")))
    cloud.others[0]["login_server"] = proxy.host
    words = ("acr", "import", *BOTH, *HELLO, "-t", "hello:1", "-o", "json", "--progress", "json")
    with cloud.crossdock.start(*words, "--inventory", cloud.inventory()) as running:
        wait_set(stalled.reached, "the tag to be written")
        ends = (json.loads(line) for line in running.stderr if b'"copy_done"' in line)
        assert next(ends)["copy"] == 0
        running.interrupt()
        done = running.finish()
    assert done.code == CANCELLED, str(done)
    assert [each["status"] for each in json.loads(done.stdout)["registries"]] == ["copied", "cancelled"]
    assert_holds(cloud.target.remote, "hello", "1", graph)


def test_no_wait_goes_on_with_all_of_them(cloud: Cloud, second: DockerRegistry) -> None:
    put(cloud.public, "library/hello-world", "latest")
    done = cloud.run(*BOTH, *HELLO, "-t", "hello:1", "--no-wait")
    assert "Import has started" in done.stderr
    for registry in (cloud.target, second):
        wait_until(partial(lambda remote: remote.tags("hello") == ["1"], registry.remote), "the tag", 60)
