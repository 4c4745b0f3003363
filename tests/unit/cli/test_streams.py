"""Standard streams: credentials in, lines out, readers that go away."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from crossdock.cli.exits import ExitCode, UsageError
from crossdock.cli.streams import LineWriter, ResultWriter, parse_json, print_result, read_credentials
from crossdock.errors import OutputFailed
from crossdock.imagebuilder import ImageBuilder
from crossdock.options import Credentials


def give_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))


def test_each_flag_takes_the_next_line(monkeypatch: pytest.MonkeyPatch) -> None:
    give_stdin(monkeypatch, "first:a:b:c\r\nsecond:pässword\n".encode())
    assert read_credentials("--src-creds-stdin") == Credentials("first", "a:b:c")
    assert read_credentials("--dest-creds-stdin") == Credentials("second", "pässword")


def test_the_last_line_needs_no_newline(monkeypatch: pytest.MonkeyPatch) -> None:
    give_stdin(monkeypatch, b"user:")
    assert read_credentials("--creds-stdin") == Credentials("user", "")


@pytest.mark.parametrize("data", [b"", b"\n", b"sesame\n", b":sesame\n", b"u:\xff\n", b"u:" + b"x" * 70_000])
def test_a_wrong_line_is_a_usage_error_that_never_quotes_it(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_stdin(monkeypatch, data)
    with pytest.raises(UsageError, match="--creds-stdin") as caught:
        read_credentials("--creds-stdin")
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_lines_are_written_in_order() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream)
    for number in range(100):
        writer.offer(str(number))
    writer.close()
    assert stream.getvalue().split() == [str(number) for number in range(100)]


def test_a_full_pipe_blocks_nothing_and_loses_progress_first() -> None:
    reader, end = os.pipe()
    stream = os.fdopen(end, "w")
    writer = LineWriter(stream)
    line = "x" * 1000
    for _ in range(3000):  # more than the pipe and the queue's half for droppable lines take
        writer.offer(line, droppable=True)
    assert writer.lost > 0
    lost = writer.lost
    writer.offer("important")
    assert writer.lost == lost
    received: list[bytes] = []

    def drain() -> None:
        while data := os.read(reader, 65536):
            received.append(data)

    thread = threading.Thread(target=drain)
    thread.start()
    writer.close()
    stream.close()
    thread.join()
    os.close(reader)
    assert b"".join(received).splitlines()[-1] == b"important"


def test_a_stream_whose_reader_is_gone_is_forgotten() -> None:
    reader, end = os.pipe()
    os.close(reader)
    stream = os.fdopen(end, "w")
    writer = LineWriter(stream)
    writer.offer("one")
    writer.offer("two")
    writer.close()
    stream.close()


def test_a_reader_of_stdout_that_went_away_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    silenced: list[bool] = []

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Gone())
    monkeypatch.setattr("crossdock.cli.streams._silence_stdout", lambda: silenced.append(True))
    print_result("x")
    assert silenced == [True]


def test_a_stdout_that_cannot_be_written_is_one_clean_line(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "layout")
    builder.tag(builder.helm_chart(), "1")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "crossdock", "inspect", f"oci:{builder.root}:1"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == ExitCode.TARGET
    assert done.stderr == "crossdock: cannot write to stdout: No space left on device\n"


def test_a_reader_that_takes_one_line_and_leaves_hears_no_complaint(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "layout")
    image = builder.image([builder.random_layer(10)])
    for number in range(3000):  # more than a pipe holds
        builder.tags[f"tag-with-a-long-name-{number}"] = image
    builder.tag(image, "last")
    process = subprocess.Popen(
        [sys.executable, "-m", "crossdock", "tags", f"oci:{builder.root}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process, process.stdout, process.stderr:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_a_line_that_the_encoding_lacks_is_escaped() -> None:
    reader, end = os.pipe()
    stream: Any = os.fdopen(end, "w", encoding="ascii")
    writer = LineWriter(stream)
    writer.offer("ü")
    writer.close()
    stream.close()
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"\\xfc\n"


def test_numbers_that_python_refuses_for_their_length_are_shown_as_text() -> None:
    digits = "1" * 5000
    assert parse_json(f'{{"a": {digits}, "b": -12}}'.encode()) == {"a": digits, "b": -12}


@pytest.mark.parametrize("code", [errno.EPIPE, errno.ENOSPC])
def test_results_that_cannot_be_written_are_told_of_by_the_next_print(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr("sys.stdout", Broken())
    monkeypatch.setattr(
        "crossdock.cli.streams._silence_stdout", lambda: setattr(sys, "stdout", io.StringIO())
    )
    writer = ResultWriter()
    writer.offer("copied a -> b")
    writer.finish()
    if code == errno.EPIPE:
        print_result("copied 1 of 1")
    else:
        with pytest.raises(OutputFailed, match="No space left"):
            print_result("copied 1 of 1")
        print_result("told once")
