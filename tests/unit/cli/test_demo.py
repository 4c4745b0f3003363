"""``crossdock demo`` and ``crossdock registry`` as processes, which leave nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossdock.cli.commands.demo import ChildRegistry, build_image
from crossdock.errors import CrossdockError
from crossdock.imagebuilder import ImageBuilder
from support.command import error_of

COMMAND = [sys.executable, "-m", "crossdock"]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*COMMAND, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            return True
    except OSError:
        return False


@pytest.mark.slow
def test_the_demo_copies_compares_and_copies_again_and_removes_its_files(tmp_path: Path) -> None:
    process = start(tmp_path, "demo", "--size", "1MiB")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert re.findall(r"^   (copied|unchanged) ", out, re.MULTILINE) == ["copied", "copied", "unchanged"]
    assert "5 manifests are equal byte for byte" in out
    assert list(tmp_path.iterdir()) == []
    addresses = re.findall(r"127\.0\.0\.1:\d+", out)
    assert not any(accepts(address) for address in set(addresses[:2]))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_takes_its_registries_and_files_along(
    tmp_path: Path, number: signal.Signals
) -> None:
    # So large that it is not done before a busy machine has delivered the signal.
    process = start(tmp_path, "demo", "--size", "512MiB")
    assert process.stdout is not None
    addresses = re.findall(r"127\.0\.0\.1:\d+", process.stdout.readline())
    assert len(addresses) == 2
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "crossdock: cancelled\n"
    assert not any(accepts(address) for address in addresses)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_reported_before_anything_is_made(tmp_path: Path) -> None:
    process = start(tmp_path, "demo", "--size", "100000TiB")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    assert "TMPDIR" in err
    assert error_of(err)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def child(tmp_path: Path) -> Iterator[ChildRegistry]:
    child = ChildRegistry(tmp_path / "root", tmp_path / "log")
    yield child
    child.stop()


def test_a_child_registry_serves_on_a_free_port_until_it_is_stopped(child: ChildRegistry) -> None:
    assert accepts(child.address)
    child.stop()
    assert not accepts(child.address)


def test_a_child_registry_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file, not a folder")
    with pytest.raises(CrossdockError, match="did not start: crossdock: cannot serve"):
        ChildRegistry(tmp_path / "root", tmp_path / "log")


def test_an_address_in_use_is_a_usage_error(child: ChildRegistry, tmp_path: Path) -> None:
    process = start(tmp_path, "registry", "--root", str(tmp_path / "other"), "--listen", child.address)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert f"cannot listen on {child.address}" in err
    assert error_of(err)


def test_the_registry_ends_well_when_told_to_stop(tmp_path: Path) -> None:
    process = start(tmp_path, "registry", "--root", str(tmp_path / "root"), "--listen", "127.0.0.1:0")
    assert process.stdout is not None
    assert re.fullmatch(r"serving .* at http://127\.0\.0\.1:\d+\n", process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


@pytest.mark.slow
def test_the_demo_image_is_filled_up_where_the_machine_has_too_few_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    (few / "file").write_bytes(b"x" * 1000)
    monkeypatch.setattr("crossdock.cli.commands.demo.APPLICATION_FOLDERS", (few,))
    monkeypatch.setattr("crossdock.cli.commands.demo.DATA_FOLDERS", (few,))
    image = build_image(ImageBuilder(tmp_path / "layout"), 1 << 20)
    assert image.generated > 0
    assert image.largest.size >= 1 << 20
