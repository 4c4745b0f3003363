"""The pages and metrics that plan and apply write."""

from __future__ import annotations

import json
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


def test_a_full_disk_does_not_turn_a_good_run_into_a_failure(crossdock: Crossdock, file: Path) -> None:
    done = crossdock("apply", str(file), "--html", "/dev/full", *QUIET)
    assert done.code in (0, TARGET)
    assert "--html: cannot write '/dev/full': No space left on device" in done.stderr
    assert "2 copied" in done.stdout
