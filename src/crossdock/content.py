"""The interfaces between the engine and whatever holds content. Protocols and one value, no code.

`transfer` knows these and nothing else: a registry, a layout on disk, a store of yours or a test double serve
equally. Offsets are bytes from the start of the blob; ranges are half-open, ``start <= x < stop``. Errors are
those of `crossdock.errors`.

How one blob moves::

    BlobSource.open(start, stop) ──> Body ──receive──> ByteSink (slots of the arena)
                                                           │ hashed in order
                                      UploadSession.append <┘

`Source` and `Target` have the members that every store needs. What only some stores can do is a protocol of
its own, and a store has it when it has its methods:

==================  ===================  ============================================================
side                capability           without it
==================  ===================  ============================================================
source              `ListsTags`          its tags cannot be listed
source, target      `ListsManifests`     each tag is resolved by a request of its own
source              `FindsAttached`      signatures and other referrers are not copied
target              `PushesTags`         each tag is a push of its own
target              `ListsRoots`         a manifest without a tag is found by its digest alone
target              `ReadsBack`          ``verify="reread"`` is refused
target              `ChecksDigests`      ``verify="target"`` hashes here, as ``stream`` does
target              `ChecksManifests`    blobs of manifests that are present are looked for
target              `Remembers`          nothing is taken as known
target              `Mounts`             every missing blob is uploaded
target              `FindsOnUpload`      a small blob is looked for before its upload
target              `ResumesUploads`     an interrupted upload starts at byte 0
target              `ListsReferrers`     referrers are pushed as other manifests are
target              `HoldsImages`        it takes every manifest
target              `LimitsSizes`        it takes content of any size
upload session      `ChunkedUpload`      it takes the blob in one request
==================  ===================  ============================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol

from msgspec import Struct

from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest

# -- what every store has ----------------------------------------------------------------------------------


class Source(Protocol):
    """One repository (or layout) that content is copied from."""

    @property
    def name(self) -> str:
        """``host:port/repository`` or ``oci:DIR``, as errors print it. The same content, the same name."""

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor behind a tag or digest. Raises `NotFound`."""

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """The manifest's bytes, digest verified. Their size may differ from the descriptor's.

        Raises `NotFound`, `ContentError`.
        """

    def blob(self, descriptor: Descriptor) -> BlobSource:
        """The blob's bytes, to be opened in ranges. Sends no request yet."""


class Target(Protocol):
    """One repository (or layout) that content is copied to."""

    @property
    def name(self) -> str:
        """As `Source.name`."""

    async def find_manifest(self, reference: str) -> bytes | None:
        """The current manifest of a tag or digest; None if there is none.

        The caller compares digests.
        """

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob is here, with the descriptor's size."""

    async def start_upload(self, descriptor: Descriptor) -> UploadSession:
        """An upload of this blob. A session at a registry may be opened later, with the first bytes."""

    async def push_manifest(self, descriptor: Descriptor, data: bytes, tag: str | None) -> None:
        """Store the manifest's unchanged bytes by digest, and under `tag` if there is one.

        Its blobs and manifests are here already. Raises `ContentError` when the target reports another
        digest.
        """


class BlobSource(Protocol):
    """One blob at one source. `crossdock.bodies` has ready-made ones for bytes and for iterators."""

    async def open(self, start: int, stop: int) -> Body:
        """Request ``start``..``stop``; returns once the head of the response is checked.

        A source that cannot serve ranges returns the whole blob: the caller sees it in ``Body.start`` and
        ``Body.stop``. One call is one attempt: the caller repeats retryable errors. Raises `NotFound`,
        `Unauthorized`, `Denied`, `RateLimited`, `ServerBusy`, `SizeMismatch` (the source states a total that
        differs from the descriptor's size), `TransportError`.
        """


class Body(Protocol):
    """The bytes of one response: exactly ``start``..``stop`` of the blob, in order."""

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


class ByteSink(Protocol):
    """The receiver of body bytes. Called on the event loop for every read; must not block or await."""

    def get_buffer(self) -> memoryview | None:
        """Writable memory for the next bytes, never empty; None: full, reading stops until `Body.resume`."""

    def received(self, count: int) -> None:
        """The first `count` bytes of the last buffer are filled. Offered once, in order."""


