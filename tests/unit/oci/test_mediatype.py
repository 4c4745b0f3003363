"""Media types are recognised whatever their case and parameters."""

from __future__ import annotations

import pytest

from crossdock.oci import mediatype
from crossdock.oci.mediatype import (
    MANIFEST_ACCEPT,
    is_foreign_layer,
    is_index,
    is_manifest,
    is_schema1,
)


@pytest.mark.parametrize("media_type", [mediatype.OCI_INDEX, mediatype.DOCKER_LIST])
def test_an_index_is_a_manifest_too(media_type: str) -> None:
    assert is_index(media_type)
    assert is_manifest(media_type)


@pytest.mark.parametrize(
    "media_type", [mediatype.OCI_MANIFEST, mediatype.DOCKER_MANIFEST, mediatype.OCI_ARTIFACT]
)
def test_a_manifest_that_lists_no_manifests_is_not_an_index(media_type: str) -> None:
    assert is_manifest(media_type)
    assert not is_index(media_type)


@pytest.mark.parametrize("media_type", ["", None, "application/json", "text/plain", mediatype.OCI_CONFIG])
def test_other_types_are_neither(media_type: str | None) -> None:
    assert not is_manifest(media_type)
    assert not is_index(media_type)
    assert not is_schema1(media_type)
    assert not is_foreign_layer(media_type)


def test_case_and_parameters_do_not_matter() -> None:
    assert is_index("Application/VND.oci.image.index.v1+json ; charset=utf-8")
    assert mediatype.bare("Text/Plain; charset=utf-8") == "text/plain"


def test_schema_1_is_known_and_is_not_a_manifest_to_copy() -> None:
    for media_type in (mediatype.DOCKER_SCHEMA1, mediatype.DOCKER_SCHEMA1_SIGNED):
        assert is_schema1(media_type)
        assert not is_manifest(media_type)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    ],
)
def test_foreign_layers_are_known_in_every_compression(media_type: str) -> None:
    assert is_foreign_layer(media_type)


def test_an_ordinary_layer_is_not_foreign() -> None:
    assert not is_foreign_layer("application/vnd.oci.image.layer.v1.tar+gzip")
    assert not is_foreign_layer("application/vnd.docker.image.rootfs.diff.tar.gzip")


def test_every_manifest_type_is_accepted_and_schema_1_comes_last() -> None:
    assert len(set(MANIFEST_ACCEPT)) == len(MANIFEST_ACCEPT) == 7
    assert all(is_manifest(media_type) for media_type in MANIFEST_ACCEPT[:5])
    assert all(is_schema1(media_type) for media_type in MANIFEST_ACCEPT[5:])
