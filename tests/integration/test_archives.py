"""Archives on disk, between the command and skopeo."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from support.command import DONE, SCRIPT, VERIFICATION, Crossdock
from support.docker_registry import DockerRegistry
from support.push import sha256
from support.skopeo import skopeo

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
