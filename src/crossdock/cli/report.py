"""Reports of one copy, of a list and of a mirror: as text, as JSON, and for the file of ``--report``.

They are made in pieces, because a mirror may make millions of copies.
"""

from __future__ import annotations

import io
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from crossdock import __version__
from crossdock.cli.exits import UsageError
from crossdock.cli.failure import error_document, warning_text
from crossdock.cli.resultline import result_line, result_width, short
from crossdock.cli.streams import print_error
from crossdock.cli.tally import Tally
from crossdock.errors import (
    Advice,
    OutputFailed,
    StoreError,
)
from crossdock.events import BlobDone
from crossdock.units import count, format_duration, format_size

if TYPE_CHECKING:
    from crossdock.mirroring.entry import Entry
    from crossdock.mirroring.run import MirrorResult
    from crossdock.mirroring.shard import Shard
    from crossdock.options import Verify
    from crossdock.runs.one import CopyResult
    from crossdock.runs.results import ManyResult, PairResult, Status, TargetsResult
    from crossdock.runs.toarchive import Written

_VERIFIED: dict[Verify, tuple[str, str]] = {  # on a terminal, and elsewhere
    "stream": ("", ""),
    "target": ("verified by the target", "; the bytes were verified by the target alone"),
    "reread": ("read back", "; read back and compared"),
}
_DONE: tuple[Status, ...] = ("copied", "unchanged", "left_behind")  # the target has everything
_STATUSES: tuple[Status, ...] = ("copied", "unchanged", "reported", "failed", "cancelled", "not begun")


class Report(Protocol):
    """The outcome of a run."""

    def lines(self) -> Iterator[str]:
        """Text for stdout."""

    def document(self) -> Iterator[str]:
        """JSON for stdout."""

    def file(self, error: BaseException | None) -> Iterator[str]:
        """JSON for ``--report``: with the error that ended the run, and the blobs of each copy."""


class CopyReport:
    """One copy. `result` is None until it is done; a failed copy has only the file's form."""

    def __init__(self, source: str, target: str, tally: Tally) -> None:
        self._source, self._target, self._tally = source, target, tally
        self.result: CopyResult | None = None
        self.left: Exception | None = None
        """Why the target's tag was left as it is."""

    def lines(self) -> Iterator[str]:
        """As `Report.lines`."""
        if self.result is not None:
            yield closing_line(self.result, result_width(sys.stdout)) + "\n"
        elif self.left is not None:
            yield f"left {self._target} as it is\n"

    def document(self) -> Iterator[str]:
        """As `Report.document`."""
        if self.result is not None:
            yield json.dumps(_values(self.result), indent=2) + "\n"
        elif self.left is not None:
            names = {"source": self._source, "target": self._target, "status": "reported"}
            yield json.dumps({**names, "error": _error_document(self.left)}, indent=2) + "\n"

    def file(self, error: BaseException | None) -> Iterator[str]:
        """As `Report.file`."""
        names = {"source": self._source, "target": self._target}
        document = {
            **(_values(self.result) if self.result is not None else names),
            **_versions(),
            "blobs": _blob_documents(self._tally.blobs()),
            "error": _error_document(error or self.left),
        }
        yield json.dumps(document, indent=2) + "\n"


class TargetsReport:
    """One source for several targets."""

    def __init__(self, result: TargetsResult, tally: Tally) -> None:
        self._result, self._tally = result, tally

    def lines(self) -> Iterator[str]:
        """As `Report.lines`: one for each target that was left as it is, and one for all."""
        result = self._result
        for each in result.targets:
            if each.status == "reported":
                yield f"left {each.target} as it is\n"
        there = f"{sum(map(result.count, _DONE))} of {count(len(result.targets), 'target')}"
        words = [f"{result.count('unchanged')} unchanged"] if result.count("unchanged") else []
        if behind := result.count("left_behind"):
            words.append(f"{behind} left behind by the others")
        words.append(f"{format_size(result.source_bytes)} read from the source")
        yield f"{there} have {short(result.digest) if result.digest else 'it'}  {', '.join(words)}\n"

    def document(self) -> Iterator[str]:
        """As `Report.document`."""
        yield json.dumps(self._values(), indent=2) + "\n"

    def file(self, error: BaseException | None) -> Iterator[str]:
        """As `Report.file`."""
        values = self._values()
        for index, each in enumerate(values["targets"]):
            each["blobs"] = _blob_documents(self._tally.blobs(index))
        yield json.dumps({**values, **_versions(), "error": _error_document(error)}, indent=2) + "\n"

    def _values(self) -> dict[str, Any]:
        return _targets_values(self._result)


