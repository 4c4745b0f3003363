"""The display in tmux: at 100, 60 and 40 columns, under a full screen of text, and after it has ended."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder

PATIENCE_S = 60.0  # a busy machine takes seconds to start a command
ABOVE = [
    f"line {number:02} of what the screen showed before, about as long as people's lines are"
    for number in range(40)
]
TOTAL = re.compile(r"\d+%  [\d.]+/6\.\d MiB  [\d.]+ \w+/s  \d:\d\d  (\d+:\d\d|-:--) left  rate limit")


class Pane:
    """A window of tmux with a shell in it."""

    def __init__(self, folder: Path, columns: int, lines: int) -> None:
        self._server = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]
        self._folder = folder
        environment = {**os.environ, "PS1": "> ", "HOME": str(folder), "TERM": "xterm-256color"}
        environment.pop("COLUMNS", None)
        self._run("new-session", "-d", "-x", str(columns), "-y", str(lines), "sh", env=environment)

    def _run(self, *words: str, env: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            [*self._server, *words], check=True, capture_output=True, text=True, env=env, cwd=self._folder
        )
        return done.stdout

    def type(self, line: str) -> None:
        self._run("send-keys", "-l", line)
        self._run("send-keys", "Enter")

    def press(self, key: str) -> None:
        self._run("send-keys", key)

    def resize(self, columns: int) -> None:
        self._run("resize-window", "-x", str(columns))

    def shows(self, *, history: bool = False) -> list[str]:
        """The lines on the screen, without the empty ones at its end; `history`: those above it too."""
        text = self._run("capture-pane", "-p", *(("-S", "-200") if history else ()))
        return text.rstrip().split("\n")

    def wait(self, seen: Callable[[list[str]], object]) -> list[str]:
        deadline = time.monotonic() + PATIENCE_S
        while not seen(lines := self.shows()):
            assert time.monotonic() < deadline, "\n".join(lines)
            time.sleep(0.05)
        return lines

    def end(self) -> None:
        subprocess.run([*self._server, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def pane(tmp_path: Path) -> Iterator[Pane]:
    if shutil.which("tmux") is None:
        if os.environ.get("CI"):
            pytest.fail("tmux is missing; .ci/run installs it")
        pytest.skip("tmux is missing")
    builder = ImageBuilder(tmp_path / "source")
    layers = [builder.random_layer(size) for size in (3 << 20, 3 << 20, *[60_000] * 4)]
    builder.tag(builder.image(layers), "v1")
    (tmp_path / "above").write_text("\n".join(ABOVE) + "\n")
    made = Pane(tmp_path, 100, 24)
    try:
        yield made
    finally:
        made.end()


def picture_of(lines: list[str]) -> list[str]:
    """The lines below the text that was there before."""
    last = max((number for number, line in enumerate(lines) if "line 39" in line), default=-1)
    return [
        line for line in lines[last + 1 :] if not line.startswith("le's lines") and "as people" not in line
    ]


def is_whole(columns: int, most: int) -> Callable[[list[str]], bool]:
    def check(lines: list[str]) -> bool:
        drawn = picture_of(lines)
        total = [number for number, line in enumerate(drawn) if re.match(r"\d+%  ", line)]
        if len(total) != 1 or not any(re.search(r"  [0-9a-f]{8}|layer [0-9a-f]{12}", line) for line in drawn):
            return False
        said = drawn[total[0] :]
        is_drawn_for = max(map(len, drawn)) < columns and "".join(drawn).count("->") <= 1
        return len(said) <= most and TOTAL.fullmatch("  ".join(said)) is not None and is_drawn_for

    return check


def test_the_display_by_width_leaves_nothing_behind(pane: Pane, tmp_path: Path) -> None:
    """In one session, as starting the command takes longest."""
    copy = shlex.join([sys.executable, "-m", "crossdock", "copy", "oci:source:v1", "oci:target:v1"])
    pane.type(f"clear; cat above; {copy} --limit-rate 200KiB")
    lines = pane.wait(is_whole(100, 1))
    assert "line 39" in "\n".join(lines), "the full screen above is still there"
    assert any(re.search(r"layer [0-9a-f]{12}  +\[", line) for line in lines), "\n".join(lines)
    pane.resize(40)
    pane.wait(is_whole(40, 3))
    for columns, most in ((60, 2), (100, 1)):
        pane.resize(columns)
        pane.wait(is_whole(columns, most))
    pane.press("C-c")
    pane.wait(lambda lines: lines[-1] in (">", "#", "$"))
    told = picture_of(pane.shows(history=True))
    assert told[0].startswith("crossdock: copy of oci:source:v1 to oci:target:v1 was cancelled"), told
    assert not [line for line in told if "layer" in line or re.search(r"\d%  ", line)], told
    shown = pane.shows(history=True)
    assert [line for line in shown if line.startswith("line ")] == ABOVE
