"""Facts about registries on disk: a week long, and never in the way."""

from __future__ import annotations

import json
from pathlib import Path

from crossdock.kept.hosts import KEPT_S, HostFacts

HOST = "registry.example:5000"


class Now:
    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def __call__(self) -> float:
        return self.at


def test_the_next_process_knows_for_a_week(tmp_path: Path) -> None:
    now = Now()
    first = HostFacts(tmp_path, clock=now)
    first.learned(HOST, "max_put", 4096)
    first.write(HOST)
    now.at += KEPT_S / 2
    second = HostFacts(tmp_path, clock=now)
    second.learned(HOST, "ranges", "wrong")
    second.write(HOST)
    assert HostFacts(tmp_path, clock=now).read(HOST) == {"max_put": 4096, "ranges": "wrong"}
    now.at += KEPT_S / 2 + 1
    third = HostFacts(tmp_path, clock=now)
    assert (third.hosts(), third.read(HOST)) == ([HOST], {"ranges": "wrong"})
    now.at += KEPT_S
    fourth = HostFacts(tmp_path, clock=now)
    assert (fourth.hosts(), fourth.read(HOST)) == ([], {})


def test_processes_that_write_at_once_keep_each_others_facts(tmp_path: Path) -> None:
    one, other = HostFacts(tmp_path), HostFacts(tmp_path)
    assert one.read(HOST) == other.read(HOST) == {}
    one.learned(HOST, "chunks", False)
    one.write(HOST)
    other.learned(HOST, "chunk", 4096)
    other.write(HOST)
    assert HostFacts(tmp_path).read(HOST) == {"chunks": False, "chunk": 4096}


def test_a_file_that_cannot_be_used_is_as_none(tmp_path: Path) -> None:
    facts = HostFacts(tmp_path)
    facts.learned(HOST, "chunk", 4096)
    facts.write(HOST)
    [path] = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    for text in ("", "{", "[]", json.dumps({"host": HOST, "facts": {"chunk": 1}}), "x" * 100_000):
        path.write_text(text)
        assert HostFacts(tmp_path).read(HOST) == {}
    assert facts.forget(HOST)
    assert not facts.forget(HOST)


def test_a_folder_that_cannot_be_written_disturbs_nobody(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    facts = HostFacts(tmp_path / "state")
    facts.learned(HOST, "chunk", 4096)
    facts.write(HOST)
    assert facts.read(HOST) == {"chunk": 4096}
    assert facts.hosts() == []
