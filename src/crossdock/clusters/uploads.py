"""The uploads of a run on a cluster, in the journal of its client: a later run can resume them too."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from crossdock.clusters.asking import key_of
from crossdock.errors import Notice
from crossdock.kept.database import open_existing
from crossdock.kept.journal import Journal
from crossdock.kept.uploads import SavedUpload

if TYPE_CHECKING:
    from crossdock.kept.keeper import Lock


class KeptUploads:
    """The uploads in the journal. Blocks on the disk, and raises nothing: a run needs no journal."""

    def __init__(self, folder: Path | None, journal: Journal | None) -> None:
        self._folder, self._journal = folder, journal
        self._locks: dict[str, Lock | None] = {}
        self._saved: dict[str, SavedUpload] = {}

    def load(self, registries: Sequence[str]) -> dict[str, bytes]:
        """The uploads into `registries` that earlier runs left and no copy is resuming."""
        if self._folder is None or self._journal is None:
            return {}
        try:
            database = open_existing(self._folder)
            if database is None:
                return {}
            try:
                found = [each for each in database.uploads() if each.key.registry in registries]
                found = [each for each in found if not database.in_use(each.key)]
            finally:
                database.close()
        except OSError:
            return {}  # reported when the first upload is to be written
        self._saved = {key_of(each.key): each for each in found}
        return {key: pickle.dumps(each) for key, each in self._saved.items()}

    def write(self, changes: Sequence[tuple[str, bytes | None]]) -> None:
        """Write uploads that have changed; None: one has ended."""
        journal = self._journal
        if journal is None:
            return
        journal.open()
        if not journal.is_open:
            return
        for key, row in dict(changes).items():
            if row is not None:
                self._saved[key] = pickle.loads(row)
            saved = self._saved.get(key)
            if saved is None:
                continue
            if key not in self._locks:
                self._locks[key] = journal.attempt(partial(journal.database.lock, saved.key))
            if row is not None:
                journal.attempt(partial(journal.database.write, saved))
                continue
            journal.attempt(partial(journal.database.delete, saved.key))
            del self._saved[key]
            if (lock := self._locks.pop(key)) is not None:
                lock.release()

    def close(self, on_warning: Callable[[str], None]) -> None:
        """Let others use the uploads that are left, and report what went wrong."""
        for lock in self._locks.values():
            if lock is not None:
                lock.release()
        for trouble in self._journal.take_troubles() if self._journal is not None else ():
            said = f"{trouble}; the copies continue"
            on_warning(Notice(said, trouble.advice) if trouble.advice is not None else said)
