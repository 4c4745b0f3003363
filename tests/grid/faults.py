"""How each fault of the grid is injected: a `Fault` for a place, a side and a fault's name.

The image is an index of one manifest with one layer in parts, one small layer and a config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from crossdock_testing.faults import (
    Answer,
    Break,
    Fault,
    HeaderList,
    Matcher,
    Seen,
    content_length,
    content_range,
    error,
    expired_url,
    redirect,
    redirect_upload,
    retry_after,
    set_header,
)
from grid.cells import Cell

PART = 128 << 10
LARGE = 4 * PART + 10_000
BYTES = {"first byte": 0, "middle": 2 * PART + PART // 2, "last byte": LARGE - 1}
WAIT_S = 1  # of a Retry-After
_TRICKLE = 1.0  # bytes a second, far under `NetworkOptions.low_speed`
_HANDSHAKE = 700  # bytes of the server's flight that pass: up to the middle of its certificate
_UNKNOWN = {"head": "NAME_UNKNOWN", "manifest": "MANIFEST_UNKNOWN", "tag": "MANIFEST_UNKNOWN"}


@dataclass(frozen=True)
class Subject:
    """The content that the grid copies."""

    large: str  # digests
    small: str
    manifest: str
    data: dict[str, bytes] = field(repr=False)  # of blobs and manifests, by digest; of the index by "v1"
    realm: str = ""  # of a token service that issues a token to anyone
    elsewhere: str = ""  # the base URL of another host with the source's content


# -- which requests ----------------------------------------------------------------------------------------


def span(seen: Seen, size: int) -> tuple[int, int]:
    """The half-open range of a blob that a request carries or requests."""
    text = seen.range.removeprefix("bytes=") or seen.headers.get("content-range", "")
    first, _, last = text.partition("-")
    return (int(first), int(last) + 1) if last else (0, size)


def at_source(place: str, subject: Subject) -> Matcher:
    """Matches the source's requests of a place."""
    if place in BYTES:
        return lambda seen: seen.is_blob_get(subject.large) and _carries(seen, BYTES[place])
    if place in ("manifest", "tag"):
        return _manifest(place, subject, ("GET", "HEAD"))
    return lambda seen: seen.is_blob_get(subject.small)


def at_target(place: str, subject: Subject) -> Matcher:
    """Matches the target's requests of a place."""
    if place in BYTES:
        return lambda seen: _is_large(seen) and _carries(seen, BYTES[place])
    if place == "commit":
        return lambda seen: seen.method == "PUT" and subject.large.partition(":")[2] in seen.path
    if place in ("manifest", "tag"):
        return _manifest(place, subject, ("PUT",))
    # With a body it is a whole blob in one POST. Mounts are left out: a copy continues when they are refused.
    return lambda seen: seen.is_upload_start() and not seen.body_size and "mount=" not in seen.path


def _carries(seen: Seen, at: int) -> bool:
    start, stop = span(seen, LARGE)
    return start <= at < stop


def _is_large(seen: Seen) -> bool:
    return seen.is_upload_body() and (seen.body_size >= PART or "content-range" in seen.headers)


def _manifest(place: str, subject: Subject, methods: tuple[str, ...]) -> Matcher:
    end = "/manifests/" + (subject.manifest if place == "manifest" else "v1")
    return lambda seen: seen.method in methods and seen.path.endswith(end)


# -- the fault for each place -------------------------------------------------------------------------------

Effects = dict[str, Any]  # arguments of `Fault`


def effects(cell: Cell, subject: Subject) -> Effects:
    """The fault for the requests of the place."""
    if cell.fault in _BREAKS:
        return {"breaks": _break(_BREAKS[cell.fault], cell)}
    if cell.fault in _STATUSES:
        return {"answer": _STATUSES[cell.fault](cell, subject), "answer_after": _taken(cell)}
    return _OTHERS[cell.fault](cell, subject)


_BREAKS = {
    "drop": "close",
    "reset": "reset",
    "stall": "stall",
    "no close_notify": "cut",
    "cancellation": "stall",
}


def _break(how: Any, cell: Cell) -> Break:
    place = cell.place
    if place in ("connect", "TLS"):
        return Break(how, "connect" if place == "connect" else "handshake", 0)
    if place == "request":
        return Break(how, "request")
    if place in BYTES and cell.side == "source":
        return Break(how, "blob", BYTES[place])
    if place in BYTES:
        return Break(how, "request", _taken(cell))
    if place == "tag" and cell.side == "target":
        return Break(how, "request", -1)  # else the tag is set, and only the response is lost
    return Break(how, "head", 20 if place == "head" else 0)


def _taken(cell: Cell) -> int | None:
    """Bytes of a request's body before the fault."""
    if cell.place == "first byte":
        return 1
    at = BYTES.get(cell.place)
    return at % PART if at is not None and cell.in_chunks else at


def _unauthorized(cell: Cell, subject: Subject) -> Answer:
    return error(401, WWW_Authenticate=f'Bearer realm="{subject.realm}",service="crossdock registry"')


