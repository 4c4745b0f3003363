"""``crossdock report merge``: which reports are parts of one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crossdock.cli.command import run


def apply(path: Path, shard: str | None, name: str = "team", **more: Any) -> Path:
    """A report of apply with one entry."""
    entry = {"name": name, "source": "old.example", "target": "new.example", "tags": 2, "problems": []}
    of_shard = {"shard": shard} if shard else {}
    document = {
        "run": f"r{shard}",
        "entries": [{**entry, **of_shard}],
        "totals": {"tags": 2, "copied": 2, "requests": 10, "seconds": 0.1},
        **of_shard,
        "file": "/work/m.yaml",
        "file_digest": "ab" * 32,
        "version": "1",
        "error": None,
        "copies": [{"source": f"old.example/a{shard}:1", "target": "new.example/a:1", "tag": "new"}],
        "not_copied": [],
        **more,
    }
    path.write_text(json.dumps(document))
    return path


def mirror(path: Path, shard: str | None, **more: Any) -> Path:
    """A report of mirror with one copy."""
    document = {
        "copies": [{"source": f"old.example/a{shard}:1", "target": "new.example/a:1", "status": "copied"}],
        "not_copied": [],
        "totals": {"repositories": 1, "tags": 1, "copied": 1},
        "seconds": 1.5,
        "warnings": [f"odd {shard}"],
        "source": "old.example",
        "targets": ["new.example"],
        **({"shard": shard} if shard else {}),
        "error": None,
        **more,
    }
    path.write_text(json.dumps(document))
    return path


def merge(out: Path, *paths: Path) -> int:
    return run(["report", "merge", str(out), *map(str, paths)])


def test_totals_are_sums_and_each_shard_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failure = {"class": "auth", "message": "denied"}
    parts = [
        apply(tmp_path / "0.json", "0/2"),
        apply(tmp_path / "1.json", "1/2", error=failure, not_copied=["a b"]),
    ]
    out = tmp_path / "out.json"
    assert merge(out, *parts) == 0
    found = json.loads(out.read_text())
    assert found["totals"] == {"tags": 4, "copied": 4, "requests": 20, "seconds": 0.2}
    assert [each["shard"] for each in found["entries"]] == ["0/2", "1/2"]
    assert found["shards"] == [
        {"shard": "0/2", "run": "r0/2", "report": str(parts[0]), "error": None},
        {"shard": "1/2", "run": "r1/2", "report": str(parts[1]), "error": failure},
    ]
    assert (found["error"], found["not_copied"], found["file"]) == (failure, ["a b"], "/work/m.yaml")
    captured = capsys.readouterr()
    assert "joined 2 reports: 4 tags, 4 copied" in captured.out
    assert captured.err == ""


def test_reports_of_mirrors(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert merge(out, *(mirror(tmp_path / f"{index}.json", f"{index}/3") for index in range(3))) == 0
    found = json.loads(out.read_text())
    assert [each["source"] for each in found["copies"]] == [f"old.example/a{index}/3:1" for index in range(3)]
    assert found["totals"] == {"repositories": 3, "tags": 3, "copied": 3}
    assert (found["seconds"], found["warnings"]) == (4.5, ["odd 0/3", "odd 1/3", "odd 2/3"])
    assert (found["source"], found["targets"]) == ("old.example", ["new.example"])


@pytest.mark.parametrize("make", [apply, mirror])
def test_a_merged_report_can_be_merged_again(make: Any, tmp_path: Path) -> None:
    parts = [make(tmp_path / f"{index}.json", f"{index}/3") for index in range(3)]
    half, whole, again = tmp_path / "half.json", tmp_path / "whole.json", tmp_path / "again.json"
    assert merge(half, *parts[:2]) == 0
    assert merge(again, half, parts[2]) == 0
    assert merge(whole, *parts) == 0
    assert json.loads(again.read_text()) == json.loads(whole.read_text())
    assert merge(tmp_path / "twice.json", half, parts[1]) == 2


def test_a_missing_shard_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert merge(tmp_path / "out.json", apply(tmp_path / "1.json", "1/3")) == 0
    said = capsys.readouterr().err
    assert "no report of shard 0/3" in said
    assert "no report of shard 2/3" in said


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ((apply, "0/2"), (apply, "0/2"), ["both have entry", "team", "shard 0/2"]),
        ((apply, None), (apply, None), ["both have entry", "team"]),
        ((mirror, "0/2"), (mirror, "0/2"), ["both have", "old.example", "shard 0/2"]),
        ((mirror, None), (mirror, None), ["both have", "old.example"]),
        ((apply, "0/2"), (mirror, "1/2"), ["the run of /work/m.yaml", "the mirror of old.example"]),
        ((apply, "0/2"), (apply, "1/3"), ["2 shards", "3"]),
        ((apply, None), (apply, "1/3"), ["1 shard", "3"]),
    ],
)
def test_reports_that_do_not_belong_together_are_refused(
    first: tuple[Any, str | None],
    second: tuple[Any, str | None],
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = [make(tmp_path / f"{number}.json", shard) for number, (make, shard) in enumerate((first, second))]
    assert merge(tmp_path / "out.json", *paths) == 2
    said = " ".join(capsys.readouterr().err.split())
    for word in (*words, *map(str, paths)):
        assert word in said
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("make", "more"),
    [
        (apply, {"file": "/work/other.yaml", "file_digest": "cd" * 32}),
        (mirror, {"source": "other.example"}),
        (mirror, {"targets": ["other.example"]}),
    ],
)
def test_reports_of_different_files_and_mirrors(make: Any, more: dict[str, Any], tmp_path: Path) -> None:
    paths = make(tmp_path / "0.json", "0/2"), make(tmp_path / "1.json", "1/2", **more)
    assert merge(tmp_path / "out.json", *paths) == 2


def test_one_file_may_have_other_paths_on_other_machines(tmp_path: Path) -> None:
    paths = apply(tmp_path / "0.json", "0/2"), apply(tmp_path / "1.json", "1/2", file="/mnt/m.yaml")
    assert merge(tmp_path / "out.json", *paths) == 0


@pytest.mark.parametrize(
    "text", ["", "[]", '{"totals": {}}', '{"copies": [], "totals": {}, "seconds": 1}', "\xff"]
)
def test_files_that_are_no_report(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.json"
    path.write_text(text, "latin-1")
    assert merge(tmp_path / "out.json", path) == 2
    said = capsys.readouterr().err
    assert "is not a report" in said
    assert "--report FILE" in said


def test_bytes_being_read_are_not_overwritten(tmp_path: Path) -> None:
    path = apply(tmp_path / "0.json", None)
    before = path.read_bytes()
    assert merge(path, path) == 2
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert merge(tmp_path / "none" / "out.json", apply(tmp_path / "0.json", None)) != 0
    assert "cannot write" in capsys.readouterr().err
