"""``crossdock verify`` finds lost and different content; a failing side is not a difference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Fault
from support.command import AUTH, SOURCE, TARGET, USAGE, VERIFICATION, Crossdock
from support.docker_registry import DockerRegistry
from support.images import Graph, push

pytestmark = pytest.mark.real


class Pair:
    """A source and a target that hold the same three tags."""

    def __init__(
        self,
        crossdock: Crossdock,
        source: DockerRegistry,
        target: DockerRegistry,
        repository: str,
        builder: ImageBuilder,
    ) -> None:
        self.crossdock, self.source, self.target = crossdock, source, target
        self.prefix, self.name = repository, "team/app"
        self.repository = f"{repository}/{self.name}"
        self.builder = builder
        self.layer = builder.random_layer(70_000)
        self.image = builder.image([self.layer, builder.random_layer(500)])
        self.index = builder.index([self.image, builder.image([self.layer], "linux/arm64")])
        self.graphs: dict[str, Graph] = {}
        for tag, content in (("v1", self.image), ("v2", self.index), ("latest", self.index)):
            for registry in (source, target):
                self.graphs[tag] = push(registry.remote, self.repository, builder, content, tag)

    def verify(self, *words: str, code: int = 0, source: str = "", target: str = "") -> dict[str, Any]:
        """The JSON document of ``verify`` of both prefixes."""
        places = (
            f"{host}/{self.prefix}" for host in (source or self.source.host, target or self.target.host)
        )
        done = self.crossdock("verify", *places, "--output", "json", *words)
        assert done.code == code, str(done)
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def row(
        self, kind: str, tag: str | None, source: str | None, target: str | None = None
    ) -> dict[str, Any]:
        """A row of the document."""
        return {
            "repository": self.name,
            "tag": tag,
            "source_digest": source,
            "target_digest": target,
            "kind": kind,
        }

    def untag(self, tag: str) -> None:
        """Remove a tag of the target, which distribution 2 cannot by its API."""
        folder = self.target.storage / "repositories" / self.repository / "_manifests" / "tags" / tag
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()


@pytest.fixture
def pair(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> Pair:
    return Pair(crossdock, source, target, repository, builder)


NOTHING = {"missing": [], "different": [], "extra": [], "errors": []}


def found(document: dict[str, Any]) -> dict[str, Any]:
    """The lists of the document."""
    return {name: document[name] for name in NOTHING}


def test_targets_that_hold_everything(pair: Pair) -> None:
    graph = pair.graphs["v2"]
    blobs = {**graph.blobs, **pair.graphs["v1"].blobs}
    assert pair.verify("--level", "tags") == {
        "level": "tags",
        **NOTHING,
        "compared": {"tags": 3, "manifests": 0, "blobs": 0, "bytes": 0},
    }
    document = pair.verify()
    assert found(document) == NOTHING
    assert document["compared"] == {"tags": 3, "manifests": 3, "blobs": len(blobs), "bytes": 0}
    document = pair.verify("--level", "bytes")
    assert found(document) == NOTHING
    assert document["compared"]["bytes"] == sum(blobs.values())


def test_tags_that_are_missing_different_or_extra(pair: Pair) -> None:
    pair.untag("v1")
    other = pair.builder.image([pair.builder.random_layer(100)])
    push(pair.target.remote, pair.repository, pair.builder, other, "latest")
    push(pair.target.remote, pair.repository, pair.builder, other, "only-here")
    for level in ("tags", "graph"):
        assert found(pair.verify("--level", level, code=VERIFICATION)) == {
            **NOTHING,
            "missing": [pair.row("tag", "v1", pair.image.digest)],
            "different": [pair.row("tag", "latest", pair.index.digest, other.digest)],
            "extra": [pair.row("tag", "only-here", None, other.digest)],
        }


def test_an_extra_tag_is_not_a_difference(pair: Pair) -> None:
    push(pair.target.remote, pair.repository, pair.builder, pair.image, "only-here")
    assert len(pair.verify()["extra"]) == 1


def test_a_lost_blob(pair: Pair) -> None:
    pair.target.blob_file(pair.layer.digest).unlink()
    assert found(pair.verify("--level", "tags")) == NOTHING
    for level in ("graph", "bytes"):
        missing = pair.verify("--level", level, code=VERIFICATION)["missing"]
        assert [(each["kind"], each["source_digest"]) for each in missing] == [("blob", pair.layer.digest)]


def test_a_spoilt_blob_is_seen_when_bytes_are_compared(pair: Pair) -> None:
    file = pair.target.blob_file(pair.layer.digest)
    data = bytearray(file.read_bytes())
    data[5000] ^= 1
    file.write_bytes(data)
    assert found(pair.verify()) == NOTHING
    (row,) = pair.verify("--level", "bytes", code=VERIFICATION)["different"]
    assert (row["kind"], row["source_digest"]) == ("blob", pair.layer.digest)
    assert row["target_digest"] not in (None, pair.layer.digest)


def test_a_blob_of_another_size(pair: Pair) -> None:
    file = pair.target.blob_file(pair.layer.digest)
    file.write_bytes(file.read_bytes()[:-1])
    (row,) = pair.verify(code=VERIFICATION)["different"]
    assert (row["kind"], row["source_digest"]) == ("blob", pair.layer.digest)


def test_a_lost_manifest_of_an_index(pair: Pair) -> None:
    pair.target.blob_file(pair.index.document()["digest"])
    child = next(
        each for each in pair.graphs["v2"].manifests if each not in (pair.index.digest, pair.image.digest)
    )
    pair.target.blob_file(child).unlink()
    (row,) = pair.verify(code=VERIFICATION)["missing"]
    assert (row["kind"], row["source_digest"]) == ("manifest", child)


def test_a_referrer_that_did_not_come(pair: Pair) -> None:
    signature = pair.builder.image([pair.builder.random_layer(100)])
    tag = pair.image.digest.replace(":", "-") + ".sig"
    push(pair.source.remote, pair.repository, pair.builder, signature, tag)
    assert found(pair.verify(code=VERIFICATION))["missing"] == [pair.row("tag", tag, signature.digest)]


@pytest.mark.parametrize(
    ("side", "fault", "code"),
    [
        ("source", Fault("GET /v2/*/tags/list", answer=Answer(401), times=None), AUTH),
        ("target", Fault("GET /v2/*/tags/list", answer=Answer(403), times=None), AUTH),
        ("source", Fault("GET /v2/*/tags/list", answer=Answer(200, {}, b"{"), times=None), SOURCE),
        ("target", Fault("GET /v2/*/tags/list", answer=Answer(200, {}, b"{"), times=None), TARGET),
        ("target", Fault("GET|HEAD /v2/*/manifests/*", answer=Answer(500), times=None), TARGET),
        (
            "source",
            Fault("GET /v2/*/manifests/sha256:*", answer=Answer(200, {}, b"spoilt"), times=None),
            SOURCE,
        ),
    ],
)
def test_a_side_that_cannot_be_read_is_not_a_difference(
    pair: Pair, fault_proxy: Callable[..., FaultProxy], side: str, fault: Fault, code: int
) -> None:
    pair.untag("v1")  # is a difference, too
    registry = pair.source if side == "source" else pair.target
    proxy = fault_proxy(registry.host)
    proxy.add(fault)
    document = pair.verify("--retries", "0", code=code, **{side: f"127.0.0.1:{proxy.port}"})
    assert document["errors"]


def test_a_registry_that_is_not_there(pair: Pair) -> None:
    for side, code in (("source", SOURCE), ("target", TARGET)):
        document = pair.verify("--retries", "0", code=code, **{side: "127.0.0.1:9"})  # type: ignore[arg-type]
        assert "refused" in document["errors"][0]["message"]


def test_referrers_of_an_image_of_the_source_are_not_extra(pair: Pair) -> None:
    stem = pair.image.digest.replace(":", "-")
    other = pair.builder.image([pair.builder.random_layer(100)])
    for tag in (stem, f"{stem}.sig", f"sha256-{'0' * 64}.sig"):
        push(pair.target.remote, pair.repository, pair.builder, other, tag)
    assert pair.verify("--level", "tags")["extra"] == []
    assert [each["tag"] for each in pair.verify()["extra"]] == [f"sha256-{'0' * 64}.sig"]


def test_rows_of_two_images_and_of_two_targets(pair: Pair, tmp_path: Path) -> None:
    one, two = (f"{each.host}/{pair.repository}:v2" for each in (pair.source, pair.target))
    done = pair.crossdock("verify", one, two.replace(":v2", ":none"), "--output", "json")
    (row,) = json.loads(done.stdout)["missing"]
    assert row == {**pair.row("tag", "v2", pair.index.digest), "repository": pair.repository}
    targets = [f"{pair.target.host}/{more}{pair.prefix}" for more in ("", "elsewhere/")]
    entry = {"source": f"{pair.source.host}/{pair.prefix}", "targets": targets}
    limits = {"hosts": {"idle.example": {"connections": 2}}}
    (tmp_path / "m.yaml").write_text(json.dumps({"version": 1, "limits": limits, "mirrors": [entry]}))
    done = pair.crossdock("verify", str(tmp_path / "m.yaml"), "--output", "json")
    assert "idle.example" in done.stderr
    rows = json.loads(done.stdout)["missing"]
    assert {(each["repository"], each["target"]) for each in rows} == {(pair.name, targets[1])}
    assert len(rows) == 3


def test_two_images(pair: Pair) -> None:
    crossdock = pair.crossdock
    one, two = (f"{each.host}/{pair.repository}:v2" for each in (pair.source, pair.target))
    assert crossdock("verify", one, two).code == 0
    assert crossdock("verify", one, two.replace(":v2", ":v1")).code == VERIFICATION
    assert crossdock("verify", one, two, one).code == USAGE


def test_the_text_names_what_is_missing(pair: Pair) -> None:
    pair.untag("v1")
    done = pair.crossdock("verify", f"{pair.source.host}/{pair.prefix}", f"{pair.target.host}/{pair.prefix}")
    first, last = done.stdout.splitlines()
    assert first == f"missing   {pair.target.host}/{pair.repository}:v1  {pair.image.digest}"
    assert last == "compared 3 tags, 3 manifests, 4 blobs: 1 missing, 0 different, 0 extra"


def test_a_sample_is_the_same_every_time(pair: Pair) -> None:
    for number in range(40):
        for registry in (pair.source, pair.target):
            push(registry.remote, pair.repository, pair.builder, pair.image, f"s{number}")
    first, second = (pair.verify("--sample", "50", "--level", "tags")["compared"] for _ in range(2))
    assert first == second
    assert 5 < first["tags"] < 38
