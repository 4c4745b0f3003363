"""``crossdock archive`` and ``crossdock copy --from-archive``: many images through one file, and back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import Content, ImageBuilder, sample_index
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Fault, Seen
from support.command import DONE, NOT_FOUND, SCRIPT, USAGE, VERIFICATION, Crossdock
from support.docker_registry import DockerRegistry
from support.images import push
from support.push import sha256
from support.skopeo import skopeo

pytestmark = pytest.mark.real


class Shop:
    """A team's registry: two images that share a layer, in two repositories, and an index."""

    def __init__(self, registry: DockerRegistry, repository: str, builder: ImageBuilder) -> None:
        self.registry, self.repository, self.builder = registry, repository, builder
        self.base = builder.random_layer(2_500_000)
        self.images: dict[str, Content] = {}
        self.add("app", "1", builder.image([self.base, builder.random_layer(70_000)]))
        self.add("other", "2", builder.image([self.base, builder.random_layer(1_300_000)]))
        self.add("multi", "v1", sample_index(builder))

    def add(self, name: str, tag: str, image: Content) -> str:
        """Push an image; its reference."""
        push(self.registry.remote, f"{self.repository}/{name}", self.builder, image, tag)
        self.images[f"{name}:{tag}"] = image
        return self.reference(f"{name}:{tag}")

    def sign(self, name: str) -> str:
        """Attach a referrer, and a signature by a tag; the tag."""
        image, repository = self.images[name], f"{self.repository}/{name.partition(':')[0]}"
        signature = self.builder.image([self.builder.random_layer(300)])
        tag = image.digest.replace(":", "-") + ".sig"
        push(self.registry.remote, repository, self.builder, signature, tag)
        sbom = self.builder.artifact("application/vnd.example.sbom", subject=image)
        listed = {"schemaVersion": 2, "manifests": [sbom.document()]}
        listed["mediaType"] = "application/vnd.oci.image.index.v1+json"
        push(self.registry.remote, repository, self.builder, sbom, sbom.digest)
        self.registry.remote.push_manifest(
            repository, json.dumps(listed).encode(), listed["mediaType"], image.digest.replace(":", "-")
        )
        return tag

    def reference(self, name: str) -> str:
        """``host/repository:tag``."""
        return f"{self.registry.host}/{self.repository}/{name}"

    @property
    def references(self) -> list[str]:
        """Of all images."""
        return [self.reference(name) for name in self.images]

    def assert_at(self, target: DockerRegistry, prefix: str) -> None:
        """All images are below the prefix, byte for byte, with all that they list."""
        for name in self.images:
            raw = skopeo(
                "inspect",
                "--raw",
                "--tls-verify=false",
                f"docker://{target.host}/{prefix}/{self.repository}/{name}",
            )
            assert sha256(raw) == self.images[name].digest, name


@pytest.fixture
def shop(source: DockerRegistry, repository: str, builder: ImageBuilder) -> Shop:
    return Shop(source, repository, builder)


