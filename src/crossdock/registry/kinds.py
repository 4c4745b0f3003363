"""Kinds of registries, as data: `kinds.json` has a row for each, and every value in it its source and date.

A kind is known by the host's name, or by what the registry answers (`Kinds.recognised`). An inventory adds
kinds, and says for a registry of its own which kind it is and which values differ. The table is read when the
first client is made, and only the kind that is needed becomes a `Kind`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from crossdock.errors import InvalidOption
from crossdock.options import ChunkLimits
from crossdock.units import parse_size

UNKNOWN = "unknown"
SIZES = frozenset(
    {
        "upload.max_put",
        "upload.chunk",
        "upload.min_chunk",
        "upload.max_chunk",
        "upload.chunk_multiple",
        "limits.blob",
        "limits.manifest",
    }
)
"""Values that are sizes: bytes, or texts such as ``10MiB``."""

ITS_OWN = frozenset({"title", "hosts", "answers"})
"""Values that a kind does not give to those that are like it."""

Mounts = Literal["never", "at_once", "after_manifest"]
Ranges = Literal["honoured", "ignored", "wrong"]
Source = Literal["inventory", "host", "responses"]


class UploadFacts(Struct, frozen=True, kw_only=True):
    """The registry's way with uploads (rules U1-U5 and U11). Sizes are bytes; None: not known."""

    put: bool = True  # one PUT for a whole blob
    max_put: int | None = None  # the largest blob for it; None: `max_chunk`
    chunks: bool = True  # PATCH by PATCH
    chunk: int | None = None  # exactly this, whatever would be better; no request carries more
    min_chunk: int = 0  # of all but the last
    max_chunk: int | None = None
    chunk_multiple: int = 1
    most_chunks: int | None = None  # of one blob; a larger chunk is the smaller evil
    trust_range: bool = True  # False: `Range` of a 2xx does not say what was stored
    range_end: Literal["last", "next"] = "last"
    """The end of `Range` in responses to queries of a session, and to refused chunks: the last byte, or the
    next one."""
    last_in_put: bool = False  # the last bytes go with the closing PUT
    bad_request: Literal["codes", "way"] = "codes"
    """The meaning of a 400 to a whole blob: that of its codes, or a refusal of this way to upload."""
    resume: Literal["bytes", "chunks", "never"] | None = None
    """The bytes that a session keeps after a request was cut: all; those of earlier requests; none."""
    is_limit: bool = False
    """A person set the limits: no request may carry more, whatever the registry refuses."""

    @property
    def limits(self) -> ChunkLimits:
        """The sizes of chunks. Raises `InvalidOption` if nothing meets them."""
        if self.chunk is not None:
            return ChunkLimits(self.chunk, self.chunk, self.chunk)
        return ChunkLimits(self.min_chunk, self.max_chunk, self.chunk_multiple)

    @property
    def single_put(self) -> int | None:
        """The largest blob for one request, as far as is known."""
        if not self.put:
            return 0
        if self.chunk is not None:
            return self.chunk
        return self.max_chunk if self.max_put is None else self.max_put


class SizeLimits(Struct, frozen=True, kw_only=True):
    """Published limits; None: none is known."""

    blob: int | None = None  # bytes
    manifest: int | None = None  # bytes
    requests_per_minute: float | None = None
    pulls_per_minute: float | None = None  # of manifests by GET, where only those count
    upload_seconds: float | None = None  # of one blob


class Kind(Struct, frozen=True, kw_only=True):
    """The facts about one kind of registry. None: not known, so it is found out where it matters."""

    name: str = UNKNOWN
    title: str = ""
    hosts: tuple[str, ...] = ()  # names in lower case, in which * stands for any text
    answers: tuple[Mapping[str, str], ...] = ()
    """Patterns of headers, and of the ``body`` of `/v2/`, in lower case. One of them must fit as a whole."""
    login: Literal["none", "basic", "bearer"] | None = None
    upload: UploadFacts = UploadFacts()
    limits: SizeLimits = SizeLimits()
    mounts: Mounts | None = None
    referrers: Literal["api", "tag", "refused"] | None = None
    lists: str | None = None
    """The API that lists its manifests (`listings`), or ``none``."""
    deletes: tuple[str, ...] | None = None  # of manifests by ``digest``, and of a ``tag`` alone
    immutable_tags: bool | None = None  # it can keep tags from being moved
    ranges: Ranges = "honoured"
    head: Literal["agrees", "unreliable"] = "agrees"  # HEAD of a manifest, compared with GET
    redirects: tuple[str, ...] | None = None  # hosts of blobs; none: the registry's own

    @property
    def largest_blob(self) -> int | None:
        """Bytes: the published limit, or as many as its chunks carry where a person limits them."""
        upload, most = self.upload, self.limits.blob
        chunk = upload.limits.most
        if not (upload.is_limit and upload.most_chunks and chunk):
            return most
        in_chunks = upload.most_chunks * chunk
        return in_chunks if most is None else min(most, in_chunks)


class Cited(Struct, frozen=True):
    """A value of the table and where it is from."""

    value: Any
    source: str  # a URL
    date: str  # when that was read: YYYY-MM
    note: str = ""
    confirmed: bool = True  # False: the source could not be read, or does not state the value


class Row(Struct, frozen=True):
    """A kind in the table."""

    title: str
    values: dict[str, Cited]  # by name, such as ``upload.max_chunk``
    tried: Literal["software", "double", "nothing"]  # what the tests of this project copy to and from
    like: str = ""  # the kind that has the values which are missing here


