"""Foreign layers: kept by their URLs, or fetched from there without anybody's credentials."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import OCI_FOREIGN_LAYER, Content, ImageBuilder
from support.command import NOT_FOUND, TARGET, VERIFICATION, Crossdock
from support.docker_registry import DockerRegistry, htpasswd_file
from support.images import Graph, assert_holds, assert_layout_holds, push
from support.nginx import Nginx, start_nginx
from support.process import free_port
from support.push import sha256

pytestmark = pytest.mark.real

ALLOWING = {"manifests": {"urls": {"allow": ["^https?://"]}}}
LAYER_BYTES = 3 << 20


@dataclass
class Far:
    """Hosts of layers: the first redirects to the second, which has the files."""

    front: Nginx
    files: Nginx
    folder: Path

    def add(self, data: bytes) -> Content:
        """A foreign layer that is here alone."""
        digest = sha256(data)
        name = digest.partition(":")[2]
        (self.folder / name).write_bytes(data)
        urls = [f"http://{self.front.host}/gone/{name}", f"http://{self.front.host}/layers/{name}"]
        return Content(OCI_FOREIGN_LAYER, digest, len(data), {"urls": urls})

    def asked(self) -> list[dict[str, object]]:
        """The requests to both hosts."""
        return [*self.front.accesses(), *self.files.accesses()]


@pytest.fixture
def far(tmp_path: Path, closing: ExitStack) -> Far:
    folder = tmp_path / "layers"
    folder.mkdir()
    port, behind = free_port(), free_port()
    files = start_nginx(
        tmp_path / "files", f"server {{ listen 127.0.0.1:{behind}; root {folder}; }}", (behind,)
    )
    closing.callback(files.stop)
    front = start_nginx(
        tmp_path / "front",
        f"""server {{ listen 127.0.0.1:{port}; location /gone/ {{ return 404; }}
            location ~ ^/layers/(?<name>.+)$ {{ return 307 http://127.0.0.1:{behind}/$name?sig=x; }} }}""",
        (port,),
    )
    closing.callback(front.stop)
    return Far(front, files, folder)


@pytest.fixture
def willing(new_registry: Callable[..., DockerRegistry]) -> DockerRegistry:
    """A target that takes manifests with URLs."""
    return new_registry("willing", validation=ALLOWING)


@pytest.fixture
def private(new_registry: Callable[..., DockerRegistry], tmp_path: Path) -> DockerRegistry:
    """A source that accepts foreign layers too, and requires a password."""
    users = htpasswd_file(tmp_path / "users", "reader", "not-for-others")
    return new_registry(
        "private",
        validation=ALLOWING,
        auth={"htpasswd": {"realm": "r", "path": str(users)}},
        basic="reader:not-for-others",
    )


@pytest.fixture
def windows(
    private: DockerRegistry, repository: str, builder: ImageBuilder, far: Far
) -> tuple[Graph, Content, bytes]:
    """The image at the source, its foreign layer and the bytes of that."""
    data = bytes(builder.read(builder.random_layer(LAYER_BYTES).digest))
    foreign = far.add(data)
    image = builder.image(
        [foreign, builder.random_layer(3000)], "windows/amd64", os_version="10.0.20348.2113"
    )
    return push(private.remote, repository, builder, image, "v1"), foreign, data


@pytest.fixture
def copied(
    crossdock: Crossdock, private: DockerRegistry, repository: str
) -> Callable[[str, str], dict[str, Any]]:
    """Copies ``v1`` of the private registry to a place, with a value of ``--foreign-layers``."""

    def copy(target: str, way: str) -> dict[str, Any]:
        flags = ("--src-creds-stdin", "--foreign-layers", way)
        return crossdock.copy(
            f"{private.host}/{repository}:v1", target, *flags, stdin="reader:not-for-others\n"
        )

    return copy


def test_copied_layers_come_from_their_urls_without_credentials(
    copied: Callable[[str, str], dict[str, Any]],
    willing: DockerRegistry,
    repository: str,
    windows: tuple[Graph, Content, bytes],
    far: Far,
) -> None:
    graph, foreign, data = windows
    target = f"{willing.host}/{repository}:v1"
    result = copied(target, "copy")
    assert_holds(willing.remote, repository, "v1", graph)
    assert willing.remote.blob(repository, foreign.digest) == data
    assert result["bytes_moved"] == graph.blob_bytes + foreign.size
    asked = far.asked()
    assert {entry["authorization"] for entry in asked} == {""}
    assert {entry["status"] for entry in asked} >= {404, 307}
    again = copied(target, "copy")
    assert (again["blobs_moved"], again["warnings"]) == (0, [])
    assert len(far.asked()) == len(asked)


def test_kept_layers_are_not_asked_for_and_can_be_fetched_later(
    copied: Callable[[str, str], dict[str, Any]],
    willing: DockerRegistry,
    repository: str,
    windows: tuple[Graph, Content, bytes],
    far: Far,
) -> None:
    graph, foreign, data = windows
    target = f"{willing.host}/{repository}:v1"
    assert len(copied(target, "keep")["warnings"]) == 1
    assert_holds(willing.remote, repository, "v1", graph)
    assert not willing.remote.has_blob(repository, foreign.digest)
    assert far.asked() == []
    assert copied(target, "copy")["blobs_moved"] == 1
    assert willing.remote.blob(repository, foreign.digest) == data


def test_a_layout_gets_the_bytes_too(
    copied: Callable[[str, str], dict[str, Any]],
    windows: tuple[Graph, Content, bytes],
    tmp_path: Path,
) -> None:
    graph, foreign, data = windows
    copied(f"oci:{tmp_path / 'layout'}:v1", "copy")
    assert_layout_holds(tmp_path / "layout", graph, "v1")
    assert (tmp_path / "layout" / "blobs" / foreign.digest.replace(":", "/")).read_bytes() == data


def test_other_bytes_at_the_url_are_not_the_layer(
    crossdock: Crossdock,
    new_registry: Callable[..., DockerRegistry],
    willing: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    far: Far,
) -> None:
    source = new_registry("source", validation=ALLOWING)
    foreign = far.add(b"what the manifest names")
    (far.folder / foreign.digest.partition(":")[2]).write_bytes(b"what somebody put there")
    push(source.remote, repository, builder, builder.image([foreign], "windows/amd64"), "v1")
    crossdock.fail_copy(
        f"{source.host}/{repository}:v1",
        f"{willing.host}/{repository}:v1",
        *("--foreign-layers", "copy"),
        code=VERIFICATION,
        naming=["source", foreign.digest],
    )
    assert willing.remote.tags(repository) == []


def test_a_layer_that_is_nowhere_says_how_to_go_without(
    crossdock: Crossdock,
    new_registry: Callable[..., DockerRegistry],
    willing: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    far: Far,
) -> None:
    source = new_registry("source", validation=ALLOWING)
    foreign = far.add(b"soon gone")
    (far.folder / foreign.digest.partition(":")[2]).unlink()
    push(source.remote, repository, builder, builder.image([foreign], "windows/amd64"), "v1")
    crossdock.fail_copy(
        f"{source.host}/{repository}:v1",
        f"{willing.host}/{repository}:v1",
        *("--foreign-layers", "copy"),
        code=NOT_FOUND,
        naming=["source", foreign.digest, "--foreign-layers keep"],
    )


def test_a_target_that_forbids_urls_is_reported_with_its_setting(
    crossdock: Crossdock,
    new_registry: Callable[..., DockerRegistry],
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    far: Far,
) -> None:
    source = new_registry("source", validation=ALLOWING)
    image = builder.image([far.add(b"a windows layer")], "windows/amd64")
    push(source.remote, repository, builder, image, "v1")
    for way in ("keep", "copy"):
        crossdock.fail_copy(
            f"{source.host}/{repository}:v1",
            f"{target.host}/{repository}:v1",
            *("--foreign-layers", way, "--retries", "1"),
            code=TARGET,
            naming=["validation.manifests.urls.allow"],
        )
    assert target.remote.tags(repository) == []
