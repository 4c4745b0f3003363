"""The log: one JSON object a line, whatever is in it."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from crossdock.service.logs import JsonLines


def line_of(message: str, *, fields: Any = None, error: BaseException | None = None) -> dict[str, Any]:
    exc_info = (type(error), error, error.__traceback__) if error is not None else None
    record = logging.LogRecord("crossdock.x", logging.INFO, __file__, 1, message, (), exc_info)
    if fields is not None:
        record.fields = fields
    text = JsonLines().format(record)
    assert text.isascii()
    assert text.isprintable()
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def test_a_line_has_time_level_logger_message_and_the_events_own_members() -> None:
    line = line_of("done", fields={"status": 200, "time": "mine", "path": object})
    assert set(line) == {"time", "level", "logger", "message", "status", "path"}
    assert line["time"].endswith("Z")
    assert (line["level"], line["logger"], line["message"]) == ("info", "crossdock.x", "done")


def test_text_of_strangers_makes_no_second_line_and_no_control_characters() -> None:
    evil = 'a\n{"level":"info"}\x1b[2J\x7f\u202e\ud800'
    assert line_of(evil, fields={"x": evil})["message"] == evil


def test_a_traceback_is_its_frames_without_its_words() -> None:
    try:
        raise ValueError("hunter2")
    except ValueError:
        line = line_of("failed", error=sys.exc_info()[1])
    assert line["error"] == "ValueError"
    assert "test_a_traceback_is_its_frames" in line["frames"][0]
    assert "hunter2" not in str(line)
