"""The pages and metrics that plan and apply write."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder
from support.command import TARGET, USAGE, Crossdock
from support.docker_registry import DockerRegistry
from support.images import one_layer_image, push

pytestmark = pytest.mark.real

QUIET = ("--progress", "none")


@pytest.fixture
def file(
    source: DockerRegistry, target: DockerRegistry, repository: str, builder: ImageBuilder, tmp_path: Path
) -> Path:
    """A migration file of one repository with two tags."""
    for tag in ("v1", "v2"):
        push(source.remote, f"{repository}/app", builder, one_layer_image(builder, 5000)[0], tag)
    entry = {
        "source": f"{source.host}/{repository}",
        "targets": [f"{target.host}/pages/{repository}"],
        "repositories": {"include": ["app"]},
    }
    path = tmp_path / "m.yaml"
    path.write_text(json.dumps({"version": 1, "mirrors": [entry]}))
    return path


def test_pages_and_metrics_are_written(crossdock: Crossdock, file: Path, tmp_path: Path) -> None:
    page, metrics = tmp_path / "page.html", tmp_path / "run.prom"
    crossdock.ok("plan", str(file), "--html", str(page))
    assert "crossdock plan m.yaml" in page.read_text()
    done = crossdock.ok(
        "apply", str(file), "--html", str(page), "--metrics", str(metrics), "--output", "json", *QUIET
    ).result
    text = page.read_text()
    assert f"run {done['run']}," in text
    assert ", done<" in text
    assert text.count("<svg") == 2, "bytes over time, and per repository"
    lines = metrics.read_text().splitlines()
    label = f'{{file="{file}",run="{done["run"]}"}}'
    assert f"crossdock_run_images_done_total{label} 2" in lines
    assert f"crossdock_run_ended{label} 1" in lines
    moved = done["totals"]["bytes_moved"]
    assert f"crossdock_run_bytes_done_total{label} {moved}" in lines
    assert sorted(each.name for each in tmp_path.glob("*.prom*")) == ["run.prom"]


def test_a_page_of_a_run_that_failed_says_why(
    crossdock: Crossdock, file: Path, source: DockerRegistry, repository: str, tmp_path: Path
) -> None:
    digest = source.remote.manifest(f"{repository}/app", "v1").headers["docker-content-digest"]
    source.blob_file(digest).write_bytes(b"spoilt")
    page = tmp_path / "page.html"
    assert crossdock("apply", str(file), "--html", str(page), *QUIET).code != 0
    text = page.read_text()
    assert ", failed<" in text
    assert "Failures by class" in text
    assert f"{repository}/app:v1 " in text


@pytest.mark.parametrize(
    ("command", "flag"), [("plan", "--html"), ("apply", "--html"), ("apply", "--metrics")]
)
def test_a_file_that_cannot_be_written_is_told_before_anything_is_sent(
    crossdock: Crossdock, file: Path, source: DockerRegistry, tmp_path: Path, command: str, flag: str
) -> None:
    begin = source.mark()
    said = crossdock.fail(
        command, str(file), flag, str(tmp_path / "none" / "file"), code=USAGE, naming=[flag]
    )
    assert "No such file or directory" in said
    assert source.accesses(begin) == []


def test_a_full_disk_is_told_after_the_result(crossdock: Crossdock, file: Path) -> None:
    done = crossdock("apply", str(file), "--html", "/dev/full", *QUIET)
    assert done.code == TARGET
    assert "--html: cannot write '/dev/full': No space left on device" in done.stderr
    assert "2 copied" in done.stdout


def test_a_file_that_is_not_regular_is_written_in_place(
    crossdock: Crossdock, file: Path, tmp_path: Path
) -> None:
    pipe, link, there = tmp_path / "pipe", tmp_path / "link", tmp_path / "there"
    os.mkfifo(pipe)
    there.write_text("before")
    there.chmod(0o600)
    link.symlink_to(there)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        crossdock.ok("plan", str(file), "--out", str(pipe))
        said, _ = reader.communicate(timeout=30)
    assert json.loads(said)["version"] == 1
    crossdock.ok("plan", str(file), "--out", str(link))
    assert json.loads(there.read_text())["version"] == 1
    assert (link.is_symlink(), there.stat().st_mode & 0o777) == (True, 0o600)
    assert "No space left" in crossdock.fail("plan", str(file), "--out", "/dev/full", code=TARGET)
    assert "No space left" in crossdock.fail("apply", str(file), "--metrics", "/dev/full", code=USAGE)
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "m.yaml", "--out", "m.yaml"),
        ("plan", "m.yaml", "--html", "link.yaml"),
        ("apply", "m.yaml", "--report", "m.yaml"),
        ("apply", "m.yaml", "--html", "page", "--report", "page"),
        ("apply", "m.yaml", "--metrics", "m.yaml"),
        ("copy", "--from-file", "m.yaml", "--report", "m.yaml"),
    ],
)
def test_no_result_is_written_over_what_is_read(
    crossdock: Crossdock, file: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "link.yaml").symlink_to(file)
    before = file.read_text()
    done = crossdock(*words, cwd=tmp_path)
    assert done.code == USAGE, str(done)
    assert file.read_text() == before