def _forbidden(cell: Cell, subject: Subject) -> Answer:
    return expired_url() if is_from_storage(cell) else error(403)


def _unknown(cell: Cell, subject: Subject) -> Answer:
    if cell.side == "source" and cell.place not in ("manifest", "tag"):
        return error(404, "BLOB_UNKNOWN")
    return error(404, _UNKNOWN.get(cell.place, "BLOB_UPLOAD_UNKNOWN"))


def _redirected(cell: Cell, subject: Subject) -> Callable[[Seen], Answer] | Answer:
    return redirect(subject.elsewhere) if cell.side == "source" else redirect_upload(subject.elsewhere)


def is_from_storage(cell: Cell) -> bool:
    """Whether the registry sends its client to another host, to which the cell's fault then applies."""
    return cell.fault == "403" and cell.side == "source" and cell.place in ("head", *BYTES)


def _status(status: int) -> Callable[[Cell, Subject], Answer]:
    return lambda cell, subject: error(status)


_STATUSES: dict[str, Callable[[Cell, Subject], Answer | Callable[[Seen], Answer]]] = {
    "401": _unauthorized,
    "403": _forbidden,
    "404": _unknown,
    "413": _status(413),
    "416": _status(416),
    "429": lambda cell, subject: retry_after(WAIT_S),
    "500": _status(500),
    "502": _status(502),
    "503": _status(503),
    "redirect": _redirected,
}


def _truncate(cell: Cell, subject: Subject) -> Effects:
    if cell.place == "TLS":
        return {"breaks": Break("close", "handshake", _HANDSHAKE)}
    if cell.side == "target":
        return {"passes": _taken(cell) or 100}
    return {"answer": partial(_shorter, cell.place, subject)}


def _shorter(place: str, subject: Subject, seen: Seen) -> Answer:
    """A consistent response with less than was requested."""
    if place in ("manifest", "tag"):
        return _half_a_manifest(subject, seen)
    data = subject.data[subject.large if place in BYTES else subject.small]
    start, stop = span(seen, len(data))
    stop = max(start + 1, BYTES[place]) if place in BYTES else stop // 2
    if not seen.range:
        return Answer(200, {}, data[:stop])
    return Answer(206, {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}, data[start:stop])


def _half_a_manifest(subject: Subject, seen: Seen) -> Answer:
    data = subject.data[seen.path.rpartition("/")[2]]
    kind = "image.index" if seen.path.endswith("v1") else "image.manifest"
    half = data[: len(data) // 2]
    return Answer(200, {"Content-Type": f"application/vnd.oci.{kind}.v1+json"}, half)


def _flip(cell: Cell, subject: Subject) -> Effects:
    if cell.place == "TLS":
        return {"flip_at": _HANDSHAKE, "within": "handshake"}
    return {"flip_at": BYTES.get(cell.place, 0)}


def _throttle(cell: Cell, subject: Subject) -> Effects:
    if cell.place == "TLS":
        return {"rate": _TRICKLE, "within": "handshake"}
    in_head = cell.place in ("head", "commit", "manifest") or (cell.place == "tag" and cell.side == "source")
    return {"rate": _TRICKLE, "within": "head" if in_head else "body"}


def _wrong_length(cell: Cell, subject: Subject) -> Effects:
    less = cell.side == "source" and cell.place in ("first byte", "manifest")
    return {"head": content_length(-10 if less else 10)}


def _wrong_range(cell: Cell, subject: Subject) -> Effects:
    return {"head": content_range(shift=1) if cell.side == "source" else _stands_still}


def _stands_still(status: int, headers: HeaderList) -> tuple[int, HeaderList]:
    """A Range that acknowledges nothing, as ECR sends."""
    return set_header("Range", "0-0")(status, headers)


_OTHERS: dict[str, Callable[[Cell, Subject], Effects]] = {
    "truncate": _truncate,
    "flip a bit": _flip,
    "throttle": _throttle,
    "wrong length": _wrong_length,
    "wrong range": _wrong_range,
    "200 for 206": lambda cell, subject: {"strip_range": True},
}


def fault(cell: Cell, subject: Subject, *, persists: bool) -> Fault:
    """The cell's fault, once or permanently."""
    match = (at_source if cell.side == "source" else at_target)(cell.place, subject)
    if cell.side == "source" and cell.fault == "416":
        match = partial(_in_range, match)
    if cell.side == "source" and cell.fault == "throttle" and cell.place == "first byte":
        match = partial(_soon_after_first, subject)
    return Fault(match, times=None if persists else 1, **effects(cell, subject))


def _in_range(match: Matcher, seen: Seen) -> bool:
    return bool(seen.range) and match(seen)


def _soon_after_first(subject: Subject, seen: Seen) -> bool:
    """Matches before the first byte arrives: it trickles in, and the next request starts after it."""
    return seen.is_blob_get(subject.large) and _carries(seen, 512)
