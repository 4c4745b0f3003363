"""The small interfaces between the engine and whatever holds content. Protocols only, no code.

`transfer` knows these and nothing else: a registry, a layout on disk or a test double serve equally.
Offsets are bytes from the start of the blob; ranges are half-open, ``start <= x < stop``.

How one blob moves::

    BlobSource.open(start, stop) ──> Body ──receive──> ByteSink (slots of the arena)
                                                           │ hashed in order
                                      UploadSession.append <┘
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest


class ByteSink(Protocol):
    """Where body bytes land. Called on the event loop for every read; must not block or await."""

    def get_buffer(self) -> memoryview | None:
        """Writable memory for the next bytes, never empty; None: full, reading stops until `Body.resume`."""

    def received(self, count: int) -> None:
        """The first `count` bytes of the last buffer are filled. Offered once, in order."""


class Pipe(Protocol):
    """Bytes that stay in the kernel on their way from one socket to another."""

    @property
    def room(self) -> int:
        """How many more bytes it takes."""

    def __len__(self) -> int:
        """How many bytes are in it."""

    def fill(self, socket: int, most: int) -> int:
        """Move up to `most` bytes here; 0: the socket has none now, or ``room`` became 0. Raises OSError."""

    def put(self, data: memoryview) -> int:
        """Copy the first bytes of `data` here; returns how many, fewer when ``room`` has become 0."""

    def drain(self, socket: int) -> int:
        """Move bytes into the socket; 0: it takes none now. Raises OSError."""

    def take(self, count: int) -> bytes:
        """Copy the first bytes out, `count` of them or all."""


class PipeSink(ByteSink, Protocol):
    """A sink that can do without some bytes. Bodies that cannot leave bytes in the kernel need not know."""

    def get_pipe(self) -> Pipe | None:
        """Where the next bytes go, with room; None: where `get_buffer` says. Told by `received` as well."""


class Body(Protocol):
    """One answer's bytes on their way: exactly ``start``..``stop`` of the blob, in order."""

    @property
    def start(self) -> int:
        """First offset that will be delivered. 0 when the source ignored the range."""

    @property
    def stop(self) -> int:
        """Offset after the last byte that will be delivered. The blob's size when the range was ignored."""

    async def receive(self, sink: ByteSink) -> None:
        """Deliver every byte into `sink`, then return; the connection is given back for reuse.

        Raises `TransportError` when it broke or stalled; bytes delivered until then are good.
        """

    def resume(self) -> None:
        """The sink has room again after `get_buffer` returned None."""

    def close(self) -> None:
        """Give the body up, whatever its state. Safe to call twice and after the end."""


class BlobSource(Protocol):
    """One blob at one source. Redirects are resolved once and shared by all ranges."""

    async def open(self, start: int, stop: int) -> Body:
        """Ask for ``start``..``stop`` and return when the answer's head is checked.

        A source that cannot serve ranges answers with the whole blob: the caller sees it in ``Body.start``
        and ``Body.stop``. One call is one try: retryable errors are the caller's to repeat. Raises
        `NotFound`, `Unauthorized`, `Denied`, `RateLimited`, `ServerBusy`, `SizeMismatch` (the total that
        the source states is not the descriptor's), `TransportError`.
        """


class UploadSession(Protocol):
    """One blob going up to one target, fed in order."""

    @property
    def offset(self) -> int:
        """Bytes taken so far by `append`."""

    @property
    def boundary(self) -> int | None:
        """Requests end at multiples of it, where the target acknowledges; None: one request for all bytes.

        May change when bytes must be given again.
        """

    @property
    def checks_digest(self) -> bool:
        """Whether the target itself compares bytes and digest before the blob exists there."""

    def prepare(self) -> None:
        """The first bytes come soon: ask now for what they need. `append` tells what came of it."""

    async def append(self, data: memoryview) -> None:
        """Send the next bytes; returns when `data` may be reused.

        Raises `UploadInterrupted` when the bytes from its ``.offset`` on must be given again, on this same
        object. Raises another error when the upload is over for good.
        """

    @property
    def piped(self) -> PipedSession | None:
        """The same session, if it now takes bytes that stay in the kernel."""

    async def commit(self) -> None:
        """All bytes are sent, and verified by the caller or left to the target: make the blob exist.

        Raises as `append` does, and `DigestMismatch` when the target says that it has another blob.
        """

    async def cancel(self) -> None:
        """Drop the session at the target. Never raises; bounded in time; nothing after `commit`."""


class PipedSession(Protocol):
    """A session whose target is reached by a socket that bytes can be moved into."""

    async def append_pipe(self, pipe: Pipe) -> None:
        """As `UploadSession.append`, everything in `pipe`. What is left in it after an error is of no use."""


class SavedSession(Protocol):
    """What is known of an upload session that an earlier process left."""

    @property
    def location(self) -> str:
        """Its newest URL."""

    @property
    def acknowledged(self) -> int:
        """Bytes that the target said it holds."""

    @property
    def chunk_size(self) -> int:
        """Bytes of one request."""

    @property
    def trust_range(self) -> bool:
        """Whether what this target says it holds can be believed."""


