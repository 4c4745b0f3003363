"""What a copy did, for a person, for a script and for a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from crossdock import __version__
from crossdock.cli.exits import UsageError
from crossdock.cli.failure import error_document
from crossdock.cli.streams import print_error
from crossdock.cli.tally import ManyTally, Tally
from crossdock.errors import OutputFailed
from crossdock.events import BlobDone
from crossdock.units import count, format_duration, format_size

if TYPE_CHECKING:
    from crossdock.api import CopyResult
    from crossdock.many import ManyResult, PairResult, Status
    from crossdock.options import Verify

_VERIFIED: dict[Verify, str] = {
    "stream": "",
    "target": "; the bytes were verified by the target alone",
    "reread": "; read back and compared",
}
STATUSES: tuple[Status, ...] = ("copied", "failed", "cancelled", "not begun")


def closing_line(result: CopyResult) -> str:
    """The copy in one line, as a person would paste it into a ticket."""
    counts = counts_of(result.as_dict(), result.seconds)
    line = f"copied {result.source} -> {result.target}  {result.digest}  {counts}"
    line += _VERIFIED[result.verified]
    if result.merged:
        line += f"; with the target's own content, so the digest is not the source's {result.source_digest}"
    elif result.digest_changed:
        line += f"; chosen by --platform, so the digest is not the source's {result.source_digest}"
    return line


def closing_lines(result: ManyResult) -> Iterator[str]:
    """A line for each pair that was copied, in the list's order, and one for all."""
    for each in result.copies:
        if each.result is not None:
            yield closing_line(each.result)
    counts = counts_of(result.totals(), result.seconds)
    yield f"copied {result.count('copied')} of {len(result.copies)}  {counts}"


def many_document(
    result: ManyResult, *, tally: ManyTally | None = None, common: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """The JSON object of a run of many, in pieces, a line for each pair: the whole would take 2 KB for each.

    With `tally` each pair names the blobs that its target has. `common` are further members of the object.
    """
    yield '{\n  "copies": ['
    for index, each in enumerate(result.copies):
        document = pair_document(each)
        if tally is not None:
            document["blobs"] = blob_documents(tally.blobs(index))
        yield f"{',' if index else ''}\n    {json.dumps(document)}"
    counts = {status.replace(" ", "_"): result.count(status) for status in STATUSES}
    rest = {
        "not_copied": [f"{each.source} {each.target}" for each in result.copies if each.result is None],
        "totals": {"copies": len(result.copies), **counts, **result.totals()},
        "seconds": result.seconds,
        **(common or {}),
    }
    yield "\n  ]," + json.dumps(rest, indent=2).removeprefix("{") + "\n"


def pair_document(each: PairResult) -> dict[str, Any]:
    """The JSON object of one copy of many."""
    values = each.result.as_dict() if each.result is not None else {}
    error = error_document(each.error) if each.error is not None else None
    return {"source": each.source, "target": each.target, "status": each.status, **values, "error": error}


def counts_of(values: Mapping[str, Any], seconds: float) -> str:
    """``3 manifests, 2 blobs moved (…), …`` of one copy's figures, or of sums."""
    moved = f"{count(values['blobs_moved'], 'blob')} moved ({format_size(values['bytes_moved'])}"
    moved += f" in {format_duration(seconds)}"
    if values["bytes_moved"] and seconds > 0:
        moved += f", {format_size((values['bytes_moved'] - values['bytes_resumed']) / seconds)}/s"
    moved += ")"
    if values["uploads_resumed"]:
        moved += f", {format_size(values['bytes_resumed'])} of it before this run"
    if values["bytes_spooled"]:
        moved += f", {format_size(values['bytes_spooled'])} from the spool"
    return ", ".join(
        (
            count(values["manifests"], "manifest")
            + (f" with {count(values['referrers'], 'referrer')}" if values["referrers"] else ""),
            moved,
            f"{values['blobs_skipped']} skipped",
            f"{values['blobs_mounted']} mounted",
            count(values["retries"], "retry", "retries"),
        )
    )


@contextmanager
def beside_an_error() -> Iterator[None]:
    """While the report of what failed is written: that it cannot be is a warning, not the error to show."""
    try:
        yield
    except OutputFailed as error:
        print_error(f"warning: {error}")


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
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # `write` has flushed, and said what was wrong
                file.close()

    def success(self, result: CopyResult, tally: Tally) -> None:
        """Write what was done. Raises `OutputFailed` when that fails."""
        self.write(_whole({**result.as_dict(), **_common(tally), "error": None}))

    def failure(self, source: str, target: str, error: BaseException, tally: Tally) -> None:
        """Write how far the copy came and why it ended. Raises `OutputFailed` when that fails."""
        document = {"source": source, "target": target, **_common(tally), "error": error_document(error)}
        self.write(_whole(document))

    def many(self, result: ManyResult, tally: ManyTally, error: BaseException | None) -> None:
        """Write what became of each pair, and what ended the run. Raises `OutputFailed` when that fails."""
        ended = {**versions(), "error": error_document(error) if error is not None else None}
        self.write(many_document(result, tally=tally, common=ended))

    def write(self, parts: Iterable[str]) -> None:
        """Write pieces of the document. Raises `OutputFailed` when that fails."""
        if self._file is None:
            return
        try:
            for part in parts:
                self._file.write(part)
            self._file.flush()
        except OSError as error:
            reason = f"--report: cannot write {str(self._path)!r}: {error.strerror}"
            raise OutputFailed(reason, hint="everything was copied") from None


def _common(tally: Tally) -> dict[str, Any]:
    return {**versions(), "blobs": blob_documents(tally.done.values())}


def versions() -> dict[str, str]:
    """What made a report."""
    from crossdock import _kernels

    return {"version": __version__, "kernels": _kernels.BACKEND}


def blob_documents(done: Iterable[BlobDone]) -> list[dict[str, Any]]:
    """The blobs that a target has, for a report."""
    return [{"digest": each.digest, "size": each.size, "outcome": each.outcome} for each in done]


def _whole(document: Mapping[str, Any]) -> tuple[str]:
    return (json.dumps(document, indent=2) + "\n",)
