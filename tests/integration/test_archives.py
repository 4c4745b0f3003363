"""Archives on disk, between the command and skopeo."""

from __future__ import annotations

import gzip
import json
import os
import select
import signal
import subprocess
import tarfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import Content, ImageBuilder, sample_index
from support.command import CANCELLED, DONE, SCRIPT, TARGET, VERIFICATION, Crossdock
from support.docker_registry import DockerRegistry
from support.images import assert_layout_holds, layout_tags, one_layer_image, push, walk
from support.process import find_crane, require, wait_until
from support.push import sha256
from support.skopeo import copy_all, skopeo

pytestmark = pytest.mark.real


def real_layers(builder: ImageBuilder) -> Content:
    """An image whose layers are tar files, as skopeo's archives need them."""
    layers = [builder.tar_layer({f"file{at}": bytes([at]) * 100_000}) for at in range(3)]
    return builder.image(layers)


@pytest.fixture
def layout(tmp_path: Path) -> tuple[Path, Content]:
    builder = ImageBuilder(tmp_path / "layout", seed=7)
    image = real_layers(builder)
    builder.tag(image, "v1")
    return tmp_path / "layout", image


def test_an_oci_archive_of_skopeo_reaches_a_registry(
    crossdock: Crossdock,
    layout: tuple[Path, Content],
    source: DockerRegistry,
    repository: str,
    tmp_path: Path,
) -> None:
    archive = tmp_path / "image.tar"
    skopeo("copy", f"oci:{layout[0]}:v1", f"oci-archive:{archive}:v1")
    result = crossdock.copy(f"oci-archive:{archive}:v1", f"{source.host}/{repository}:v1")
    assert result["digest"] == layout[1].digest
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{source.host}/{repository}:v1")
    assert sha256(raw) == layout[1].digest


