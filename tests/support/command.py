"""The command as a user runs it: a subprocess with a clean environment and a bounded life."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

MODULE = (sys.executable, "-m", "crossdock")
SCRIPT = (str(Path(sys.executable).with_name("crossdock")),)

DONE, USAGE, CANCELLED = 0, 2, 130
AUTH, NOT_FOUND, SOURCE, TARGET, VERIFICATION, RATE_LIMIT = 3, 4, 5, 6, 7, 8
DIFFERENT, CONFLICT = 9, 11

WITHOUT_CLOUD = {"AWS_EC2_METADATA_DISABLED": "true", "NO_GCE_CHECK": "true"}
"""The machine that tests run on may be one of a cloud: its identity is not theirs."""

_MEASURE = """
import json, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
open(sys.argv[1], "w").write(json.dumps(peak))
sys.exit(code)
"""


def error_of(stderr: str) -> str:
    """The one error on stderr, its line and its advice joined: a line, and at most two that are indented."""
    first, *further = stderr.splitlines()
    assert len(further) <= 2, f"expected one error on stderr: {stderr}"
    assert not first.startswith(" "), stderr
    assert all(each.startswith("  ") and each.strip() for each in further), stderr
    return "; ".join((first, *(each.strip() for each in further)))


def without_colors(text: str) -> str:
    """`text` without a terminal's escape sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@dataclass(frozen=True)
class Finished:
    """One finished run."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        document: dict[str, Any] = json.loads(self.stdout)
        return document

    @property
    def error(self) -> str:
        """The error on stderr, as `error_of` reads it."""
        return error_of(self.stderr)

    def __str__(self) -> str:
        return (
            f"exit {self.code} of {' '.join(self.argv)}\n--stdout--\n{self.stdout}\n--stderr--\n{self.stderr}"
        )


class Crossdock:
    """Runs the command in a clean environment: an empty home, no proxies, no credentials."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            **WITHOUT_CLOUD,
        }

    def _environment(self, env: Mapping[str, str | None] | None) -> dict[str, str]:
        merged = {**self.environment, **(env or {})}
        return {name: value for name, value in merged.items() if value is not None}

    def __call__(
        self,
        *args: str | Path,
        env: Mapping[str, str | None] | None = None,
        stdin: str = "",
        timeout: float = 180,
        prefix: Sequence[str] = (),
        program: Sequence[str] = MODULE,
        cwd: Path | None = None,
    ) -> Finished:
        """Run to the end. `env` None values remove a variable; `prefix` is put before the command."""
        argv = (*prefix, *program, *map(str, args))
        done = subprocess.run(
            argv,
            input=stdin.encode(),
            capture_output=True,
            env=self._environment(env),
            timeout=timeout,
            cwd=cwd or self.home,
            check=False,
        )
        return Finished(argv, done.returncode, done.stdout.decode(), done.stderr.decode())

    def on_a_terminal(self, *args: str | Path) -> tuple[int, str]:
        """Run on a pseudo-terminal of 120 columns; returns the exit code and the output."""
        leader, follower = pty.openpty()
        shown: list[bytes] = []

        def read() -> None:
            with suppress(OSError):  # EIO: the last writer has gone
                while piece := os.read(leader, 65536):
                    shown.append(piece)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            done = subprocess.run(
                [*MODULE, *map(str, args)],
                stdin=subprocess.DEVNULL,
                stdout=follower,
                stderr=follower,
                env={**self.environment, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
                timeout=60,
                check=False,
            )
        finally:
            os.close(follower)
            reader.join(10)
            os.close(leader)
        return done.returncode, b"".join(shown).decode()

    def ok(self, *args: str | Path, **how: Any) -> Finished:
        """Run and expect success without a traceback."""
        done = self(*args, **how)
        assert done.code == DONE, str(done)
        assert "Traceback" not in done.stderr, str(done)
        return done

    def copy(self, source: str, target: str, *args: str | Path, **how: Any) -> dict[str, Any]:
        """A copy that must succeed, with the result as its JSON object."""
        return self.ok("copy", source, target, "--output", "json", "--progress", "none", *args, **how).result

    def fail(self, *args: str | Path, code: int, naming: Sequence[str] = (), **how: Any) -> str:
        """Run and expect this exit code and one clean error on stderr holding each of `naming`; it."""
        done = self(*args, **how)
        assert done.code == code, str(done)
        assert "Traceback" not in done.stdout + done.stderr, str(done)
        assert done.stdout == "", str(done)
        line = done.error
        for word in naming:
            assert word in line, f"{word!r} is not in: {line}"
        return line

    def fail_copy(
        self, source: str, target: str, *args: str | Path, code: int, naming: Sequence[str] = (), **how: Any
    ) -> str:
        """A copy that must fail with this exit code and one error on stderr; the error."""
        return self.fail("copy", source, target, "--progress", "none", *args, code=code, naming=naming, **how)

    def measured(self, peak_file: Path, *args: str | Path, **how: Any) -> tuple[Finished, int]:
        """Run under a small parent that measures: (the result, peak resident bytes)."""
        # The pages of the process that forks count in a child's ru_maxrss; pytest's would drown the figure.
        done = self(*args, prefix=(sys.executable, "-S", "-c", _MEASURE, str(peak_file)), **how)
        return done, json.loads(peak_file.read_text())

    def start(self, *args: str | Path, env: Mapping[str, str | None] | None = None) -> Running:
        """Begin a run in the background; use it in a ``with`` block."""
        return Running((*MODULE, *map(str, args)), self._environment(env), self.home)


class Running:
    """A run in the background. Leaving the ``with`` block kills it if it still runs."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self.argv = tuple(argv)
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd=cwd,
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    @property
    def stderr(self) -> IO[bytes]:
        """The stream of events, for tests that wait for one."""
        assert self._process.stderr is not None
        return self._process.stderr

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """Ctrl-C, or another signal."""
        self._process.send_signal(number)

    def insist(self, number: signal.Signals = signal.SIGINT, timeout: float = 90) -> Finished:
        """Send the signal repeatedly, as an impatient person does, until the process ends."""
        until = time.monotonic() + timeout
        while self._process.poll() is None and time.monotonic() < until:
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
        return self.finish(0.1)

    def finish(self, timeout: float = 90) -> Finished:
        """Wait for the end."""
        out, err = self._process.communicate(timeout=timeout)
        return Finished(self.argv, self._process.returncode, out.decode(), err.decode())

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process.wait()
