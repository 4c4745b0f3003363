"""``crossdock state``: its output about a journal, which contains no secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crossdock.cli.command import run
from crossdock.kept.database import FILE
from crossdock.kept.uploads import UploadKey
from unit.kept.rows import CHUNK, KEY, SECRET, SIZE, SOURCE, a_journal, claim, write_chunks

OTHER = UploadKey("other.example", "team/b", "sha256:" + "cd" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A journal of two uploads, the newer one half-way, and a finished blob."""
    folder = tmp_path / "state"
    for key, last, at in ((OTHER, 1, 1000.0), (KEY, 50, 2000.0)):
        with a_journal(folder, clock=lambda at=at: at) as journal, claim(journal, key) as record:
            write_chunks(record, 1, last)
    with a_journal(folder, clock=lambda: 3000.0) as journal:
        claim(journal).close()
        journal.finished("manifest", KEY.target, OTHER.digest, 77)
    return folder


def state(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert run(["state", *words]) == code
    captured = capsys.readouterr()
    assert SECRET not in captured.out + captured.err
    return captured.out if code == 0 else captured.err


def document(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(state(capsys, *words, "--output", "json"))
    return found


def test_the_list_names_target_blob_offset_and_age(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = state(capsys, "list", "--state", str(folder)).splitlines()
    assert [line.split()[0] for line in lines] == [f"{key.target}@{key.digest}" for key in (KEY, OTHER)]
    assert "4.9 KiB of 9.8 KiB" in lines[0]
    assert lines[0].endswith(" ago")


def test_the_list_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "list", "--state", str(folder))
    assert found["journal"] == str(folder / FILE)
    first = found["uploads"][0]
    assert first.pop("age") > 0
    assert first == {
        "target": KEY.target,
        "digest": KEY.digest,
        "size": SIZE,
        "offset": 50 * CHUNK,
        "in_use": False,
    }


def test_a_running_copy_is_seen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with a_journal(folder, clock=lambda: 3000.0) as journal, claim(journal, OTHER):
        uploads = document(capsys, "list", "--state", str(folder))["uploads"]
        assert [upload["in_use"] for upload in uploads] == [False, True]
        assert state(capsys, "list", "--state", str(folder)).splitlines()[1].endswith("in use")


def test_show_tells_all_but_the_permission(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "show", "--state", str(folder))
    first = found["uploads"][0]
    assert first["location"] == "https://registry.example:5000/v2/team/app/blobs/uploads/9a7c0f3e…"
    assert first["source"] == SOURCE
    assert first["chunk_size"] == CHUNK
    assert first["saved_states"] == [number * CHUNK for number in range(43, 51)]
    assert (first["created"], first["updated"]) == ("1970-01-01T00:33:20Z", "1970-01-01T00:33:20Z")
    assert first["pid"] == os.getpid()
    (done,) = found["finished"]
    run_name = done.pop("run")
    assert len(run_name) == 16
    assert done == {
        "kind": "manifest",
        "target": KEY.target,
        "digest": OTHER.digest,
        "size": 77,
        "at": "1970-01-01T00:50:00Z",
    }
    text = state(capsys, "show", "--state", str(folder))
    assert "  location     https://registry.example:5000/v2/team/app/blobs/uploads/9a7c0f3e…" in text
    assert f"1970-01-01T00:50:00Z  manifest  {KEY.target}@{OTHER.digest}  77 B" in text


@pytest.mark.parametrize("named", ["sha256:ab", "abab", KEY.digest])
def test_show_takes_the_first_digits_of_a_digest(
    folder: Path, capsys: pytest.CaptureFixture[str], named: str
) -> None:
    found = document(capsys, "show", named, "--state", str(folder))
    assert [upload["digest"] for upload in found["uploads"]] == [KEY.digest]
    assert found["finished"] == []


def test_show_of_an_unknown_blob_is_not_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no entry of ffff" in state(capsys, "show", "ffff", "--state", str(folder), code=4)


def test_prune_forgets_what_is_old_and_not_in_use(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert state(capsys, "prune", "--older-than", "99999d", "--state", str(folder)).startswith(
        "forgot 0 uplo"
    )
    with a_journal(folder, clock=lambda: 3000.0) as journal, claim(journal, OTHER):
        found = document(capsys, "prune", "--state", str(folder))
    assert found == {"journal": str(folder / FILE), "uploads": 1, "finished": 1, "spooled": 0, "in_use": 1}
    text = state(capsys, "prune", "--all", "--state", str(folder))
    assert text == "forgot 1 upload and 0 finished items\n"
    assert state(capsys, "list", "--state", str(folder)) == ""


def test_a_young_upload_stays_unless_all_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with a_journal(tmp_path) as journal, claim(journal) as record:
        write_chunks(record, 1, 1)
    assert document(capsys, "prune", "--state", str(tmp_path))["uploads"] == 0
    assert document(capsys, "prune", "--state", str(tmp_path), "--all")["uploads"] == 1


@pytest.mark.parametrize("action", ["list", "show", "prune"])
def test_no_journal_is_an_empty_one_and_none_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    assert document(capsys, action, "--state", str(tmp_path / "none"))["journal"] is None
    state(capsys, action, "--state", str(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []


def test_the_default_folder_is_in_xdg_state_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with a_journal(tmp_path / "crossdock") as journal, claim(journal) as record:
        write_chunks(record, 1, 1)
    assert len(document(capsys, "list")["uploads"]) == 1


@pytest.mark.parametrize("action", ["list", "show", "prune"])
def test_a_damaged_journal_is_named_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    (tmp_path / FILE).write_bytes(b"garbage" * 1000)
    line = state(capsys, action, "--state", str(tmp_path), code=2)
    assert str(tmp_path / FILE) in line
    assert "rm -f" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: ACTION"),
        (["s3cr3t"], "no such action\n  the actions are list, show, prune; see crossdock state --help"),
        (["prune", "--older-than", "soon"], "is not a duration"),
        (["prune", "--older-than", "1d", "--all"], "not allowed with"),
        (["list", "sha256:ab"], "too many"),
    ],
)
def test_mistakes_are_explained(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in state(capsys, *words, code=2)


def test_it_loads_no_network_code(folder: Path) -> None:
    program = (
        "import sys\nfrom crossdock.cli.main import main\nmain(sys.argv[1:])\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "state", "list", "--state", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert KEY.target in done.stdout
    loaded = set(done.stderr.split())
    assert loaded & {"aiohttp", "asyncio", "ssl", "uvloop", "crossdock.api", "crossdock.transport"} == set()
