"""The service's log: one JSON object per line, in ASCII, on standard error.

``time`` (RFC 3339), ``level``, ``logger``, ``message``, then the event's own members, given as
``extra={"fields": …}``; after an unexpected exception ``error`` and the frames of its traceback.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a line end."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line |= {name: value for name, value in fields.items() if name not in line}
        if record.exc_info and record.exc_info[0] is not None:
            # Frames and class, but not the message, which may quote a client's input.
            line["error"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            line["frames"] = [f"{each.filename}:{each.lineno} {each.name}" for each in frames]
        # ASCII, so that no client can write terminal controls or lone surrogates. JSON does not escape DEL.
        return json.dumps(line, default=str, separators=(",", ":")).replace("\x7f", "\\u007f")


def log_json(level: int = logging.INFO) -> None:
    """Make every logger of the process write JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler])
    # aiohttp's errors here are requests that are not HTTP, which any client can send.
    logging.getLogger("aiohttp.server").addFilter(_as_warning)


def _as_warning(record: logging.LogRecord) -> bool:
    record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True
