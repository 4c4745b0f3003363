"""Registries that are odd but right, proxies on the way, referrers, and other digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from crossdock import imagebuilder
from crossdock.imagebuilder import ImageBuilder, sample_index
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Break, Fault, Seen, drop_headers, set_header
from support import nginx
from support.command import TARGET, Crossdock
from support.docker_registry import DockerRegistry
from support.forwarding import ForwardingProxy
from support.images import Graph, assert_holds, one_layer_image, push
from support.process import free_port

pytestmark = pytest.mark.real


@pytest.fixture
def image(source: DockerRegistry, repository: str, builder: ImageBuilder) -> Graph:
    """An image with a layer of 12 MB, in the source."""
    content, _ = one_layer_image(builder, 12_000_000)
    return push(source.remote, repository, builder, content, "v1")


def is_manifest(request: Seen) -> bool:
    """Any request for a manifest."""
    return "/manifests/" in request.path


# -- sources -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault(is_manifest, times=None, head=drop_headers("docker-content-digest")),
        Fault(lambda r: is_manifest(r) and r.method == "HEAD", times=None, answer=Answer(405)),
        Fault(is_manifest, times=None, head=set_header("Content-Type", "application/octet-stream")),
        Fault(is_manifest, times=None, head=set_header("Content-Type", "application/json; charset=utf-8")),
        Fault(lambda r: r.is_blob_get(), times=None, strip_range=True, head=drop_headers("content-length")),
        Fault(
            lambda r: r.is_blob_get(), times=None, head=drop_headers("docker-content-digest", "accept-ranges")
        ),
        Fault(lambda r: r.is_blob_get(), times=None, head=set_header("Connection", "close")),
        Fault(lambda r: r.path == "/v2/", times=None, answer=Answer(404, body=b"no ping here")),
    ],
    ids=[
        "no digest header",
        "no HEAD",
        "wrong content type",
        "content type with parameters",
        "no length",
        "bare blob headers",
        "no keep-alive",
        "no ping",
    ],
)
def test_sources_that_are_odd_but_right(
    fault: Fault,
    crossdock: Crossdock,
    source_faults: FaultProxy,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    graph = push(source.remote, repository, builder, sample_index(builder), "v1")
    source_faults.add(fault)
    crossdock.copy(f"{source_faults.host}/{repository}:v1", f"{target.host}/{repository}:v1")
    assert_holds(target.remote, repository, "v1", graph)


def test_content_range_without_its_unit_is_understood(
    crossdock: Crossdock, source_faults: FaultProxy, target: DockerRegistry, repository: str, image: Graph
) -> None:
    def bare(status: int, headers: list[tuple[str, str]]) -> tuple[int, list[tuple[str, str]]]:
        return status, [
            (k, v.removeprefix("bytes ") if k.lower() == "content-range" else v) for k, v in headers
        ]

    source_faults.add(Fault(lambda r: r.is_blob_get(), times=None, head=bare))
    words = f"{source_faults.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    assert crossdock.copy(*words, "--chunk-size", "1MiB")["retries"] == 0
    assert_holds(target.remote, repository, "v1", image)


# -- targets -----------------------------------------------------------------------------------------


def test_relative_locations_are_followed(
    crossdock: Crossdock,
    source: DockerRegistry,
    new_registry: Callable[..., DockerRegistry],
    repository: str,
    image: Graph,
) -> None:
    relative = new_registry(http={"relativeurls": True})
    crossdock.copy(f"{source.host}/{repository}:v1", f"{relative.host}/{repository}:v1")
    assert_holds(relative.remote, repository, "v1", image)


def test_an_upload_location_on_another_loopback_port_works(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    image: Graph,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    front = nginx.start_proxy(
        tmp_path / "nginx", f"http://{target.host}", f"proxy_set_header Host {target.host};"
    )
    closing.callback(front.stop)
    mark = target.mark()
    crossdock.copy(f"{source.host}/{repository}:v1", f"{front.host}/{repository}:v1")
    assert_holds(target.remote, repository, "v1", image)
    through_front = [e for e in front.accesses() if e["method"] == "PUT" and "/uploads/" in str(e["uri"])]
    direct = [a for a in target.accesses(mark) if a.method == "PUT" and "/uploads/" in a.path]
    assert direct
    assert through_front == []


def patches(proxy: FaultProxy) -> list[int]:
    """The sizes of the PATCH requests."""
    return [r.body_size for r in proxy.seen if r.method == "PATCH"]


def refuse_one_request_uploads(proxy: FaultProxy) -> None:
    """413 to every PUT and PATCH of more than 6 MB."""
    proxy.add(
        Fault(
            lambda r: r.is_upload_body() and r.body_size > 6_000_000,
            times=None,
            answer=Answer(413),
        )
    )


def test_the_least_chunk_length_of_a_target_is_honoured(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
    image: Graph,
) -> None:
    target_faults.add(
        Fault(lambda r: r.is_upload_start(), times=None, head=set_header("OCI-Chunk-Min-Length", "5000000"))
    )
    refuse_one_request_uploads(target_faults)
    crossdock.copy(f"{source.host}/{repository}:v1", f"{target_faults.host}/{repository}:v1")
    assert_holds(target.remote, repository, "v1", image)
    accepted = [size for size in patches(target_faults) if 100_000 < size <= 6_000_000]
    assert len(accepted) >= 2
    assert all(size >= 5_000_000 for size in accepted[:-1]), accepted


@pytest.mark.parametrize(
    "fault",
    [
        {"breaks": Break("reset", "request", 1_000_000)},
        {"answer": Answer(416)},
        {"answer": Answer(404, {}, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')},
        {"answer": Answer(500)},
        {"breaks": Break("reset", "request")},
    ],
    ids=["cut", "416", "404", "500", "reset"],
)
def test_a_chunk_that_fails_once_is_recovered(
    fault: dict[str, object],
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
    image: Graph,
) -> None:
    def second_chunk(request: Seen) -> bool:
        accepted = [size for size in patches(target_faults) if 100_000 < size <= 6_000_000]
        return request.method == "PATCH" and len(accepted) == 2

    planned = Fault(second_chunk, **fault)  # type: ignore[arg-type]
    refuse_one_request_uploads(target_faults)
    target_faults.faults.insert(0, planned)
    crossdock.copy(f"{source.host}/{repository}:v1", f"{target_faults.host}/{repository}:v1")
    assert planned.reached.is_set()
    assert_holds(target.remote, repository, "v1", image)


def test_an_old_tag_stays_when_a_copy_fails(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
    builder: ImageBuilder,
    image: Graph,
) -> None:
    old = push(target.remote, repository, builder, builder.helm_chart("old"), "v1")
    target_faults.add(Fault(lambda r: r.is_upload_start(), times=None, answer=Answer(400)))
    words = f"{source.host}/{repository}:v1", f"{target_faults.host}/{repository}:v1"
    crossdock.fail_copy(*words, code=TARGET, naming=["target"])
    assert_holds(target.remote, repository, "v1", old)


# -- referrers ---------------------------------------------------------------------------------------


def test_referrers_join_the_fallback_tag_of_a_target_without_the_api(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    subject = builder.image([builder.random_layer(1000)])
    push(source.remote, repository, builder, subject, "v1")
    signatures = [
        builder.artifact("application/vnd.example.signature", [builder.random_layer(50 + n)], subject=subject)
        for n in range(2)
    ]
    for number, signature in enumerate(signatures):
        push(source.remote, repository, builder, signature, f"sig{number}")
        crossdock.copy(f"{source.host}/{repository}:sig{number}", f"{target.host}/{repository}:sig{number}")
        crossdock.copy(f"{source.host}/{repository}:sig{number}", f"{target.host}/{repository}:sig{number}")
    fallback = target.remote.manifest(repository, subject.digest.replace(":", "-"))
    assert fallback.headers["content-type"] == imagebuilder.OCI_INDEX
    entries = json.loads(fallback.body)["manifests"]
    assert sorted(entry["digest"] for entry in entries) == sorted(s.digest for s in signatures)
    assert {entry["artifactType"] for entry in entries} == {"application/vnd.example.signature"}


# -- digests -----------------------------------------------------------------------------------------


def test_blobs_named_by_sha512_are_copied_and_checked(crossdock: Crossdock, tmp_path: Path) -> None:
    layout = ImageBuilder(tmp_path / "from")
    data = bytes(range(256)) * 5000
    digest = "sha512:" + hashlib.sha512(data).hexdigest()
    file = tmp_path / "from" / "blobs" / digest.replace(":", "/")
    file.parent.mkdir()
    file.write_bytes(data)
    layer = {"mediaType": imagebuilder.OCI_LAYER, "digest": digest, "size": len(data)}
    config = layout.blob(b"{}", imagebuilder.OCI_CONFIG).document()
    layout.tag(
        layout.manifest(
            {"schemaVersion": 2, "mediaType": imagebuilder.OCI_MANIFEST, "config": config, "layers": [layer]}
        ),
        "v1",
    )
    crossdock.copy(f"oci:{layout.root}:v1", f"oci:{tmp_path}/to:v1")
    assert (tmp_path / "to" / "blobs" / digest.replace(":", "/")).read_bytes() == data
    file.write_bytes(data[:-1] + b"\0")
    crossdock.fail_copy(f"oci:{layout.root}:v1", f"oci:{tmp_path}/other:v1", code=7, naming=["source"])


# -- proxies -----------------------------------------------------------------------------------------


def test_http_proxy_carries_everything_and_no_proxy_nothing(
    crossdock: Crossdock,
    source: DockerRegistry,
    source_faults: FaultProxy,
    target: DockerRegistry,
    repository: str,
    image: Graph,
) -> None:
    """The fault proxy stands in for a forward proxy: it sends absolute requests on to the registry."""
    env = {"HTTP_PROXY": f"http://{source_faults.host}", "http_proxy": f"http://{source_faults.host}"}
    env |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    words = f"registry.invalid:5000/{repository}:v1", f"{target.host}/{repository}:v1"
    mark = target.mark()
    crossdock.copy(*words, "--src-plain-http", "--chunk-size", "1MiB", env=env)
    assert_holds(target.remote, repository, "v1", image)
    assert source_faults.count(lambda r: r.path.startswith("http://registry.invalid:5000/v2/")) >= 12
    assert target.accesses(mark)
    assert source_faults.count(lambda r: f":{target.port}" in r.path) == 0


def test_https_proxy_is_a_tunnel_and_the_certificate_is_the_registrys(
    crossdock: Crossdock,
    source: DockerRegistry,
    new_registry: Callable[..., DockerRegistry],
    repository: str,
    image: Graph,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    ca = trustme.CA()
    leaf = ca.issue_cert("registry.invalid")
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    leaf.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "leaf.pem"))
    pem = str(tmp_path / "leaf.pem")
    secure = new_registry(http={"tls": {"certificate": pem, "key": pem}})
    tunnel = ForwardingProxy(int(secure.host.rpartition(":")[2]), "connect")
    closing.callback(tunnel.close)
    env = {"HTTPS_PROXY": f"http://bob:hush-hush@{tunnel.host}", "NO_PROXY": source.host}
    words = f"{source.host}/{repository}:v1", f"registry.invalid:8443/{repository}:v1"
    done = crossdock.ok("copy", *words, "--dest-ca", tmp_path / "ca.pem", env=env)
    assert "hush-hush" not in done.stdout + done.stderr
    assert set(tunnel.asked) == {"registry.invalid:8443"}
    assert set(tunnel.authorizations) == {"Basic Ym9iOmh1c2gtaHVzaA=="}
    assert [a for a in secure.accesses() if a.method == "PUT" and a.path.endswith("/manifests/v1")]


def test_a_proxy_that_is_not_there_is_named(
    crossdock: Crossdock, source: DockerRegistry, repository: str, image: Graph
) -> None:
    port = free_port()
    env = {"HTTPS_PROXY": f"http://bob:hush-hush@127.0.0.1:{port}", "NO_PROXY": "127.0.0.1"}
    line = crossdock.fail_copy(
        f"{source.host}/{repository}:v1",
        f"registry.invalid/{repository}:v1",
        *("--retries", "1"),
        code=TARGET,
        naming=["target", "registry.invalid"],
        env=env,
    )
    assert "proxy" in line
    assert "hush-hush" not in line
