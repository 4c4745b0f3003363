"""The servers and proxies of the suite work as named; otherwise passing tests would mean nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from support import nginx
from support.docker_registry import DockerRegistry, htpasswd_file
from support.images import (
    assert_holds,
    assert_layout_holds,
    everything,
    place_sparse_blob,
    push,
    write_sparse,
)
from support.push import Remote
from support.skopeo import copy_all, raw_digest

pytestmark = pytest.mark.real


def test_skopeo_reads_the_pushed_images(source: DockerRegistry, repository: str) -> None:
    builder = ImageBuilder()
    graph = push(source.remote, repository, builder, everything(builder), "v1")
    assert_holds(source.remote, repository, "v1", graph)
    assert raw_digest(f"docker://{source.host}/{repository}:v1") == graph.root


def test_htpasswd_registry_refuses_strangers(
    new_registry: Callable[..., DockerRegistry], tmp_path: Path
) -> None:
    path = htpasswd_file(tmp_path / "htpasswd", "ann", "s3cret")
    registry = new_registry(auth={"htpasswd": {"realm": "here", "path": str(path)}}, basic="ann:s3cret")
    assert registry.remote.request("GET", "/v2/").status == 200
    assert Remote(registry.host).request("GET", "/v2/").status == 401
    assert Remote(registry.host, basic="ann:wrong").request("GET", "/v2/").status == 401


def test_access_log_and_upload_sessions_are_seen(source: DockerRegistry, repository: str) -> None:
    mark = source.mark()
    opened = source.remote.request("POST", f"/v2/{repository}/blobs/uploads/", b"")
    assert opened.status == 202
    assert source.uploads_begun(mark) == 1
    assert any(repository in session for session in source.upload_sessions())
    assert source.remote.request("DELETE", opened.headers["location"]).status == 204
    assert not any(repository in session for session in source.upload_sessions())


def test_range_stripper_serves_everything(
    source: DockerRegistry, repository: str, tmp_path: Path, closing: ExitStack
) -> None:
    digest = source.remote.push_blob(repository, b"0123456789")
    proxy = nginx.start_range_stripper(tmp_path / "nginx", f"http://{source.host}")
    closing.callback(proxy.stop)
    path = f"/v2/{repository}/blobs/{digest}"
    assert source.remote.request("GET", path, headers={"Range": "bytes=2-4"}).body == b"234"
    ignored = Remote(proxy.host).request("GET", path, headers={"Range": "bytes=2-4"})
    assert (ignored.status, ignored.body) == (200, b"0123456789")


def test_redirector_hands_blobs_to_a_host_that_refuses_authorization(
    source: DockerRegistry, repository: str, tmp_path: Path, closing: ExitStack
) -> None:
    digest = source.remote.push_blob(repository, b"0123456789")
    front, behind = nginx.start_redirector(
        tmp_path / "nginx", f"http://{source.host}", source.storage, address="127.0.0.2"
    )
    closing.callback(front.stop)
    closing.callback(behind.stop)
    path = f"/v2/{repository}/blobs/{digest}"
    assert Remote(front.host).request("GET", path).status == 401
    sent_on = Remote(front.host, basic="a:b").request("GET", path)
    assert sent_on.status == 307
    location = sent_on.headers["location"]
    storage = Remote(f"127.0.0.2:{behind.ports[0]}")
    assert storage.request("GET", location, headers={"Range": "bytes=2-4"}).body == b"234"
    assert storage.request("GET", location, headers={"Authorization": "Basic YTpi"}).status == 500
    assert [entry["authorization"] for entry in behind.accesses()] == ["", "Basic YTpi"]


def test_body_limit_answers_413(
    target: DockerRegistry, repository: str, tmp_path: Path, closing: ExitStack
) -> None:
    proxy = nginx.start_body_limit(tmp_path / "nginx", f"http://{target.host}", "1m")
    closing.callback(proxy.stop)
    remote = Remote(proxy.host)
    opened = remote.request("POST", f"/v2/{repository}/blobs/uploads/", b"")
    assert proxy.host in opened.headers["location"]
    refused = remote.request("PATCH", opened.headers["location"], bytes((1 << 20) + 1))
    assert refused.status == 413
    assert remote.push_blob(repository, bytes(1 << 20))


def test_sparse_blob_is_served_by_the_registry(
    source: DockerRegistry, repository: str, tmp_path: Path
) -> None:
    size = (3 << 20) + 5
    with (tmp_path / "sparse").open("w+b") as file:
        write_sparse(file.fileno(), size)
        data = file.read()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    place_sparse_blob(source, repository, size, digest)
    assert source.remote.blob(repository, digest) == data
    assert json.loads((source.directory / "config.yml").read_text())["version"] == "0.1"


def test_the_real_image_is_one_for_skopeo(
    source: DockerRegistry, repository: str, real_index: tuple[ImageBuilder, Content], tmp_path: Path
) -> None:
    builder, content = real_index
    graph = push(source.remote, repository, builder, content, "real")
    copy_all(f"docker://{source.host}/{repository}:real", f"oci:{tmp_path}/layout:real")
    assert_layout_holds(tmp_path / "layout", graph, "real")
    assert raw_digest(f"oci:{tmp_path}/layout:real") == graph.root
    platforms = [entry.get("platform") for entry in json.loads(graph.manifests[graph.root][1])["manifests"]]
    assert {"os": "windows", "architecture": "amd64", "os.version": "10.0.20348.2113"} in platforms
    assert platforms.count({"os": "unknown", "architecture": "unknown"}) == 2
