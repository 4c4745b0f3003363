"""Imports of ``crossdock serve`` outlive it; credentials that it keeps are nowhere to be read."""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.mgmt.containerregistry import ContainerRegistryManagementClient
from azure.mgmt.containerregistry.models import ImportImageParameters, ImportSource

from crossdock import imagebuilder
from crossdock.imagebuilder import Content, ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Break, Fault, Seen
from support.docker_registry import DockerRegistry, htpasswd_file, start_docker_registry
from support.images import Graph, assert_holds, one_layer_image, place_sparse_blob, push
from support.process import find_distribution, wait_until
from support.service import GROUP, SUBSCRIPTION, Service, registry_path, start_service

pytestmark = pytest.mark.real

MIB = 1 << 20
BIG = 1 << 30
BIG_DIGEST = "sha256:7362696586c78597e2fd3f548bf5beaa6354a7ec179512d3b2d171392a9ccf7e"
CHUNK = 64 * MIB  # the default of an upload's requests
SECRET = "correct-horse-battery-staple-4711"
OPEN_MEMORY = 128 * MIB


class AnyToken:
    """A credential whose token is never checked."""

    def get_token(self, *scopes: str, **how: Any) -> AccessToken:
        return AccessToken("x", 1 << 40)


@dataclass
class Yard:
    """A service between two registries; the target is behind a proxy that sees every byte."""

    service: Service
    source: DockerRegistry
    target: DockerRegistry
    faults: FaultProxy

    def post(self, image: str, tag: str, headers: Mapping[str, str] | None = None, **source: Any) -> str:
        """Start an import; the URL of its result."""
        body = {"source": {"sourceImage": image, **source}, "targetTags": [tag]}
        body["source"].setdefault("registryUri", self.source.host)
        path = registry_path("myregistry", "importImage") + "?api-version=2025-11-01"
        status, got, answer = self.service.ask("POST", path, body, headers)
        assert status == 202, answer
        return got["location"]

    def result(self, location: str, timeout_s: float = 60.0) -> tuple[int, Any]:
        """Status and body of a result, when it is there."""
        found: list[tuple[int, Any]] = []

        def ended() -> bool:
            status, _, body = self.service.ask("GET", location)
            found[:] = [(status, body)]
            return status != 202

        wait_until(ended, "the import's end", timeout_s)
        return found[0]

    def delete(self, location: str) -> str:
        """Cancel it; its state."""
        operation = location.partition("registries-")[2].partition("?")[0]
        status, _, body = self.service.ask("DELETE", f"/imports/{operation}")
        assert status == 200, body
        return str(body["state"])

    def kill_and_restart(self) -> None:
        self.service.process.kill()
        self.service.restart()

    def sent(self) -> int:
        """Bytes of uploads that the target was sent."""
        self.faults.settle()
        return sum(seen.received for seen in self.faults.seen if seen.method in ("PATCH", "PUT"))

    def uploads(self) -> list[str]:
        return self.target.upload_sessions()


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """The settings file; a test may change it before it uses `yard`."""
    return {"limits": {"memory": "64MiB"}, "sources": {"private_addresses": ["127.0.0.0/8"]}}


@pytest.fixture
def yard(
    settings: dict[str, Any],
    source: DockerRegistry,
    fault_proxy: Callable[..., FaultProxy],
    tmp_path: Path,
    closing: ExitStack,
) -> Yard:
    target = start_docker_registry(tmp_path / "target", program=find_distribution())
    closing.callback(target.stop)
    faults = fault_proxy(target.host)
    return make_yard(source, target, faults, settings, tmp_path, closing)


def make_yard(
    source: DockerRegistry,
    target: DockerRegistry,
    faults: FaultProxy,
    settings: Mapping[str, Any],
    folder: Path,
    closing: ExitStack,
) -> Yard:
    entry = {"subscription": SUBSCRIPTION, "resource_group": GROUP, "tls": {"plain_http": True}}
    inventory = {
        "registries": [
            {"name": "myregistry", "login_server": faults.host, **entry},
            {"name": "mysource", "login_server": source.host, **entry},
        ]
    }
    (folder / "settings.yaml").write_text(json.dumps(settings))
    service = start_service(folder / "service", inventory, "--config", folder / "settings.yaml")
    closing.callback(lambda: service.process.stop())
    return Yard(service, source, target, faults)


def stall_uploads(yard: Yard) -> Fault:
    """No upload is answered until the faults are cleared."""
    return yard.faults.add(Fault("POST */blobs/uploads/*", breaks=Break("stall", "head", 0), times=None))


def big_image(source: DockerRegistry, repository: str, builder: ImageBuilder) -> Graph:
    place_sparse_blob(source, repository, BIG, BIG_DIGEST)
    image = builder.image([Content(imagebuilder.OCI_LAYER, BIG_DIGEST, BIG)])
    return push(source.remote, repository, builder, image, "v1")