class UploadSession(Protocol):
    """One blob going up to one target, fed in order."""

    async def append(self, data: memoryview) -> None:
        """Send the next bytes; returns when `data` may be reused.

        Raises `UploadInterrupted` when the bytes from its ``.offset`` on must be given again, on this same
        object. Raises another error when the upload has failed for good.
        """

    async def commit(self) -> None:
        """All bytes are sent, and verified by the caller or left to the target: make the blob exist.

        Raises as `append` does, and `DigestMismatch` when the target reports another digest.
        """

    async def cancel(self) -> None:
        """Drop the session at the target. Never raises; bounded in time; does nothing after `commit`."""


# -- what some sources can do ------------------------------------------------------------------------------


class ListsTags(Protocol):
    """A source that knows its tags."""

    async def tags(self, on_warning: Callable[[str], None] | None = None) -> list[str]:
        """Every tag, as the source lists them. `on_warning` receives a line for entries that are left out."""


class ManifestRow(Struct, frozen=True):
    """One manifest of a repository, as a list of them shows it. Moments are in seconds since the epoch.

    `size` is the registry's own figure for the whole image; None, like the moments, where it says nothing.
    """

    digest: Digest
    tags: tuple[str, ...] = ()
    media_type: str = ""
    size: int | None = None
    pushed: float | None = None
    pulled: float | None = None


class ListsManifests(Protocol):
    """A repository that lists its manifests and their tags in few requests."""

    async def list_manifests(
        self,
        on_warning: Callable[[str], None] | None = None,
        *,
        untagged: bool = False,
        needed: bool = False,
    ) -> list[ManifestRow] | None:
        """Every manifest with its tags, whole; None: no such list can be had, perhaps one of tags alone.

        With `untagged`, None as well where manifests without a tag, such as those that refer to others, are
        not listed or not all. None says nothing about the repository, which may not be there: the list of
        tags tells. `needed`: nothing else will do, so what fails raises its error, and None means that there
        is no such list here. `on_warning` receives a line for entries that are left out.
        """


class FindsAttached(Protocol):
    """A source that knows what refers to a manifest."""

    async def attached(self, digest: Digest) -> tuple[list[Descriptor], list[str]]:
        """The manifests whose subject is `digest`, and the tags by which clients attach others to it."""


# -- what some targets can do ------------------------------------------------------------------------------


class PushesTags(Protocol):
    """A target that gives a manifest several tags at once."""

    async def push_tags(self, descriptor: Descriptor, data: bytes, tags: Sequence[str]) -> frozenset[str]:
        """As `Target.push_manifest`, under as many of `tags` as the target gives it in one request.

        Returns those; none where it does not do that, as far as is known.
        """


class ListsRoots(Protocol):
    """A target in which a manifest without a tag has to be listed to be found."""

    async def add_root(self, descriptor: Descriptor) -> None:
        """List a stored manifest that has no tag, unless it is listed."""


class ReadsBack(Protocol):
    """A target that can be read, too."""

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """The manifest's bytes as the target has them, compared. Raises `NotFound`, `ContentError`."""

    def blob(self, descriptor: Descriptor) -> BlobSource:
        """The blob's bytes as the target has them, to be opened in ranges. Sends no request yet."""


class ChecksDigests(Protocol):
    """A target that compares bytes and digest before a blob exists there."""

    def checks_digest(self, descriptor: Descriptor) -> bool:
        """Whether it does so for this blob's algorithm."""


class ChecksManifests(Protocol):
    """A target that refuses a manifest whose blobs it lacks: so a manifest there stands for its blobs."""

    async def has_manifest(self, descriptor: Descriptor) -> bool:
        """Whether this repository responds with the manifest under its digest."""

    async def is_pushed_manifest(self, descriptor: Descriptor) -> bool:
        """Whether what was found under the digest of a manifest was certainly pushed as a manifest.

        Some registries serve blobs as well when a manifest is requested by digest. What is below one that may
        be a mere blob has to be checked, and the manifest has to be pushed.
        """


class Remembers(Protocol):
    """A target that knows what this process saw there and pushed there. Sends no request."""

    def knows_manifest(self, descriptor: Descriptor) -> bool:
        """Whether this process pushed it here as a manifest."""

    def knows_blob(self, descriptor: Descriptor) -> bool:
        """Whether this process saw it here as a blob, or pushed it as one."""


