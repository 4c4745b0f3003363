"""Bad input: one clear line naming side and reference, the right exit code, and no new tag."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder, sample_index
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Fault
from support.command import AUTH, NOT_FOUND, SOURCE, TARGET, USAGE, VERIFICATION, Crossdock
from support.docker_registry import DockerRegistry, htpasswd_file
from support.faults import SilentPort
from support.images import layout_tags, push
from support.process import free_port

pytestmark = pytest.mark.real

ABSENT = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    "reference",
    [
        "ftp://127.0.0.1/repository:v1",
        "http://127.0.0.1:5000/repository:v1",
        "tarball:/some/file.tar",
        "docker-daemon:image:v1",
        "dir:/some/where",
    ],
)
@pytest.mark.parametrize("side", ["source", "target"])
def test_an_unknown_scheme_is_refused(
    reference: str,
    side: str,
    crossdock: Crossdock,
    source: DockerRegistry,
    builder: ImageBuilder,
    repository: str,
) -> None:
    push(source.remote, repository, builder, builder.helm_chart(), "v1")
    good = f"{source.host}/{repository}:v1"
    mark = source.mark()
    pair = (reference, good) if side == "source" else (good, reference)
    crossdock.fail_copy(*pair, code=USAGE, naming=[reference])
    assert source.accesses(mark) == []


@pytest.mark.parametrize(
    "reference",
    [
        "",
        ":",
        "/",
        "127.0.0.1:5000/UPPER/case:v1",
        "127.0.0.1:5000/repo:",
        "127.0.0.1:5000/repo:not a tag",
        "127.0.0.1:5000/repo:.dot",
        "127.0.0.1:5000/repo:" + "x" * 129,
        "127.0.0.1:5000//repo",
        "127.0.0.1:5000/repo/",
        "127.0.0.1:5000/repo@sha256:123",
        "127.0.0.1:5000/repo@md5:d41d8cd98f00b204e9800998ecf8427e",
        "127.0.0.1:5000/repo@" + ABSENT.upper(),
        "127.0.0.1:port/repo:v1",
        "127.0.0.1:99999/repo:v1",
        "127.0.0.1:5000/re\npo:v1",
        "user:password@127.0.0.1:5000/repo:v1",
        "127.0.0.1:5000/../../etc/passwd",
        "oci:",
        "oci:/tmp/layout@sha256:../../../etc/passwd",
    ],
)
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_malformed_reference_is_refused(
    reference: str, side: str, crossdock: Crossdock, tmp_path: Path
) -> None:
    good = f"127.0.0.1:{free_port()}/repo:v1"
    crossdock.fail_copy(*((reference, good) if side == "source" else (good, reference)), code=USAGE)


def test_a_missing_tag_is_not_found(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    builder: ImageBuilder,
    repository: str,
) -> None:
    push(source.remote, repository, builder, builder.helm_chart(), "v1")
    wanted = f"{source.host}/{repository}:v2"
    crossdock.fail_copy(wanted, f"{target.host}/{repository}:v2", code=NOT_FOUND, naming=["source", wanted])
    assert target.remote.tags(repository) == []


def test_a_missing_repository_is_not_found(
    crossdock: Crossdock, source: DockerRegistry, target: DockerRegistry, repository: str
) -> None:
    wanted = f"{source.host}/{repository}/none:v1"
    crossdock.fail_copy(wanted, f"{target.host}/{repository}:v1", code=NOT_FOUND, naming=["source", wanted])
    assert target.remote.tags(repository) == []


def test_a_digest_that_is_not_there_is_not_found(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    builder: ImageBuilder,
    repository: str,
) -> None:
    push(source.remote, repository, builder, builder.helm_chart(), "v1")
    wanted = f"{source.host}/{repository}@{ABSENT}"
    crossdock.fail_copy(wanted, f"{target.host}/{repository}:v1", code=NOT_FOUND, naming=["source", wanted])
    assert target.remote.tags(repository) == []


def test_a_tag_and_a_digest_that_disagree_are_refused(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    builder: ImageBuilder,
    repository: str,
) -> None:
    one = push(source.remote, repository, builder, builder.helm_chart("one"), "v1")
    two = push(source.remote, repository, builder, builder.helm_chart("two"), "v2")
    wanted = f"{source.host}/{repository}:v1@{two.root}"
    line = crossdock.fail_copy(
        wanted, f"{target.host}/{repository}:v1", code=VERIFICATION, naming=["source", wanted]
    )
    assert one.root in line
    assert target.remote.tags(repository) == []


def test_a_digest_of_the_target_that_disagrees_is_refused(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    builder: ImageBuilder,
    repository: str,
) -> None:
    graph = push(source.remote, repository, builder, builder.helm_chart(), "v1")
    done = crossdock(
        "copy",
        f"{source.host}/{repository}:v1",
        f"{target.host}/{repository}:v1@{ABSENT}",
        *("--progress", "none"),
    )
    assert done.code in (USAGE, VERIFICATION), str(done)
    assert ABSENT in done.error
    assert graph.root in done.error
    assert target.remote.tags(repository) == []


def test_an_unreachable_source_is_the_sources_fault(
    crossdock: Crossdock, target: DockerRegistry, repository: str
) -> None:
    wanted = f"127.0.0.1:{free_port()}/{repository}:v1"
    crossdock.fail_copy(
        wanted,
        f"{target.host}/{repository}:v1",
        *("--retries", "1"),
        code=SOURCE,
        naming=["source", wanted],
    )
    assert target.remote.tags(repository) == []


def test_an_unreachable_target_is_the_targets_fault(
    crossdock: Crossdock, source: DockerRegistry, builder: ImageBuilder, repository: str
) -> None:
    push(source.remote, repository, builder, builder.helm_chart(), "v1")
    wanted = f"127.0.0.1:{free_port()}/{repository}:v1"
    crossdock.fail_copy(
        f"{source.host}/{repository}:v1",
        wanted,
        *("--retries", "1"),
        code=TARGET,
        naming=["target", wanted],
    )


def test_a_name_that_does_not_resolve_is_the_sources_fault(
    crossdock: Crossdock, target: DockerRegistry, repository: str
) -> None:
    wanted = "registry.invalid/some/repository:v1"
    crossdock.fail_copy(
        wanted, f"{target.host}/{repository}:v1", "--retries", "0", code=SOURCE, naming=["source", wanted]
    )


def test_a_port_that_never_answers_is_given_up(
    crossdock: Crossdock, target: DockerRegistry, repository: str, closing: ExitStack
) -> None:
    silent = SilentPort()
    closing.callback(silent.close)
    wanted = f"{silent.host}/{repository}:v1"
    crossdock.fail_copy(
        wanted,
        f"{target.host}/{repository}:v1",
        *("--retries", "1", "--timeout", "500ms", "--src-plain-http"),
        code=SOURCE,
        naming=["source", wanted],
    )
    flags = ("--retries", "0", "--timeout", "500ms", "--src-plain-http")
    crossdock.fail("tags", f"{silent.host}/x", *flags, code=SOURCE)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("credentials", ["", "ann:amiss", "bob:hush-hush"])
def test_refused_credentials_are_exit_code_3(
    side: str,
    credentials: str,
    crossdock: Crossdock,
    source: DockerRegistry,
    new_registry: Callable[..., DockerRegistry],
    builder: ImageBuilder,
    repository: str,
    tmp_path: Path,
) -> None:
    path = htpasswd_file(tmp_path / "htpasswd", "ann", "hush-hush")
    private = new_registry(auth={"htpasswd": {"realm": "here", "path": str(path)}}, basic="ann:hush-hush")
    for registry in (source, private):
        push(registry.remote, repository, builder, builder.helm_chart(), "v1")
    closed, opened = f"{private.host}/{repository}:v1", f"{source.host}/{repository}:v9"
    if side == "target":
        closed, opened = f"{private.host}/{repository}:v9", f"{source.host}/{repository}:v1"
    flags = [f"--{'src' if side == 'source' else 'dest'}-creds-stdin"] if credentials else []
    line = crossdock.fail_copy(
        *((closed, opened) if side == "source" else (opened, closed)),
        *flags,
        stdin=f"{credentials}\n",
        code=AUTH,
        naming=[side, closed],
    )
    said = line.replace(closed, "").replace(repository, "")
    assert "amiss" not in said
    assert "hush-hush" not in said
    for registry in (source, private):
        assert registry.remote.tags(repository) == ["v1"]


def test_schema_1_says_what_to_do(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    fault_proxy: Callable[[str], FaultProxy],
) -> None:
    body = json.dumps({"schemaVersion": 1, "name": repository, "tag": "v1", "fsLayers": [], "history": []})
    proxy = fault_proxy(source.host)
    kind = {"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}
    proxy.add(Fault(lambda r: "/manifests/" in r.path, times=None, answer=Answer(200, kind, body.encode())))
    wanted = f"{proxy.host}/{repository}:v1"
    line = crossdock.fail_copy(
        wanted, f"{target.host}/{repository}:v1", code=SOURCE, naming=["source", wanted]
    )
    assert "schema 1" in line.lower() or "schema1" in line.lower()
    assert target.remote.tags(repository) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}',
        b'{"schemaVersion":2,"config":{"digest":"sha256:../../x","size":1,"mediaType":"a/b"},"layers":[]}',
        b'{"schemaVersion":2,"config":{"digest":"sha256:' + b"0" * 64 + b'","size":-1,"mediaType":"a/b"},'
        b'"layers":[]}',
        b"<html>" + b"x" * 5_000_000,
        b'{"a":' * 100_000,
    ],
    ids=["empty", "text", "list", "object", "no config", "escaping digest", "negative size", "huge", "deep"],
)
def test_a_manifest_that_is_none_is_one_clean_line(
    body: bytes,
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    fault_proxy: Callable[[str], FaultProxy],
) -> None:
    proxy = fault_proxy(source.host)
    kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
    proxy.add(Fault(lambda r: "/manifests/" in r.path, times=None, answer=Answer(200, kind, body)))
    wanted = f"{proxy.host}/{repository}:v1"
    done = crossdock("copy", wanted, f"{target.host}/{repository}:v1", "--progress", "none", "--retries", "0")
    assert done.code in (SOURCE, VERIFICATION), str(done)
    assert "source" in done.error
    assert wanted in done.error
    assert len(done.error) < 2000
    assert target.remote.tags(repository) == []


def test_a_folder_without_a_layout_is_reported(
    crossdock: Crossdock, target: DockerRegistry, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    for place in ("none", "empty", "file"):
        done = crossdock("copy", f"oci:{tmp_path / place}:v1", f"{target.host}/x:v1", "--progress", "none")
        assert done.code in (NOT_FOUND, SOURCE), str(done)
        assert "source" in done.error
        assert str(tmp_path / place) in done.error
    assert not (tmp_path / "none").exists()


def test_a_missing_tag_in_a_layout_is_not_found(
    crossdock: Crossdock, target: DockerRegistry, tmp_path: Path, repository: str
) -> None:
    layout = ImageBuilder(tmp_path / "layout")
    layout.tag(sample_index(layout), "here")
    crossdock.fail_copy(
        f"oci:{layout.root}:gone",
        f"{target.host}/{repository}:v1",
        code=NOT_FOUND,
        naming=["source", f"oci:{layout.root}:gone"],
    )
    assert target.remote.tags(repository) == []


def test_a_layout_that_lies_about_a_blob_is_caught(
    crossdock: Crossdock, target: DockerRegistry, tmp_path: Path, repository: str
) -> None:
    layout = ImageBuilder(tmp_path / "layout")
    layer = layout.random_layer(50_000)
    layout.tag(layout.image([layer]), "v1")
    data = bytearray(layout.read(layer))
    data[77] ^= 1
    layout.path(layer).write_bytes(data)
    crossdock.fail_copy(
        f"oci:{layout.root}:v1",
        f"{target.host}/{repository}:v1",
        code=VERIFICATION,
        naming=["source", f"oci:{layout.root}", layer.digest],
    )
    assert target.remote.tags(repository) == []
    assert not target.remote.has_blob(repository, layer.digest)


def test_a_layout_whose_blob_is_missing_or_short_is_caught(
    crossdock: Crossdock, target: DockerRegistry, tmp_path: Path, repository: str
) -> None:
    layout = ImageBuilder(tmp_path / "layout")
    layer = layout.random_layer(50_000)
    layout.tag(layout.image([layer]), "v1")
    words = f"oci:{layout.root}:v1", f"{target.host}/{repository}:v1"
    layout.path(layer).write_bytes(layout.read(layer)[:-1])
    crossdock.fail_copy(*words, code=VERIFICATION, naming=["source", layer.digest])
    layout.path(layer).unlink()
    crossdock.fail_copy(*words, code=NOT_FOUND, naming=["source", layer.digest])
    assert target.remote.tags(repository) == []


def test_a_failed_copy_into_a_layout_leaves_no_name(
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    fault_proxy: Callable[[str], FaultProxy],
    tmp_path: Path,
) -> None:
    layer = builder.random_layer(80_000)
    push(source.remote, repository, builder, builder.image([layer]), "v1")
    proxy = fault_proxy(source.host)
    proxy.add(Fault(lambda r: r.is_blob_get(layer.digest), times=None, flip_at=1234))
    layout = tmp_path / "layout"
    wanted = f"{proxy.host}/{repository}:v1"
    crossdock.fail_copy(
        wanted, f"oci:{layout}:v1", code=VERIFICATION, naming=["source", f"{proxy.host}/{repository}"]
    )
    assert layout_tags(layout) == []
    assert not (layout / "blobs" / layer.digest.replace(":", "/")).exists()
    leftovers = [p for p in layout.rglob("*") if p.is_file() and p.stat().st_size >= 80_000]
    assert leftovers == []
