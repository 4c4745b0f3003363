"""The messages of az about an import: its own checks, the service's refusals, and the result."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from az.conftest import Cloud
from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faults import Break, Fault
from crossdock_testing.tokens import ANONYMOUS
from support.documentation import (
    EXAMPLES,
    HUB,
    MOVE,
    NO_WAIT,
    OTHER_SUBSCRIPTION,
    PASTED,
    PRINCIPAL,
    assert_imported,
)
from support.images import assert_holds, one_layer_image, push

HELLO = "--source docker.io/library/hello-world:latest"

# -- checks: az-contract 1.2 --------------------------------------------------------------------------------

CHECKS = {
    "a name with a hyphen": (
        f"-n my-registry {HELLO}",
        "Registry names may contain only alpha numeric characters and must be between 5 and 50 characters",
    ),
    "a suffix of another cloud": (
        f"-n myregistry.azurecr.example {HELLO}",
        "The login server suffix is not valid for the current cloud. Please try again using '.azurecr.io'.",
    ),
    "a user without a password": (
        f"-n myregistry {HELLO} -u somebody",
        "Authentication failed. Please provide password.",
    ),
    "no such target": (
        f"-n noregistry {HELLO}",
        "The resource with name 'noregistry' and type 'Microsoft.ContainerRegistry/registries' could not be "
        "found in subscription '",
    ),
    "no such source registry": (
        "-n myregistry --source hello-world:latest -r noregistry",
        "The source container registry can not be found in the current subscription. Please provide a valid "
        "address and/or credentials.",
    ),
    "no registry in the source": (
        "-n myregistry --source hello-world",
        "Source cannot be found. Please provide a valid image and source registry or a fully qualified "
        "source.",
    ),
    "a source host without a dot": (
        "-n myregistry --source localhost:5000/hello-world",
        "Login server of the registry is not valid because it is not a fully qualified domain name.",
    ),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_of_az_itself_with_the_answers_of_the_service(running_cloud: Cloud, name: str) -> None:
    words, text = CHECKS[name]
    running_cloud.az.fail(f"az acr import {words}", text)


def test_a_login_server_may_stand_for_the_target(cloud: Cloud) -> None:
    done = cloud.az.run(f"az acr import -n myregistry.azurecr.io {HELLO} -t a:1")
    assert done.code == 0, done
    assert (
        "Registry name is 'myregistry'. The following suffix '.azurecr.io' is automatically omitted."
        in done.stderr
    )
    assert_imported(cloud.remote, "a:1", cloud.sources.graphs["library/hello-world"])


def test_a_login_server_beside_its_registry_is_ignored(cloud: Cloud) -> None:
    host = cloud.sources.azure.host
    done = cloud.az.run(
        f"az acr import -n myregistry -r mysourceregistry --source {host}/aci-helloworld:latest"
    )
    assert done.code == 0, done
    assert (
        f'The login server name of "{host}" in the "--source" argument will be ignored as "--registry" '
        "already supplies the same information" in done.stderr
    )
    assert_imported(cloud.remote, "aci-helloworld:latest", cloud.sources.graphs["aci-helloworld"])


def test_a_target_that_is_not_in_the_group_is_the_services_error(running_cloud: Cloud) -> None:
    running_cloud.az.fail(
        f"az acr import -n noregistry -g MyResourceGroup {HELLO}",
        "(ResourceNotFound) The Resource 'Microsoft.ContainerRegistry/registries/noregistry' under resource "
        "group 'MyResourceGroup' was not found.",
        code=3,
    )


# -- failures ------------------------------------------------------------------------------------------------

FAILURES = {
    "a missing image": (
        "--source docker.io/library/nothing:1",
        ("RegistryUnauthorized", "docker.io/library/nothing:1", "phase: resolve", "status: 401"),
    ),
    "a missing tag of a registry of ours": (
        "--source hello-world:nothing -r mysourceregistry",
        ("ManifestUnknown", "hello-world:nothing", "side: source", "/manifests/nothing", "status: 404"),
    ),
    "a wrong password": (
        "--source sourceregistry.azurecr.io/sourcerrepo:tag -u sp-app-id -p wr0ng-secret",
        ("RegistryUnauthorized", "sourcerrepo:tag", "side: source", "status: 401"),
    ),
    "an access token of nobody": (
        "--source sourceregistry.azurecr.io/sourcerrepo:tag -p wr0ng-secret",
        ("sourcerrepo:tag", "side: source"),
    ),
    "a source that nobody allowed": (
        "--source elsewhere.example/a/b:1",
        ("elsewhere.example may not be imported from (source-not-allowed)",),
    ),
    "an address of the network inside": (
        "--source 169.254.169.254/a/b:1",
        ("169.254.169.254 may not be imported from (",),
    ),
    "a source that forbids its export": (
        "--source sealedregistry.azurecr.io/hello-world:latest",
        ("sealedregistry", "xport"),
    ),
    "a closed source by its address": (
        f"--source closedregistry.azurecr.io/hello-world:latest -u sp-app-id -p {PRINCIPAL}",
        ("closedregistry", "ublic"),
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_import_says_where_and_why(cloud: Cloud, name: str) -> None:
    words, naming = FAILURES[name]
    said = cloud.az.fail(f"az acr import -n myregistry {words} -t target:tag", *naming)
    assert "wr0ng-secret" not in said
    assert "Traceback" not in said
    assert cloud.remote.tags("target") == []


def test_a_tag_that_exists_is_a_conflict_before_anything_is_copied(cloud: Cloud) -> None:
    old = cloud.remote.manifest("old", "tag").body
    cloud.az.fail(
        f"az acr import -n myregistry {HELLO} -t new:tag -t old:tag",
        "(TagAlreadyExists)",
        "old:tag",
        "already exists",
    )
    assert cloud.remote.manifest("old", "tag").body == old
    assert cloud.remote.tags("new") == []


def test_the_same_import_again_is_success(cloud: Cloud) -> None:
    for _ in range(2):
        assert cloud.az.ok(f"az acr import -n myregistry {HELLO} -t again:1") == ""
    assert_imported(cloud.remote, "again:1", cloud.sources.graphs["library/hello-world"])


def test_a_closed_source_is_imported_from_as_a_registry_of_the_subscription(cloud: Cloud) -> None:
    # az finds the login server among the registries and sends the resource ID (az-contract 1.3).
    cloud.az.ok("az acr import -n myregistry --source closedregistry.azurecr.io/hello-world:latest")
    assert_imported(cloud.remote, "hello-world:latest", cloud.sources.graphs["hello-world"])


def test_another_subscription_has_its_own_registries(cloud: Cloud) -> None:
    words = f"az acr import --subscription {OTHER_SUBSCRIPTION} -n myregistry {HELLO} -t a:1"
    cloud.az.fail(words, "could not be found in subscription", OTHER_SUBSCRIPTION)


def test_an_import_into_a_registry_that_knows_nothing_of_azure(cloud: Cloud) -> None:
    cloud.az.ok(f"az acr import -n plainregistry {HELLO} -t deep/er/path:1 --repository without/tag")
    assert_imported(
        cloud.plain.remote, "deep/er/path:1 without/tag@", cloud.sources.graphs["library/hello-world"]
    )


def test_tag_and_digest_together_are_checked(cloud: Cloud) -> None:
    graph = cloud.sources.graphs["library/hello-world"]
    words = "az acr import -n myregistry --source docker.io/library/hello-world:latest@"
    cloud.az.ok(f"{words}{graph.root} -t both:1")
    assert_imported(cloud.remote, "both:1", graph)
    other = cloud.sources.graphs["hello-world"].root
    cloud.az.fail(f"{words}{other} -t other:1", other)


# -- the documentation's longer stories ----------------------------------------------------------------------


def test_credentials_go_to_the_token_service_of_the_source(cloud: Cloud) -> None:
    begun = len(cloud.sources.tokens.requests)
    cloud.az.ok(EXAMPLES["docker-hub-credentials"].text)
    assert {each.user for each in cloud.sources.tokens.requests[begun:]} == {"hubuser"}
    kept = [path for path in cloud.service.log.parent.rglob("*") if path.is_file()]
    assert not [path for path in kept if HUB.encode() in path.read_bytes()]


def test_the_example_as_it_was_pasted_without_a_backslash_imports_anonymously(cloud: Cloud) -> None:
    begun = len(cloud.sources.tokens.requests)
    done = cloud.az.run(PASTED)
    assert (done.code, done.stderr.count("command not found")) == (127, 2), done
    assert_imported(cloud.remote, "tensorflow:latest-gpu", cloud.sources.graphs["tensorflow/tensorflow"])
    assert {each.user for each in cloud.sources.tokens.requests[begun:]} == {ANONYMOUS}


def test_no_wait_returns_and_the_import_continues(cloud: Cloud) -> None:
    done = cloud.az.run(NO_WAIT)
    assert (done.code, done.stdout) == (0, ""), done
    assert "Import has started. Due to no-wait option, failures will not be reflected." in done.stderr
    deadline = time.monotonic() + 60
    while cloud.remote.tags("sourcerepository") != ["sourcetag"]:
        assert time.monotonic() < deadline, "the import did not go on"
        time.sleep(0.05)
    assert_imported(cloud.remote, "sourcerepository:sourcetag", cloud.sources.graphs["sourcerepository"])


def test_az_waits_through_a_kill_and_a_restart_of_the_service(cloud: Cloud) -> None:
    builder = ImageBuilder(seed=33)
    graph = push(cloud.plain.remote, "killed", builder, one_layer_image(builder, 300_000)[0], "v1")
    reached = threading.Event()
    stall = Break("stall", "head", 0)
    cloud.faults.add(Fault("GET */blobs/*", breaks=stall, times=None, when_reached=reached.set))
    with ThreadPoolExecutor(1) as pool:
        words = "az acr import -n myregistry -r faultyregistry --source killed:v1"
        running = pool.submit(cloud.az.run, words)
        try:
            assert reached.wait(30), running.result(60)
            cloud.service.process.kill()
        finally:
            cloud.faults.faults.clear()
        cloud.service.restart()
        done = running.result(120)
    assert (done.code, done.stdout) == (0, ""), done
    assert_holds(cloud.remote, "killed", "v1", graph)


def test_the_script_that_moves_a_registrys_content_to_another_region(cloud: Cloud) -> None:
    images = {"aci-helloworld": "latest", "sourcerrepo": "tag", "sourcerepository": "sourcetag"}
    images["hello-world"] = "latest"
    shown = cloud.az.ok(MOVE)
    assert sorted(shown.splitlines()) == sorted(f"Importing {name}:{tag}" for name, tag in images.items())
    for name, tag in images.items():
        assert_holds(cloud.remote, name, tag, cloud.sources.graphs[name])


def test_an_image_of_many_blobs_shows_its_progress_to_whoever_polls(cloud: Cloud) -> None:
    """`az --debug` shows an entry for each manifest in the polls, and crossdock's own fields."""
    done = cloud.az.run(f"az acr import -n myregistry {HELLO} -t many:1 --debug")
    assert done.code == 0, done
    assert '"status":"Succeeded"' in done.stderr.replace(" ", "")