def after(offset: int) -> Callable[[Seen], bool]:
    """The request that carries the byte at `offset` of a large layer."""

    def matches(seen: Seen) -> bool:
        start, _, last = seen.headers.get("content-range", "").partition("-")
        return seen.method == "PATCH" and bool(last) and int(start) <= offset <= int(last)

    return matches


@pytest.mark.slow
def test_the_sdk_does_not_notice_that_the_service_was_killed(
    new_registry: Callable[..., DockerRegistry],
    fault_proxy: Callable[..., FaultProxy],
    settings: dict[str, Any],
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    program = find_distribution()
    source, target = new_registry("source", program=program), new_registry("target", program=program)
    big_image(source, repository, builder)
    faults = fault_proxy(target.host)
    yard = make_yard(source, target, faults, settings, tmp_path, closing)
    killed = threading.Event()

    def kill() -> None:
        yard.service.process.kill()
        killed.set()

    faults.add(Fault(after(BIG // 2), breaks=Break("reset", "request", CHUNK // 2), when_reached=kill))
    client = ContainerRegistryManagementClient(
        AnyToken(), SUBSCRIPTION, base_url=yard.service.url, connection_verify=str(yard.service.ca)
    )
    wanted = ImportImageParameters(
        source=ImportSource(registry_uri=source.host, source_image=f"{repository}:v1"),
        target_tags=[f"{repository}:v1"],
        mode="NoForce",
    )
    poller = client.registries.begin_import_image(GROUP, "myregistry", wanted)
    assert killed.wait(60)
    yard.service.restart()
    poller.result(120)
    assert poller.status() == "Succeeded"
    assert target.blob_file(BIG_DIGEST).stat().st_size == BIG
    faults.settle()
    sent = sum(seen.received for seen in faults.seen if seen.method == "PATCH")
    assert sent <= BIG + CHUNK
    assert target.upload_sessions() == []


def test_waiting_and_running_imports_resume_after_a_kill(
    yard: Yard, repository: str, builder: ImageBuilder
) -> None:
    graph = push(yard.source.remote, repository, builder, one_layer_image(builder, 300_000)[0], "v1")
    stalled = stall_uploads(yard)
    locations = [yard.post(f"{repository}:v1", f"{repository}:n{number}") for number in range(6)]
    assert stalled.reached.wait(30)
    yard.service.process.kill()
    yard.faults.faults.clear()
    yard.service.restart()
    for number, location in enumerate(locations):
        assert yard.result(location)[0] == 200
        assert_holds(yard.target.remote, repository, f"n{number}", graph)


def test_a_tag_that_moves_while_the_service_is_down_changes_nothing(
    yard: Yard, repository: str, builder: ImageBuilder
) -> None:
    first = push(yard.source.remote, repository, builder, one_layer_image(builder, 200_000)[0], "v1")
    stalled = stall_uploads(yard)
    location = yard.post(f"{repository}:v1", f"{repository}:v1")
    assert stalled.reached.wait(30)
    yard.service.process.kill()
    yard.faults.faults.clear()
    push(yard.source.remote, repository, builder, one_layer_image(builder, 100_000)[0], "v1")
    yard.service.restart()
    assert yard.result(location)[0] == 200
    assert_holds(yard.target.remote, repository, "v1", first)


def test_sigterm_leaves_a_running_import_for_the_next_start(
    yard: Yard, repository: str, builder: ImageBuilder
) -> None:
    graph = push(yard.source.remote, repository, builder, one_layer_image(builder, 200_000)[0], "v1")
    stalled = stall_uploads(yard)
    location = yard.post(f"{repository}:v1", f"{repository}:v1")
    assert stalled.reached.wait(30)
    yard.service.process.stop()
    yard.faults.faults.clear()
    yard.service.restart()
    assert yard.result(location)[0] == 200
    assert_holds(yard.target.remote, repository, "v1", graph)


def test_the_same_request_posted_again_is_the_same_import_also_after_a_restart(
    yard: Yard, repository: str, builder: ImageBuilder
) -> None:
    push(yard.source.remote, repository, builder, one_layer_image(builder, 1000)[0], "v1")
    own = {"x-ms-client-request-id": str(uuid.uuid4())}
    first = yard.post(f"{repository}:v1", f"{repository}:v2", own)
    assert yard.post(f"{repository}:v1", f"{repository}:v2", own) == first
    assert own["x-ms-client-request-id"] in first
    assert yard.result(first)[0] == 200
    yard.kill_and_restart()
    assert yard.post(f"{repository}:v1", f"{repository}:v2", own) == first
    assert yard.post(f"{repository}:v1", f"{repository}:v3", own) != first  # another body
    manifests = [a for a in yard.target.accesses() if a.method == "PUT" and a.path.endswith("manifests/v2")]
    assert len(manifests) == 1


def test_a_conflict_starts_no_upload(yard: Yard, repository: str, builder: ImageBuilder) -> None:
    push(yard.source.remote, repository, builder, one_layer_image(builder, 1000)[0], "v1")
    push(yard.target.remote, repository, builder, one_layer_image(builder, 1000)[0], "taken")
    since = yard.target.mark()
    status, body = yard.result(yard.post(f"{repository}:v1", f"{repository}:taken"))
    assert (status, body["error"]["code"]) == (409, "TagAlreadyExists")
    name = f"{repository}:taken"
    assert f"{name} Tag {name} already exists in target registry" in body["error"]["message"]
    assert yard.target.uploads_begun(since) == 0


def test_cancelled_imports_leave_no_upload_session(
    settings: dict[str, Any],
    repository: str,
    builder: ImageBuilder,
    new_registry: Callable[..., DockerRegistry],
    fault_proxy: Callable[..., FaultProxy],
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    settings["limits"]["imports"] = 1
    program = find_distribution()
    source, target = new_registry("source", program=program), new_registry("target", program=program)
    big_image(source, repository, builder)
    faults = fault_proxy(target.host)
    yard = make_yard(source, target, faults, settings, tmp_path, closing)
    reached = threading.Event()
    faults.add(Fault(after(3 * CHUNK), rate=MIB, times=None, when_reached=reached.set))
    running = yard.post(f"{repository}:v1", f"{repository}:running")
    waiting = yard.post(f"{repository}:v1", f"{repository}:waiting")
    assert reached.wait(60)
    assert target.upload_sessions() != []
    assert [yard.delete(waiting), yard.delete(running)] == ["Canceled", "Canceled"]
    for each in (waiting, running):
        status, body = yard.result(each)
        assert (status, body["error"]["code"]) == (409, "OperationCanceled")
    assert target.upload_sessions() == []
    yard.kill_and_restart()
    assert yard.result(running)[0] == yard.result(waiting)[0] == 409


@pytest.mark.parametrize("key", ["none", "kept", "changed"])
def test_credentials_of_imports_that_wait_outlive_the_service_with_its_key_alone(
    key: str,
    settings: dict[str, Any],
    repository: str,
    builder: ImageBuilder,
    fault_proxy: Callable[..., FaultProxy],
    new_registry: Callable[..., DockerRegistry],
    target: DockerRegistry,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    htpasswd = htpasswd_file(tmp_path / "htpasswd", "ci", SECRET)
    auth = {"htpasswd": {"realm": "private", "path": str(htpasswd)}}
    source = new_registry("private", auth=auth)
    source.basic = f"ci:{SECRET}"
    graph = push(source.remote, repository, builder, one_layer_image(builder, 200_000)[0], "v1")
    if key != "none":
        settings["key_file"] = str(tmp_path / "key")
        write_key(tmp_path / "key")
    yard = make_yard(source, target, fault_proxy(target.host), settings, tmp_path, closing)
    stalled = stall_uploads(yard)
    credentials = {"username": "ci", "password": SECRET}
    location = yard.post(f"{repository}:v1", f"{repository}:v1", credentials=credentials)
    assert stalled.reached.wait(30)
    assert_nowhere(SECRET, tmp_path / "service")
    yard.service.process.kill()
    yard.faults.faults.clear()
    if key == "changed":
        write_key(tmp_path / "key")
    yard.service.restart()
    status, body = yard.result(location)
    if key == "kept":
        assert status == 200
        assert_holds(target.remote, repository, "v1", graph)
    else:
        assert (status, body["error"]["code"]) == (400, "CredentialsLost")
        assert "post the import again" in body["error"]["message"]
    assert_nowhere(SECRET, tmp_path / "service")


def write_key(path: Path) -> None:
    path.write_text(os.urandom(32).hex())
    path.chmod(0o600)


def assert_nowhere(secret: str, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_200_imports_posted_at_once_end_right_in_bounded_memory(
    yard: Yard, repository: str, builder: ImageBuilder
) -> None:
    graph = push(yard.source.remote, repository, builder, one_layer_image(builder, 3 * MIB)[0], "v1")
    locations: dict[int, str] = {}

    def post(first: int) -> None:
        for number in range(first, 200, 20):
            locations[number] = yard.post(f"{repository}:v1", f"{repository}-{number}:v1")

    posting = [threading.Thread(target=post, args=(first,)) for first in range(20)]
    for each in posting:
        each.start()
    for each in posting:
        each.join()
    assert len(locations) == 200
    for number, location in sorted(locations.items()):
        assert yard.result(location, 120)[0] == 200
        assert_holds(yard.target.remote, f"{repository}-{number}", "v1", graph)
    status = Path(f"/proc/{yard.service.process.pid}/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    assert peak <= 64 * MIB + OPEN_MEMORY
    assert yard.uploads() == []
