"""``index.json`` and ``oci-layout`` of an OCI image layout. Blocking; call it in a thread.

Entries stay the plain JSON objects they are, so fields of other tools survive an update. An update takes a
lock on the ``oci-layout`` file, reads, changes, and replaces ``index.json`` in one step: several processes
may write one layout at once, readers never wait. skopeo, umoci and others take no lock; running one of them
at the same moment can lose an entry, as it can between two of them.

Rules of the entries:

- A tag is an entry with the annotation ``org.opencontainers.image.ref.name``; a manifest with two tags
  has two entries.
- A tag that moves leaves its old manifest in the index without a name, as skopeo does
  (containers/image, oci/layout addManifest), unless another entry holds it: what was reachable by digest
  stays so.
- A manifest inside an index that is listed needs no entry of its own, so a layout of one
  multi-platform image has one entry and can be read without a tag.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from crossdock.errors import (
    Advice,
    ContentError,
    LimitExceeded,
    StoreError,
)
from crossdock.oci.digest import ALGORITHMS
from crossdock.oci.reference import ARCHIVE_HINT
from crossdock.oci.text import quote, without_half_pairs
from crossdock.store.files import explain, explained, read_file, replace_file, sync_folder
from crossdock.store.folder import Folder

Entry = dict[str, Any]

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"  # full reference, written by containerd and BuildKit
_NAMES = (REF_NAME, IMAGE_NAME)
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"

INDEX_LIMIT = 32 << 20  # bytes: some 100 000 tags
LAYOUT_LIMIT = 64 << 10
_INDEX_MEMBERS = frozenset({"schemaVersion", "mediaType", "artifactType", "subject", "annotations"})
LOCK_TIMEOUT = 60.0  # an update holds the lock for milliseconds; NFS can take seconds


class IndexFile:
    """The entry points of one layout. Safe to share between threads."""

    def __init__(self, root: Path | Folder) -> None:
        self.folder = root if isinstance(root, Folder) else Folder(root)
        self.root = self.folder.path
        self._mutex = threading.Lock()  # flock would do, but waits by polling
        self._cached: tuple[object, list[Entry]] = (None, [])

    @property
    def path(self) -> Path:
        """The path of ``index.json``."""
        return self.root / "index.json"

    def exists(self) -> bool:
        """Whether `root` is a layout. One that is being made has no ``index.json`` yet, and is not."""
        return self._is_file("oci-layout") and self._is_file("index.json")

    def entries(self) -> list[Entry]:
        """The descriptors of ``index.json``; shared, not to be changed.

        Raises `StoreError` (not a layout, not readable), `ContentError` (damaged), `LimitExceeded`.
        """
        try:
            found = self.folder.stat("index.json")
        except OSError:
            found = None
        signature = found and (found.st_ino, found.st_mtime_ns, found.st_size)
        if signature is None or signature != self._cached[0]:
            self._check_layout()
            self._cached = signature, entries_of(self._load(), self.path)
        return self._cached[1]

    def create(self) -> None:
        """Make `root` a layout if it is not one. Raises `StoreError`."""
        if self.exists():
            self._check_layout()
            return
        with explained("cannot make a layout of", self.root):
            with self.folder.entered("blobs", "sha256", create=True):
                pass
            if not self._is_there("oci-layout"):
                self._mark()
            with self._locked(), self.folder.entered() as folder:
                if not self._is_there("index.json"):
                    replace_file(folder, "index.json", _encode(_empty()))

    def update(self, change: Callable[[list[Entry]], None]) -> None:
        """Read the entries, let `change` alter the list, and write it back if it did.

        Every blob that was given its name before is on disk when the new index is. Raises `StoreError`,
        `ContentError` and what `change` raises; then nothing has changed. What could not be read again is not
        written: an index of more than `INDEX_LIMIT` bytes is a `StoreError` with ``EFBIG``.
        """
        self._check_layout()
        with self._locked():
            document = self._load()
            entries = entries_of(document, self.path)
            before = _encode(document)
            change(entries)
            after = _encode(document)
            if after == before:
                return
            if len(after) > INDEX_LIMIT:
                raise self._too_large(len(after))
            with explained("cannot write", self.path):
                self._sync_blobs()
                with self.folder.entered() as folder:
                    replace_file(folder, "index.json", after)
                    sync_folder(folder)

    def remove(self) -> None:
        """Delete ``index.json``: the folder is not a layout any more. Raises `StoreError`."""
        with (
            self._locked(),
            explained("cannot delete", self.path),
            suppress(FileNotFoundError),
            self.folder.entered() as folder,
        ):
            os.unlink("index.json", dir_fd=folder)

    def _sync_blobs(self) -> None:
        for algorithm in ALGORITHMS:
            with suppress(FileNotFoundError), self.folder.entered("blobs", algorithm) as folder:
                sync_folder(folder)

    def _too_large(self, size: int) -> StoreError:
        error = StoreError(
            f"{self.path} would have {size} bytes, over the limit of {INDEX_LIMIT}; it stays as it was",
            advice=Advice("delete-tags", "delete tags that are no longer needed, or use another layout"),
        )
        error.errno = errno.EFBIG
        return error

    def _is_file(self, name: str) -> bool:
        found = self._is_there(name)
        return found is not None and stat.S_ISREG(found.st_mode)

    def _is_there(self, name: str) -> os.stat_result | None:
        try:
            return self.folder.stat(name)
        except OSError:
            return None

    def _check_layout(self) -> None:
        path = self.root / "oci-layout"
        try:
            data = read_file(self.folder, "oci-layout", LAYOUT_LIMIT)
        except StoreError:
            raise
        except (FileNotFoundError, NotADirectoryError):
            if self.root.exists() and not self.root.is_dir():
                raise StoreError(
                    f"{self.root} is a file, and a layout is a folder",
                    advice=Advice("unpack-archive", ARCHIVE_HINT),
                ) from None
            if not self.root.is_dir():
                raise StoreError(
                    f"{self.root}: no such folder",
                    advice=Advice("check-folder", "give the folder of an OCI image layout"),
                ) from None
            raise StoreError(
                f"{self.root} is not an OCI image layout: it has no oci-layout file",
                advice=Advice(
                    "check-folder",
                    self._other_format() or "give the folder that holds oci-layout, index.json and blobs",
                ),
            ) from None
        except OSError as error:
            raise explain("cannot read", path, error) from error
        check_version(path, data)

    def _other_format(self) -> str:
        """Advice for a folder of skopeo's ``dir:`` or an unpacked archive of docker; else nothing."""
        if not self._is_file("manifest.json"):
            return ""
        if self._is_file("version"):
            return f"it is in the format dir: of skopeo; `skopeo copy dir:{self.root} oci:NEW` converts it"
        return "it is an unpacked archive of docker; `skopeo copy docker-archive:FILE oci:NEW` converts that"

    def _load(self) -> dict[str, Any]:
        try:
            data = read_file(self.folder, "index.json", INDEX_LIMIT + 1)
        except StoreError:
            raise
        except FileNotFoundError:
            raise StoreError(
                f"{self.root} is not a whole OCI image layout: index.json is missing",
                advice=Advice("recreate-layout", "copy the content into a new folder"),
            ) from None
        except OSError as error:
            raise explain("cannot read", self.path, error) from error
        if len(data) > INDEX_LIMIT:
            raise LimitExceeded(f"{self.path} has more than {INDEX_LIMIT} bytes")
        return decode(self.path, data)

    def _mark(self) -> None:
        temporary = f".oci-layout-{secrets.token_hex(4)}"
        with self.folder.entered() as folder:
            replace_file(folder, temporary, b'{"imageLayoutVersion":"1.0.0"}')
            try:
                # Not a rename: the file that others may have locked already must stay.
                with suppress(FileExistsError):
                    os.link(temporary, "oci-layout", src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:  # a file system without hard links
                replace_file(folder, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            finally:
                os.unlink(temporary, dir_fd=folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        stop = time.monotonic() + LOCK_TIMEOUT
        if not self._mutex.acquire(timeout=LOCK_TIMEOUT):
            raise self._busy()
        try:
            descriptor = self._lock(stop)
            try:
                yield
            finally:
                os.close(descriptor)
        finally:
            self._mutex.release()

    def _lock(self, stop: float) -> int:
        path = self.root / "oci-layout"
        pause = 0.001
        while True:
            with explained("cannot write", path):
                # For writing, because NFS gives an exclusive lock on nothing less.
                descriptor = self.folder.open("oci-layout", flags=os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_ino == self.folder.stat("oci-layout").st_ino:
                    return descriptor
            except BlockingIOError:
                pass
            except OSError as error:
                os.close(descriptor)
                raise explain("cannot lock", path, error) from error
            os.close(descriptor)
            if time.monotonic() > stop:
                raise self._busy()
            time.sleep(pause)
            pause = min(pause * 2, 0.1)

    def _busy(self) -> StoreError:
        return StoreError(
            f"{self.path} is being written by another process for more than {LOCK_TIMEOUT:.0f} s",
            advice=Advice("end-process", "find the process (fuser oci-layout) and let it end"),
        )


def check_version(path: Path, data: bytes) -> None:
    """Raise `StoreError` when the ``oci-layout`` file at `path` states a version that is not known."""
    version = decode(path, data).get("imageLayoutVersion")
    # image-layout.md: "The imageLayoutVersion value will align with the OCI Image Specification
    # version at the time changes to the layout are made": 1.x is this layout.
    if not isinstance(version, str) or not version.startswith("1."):
        raise StoreError(
            f"{path.parent} is a layout of version {version!r}, which is not known",
            advice=Advice("check-folder", "this crossdock reads and writes version 1.0.0"),
        )


def entries_of(document: dict[str, Any], path: Path) -> list[Entry]:
    """The descriptors that the index lists; those of `document` itself. Raises `ContentError`."""
    if "manifests" not in document and (strange := sorted(document.keys() - _INDEX_MEMBERS)):
        # Another JSON file under this name: what an update wrote back would be published with the layout.
        raise ContentError(
            f"{path} is damaged: it is not an index, it has no manifests but {quote(strange[0])}",
            advice=Advice("recreate-layout", "copy the content into a new folder"),
        )
    entries = document.setdefault("manifests", [])
    if entries is None:  # Go programs write null for an empty list
        entries = document["manifests"] = []
    if not isinstance(entries, list) or not all(_is_descriptor(entry) for entry in entries):
        raise ContentError(
            f"{path} is damaged: its manifests are not a list of descriptors",
            advice=Advice("recreate-layout", "copy the content into a new folder"),
        )
    return entries


def name_of(entry: Entry) -> str | None:
    """The tag of an entry, None when it has none."""
    name = (entry.get("annotations") or {}).get(REF_NAME)
    return name if isinstance(name, str) and name else None


def names_of(entry: Entry) -> list[str]:
    """The names of an entry, exact tag first, whole image name last."""
    image = (entry.get("annotations") or {}).get(IMAGE_NAME)
    return [name for name in (name_of(entry), image) if isinstance(name, str)]


def tags_of(entries: list[Entry]) -> list[tuple[str, Entry]]:
    """The name by which each entry is listed and found; entries without one are left out.

    It is the tag, or the whole image name where there is no tag, or one that several images have.
    """
    images: dict[str, set[str]] = {}
    for entry in entries:
        if (tag := name_of(entry)) is not None:
            images.setdefault(tag, set()).add(names_of(entry)[-1])
    shown = []
    for entry in entries:
        tag, names = name_of(entry), names_of(entry)
        if names and names[-1]:
            shown.append((names[-1] if tag is None or len(images[tag]) > 1 else tag, entry))
    return shown


def entries_by_tag(entries: list[Entry], tag: str) -> Iterator[list[Entry]]:
    """Entries that `tag` may mean, group by group, the best reading first. See `layout` for the rules."""
    yield [entry for entry in entries if name_of(entry) == tag]
    yield [entry for entry in entries if tag in names_of(entry)]
    yield [entry for entry in entries if any(_tag_at_end(name) == tag for name in names_of(entry))]


def tag_in(name: str) -> str:
    """``v1`` of ``registry.example:5000/app:v1``; `name` itself when it is a tag alone."""
    return _tag_at_end(name) if "/" in name else name


def _tag_at_end(name: str) -> str:
    """``v1`` of ``registry.example:5000/app:v1``; empty when there is none."""
    return name.rpartition("/")[2].partition(":")[2]


def set_tag(entries: list[Entry], entry: Entry, tag: str) -> None:
    """Let `tag` mean `entry`, a descriptor without annotations. Fields of other tools stay where they are."""
    drop_tag(entries, tag, unless=entry["digest"])
    for at, old in enumerate(entries):
        if old["digest"] == entry["digest"] and name_of(old) in (None, tag):
            annotations = {**(old.get("annotations") or {}), REF_NAME: tag}
            entries[at] = {**old, **entry, "annotations": annotations}
            return
    entries.append({**entry, "annotations": {REF_NAME: tag}})


def drop_tag(entries: list[Entry], tag: str, *, unless: str = "") -> bool:
    """Take `tag` away; its manifest keeps an entry. False when there was no such tag."""
    found = False
    for entry in [entry for entry in entries if name_of(entry) == tag and entry["digest"] != unless]:
        found = True
        at = next(at for at, other in enumerate(entries) if other is entry)
        if sum(other["digest"] == entry["digest"] for other in entries) > 1:
            del entries[at]
            continue
        kept = {key: value for key, value in entry["annotations"].items() if key not in _NAMES}
        entries[at] = {key: value for key, value in entry.items() if key != "annotations"}
        if kept:
            entries[at]["annotations"] = kept
    return found


def add_untagged(entries: list[Entry], entry: Entry) -> None:
    """List `entry` without a tag, unless its digest is listed."""
    if all(old["digest"] != entry["digest"] for old in entries):
        entries.append(entry)


def _is_descriptor(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("digest"), str)
        and isinstance(entry.get("size"), int)
        and isinstance(entry.get("mediaType", ""), str)
        and isinstance(entry.get("annotations") or {}, dict)
    )


def _empty() -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}


def _encode(document: dict[str, Any]) -> bytes:
    return msgspec.json.encode(document)


def decode(path: Path, data: bytes) -> dict[str, Any]:
    """The JSON object in `data`, the file at `path`. Raises `ContentError`."""
    try:
        document = msgspec.json.decode(without_half_pairs(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ContentError(
            f"{path} is damaged: {error}",
            advice=Advice("recreate-layout", "copy the content into a new folder"),
        ) from error
    if not isinstance(document, dict):
        raise ContentError(
            f"{path} is damaged: not a JSON object",
            advice=Advice("recreate-layout", "copy the content into a new folder"),
        )
    return document