class _ManyReport(ABC):
    """Many copies: a JSON object with one line per copy. Each takes 2 KB, so it is never held whole."""

    @abstractmethod
    def _copies(self) -> Iterator[tuple[str, str]]:
        """The JSON of each copy, and of its blobs."""

    @abstractmethod
    def _members(self) -> dict[str, Any]:
        """The members after the copies."""

    def document(self) -> Iterator[str]:
        """As `Report.document`."""
        return self._document((copy for copy, _ in self._copies()), {})

    def file(self, error: BaseException | None) -> Iterator[str]:
        """As `Report.file`."""
        copies = (f'{copy[:-1]}, "blobs": {blobs}}}' for copy, blobs in self._copies())
        return self._document(copies, {**self._origin(), **_versions(), "error": _error_document(error)})

    def _origin(self) -> dict[str, Any]:
        """The fields of the file that name what was copied."""
        return {}

    def _document(self, copies: Iterator[str], more: Mapping[str, Any]) -> Iterator[str]:
        yield '{\n  "copies": ['
        for number, copy in enumerate(copies):
            yield f"{',' if number else ''}\n    {copy}"
        yield "\n  ]," + json.dumps({**self._members(), **more}, indent=2).removeprefix("{") + "\n"


class ListReport(_ManyReport):
    """The copies of a list, in its order."""

    def __init__(self, result: ManyResult, tally: Tally) -> None:
        self._result, self._tally = result, tally

    def lines(self) -> Iterator[str]:
        """As `Report.lines`: one for all. Each pair that was copied had its line when it ended."""
        result = self._result
        unchanged = result.count("unchanged")
        words = [f"copied {result.done - unchanged} of {len(result.copies)}"]
        words += [f"{unchanged} unchanged"] if unchanged else []
        words += [f"{failed} failed"] if (failed := result.count("failed")) else []
        yield f"{', '.join(words)}  {brief_counts(result.totals(), result.seconds)}\n"

    def _copies(self) -> Iterator[tuple[str, str]]:
        for index, pairs in self._lines():
            blobs = [_blobs_line(self._tally.blobs(index + number)) for number in range(len(pairs))]
            line = self._result.lines.get(index)
            if line is not None:
                yield json.dumps(_targets_values(line)), f"[{', '.join(blobs)}]"
            elif self._result.lines:  # some lines have several targets, so each has a list of them
                (pair,) = pairs
                read = pair.result.bytes_requested if pair.result is not None else 0
                copy = _pair_line(pair)
                yield f'{copy[:-1]}, "source_bytes": {read}, "targets": [{copy}]}}', blobs[0]
            else:
                yield _pair_line(pairs[0]), blobs[0]

    def _lines(self) -> Iterator[tuple[int, Sequence[PairResult]]]:
        """The pairs of each line of the list, after the index of the first."""
        copies, index = self._result.copies, 0
        while index < len(copies):
            line = self._result.lines.get(index)
            pairs = copies[index : index + (len(line.targets) if line is not None else 1)]
            yield index, pairs
            index += len(pairs)

    def _members(self) -> dict[str, Any]:
        result = self._result
        counts = {status.replace(" ", "_"): result.count(status) for status in _STATUSES}
        counts["copied"] += result.count("left_behind")
        left = [[each for each in pairs if each.result is None] for _, pairs in self._lines()]
        return {
            "not_copied": [
                " ".join([pairs[0].source, *(each.target for each in pairs)]) for pairs in left if pairs
            ],
            "totals": {"copies": len(result.copies), **counts, **result.totals()},
            "seconds": result.seconds,
        }


class ArchiveReport(ListReport):
    """The copies of references into one archive, and its files."""

    def __init__(self, result: ManyResult, tally: Tally, place: str, written: Written | None) -> None:
        super().__init__(result, tally)
        self._place, self._written = place, written

    def lines(self) -> Iterator[str]:
        """As `Report.lines`: one for each reference too, as none is in the archive before its end."""
        width = result_width(sys.stdout)
        for each in self._result.copies:
            if each.result is not None:
                yield closing_line(each.result, width) + "\n"
        yield from super().lines()
        if (written := self._written) is None:
            return
        parts = f" in {count(len(written.files), 'part')}" if len(written.files) > 1 else ""
        size = f", {format_size(sum(each.size for each in written.files))}" if written.files else ""
        left_out = ""
        if written.blobs_left_out:
            left_out = f"; left out {count(written.blobs_left_out, 'blob')}"
            left_out += f" ({format_size(written.bytes_left_out)})"
        yield f"wrote {self._place}{parts}{size}{left_out}\n"

    def _members(self) -> dict[str, Any]:
        written = self._written
        if written is None:
            return {**super()._members(), "archive": None}
        return {
            **super()._members(),
            "archive": {
                "name": self._place,
                "files": [
                    {"path": str(each.path), "size": each.size, "sha256": each.sha256}
                    for each in written.files
                ],
                "blobs_left_out": written.blobs_left_out,
                "bytes_left_out": written.bytes_left_out,
            },
        }


