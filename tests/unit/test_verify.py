"""Only bytes that match their descriptor pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import DigestMismatch, SizeMismatch
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.verify import BlobVerifier, update_many, verify_bytes

CONTENT = bytes(range(256)) * 40


def descriptor_of(data: bytes, algorithm: str = "sha256") -> Descriptor:
    return Descriptor("application/octet-stream", Digest.of(data, algorithm), len(data))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("resumable", [False, True])
def test_the_promised_bytes_pass(algorithm: str, resumable: bool) -> None:
    verifier = BlobVerifier(descriptor_of(CONTENT, algorithm), resumable=resumable)
    verifier.update(CONTENT[:100])
    verifier.update(memoryview(CONTENT)[100:5000])
    verifier.update(bytearray(CONTENT[5000:]))
    assert verifier.received == len(CONTENT)
    verifier.check()
    verifier.check()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_an_empty_blob_passes_without_bytes(algorithm: str) -> None:
    BlobVerifier(descriptor_of(b"", algorithm)).check()
    verify_bytes(b"", descriptor_of(b"", algorithm))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_other_bytes_of_the_same_size_are_a_digest_mismatch(algorithm: str) -> None:
    descriptor = descriptor_of(b"content", algorithm)
    verifier = BlobVerifier(descriptor)
    verifier.update(b"contenT")
    with pytest.raises(DigestMismatch) as caught:
        verifier.check()
    assert caught.value.expected == descriptor.digest
    assert caught.value.actual == Digest.of(b"contenT", algorithm)
    for word in ("7 bytes", caught.value.expected, caught.value.actual):
        assert word in str(caught.value)


def test_too_few_bytes_are_a_size_mismatch() -> None:
    descriptor = descriptor_of(b"content")
    verifier = BlobVerifier(descriptor)
    verifier.update(b"conten")
    with pytest.raises(SizeMismatch, match=r"expected 7 bytes, received 6$") as caught:
        verifier.check()
    assert (caught.value.expected, caught.value.received) == (7, 6)
    assert descriptor.digest in str(caught.value)


def test_too_many_bytes_are_refused_at_once_and_not_absorbed() -> None:
    verifier = BlobVerifier(descriptor_of(b"content"))
    verifier.update(b"cont")
    with pytest.raises(SizeMismatch, match="expected 7 bytes, received 8 or more") as caught:
        verifier.update(b"entx")
    assert (caught.value.expected, caught.value.received) == (7, 8)
    assert verifier.received == 4
    verifier.update(b"ent")
    verifier.check()


@given(st.binary(max_size=300), st.data())
def test_a_state_is_resumed_at_any_offset(content: bytes, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, len(content)))
    descriptor = descriptor_of(content)
    first = BlobVerifier(descriptor, resumable=True)
    first.update(content[:offset])
    assert first.can_export
    second = BlobVerifier(descriptor, resumable=True, state=first.export_state())
    assert second.received == offset
    second.update(content[offset:])
    second.check()


def test_a_state_of_other_bytes_ends_in_a_digest_mismatch() -> None:
    first = BlobVerifier(descriptor_of(b"content"), resumable=True)
    first.update(b"CONT")
    second = BlobVerifier(descriptor_of(b"content"), resumable=True, state=first.export_state())
    second.update(b"ent")
    with pytest.raises(DigestMismatch):
        second.check()


def test_a_damaged_state_or_one_after_the_end_is_refused() -> None:
    first = BlobVerifier(descriptor_of(b"content"), resumable=True)
    first.update(b"content")
    with pytest.raises(ValueError, match="7 bytes into a blob of 5"):
        BlobVerifier(descriptor_of(b"short"), resumable=True, state=first.export_state())
    with pytest.raises(ValueError):
        BlobVerifier(descriptor_of(b"content"), resumable=True, state=b"no state")


@pytest.mark.parametrize(("algorithm", "resumable"), [("sha256", False), ("sha512", True), ("sha512", False)])
def test_a_copy_that_cannot_be_resumed_again_says_so(algorithm: str, resumable: bool) -> None:
    verifier = BlobVerifier(descriptor_of(b"content", algorithm), resumable=resumable)
    assert not verifier.can_export
    with pytest.raises(ValueError, match="resumable"):
        verifier.export_state()


def test_sha512_has_no_state_to_continue_from() -> None:
    with pytest.raises(ValueError, match="sha512"):
        BlobVerifier(descriptor_of(b"content", "sha512"), state=b"state")


@given(st.lists(st.tuples(st.binary(max_size=300), st.sampled_from(["sha256", "sha512"])), max_size=6))
def test_many_are_updated_as_each_would_be(contents: list[tuple[bytes, str]]) -> None:
    verifiers = [BlobVerifier(descriptor_of(content, algorithm)) for content, algorithm in contents]
    for part in (slice(0, 100), slice(100, None)):
        updates = [
            (verifier, content[part]) for verifier, (content, _) in zip(verifiers, contents, strict=True)
        ]
        assert update_many(updates) == [None] * len(contents)
    for verifier, (content, _) in zip(verifiers, contents, strict=True):
        assert verifier.received == len(content)
        verifier.check()


def test_one_of_many_that_is_too_long_keeps_no_other_from_its_bytes() -> None:
    promised = [descriptor_of(CONTENT), descriptor_of(b"short"), descriptor_of(CONTENT, "sha512")]
    verifiers = [BlobVerifier(descriptor) for descriptor in promised]
    outcomes = update_many([(verifier, CONTENT) for verifier in verifiers])
    assert [type(outcome) for outcome in outcomes] == [type(None), SizeMismatch, type(None)]
    assert [verifier.received for verifier in verifiers] == [len(CONTENT), 0, len(CONTENT)]
    verifiers[0].check()
    verifiers[2].check()


def test_a_document_is_compared_by_size_before_digest() -> None:
    verify_bytes(CONTENT, descriptor_of(CONTENT))
    verify_bytes(memoryview(CONTENT), descriptor_of(CONTENT, "sha512"))
    with pytest.raises(SizeMismatch, match=r"expected 10240 bytes, received 10241$"):
        verify_bytes(CONTENT + b"x", descriptor_of(CONTENT))
    with pytest.raises(DigestMismatch, match="wrong digest of 7 bytes"):
        verify_bytes(b"contenT", descriptor_of(b"content"))
