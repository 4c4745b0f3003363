"""Descriptors go out as they came in."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from crossdock.errors import InvalidManifest
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.platform import Platform

DIGEST = Digest.of(b"content")
FULL: dict[str, Any] = {
    "mediaType": mediatype.OCI_MANIFEST,
    "digest": str(DIGEST),
    "size": 7,
    "urls": ["https://a.example/x"],
    "annotations": {"org.opencontainers.image.ref.name": "v1"},
    "platform": {
        "architecture": "arm",
        "os": "windows",
        "os.version": "10.0.1",
        "os.features": ["win32k"],
        "variant": "v7",
    },
    "artifactType": "application/vnd.example",
}


@pytest.mark.parametrize("names", [tuple(FULL), ("mediaType", "digest", "size")])
def test_a_descriptor_encodes_to_what_it_was_read_from(names: tuple[str, ...]) -> None:
    document = {name: FULL[name] for name in names}
    assert list(Descriptor.from_json(document).to_json().items()) == list(document.items())


def test_a_sparse_platform_encodes_without_empty_fields() -> None:
    descriptor = Descriptor("", DIGEST, 7, platform=Platform("linux", "amd64"))
    assert descriptor.to_json()["platform"] == {"architecture": "amd64", "os": "linux"}


@pytest.mark.parametrize(
    "value", [None, [], "x", {}, {"digest": "x", "size": 1}, {"digest": str(DIGEST), "size": -1}, {1: 2}]
)
def test_a_value_that_is_not_a_descriptor_is_refused(value: object) -> None:
    with pytest.raises(InvalidManifest, match="invalid descriptor"):
        Descriptor.from_json(value)


def test_descriptors_are_keys_by_their_digest() -> None:
    plain, full = Descriptor(mediatype.OCI_MANIFEST, DIGEST, 7), Descriptor.from_json(FULL)
    assert hash(plain) == hash(full) == hash(DIGEST)
    assert plain != full
    assert {full: 1}[pickle.loads(pickle.dumps(full))] == 1


def test_short_and_kind_are_at_hand() -> None:
    descriptor = Descriptor(mediatype.DOCKER_LIST, DIGEST, 7)
    assert descriptor.is_index
    assert not Descriptor(mediatype.OCI_CONFIG, DIGEST, 7).is_index
    assert descriptor.short == f"sha256:{DIGEST.encoded[:12]}…"