class SessionLog(Protocol):
    """Told how an upload session goes on, before its next request. Must not block, raises nothing."""

    def opened(self, location: str, chunk_size: int, *, trust_range: bool) -> None:
        """A new session, which holds nothing yet, takes the place of any other."""

    def acknowledged(self, offset: int, location: str, chunk_size: int, *, trust_range: bool) -> None:
        """The session is at `location` now and holds the bytes before `offset`."""


class ResumableSession(UploadSession, Protocol):
    """A session that another process may go on with."""

    @property
    def is_between_requests(self) -> bool:
        """No request is under way: to leave now loses nothing."""

    async def take_up(self) -> tuple[int, str]:
        """Ask about the saved session, if there is one, before anything else.

        Returns the offset from which bytes are to be given, and what a person should know about it, or
        nothing. At offset 0 a new session will be opened.
        """

    async def leave(self) -> None:
        """End the request under way and keep the session. Never raises; bounded in time."""


class Source(Protocol):
    """A repository (or layout) that content is copied from."""

    @property
    def name(self) -> str:
        """``host:port/repository`` or ``oci:DIR``, as errors print it."""

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor behind a tag or digest. Raises `NotFound`."""

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """The manifest's bytes, digest verified. Their size may differ from the descriptor's.

        Raises `NotFound`, `ContentError`.
        """

    def blob(self, descriptor: Descriptor) -> BlobSource:
        """The blob's bytes, to be opened in ranges. Asks nothing yet."""

    async def attached(self, digest: Digest) -> tuple[list[Descriptor], list[str]]:
        """The manifests whose subject is `digest`, and the tags by which clients attach others to it."""


class Target(Protocol):
    """A repository (or layout) that content is copied to."""

    @property
    def name(self) -> str:
        """``host:port/repository`` or ``oci:DIR``, as errors print it."""

    async def find_manifest(self, reference: str) -> bytes | None:
        """The manifest behind a tag or digest, as it is here now; None: there is none.

        The caller compares digests. One request, as a HEAD would be, and its answer says as well what the
        manifest lists.
        """

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """The manifest's bytes as the target has them, compared. Raises `NotFound`, `ContentError`."""

    def blob(self, descriptor: Descriptor) -> BlobSource:
        """The blob's bytes as the target has them, to be opened in ranges. Asks nothing yet."""

    @property
    def checks_manifests(self) -> bool:
        """Whether a manifest here stands for its blobs, because one that lacks some is refused.

        Where it is False, every blob of a manifest that is present is looked for.
        """

    def knows_manifest(self, descriptor: Descriptor) -> bool:
        """Whether this process pushed it here as a manifest. Asks nothing."""

    def knows_blob(self, descriptor: Descriptor) -> bool:
        """Whether this process saw it here as a blob, or pushed it as one. Asks nothing."""

    async def has_manifest(self, descriptor: Descriptor) -> bool:
        """Whether this repository answers with the manifest under its digest."""

    async def is_pushed_manifest(self, descriptor: Descriptor) -> bool:
        """Whether what was found under the digest of a manifest was certainly pushed as a manifest.

        Some registries answer with blobs as well when they are asked for a manifest by digest. What is below
        one that may be a mere blob has to be checked, and the manifest has to be pushed.
        """

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether this repository has the blob, with the descriptor's size. Asks nothing if that is known."""

    def other_repository(self, descriptor: Descriptor) -> str | None:
        """Another repository of this registry that is known to have the blob, to be given to `mount`."""

    def turn(self, descriptor: Descriptor, source: str) -> AbstractAsyncContextManager[None]:
        """The block that brings a blob, which this repository does not have, from the registry `source`.

        Entered when no other copy of the run is bringing it from there into a repository of this registry;
        then it can be mounted (`other_repository`). Not waited for where mounts are refused. The caller holds
        nothing that another copy needs.
        """

    async def mount(self, descriptor: Descriptor, from_repository: str) -> bool:
        """Make the blob of another repository of this registry appear here. False: it must be uploaded.

        A session that the registry opens instead (202) is kept for the next `start_upload` of this blob or
        cancelled. Targets that cannot mount return False and ask nothing.
        """

    async def start_upload(self, descriptor: Descriptor) -> UploadSession:
        """Choose the way up for this blob. The registry is asked when the first bytes are given."""

    @property
    def resumable(self) -> ResumableTarget | None:
        """The same target, where an upload can be gone on with by another process, as far as is known."""

    async def push_manifest(self, descriptor: Descriptor, data: bytes, tag: str | None) -> None:
        """Put the manifest's unchanged bytes, by digest, or under `tag` (and so by digest as well).

        Compares the digest that the target answers. Raises `ContentError` when it differs.
        """

    async def referrers(self, digest: Digest) -> list[Descriptor]:
        """The manifests whose subject is `digest`, as the target lists them."""

    async def push_referrer(self, descriptor: Descriptor, data: bytes) -> None:
        """As `push_manifest` without a tag, of a manifest with a subject: it is found by that afterwards."""


class ResumableTarget(Protocol):
    """A target whose upload sessions outlive the process that opened them."""

    async def resumable_upload(
        self, descriptor: Descriptor, chunk_size: int, log: SessionLog, saved: SavedSession | None
    ) -> ResumableSession:
        """As `Target.start_upload`, in requests of `chunk_size` bytes or of what the target permits."""
