"""Standard input, output and error as the command uses them."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from crossdock.cli.exits import UsageError
from crossdock.cli.failure import fold
from crossdock.errors import Advice, OutputFailed
from crossdock.options import Credentials

_MAX_LINE = 64 * 1024  # tokens used as passwords reach several KiB
_LONGEST_INTEGER = 1000  # digits; Python's own limit is 4300, and can be set to 640
_QUEUED_LINES = 4096  # of progress; further lines are dropped
_QUEUED_RESULTS = 65_536  # of copies, about 10 MB


_quiet = False  # --quiet: no warnings, and one line of text at most
_stdout_failure: OSError | None = None  # of a `ResultWriter`, not raised yet


def is_quiet() -> bool:
    """Whether the command is quiet (`be_quiet`)."""
    return _quiet


def be_quiet(quiet: bool) -> None:
    """If `quiet`, print no warnings, and only the last of the lines given to `print_lines`."""
    global _quiet
    _quiet = quiet


def prepare_streams() -> None:
    """Open closed standard streams on the null device, and escape text that the encoding lacks.

    Otherwise a socket could get the descriptor of a closed stream: prints would go to it, and libuv would
    abort the process.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            stream = open(descriptor, mode, closefd=False)  # noqa: SIM115 - for the life of the process
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def print_result(text: str, brief: str | None = None) -> None:
    """Print to stdout. A reader that stopped reading (``| head``) is not an error.

    `brief`: what a quiet command prints instead, nothing if it is empty. Raises `OutputFailed` when stdout
    cannot be written, for instance on a full disk.
    """
    shown = brief if _quiet and brief is not None else text
    if shown or brief is None:
        with _stdout():
            print(shown, flush=True)


def give_stdout_away() -> None:
    """From here on print to stderr: stdout carries an archive alone."""
    sys.stdout = sys.stderr


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON object to stdout."""
    print_result(json.dumps(document, indent=2))


def parse_json(data: bytes) -> Any:
    """Parse JSON. Numbers too long for Python's ``int`` become text."""
    return json.loads(data, parse_int=integer)


def integer(digits: str) -> int | str:
    """The number, or its text if it is too long for Python's ``int``."""
    return int(digits) if len(digits) < _LONGEST_INTEGER else digits


def print_parts(parts: Iterable[str]) -> None:
    """Print pieces of a long text to stdout. Raises `OutputFailed`."""
    with _stdout():
        for part in parts:
            sys.stdout.write(part)
        sys.stdout.flush()


def print_lines(lines: Iterable[str]) -> None:
    """Print lines of text, which end with a line break, to stdout; a quiet command prints the last. Raises
    `OutputFailed`."""
    print_parts(deque(lines, maxlen=1) if _quiet else lines)


def print_bytes(data: bytes) -> None:
    """Print bytes to stdout, unchanged. Raises `OutputFailed`."""
    with _stdout():
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def print_note(line: str) -> None:
    """Print one line to stderr that is neither an error nor a warning, unless the command is quiet."""
    if not _quiet:
        print_error(line)


def print_error(line: str) -> None:
    """Print one line to stderr. A closed stderr is ignored."""
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


def warn(message: str) -> None:
    """Print a warning to stderr, unless the command is quiet."""
    if not _quiet:
        print_error(f"warning: {fold(message)}")


@contextmanager
def _stdout() -> Iterator[None]:
    global _stdout_failure
    failure, _stdout_failure = _stdout_failure, None
    if failure is not None:
        _give_up(failure)
    try:
        yield
    except OSError as error:
        _give_up(error)


def _give_up(error: OSError) -> None:
    """Print nothing more to stdout. Raises `OutputFailed`, unless its reader has gone."""
    _silence_stdout()
    if not isinstance(error, BrokenPipeError):
        raise OutputFailed(f"cannot write to stdout: {error.strerror}") from error


def _silence_stdout() -> None:
    # The interpreter flushes stdout again when it ends, and would print an error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_credentials(flag: str) -> Credentials:
    """The next ``user:password`` line of stdin; the password may contain colons, or be empty.

    Raises `UsageError` naming `flag`, never quoting the line.
    """
    text = _read_line(flag)
    if text is None:
        advice = Advice("give-password", "give one user:password line per flag")
        raise UsageError(f"{flag}: stdin has no line for it", advice=advice)
    username, colon, password = text.partition(":")
    if not colon or not username:
        raise UsageError(f"{flag}: the line is not user:password")
    return Credentials(username=username, password=password)


def read_secret(flag: str, command: str = "crossdock") -> str:
    """The first line of stdin. Raises `UsageError` naming `flag` of `command`, never quoting the line."""
    text = _read_line(flag)
    if not text:
        raise UsageError(f"{flag}: no password was given on stdin", command=command)
    return text


def _read_line(flag: str) -> str | None:
    """The next line of stdin without its line break; None at the end. Raises `UsageError`."""
    line = sys.stdin.buffer.readline(_MAX_LINE)
    if len(line) == _MAX_LINE:
        raise UsageError(f"{flag}: the line is longer than {_MAX_LINE} bytes")
    try:
        return line.decode().rstrip("\r\n") if line else None
    except UnicodeDecodeError:
        raise UsageError(f"{flag}: the line is not UTF-8") from None


class LineWriter:
    """Writes lines in a separate thread, so that offering one never waits and never fails.

    At most `most` are kept: when the reader is slower, new lines are dropped and counted in `lost`. A stream
    that breaks swallows the rest.
    """

    def __init__(self, stream: TextIO, most: int = _QUEUED_LINES) -> None:
        self._most = most
        self._broken: Exception | None = None
        self._write = writer_of(stream)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="crossdock-lines", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Lines dropped so far."""
        return self._lost

    def offer(self, line: str, *, droppable: bool = False, last: bool = False) -> None:
        """Queue `line`. Droppable lines get half of the queue; the last line is always queued."""
        limit = self._most // 2 if droppable else self._most
        if last or self._lines.qsize() < limit:
            self._lines.put(line)
        else:
            self._lost += 1

    def close(self, timeout: float | None = 5.0) -> None:
        """Write the queued lines, for at most `timeout` seconds; None: until they are written."""
        self._lines.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            if self._broken is None:
                try:
                    self._write(line + "\n")
                except (OSError, ValueError) as error:
                    self._broken = error


class ResultWriter(LineWriter):
    """Writes results to stdout as they come. A slow reader does not delay the copies."""

    def __init__(self) -> None:
        self.stream = sys.stdout
        self.stream.flush()  # the thread writes by descriptor
        super().__init__(self.stream, _QUEUED_RESULTS)

    def finish(self) -> None:
        """Write the queued lines, and how many were dropped. The next print raises a failure."""
        global _stdout_failure
        if self.lost:
            self.offer(f"{self.lost} more results, which stdout was too slow for", last=True)
        self.close(None)
        if isinstance(self._broken, OSError):
            _stdout_failure = self._broken


def writer_of(stream: TextIO) -> Any:
    """A function that writes all of a text. Real files are written by descriptor: a thread that a full pipe
    blocks must not hold the lock of `sys.stderr` when the process ends.
    """
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):

        def write(text: str) -> None:
            stream.write(text)
            stream.flush()

        return write

    def write_descriptor(text: str) -> None:
        data = text.encode(stream.encoding or "utf-8", "backslashreplace")
        while data:
            data = data[os.write(descriptor, data) :]

    return write_descriptor
