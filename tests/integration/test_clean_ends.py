"""The end of a run whose outputs cannot be written, and its figures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Fault
from support.command import MODULE, TARGET, USAGE, Crossdock
from support.docker_registry import DockerRegistry
from support.images import one_layer_image, push
from support.process import require

pytestmark = pytest.mark.real

Words = tuple[str, ...]


@pytest.fixture
def names(
    source: DockerRegistry, target: DockerRegistry, repository: str, builder: ImageBuilder
) -> tuple[str, str]:
    """An image in the source, and where it is to go."""
    push(source.remote, repository, builder, one_layer_image(builder, 3_000_000)[0], "v1")
    return f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1"


def a_copy(names: tuple[str, str], folder: Path) -> Words:
    return ("copy", *names)


def a_list(names: tuple[str, str], folder: Path) -> Words:
    (folder / "list").write_text(" ".join(names))
    return ("copy", "--from-file", str(folder / "list"))


def a_mirror(names: tuple[str, str], folder: Path) -> Words:
    source, target = (each.removesuffix(":v1").rpartition("/it/") for each in names)
    return ("mirror", f"{source[0]}/it", f"{target[0]}/it", "--repository", source[2])


every_run = pytest.mark.parametrize("run", [a_copy, a_list, a_mirror])


@every_run
@pytest.mark.parametrize("output", ["text", "json"])
def test_a_report_on_a_full_disk_is_an_error_of_its_own(
    run: Callable[..., Words],
    output: str,
    crossdock: Crossdock,
    target: DockerRegistry,
    repository: str,
    names: tuple[str, str],
    tmp_path: Path,
) -> None:
    words = run(names, tmp_path)
    done = crossdock(*words, "--progress", "none", "--output", output, "--report", "/dev/full")
    assert done.code == TARGET, str(done)
    assert "--report: cannot write '/dev/full': No space left on device" in done.error
    assert "internal error" not in done.error
    assert "everything was copied" in done.error
    if output == "json":
        assert done.result
    else:
        assert "copied" in done.stdout
    assert target.remote.tags(repository) == ["v1"]


@every_run
def test_a_report_in_a_folder_that_is_missing_is_refused_before_anything_moves(
    run: Callable[..., Words],
    crossdock: Crossdock,
    target: DockerRegistry,
    repository: str,
    names: tuple[str, str],
    tmp_path: Path,
) -> None:
    crossdock.fail(
        *run(names, tmp_path),
        "--report",
        tmp_path / "gone" / "r.json",
        code=USAGE,
        naming=["--report", "gone"],
    )
    assert target.remote.tags(repository) == []


@every_run
def test_a_failure_is_the_error_and_its_lost_report_a_warning(
    run: Callable[..., Words],
    crossdock: Crossdock,
    source: DockerRegistry,
    names: tuple[str, str],
    tmp_path: Path,
) -> None:
    missing = names[0].replace(":v1", "-gone:v1"), names[1]
    done = crossdock(*run(missing, tmp_path), "--progress", "none", "--report", "/dev/full")
    assert done.code == 4, str(done)
    assert "warning: --report: cannot write '/dev/full': No space left on device" in done.stderr.splitlines()
    last = [line for line in done.stderr.splitlines() if not line.startswith("  ")][-1]  # advice is indented
    assert last.startswith("crossdock: ")
    assert "/dev/full" not in last


@every_run
def test_a_full_stdout_loses_neither_the_copy_nor_its_report(
    run: Callable[..., Words], crossdock: Crossdock, names: tuple[str, str], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    words = (*MODULE, *run(names, tmp_path), "--progress", "none", "--report", str(report))
    done = crossdock(prefix=("sh", "-c", 'exec "$@" > /dev/full', "sh"), program=words)
    assert done.code == TARGET, str(done)
    assert "cannot write to stdout: No space left on device" in done.stderr
    assert "internal error" not in done.stderr
    assert json.loads(report.read_text())["error"] is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root may remount; tests/unit/cli has the rest")
@every_run
def test_no_temporary_folder_is_needed(
    run: Callable[..., Words], crossdock: Crossdock, names: tuple[str, str], tmp_path: Path
) -> None:
    words = (*MODULE, *run(names, tmp_path), "--output", "json")
    readonly = 'mount --bind / / && mount -o remount,ro,bind / && cd / && exec "$@"'
    done = crossdock(prefix=(require("unshare"), "-m", "sh", "-c", readonly, "sh"), program=words)
    assert done.code == 0, str(done)
    assert done.result


@pytest.mark.parametrize("status", [500, 502, 503])
def test_repetitions_of_a_commit_are_counted(
    status: int,
    crossdock: Crossdock,
    target_faults: FaultProxy,
    target: DockerRegistry,
    names: tuple[str, str],
) -> None:
    target_faults.add(
        Fault(lambda r: r.method == "PUT" and "/blobs/uploads/" in r.path, answer=Answer(status))
    )
    through = names[1].replace(target.host, target_faults.host)
    result = crossdock.copy(names[0], through, "--resume-above", "1MiB", "--upload-chunk", "1MiB")
    assert result["retries"] >= 1
    assert crossdock.copy(names[0], through)["retries"] == 0


def test_a_repetition_of_the_manifests_put_is_counted(
    crossdock: Crossdock, target_faults: FaultProxy, target: DockerRegistry, names: tuple[str, str]
) -> None:
    target_faults.add(Fault(lambda r: r.method == "PUT" and "/manifests/" in r.path, answer=Answer(503)))
    result = crossdock.copy(names[0], names[1].replace(target.host, target_faults.host))
    assert result["retries"] == 1
