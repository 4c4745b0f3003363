"""``crossdock runs``: its output about the runs in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crossdock.cli.command import run
from crossdock.errors import Denied
from crossdock.migration.runfile import Item, kind_and_reason
from crossdock.migration.state import open_state

PAIRS = [("team", "old.example/team", "new.example/team")]
DIGEST = "sha256:" + "ab" * 32
CONTENT = "sha256:" + "cd" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that is done, and a newer one in which a tag failed."""
    for number, content in enumerate((CONTENT, "sha256:" + "ef" * 32)):
        with open_state(tmp_path, f"/m{number}.yaml", content, PAIRS) as state:
            state.note(Item(0, "app", "1", DIGEST, "copied"))
            state.totals[0] |= {"copied": 1, "images": 1, "bytes_moved": 5 << 20}
            if number:
                state.note(Item(0, "app", "2", DIGEST, "failed", *kind_and_reason(Denied("push is denied"))))
                state.totals[0]["failed"] = 1
            state.count_requests(lambda: 17)
            state.end("failed" if number else "done")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert run(["runs", *words]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def document(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(capsys, *words, "--output", "json"))
    return found


def test_the_list_has_a_line_for_each_run_newest_first(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = said(capsys, "list", "--state", str(folder)).splitlines()
    assert "failed" in first
    assert "/m1.yaml" in first
    assert "2 tags, 1 copied, 1 failed, 5.0 MiB moved" in first
    assert "done" in second
    assert "/m0.yaml" in second


def test_the_list_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest, oldest = document(capsys, "list", "--state", str(folder))["runs"]
    assert list(newest) == ["run", "file", "started", "ended", "status", "totals"]
    assert (newest["file"], newest["status"], oldest["status"]) == ("/m1.yaml", "failed", "done")
    seconds = newest["totals"].pop("seconds")
    assert seconds >= 0
    assert newest["totals"] == {
        "tags": 2,
        "images": 1,
        "unchanged": 0,
        "copied": 1,
        "failed": 1,
        "deleted": 0,
        "bytes_moved": 5 << 20,
        "bytes_mounted": 0,
        "bytes_skipped": 0,
        "requests": 17,
    }


def test_a_run_is_shown_with_what_failed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = document(capsys, "list", "--state", str(folder))["runs"][0]["run"]
    shown = document(capsys, "show", newest[:6], "--state", str(folder))
    assert shown["run"] == newest
    assert [each["copied"] for each in shown["entries"]] == [1]
    assert shown["not_copied"] == [
        {
            "source": "old.example/team/app:2",
            "target": "new.example/team",
            "digest": DIGEST,
            "outcome": "failed",
            "kind": "Denied",
            "reason": "push is denied",
        }
    ]
    text = said(capsys, "show", newest, "--state", str(folder))
    assert "old.example/team/app:2 -> new.example/team  Denied: push is denied" in text


def test_a_run_is_forgotten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = document(capsys, "list", "--state", str(folder))["runs"][0]["run"]
    assert newest in said(capsys, "forget", newest, "--state", str(folder))
    left = document(capsys, "list", "--state", str(folder))["runs"]
    assert newest not in [each["run"] for each in left]
    assert len(left) == 1


def test_a_run_under_way_is_not_forgotten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_state(folder, "/m0.yaml", CONTENT, PAIRS) as state:
        text = said(capsys, "forget", state.id, "--state", str(folder), code=2)
        assert "another process" in text
        assert document(capsys, "list", "--state", str(folder))["runs"][0]["status"] == "running"


@pytest.mark.parametrize("action", ["show", "forget"])
def test_an_unknown_run(action: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no run zzz" in said(capsys, action, "zzz", "--state", str(folder), code=4)


def test_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "list", "--state", str(tmp_path)) == ""
    assert document(capsys, "list", "--state", str(tmp_path)) == {"runs": []}
    assert list(tmp_path.iterdir()) == []
