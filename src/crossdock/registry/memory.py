"""The memory about a registry, mostly about uploads; it starts with the values of its kind.

All repositories and copies of one host share one memory (`client.RegistryClient`), so the 413 of the first
large blob is the only one. What was learned for good (`Learned`) is handed to `on_learned`, and given to the
next process. The rules are U1-U5 and U11.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from crossdock.errors import Advice, LimitExceeded
from crossdock.options import MiB
from crossdock.registry.contents import Contents
from crossdock.registry.flight import SingleFlight
from crossdock.registry.kinds import UNKNOWN, Kind, Kinds, Ranges

if TYPE_CHECKING:
    from crossdock.oci.descriptor import Descriptor
    from crossdock.options import RegistryOptions
    from crossdock.protocol.upload import Upload, UploadRules
    from crossdock.registry.context import Context
    from crossdock.registry.listings.bulk import Bulk
    from crossdock.registry.pushes import Pushes

WHOLE_POST = 1 * MiB  # bytes that are lost if a registry ignores the body, as distribution does
LISTED_REPOSITORIES = 64  # whose tags of digests are kept: twice the copies that run at once
POST_TRIES = 3  # without a result, after which the usual way is good enough
LOOKS = 4  # responses by which a registry is recognised: it says who it is in each, or in its challenge
WHOLE_ANSWERS = 3  # in a row to requests for ranges, after which none are requested

OnLearned = Callable[[str, Any], None]
"""Called with the name of a fact and its value."""


class Learned(Struct, kw_only=True, omit_defaults=True):
    """Facts that a registry has shown; None: not yet. The file for the next process has the same names."""

    kind: str | None = None
    max_put: int | None = None  # bytes; more was refused in one request
    chunk: int | None = None  # bytes; more was refused in one chunk
    chunks: bool | None = None  # False: they are refused
    trust_range: bool | None = None  # False: `Range` of a 2xx does not say what was stored
    keeps_cut_chunks: bool | None = None  # False: a session ends with a chunk that was cut
    whole_post: bool | None = None  # it takes a whole blob in one POST
    head: bool | None = None  # False: HEAD and GET of a manifest differ
    blob_head: bool | None = None  # False: the same for blobs
    multi_tag: bool | None = None  # it gives a manifest the tags that its PUT lists (end-7b)
    ranges: Ranges | None = None


def learned_from(facts: Mapping[str, Any]) -> Learned:
    """The facts of a file that another process wrote; those that are not understood are left out."""
    known = Learned()
    for name, value in facts.items():
        try:
            setattr(known, name, getattr(msgspec.convert({name: value}, Learned), name))
        except (msgspec.ValidationError, AttributeError):
            continue
    return known


class HostMemory:
    """The settings that worked at one host."""

    def __init__(
        self,
        kind: Kind,
        kinds: Kinds | None = None,
        values: Mapping[str, Any] | None = None,
        *,
        is_named: bool = True,
        learned: Learned | None = None,
        on_learned: OnLearned | None = None,
    ) -> None:
        """`values` are configured, and hold for any kind. Unless `is_named`, responses may show the kind
        (`saw`).
        """
        self._kinds = kinds or Kinds()
        self._values = values
        self.kind = kind
        """Its kind, as far as it is known."""
        self.learned = learned or Learned()
        self._on_learned = on_learned
        self._looks = 0 if is_named else LOOKS
        self.is_named = is_named
        """Its kind comes from the configuration or the host's name, not from its responses."""
        self._post_tries = 0  # without a result, the one under way included
        self._is_trying = False
        self._whole_answers = 0
        self.contents = Contents(kind.mounts)
        self._pushes: Pushes | None = None
        self.has_referrers: bool | None = None
        """It has the referrers API (end-12); None: not tried yet. Each process finds out, because signatures
        depend on it."""
        self.digest_tags: OrderedDict[str, tuple[float, frozenset[str] | None]] = OrderedDict()
        """Of a repository, when its tags were listed, and those that are made of digests (`attached`). They
        are None where they cannot be listed."""
        self.listing: SingleFlight[frozenset[str] | None] = SingleFlight()
        self.bulk: Bulk | None = None
        """The state of its lists of manifests; None: nothing known yet."""

    def note(self, name: str, value: Any) -> None:
        """Learn a fact of `Learned`."""
        if getattr(self.learned, name) != value:
            setattr(self.learned, name, value)
            if self._on_learned is not None:
                self._on_learned(name, value)

    # -- which kind it is --------------------------------------------------------------------------------

    @property
    def is_unsure(self) -> bool:
        """Whether the next response may show which kind it is."""
        return self._looks > 0

    def saw(self, headers: Any, body: bytes | None = None) -> None:
        """Learn the kind from a response; `body` is that of ``GET /v2/``."""
        self._looks -= 1
        name = self._kinds.recognised(headers, body)
        if name:
            self.become(name)

    def become(self, name: str) -> None:
        """Set the kind."""
        self._looks = 0
        if name != self.kind.name:
            self.kind = self._kinds.named(name, self._values)
            self.contents.set_mounts(self.kind.mounts)
        if name != UNKNOWN:
            self.note("kind", name)

    # -- manifests and lists -----------------------------------------------------------------------------

    @property
    def answers_head(self) -> bool:
        """HEAD and GET of a manifest agree, as far as is known: to HEAD Nexus answers 404, firewalls 403, and
        caches an older manifest."""
        return self.kind.head == "agrees" and self.learned.head is not False

    @property
    def answers_blob_head(self) -> bool:
        """The same for blobs."""
        return self.learned.blob_head is not False

    def note_digest_tags(self, repository: str, tags: frozenset[str] | None, at: float) -> None:
        """Keep the list requested `at` this time for other copies; the oldest are forgotten first."""
        self.digest_tags[repository] = at, tags
        self.digest_tags.move_to_end(repository)
        if len(self.digest_tags) > LISTED_REPOSITORIES:
            self.digest_tags.popitem(last=False)

    @property
    def pushes(self) -> Pushes:
        """The pushes of manifests under way."""
        if self._pushes is None:
            from crossdock.registry.pushes import Pushes  # loaded by the first push

            self._pushes = Pushes()
        return self._pushes

    # -- ranges of blobs ---------------------------------------------------------------------------------

    @property
    def has_ranges(self) -> bool:
        """Whether ranges of blobs are worth requesting."""
        return (self.learned.ranges or self.kind.ranges) == "honoured"

    def range_answered(self, *, whole: bool) -> None:
        """A request for a range got it, or the whole blob."""
        self._whole_answers = self._whole_answers + 1 if whole else 0
        if self._whole_answers >= WHOLE_ANSWERS:
            self.note("ranges", "ignored")

    # -- uploads -----------------------------------------------------------------------------------------

    def check_size(self, descriptor: Descriptor, *, is_manifest: bool) -> None:
        """Raise `LimitExceeded` for what is over a published limit of its kind, or one of the inventory."""
        what = "manifest" if is_manifest else "blob"
        most = self.kind.limits.manifest if is_manifest else self.kind.largest_blob
        if most is not None and descriptor.size > most:
            raise LimitExceeded(
                f"{what} {descriptor.digest} has {descriptor.size} bytes, and a registry of kind "
                f"{self.kind.name} takes at most {most} (limits.{what})",
                advice=Advice("read-docs", "an inventory can say otherwise: limits of the registry's entry"),
                limit=most,
            )

    @property
    def keeps_cut_chunks(self) -> bool:
        """A session outlives a chunk that was cut, as far as is known."""
        return self.learned.keeps_cut_chunks is not False

    @property
    def _may_chunk(self) -> bool:
        return self.kind.upload.chunks and self.learned.chunks is not False

    @property
    def _trust_range(self) -> bool:
        return self.kind.upload.trust_range and self.learned.trust_range is not False

    @property
    def may_resume(self) -> bool:
        """Whether a session can be resumed later, as far as is known (S2)."""
        return self._may_chunk and self.kind.upload.trust_range and self.kind.upload.resume != "never"

    def rules_for(self, size: int, resumable_chunk: int | None = None) -> UploadRules:
        """The rules to begin a blob of `size` bytes with; chunks of `resumable_chunk` if possible."""
        from crossdock.protocol.upload import UploadRules  # loaded by the first upload

        upload = self.kind.upload
        too_large = not self._fits_one(size)
        resumable = resumable_chunk is not None and self.may_resume
        limits = upload.limits
        return UploadRules(
            may_chunk=self._may_chunk,
            chunked=self._may_chunk and (too_large or resumable),
            may_put=not too_large,
            chunk_size=self._chunk_for(size, resumable_chunk if resumable else None),
            trust_range=self._trust_range,
            last_in_put=upload.last_in_put,
            least_chunk=limits.least if upload.chunk is None else 0,
            most_chunk=limits.most if upload.is_limit else None,
            chunk_multiple=limits.multiple,
            range_end=upload.range_end,
            bad_request=upload.bad_request,
        )

    def _fits_one(self, size: int) -> bool:
        most = [each for each in (self.kind.upload.single_put, self.learned.max_put) if each is not None]
        return not most or size <= min(most)

    def learn(self, upload: Upload) -> None:
        """Learn from an upload; called whenever it changed its way, and at its end."""
        if upload.put_refused:
            # A limit of the size says nothing about smaller blobs; any other refusal is of the way itself,
            # unless the kind is known for refusing large blobs so.
            is_size = upload.put_refused == 413 or self.kind.upload.bad_request == "way"
            limit = upload.size - 1 if is_size else 0
            known = self.learned.max_put
            self.note("max_put", limit if known is None else min(limit, known))
        if upload.chunks_refused and not upload.put_refused:
            self.note("chunks", False)
        if upload.cut_chunk_lost:
            self.note("keeps_cut_chunks", False)
        if upload.chunk_lowered:
            self.note("chunk", min(upload.chunk_size, self.learned.chunk or upload.chunk_size))
        if not upload.trust_range and self._trust_range:
            self.note("trust_range", False)

    @property
    def takes_whole_posts(self) -> bool:
        """The host is known to take a whole blob in one POST."""
        return self.learned.whole_post is True

    def may_post_whole(self, size: int) -> bool:
        """Whether a blob of `size` bytes may go up in one POST. Unknown hosts are tried by one at a time."""
        known = self.learned.whole_post
        if size > WHOLE_POST or known is False or not self._fits_one(size):
            return False
        return known is True or (not self._is_trying and self._post_tries < POST_TRIES)

    def take_whole_post(self, size: int) -> bool:
        """As `may_post_whole`; True must be followed by `posted_whole`."""
        if not self.may_post_whole(size):
            return False
        if self.learned.whole_post is None:
            self._is_trying = True
            self._post_tries += 1
        return True

    def posted_whole(self, taken: bool | None) -> None:
        """Whether it was taken; None: it broke, or was refused for another reason."""
        self._is_trying = False
        if taken is not None:
            self.note("whole_post", taken)

    def _chunk_for(self, size: int, wanted: int | None) -> int:
        """Bytes of a chunk of a blob of `size`: as `wanted`, within what is known."""
        from crossdock.protocol.upload import DEFAULT_CHUNK

        upload, limits = self.kind.upload, self.kind.upload.limits
        chunk = wanted or DEFAULT_CHUNK
        if limits.most is not None:
            chunk = min(chunk, limits.most)
        if self.learned.chunk is not None:
            return min(chunk, self.learned.chunk)
        chunk = limits.fitting(chunk)
        if upload.most_chunks is not None and size > chunk * upload.most_chunks and not upload.is_limit:
            return -(-size // (upload.most_chunks * limits.multiple)) * limits.multiple
        return chunk


def memory_of(host: str, options: RegistryOptions, context: Context) -> HostMemory:
    """The memory about ``host[:port]``, with what earlier processes learned. Raises `InvalidOption`."""
    kinds, facts, values = context.kinds, context.facts, dict(options.values)
    learned = learned_from(facts.read(host)) if facts is not None else Learned()
    name, source = kinds.chosen(host, options.kind, learned.kind)
    return HostMemory(
        kinds.named(name, values),
        kinds,
        values,
        is_named=source in ("inventory", "host"),
        learned=learned,
        on_learned=partial(facts.learned, host) if facts is not None else None,
    )