class Mounts(Protocol):
    """A repository that can take blobs from the other repositories of its registry."""

    def other_repository(self, descriptor: Descriptor) -> str | None:
        """Another repository of this registry that is known to have the blob, to be given to `mount`."""

    def claim(self, blobs: Iterable[Descriptor], source: str) -> AbstractContextManager[None]:
        """The block that copies the blobs of a manifest from the registry `source`.

        Other copies wait in `turn` until this repository has the blobs that it was the first to claim. The
        block is entered at once.
        """

    def turn(self, descriptor: Descriptor, source: str) -> AbstractAsyncContextManager[None]:
        """The block that copies a blob, which this repository does not have, from the registry `source`.

        Entered when no other copy of the run is copying it from there into a repository of this registry;
        then it can be mounted (`other_repository`). There is no wait where mounts are refused. The caller
        holds nothing that another copy needs.
        """

    async def mount(self, descriptor: Descriptor, from_repository: str) -> bool:
        """Make the blob of another repository of this registry appear here. False: it must be uploaded.

        A session that the registry opens instead (202) is kept for the next `start_upload` of this blob or
        cancelled.
        """


class FindsOnUpload(Protocol):
    """A target whose upload sessions can find out whether it has the blob already, by their method ``find``.

    For small blobs this saves the request of `Target.has_blob`.
    """

    def finds_on_upload(self, descriptor: Descriptor) -> bool:
        """Whether to call ``await session.find()`` of this blob's upload instead of `has_blob`.

        It is called before the first `UploadSession.append`, and raises as `has_blob` does. If it returns
        True, the target has the blob, and the session is done.
        """


class ListsReferrers(Protocol):
    """A target that lists the manifests that refer to another one."""

    async def referrers(self, digest: Digest) -> list[Descriptor]:
        """The manifests whose subject is `digest`, as the target lists them."""

    async def push_referrer(self, descriptor: Descriptor, data: bytes) -> None:
        """As `Target.push_manifest` without a tag, of a manifest with a subject, which then lists it."""


class HoldsImages(Protocol):
    """A target that holds images of one platform alone. What refers to them is not copied there."""

    def check_image(self, descriptor: Descriptor, data: bytes) -> None:
        """Raise `ContentError` for a root that it cannot hold. Nothing of it has been copied."""


class LimitsSizes(Protocol):
    """A target that is known to take no content over a size."""

    @property
    def limits_blobs(self) -> bool:
        """Whether a largest size of blobs is known."""

    def check_size(self, descriptor: Descriptor, *, is_manifest: bool) -> None:
        """Raise `LimitExceeded` for a blob or manifest that is over a limit. Nothing of it has been sent."""


class ResumesUploads(Protocol):
    """A target whose upload sessions outlive the process that opened them."""

    def may_resume(self) -> bool:
        """Whether it keeps sessions, as far as is known. May change from upload to upload."""

    async def resumable_upload(
        self, descriptor: Descriptor, chunk_size: int, log: SessionLog, saved: SavedSession | None
    ) -> ResumableSession:
        """As `Target.start_upload`, in requests of `chunk_size` bytes or of what the target permits."""


# -- what some upload sessions can do ----------------------------------------------------------------------


class ChunkedUpload(UploadSession, Protocol):
    """An upload made of requests."""

    @property
    def boundary(self) -> int | None:
        """Requests end at multiples of it, where the target acknowledges; None: one request for all bytes.

        May change when bytes must be given again.
        """

    def prepare(self) -> None:
        """The first bytes come soon: send now the request that has to precede them. Its failure shows in
        `append`.
        """


class ResumableSession(ChunkedUpload, Protocol):
    """A session that another process may resume."""

    @property
    def is_between_requests(self) -> bool:
        """No request is under way: `suspend` loses nothing now."""

    async def resume(self) -> tuple[int, str]:
        """Query the saved session, if there is one, before anything else.

        Returns the offset from which bytes are to be given, and what a person should know about it, or
        nothing. At offset 0 a new session will be opened.
        """

    async def suspend(self) -> None:
        """End the request under way and keep the session. Never raises; bounded in time."""


class SavedSession(Protocol):
    """An upload session that an earlier process left."""

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
        """Whether the offsets that this target reports can be believed."""


class SessionLog(Protocol):
    """Receives the progress of an upload session before its next request. Must not block, raises nothing."""

    def opened(self, location: str, chunk_size: int, *, trust_range: bool) -> None:
        """A new session, which holds nothing yet, takes the place of any other."""

    def acknowledged(self, offset: int, location: str, chunk_size: int, *, trust_range: bool) -> None:
        """The session is at `location` now and holds the bytes before `offset`."""
