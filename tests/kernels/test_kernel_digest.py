"""SHA-256 against the standard's vectors, against hashlib, and through its exported state."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.backends import BACKENDS, load

MILLION_A = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"

# FIPS 180-4 examples, then NIST's CAVS short messages (SHA256ShortMsg.rsp).
VECTORS = {
    b"": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": (
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
    b"hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu": (
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
    ),
    bytes.fromhex("d3"): "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1",
    bytes.fromhex("11af"): "5ca7133fa735326081558ac312c620eeca9970d1e70a4b95533d956f072d1f98",
    bytes.fromhex("b4190e"): "dff2e73091f6c05e528896c4c831b9448653dc2ff043528f6769437bc7b975c2",
    bytes.fromhex("74ba2521"): "b16aa56be3880d18cd41e68384cf1ec8c17680c45a02b1575dc1518923ae8b0e",
    bytes.fromhex("c98c8e55"): "7abc22c0ae5af26ce93dbb94433a0e0b2e119d014f8e7f65bd56c61ccccd9504",
}

# SHA256Monte.rsp: each count feeds 1000 digests into one another.
MONTE_CARLO_SEED = "6d1e72ad03ddeb5de891e572e2396f8da015d899ef0e79503152d6010a3fe691"
MONTE_CARLO = {
    0: "e93c330ae5447738c8aa85d71a6c80f2a58381d05872d26bdd39f1fcd4f2b788",
    1: "2e78f8c8772ea7c9331d41ed3f9cdf27d8f514a99342ee766ee3b8b0d0b121c0",
    99: "6a912ba4188391a78e6f13d88ed2d14e13afce9db6f7dcbf4a48c24f3db02778",
}

# Where the padding changes shape: 0x80 and the length fit in the last block up to 55 bytes of it.
EDGES = [n * 64 + edge for n in range(3) for edge in (0, 1, 3, 54, 55, 56, 57, 62, 63)]

# Every compression function that this machine can run, by backend.
IMPLEMENTATIONS = [
    (backend, name) for backend in BACKENDS for name in load(backend).digest._implementations()
]

New = Callable[[], Any]


@pytest.fixture(scope="session", params=IMPLEMENTATIONS, ids="-".join)
def new(request: pytest.FixtureRequest) -> New:
    """Makes a Sha256 that uses one certain compression function."""
    backend, name = request.param
    module = load(backend).digest
    return lambda: module._with_implementation(name)


def pattern(size: int) -> bytes:
    return bytes(i * 167 + (i >> 8) & 0xFF for i in range(size))


def test_the_implementation_in_use_is_the_first_of_the_available(kernels: SimpleNamespace) -> None:
    assert kernels.digest._implementations()[0] == kernels.digest.IMPLEMENTATION
    with pytest.raises(ValueError, match="no SHA-256 implementation"):
        kernels.digest._with_implementation("abacus")


@pytest.mark.parametrize("message", VECTORS, ids=len)
def test_vectors_of_the_standard(new: New, message: bytes) -> None:
    digest = new()
    digest.update(message)
    assert digest.hexdigest() == VECTORS[message]
    assert digest.digest() == bytes.fromhex(VECTORS[message])
    assert digest.length == len(message)


def test_one_million_a(new: New) -> None:
    digest = new()
    for _ in range(1000):
        digest.update(b"a" * 1000)
    assert digest.hexdigest() == MILLION_A
    assert digest.length == 1_000_000


def test_monte_carlo_of_nist(new: New) -> None:
    is_slow = new().__class__.__module__.startswith("crossdock._kernels")
    seed = bytes.fromhex(MONTE_CARLO_SEED)
    for count in range(1 if is_slow else 100):
        first, second, third = seed, seed, seed
        for _ in range(1000):
            digest = new()
            digest.update(first + second + third)
            first, second, third = second, third, digest.digest()
        seed = third
        if count in MONTE_CARLO:
            assert seed.hex() == MONTE_CARLO[count]


@pytest.mark.parametrize("size", EDGES)
def test_lengths_around_the_padding_equal_hashlib(new: New, size: int) -> None:
    digest = new()
    digest.update(pattern(size))
    assert digest.digest() == hashlib.sha256(pattern(size)).digest()


@pytest.mark.parametrize("size", [163, 1289, 6400, 20_001])
def test_long_messages_at_odd_addresses_equal_hashlib(new: New, size: int) -> None:
    data = pattern(size + 7)
    for shift in range(8):
        digest = new()
        digest.update(memoryview(data)[shift : shift + size])
        assert digest.digest() == hashlib.sha256(data[shift : shift + size]).digest()


def test_every_split_of_a_message_gives_the_same_digest(new: New) -> None:
    data = pattern(150)
    expected = hashlib.sha256(data).digest()
    for cut in range(len(data) + 1):
        digest = new()
        digest.update(data[:cut])
        digest.update(data[cut:])
        assert digest.digest() == expected


@given(pieces=st.lists(st.binary(max_size=200), max_size=12))
def test_any_split_equals_hashlib(new: New, pieces: list[bytes]) -> None:
    digest, expected = new(), hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        expected.update(piece)
        assert digest.digest() == expected.digest()  # asking does not end it
    assert digest.hexdigest() == expected.hexdigest()
    assert digest.length == sum(map(len, pieces))


@given(data=st.data())
def test_state_continues_at_any_offset_in_any_backend(data: st.DataObject) -> None:
    message = data.draw(st.binary(max_size=400))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(message)), max_size=3)))
    backends = data.draw(st.lists(st.sampled_from(BACKENDS), min_size=len(cuts) + 1, max_size=len(cuts) + 1))
    digest = load(backends[0]).Sha256()
    offset = 0
    for cut, backend in zip(cuts, backends[1:], strict=True):
        digest.update(message[offset:cut])
        state = digest.export_state()
        digest = load(backend).Sha256(state)
        assert digest.length == cut
        assert digest.export_state() == state
        offset = cut
    digest.update(message[offset:])
    assert digest.digest() == hashlib.sha256(message).digest()


def test_every_offset_can_be_exported(kernels: SimpleNamespace) -> None:
    data = pattern(140)
    digest = kernels.Sha256()
    for offset in range(len(data)):
        resumed = kernels.Sha256(digest.export_state())
        resumed.update(data[offset:])
        assert resumed.digest() == hashlib.sha256(data).digest()
        digest.update(data[offset : offset + 1])


@pytest.mark.skipif(len(BACKENDS) < 2, reason="CROSSDOCK_KERNELS=pure was asked for")
def test_both_backends_export_the_same_bytes() -> None:
    states = []
    for backend in BACKENDS:
        digest = load(backend).Sha256()
        digest.update(pattern(1000))
        states.append(digest.export_state())
    assert states[0] == states[1]


def test_the_encoding_does_not_change_unnoticed(kernels: SimpleNamespace) -> None:
    # A state stored by an earlier version must be understood: another encoding takes another version number.
    digest = kernels.Sha256()
    digest.update(b"a" * 64 + b"bc")
    parts = [
        "7368613235367301",  # "sha256s", version
        "df5bb81ce81e0626fb45a8944fd40f31b25e6816d6d499c1ab90492900635e66",  # words
        "0000000000000042",  # bytes so far
        "6263",  # "bc"
        "a5300b085243bb4e",  # check
    ]
    assert digest.export_state().hex() == "".join(parts)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 130])
def test_a_damaged_state_is_refused(kernels: SimpleNamespace, size: int) -> None:
    digest = kernels.Sha256()
    digest.update(pattern(size))
    state = digest.export_state()
    for position in range(len(state)):
        for bit in (1, 128):
            damaged = bytearray(state)
            damaged[position] ^= bit
            with pytest.raises(ValueError, match="SHA-256 state"):
                kernels.Sha256(bytes(damaged))
    for length in range(len(state)):
        with pytest.raises(ValueError, match="SHA-256 state"):
            kernels.Sha256(state[:length])
    with pytest.raises(ValueError, match="damaged"):
        kernels.Sha256(state + b"\0")


def checked(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()[:8]


def test_states_that_cannot_be_are_refused_though_their_check_is_right(kernels: SimpleNamespace) -> None:
    words = bytes(32)
    with pytest.raises(ValueError, match="unknown version"):
        kernels.Sha256(checked(b"sha256s\x02" + words + bytes(8)))
    with pytest.raises(ValueError, match="not an exported"):
        kernels.Sha256(checked(b"sha512s\x01" + words + bytes(8)))
    with pytest.raises(ValueError, match="damaged"):  # 3 pending bytes promised, 2 there
        kernels.Sha256(checked(b"sha256s\x01" + words + (3).to_bytes(8, "big") + b"ab"))
    with pytest.raises(ValueError, match="damaged"):
        kernels.Sha256(checked(b"sha256s\x01" + words + (1 << 61).to_bytes(8, "big")))


def test_a_state_is_bytes(kernels: SimpleNamespace) -> None:
    with pytest.raises(TypeError):
        kernels.Sha256(bytearray(kernels.Sha256().export_state()))


def test_a_message_of_2_to_the_61_bytes_is_refused(kernels: SimpleNamespace) -> None:
    digest = kernels.Sha256(checked(b"sha256s\x01" + bytes(32) + ((1 << 61) - 64).to_bytes(8, "big")))
    digest.update(bytes(63))
    before = digest.export_state()
    with pytest.raises(ValueError, match="2\\*\\*61"):
        digest.update(b"x")
    assert digest.export_state() == before


def test_an_unresumable_digest_hashes_and_has_no_state(kernels: SimpleNamespace) -> None:
    digest = kernels.Sha256(resumable=False)
    digest.update(pattern(5000))
    assert digest.digest() == hashlib.sha256(pattern(5000)).digest()
    assert digest.hexdigest() == hashlib.sha256(pattern(5000)).hexdigest()
    assert digest.length == 5000
    with pytest.raises(ValueError, match="resumable=False"):
        digest.export_state()


def test_an_unresumable_digest_can_begin_from_a_state(kernels: SimpleNamespace) -> None:
    digest = kernels.Sha256()
    digest.update(b"ab")
    rest = kernels.Sha256(digest.export_state(), resumable=False)
    rest.update(b"c")
    assert rest.digest() == hashlib.sha256(b"abc").digest()
    with pytest.raises(ValueError, match="resumable=False"):
        rest.export_state()


@pytest.mark.parametrize("resumable", [True, False])
def test_anything_contiguous_can_be_hashed(kernels: SimpleNamespace, resumable: bool) -> None:
    data = pattern(48)
    flat = memoryview(data)
    for buffer in (data, bytearray(data), flat, flat.cast("c"), flat.cast("I"), flat.cast("B", (6, 8))):
        digest = kernels.Sha256(resumable=resumable)
        digest.update(buffer)
        assert digest.digest() == hashlib.sha256(data).digest()
        assert digest.length == len(data)
    digest = kernels.Sha256(resumable=resumable)
    digest.update(flat[:0].cast("I"))
    assert digest.length == 0


@pytest.mark.parametrize("resumable", [True, False])
def test_content_that_cannot_be_hashed_is_refused(kernels: SimpleNamespace, resumable: bool) -> None:
    digest = kernels.Sha256(resumable=resumable)
    with pytest.raises(BufferError):
        digest.update(memoryview(b"abcdef")[::2])
    for thing in ("text", 3, None):
        with pytest.raises(TypeError):
            digest.update(thing)
    assert digest.digest() == hashlib.sha256().digest()


# -- several at once ---------------------------------------------------------------------------------------

UpdateMany = Callable[[list[Any], list[Any]], None]


@pytest.fixture(scope="session")
def together(new: New) -> UpdateMany:
    """`update_many` of the backend that `new` belongs to."""
    return next(load(name).update_many for name in BACKENDS if type(new()) is load(name).Sha256)


@given(data=st.data())
def test_many_updates_equal_separate_ones_for_every_input(
    new: New, together: UpdateMany, data: st.DataObject
) -> None:
    size = st.one_of(st.integers(0, 200), st.sampled_from([0, 63, 64, 65, 128, 500, 2048]))
    begun = data.draw(st.lists(st.integers(0, 130), max_size=7))  # more streams than lanes too
    hashers, expected = [], []
    for lane, before in enumerate(begun):
        hasher, one = new(), hashlib.sha256()
        hasher.update(pattern(before))
        one.update(pattern(before))
        hashers.append(hasher)
        expected.append((lane, one))
    lengths = list(begun)
    for _ in range(data.draw(st.integers(1, 3))):
        buffers = []
        for lane, one in expected:
            piece = pattern(data.draw(size) + lane)[lane:]  # another content and alignment in each lane
            one.update(piece)
            lengths[lane] += len(piece)
            buffers.append(memoryview(b"-" * lane + piece)[lane:])
        together(hashers, buffers)
    assert [hasher.digest() for hasher in hashers] == [one.digest() for _, one in expected]
    assert [hasher.length for hasher in hashers] == lengths


@pytest.mark.parametrize("lanes", range(1, 7))
def test_many_large_buffers_of_any_lengths_are_hashed_each_for_itself(
    new: New, together: UpdateMany, lanes: int
) -> None:
    largest = 3000 if "_kernels" in type(new()).__module__ else 300_000
    buffers = [pattern(largest // (1 + lane * 7 % 5) + lane) for lane in range(lanes)]
    hashers = [new() for _ in buffers]
    together(hashers, buffers)
    for hasher, buffer in zip(hashers, buffers, strict=True):
        assert hasher.digest() == hashlib.sha256(buffer).digest()
        resumed = type(hasher)(hasher.export_state())
        resumed.update(b"more")
        assert resumed.digest() == hashlib.sha256(buffer + b"more").digest()


def test_many_of_the_unresumable_are_hashed_too(kernels: SimpleNamespace) -> None:
    hashers = [kernels.Sha256(resumable=bool(lane % 2)) for lane in range(4)]
    kernels.update_many(iter(hashers), iter([pattern(5000 + lane) for lane in range(4)]))
    for lane, hasher in enumerate(hashers):
        assert hasher.digest() == hashlib.sha256(pattern(5000 + lane)).digest()


def test_none_at_all_are_updated(kernels: SimpleNamespace) -> None:
    kernels.update_many([], [])


@pytest.mark.parametrize(
    ("bad", "error"),
    [("text", TypeError), (None, TypeError), (memoryview(b"abcdef")[::2], BufferError)],
    ids=["text", "none", "strided"],
)
def test_one_buffer_that_cannot_be_hashed_keeps_all_from_being(
    kernels: SimpleNamespace, bad: Any, error: type[Exception]
) -> None:
    hashers = [kernels.Sha256() for _ in range(3)]
    with pytest.raises(error):
        kernels.update_many(hashers, [b"abc", pattern(5000), bad])
    assert [hasher.length for hasher in hashers] == [0, 0, 0]


def test_one_message_too_long_keeps_all_from_being_hashed(kernels: SimpleNamespace) -> None:
    full = kernels.Sha256(checked(b"sha256s\x01" + bytes(32) + ((1 << 61) - 64).to_bytes(8, "big")))
    other = kernels.Sha256()
    with pytest.raises(ValueError, match="2\\*\\*61"):
        kernels.update_many([other, full], [pattern(5000), bytes(64)])
    assert other.length == 0


def test_a_hasher_twice_or_without_a_buffer_is_refused(kernels: SimpleNamespace) -> None:
    one, two = kernels.Sha256(), kernels.Sha256()
    with pytest.raises(ValueError, match="one buffer at a time"):
        kernels.update_many([one, two, one], [b"a", b"b", b"c"])
    with pytest.raises(ValueError, match="2 hashers cannot take 1 buffers"):
        kernels.update_many([one, two], [b"a"])
    with pytest.raises(TypeError):
        kernels.update_many([one, hashlib.sha256()], [b"a", b"b"])
    assert (one.length, two.length) == (0, 0)


def test_buffers_are_free_again_after_many_were_hashed(kernels: SimpleNamespace) -> None:
    growing = [bytearray(pattern(3000)) for _ in range(3)]
    kernels.update_many([kernels.Sha256() for _ in growing], growing)
    with pytest.raises(ValueError, match="one buffer"):
        kernels.update_many([kernels.Sha256()] * 3, growing)
    for buffer in growing:
        buffer.append(0)  # raises BufferError while anyone holds a view


@pytest.mark.skipif("compiled" not in BACKENDS, reason="CROSSDOCK_KERNELS=pure was asked for")
def test_a_hasher_that_is_busy_among_many_is_refused_and_the_others_stay_as_they_were() -> None:
    kernels = load("compiled")
    busy, idle, data = kernels.Sha256(), kernels.Sha256(), bytes(8 << 20)
    refused, updates = threading.Event(), 0

    def hash_until_refused() -> None:
        nonlocal updates
        while not refused.is_set() and updates < 500:
            kernels.update_many([busy, kernels.Sha256()], [data, data])
            updates += 1

    thread = threading.Thread(target=hash_until_refused)
    thread.start()
    absorbed = 0
    while thread.is_alive() and not refused.is_set():
        try:
            kernels.update_many([idle, busy], [b"x", b""])
            absorbed += 1
        except BufferError:
            refused.set()
    thread.join()
    assert refused.is_set()
    assert idle.length == absorbed
    assert busy.length == updates * len(data)


@pytest.mark.skipif("compiled" not in BACKENDS, reason="CROSSDOCK_KERNELS=pure was asked for")
def test_the_interpreter_runs_on_while_large_buffers_are_hashed() -> None:
    # Only without the GIL can this thread meet a running update; it is told so, not given a torn state.
    digest = load("compiled").Sha256()
    data = bytes(8 << 20)
    seen = threading.Event()
    updates = 0

    def hash_until_seen() -> None:
        nonlocal updates
        while not seen.is_set() and updates < 500:
            digest.update(data)
            updates += 1

    thread = threading.Thread(target=hash_until_seen)
    thread.start()
    while thread.is_alive() and not seen.is_set():
        try:
            length = digest.length
        except BufferError:
            seen.set()
        else:
            assert length % len(data) == 0
    thread.join()
    assert seen.is_set()
    assert digest.length == updates * len(data)
