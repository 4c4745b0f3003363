"""Fuzz targets for input of registries and proxies: heads, bodies, header values, addresses, uploads.

A target takes any bytes and returns nothing. It fails by an exception of the parser that is not one of
`crossdock.errors`, by an invariant that does not hold, or by a disagreement with `opinions`.
"""

from __future__ import annotations

import contextlib
import math
from urllib.parse import urlsplit

from crossdock.errors import CrossdockError, ProtocolError, RedirectRefused
from crossdock.protocol.byterange import (
    Unsatisfiable,
    content_range_for_chunk,
    parse_chunk_range,
    parse_content_range,
    parse_range,
    parse_uploaded,
    range_header,
    unsatisfied_total,
)
from crossdock.protocol.challenge import MAX_HEADER, Challenge, parse_challenges
from crossdock.protocol.errorcode import MAX_MESSAGE, parse_error
from crossdock.protocol.pagination import next_page
from crossdock.protocol.ratelimit import read_allowance
from crossdock.protocol.redirect import is_loopback, next_hop
from crossdock.protocol.upload import Ask, Done, Look, Open, Upload, UploadRules, Verdict
from crossdock.redact import redact_text, redact_url
from crossdock.registry.blobs.expiry import refresh_after, server_time
from crossdock.registry.http.retry import retry_after
from crossdock.transport.chunked import ChunkedDecoder
from crossdock.transport.head import MAX_HEAD, HeadParser, parse_response_head
from crossdock.url import Url
from fuzz import opinions

REGISTRY = "https://registry.example"
PAGE = f"{REGISTRY}/v2/team/app/tags/list?n=10"
DIGEST = "sha256:" + "ab" * 32
NOW = 1_700_000_000.0


def text_of(data: bytes) -> str:
    """As header values come: Latin-1, of which some readers make UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def rate_limit(data: bytes) -> None:
    """The headers of a rate limit, one a line."""
    lines = (line.partition(":") for line in text_of(data).splitlines())
    said = read_allowance({name.strip().lower(): value.strip() for name, _, value in lines}, NOW)
    assert said is None or (said.remaining >= 0 and 0 <= said.window_s < math.inf)


def challenge(data: bytes) -> None:
    """``WWW-Authenticate``: a parsed challenge parses to the same value after it is written."""
    found = parse_challenges([text_of(data)])
    for one in found:
        assert one.scheme == one.scheme.lower() != ""
        assert all(name == name.lower() for name in one.parameters)
        "".join(one.parameters.values()).encode()
    written = ", ".join(map(_written, found))
    if len(written) <= MAX_HEADER:
        assert parse_challenges([written]) == found


def _written(one: Challenge) -> str:
    pairs = (
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"'))
        for name, value in one.parameters.items()
    )
    return f"{one.scheme} {', '.join(pairs)}".strip()


def content_range(data: bytes) -> None:
    """``Content-Range`` and the session's ``Range``, read and written, on both sides of the wire."""
    text = text_of(data)
    found = parse_content_range(text)
    if (other := opinions.content_range(text)) is not None:
        assert found is not None
        assert (found.start, found.stop - 1, found.total) == other
    if found is not None:
        assert 0 <= found.start < found.stop
        part = found.start, found.stop
        assert parse_chunk_range(content_range_for_chunk(*part)) == part
        assert parse_range(range_header(*part), found.stop) == part
    assert (unsatisfied_total(text) or 0) >= 0
    held = parse_uploaded(text)
    assert held is None or held == 0 or parse_uploaded(f"0-{held - 1}") in (held, 0)
    parse_chunk_range(text)
    with contextlib.suppress(Unsatisfiable):
        if (asked := parse_range(text, 1000)) is not None:
            assert 0 <= asked[0] < asked[1] <= 1000


def link(data: bytes) -> None:
    """``Link``: the next page is a permitted URL of the same server, or the header is refused."""
    try:
        page = next_page(text_of(data).split("\n"), Url.parse(PAGE))
    except ProtocolError as error:
        assert str(error).isprintable()
        return
    if page is not None:
        assert page.text.startswith(f"{REGISTRY}/")
        with contextlib.suppress(RedirectRefused):
            home = Url.parse(REGISTRY).origin
            assert next_hop(Url.parse(PAGE), page.text, registry=home).origin == home


def location(data: bytes) -> None:
    """``Location`` of redirects and uploads: nowhere forbidden, and urllib reads the same address."""
    for registry in (REGISTRY, "http://127.0.0.1:5000"):
        home = Url.parse(registry).origin
        try:
            hop = next_hop(Url.parse(f"{registry}/v2/a"), text_of(data), registry=home)
        except RedirectRefused as error:
            assert str(error).isprintable()
            continue
        parts = urlsplit(hop.text)
        assert hop.text.isascii()
        assert hop.text.isprintable()
        assert " " not in hop.text
        found = hop.origin
        there = parts.scheme, parts.hostname, parts.port or found.port
        assert there == (found.scheme, found.host, found.port)
        assert parts.username is None
        if registry.startswith("https:"):
            assert found.scheme == "https"
            assert not is_loopback(found.host)
        assert next_hop(Url.parse(registry), hop.text, registry=home) == hop
        assert 0 < refresh_after(hop, NOW) <= 240


