"""Upload sessions: one temporary file each, hashed while it is written.

Sessions exist in memory and end with the server; their files are in ``ROOT/.uploads``, and the next start
removes those that a crash left. If a body breaks off, the bytes that arrived are kept, and the status request
returns the exact offset. One request writes to a session at a time; a new one closes the connection of the
previous one, because a client that resumes has abandoned it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from crossdock.embedded.bodies import receive
from crossdock.embedded.responses import Refused
from crossdock.oci.digest import Digest
from crossdock.store.blobfiles import BlobFiles, BlobWriter, remove_stale
from crossdock.store.files import explained
from crossdock.store.folder import Folder
from crossdock.tasks import in_thread

SESSIONS = 1000  # each may hold an open file
IDLE = 3600.0  # seconds without a write after which a session is dropped
SWEEP_EVERY = 60.0
TAKE_OVER = 30.0  # seconds the previous request may take to stop
REREAD = 1 << 20


class Session:
    """One upload into the repository named `name`."""

    def __init__(self, name: str, folder: Folder, algorithm: str, owner: str) -> None:
        self.id = str(uuid.uuid4())
        self.name = name
        self.owner = owner
        self.touched = time.monotonic()
        self.ended = False
        self._folder = folder
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self._writer: BlobWriter | None = None  # created with the first bytes, which most mounts never send
        self._lock = asyncio.Lock()
        self._request: web.Request | None = None  # the one that is writing

    @property
    def offset(self) -> int:
        """Bytes held."""
        return self._writer.size if self._writer else 0

    @property
    def is_unused(self) -> bool:
        """Whether it has no bytes and no request is writing, so that ending it loses nothing."""
        return not self.offset and self._request is None

    @asynccontextmanager
    async def writing(self, request: web.Request) -> AsyncIterator[None]:
        """Exclusive access, taken over from a running request. Raises `Refused` after `TAKE_OVER`."""
        if self._request is not None and self._request.transport is not None:
            self._request.transport.abort()
        try:
            async with asyncio.timeout(TAKE_OVER):
                await self._lock.acquire()
        except TimeoutError:
            raise Refused(
                "BLOB_UPLOAD_INVALID", "another request is writing this upload", status=409
            ) from None
        self._request = request
        try:
            if self.ended:  # by the previous request
                raise _unknown()
            yield
        finally:
            self._request = None
            self.touched = time.monotonic()
            self._lock.release()

    async def feed(self, request: web.Request) -> None:
        """Append the body of `request`. Raises `PeerGone` (the bytes that arrived are kept), `StoreError`."""
        await receive(request, self._take)

    async def commit(self, files: BlobFiles, digest: Digest) -> None:
        """Make the file the blob `digest`. Raises `Refused` with DIGEST_INVALID, `StoreError`."""
        await in_thread(self._commit, files, digest)

    def discard(self) -> None:
        """Delete the file. Blocking, never raises."""
        if self._writer is not None:
            self._writer.discard()

    def _take(self, pieces: list[bytes]) -> None:
        if self._writer is None:
            with explained("cannot make", self._folder.path), self._folder.entered(create=True):
                pass
            self._writer = BlobWriter(self._folder)
        self._writer.write_pieces(pieces)
        for piece in pieces:
            self._hash.update(piece)
        self.touched = time.monotonic()

    def _commit(self, files: BlobFiles, digest: Digest) -> None:
        self._take([])
        assert self._writer is not None  # `_take` makes it
        actual = self._hash.hexdigest()
        if digest.algorithm != self._algorithm:
            actual = self._hashed_again(self._writer, digest.algorithm)
        if actual != digest.encoded:
            raise Refused(
                "DIGEST_INVALID",
                "provided digest did not match uploaded content",
                detail={"digest": digest, "actual": f"{digest.algorithm}:{actual}", "size": self.offset},
            )
        self._writer.commit(files, digest)

    def _hashed_again(self, writer: BlobWriter, algorithm: str) -> str:
        # The POST named no digest-algorithm, and the digest of the PUT is not sha256.
        hashed = hashlib.new(algorithm)
        descriptor = writer.reader()
        try:
            with explained("cannot read back", writer.path):
                while piece := os.read(descriptor, REREAD):
                    hashed.update(piece)
        finally:
            os.close(descriptor)
        return hashed.hexdigest()


class Uploads:
    """The table of sessions. One owner has at most one of `shares` shares of them."""

    def __init__(self, folder: Folder, shares: int = 1) -> None:
        self._folder = folder
        self._shares = shares
        self._sessions: dict[str, Session] = {}
        # the folder is created later, since the root of a registry that only serves may be read-only
        remove_stale(folder)

    def start(self, name: str, algorithm: str = "sha256", *, owner: str = "") -> Session:
        """A new session of `owner`, in place of the oldest unused one when the table is full.

        Raises `Refused` with TOOMANYREQUESTS when the owner, or all owners together, use too many.
        """
        own = [each for each in self._sessions.values() if each.owner == owner]
        if len(own) >= max(1, SESSIONS // self._shares):
            self._make_room(own)
        elif len(self._sessions) >= SESSIONS:
            self._make_room(list(self._sessions.values()))
        session = Session(name, self._folder, algorithm, owner)
        self._sessions[session.id] = session
        return session

    def _make_room(self, sessions: list[Session]) -> None:
        unused = next((each for each in sessions if each.is_unused), None)  # the oldest first
        if unused is None:
            raise Refused(
                "TOOMANYREQUESTS", f"{len(sessions)} uploads are open already", headers={"Retry-After": "60"}
            )
        unused.ended = True
        del self._sessions[unused.id]

    def find(self, name: str, identifier: str) -> Session:
        """The session, if it is this repository's. Raises `Refused` with BLOB_UPLOAD_UNKNOWN."""
        session = self._sessions.get(identifier)
        if session is None or session.name != name:
            raise _unknown()
        return session

    async def end(self, session: Session) -> None:
        """Remove the session and delete its file, unless it has become a blob."""
        session.ended = True
        self._sessions.pop(session.id, None)
        await in_thread(session.discard)

    async def sweep(self) -> None:
        """Drop idle sessions until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            limit = time.monotonic() - IDLE
            for session in [each for each in self._sessions.values() if each.touched < limit]:
                await self.end(session)

    async def close(self) -> None:
        """Drop every session and the folder."""
        for session in list(self._sessions.values()):
            await self.end(session)
        try:
            self._folder.path.rmdir()
        except OSError:
            pass  # never created, or also used by another server


def _unknown() -> Refused:
    return Refused("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
