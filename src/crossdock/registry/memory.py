"""The memory about a registry, mostly about uploads; it starts with the values of its dialect.

Nothing is stored: every process learns anew. All repositories and copies of one host share one memory
(`client.RegistryClient`), so the 413 of the first large blob is the only one. The rules are U1–U5 and U11.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from crossdock.options import MiB
from crossdock.registry.contents import Contents
from crossdock.registry.dialects import Dialect
from crossdock.registry.flight import SingleFlight

if TYPE_CHECKING:
    from crossdock.protocol.upload import Upload, UploadRules
    from crossdock.registry.listings.bulk import Bulk
    from crossdock.registry.pushes import Pushes

WHOLE_POST = 1 * MiB  # a registry that ignores the body (distribution does) has been sent it in vain
LISTED_REPOSITORIES = 64  # whose tags of digests are kept: twice the copies that run at once
POST_TRIES = 3  # without a result, after which the usual way is good enough


class HostMemory:
    """The settings that worked at one host."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._single_put = dialect.chunks.most if dialect.single_put is None else dialect.single_put
        self._chunk: int | None = None
        self._may_chunk = self._dialect.may_chunk
        self._trust_range = self._dialect.trust_range
        self._posts: bool | None = None  # whether a whole blob in one POST is taken; None: not known
        self._post_tries = 0  # without a result, the one under way included
        self._is_trying = False
        self.contents = Contents()
        self._pushes: Pushes | None = None
        self.has_referrers: bool | None = None
        """It has the referrers API (end-12); None: not tried yet."""
        self.digest_tags: OrderedDict[str, tuple[float, frozenset[str] | None]] = OrderedDict()
        """Of a repository, when its tags were listed, and those that are made of digests (`attached`). They
        are None where they cannot be listed."""
        self.listing: SingleFlight[frozenset[str] | None] = SingleFlight()
        self.bulk: Bulk | None = None
        """Its lists of manifests, as far as they are known; None: not yet."""
        self.answers_head = True
        """HEAD and GET of a manifest agree, as far as is known: to HEAD Nexus answers 404, firewalls 403, and
        caches an older manifest."""
        self.answers_blob_head = True
        """The same for blobs."""
        self.takes_tags: bool | None = None
        """It gives a manifest the tags that its PUT lists (end-7b); None: not tried yet."""
        self.keeps_cut_chunks = True
        """A session outlives a chunk that was cut, as far as is known."""

    def note_digest_tags(self, repository: str, tags: frozenset[str] | None, at: float) -> None:
        """Keep the list requested `at` this time for other copies; the oldest are forgotten first."""
        self.digest_tags[repository] = at, tags
        self.digest_tags.move_to_end(repository)
        if len(self.digest_tags) > LISTED_REPOSITORIES:
            self.digest_tags.popitem(last=False)

    @property
    def lists(self) -> str | None:
        """As `Dialect.lists`."""
        return self._dialect.lists

    @property
    def pushes(self) -> Pushes:
        """The pushes of manifests under way."""
        if self._pushes is None:
            from crossdock.registry.pushes import Pushes  # loaded by the first push

            self._pushes = Pushes()
        return self._pushes

    @property
    def may_resume(self) -> bool:
        """Whether a session can be resumed later, as far as is known (S2)."""
        return self._may_chunk and self._dialect.trust_range

    def rules_for(self, size: int, resumable_chunk: int | None = None) -> UploadRules:
        """How to begin with a blob of `size` bytes; in chunks of `resumable_chunk` if possible."""
        from crossdock.protocol.upload import UploadRules  # loaded by the first upload

        too_large = not self._fits_one(size)
        resumable = resumable_chunk is not None and self.may_resume
        return UploadRules(
            may_chunk=self._may_chunk,
            chunked=self._may_chunk and (too_large or resumable),
            may_put=not too_large,
            chunk_size=self._chunk_for(size, resumable_chunk if resumable else None),
            trust_range=self._trust_range,
            last_in_put=self._dialect.last_in_put,
            least_chunk=self._dialect.chunks.least,
            chunk_multiple=self._dialect.chunks.multiple,
        )

    def _fits_one(self, size: int) -> bool:
        return self._single_put is None or size <= self._single_put

    def learn(self, upload: Upload) -> None:
        """Learn from an upload; called whenever it changed its way, and at its end."""
        if upload.put_refused:
            # A limit of the size says nothing about smaller blobs; any other refusal is of the way itself.
            limit = upload.size - 1 if upload.put_refused == 413 else 0
            self._single_put = min(limit, self._single_put if self._single_put is not None else limit)
        if upload.chunks_refused and not upload.put_refused:
            self._may_chunk = False
        if upload.cut_chunk_lost:
            self.keeps_cut_chunks = False
        if upload.chunk_lowered:
            self._chunk = min(upload.chunk_size, self._chunk or upload.chunk_size)
        self._trust_range = self._trust_range and upload.trust_range

    @property
    def takes_whole_posts(self) -> bool:
        """The host is known to take a whole blob in one POST."""
        return self._posts is True

    def may_post_whole(self, size: int) -> bool:
        """Whether a blob of `size` bytes may go up in one POST. Unknown hosts are tried by one at a time."""
        if size > WHOLE_POST or self._posts is False or not self._fits_one(size):
            return False
        return self._posts is True or (not self._is_trying and self._post_tries < POST_TRIES)

    def take_whole_post(self, size: int) -> bool:
        """As `may_post_whole`; True must be followed by `posted_whole`."""
        if not self.may_post_whole(size):
            return False
        if self._posts is None:
            self._is_trying = True
            self._post_tries += 1
        return True

    def posted_whole(self, taken: bool | None) -> None:
        """Whether it was taken; None: it broke, or was refused for another reason."""
        self._is_trying = False
        if taken is not None:
            self._posts = taken

    def _chunk_for(self, size: int, wanted: int | None) -> int:
        """Bytes of a chunk of a blob of `size`: as `wanted`, within what is known."""
        from crossdock.protocol.upload import DEFAULT_CHUNK

        limits, chunk = self._dialect.chunks, wanted or DEFAULT_CHUNK
        if limits.most is not None:
            chunk = min(chunk, limits.most)
        if self._chunk is not None:
            return min(chunk, self._chunk)
        chunk = limits.fitting(chunk)
        if self._dialect.most_chunks is not None and size > chunk * self._dialect.most_chunks:
            return -(-size // (self._dialect.most_chunks * limits.multiple)) * limits.multiple
        return chunk