@pytest.mark.parametrize("packed", [False, True])
def test_an_archive_of_docker_is_what_skopeo_reads_there(
    crossdock: Crossdock, layout: tuple[Path, Content], tmp_path: Path, packed: bool
) -> None:
    archive = tmp_path / "image.tar"
    skopeo("copy", f"oci:{layout[0]}:v1", f"docker-archive:{archive}:app:1")
    skopeo("copy", f"docker-archive:{archive}:app:1", f"oci:{tmp_path / 'theirs'}:v1")
    if packed:
        archive.write_bytes(gzip.compress(archive.read_bytes()))
    crossdock.copy(f"docker-archive:{archive}:app:1", f"oci:{tmp_path / 'ours'}:v1")
    ours, theirs = (
        json.loads(skopeo("inspect", "--config", "--raw", f"oci:{tmp_path / each}:v1"))
        for each in ("ours", "theirs")
    )
    assert ours == theirs
    # skopeo unpacks and compares every layer with the config.
    skopeo("copy", f"oci:{tmp_path / 'ours'}:v1", f"docker-archive:{tmp_path / 'again.tar'}:app:1")


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_an_archive_comes_through_a_pipe(
    crossdock: Crossdock, layout: tuple[Path, Content], tmp_path: Path, kind: str
) -> None:
    archive = tmp_path / "image.tar"
    skopeo("copy", f"oci:{layout[0]}:v1", f"{kind}:{archive}:app:1")
    with subprocess.Popen(["cat", archive], stdout=subprocess.PIPE) as cat:
        done = subprocess.run(
            [*SCRIPT, "copy", f"{kind}:-:app:1", f"oci:{tmp_path / 'copy'}:v1"],
            stdin=cat.stdout,
            capture_output=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == DONE, done.stderr.decode()
    skopeo("inspect", f"oci:{tmp_path / 'copy'}:v1")


def test_a_cut_archive_is_the_sources_fault_and_no_tag(
    crossdock: Crossdock,
    layout: tuple[Path, Content],
    source: DockerRegistry,
    repository: str,
    tmp_path: Path,
) -> None:
    archive = tmp_path / "image.tar"
    skopeo("copy", f"oci:{layout[0]}:v1", f"docker-archive:{archive}:app:1")
    archive.write_bytes(archive.read_bytes()[:200_000])
    line = crossdock.fail_copy(
        f"docker-archive:{archive}", f"{source.host}/{repository}:v1", code=VERIFICATION, naming=["source"]
    )
    assert "is cut" in line
    assert crossdock("inspect", f"{source.host}/{repository}:v1", "--src-plain-http").code != DONE


def manifest_of(archive: Path) -> list[dict[str, Any]]:
    """``manifest.json`` of an archive of docker."""
    with tarfile.open(archive) as tar:
        found = tar.extractfile("manifest.json")
        assert found is not None
        return json.loads(found.read())  # type: ignore[no-any-return]


def temporary_files(folder: Path) -> list[Path]:
    """What a writer keeps beside its archive."""
    return [each for each in folder.iterdir() if each.name.startswith(".")]


def test_skopeo_reads_an_oci_archive(
    crossdock: Crossdock, builder: ImageBuilder, source: DockerRegistry, repository: str, tmp_path: Path
) -> None:
    index = sample_index(builder)
    push(source.remote, repository, builder, index, "v1")
    archive = tmp_path / "image.tar"
    result = crossdock.copy(f"{source.host}/{repository}:v1", f"oci-archive:{archive}:v1")
    assert result["digest"] == index.digest
    copy_all(f"oci-archive:{archive}:v1", f"oci:{tmp_path / 'theirs'}:v1")
    assert_layout_holds(tmp_path / "theirs", walk(builder.read, index.digest), "v1")
    assert crossdock.copy(f"oci-archive:{archive}", f"oci:{tmp_path / 'ours'}:v1")["digest"] == index.digest
    assert temporary_files(tmp_path) == []


def test_images_share_layers_in_an_archive_of_docker(
    crossdock: Crossdock, source: DockerRegistry, repository: str, tmp_path: Path
) -> None:
    builder = ImageBuilder(tmp_path / "layout", seed=9)
    shared = [builder.tar_layer({f"base{at}": bytes([at]) * 3_000_000}) for at in range(2)]
    images = [builder.image([*shared, builder.tar_layer({"own": bytes([at]) * 1000})]) for at in range(3)]
    archive = tmp_path / "images.tar"
    lines = []
    for at, image in enumerate(images):
        builder.tag(image, f"v{at}")
        lines.append(f"oci:{tmp_path / 'layout'}:v{at} docker-archive:{archive}:team/app{at}:{at}\n")
    crossdock.ok("copy", "--from-file", "-", "--progress", "none", stdin="".join(lines))
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        for layer in shared:
            found = tar.extractfile(f"blobs/{layer.digest.replace(':', '/')}")
            assert found is not None
            assert found.read() == builder.read(layer)  # gzip, as it was
    assert len(names) == len(set(names))
    assert len(manifest_of(archive)) == 3
    for at, image in enumerate(images):
        skopeo("copy", f"docker-archive:{archive}:team/app{at}:{at}", f"oci:{tmp_path / 'theirs'}:v{at}")
        ours = crossdock.copy(f"docker-archive:{archive}:team/app{at}:{at}", f"oci:{tmp_path / 'ours'}:v{at}")
        assert ours["digest"] == image.digest
    assert sorted(crossdock.ok("tags", f"docker-archive:{archive}").stdout.split()) == [
        f"docker.io/team/app{at}:{at}" for at in range(3)
    ]


def test_an_image_without_a_name_and_one_for_a_chosen_platform(
    crossdock: Crossdock, builder: ImageBuilder, source: DockerRegistry, repository: str, tmp_path: Path
) -> None:
    push(source.remote, repository, builder, sample_index(builder), "v1")
    archive = tmp_path / "image.tar"
    reference = f"{source.host}/{repository}:v1"
    line = crossdock.fail_copy(reference, f"docker-archive:{archive}", code=VERIFICATION, naming=["target"])
    assert "one platform" in line
    assert "--platform" in line
    assert list(tmp_path.glob("*image.tar*")) == []
    crossdock.copy(reference, f"docker-archive:{archive}", "--platform", "linux/amd64")
    assert [each["RepoTags"] for each in manifest_of(archive)] == [None]


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_stdout_carries_the_archive_alone(
    crossdock: Crossdock, layout: tuple[Path, Content], tmp_path: Path, kind: str
) -> None:
    done = subprocess.run(
        [
            *SCRIPT,
            "copy",
            f"oci:{layout[0]}:v1",
            f"{kind}:-:app:1",
            "--output",
            "json",
            "--progress",
            "plain",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == DONE, done.stderr.decode()
    assert layout[1].digest in done.stderr.decode()
    (tmp_path / "image.tar").write_bytes(done.stdout)
    skopeo("copy", f"{kind}:{tmp_path / 'image.tar'}:app:1", f"oci:{tmp_path / 'theirs'}:v1")


def test_a_failed_write_leaves_what_was_there(
    crossdock: Crossdock, layout: tuple[Path, Content], tmp_path: Path
) -> None:
    folder = tmp_path / "archives"
    folder.mkdir()
    archive = folder / "image.tar"
    archive.write_bytes(b"what was there")
    builder = ImageBuilder(tmp_path / "large", seed=9)
    image, layer = one_layer_image(builder, 9_000_000)
    builder.tag(image, "v1")
    crossdock.fail_copy(
        f"oci:{tmp_path / 'large'}:v1",
        f"oci-archive:{archive}:v1",
        prefix=(require("prlimit"), "--fsize=4000000"),
        code=TARGET,
        naming=["target", f"oci-archive:{archive}"],
    )
    assert (archive.read_bytes(), os.listdir(folder)) == (b"what was there", ["image.tar"])
    data = bytearray(builder.read(layer))
    data[5_000_000] ^= 1
    builder.path(layer).write_bytes(data)
    crossdock.fail_copy(f"oci:{tmp_path / 'large'}:v1", f"oci-archive:{archive}:v1", code=VERIFICATION)
    assert (archive.read_bytes(), os.listdir(folder)) == (b"what was there", ["image.tar"])


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_while_it_is_written_leaves_what_was_there(
    crossdock: Crossdock, tmp_path: Path, end: signal.Signals
) -> None:
    folder = tmp_path / "archives"
    folder.mkdir()
    archive = folder / "image.tar"
    archive.write_bytes(b"what was there")
    builder = ImageBuilder(tmp_path / "large", seed=9)
    builder.tag(one_layer_image(builder, 60_000_000)[0], "v1")
    words = ("copy", f"oci:{tmp_path / 'large'}:v1", f"oci-archive:{archive}:v1", "--progress", "none")
    with crossdock.start(*words, "--limit-rate", "4MiB") as running:
        wait_until(
            lambda: any(each.stat().st_size > 1 << 20 for each in temporary_files(folder)), "a temporary file"
        )
        running.interrupt(end)
        running.finish()
    assert archive.read_bytes() == b"what was there"
    assert len(temporary_files(folder)) == (end == signal.SIGKILL)
    crossdock.ok(*words)
    assert temporary_files(folder) == []
    assert crossdock.ok("tags", f"oci-archive:{archive}").stdout.split() == ["v1"]


def has_deleted_file(pid: int) -> bool:
    """Whether the process has a file open that has no name."""
    folder = Path(f"/proc/{pid}/fd")
    targets = []
    for each in folder.iterdir():
        with suppress(OSError):
            targets.append(os.readlink(each))
    return any(target.endswith(" (deleted)") for target in targets)


def test_a_cancelled_copy_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    large = ImageBuilder(tmp_path / "large", seed=9)
    large.tag(one_layer_image(large, 9_000_000)[0], "v1")
    words = [*SCRIPT, "copy", "--progress", "none"]
    waits_for: dict[str, tuple[list[str], dict[str, Any]]] = {
        "stdin": (
            [*words, "oci-archive:-", f"oci:{tmp_path / 'copy'}:v1"],
            {"stdin": reading, "stdout": subprocess.DEVNULL},
        ),
        "stdout": (
            [*words, f"oci:{tmp_path / 'large'}:v1", "oci-archive:-:v1"],
            {"stdin": subprocess.DEVNULL, "stdout": writing},
        ),
        "named pipe": (
            [*words, f"oci-archive:{tmp_path / 'pipe'}", f"oci:{tmp_path / 'copy'}:v1"],
            {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL},
        ),
    }
    os.mkfifo(tmp_path / "pipe")
    for name, (argv, streams) in waits_for.items():
        with subprocess.Popen(argv, stderr=subprocess.PIPE, **streams) as process:
            if name == "stdout":
                wait_until(lambda: select.select([reading], [], [], 0)[0] != [], "the first bytes")
            else:
                wait_until(partial(has_deleted_file, process.pid), f"the file that keeps the {name}")
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == CANCELLED
    os.close(reading)
    os.close(writing)


def test_several_images_come_through_one_pipe(
    crossdock: Crossdock, layout: tuple[Path, Content], tmp_path: Path
) -> None:
    archive = tmp_path / "images.tar"
    lines = [f"oci:{layout[0]}:v1 docker-archive:{archive}:app:{at}\n" for at in range(4)]
    crossdock.ok("copy", "--from-file", "-", stdin="".join(lines))
    (tmp_path / "list").write_text(
        "".join(f"docker-archive:-:app:{at} oci:{tmp_path / 'copy'}:v{at}\n" for at in range(4))
    )
    with subprocess.Popen(["cat", archive], stdout=subprocess.PIPE) as cat:
        done = subprocess.run(
            [*SCRIPT, "copy", "--from-file", tmp_path / "list"],
            stdin=cat.stdout,
            capture_output=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == DONE, done.stderr.decode()
    assert layout_tags(tmp_path / "copy") == [f"v{at}" for at in range(4)]


def test_an_archive_of_docker_is_written_without_a_temporary_copy(
    crossdock: Crossdock, tmp_path: Path
) -> None:
    builder = ImageBuilder(tmp_path / "layout", seed=9)
    shared = [builder.random_layer(6_000_000), builder.random_layer(3_000_000)]
    folder = tmp_path / "archives"
    folder.mkdir()
    archive = folder / "images.tar"
    lines = []
    for at in range(3):
        builder.tag(builder.image([*shared, builder.random_layer(1_500_000 + at)]), f"v{at}")
        lines.append(f"oci:{builder.root}:v{at} docker-archive:{archive}:team/app{at}:{at}\n")
    (tmp_path / "list").write_text("".join(lines))
    argv = [*SCRIPT, "copy", "--from-file", str(tmp_path / "list"), "--progress", "none"]
    missing = {name: str(tmp_path / "missing") for name in ("TMPDIR", "TMP", "TEMP")}
    environment = {**crossdock.environment, **missing}
    with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.read() == b""
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its figures stay until it is reaped
        figures = Path(f"/proc/{process.pid}/io").read_text()
    written = dict(line.split(": ") for line in figures.splitlines())["wchar"]
    assert process.returncode == DONE
    assert os.listdir(folder) == ["images.tar"]
    size = archive.stat().st_size
    assert size < 9_000_000 + 3 * 1_600_000
    assert int(written) < size + 100_000, "every byte is written once, whatever it is written to"


def test_an_archive_of_crane_keeps_its_layers_and_crane_pushes_ours(
    crossdock: Crossdock,
    layout: tuple[Path, Content],
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    tmp_path: Path,
) -> None:
    def crane(*words: str | Path) -> None:
        argv = [find_crane(), *map(str, words), "--insecure"]
        done = subprocess.run(argv, env=crossdock.environment, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr.decode()

    first, second = f"{source.host}/{repository}:v1", f"{target.host}/{repository}"
    crossdock.copy(f"oci:{layout[0]}:v1", first)
    theirs, ours = tmp_path / "theirs.tar", tmp_path / "ours.tar"
    crane("pull", first, theirs)
    crossdock.copy(f"docker-archive:{theirs}", f"{second}:theirs")
    crossdock.copy(first, f"docker-archive:{ours}:app:1")
    crane("push", ours, f"{second}:ours")
    expected = source.remote.manifest(repository, "v1").json()
    for tag in ("theirs", "ours"):
        found = target.remote.manifest(repository, tag).json()
        assert found["config"]["digest"] == expected["config"]["digest"], tag
        digests = [[each["digest"] for each in document["layers"]] for document in (found, expected)]
        assert digests[0] == digests[1], tag
