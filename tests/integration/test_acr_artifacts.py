"""Helm charts and ORAS artifacts, pushed to the embedded registry as different clients do, and imported.

`Pusher` sends the requests of helm 3.16; the others use the other token flow and other forms of upload.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from crossdock.imagebuilder import HELM_CHART, HELM_CONFIG, OCI_MANIFEST, Content, ImageBuilder
from support.command import Crossdock
from support.docker_registry import DockerRegistry
from support.embedded import Embedded, start_embedded
from support.images import Graph, assert_holds, one_layer_image, walk
from support.push import Remote, Reply, sha256

pytestmark = pytest.mark.real

USER, SECRET = "ci", "s3cret-of-ci"
USERS: dict[str, Any] = {"users": [{"name": USER, "password": SECRET, "scopes": ["repository:team/*:*"]}]}


@pytest.fixture
def served(tmp_path: Path, closing: ExitStack) -> Embedded:
    (tmp_path / "root").mkdir()
    return start_embedded(tmp_path, tmp_path / "root", closing, users=USERS)


class Pusher:
    """A client that pushes one manifest with its blobs; `log_in` and `send` differ between clients."""

    def __init__(self, host: str, repository: str) -> None:
        self.host = host
        self.repository = repository
        self.remote = Remote(host)

    def log_in(self, challenge: dict[str, str]) -> Reply:
        """Helm and containerd: the password grant, with the challenge's scope and the one to push."""
        scope = f"{challenge['scope']} repository:{self.repository}:pull,push"
        form = {"client_id": "containerd-client", "grant_type": "password", "password": SECRET}
        form |= {"scope": scope, "service": challenge["service"], "username": USER}
        kind = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        return self.remote.request("POST", challenge["realm"], urlencode(form).encode(), kind)

    def send(self, location: str, data: bytes, digest: str) -> Reply:
        """Helm and oras: the whole blob in the closing PUT."""
        query = urlencode({"digest": digest})
        kind = {"Content-Type": "application/octet-stream"}
        return self.remote.request("PUT", f"{location}?{query}", data, kind)

    def push(self, graph: Graph, read: Callable[[str], bytes], tag: str = "") -> Reply:
        """All of it, children first; the answer to the last PUT."""
        blobs = f"/v2/{self.repository}/blobs"
        first = next(iter(graph.blobs))
        refused = self.remote.request("HEAD", f"{blobs}/{first}")
        assert refused.status == 401
        given = self.log_in(challenge_of(refused))
        assert given.status == 200
        token = given.json().get("access_token") or given.json()["token"]
        self.remote = Remote(self.host, bearer=token)
        for digest in graph.blobs:
            assert self.remote.request("HEAD", f"{blobs}/{digest}").status == 404
            opened = self.remote.request("POST", f"{blobs}/uploads/", b"")
            assert opened.status == 202
            done = self.send(opened.headers["location"], read(digest), digest)
            assert (done.status, done.headers["docker-content-digest"]) == (201, digest)
        ((media_type, data),) = graph.manifests.values()
        path = f"/v2/{self.repository}/manifests/{tag or graph.root}"
        assert self.remote.request("HEAD", path).status == 404
        done = self.remote.request("PUT", path, data, {"Content-Type": media_type})
        assert (done.status, done.headers["docker-content-digest"]) == (201, graph.root)
        return done


class ChunkPusher(Pusher):
    """A token by GET with Basic, and a blob in two chunks (specification: Pushing a blob in chunks)."""

    def log_in(self, challenge: dict[str, str]) -> Reply:
        query = urlencode(
            {"service": challenge["service"], "scope": f"repository:{self.repository}:pull,push"}
        )
        return Remote(self.host, basic=f"{USER}:{SECRET}").request("GET", f"{challenge['realm']}?{query}")

    def send(self, location: str, data: bytes, digest: str) -> Reply:
        half = len(data) // 2
        for start, piece in ((0, data[:half]), (half, data[half:])):
            told = {"Content-Type": "application/octet-stream"}
            told["Content-Range"] = f"{start}-{start + len(piece) - 1}"
            taken = self.remote.request("PATCH", location, piece, told)
            assert (taken.status, taken.headers["range"]) == (202, f"0-{start + len(piece) - 1}")
            location = taken.headers["location"]
        return self.remote.request("PUT", f"{location}?{urlencode({'digest': digest})}", b"")


class DockerPusher(Pusher):
    """As docker push: one PATCH without a Content-Length, and a closing PUT without a body."""

    def send(self, location: str, data: bytes, digest: str) -> Reply:
        taken = self.remote.request("PATCH", location, io.BytesIO(data))
        assert taken.status == 202
        location = taken.headers["location"]
        return self.remote.request("PUT", f"{location}?{urlencode({'digest': digest})}", b"")