class MirrorReport(_ManyReport):
    """The copies of a mirror, kept in temporary files until it ends. Use it in a ``with`` block.

    `result` is to be set when the mirror is over. What no form needs is not kept.
    """

    result: MirrorResult

    def __init__(self, entry: Entry, shard: Shard | None, *, keeps: bool) -> None:
        """`keeps` the documents of copies, which only JSON needs."""
        self._entry = entry
        self._shard = shard
        self._keeps = keeps
        self._documents = _open_temporary()

    def __enter__(self) -> MirrorReport:
        return self

    def __exit__(self, *_: object) -> None:
        self._documents.close()

    def add(self, result: PairResult, blobs: Sequence[BlobDone]) -> None:
        """Add one copy. Raises `StoreError` when the temporary file cannot be written."""
        if not self._keeps:
            return
        try:
            self._documents.write(f"{_pair_line(result)}\t{_blobs_line(blobs)}\n")
        except OSError as error:
            from tempfile import gettempdir

            raise StoreError(
                f"cannot keep the results in {gettempdir()}: {error.strerror}",
                advice=Advice("set-variable", "make room there, or set TMPDIR to another folder"),
            ) from None

    def finish(self, result: MirrorResult) -> None:
        """Add the result of the run, and the copies that it did not finish."""
        self.result = result
        for each in result.unfinished:
            self.add(each, ())

    def lines(self) -> Iterator[str]:
        """As `Report.lines`: one for all. Each tag that was copied had its line when it ended."""
        result = self.result
        where = f"{count(result.repositories, 'repository', 'repositories')}, {count(result.tags, 'tag')}"
        targets = len(self._entry.targets)
        where += f" to {count(targets, 'registry', 'registries')}" if targets > 1 else ""
        where += f", shard {self._shard}" if self._shard is not None else ""
        left_out = f", {result.left_out} left out" if result.left_out else ""
        left_out += f", {result.reported} left as they are" if result.reported else ""
        what = f"{result.copied} copied, {result.unchanged} unchanged{left_out}, {result.failed} failed"
        yield f"mirrored {where}: {what}  {brief_counts(result.totals, result.seconds)}\n"

    def _origin(self) -> dict[str, Any]:
        names = {"source": str(self._entry.source), "targets": list(map(str, self._entry.targets))}
        return {**names, "shard": str(self._shard)} if self._shard is not None else names

    def _copies(self) -> Iterator[tuple[str, str]]:
        self._documents.seek(0)
        for line in self._documents:
            copy, _, blobs = line.rstrip("\n").partition("\t")
            yield copy, blobs

    def _members(self) -> dict[str, Any]:
        result = self.result
        statuses = [each.status for each in result.unfinished]
        left = [*result.failures, *result.unfinished]
        return {
            "not_copied": [f"{each.source} {each.target}" for each in left],
            "totals": {
                "repositories": result.repositories,
                "tags": result.tags,
                "copies": result.copies,
                "copied": result.copied,
                "unchanged": result.unchanged,
                "left_out": result.left_out,
                "reported": result.reported,
                "failed": result.failed,
                "cancelled": statuses.count("cancelled"),
                "not_begun": statuses.count("not begun"),
                **result.totals,
            },
            "seconds": result.seconds,
            "warnings": list(map(warning_text, result.warnings)),
        }


def _open_temporary() -> TextIO:
    """A temporary file, or memory (about 1 KB per copy) where no folder is writable."""
    from tempfile import TemporaryFile  # here: one copy does not need it

    try:
        return TemporaryFile("w+", encoding="utf-8")
    except OSError:  # a read-only container without /tmp
        return io.StringIO()


# -- lines and objects -----------------------------------------------------------------------------------


def closing_line(result: CopyResult, width: int | None = None) -> str:
    """The result of a copy in one line, of at most `width` characters."""
    brief, whole = _VERIFIED[result.verified]
    notes = [brief] if brief else []
    if result.merged:
        whole += f"; with the target's own content, so the digest is not the source's {result.source_digest}"
        notes.append("merged")
    elif result.digest_changed:
        whole += f"; chosen by --platform, so the digest is not the source's {result.source_digest}"
        notes.append("chosen by --platform")
    counts = counts_of(result.as_dict(), result.seconds) if width is None else ""
    note = whole if width is None else ", ".join(notes)
    return result_line(result.source, result.target, result, width, counts=counts, note=note)


