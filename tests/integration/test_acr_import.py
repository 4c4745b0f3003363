"""``crossdock acr import``: targets, force, limits, policies, refusals.

The documentation's own commands are in `test_acr_examples`.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Break, Fault
from support.cloud import CONFLICT, POLICY, RESOURCE_ID, SUBSCRIPTION, Cloud, put
from support.command import AUTH, CANCELLED, MODULE, NOT_FOUND, TARGET, USAGE, Crossdock
from support.docker_registry import DockerRegistry, htpasswd_file
from support.faults import wait_set
from support.images import Graph, assert_holds, one_layer_image, push
from support.process import ServerProcess, free_port, listening
from support.push import Remote

pytestmark = pytest.mark.real

SECRET = "s3cr3t/Pa:ss-W0rd"


@pytest.fixture
def cloud(crossdock: Crossdock, new_registry: Callable[..., DockerRegistry], tmp_path: Path) -> Cloud:
    users = htpasswd_file(tmp_path / "htpasswd", "ann", SECRET)
    auth = {"htpasswd": {"realm": "here", "path": str(users)}}
    private = new_registry("private", auth=auth, basic=f"ann:{SECRET}")
    return Cloud(
        crossdock, tmp_path, new_registry("public"), new_registry("azure"), private, new_registry("target")
    )


# -- names and targets --------------------------------------------------------------------------------------


def test_docker_hubs_hello_world(cloud: Cloud) -> None:
    graph = put(cloud.public, "library/hello-world", "latest", index=True)
    done = cloud.run(
        *("--name", "myregistry", "--source", "docker.io/library/hello-world:latest"),
        *("--image", "hello-world:latest"),
    )
    assert done.stdout == ""
    assert_holds(cloud.target.remote, "hello-world", "latest", graph)
    pulls = [
        each.path for each in cloud.public.accesses() if each.method == "GET" and "/manifests/" in each.path
    ]
    assert len(pulls) == len(graph.manifests)  # a registry may count them against a limit


def test_docker_hubs_library_needs_not_be_written(cloud: Cloud) -> None:
    graph = put(cloud.public, "library/nats", "2")
    cloud.run("-n", "myregistry", "--source", "docker.io/nats:2")
    assert_holds(cloud.target.remote, "nats", "2", graph)


def test_a_digest_without_image_is_tagged_latest(cloud: Cloud) -> None:
    graph = put(cloud.azure, "aci-helloworld", "v1")
    cloud.run("-n", "myregistry", "--source", f"mysourceregistry.azurecr.io/aci-helloworld@{graph.root}")
    assert_holds(cloud.target.remote, "aci-helloworld", "latest", graph)


@pytest.mark.parametrize(
    "words",
    [
        ("--source", "mysourceregistry.azurecr.io/aci-helloworld:latest"),
        ("--source", "aci-helloworld:latest", "--registry", "mysourceregistry"),
        ("--source", "aci-helloworld:latest", "-r", "mysourceregistry.azurecr.io"),
        ("--source", "aci-helloworld:latest", "--registry", RESOURCE_ID),
        ("--source", "sourceRegistry.azurecr.io/aci-helloworld:latest", "--registry", RESOURCE_ID),
        ("--source", "mysourceregistry.azurecr.io/aci-helloworld:latest", "-r", "mysourceregistry"),
        ("--source", "sourceregistry.azurecr.io/aci-helloworld:latest"),
    ],
)
def test_another_registry_of_azure_by_each_of_its_names(cloud: Cloud, words: tuple[str, ...]) -> None:
    graph = put(cloud.azure, "aci-helloworld", "latest")
    cloud.run("--name", "myregistry", *words)
    assert_holds(cloud.target.remote, "aci-helloworld", "latest", graph)


def test_several_targets_get_the_content_once_and_their_tags_last(cloud: Cloud) -> None:
    graph = put(cloud.public, "library/hello-world", "latest")
    done = cloud.run(
        *("-n", "myregistry", "-g", "myresourcegroup", "--subscription", SUBSCRIPTION),
        *("--source", "docker.io/library/hello-world:latest", "-t", "a:1", "-t", "b:2", "-t", "a:3"),
        *("--repository", "c", "--repository", "d", "-o", "json"),
    )
    for repository, reference in (("a", "1"), ("b", "2"), ("a", "3"), ("c", graph.root), ("d", graph.root)):
        assert_holds(cloud.target.remote, repository, reference, graph)
    fetched = [
        each.path for each in cloud.public.accesses() if each.method == "GET" and "/blobs/" in each.path
    ]
    assert len(fetched) == len(set(fetched)) == len(graph.blobs)
    puts = [
        each.path for each in cloud.target.accesses() if each.method == "PUT" and "/manifests/" in each.path
    ]
    assert all("sha256" in path for path in puts[:4])
    assert [path.rpartition("/")[2] for path in puts[4:]] == ["1", "2", "3"]
    assert [each["reference"].rpartition("/")[2] for each in done.result["targets"]] == [
        *("a:1", "b:2", "a:3", "c", "d")
    ]
    assert done.result["digest"] == done.result["source_digest"] == graph.root


# -- force, and what is there already --------------------------------------------------------------------


def test_a_tag_with_other_content_ends_the_import_before_anything_is_uploaded(cloud: Cloud) -> None:
    old = put(cloud.target, "b", "2", seed=9)
    graph = put(cloud.public, "library/hello-world", "latest")
    mark = cloud.target.mark()
    words = ("-n", "myregistry", "--source", "docker.io/library/hello-world:latest", "-t", "a:1", "-t", "b:2")
    cloud.fail(*words, code=CONFLICT, naming=("b:2 Tag b:2 already exists in target registry", "--force"))
    assert {each.method for each in cloud.target.accesses(mark)} <= {"GET", "HEAD"}
    assert not [each for each in cloud.public.accesses() if each.method == "GET" and "/blobs/" in each.path]
    assert_holds(cloud.target.remote, "b", "2", old)
    cloud.run(*words, "--force")
    assert_holds(cloud.target.remote, "b", "2", graph)
    assert_holds(cloud.target.remote, "a", "1", graph)


def test_a_tag_with_the_same_digest_is_success_and_moves_nothing(cloud: Cloud) -> None:
    put(cloud.public, "library/hello-world", "latest", index=True)
    words = ("-n", "myregistry", "--source", "docker.io/library/hello-world:latest", "-o", "json")
    assert cloud.run(*words).result["targets"][0]["before"] is None
    mark = cloud.target.mark()
    again = cloud.run(*words).result
    assert again["bytes_moved"] == 0
    assert again["targets"][0]["before"] == again["digest"]
    assert {each.method for each in cloud.target.accesses(mark)} <= {"GET", "HEAD"}


def test_a_dry_run_says_what_would_be_done_and_does_nothing(cloud: Cloud) -> None:
    graph = put(cloud.public, "library/hello-world", "latest")
    words = (
        "-n",
        "myregistry",
        "--source",
        "docker.io/library/hello-world:latest",
        "--dry-run",
        "-o",
        "json",
    )
    result = cloud.run(*words).result
    assert result["dry_run"]
    assert result["targets"][0]["digest"] == graph.root
    assert {each.method for each in cloud.target.accesses()} <= {"GET", "HEAD"}


def test_no_wait_returns_and_the_import_continues(cloud: Cloud) -> None:
    graph = put(cloud.public, "library/hello-world", "latest")
    done = cloud.run("-n", "myregistry", "--source", "docker.io/library/hello-world:latest", "--no-wait")
    assert done.stdout == ""
    assert "Import has started. Due to no-wait option, failures will not be reflected." in done.stderr
    deadline = time.monotonic() + 60
    while cloud.target.remote.manifest("library/hello-world", "latest").status != 200:
        assert time.monotonic() < deadline, "the import did not go on"
    assert_holds(cloud.target.remote, "library/hello-world", "latest", graph)


def test_a_platform_is_taken_out_of_an_index(cloud: Cloud) -> None:
    graph = put(cloud.public, "library/hello-world", "latest", index=True)
    words = ("-n", "myregistry", "--source", "docker.io/library/hello-world:latest", "-o", "json")
    result = cloud.run(*words, "--platform", "linux/amd64", "-t", "a:1", "--repository", "b").result
    assert result["source_digest"] == graph.root
    assert result["digest_changed"]
    for repository, reference in (("a", "1"), ("b", result["digest"])):
        assert cloud.target.remote.manifest(repository, reference).status == 200


def test_formats_of_stdout(cloud: Cloud) -> None:
    graph = put(cloud.public, "library/app", "1")
    words = ("-n", "myregistry", "--source", "docker.io/app:1", "-t", "app:1", "--only-show-errors")
    shown = {name: cloud.run(*words, "-o", name).stdout for name in ("none", "table", "tsv", "json")}
    assert shown["none"] == ""
    assert shown["tsv"] == f"app\t1\t{graph.root}\n"
    assert shown["table"].splitlines()[::2] == [
        "Repository    Tag    Digest",
        f"app           1      {graph.root}",
    ]
    assert json.loads(shown["json"])["digest"] == graph.root
    in_yaml = cloud.run(*words, "-o", "yaml").stdout
    assert in_yaml.startswith("blobs_mounted: 0\n")
    assert yaml.safe_load(in_yaml)["targets"][0]["digest"] == graph.root


def test_a_query_selects_from_the_output_and_alone_prints_nothing(cloud: Cloud) -> None:
    graph = put(cloud.public, "library/app", "1")
    words = ("-n", "myregistry", "--source", "docker.io/app:1", "--query")
    assert cloud.run(*words, "digest").stdout == ""
    assert cloud.run(*words, "targets[].[tag, digest]", "-o", "tsv").stdout == f"1\t{graph.root}\n"
    assert json.loads(cloud.run(*words, "targets[0].before", "-o", "json").stdout) == graph.root
    mark = cloud.target.mark()
    cloud.fail(*words, "[?", code=USAGE, naming=("--query is not a JMESPath expression",))
    assert cloud.target.accesses(mark) == []


def test_tag_and_digest_must_agree(cloud: Cloud) -> None:
    graph = put(cloud.public, "library/hello-world", "1")
    other = put(cloud.public, "library/hello-world", "2", seed=2)
    source = f"docker.io/library/hello-world:1@{graph.root}"
    cloud.run("-n", "myregistry", "--source", source)
    assert_holds(cloud.target.remote, "library/hello-world", "1", graph)
    wrong = source.replace(graph.root, other.root)
    cloud.fail("-n", "myregistry", "--source", wrong, "--force", code=7, naming=("the tag has moved",))


# -- limits ----------------------------------------------------------------------------------------------


def test_fifty_manifests_are_within_the_services_limit_and_one_more_is_not(cloud: Cloud) -> None:
    builder = ImageBuilder(seed=5)
    layer = builder.random_layer(1000)
    images = [builder.image([layer], "linux/amd64", os_version=str(number)) for number in range(51)]
    for number in (50, 51):
        push(cloud.public.remote, "library/many", builder, builder.index(images[:number]), str(number))
    words = ("-n", "myregistry", "--strict-limits", "--source")
    cloud.run(*words, "docker.io/many:50")
    mark = cloud.target.mark()
    cloud.fail(*words, "docker.io/many:51", code=5, naming=("more than 50 manifests",))
    assert {each.method for each in cloud.target.accesses(mark)} <= {"GET", "HEAD"}
    cloud.run("-n", "myregistry", "--source", "docker.io/many:51")


# -- policies --------------------------------------------------------------------------------------------


def test_a_source_with_a_disabled_export_policy_is_not_imported_from(cloud: Cloud) -> None:
    put(cloud.azure, "app", "v1")
    cloud.source_settings = {"export_policy": "disabled"}
    words = ("-n", "myregistry", "--source", "app:v1", "-r", RESOURCE_ID)
    cloud.fail(*words, code=POLICY, naming=("sourceRegistry", "export policy"))
    pull = (f"{cloud.azure.host}/app:v1", f"oci:{cloud.folder / 'pulled'}:v1")
    cloud.crossdock.copy(*pull, "--inventory", cloud.inventory())


def test_a_source_without_public_access_is_imported_by_its_resource_id_alone(cloud: Cloud) -> None:
    graph = put(cloud.azure, "app", "v1")
    cloud.source_settings = {"public_network_access": "Disabled"}
    by_server = ("-n", "myregistry", "--source", "sourceRegistry.azurecr.io/app:v1")
    cloud.fail(*by_server, code=POLICY, naming=("public network access", "resource ID"))
    cloud.fail(*by_server, "-u", "u", "-p", "p", code=POLICY, naming=("public network access",))
    cloud.run("-n", "myregistry", "--source", "app:v1", "-r", RESOURCE_ID)
    assert_holds(cloud.target.remote, "app", "v1", graph)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_restricted_registry_without_trusted_services_takes_part_in_no_import(
    cloud: Cloud, side: str
) -> None:
    put(cloud.azure, "app", "v1")
    closed = {"public_network_access": "Disabled", "network_rule_bypass_options": "None"}
    setattr(cloud, f"{side}_settings", closed)
    words = ("-n", "myregistry", "--source", "app:v1", "-r", RESOURCE_ID)
    cloud.fail(*words, code=POLICY, naming=(f"the {side} registry", "trusted services"))
    setattr(cloud, f"{side}_settings", {**closed, "network_rule_bypass_options": "AzureServices"})
    cloud.run(*words)


# -- what is refused, and secrets ------------------------------------------------------------------------


def test_a_wrong_password_a_missing_image_and_an_absent_target_have_their_exit_codes(cloud: Cloud) -> None:
    put(cloud.private, "app", "v1")
    words = ("-n", "myregistry", "--source", "docker-private.example/app:v1")
    line = cloud.fail(*words, code=AUTH, naming=("docker-private.example", "inventory"))
    assert "--src-" not in line
    cloud.fail(*words, "-u", "ann", "-p", "wr0ng", code=AUTH, naming=("ann",))
    cloud.fail("-n", "myregistry", "--source", "docker.io/none:1", code=NOT_FOUND, naming=("none",))
    put(cloud.public, "library/hello-world", "latest")
    cloud.target.stop()
    words = ("-n", "myregistry", "--source", "docker.io/hello-world")
    cloud.fail(*words, "--retries", "0", code=TARGET, naming=(cloud.target.host,))


def test_a_registry_in_another_group_or_subscription_is_not_the_one_that_was_meant(cloud: Cloud) -> None:
    words = ("-n", "myregistry", "--source", "docker.io/hello-world")
    cloud.fail(*words, "--subscription", "other", code=USAGE, naming=("could not be found in subscription",))
    cloud.fail(*words, "-g", "other", code=USAGE, naming=("The resource with name 'myregistry'",))


@pytest.mark.parametrize("way", ["argument", "stdin", "environment"])
def test_a_password_comes_three_ways_and_is_shown_nowhere(cloud: Cloud, way: str) -> None:
    graph = put(cloud.private, "app", "v1")
    words: tuple[str, ...] = ("-n", "myregistry", "--source", "docker-private.example/app:v1", "-u", "ann")
    how: dict[str, Any] = {}
    if way == "argument":
        words += ("-p", SECRET)
    elif way == "stdin":
        words += ("--password-stdin",)
        how = {"stdin": f"{SECRET}\n"}
    else:
        how = {"env": {"CROSSDOCK_SOURCE_PASSWORD": SECRET}}
    done = cloud.run(*words, "-o", "json", "--progress", "json", **how)
    assert_holds(cloud.target.remote, "app", "v1", graph)
    texts = [done.stdout, done.stderr]
    texts += [each.process.log.read_text(errors="replace") for each in (cloud.private, cloud.target)]
    kept = [path for path in cloud.crossdock.home.rglob("*") if path.is_file()]
    texts += [path.read_bytes().decode(errors="replace") for path in kept]
    assert not [text for text in texts if SECRET in text]


# -- registries of Azure's as the embedded one is --------------------------------------------------------


@pytest.fixture
def embedded(closing: ExitStack, tmp_path: Path) -> tuple[str, Graph]:
    """Its host and an image ``team/app:v1``; ann has an access token, bob a token for another repository."""
    users = {
        "users": [
            {"name": "admin", "password": "s3cret-admin"},
            {"name": "ann", "access_tokens": ["s3cret-entra"], "scopes": ["repository:team/*:pull"]},
            {"name": "bob", "password": "s3cret-bob", "scopes": ["repository:other:pull"]},
        ]
    }
    (tmp_path / "users.json").write_text(json.dumps(users))
    port = free_port()
    words = ("registry", "--root", str(tmp_path / "root"), "--listen", f"127.0.0.1:{port}")
    server = ServerProcess(
        f"crossdock registry :{port}",
        [*MODULE, *words, "--users", str(tmp_path / "users.json")],
        tmp_path / "embedded.log",
        lambda: listening(port),
    )
    closing.callback(server.stop)
    builder = ImageBuilder(seed=3)
    remote = Remote(f"127.0.0.1:{port}", basic="admin:s3cret-admin")
    return f"127.0.0.1:{port}", push(remote, "team/app", builder, one_layer_image(builder, 50_000)[0], "v1")


def test_an_access_token_without_user_name_imports_across_tenants(
    cloud: Cloud, embedded: tuple[str, Graph]
) -> None:
    host, graph = embedded
    words = ("-n", "myregistry", "--source", f"{host}/team/app:v1", "-t", "app:v1")
    done = cloud.run(*words, "-p", "s3cret-entra", "--progress", "plain")
    assert_holds(cloud.target.remote, "app", "v1", graph)
    log = (cloud.folder / "embedded.log").read_text()
    assert "s3cret-entra" not in done.stderr + log
    again = ("-n", "myregistry", "--source", f"{host}/team/app:v1", "-t", "again:v1")
    cloud.fail(*again, "-p", "wr0ng", code=AUTH, naming=(host,))


def test_a_token_of_another_repository_is_recognised(cloud: Cloud, embedded: tuple[str, Graph]) -> None:
    words = ("-n", "myregistry", "--source", f"{embedded[0]}/team/app:v1", "-u", "bob", "-p", "s3cret-bob")
    line = cloud.fail(*words, code=AUTH, naming=("bob", "team/app"))
    assert "s3cret" not in line


def test_an_import_into_such_a_registry(cloud: Cloud, embedded: tuple[str, Graph]) -> None:
    graph = put(cloud.public, "library/hello-world", "latest", index=True)
    cloud.target_settings = {
        "login_server": embedded[0],
        "credentials": {"username": "admin", "password_env": "TARGET_PASSWORD"},
    }
    words = ("-n", "myregistry", "--source", "docker.io/library/hello-world", "--repository", "untagged")
    cloud.run(*words, "-t", "hello:1", env={"TARGET_PASSWORD": "s3cret-admin"})
    remote = Remote(embedded[0], basic="admin:s3cret-admin")
    assert_holds(remote, "hello", "1", graph)
    assert_holds(remote, "untagged", graph.root, graph)


def test_referrers_are_copied_when_they_are_requested(cloud: Cloud, embedded: tuple[str, Graph]) -> None:
    builder = ImageBuilder(seed=4)
    image = one_layer_image(builder, 1000)[0]
    signature = builder.artifact("application/vnd.example.signature", subject=image)
    remote = Remote(embedded[0], basic="admin:s3cret-admin")
    push(remote, "team/signed", builder, image, "v1")
    push(remote, "team/signed", builder, signature)
    words = ("-n", "myregistry", "--source", f"{embedded[0]}/team/signed:v1", "-u", "admin")
    how = {"env": {"CROSSDOCK_SOURCE_PASSWORD": "s3cret-admin"}}
    cloud.run(*words, "-t", "plain:v1", "--no-referrers", **how)
    assert cloud.target.remote.manifest("plain", signature.digest).status == 404
    result = cloud.run(*words, "-t", "signed:v1", "--referrers", "-o", "json", **how).result
    assert result["referrers_copied"] == 1
    assert cloud.target.remote.manifest("signed", signature.digest).status == 200


def test_an_import_that_fails_half_way_leaves_no_new_tag(
    cloud: Cloud, fault_proxy: Callable[..., FaultProxy]
) -> None:
    put(cloud.public, "library/hello-world", "latest")
    proxy = fault_proxy(cloud.target.host)
    proxy.add(Fault(on="PUT /v2/b/manifests/*", times=None, answer=Answer(403)))
    cloud.target_settings = {"login_server": proxy.host}
    words = ("-n", "myregistry", "--source", "docker.io/hello-world", "-t", "a:1", "-t", "b:2")
    cloud.fail(*words, code=AUTH, naming=(f"{proxy.host}/b",))
    for repository, tag in (("a", "1"), ("b", "2")):
        assert cloud.target.remote.manifest(repository, tag).status == 404


def test_a_tag_that_cannot_be_overwritten_leaves_all_tags_as_they_were(
    cloud: Cloud, fault_proxy: Callable[..., FaultProxy]
) -> None:
    put(cloud.public, "library/hello-world", "latest", index=True)
    old = {name: put(cloud.target, name, "1", seed) for seed, name in enumerate(("old", "locked"), 7)}
    proxy = fault_proxy(cloud.target.host)
    proxy.add(Fault(on="PUT /v2/locked/manifests/1", times=None, answer=Answer(405)))
    cloud.target_settings = {"login_server": proxy.host}
    tags = ("-t", "new:1", "-t", "old:1", "-t", "locked:1")
    line = cloud.fail(
        *("-n", "myregistry", "--source", "docker.io/hello-world", *tags, "--force"),
        code=TARGET,
        naming=(f"{proxy.host}/locked:1", "no tag was changed"),
    )
    assert "new:1" not in line
    for name, graph in old.items():
        assert_holds(cloud.target.remote, name, "1", graph)
    assert cloud.target.remote.tags("new") == []


def test_ctrl_c_between_two_tags_leaves_them_as_they_were(
    cloud: Cloud, fault_proxy: Callable[..., FaultProxy]
) -> None:
    put(cloud.public, "library/hello-world", "latest")
    old = put(cloud.target, "old", "1", seed=7)
    proxy = fault_proxy(cloud.target.host)
    stall = proxy.add(Fault(on="PUT /v2/new/manifests/1", breaks=Break("stall", "request", 10)))
    cloud.target_settings = {"login_server": proxy.host}
    words = ("acr", "import", "-n", "myregistry", "--source", "docker.io/hello-world", "--force")
    words += ("-t", "old:1", "-t", "new:1", "--progress", "none", "--inventory", str(cloud.inventory()))
    with cloud.crossdock.start(*words) as running:
        wait_set(stall.reached, "the second tag")
        running.interrupt()
        done = running.finish()
    assert (done.code, done.stdout) == (CANCELLED, "")
    assert_holds(cloud.target.remote, "old", "1", old)
    assert cloud.target.remote.tags("new") == []


def test_new_tags_are_taken_back_by_their_names_or_named(
    cloud: Cloud, embedded: tuple[str, Graph], fault_proxy: Callable[..., FaultProxy]
) -> None:
    graph = put(cloud.public, "library/hello-world", "latest")
    words = ("-n", "myregistry", "--source", "docker.io/hello-world", "-t", "a:1", "-t", "b:2")

    def fail(host: str) -> str:
        proxy = fault_proxy(host)
        proxy.add(Fault(on="PUT /v2/b/manifests/2", times=None, answer=Answer(403)))
        cloud.target_settings |= {"login_server": proxy.host}
        return cloud.fail(*words, "--progress", "none", code=AUTH, env={"TARGET_PASSWORD": "s3cret-admin"})

    # Distribution 2 deletes no tag by its name.
    assert "tagged before, and still there: a:1" in fail(cloud.target.host)
    assert_holds(cloud.target.remote, "a", "1", graph)
    cloud.target_settings = {"credentials": {"username": "admin", "password_env": "TARGET_PASSWORD"}}
    assert "no tag was changed" in fail(embedded[0])
    remote = Remote(embedded[0], basic="admin:s3cret-admin")
    assert remote.tags("a") == []
    assert_holds(remote, "a", graph.root, graph)


def test_several_targets_ask_the_source_for_each_manifest_once(cloud: Cloud) -> None:
    graph = put(cloud.public, "library/hello-world", "latest", index=True)
    mark = cloud.public.mark()
    tags = [word for number in range(5) for word in ("-t", f"repo{number % 2}:{number}")]
    cloud.run("-n", "myregistry", "--source", "docker.io/hello-world", *tags, "--repository", "untagged")
    asked = [each.path for each in cloud.public.accesses(mark) if each.path != "/v2/"]
    assert len(asked) == len(set(asked))
    assert sum("/manifests/" in path for path in asked) == len(graph.manifests) + 1  # the tag was resolved
    for number in range(5):
        assert_holds(cloud.target.remote, f"repo{number % 2}", str(number), graph)


def test_a_traceback_shows_no_password(cloud: Cloud) -> None:
    put(cloud.private, "app", "v1")
    words = (
        "-n",
        "myregistry",
        "--source",
        "docker-private.example/app:v1",
        "-u",
        "ann",
        "-p",
        "wr0ng-s3cret",
    )
    done = cloud.crossdock("acr", "import", *words, "--debug", "--inventory", cloud.inventory())
    assert done.code == AUTH
    assert "Traceback" in done.stderr
    encoded = base64.b64encode(b"ann:wr0ng-s3cret").decode()
    assert not [secret for secret in ("wr0ng-s3cret", encoded) if secret in done.stderr + done.stdout]


def test_signatures_are_copied_before_the_tag_unless_they_are_not_wanted(cloud: Cloud) -> None:
    graph = put(cloud.public, "library/hello-world", "latest")
    signature = f"{graph.root.replace(':', '-')}.sig"
    signed = put(cloud.public, "library/hello-world", signature, seed=2)
    words = ("--name", "myregistry", "--source", "docker.io/library/hello-world:latest", "--image")
    cloud.run(*words, "plain:v1", "--no-referrers")
    assert cloud.target.remote.tags("plain") == ["v1"]
    cloud.run(*words, "signed:v1")
    assert_holds(cloud.target.remote, "signed", signature, signed)
    puts = [
        each.path for each in cloud.target.accesses() if each.method == "PUT" and "/signed/m" in each.path
    ]
    assert [path.rpartition("/")[2] for path in puts][-2:] == [signature, "v1"]