class _Table(Struct, frozen=True):
    version: int
    kinds: dict[str, Row]


@cache
def table() -> dict[str, Row]:
    """The published table, by the kinds' names."""
    data = Path(__file__).with_name("kinds.json").read_bytes()
    return msgspec.json.decode(data, type=_Table).kinds


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of the table's file."""
    data = Path(__file__).with_name("kinds.schema.json").read_bytes()
    return msgspec.json.decode(data, type=dict[str, Any])


class Kinds(Struct, frozen=True):
    """The table, and the kinds that an inventory adds or changes, which go before it."""

    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name, values by theirs; ``like`` names a kind that has the others, by default the table's own."""
    place: str = ""  # the inventory's file, for messages

    def names(self) -> list[str]:
        """All kinds, the inventory's first: they are tried in this order."""
        return list(dict.fromkeys((*self.own, *table())))

    def named(self, name: str, values: Mapping[str, Any] | None = None) -> Kind:
        """The kind; `values` replace its own. Raises `InvalidOption` for an unknown name or value."""
        try:
            return self._named(name, values)
        except InvalidOption as error:
            if not self.place:
                raise
            raise InvalidOption(f"{self.place}: {error}", advice=error.advice) from None

    def _named(self, name: str, values: Mapping[str, Any] | None) -> Kind:
        known, given = self._values(name, set())
        given = {**given, **(values or {})}
        if given.keys() & {"upload.chunk", "upload.max_chunk"}:
            # A person's limit goes before what the table says of larger requests.
            given = {"upload.max_put": None, "upload.chunks": True, "upload.is_limit": True, **given}
            if values and "upload.max_chunk" in values and "upload.chunk" not in values:
                given["upload.chunk"] = None
        return _made(name, {**known, **given})

    def of_host(self, host: str) -> str:
        """The name of the kind of ``host[:port]``; empty where the host does not tell."""
        host = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
        host = host.lower().rstrip(".")
        for name in self.names():
            if any(_matches(host, pattern) for pattern in self._value(name, "hosts") or ()):
                return name
        return ""

    def chosen(self, host: str, given: str = "", learned: str | None = None) -> tuple[str, Source | None]:
        """The name of the kind of ``host[:port]``, and where it is from; None: it is not known.

        `given` is its name in the inventory; `learned` was recognised by an earlier process.
        """
        if given:
            return given, "inventory"
        if by_host := self.of_host(host):
            return by_host, "host"
        if learned is not None and learned in self.names():
            return learned, "responses"
        return UNKNOWN, None

    def recognised(self, headers: Sequence[tuple[str, str]], body: bytes | None = None) -> str:
        """The name of the kind that answers with these headers (names in lower case); empty: not known.

        `body` is that of the response to ``GET /v2/``; None: of another one.
        """
        said = [(name, value.lower()) for name, value in headers]
        if body is not None:
            said.append(("body", body.decode("utf-8", "replace").strip()[:200].lower()))
        for name in self.names():
            for rule in self._value(name, "answers") or ():
                if all(
                    any(_matches(value, pattern) for other, value in said if other == each)
                    for each, pattern in rule.items()
                ):
                    return name
        return ""

    def like(self, name: str) -> str:
        """The kind that has the values which this one lacks; empty where there is none."""
        row = table().get(name)
        return self.own.get(name, {}).get("like") or (row.like if row is not None else "")

    def _value(self, name: str, value: str) -> Any:
        """One value of a kind, without those of the kind that it is like."""
        if name in self.own and value in self.own[name]:
            return self.own[name][value]
        row = table().get(name)
        return row.values[value].value if row is not None and value in row.values else None

    def _values(self, name: str, seen: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The values of a kind: the table's, and those that replace them. `seen`: the kinds like it."""
        own, row = self.own.get(name), table().get(name)
        if own is None and row is None:
            known = ", ".join(self.names())
            raise InvalidOption(f"there is no kind of registry {name!r}; known are {known}")
        own = own or {}
        if name in seen or (row is None and own.get("like") == name):
            raise InvalidOption(f"kind {name} is like itself")
        like = self.like(name)
        values, given = self._values(like, {*seen, name}) if like and like != name else ({}, {})
        for part in (values, given):
            for each in ITS_OWN:
                part.pop(each, None)
        if row is not None:
            values |= {each: cited.value for each, cited in row.values.items()}
            values["title"] = row.title
        given |= {each: value for each, value in own.items() if each != "like"}
        return values, given


def _made(name: str, values: Mapping[str, Any]) -> Kind:
    nested: dict[str, Any] = {"name": name, "upload": {}, "limits": {}}
    for path, value in values.items():
        part, _, last = path.rpartition(".")
        sized = parse_size(value) if path in SIZES and isinstance(value, str) else value
        (nested[part] if part else nested)[last] = sized
    try:
        kind = msgspec.convert(nested, Kind)
        kind.upload.limits  # noqa: B018 - checks them
    except (msgspec.ValidationError, InvalidOption) as error:
        raise InvalidOption(f"kind {name}: {error}") from None
    return kind


def _matches(text: str, pattern: str) -> bool:
    """As `fnmatch`, which would compile each pattern, without its other wild cards."""
    first, *others = pattern.split("*")
    if not others:
        return text == pattern
    if not text.startswith(first):
        return False
    at = len(first)
    for each in others[:-1]:
        found = text.find(each, at)
        if found < 0:
            return False
        at = found + len(each)
    return text.endswith(others[-1], at)
