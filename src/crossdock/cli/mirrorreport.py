"""What a mirror did, kept in a temporary file until it is over: there may be millions of copies."""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from crossdock.cli.failure import error_document
from crossdock.cli.report import blob_documents, closing_line, counts_of, pair_document, versions
from crossdock.errors import StoreError
from crossdock.events import BlobDone
from crossdock.many import PairResult
from crossdock.mirroring.run import MirrorResult
from crossdock.units import count


class Ledger:
    """One line a copy, as JSON and as a person reads it; as far as anybody asked for it."""

    def __init__(self, namespace: argparse.Namespace) -> None:
        self._is_json = namespace.output == "json"
        self._keeps_documents = self._is_json or namespace.report is not None
        self._targets = len(namespace.targets)
        self._documents = _open_temporary()
        self._lines = _open_temporary()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._documents.close()
        self._lines.close()

    def add(self, result: PairResult, blobs: Sequence[BlobDone]) -> None:
        """Note how one copy ended. Raises `StoreError` when the temporary file cannot be written."""
        try:
            if self._keeps_documents:
                shown = json.dumps(pair_document(result))
                self._documents.write(f"{shown}\t{json.dumps(blob_documents(blobs))}\n")
            if result.status == "copied" and result.result is not None and not self._is_json:
                self._lines.write(closing_line(result.result) + "\n")
        except OSError as error:
            raise StoreError(
                f"cannot keep the results in {tempfile.gettempdir()}: {error.strerror}",
                hint="make room there, or set TMPDIR to another folder",
            ) from None

    def finish(self, result: MirrorResult) -> None:
        """Note what the end of the run left."""
        for each in result.unfinished:
            self.add(each, ())

    def shown(self, result: MirrorResult) -> Iterator[str]:
        """What goes to stdout, in pieces."""
        if self._is_json:
            yield from self._document(result, {}, has_blobs=False)
            return
        self._lines.seek(0)
        yield from self._lines
        where = f"{count(result.repositories, 'repository', 'repositories')}, {count(result.tags, 'tag')}"
        where += f" to {count(self._targets, 'registry', 'registries')}" if self._targets > 1 else ""
        left_out = f", {result.left_out} left out" if result.left_out else ""
        what = f"{result.copied} copied, {result.unchanged} unchanged{left_out}, {result.failed} failed"
        yield f"mirrored {where}: {what}  {counts_of(result.totals, result.seconds)}\n"

    def report(self, result: MirrorResult, error: BaseException | None) -> Iterator[str]:
        """What goes to the file of ``--report``, in pieces."""
        ended = error_document(error) if error is not None else None
        yield from self._document(result, {**versions(), "error": ended}, has_blobs=True)

    def _document(self, result: MirrorResult, common: dict[str, Any], *, has_blobs: bool) -> Iterator[str]:
        yield '{\n  "copies": ['
        self._documents.seek(0)
        for number, line in enumerate(self._documents):
            shown, _, blobs = line.rstrip("\n").partition("\t")
            whole = f'{shown[:-1]}, "blobs": {blobs}}}' if has_blobs else shown
            yield f"{',' if number else ''}\n    {whole}"
        left = [*result.failures, *result.unfinished]
        statuses = [each.status for each in result.unfinished]
        totals = {
            "repositories": result.repositories,
            "tags": result.tags,
            "copies": result.copies,
            "copied": result.copied,
            "unchanged": result.unchanged,
            "left_out": result.left_out,
            "failed": result.failed,
            "cancelled": statuses.count("cancelled"),
            "not_begun": statuses.count("not begun"),
            **result.totals,
        }
        rest = {
            "not_copied": [f"{each.source} {each.target}" for each in left],
            "totals": totals,
            "seconds": result.seconds,
            "warnings": list(result.warnings),
            **common,
        }
        yield "\n  ]," + json.dumps(rest, indent=2).removeprefix("{") + "\n"


def _open_temporary() -> TextIO:
    """A temporary file; memory where no folder for one can be written, about 1 KB for each copy."""
    try:
        return tempfile.TemporaryFile("w+", encoding="utf-8")
    except OSError:  # a container whose root is read-only and that has no /tmp
        return io.StringIO()