def challenge_of(refused: Reply) -> dict[str, str]:
    scheme, _, rest = refused.headers["www-authenticate"].partition(" ")
    assert scheme == "Bearer"
    found = dict(part.split("=", 1) for part in rest.replace('",', '"\n').splitlines())
    return {name: value.strip('"') for name, value in found.items()}


def graph_of(builder: ImageBuilder, content: Content) -> Graph:
    return walk(builder.read, content.digest)


@pytest.fixture
def imported(
    crossdock: Crossdock, served: Embedded, new_registry: Callable[..., DockerRegistry], tmp_path: Path
) -> Callable[..., DockerRegistry]:
    """Imports of the embedded registry's images into a docker-registry; no secret shows in any log."""
    target = new_registry("target")
    document = {"registries": [{"name": "myregistry", "login_server": target.host}]}
    (tmp_path / "inventory.yaml").write_text(json.dumps(document))

    def run(source: str, *words: str) -> DockerRegistry:
        source = f"{served.host}/{source}"
        flags = ("-u", USER, "--password-stdin", "--inventory", str(tmp_path / "inventory.yaml"))
        command = ("acr", "import", "-n", "myregistry", "--source", source)
        done = crossdock.ok(*command, *words, *flags, stdin=f"{SECRET}\n")
        logs = (served.process.log, target.process.log)
        assert not [text for text in (done.stderr, *(log.read_text() for log in logs)) if SECRET in text]
        return target

    return run


@pytest.mark.parametrize("client", [Pusher, ChunkPusher, DockerPusher])
def test_a_helm_chart_is_pushed_and_imported(
    client: type[Pusher], served: Embedded, imported: Callable[..., DockerRegistry]
) -> None:
    builder = ImageBuilder(seed=6)
    graph = graph_of(builder, builder.helm_chart("mychart", "0.1.0"))
    client(served.host, "team/charts/mychart").push(graph, builder.read, "0.1.0")
    target = imported("team/charts/mychart:0.1.0", "-t", "charts/mychart:0.1.0")
    assert_holds(target.remote, "charts/mychart", "0.1.0", graph)
    raw = target.remote.manifest("charts/mychart", "0.1.0")
    assert (sha256(raw.body), raw.headers["content-type"]) == (graph.root, OCI_MANIFEST)
    document = raw.json()
    kinds = [document["config"]["mediaType"], *(layer["mediaType"] for layer in document["layers"])]
    assert kinds == [HELM_CONFIG, HELM_CHART]


def test_an_oras_artifact_with_a_subject_is_copied_with_it_and_alone(
    served: Embedded, imported: Callable[..., DockerRegistry]
) -> None:
    builder = ImageBuilder(seed=7)
    image = one_layer_image(builder, 5000)[0]
    payload = builder.blob(b'{"bom":true}', "application/vnd.example.sbom.v1+json")
    sbom = builder.artifact("application/vnd.example.sbom", [payload], subject=image)
    graphs = {each.digest: graph_of(builder, each) for each in (image, sbom)}
    ChunkPusher(served.host, "team/app").push(graphs[image.digest], builder.read, "v1")
    answer = ChunkPusher(served.host, "team/app").push(graphs[sbom.digest], builder.read)
    assert answer.headers["oci-subject"] == image.digest
    target = imported("team/app:v1", "-t", "app:v1")
    assert_holds(target.remote, "app", "v1", graphs[image.digest])
    assert_holds(target.remote, "app", sbom.digest, graphs[sbom.digest])
    fallback = target.remote.manifest("app", image.digest.replace(":", "-")).json()
    assert [each["digest"] for each in fallback["manifests"]] == [sbom.digest]
    imported(f"team/app@{sbom.digest}", "--repository", "boms")
    assert_holds(target.remote, "boms", sbom.digest, graphs[sbom.digest])


def test_an_artifact_of_unknown_types(served: Embedded, imported: Callable[..., DockerRegistry]) -> None:
    builder = ImageBuilder(seed=8)
    layers = [builder.blob(bytes([number]) * 9, f"application/x-{number}") for number in range(3)]
    config = builder.blob(b"\x00not json", "application/vnd.example.config.v1+binary")
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}
    document["config"] = config.document()
    artifact = builder.manifest(
        {**document, "layers": [each.document() for each in layers], "x": {"y": [1.50]}}
    )
    graph = graph_of(builder, artifact)
    ChunkPusher(served.host, "team/thing").push(graph, builder.read, "v1")
    target = imported("team/thing:v1", "-t", "thing:v1", "-t", "copy/of/thing:v2")
    assert_holds(target.remote, "thing", "v1", graph)
    assert_holds(target.remote, "copy/of/thing", "v2", graph)
