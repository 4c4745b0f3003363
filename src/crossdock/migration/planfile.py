"""PLAN.json: a plan as it was reviewed, with everything that `apply` needs to do exactly that.

One JSON document that is written and read a line at a time, since a plan has up to millions of tags. Its
first line holds the settings of the file, then comes one for each repository of an entry, last the sums::

    {"version": 1, "file": …, "digest": …, "limits": {…}, "mirrors": [{…}, …], "repositories": [
    {"mirror": 0, "name": "app", "tags": {"v1": ["sha256:…", "sha256:…", null]}, …, "delete": [{…}], …},
    …
    ], "plan": {…}}

Of each tag: what it means at the source, then at each target; null is nothing. No secret is in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from crossdock.errors import Advice, InvalidInput, OutputFailed
from crossdock.migration.file import Limits, MigrationFile
from crossdock.migration.plan import Plan
from crossdock.mirroring.choice import TagChoice
from crossdock.mirroring.entry import Deletes, Entry
from crossdock.mirroring.names import Namespace
from crossdock.mirroring.patterns import Patterns
from crossdock.mirroring.rename import Naming
from crossdock.mirroring.views import RepositoryView
from crossdock.oci.digest import Digest
from crossdock.oci.reference import LayoutReference, is_tag
from crossdock.outfile import OutFile

VERSION = 1
LONGEST_LINE = 64 << 20  # bytes; a repository of 200,000 tags has 40 MiB
_REPOSITORIES = re.compile(rb'"repositories"\s*:\s*\[')  # in a migration file it is an object
_OPENING = '"repositories": ['
_CLOSING = '], "plan": '


class PlannedRepository(Struct, frozen=True, kw_only=True):
    """One repository of an entry, as it was when the plan was made.

    `tags`, and `untagged` by digest, say what each means at the source and at each target, in the entry's
    order. `delete` has the tags that each target is to lose and what they mean there, `bytes` is the size of
    blobs that the targets' repositories lack, each for itself.
    """

    mirror: int
    name: str  # below the source's prefix
    tags: dict[str, tuple[Digest | None, ...]]
    untagged: dict[Digest, tuple[Digest | None, ...]] = {}
    delete: tuple[dict[str, Digest | None], ...] = ()
    bytes: int = 0


class PlanWriter:
    """Writes a plan to `path`, which has it when it is whole."""

    def __init__(self, path: Path, file: MigrationFile) -> None:
        """Raises `OutputFailed`."""
        self.path = path
        self._count = 0
        try:
            self._file = OutFile(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        head = {
            "version": VERSION,
            "file": file.place,
            "digest": file.digest,
            "limits": msgspec.to_builtins(file.limits),
            "mirrors": [entry_document(each) for each in file.entries],
        }
        self._write(f"{json.dumps(head)[:-1]}, {_OPENING}\n")

    def add(
        self, mirror: int, view: RepositoryView, delete: tuple[Mapping[str, Digest | None], ...], lacking: int
    ) -> None:
        """One repository, with the tags that each target is to lose, and the bytes that they lack.

        Raises `OutputFailed`.
        """
        row = {
            "mirror": mirror,
            "name": view.name,
            "tags": {
                tag: (digest, *(there.tags.get(tag) for there in view.targets))
                for tag, digest in view.tags.items()
            },
            "untagged": {
                digest: (digest, *(digest if digest in there.digests else None for there in view.targets))
                for digest in view.untagged
            },
            "delete": delete if any(delete) else (),
            "bytes": lacking,
        }
        separator = ",\n" if self._count else ""
        self._count += 1
        self._write(separator + json.dumps(row))

    def finish(self, plan: Plan) -> None:
        """The plan is whole: put it in its place. Raises `OutputFailed`."""
        self._write(f"\n{_CLOSING}{json.dumps(plan.document())}}}\n")
        try:
            self._file.finish(durable=True)
        except OSError as error:
            self.discard()
            raise _unwritable(self.path, error) from error

    def discard(self) -> None:
        """Leave nothing behind. Does nothing after `finish`."""
        self._file.discard()

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
        except OSError as error:
            self.discard()
            raise _unwritable(self.path, error) from error


class PlanFile(Struct, frozen=True, kw_only=True):
    """A plan that is read: what the migration file said, and the path to read repositories from."""

    path: Path
    file: MigrationFile

    def repositories(self) -> Iterator[PlannedRepository]:
        """The repositories, one at a time. Blocks. Raises `InvalidInput` for a file that is not whole."""
        for number, line in enumerate(_lines(self.path)):
            where = f"repositories[{number}]"
            try:
                planned = _repository(json.loads(line))
            except KeyError as error:
                raise _damaged(self.path, f"{where} has no {error}") from None
            except (ValueError, TypeError, AttributeError) as error:
                raise _damaged(self.path, f"{where}: {error}") from None
            if wrong := self._wrong(planned):
                raise _damaged(self.path, f"{where}: {wrong}")
            yield planned

    def _wrong(self, planned: PlannedRepository) -> str:
        """The reason why a repository does not fit the entries, as in an edited file; empty: it fits."""
        entries = self.file.entries
        if not 0 <= planned.mirror < len(entries):
            return f"mirror is {planned.mirror}, and the plan's mirrors are 0 to {len(entries) - 1}"
        targets = len(entries[planned.mirror].targets)
        for name, meant in (*planned.tags.items(), *planned.untagged.items()):
            if len(meant) != targets + 1:
                return f"{name} must have {targets + 1} digests: of the source and of each target"
        if planned.delete and len(planned.delete) != targets:
            return f"delete must have {targets} members, one for each target"
        tags = (*planned.tags, *(tag for each in planned.delete for tag in each))
        is_layout = isinstance(entries[planned.mirror].source, LayoutReference)  # its names may be anything
        wrong = next((tag for tag in tags if not is_layout and not is_tag(tag)), None)
        return f"{wrong!r} is not a valid tag" if wrong is not None else ""


def is_plan(path: Path) -> bool:
    """Whether the file is a plan, not a migration file. Blocks; False for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{" and _REPOSITORIES.search(file.read(1 << 20)) is not None
    except OSError:
        return False


def read_plan(path: Path) -> PlanFile:
    """The plan in the file, without its repositories. Blocks. Raises `InvalidInput`."""
    try:
        with path.open("rb") as file:
            head = file.readline(LONGEST_LINE)
    except OSError as error:
        raise InvalidInput(f"cannot read the plan {path}: {error.strerror}") from error
    text = head.decode("utf-8", "replace").rstrip()
    try:
        document = json.loads(f"{text}]}}") if text.endswith(_OPENING) else _whole(path)
        if document["version"] != VERSION:
            raise _damaged(path, f"its version is {document['version']}, and this one reads {VERSION}")
        limits = msgspec.convert(document["limits"], Limits)
        entries = tuple(entry_of(each) for each in document["mirrors"])
        file_name, digest = str(document["file"]), str(document["digest"])
    except (ValueError, KeyError, TypeError, msgspec.MsgspecError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise _damaged(path, str(error)) from None
    planned = MigrationFile(entries=entries, digest=digest, limits=limits, place=file_name)
    return PlanFile(path=path, file=planned)


# -- entries -----------------------------------------------------------------------------------------------

_PARTS: Mapping[str, Any] = {
    "repositories": Patterns,
    "tags": TagChoice,
    "untagged": bool,
    "platforms": tuple[str, ...],
    "referrers": str,
    "naming": Naming,
    "existing": str,
    "deletes": Deletes,
}


def entry_document(entry: Entry) -> dict[str, Any]:
    """An entry as JSON values."""
    return {
        "name": entry.name,
        "source": str(entry.source),
        "targets": [str(each) for each in entry.targets],
        **{name: msgspec.to_builtins(getattr(entry, name)) for name in _PARTS},
        "place": entry.place,
    }


def entry_of(document: Mapping[str, Any]) -> Entry:
    """The entry of JSON values. Raises `InvalidInput`, KeyError and msgspec's errors."""
    source = str(document["source"])
    parts = {name: msgspec.convert(document[name], kind) for name, kind in _PARTS.items()}
    return Entry(
        name=str(document["name"]),
        source=LayoutReference.parse(source) if source.startswith("oci:") else Namespace.parse(source),
        targets=tuple(Namespace.parse(str(each)) for each in document["targets"]),
        place=str(document["place"]),
        **parts,
    )


# -- reading -----------------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[bytes]:
    """The JSON of each repository."""
    with path.open("rb") as file:
        head = file.readline(LONGEST_LINE)
        if not head.rstrip().endswith(_OPENING.encode()):  # written anew by another tool
            for each in _whole(path)["repositories"]:
                yield json.dumps(each).encode()
            return
        while line := file.readline(LONGEST_LINE):
            if line.startswith(_CLOSING.encode()):
                return
            if not line.endswith(b"\n"):
                break
            yield line.rstrip().removesuffix(b",")
    raise _damaged(path, "it ends before its sums")


def _whole(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_bytes())
    if not isinstance(document, dict) or not isinstance(document.get("repositories"), list):
        raise _damaged(path, "it has no list of repositories")
    return document


def _repository(row: Mapping[str, Any]) -> PlannedRepository:
    if unknown := row.keys() - set(PlannedRepository.__struct_fields__):
        raise ValueError(f"{min(unknown)!r} is unknown")
    if not isinstance(row["name"], str):
        raise TypeError("name is not a string")
    return PlannedRepository(
        mirror=int(row["mirror"]),
        name=row["name"],
        tags={str(tag): _digests(each) for tag, each in row["tags"].items()},
        untagged={Digest(digest): _digests(each) for digest, each in row["untagged"].items()},
        delete=tuple(
            {str(tag): None if digest is None else Digest(digest) for tag, digest in each.items()}
            for each in row["delete"]
        ),
        bytes=int(row.get("bytes", 0)),
    )


def _digests(row: Iterable[str | None]) -> tuple[Digest | None, ...]:
    return tuple(None if each is None else Digest(each) for each in row)


def _damaged(path: Path, why: str) -> InvalidInput:
    return InvalidInput(
        f"{path} is not a plan that can be applied: {why}",
        advice=Advice("make-again", "make the plan again"),
    )


def _unwritable(path: Path, error: OSError) -> OutputFailed:
    return OutputFailed(f"cannot write the plan {path}: {error.strerror}")
