"""The line for a result: whole where there is room for it, and never longer than a terminal."""

from __future__ import annotations

import io

import pytest

from crossdock.cli.resultline import result_line, result_width, shortened_name
from crossdock.events import CopyDone, TagOutcome

OLD, NEW = "sha256:" + "0a" * 32, "sha256:" + "1b" * 32
MiB = 1 << 20


def done(tag: TagOutcome | None, previous: str | None = None, *, changed: bool = True) -> CopyDone:
    return CopyDone(NEW, 4.12, tag, previous, 431 * MiB, changed)


@pytest.mark.parametrize(
    ("ended", "width", "told"),
    [
        (done("new"), None, f"copied a/b:1 -> c/d:1  new  {NEW}  431.0 MiB in 4.1 s"),
        (done("new"), 120, "copied a/b:1 -> c/d:1  new  sha256:1b1b1b1b1b1b  431.0 MiB in 4.1 s"),
        (
            done("moved", OLD),
            120,
            "copied a/b:1 -> c/d:1  moved from sha256:0a0a0a0a0a0a  sha256:1b1b1b1b1b1b  431.0 MiB in 4.1 s",
        ),
        (
            done("moved", OLD),
            80,
            "copied a/b:1 -> c/d:1  moved from sha256:0a0a0a0a0a0a  sha256:1b1b1b1b1b1b",
        ),
        (done("unchanged", NEW), None, f"copied a/b:1 -> c/d:1  unchanged  {NEW}  431.0 MiB in 4.1 s"),
        (done("unchanged", NEW, changed=False), 120, "unchanged a/b:1 -> c/d:1  sha256:1b1b1b1b1b1b"),
        (done(None), 120, "copied a/b:1 -> c/d:1  sha256:1b1b1b1b1b1b  431.0 MiB in 4.1 s"),
    ],
)
def test_lines(ended: CopyDone, width: int | None, told: str) -> None:
    assert result_line("a/b:1", "c/d:1", ended, width) == told


@pytest.mark.parametrize("ended", [done("new"), done("moved", OLD), done(None, changed=False)])
@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("length", [1, 20, 40, 90, 300])
def test_a_line_is_no_longer_than_its_width_and_keeps_the_tag(
    ended: CopyDone, width: int, length: int
) -> None:
    source, target = f"old.example/{'s' * length}:1.2.3", f"new.example/{'t' * length}:1.2.3"
    for names in ((source, target), (source, "x:1"), ("x:1", target)):
        line = result_line(*names, ended, width, note="chosen by --platform")
        assert len(line) <= width
        assert ":1" in line.partition(" -> ")[2]
        assert ended.tag is None or ended.tag in line
        assert "chosen by --platform" in line or (width, ended.tag) == (80, "moved")


def test_names_of_a_registry_bring_no_controls_to_a_terminal() -> None:
    assert "\x1b" not in result_line("a\x1b[2J", "b", done("new"), 120)


def test_a_name_keeps_its_ends() -> None:
    assert shortened_name("registry.example/team/app:1", 16) == "regis…team/app:1"
    assert shortened_name("short", 16) == "short"


def test_columns_decide_how_long_a_line_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert result_width(io.StringIO()) is None
    for columns, width in (("120", 120), ("40", 80), ("x", None), ("", None)):
        monkeypatch.setenv("COLUMNS", columns)
        assert result_width(io.StringIO()) == width
