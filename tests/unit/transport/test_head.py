"""Request and answer heads, chunked bodies and whole answers: any split, any bytes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crossdock.errors import InvalidInput, ProtocolError, ReadFailed, TransportError
from crossdock.transport.chunked import MAX_LINE, MAX_TRAILERS, ChunkedDecoder
from crossdock.transport.head import (
    MAX_FIELDS,
    MAX_HEAD,
    HeadParser,
    encode_request,
    parse_response_head,
)
from crossdock.transport.response import DONE, FULL, HEAD, MORE, UNASKED, Response
from unit.transport.wire import Memory, ok


def parse(*lines: str):
    return parse_response_head("\r\n".join([*lines, "", ""]).encode("latin-1"))


def test_a_head_is_parsed_in_order_with_lower_case_names():
    head = parse(
        "HTTP/1.1 206 Partial Content", "Content-Range: bytes 0-1/2", "X:\t a b \t", "x: c", "Empty:"
    )
    assert (head.status, head.reason) == (206, "Partial Content")
    assert head.headers == (("content-range", "bytes 0-1/2"), ("x", "a b"), ("x", "c"), ("empty", ""))
    assert (head.get("x"), head.get("empty"), head.get("y", "z")) == ("a b, c", "", "z")
    assert (head.content_length, head.chunked, head.keep_alive) == (None, False, True)


@pytest.mark.parametrize(
    ("fields", "length", "chunked", "keep_alive"),
    [
        (["Content-Length: 5"], 5, False, True),
        (["Content-Length: 5", "content-length: 5"], 5, False, True),
        (["Content-Length: 5, 5"], 5, False, True),
        (["Transfer-Encoding: Chunked"], None, True, True),
        (["Transfer-Encoding: chunked", "Content-Length: 5"], None, True, False),
        (["Content-Length: 5", "Transfer-Encoding: chunked", "Connection: keep-alive"], None, True, False),
        (["Content-Length: 5, 6", "Transfer-Encoding: chunked"], None, True, False),
        (["Connection: Close"], None, False, False),
        (["Connection: te, close"], None, False, False),
    ],
)
def test_framing(fields, length, chunked, keep_alive):
    head = parse("HTTP/1.1 200 OK", *fields)
    assert (head.content_length, head.chunked, head.keep_alive) == (length, chunked, keep_alive)


def test_a_folded_field_is_one_line():
    head = parse("HTTP/1.1 200 OK", "X: a", "\t b:c ", " d", "Content-Length: 5", "Y:", " e")
    assert (head.get("x"), head.get("y"), head.content_length) == ("a b:c d", "e", 5)


def test_http_1_0_closes_unless_it_says_otherwise():
    assert not parse("HTTP/1.0 200 OK").keep_alive
    assert parse("HTTP/1.0 200 OK", "Connection: keep-alive").keep_alive


@pytest.mark.parametrize("status_line", ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 Ünïcode"])
def test_a_reason_may_be_missing_or_odd(status_line):
    assert parse(status_line).status == 200


@pytest.mark.parametrize(
    "lines",
    [
        ["HTTP/2 200 OK"],
        ["HTTP/1.2 200 OK"],
        ["http/1.1 200 OK"],
        ["HTTP/1.1  200 OK"],
        ["HTTP/1.1 20 OK"],
        ["HTTP/1.1 600 OK"],
        ["HTTP/1.1 200OK"],
        ["HTTP/1.1 200 O\x00K"],
        ["HTTP/1.1 200 OK\nX: y"],
        ["HTTP/1.1 200 OK", "X : y"],
        ["HTTP/1.1 200 OK", " folded"],
        ["HTTP/1.1 200 OK", "\tfolded", "X: y"],
        ["HTTP/1.1 200 OK", "Content-Length:", " 5"],
        ["HTTP/1.1 200 OK", "Content-Length: 5", " "],
        ["HTTP/1.1 200 OK", "transfer-encoding: chunked", "\t"],
        ["HTTP/1.1 200 OK", "Connection: x,", " close"],
        ["HTTP/1.1 200 OK", "X: y", " a\x00b"],
        ["HTTP/1.1 200 OK", "X: y", " folded", "Z"],
        ["HTTP/1.1 200 OK", ": y"],
        ["HTTP/1.1 200 OK", "X"],
        ["HTTP/1.1 200 OK", "X: a\x00b"],
        ["HTTP/1.1 200 OK", "X: a\rb"],
        ["HTTP/1.1 200 OK", "X: a\nb"],
        ["HTTP/1.1 200 OK", "Ä: a"],
        ["HTTP/1.1 200 OK", "Content-Length: -5"],
        ["HTTP/1.1 200 OK", "Content-Length: +5"],
        ["HTTP/1.1 200 OK", "Content-Length: 0x5"],
        ["HTTP/1.1 200 OK", "Content-Length: 5 5"],
        ["HTTP/1.1 200 OK", "Content-Length:"],
        ["HTTP/1.1 200 OK", "Content-Length: 5, 6"],
        ["HTTP/1.1 200 OK", "Content-Length: 5", "Content-Length: 05"],
        ["HTTP/1.1 200 OK", "Content-Length: ²"],
        ["HTTP/1.1 200 OK", "Content-Length: 9999999999999999999"],
        ["HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked"],
        ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["HTTP/1.1 200 OK", "Transfer-Encoding: identity"],
        ["HTTP/1.1 200 OK", "Transfer-Encoding:"],
        ["HTTP/1.0 200 OK", "Transfer-Encoding: chunked"],
        ["HTTP/1.1 200 OK", *["X: y"] * (MAX_FIELDS + 1)],
        ["HTTP/1.1 200 OK", "X: " + "y" * MAX_HEAD],
    ],
)
def test_ambiguous_documents_are_refused(lines):
    with pytest.raises(ProtocolError):
        parse(*lines)


@given(st.binary(max_size=300))
@example(b"HTTP/1.1 200 OK\r\n\r\n")
def test_any_bytes_are_a_head_or_a_protocol_error(data):
    for candidate in (data, data + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n"):
        try:
            head = parse_response_head(candidate)
        except ProtocolError:
            continue
        assert 100 <= head.status < 600
        assert all(name == name.lower() and "\n" not in value for name, value in head.headers)


def test_the_parser_finds_a_head_that_is_split_anywhere_and_keeps_what_follows():
    data = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nbody"
    for split in range(1, len(data)):
        parser = HeadParser()
        found = [feed(parser, data[:split]), feed(parser, data[split:])]
        if found[0] is None:
            assert found[1].get("x") == "y"
        else:
            parser.stash(len(data) - split)
        assert bytes(parser.rest) == b"body"


def feed(parser: HeadParser, data: bytes):
    parser.get_buffer()[: len(data)] = data
    if b"\r\n\r\n" in bytes(parser.memory[: len(parser.memory) - parser.room]):
        return None
    return parser.filled(len(data))


def test_a_request_is_encoded_as_it_was_asked():
    head = encode_request("GET", "/v2/?a=b", [("Host", "h:5"), ("X", "é")])
    assert head == b"GET /v2/?a=b HTTP/1.1\r\nHost: h:5\r\nX: \xe9\r\n\r\n"


TEXT = st.text(alphabet=st.characters(max_codepoint=0x2FF), max_size=20)


@given(TEXT, TEXT, TEXT, TEXT)
@example("GET", "/\r\nX: y", "a", "b")
@example("GET", "/", "a", "b\r\nContent-Length: 7")
@example("GET", "/", "a: b\r\nc", "d")
@example("GET /x HTTP/1.1\r\n", "/", "a", "b")
@example("GET", "/", "a", "b\x00")
def test_no_input_makes_more_lines_than_it_has_fields(method, target, name, value):
    try:
        head = encode_request(method, target, [(name, value)])
    except InvalidInput:
        return
    assert head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r") == 3
    assert b"\x00" not in head
    assert head.split(b"\r\n")[0] == f"{method} {target} HTTP/1.1".encode()


# -- chunked bodies --------------------------------------------------------------------------------------


def decode(pieces: list[bytes]) -> tuple[bytes, bytes]:
    """The payload, and the bytes behind the end."""
    decoder = ChunkedDecoder()
    payload, behind = b"", b""
    for piece in pieces:
        left = memoryview(piece)
        while left:
            found, used = decoder.next(left)
            payload += found
            left = left[used:]
            if not used:
                behind += left
                break
    if not decoder.done:
        raise ReadFailed("incomplete")
    return payload, behind


def encode(chunks: list[bytes], trailer: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n"


def cut(data: bytes, at: list[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(position % (len(data) + 1) for position in at)})
    return [data[start:stop] for start, stop in itertools.pairwise(bounds)]


@given(
    st.lists(st.binary(min_size=1, max_size=40)), st.lists(st.integers(min_value=0)), st.binary(max_size=9)
)
def test_a_chunked_body_is_the_same_however_it_is_split(chunks, at, behind):
    data = encode(chunks, b"A: b\r\nC: d\r\n") + behind
    assert decode(cut(data, at)) == (b"".join(chunks), behind)
    assert decode([data[i : i + 1] for i in range(len(data))]) == (b"".join(chunks), behind)


@given(st.binary(max_size=100), st.lists(st.integers(min_value=0)))
def test_any_bytes_are_a_chunked_body_or_an_error_however_split(data, at):
    results = []
    for pieces in ([data] if data else [], cut(data, at), [data[i : i + 1] for i in range(len(data))]):
        try:
            results.append(decode(pieces))
        except TransportError as error:
            results.append(type(error))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    "data",
    [
        b"5\nabcde\r\n0\r\n\r\n",
        b"5\r\nabcdef\r\n0\r\n\r\n",
        b"5 abc\r\nabcde\r\n0\r\n\r\n",
        b"-5\r\nabcde\r\n0\r\n\r\n",
        b"0x5\r\nabcde\r\n0\r\n\r\n",
        b" 5\r\nabcde\r\n0\r\n\r\n",
        b"\r\n",
        b"1000000000000000\r\n",
        b"0\r\nnot a field\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"5;" + b"x" * MAX_LINE + b"\r\nabcde\r\n0\r\n\r\n",
        b"5" * (MAX_LINE + 10),
        b"0\r\n" + (b"A: " + b"x" * 1000 + b"\r\n") * (MAX_TRAILERS // 1000 + 1) + b"\r\n",
    ],
)
def test_a_chunked_body_that_bends_the_rules_is_refused(data):
    with pytest.raises(ProtocolError):
        decode([data])


# -- whole answers ---------------------------------------------------------------------------------------


def answer_of(pieces: list[bytes], limit: int = 1 << 20):
    """Land the pieces as a loop would, a sink attached as soon as the head is known."""
    answer = Response()
    answer.expect("GET")
    sink = Memory(limit, piece=7)
    event = MORE
    for piece in pieces:
        while piece:
            room = answer.memory
            assert len(room)
            count = min(len(room), len(piece))
            room[:count] = piece[:count]
            piece = piece[count:]
            event = answer.landed(count)
            if event is HEAD:
                event = answer.attach(sink)
            if event is DONE:
                return answer, sink.content, piece
            assert event is not FULL
    answer.end(True)
    if answer.head is None:
        raise ReadFailed("no head")
    assert answer.proceed() is DONE
    return answer, sink.content, b""


ANSWERS = [
    ok(b"abc" * 50),
    b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"x" * 20),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + encode([b"abc", b"d" * 30]),
    b"HTTP/1.1 200 OK\r\n\r\n" + b"until the end" * 4,
    b"HTTP/1.1 204 No Content\r\n\r\n",
]


@given(st.sampled_from(ANSWERS), st.lists(st.integers(min_value=0)))
def test_an_answer_is_the_same_however_it_is_split(data, at):
    whole, split = answer_of([data]), answer_of(cut(data, at))
    assert whole[0].head == split[0].head
    assert whole[1] == split[1]


@given(st.sampled_from(ANSWERS), st.data())
def test_an_answer_that_is_cut_anywhere_is_whole_only_when_nothing_frames_it(data, draw):
    length = draw.draw(st.integers(min_value=0, max_value=len(data) - 1))
    try:
        answer, content, _ = answer_of([data[:length]])
    except (ReadFailed, ProtocolError):
        return
    assert answer.head.content_length is None
    assert not answer.head.chunked
    assert not answer.exact
    assert data[:length].endswith(content)


@given(st.binary(max_size=200), st.lists(st.integers(min_value=0)))
def test_any_bytes_are_an_answer_or_a_transport_error_however_split(data, at):
    for prefix in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        results = []
        for pieces in ([prefix + data], cut(prefix + data, at)):
            try:
                answer, content, _ = answer_of([piece for piece in pieces if piece])
                results.append((answer.head, content))
            except TransportError as error:
                results.append(type(error))
        assert results[0] == results[1]


def test_bytes_that_nobody_asked_for_are_called_that():
    answer = Response()
    answer.memory[:1] = b"x"
    assert answer.landed(1) is UNASKED