def brief_counts(values: Mapping[str, Any], seconds: float) -> str:
    """``431.2 MiB in 4.1 s, 139.0 MiB/s, 2 retries`` from the sums of many copies."""
    words = [f"{format_size(values['bytes_moved'])} in {format_duration(seconds)}"]
    if values["bytes_moved"] and seconds > 0:
        words.append(f"{format_size((values['bytes_moved'] - values['bytes_resumed']) / seconds)}/s")
    words += [f"{format_size(values['bytes_resumed'])} sent before"] if values["bytes_resumed"] else []
    words += [f"{format_size(values['bytes_spooled'])} spooled"] if values["bytes_spooled"] else []
    words += [count(values["retries"], "retry", "retries")] if values["retries"] else []
    return ", ".join(words)


def counts_of(values: Mapping[str, Any], seconds: float) -> str:
    """``3 manifests, 2 blobs moved (…), …`` from the figures of one copy, or from sums."""
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


def _values(result: CopyResult) -> dict[str, Any]:
    return {**result.as_dict(), "warnings": list(map(warning_text, result.warnings))}


def _targets_values(result: TargetsResult) -> dict[str, Any]:
    return {
        "source": result.source,
        "digest": result.digest,
        "source_bytes": result.source_bytes,
        "targets": [{**_values(each), "error": _error_document(each.error)} for each in result.targets],
    }


def _pair_line(each: PairResult) -> str:
    values = _values(each.result) if each.result is not None else {}
    names = {"source": each.source, "target": each.target, "status": each.status}
    return json.dumps({**names, **values, "error": _error_document(each.error)})


def _error_document(error: BaseException | None) -> dict[str, Any] | None:
    return error_document(error) if error is not None else None


def _versions() -> dict[str, str]:
    from crossdock import _kernels

    return {"version": __version__, "kernels": _kernels.BACKEND}


def _blob_documents(done: Iterable[BlobDone]) -> list[dict[str, Any]]:
    return [{"digest": each.digest, "size": each.size, "outcome": each.outcome} for each in done]


def _blobs_line(done: Iterable[BlobDone]) -> str:
    return json.dumps(_blob_documents(done))


# -- the file --------------------------------------------------------------------------------------------


@contextmanager
def beside_an_error() -> Iterator[None]:
    """Turn an `OutputFailed` of the report into a warning: the failure that is reported comes first."""
    try:
        yield
    except OutputFailed as error:
        print_error(f"warning: {error}")


def check_outputs(command: str, reads: Path | None, **writes: Path | None) -> None:
    """Raise `UsageError` for a flag of `command` that writes the file that it reads, or another flag's.

    `writes` are the files of flags, by their names without dashes.
    """
    known: dict[str, str] = {}
    if reads is not None:
        known[os.path.realpath(reads)] = "the file that is read"
    for flag, path in writes.items():
        if path is None or not (os.path.isfile(path) or not os.path.exists(path)):
            continue  # two may go to one pipe or device
        place = os.path.realpath(path)
        if place in known:
            raise UsageError(f"--{flag}: {str(path)!r} is {known[place]}", command=command)
        known[place] = f"the file of --{flag}"


class ReportFile:
    """The file of ``--report`` or ``--html``: opened before anything is copied, written at the end.

    Without a path every method does nothing. Raises `UsageError` when the file cannot be opened for writing.
    """

    def __init__(
        self, path: Path | None, flag: str = "--report", what_is_left: str = "everything was copied"
    ) -> None:
        """`what_is_left`: what a reader may rely on when the file cannot be written in the end."""
        self._path = path
        self._flag = flag
        self._what_is_left = what_is_left
        self._file = None
        if path is not None:
            try:
                self._file = path.open("w", encoding="utf-8")
            except OSError as error:
                raise UsageError(f"{flag}: cannot write {str(path)!r}: {error.strerror}") from None

    def __enter__(self) -> ReportFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # `write` has flushed, and raised
                file.close()

    def write(self, parts: Iterable[str]) -> None:
        """Write pieces of the document. Raises `OutputFailed` when that fails."""
        if self._file is None:
            return
        try:
            for part in parts:
                self._file.write(part)
            self._file.flush()
        except OSError as error:
            reason = f"{self._flag}: cannot write {str(self._path)!r}: {error.strerror}"
            raise OutputFailed(reason, advice=Advice("nothing-to-do", self._what_is_left)) from None