def retry_header(data: bytes) -> None:
    """``Retry-After`` and ``Date``: a finite time that does not go back, or nothing."""
    seconds = retry_after({"Retry-After": text_of(data)}, NOW)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))
    assert math.isfinite(server_time(text_of(data), NOW))


def error_body(data: bytes) -> None:
    """The body of a refusal: one short printable line."""
    found = parse_error(data)
    assert len(found.message) <= MAX_MESSAGE
    assert "\n" not in found.message
    assert "\x1b" not in found.message


def redaction(data: bytes) -> None:
    """URLs in messages: no words before a URL bring its secrets out."""
    text = text_of(data)
    assert redact_url(redact_url(text)) == redact_url(text)
    shown = redact_text(f"{text} https://u:s3cr3t@h.example/x?sig=s3cr3t&a=s3cr3t&n=s3cr3t;b#s3cr3t")
    assert "s3cr3t" not in shown


def head(data: bytes) -> None:
    """A head: http.client, and the parser fed byte by byte, read an accepted head in the same way."""
    data = data[:MAX_HEAD]
    try:
        found = parse_response_head(data)
    except ProtocolError as error:
        assert str(error).isprintable()
        return
    parser = HeadParser()
    fed = None
    for at in range(0, len(data), 1 + len(data) // 7):
        piece = data[at : at + 1 + len(data) // 7]
        parser.get_buffer()[: len(piece)] = piece
        fed = parser.filled(len(piece))
        if fed is not None:
            break
    # An empty line inside ends the head for whoever reads from the wire.
    assert fed == found or data.index(b"\r\n\r\n") + 4 < len(data)
    lines = data.count(b"\r\n")
    if found.status < 200 or lines > 90 or max(map(len, data.split(b"\r\n"))) > 60_000:
        return  # which http.client skips or bounds
    other = opinions.http_answer(data)
    assert other is not None
    assert other.status == found.status
    theirs = [(name.lower(), " ".join(value.split())) for name, value in other.getheaders()]
    # It leaves the ends of folded lines in a value, which are blanks (RFC 9112 5.2).
    assert theirs == [(name, " ".join(value.split())) for name, value in found.headers]
    assert bool(other.chunked) == found.chunked
    if found.status not in (204, 304) and not found.chunked:
        # Of repeated lengths that agree it reads none but the first.
        assert other.length == found.content_length or "," in found.by_name.get("content-length", "")


def chunked_body(data: bytes) -> None:
    """A chunked body: the same result in one piece, byte by byte, and with http.client."""
    whole = _decoded(data, len(data) or 1)
    assert whole == _decoded(data, 1 if len(data) < 2000 else 997)
    if whole is not None and whole[1]:
        assert opinions.chunked_payload(data) == whole[0]


def _decoded(data: bytes, piece: int) -> tuple[bytes, bool, int] | None:
    """Payload, whether it ended, and how many bytes belonged to it; None when it is refused."""
    decoder, payload, used = ChunkedDecoder(), b"", 0
    try:
        for at in range(0, len(data), piece):
            rest = memoryview(data)[at : at + piece]
            while rest and not decoder.done:
                found, taken = decoder.next(rest)
                assert taken > 0
                payload, used, rest = payload + bytes(found), used + taken, rest[taken:]
    except ProtocolError:
        return None
    return payload, decoder.done, used


def upload(data: bytes) -> None:
    """The dialogue of an upload with a target that answers anything: it ends, inside the blob.

    Every line is one answer: a status, ``Location``, ``Range`` and a chunk length, parted by blanks.
    """
    size = 40 << 20
    lines = text_of(data[:4000]).split("\n")
    chunked = len(lines) % 2 == 0
    rules = UploadRules(chunked=chunked, chunk_size=8 << 20)
    dialogue = Upload(DIGEST, size, rules, retries=3, resolve=_resolve)
    try:
        for number in range(2000):
            step = dialogue.step
            if isinstance(step, Done) or not _answered(dialogue, lines[number % len(lines)].split(" ")):
                return
            assert 0 <= dialogue.offset <= size
            assert 0 <= dialogue.acknowledged <= size
    except CrossdockError:
        return
    raise AssertionError("the dialogue does not end")


def _resolve(base: Url, place: str) -> Url:
    return next_hop(base, place, registry=Url.parse(REGISTRY).origin)


def _answered(dialogue: Upload, words: list[str]) -> bool:
    """Give the next response; returns whether the upload continues."""
    number, place, span, length = (*words, "", "", "", "")[:4]
    status = int(number) if number.isascii() and number.isdigit() and len(number) < 5 else 202
    headers = {"location": place or "/u/1", "range": span, "oci-chunk-max-length": length}
    step = dialogue.step
    if isinstance(step, Open):
        dialogue.opened(headers, Url.parse(f"{REGISTRY}/v2/team/app/blobs/uploads/"))
        return True
    if isinstance(step, Look):
        return dialogue.looked(status == 200) is not Verdict.REFUSED
    if isinstance(step, Ask):
        return dialogue.asked(status, headers) is not Verdict.REFUSED
    assert not isinstance(step, Done)
    assert 0 <= step.start <= step.stop <= dialogue.size
    if status == 0:
        return dialogue.broken((step.stop - step.start) // 2) is not Verdict.REFUSED
    return dialogue.answered(status, headers, step.stop - step.start) is not Verdict.REFUSED