def members(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def path_of(content: Content) -> str:
    return f"blobs/{content.digest.replace(':', '/')}"


def is_mount(seen: Seen) -> bool:
    return "mount=" in seen.path


def tags_at(target: DockerRegistry, prefix: str, shop: Shop) -> list[str]:
    return [
        f"{name}:{tag}"
        for name in ("app", "other", "multi")
        for tag in target.remote.tags(f"{prefix}/{shop.repository}/{name}")
    ]


def test_many_images_go_into_one_archive_and_come_back(
    crossdock: Crossdock, shop: Shop, target: DockerRegistry, tmp_path: Path
) -> None:
    signature = shop.sign("app:1")
    shop.add("twin", "1", shop.images["app:1"])  # the same digest, signed by somebody else
    assert shop.sign("twin:1") == signature
    push(target.remote, f"elsewhere/{shop.repository}", shop.builder, shop.images["other:2"], "3")
    references = [*shop.references, f"{target.host}/elsewhere/{shop.repository}:3"]
    archive = tmp_path / "all.tar"
    result = crossdock.ok("archive", archive, *references, "--output", "json").result
    names = members(archive)
    assert len(names) == len(set(names))
    assert result["totals"]["bytes_requested"] == sum(blob_sizes(archive))
    assert [Path(each["path"]) for each in result["archive"]["files"]] == [archive]
    listed = crossdock.ok("tags", f"oci-archive:{archive}").stdout.split()
    assert set(listed) == {
        *references,
        *(f"{shop.reference(name)}:{signature}" for name in ("app", "twin")),
    }
    crossdock.ok("copy", "--from-archive", archive, "--to", f"{target.host}/gap", "--check-blobs")
    shop.assert_at(target, "gap")
    assert target.remote.tags(f"gap/elsewhere/{shop.repository}") == ["3"]
    listed_by_digest = shop.images["app:1"].digest.replace(":", "-")
    for name in ("app", "twin"):
        copied, repository = f"gap/{shop.repository}/{name}", f"{shop.repository}/{name}"
        assert target.remote.tags(copied) == sorted(["1", signature, listed_by_digest])
        theirs = shop.registry.remote.manifest(repository, signature).body
        assert target.remote.manifest(copied, signature).body == theirs
    skopeo("copy", f"oci-archive:{archive}:{shop.references[0]}", f"oci:{tmp_path / 'theirs'}:v1")


def blob_sizes(archive: Path) -> list[int]:
    """Of the blobs in the archive without the manifests."""
    with tarfile.open(archive) as tar:
        found = []
        for each in tar.getmembers():
            if each.name.startswith("blobs/"):
                file = tar.extractfile(each)
                assert file is not None
                if b'"schemaVersion"' not in file.read(200):
                    found.append(each.size)
    return found


def test_parts_are_checked_and_the_one_that_is_lost_or_damaged_is_named(
    crossdock: Crossdock, shop: Shop, target: DockerRegistry, tmp_path: Path
) -> None:
    archive = tmp_path / "all.tar"
    (tmp_path / "all.tar.009").write_bytes(b"another archive had more")
    words = ("archive", archive, *shop.references, "--split", "1MiB", "--progress", "none")
    result = crossdock.ok(*words, "--output", "json").result
    parts = [Path(each["path"]) for each in result["archive"]["files"]]
    assert parts == sorted(tmp_path.glob("all.tar.00[1-8]"))
    assert {part.stat().st_size for part in parts[:-1]} == {1 << 20}
    assert parts[-1].stat().st_size <= 1 << 20
    assert [sha256(part.read_bytes()) for part in parts] == [
        f"sha256:{each['sha256']}" for each in result["archive"]["files"]
    ]
    (tmp_path / "all.tar.009").unlink()
    (tmp_path / "joined.tar").write_bytes(b"".join(part.read_bytes() for part in parts))
    skopeo(
        "copy", f"oci-archive:{tmp_path / 'joined.tar'}:{shop.references[0]}", f"oci:{tmp_path / 'theirs'}"
    )
    back = ("copy", "--from-archive", f"{archive}.001", "--to", f"{target.host}/parts", "--progress", "none")
    whole = [part.read_bytes() for part in parts]
    damaged = bytearray(whole[1])
    damaged[len(damaged) // 2] ^= 1
    parts[1].write_bytes(damaged)
    crossdock.fail(*back, code=VERIFICATION, naming=["source", str(parts[1])])
    parts[1].unlink()
    crossdock.fail(*back, code=VERIFICATION, naming=["source", f"{parts[1]} is missing"])
    parts[1].write_bytes(whole[1])
    assert tags_at(target, "parts", shop) == []
    crossdock.ok(*back)
    shop.assert_at(target, "parts")


@pytest.mark.parametrize(("kind", "mounts"), [("", True), ("", False), ("docker-archive:", True)])
def test_blobs_of_an_older_archive_are_left_out_and_have_to_be_at_the_target(
    crossdock: Crossdock,
    shop: Shop,
    target: DockerRegistry,
    target_faults: FaultProxy,
    tmp_path: Path,
    kind: str,
    mounts: bool,
) -> None:
    builder = shop.builder
    old, new = f"{kind}{tmp_path / 'old.tar'}", f"{kind}{tmp_path / 'new.tar'}"
    app = shop.reference("app:1")
    crossdock.ok("archive", old, app)
    own = builder.random_layer(50_000)
    changed = shop.add("app", "2", builder.image([shop.base, own]))
    words = ("archive", new, "--since", old, app, changed, shop.reference("other:2"))
    result = crossdock.ok(*words, "--output", "json").result
    names = members(tmp_path / "new.tar")
    assert path_of(own) in names
    assert path_of(shop.base) not in names
    assert result["archive"]["bytes_left_out"] >= shop.base.size
    prefix = f"since{kind[:3]}"
    back = ("copy", "--to", f"{target_faults.host}/{prefix}", "--progress", "none", "--from-archive")
    if not mounts:
        target_faults.add(
            Fault(lambda seen: "mount=" in seen.path, times=None, answer=lambda seen: Answer(405))
        )
    crossdock.fail(*back, tmp_path / "new.tar", code=NOT_FOUND, naming=["target", shop.base.digest])
    assert tags_at(target, prefix, shop) == []
    crossdock.ok(*back, tmp_path / "old.tar")
    crossdock.ok(*back, tmp_path / "new.tar")
    assert tags_at(target, prefix, shop) == ["app:1", "app:2", "other:2"]
    repository = f"{prefix}/{shop.repository}/other"
    assert target.remote.blob(repository, shop.base.digest) == builder.read(shop.base)
    assert target_faults.count(is_mount)


def test_one_reference_that_fails_leaves_what_was_there(
    crossdock: Crossdock, shop: Shop, tmp_path: Path
) -> None:
    folder = tmp_path / "archives"
    folder.mkdir()
    archive = folder / "all.tar"
    archive.write_bytes(b"what was there")
    done = crossdock("archive", archive, *shop.references, shop.reference("app:none"), "--output", "json")
    assert done.code == NOT_FOUND, str(done)
    assert "app:none" in done.stderr
    assert "was not written" in done.stderr
    assert json.loads(done.stdout)["totals"]["copied"] == 0
    assert (archive.read_bytes(), os.listdir(folder)) == (b"what was there", ["all.tar"])


def test_an_archive_goes_through_a_pipe(
    crossdock: Crossdock, shop: Shop, target: DockerRegistry, tmp_path: Path
) -> None:
    writing = [*SCRIPT, "archive", "-", *shop.references, "--output", "json", "--progress", "none"]
    reading = [*SCRIPT, "copy", "--from-archive", "-", "--to", f"{target.host}/pipe", "--progress", "none"]
    with subprocess.Popen(writing, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as archive:
        done = subprocess.run(reading, stdin=archive.stdout, capture_output=True, check=False, timeout=60)
        assert archive.stderr is not None
        words = archive.stderr.read()
    assert (archive.returncode, done.returncode) == (DONE, DONE), (words, done.stderr)
    assert json.loads(words)["totals"]["copied"] == 3
    shop.assert_at(target, "pipe")


def test_an_archive_of_docker_and_one_of_skopeo_come_back_by_their_names(
    crossdock: Crossdock, shop: Shop, target: DockerRegistry, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs.tar"
    chosen = [shop.reference("app:1"), shop.reference("other:2")]
    crossdock.ok("archive", f"docker-archive:{ours}", *chosen)
    builder = ImageBuilder(tmp_path / "layout", seed=7)
    image = builder.image([builder.tar_layer({"file": b"x" * 100_000})])
    builder.tag(image, "v1")
    skopeo("copy", f"oci:{builder.root}:v1", f"docker-archive:{theirs}:old.example/{shop.repository}/app:9")
    back = ("copy", "--to", f"{target.host}/docker", "--from-archive")
    crossdock.ok(*back, ours)
    crossdock.ok(*back, theirs)
    assert tags_at(target, "docker", shop) == ["app:1", "app:9", "other:2"]
    copied: dict[str, Any] = target.remote.manifest(f"docker/{shop.repository}/app", "1").json()
    assert copied["layers"][0]["digest"] == shop.base.digest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["archive", "x.tar"], "REFERENCE"),
        (["archive", "x.tar", "oci:folder:v1"], "not in a registry"),
        (["archive", "x.tar", "h:1/a", "--split", "1KiB"], "64 KiB"),
        (["archive", "-", "h:1/a", "--split", "1MiB"], "stdout"),
        (["archive", "x.tar", "h:1/a", "--since", "x.tar"], "to be written"),
        (["archive", "x.tar", "h:1/a:1", "h:1/a:1@sha256:" + 64 * "0"], "is written by"),
        (["archive", "docker-archive:x.tar", "h:1/a@sha256:" + 64 * "0"], "no digests"),
        (["copy", "--from-archive", "x.tar"], "--to"),
        (["copy", "--to", "h:1", "h:1/a", "h:2/a"], "--from-archive"),
        (["copy", "--from-archive", "x.tar", "--to", "h:1", "h:1/a"], "replaces"),
        (["copy", "--from-archive", "-", "--to", "h:1", "--src-creds-stdin"], "stdin"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_done(
    crossdock: Crossdock, words: list[str], said: str
) -> None:
    assert said in crossdock.fail(*words, code=USAGE)


def test_the_commands_of_the_page_about_air_gaps(
    crossdock: Crossdock, shop: Shop, target: DockerRegistry, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "air-gap.md").read_text()
    shop.add("app", "2", shop.builder.image([shop.base, shop.builder.random_layer(20_000)]))
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(lines) > 5
    script = "\n".join(lines).replace("registry.example/team", f"{shop.registry.host}/{shop.repository}")
    script = script.replace("inside.example", f"{target.host}/page")
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        env={**crossdock.environment, "PATH": f"{Path(SCRIPT[0]).parent}:{crossdock.environment['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == DONE, done.stderr.decode()
    assert tags_at(target, "page", shop) == ["app:1", "app:2", "other:2"]
