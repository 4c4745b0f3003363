"""``crossdock copy --from-file`` between layouts: streams, report and exit code."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from crossdock import CopyResult
from crossdock.cli.command import run
from crossdock.imagebuilder import ImageBuilder
from crossdock.runs import runner
from crossdock.runs.one import CopySpec

NONE = ("--progress", "none")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a layout ``source`` that has the tags ``v1`` and ``v2``."""
    monkeypatch.chdir(tmp_path)
    builder = ImageBuilder(tmp_path / "source", seed=5)
    for tag in ("v1", "v2"):
        builder.tag(builder.image([builder.random_layer(3000)]), tag)
    return tmp_path


def write_list(*lines: str) -> None:
    Path("list").write_text("\n".join(lines))


def test_every_copy_has_a_line_when_it_ends_and_the_run_one(capsys: pytest.CaptureFixture[str]) -> None:
    write_list("oci:source:v1 oci:t:a", "oci:source:v2 oci:t:b", "oci:source:v1 oci:t:a")
    assert run(["copy", "--from-file", "list"]) == 0
    out, err = capsys.readouterr()
    *lines, last = out.splitlines()
    assert err == ""
    assert [line.partition(" sha256:")[0] for line in sorted(lines)] == [
        "copied oci:source:v1 -> oci:t:a  new ",
        "copied oci:source:v2 -> oci:t:b  new ",
    ]
    assert re.fullmatch(r"copied 2 of 2  6\.\d KiB in .*", last)
    assert run(["copy", "--from-file", "list"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.partition("  sha256:")[0] for line in sorted(lines)] == [
        "unchanged oci:source:v1 -> oci:t:a",
        "unchanged oci:source:v2 -> oci:t:b",
    ]
    assert last.startswith("copied 0 of 2, 2 unchanged  0 B in ")


def test_a_failure_has_its_line_and_leaves_the_rest_alone(capsys: pytest.CaptureFixture[str]) -> None:
    write_list("oci:source:v1 oci:t:a", "oci:source:none oci:t:b", "oci:source:v2 oci:t:c")
    assert run(["copy", "--from-file", "list", *NONE]) == 4
    out, err = capsys.readouterr()
    *lines, last = [line.partition("  ")[0] for line in out.splitlines()]
    assert sorted(lines) == ["copied oci:source:v1 -> oci:t:a", "copied oci:source:v2 -> oci:t:c"]
    assert last == "copied 2 of 3, 1 failed"
    failure, last = err.splitlines()
    assert failure.startswith("crossdock: oci:source:none -> oci:t:b: resolve source oci:source:none: no tag")
    assert failure.endswith("; its tags are v1, v2")
    assert last == "crossdock: 1 of 3 copies failed"


def test_failures_of_different_kinds_have_a_code_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    write_list("oci:source:none oci:t:a", "oci:missing:x oci:t:b")
    assert run(["copy", "--from-file", "list", *NONE]) == 9
    assert "copied 0 of 2" in capsys.readouterr().out


def test_json_and_report_hold_every_pair_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    write_list("oci:source:v1 oci:t:a", "oci:source:none oci:t:b")
    assert run(["copy", "--from-file", "list", "--output", "json", "--report", "report", *NONE]) == 4
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"copies", "not_copied", "totals", "seconds"}
    done, failed = document["copies"]
    assert (done["status"], done["error"], done["blobs_moved"]) == ("copied", None, 2)
    assert (failed["source"], failed["target"]) == ("oci:source:none", "oci:t:b")
    assert (failed["status"], failed["error"]["exit_code"]) == ("failed", 4)
    assert document["not_copied"] == ["oci:source:none oci:t:b"]
    totals = document["totals"]
    assert [totals[name] for name in ("copies", "copied", "failed", "cancelled", "not_begun")] == [
        2,
        1,
        1,
        0,
        0,
    ]
    assert totals["bytes_moved"] == done["bytes_moved"]
    report: dict[str, Any] = json.loads(Path("report").read_text())
    assert report["error"]["message"].startswith("1 of 2 copies failed")
    assert report["kernels"] in ("compiled", "pure")
    assert [len(each.pop("blobs")) for each in report["copies"]] == [2, 0]
    assert report["copies"] == document["copies"]


def test_copies_that_failed_are_a_list_to_copy(capsys: pytest.CaptureFixture[str]) -> None:
    write_list("oci:source:none oci:t:a", "oci:source:v1 oci:t:b")
    words = ["copy", "--from-file", "list", "--output", "json", "--fail-fast", *NONE]
    assert run(words) == 4
    left = json.loads(capsys.readouterr().out)["not_copied"]
    write_list(*left)
    assert run(words) == 4
    assert len(json.loads(capsys.readouterr().out)["copies"]) == len(left)


def test_an_empty_list_is_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    write_list("# nothing today")
    assert run(["copy", "--from-file", "list", "--output", "json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["copies"] == []
    assert err == "crossdock: nothing to copy: list names no pair\n"


def test_a_wrong_line_is_found_before_anything_is_copied(capsys: pytest.CaptureFixture[str]) -> None:
    write_list("oci:source:v1 oci:t:a", "oci:source:v1")
    Path("report").write_text("of before")
    assert run(["copy", "--from-file", "list", "--report", "report"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(
        "crossdock: list:2: a line is SOURCE TARGET, this one has 1 word\n  see crossdock copy"
    )
    assert Path("report").read_text() == "of before"
    assert not Path("t").exists()


def test_the_list_may_come_from_stdin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"oci:source:v1 oci:t:a\n")))
    assert run(["copy", "--from-file", "-", *NONE]) == 0
    assert "copied 1 of 1" in capsys.readouterr().out


def test_credentials_on_stdin_go_with_a_list_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write_list("oci:source:v1 oci:t:a")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a:1\nb:2\n")))
    assert run(["copy", "--from-file", "list", "--src-creds-stdin", "--dest-creds-stdin", *NONE]) == 0


def test_ctrl_c_ends_the_run_and_everything_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, done = runner.copy_one, asyncio.Semaphore(0)

    async def interrupted(request: CopySpec, *rest: Any) -> CopyResult:
        if str(request.target) == "oci:t:b":
            await done.acquire()
            await done.acquire()
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        result = await whole(request, *rest)
        done.release()
        return result

    monkeypatch.setattr(runner, "copy_one", interrupted)
    write_list(*(f"oci:source:v1 oci:t:{letter}" for letter in "abc"))
    assert run(["copy", "--from-file", "list", "--report", "report", *NONE]) == 130
    out, err = capsys.readouterr()
    assert err == "crossdock: cancelled when 2 of 3 copies were done\n"
    assert out.splitlines()[-1].startswith("copied 2 of 3")
    report = json.loads(Path("report").read_text())
    assert [each["status"] for each in report["copies"]] == ["copied", "cancelled", "copied"]
    assert report["error"]["exit_code"] == 130
    assert report["not_copied"] == ["oci:source:v1 oci:t:b"]


def test_a_traceback_is_for_debug_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: object) -> CopyResult:
        raise RuntimeError("odd")

    monkeypatch.setattr(runner, "copy_one", broken)
    write_list("oci:source:v1 oci:t:a")
    assert run(["copy", "--from-file", "list", *NONE]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert run(["copy", "--from-file", "list", *NONE, "--debug"]) == 1
    assert "in broken" in capsys.readouterr().err
