"""An error as the lines that a person reads, and as the object that JSON output holds."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, TextIO

from crossdock.cli.exits import ExitCode, UsageError, exit_code
from crossdock.descriptors import lacks_descriptors
from crossdock.errors import (
    Advice,
    CopyError,
    CrossdockError,
    Notice,
    root_cause,
)

if TYPE_CHECKING:
    from crossdock.cli.advice import Face

TERMINAL_WIDTH = 160
"""The most characters of the first line on a terminal: two lines of a small window."""

_RESULT_WIDTH = 120  # a failure among the results of a run has at least so many

# `re` compiles them when they are first used: most copies do not fail.
# user:password@ after a scheme; a tag before @sha256:… is not a password.
_USERINFO = r"(?<=//)[^/\s@]*@(?!sha\d+:)"
# Controls, line ends, and what turns the direction of writing.
_UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_BREAKS = rf"[{_UNPRINTABLE}]+"
_DIGEST = r"\b([a-z0-9+._-]+:[0-9a-f]{12})[0-9a-f]{20,}"
_LONG_URL = r"(\bhttps?://[^\s/?'\"<>]+)/[^\s'\"<>:;,)]*"
_QUERY = r"(://[^\s?'\"<>]*)\?[^\s'\"<>)]+"

_WORD_WIDTH = 24  # a longer word may lose its middle


def error_text(error: BaseException, face: Face = "copy", *, name: str = "", width: int | None = None) -> str:
    """The error for a person: its line, and below it, indented, the advice and how to resume.

    With `width` the first line has at most so many characters (`shortened`). `face`: whose flags the advice
    names; `name`: which copy of many failed.
    """
    from crossdock.cli.advice import advice_text  # only needed after failures

    line = error_line(error)
    if name:
        line = f"crossdock: {name}: {line.removeprefix('crossdock: ')}"
    lines = [line if width is None else shortened(line, width)]
    advice = advice_on(error)
    further = [fold(advice_text(advice, face)) if advice is not None else ""]
    further += [fold(error.resume.text)] if isinstance(error, CrossdockError) and error.resume else []
    lines += [f"  {each}" for each in further if each and each not in lines[0]]
    return "\n".join(lines)


def error_line(error: BaseException) -> str:
    """``crossdock: <operation> <side> <reference>: <cause>``, always exactly one line.

    The side is left out where one registry alone takes part.
    An error that crossdock did not raise on purpose is named as internal.
    """
    cause, code = root_cause(error), exit_code(error)
    if code is ExitCode.INTERNAL and not isinstance(cause, CrossdockError):
        if lacks_descriptors(cause):
            return "crossdock: this process may open no more files"
        return f"crossdock: internal error: {type(cause).__name__}: {fold(str(cause)) or 'no message'}"
    text = fold(str(cause)) or ("cancelled" if code is ExitCode.CANCELLED else type(cause).__name__)
    if isinstance(error, CopyError) and cause is not error:
        side = f" {error.side}" if error.names_side else ""
        text = f"{fold(error.operation)}{side} {fold(error.reference)}: {text}"
    return f"crossdock: {text}"


def advice_on(error: BaseException) -> Advice | None:
    """The advice of the error, or of the first one behind it that has any."""
    seen: BaseException | None = error
    while isinstance(seen, BaseException):
        if isinstance(seen, CrossdockError) and seen.advice is not None:
            return seen.advice
        seen = seen.__cause__
    if isinstance(error, UsageError):
        return Advice("see-help", f"see {error.command} --help")
    if exit_code(error) is not ExitCode.INTERNAL or isinstance(root_cause(error), CrossdockError):
        return None
    return Advice("raise-open-files" if lacks_descriptors(root_cause(error)) else "report-bug")


def error_document(error: BaseException, face: Face = "copy") -> dict[str, Any]:
    """The ``error`` member of JSON output and reports, with advice in the words of `face`."""
    from crossdock.cli.advice import advice_document  # only needed after failures

    code = exit_code(error)
    edge = error if isinstance(error, CopyError) else None
    advice = advice_on(error)
    resume = error.resume if isinstance(error, CrossdockError) else None
    return {
        "class": code.label,
        "type": type(root_cause(error)).__name__,
        "exit_code": code.value,
        "side": edge.side if edge else None,
        "operation": fold(edge.operation) if edge else None,
        "reference": fold(edge.reference) if edge else None,
        "message": error_line(error).removeprefix("crossdock: "),
        "advice": advice_document(advice, face) if advice is not None else None,
        "resume": resume.command if resume is not None else None,
    }


def line_width(stream: TextIO) -> int | None:
    """How long the first line of an error may be on `stream`; None: as long as it is."""
    return TERMINAL_WIDTH if is_terminal(stream) else None


def failure_width(stream: TextIO) -> int | None:
    """As `line_width`, for a failure among the results of a run: it fits the window from 120 columns on."""
    if not is_terminal(stream):
        return None
    return min(TERMINAL_WIDTH, max(_RESULT_WIDTH, window_of(stream).columns or TERMINAL_WIDTH))


def window_of(stream: TextIO) -> os.terminal_size:
    """Columns and lines of the terminal that `stream` is; 0 if they are not known."""
    try:
        return os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return os.terminal_size((0, 0))


def is_terminal(stream: TextIO) -> bool:
    """Whether `stream` is a terminal. One that is closed is not."""
    try:
        return stream.isatty()
    except (OSError, ValueError):
        return False


def shortened(line: str, width: int) -> str:
    """`line` in at most `width` characters.

    Digests are shortened first, then URLs, then the longest words (names of repositories) in their middle,
    for the cause stands at the end. Only what is still too long is cut off.
    """
    if len(line) > width:
        line = re.sub(_DIGEST, r"\1…", line)
    if len(line) > width:
        line = re.sub(_LONG_URL, r"\1/…", line)
    while len(line) > width and len(longest := max(line.split(), key=len)) > _WORD_WIDTH:
        kept = max(_WORD_WIDTH, len(longest) - (len(line) - width)) - 1
        line = line.replace(longest, f"{longest[: kept // 2]}…{longest[kept // 2 - kept :]}", 1)
    return line if len(line) <= width else f"{line[: width - 1]}…"


def warning_text(message: str, face: Face = "copy") -> str:
    """A warning on one line, its advice in the words of `face`."""
    if not isinstance(message, Notice):
        return fold(message)
    from crossdock.cli.advice import advice_text

    return fold(f"{message.said}; {advice_text(message.advice, face)}")


def traceback_text(error: BaseException) -> str:
    """The traceback, for ``--debug``: errors of libraries hold whole URLs, so no query of one is shown."""
    import traceback

    text = re.sub(_QUERY, r"\1?…", "".join(traceback.format_exception(error)))
    return "\n".join(fold(line, strip=False) for line in text.splitlines())


def fold(text: str, *, strip: bool = True) -> str:
    """`text` on one line, without terminal controls and without passwords inside URLs."""
    line = re.sub(_USERINFO, "", re.sub(_BREAKS, " ", text))
    return line.strip() if strip else line.rstrip()
