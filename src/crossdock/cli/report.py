"""What a copy did, for a person, for a script and for a file."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from crossdock import __version__
from crossdock.cli.arguments import UsageError
from crossdock.cli.failure import error_document
from crossdock.cli.tally import Tally
from crossdock.cli.units import count, format_duration, format_size
from crossdock.errors import StoreError

if TYPE_CHECKING:
    from crossdock.api import CopyResult


def closing_line(result: CopyResult) -> str:
    """The copy in one line, as a person would paste it into a ticket."""
    moved = f"{count(result.blobs_moved, 'blob')} moved ({format_size(result.bytes_moved)}"
    moved += f" in {format_duration(result.seconds)}"
    if result.bytes_moved and result.seconds > 0:
        moved += f", {format_size(result.bytes_moved / result.seconds)}/s"
    moved += ")"
    counts = ", ".join(
        (
            count(result.manifests, "manifest"),
            moved,
            f"{result.blobs_skipped} skipped",
            f"{result.blobs_mounted} mounted",
            count(result.retries, "retry", "retries"),
        )
    )
    line = f"copied {result.source} -> {result.target}  {result.digest}  {counts}"
    if result.digest_changed:
        line += f"; chosen by --platform, so the digest is not the source's {result.source_digest}"
    return line


class ReportFile:
    """The file of ``--report``: opened before anything is copied, written when the copy is over.

    Without a path every method does nothing. Raises `UsageError` when the file cannot be opened for writing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file = None
        if path is not None:
            try:
                self._file = path.open("w", encoding="utf-8")
            except OSError as error:
                raise UsageError(f"--report: cannot write {str(path)!r}: {error.strerror}") from None

    def __enter__(self) -> ReportFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def success(self, result: CopyResult, tally: Tally) -> None:
        """Write what was done. Raises `StoreError` when that fails."""
        self._write({**result.as_dict(), **_common(tally), "error": None})

    def failure(self, source: str, target: str, error: BaseException, tally: Tally) -> None:
        """Write how far the copy came and why it ended. Raises `StoreError` when that fails."""
        self._write({"source": source, "target": target, **_common(tally), "error": error_document(error)})

    def _write(self, document: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(document, indent=2) + "\n")
            self._file.flush()
        except OSError as error:
            raise StoreError(f"--report: cannot write {str(self._path)!r}: {error.strerror}") from None


def _common(tally: Tally) -> dict[str, Any]:
    from crossdock import _kernels

    blobs = [
        {"digest": each.digest, "size": each.size, "outcome": each.outcome} for each in tally.done.values()
    ]
    return {"version": __version__, "kernels": _kernels.BACKEND, "blobs": blobs}
