"""Manifests of any origin: their content is found; ambiguous or hostile ones are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import ContentError, InvalidManifest, LimitExceeded
from crossdock.oci import mediatype
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Limits, Manifest, parse_manifest
from crossdock.oci.platform import Platform

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


def entry(content: str, media_type: str = LAYER_TYPE, **fields: Any) -> dict[str, Any]:
    data = content.encode()
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **fields}


CONFIG = entry("config", mediatype.OCI_CONFIG)
IMAGE: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": mediatype.OCI_MANIFEST,
    "config": CONFIG,
    "layers": [entry("layer one"), entry("layer two")],
}
AMD64 = entry("amd64", mediatype.OCI_MANIFEST, platform={"os": "linux", "architecture": "amd64"})
INDEX: dict[str, Any] = {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": [AMD64]}


def encode(document: object) -> bytes:
    return json.dumps(document).encode()


def without(document: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}


def refused(document: object, media_type: str | None = None) -> str:
    data = document if isinstance(document, bytes) else encode(document)
    with pytest.raises(InvalidManifest) as caught:
        parse_manifest(data, media_type)
    assert str(caught.value).isprintable()
    return str(caught.value)


def digests(manifest: Manifest) -> list[str]:
    return [str(successor.digest) for successor in manifest.successors()]


def test_an_image_needs_its_config_and_layers() -> None:
    manifest = parse_manifest(encode(IMAGE))
    assert manifest.media_type == mediatype.OCI_MANIFEST
    assert not manifest.is_index
    assert manifest.config is not None
    assert (manifest.config.media_type, manifest.config.size) == (mediatype.OCI_CONFIG, 6)
    assert digests(manifest) == [item["digest"] for item in (CONFIG, *IMAGE["layers"])]


def test_an_index_needs_its_manifests() -> None:
    attestation = entry("a", mediatype.OCI_MANIFEST, platform={"os": "unknown", "architecture": "unknown"})
    nested = entry("n", mediatype.OCI_INDEX)
    windows = entry("w", mediatype.OCI_MANIFEST)
    windows["platform"] = {
        "os": "windows",
        "architecture": "amd64",
        "os.version": "10.0.1",
        "os.features": ["w"],
    }
    manifest = parse_manifest(encode({**INDEX, "manifests": [AMD64, windows, attestation, nested]}))
    assert manifest.is_index
    assert [child.is_index for child in manifest.manifests] == [False, False, False, True]
    assert manifest.manifests[1].platform == Platform("windows", "amd64", "", "10.0.1", ("w",))
    assert manifest.manifests[3].platform is None
    assert digests(manifest) == [item["digest"] for item in (AMD64, windows, attestation, nested)]


def test_dockers_types_are_read_the_same() -> None:
    docker = {**IMAGE, "mediaType": mediatype.DOCKER_MANIFEST}
    assert parse_manifest(encode(docker)).media_type == mediatype.DOCKER_MANIFEST
    assert parse_manifest(encode({**INDEX, "mediaType": mediatype.DOCKER_LIST})).is_index


def test_an_artifact_manifest_needs_its_blobs() -> None:
    document = {
        "mediaType": mediatype.OCI_ARTIFACT,
        "artifactType": "application/vnd.example.sbom",
        "blobs": [entry("sbom", "application/json")],
        "subject": AMD64,
        "annotations": {"created": "now"},
    }
    manifest = parse_manifest(encode(document))
    assert digests(manifest) == [document["blobs"][0]["digest"]]  # type: ignore[index]
    assert manifest.artifact_type == "application/vnd.example.sbom"
    assert manifest.annotations == {"created": "now"}
    assert manifest.subject is not None


@pytest.mark.parametrize(
    "config_type",
    [
        "application/vnd.cncf.helm.config.v1+json",
        "application/vnd.dev.cosign.simplesigning.v1+json",
        "application/vnd.wasm.config.v0+json",
        "application/vnd.oci.empty.v1+json",
        "application/octet-stream",
    ],
)
def test_any_config_type_is_copied(config_type: str) -> None:
    document = {**IMAGE, "artifactType": "application/vnd.example", "config": entry("{}", config_type)}
    manifest = parse_manifest(encode(document))
    assert manifest.config is not None
    assert manifest.config.media_type == config_type


def test_the_subject_is_known_and_is_not_a_successor() -> None:
    manifest = parse_manifest(encode({**IMAGE, "subject": AMD64}))
    assert manifest.subject is not None
    assert manifest.subject.digest == AMD64["digest"]
    assert AMD64["digest"] not in digests(manifest)


def test_content_listed_twice_is_needed_once_in_the_first_ones_place() -> None:
    empty = entry("{}", mediatype.OCI_EMPTY)
    layers = [entry("b"), entry("a"), entry("b"), empty]
    manifest = parse_manifest(encode({**IMAGE, "config": empty, "layers": layers}))
    assert digests(manifest) == [empty["digest"], layers[0]["digest"], layers[1]["digest"]]


def test_urls_of_a_foreign_layer_and_unknown_fields_are_let_pass() -> None:
    foreign = entry(
        "f", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", urls=["https://a.example/f"]
    )
    document = {**IMAGE, "layers": [{**foreign, "data": "Zg==", "x": {"y": [1.5]}}], "future": [None]}
    (layer,) = parse_manifest(encode(document)).layers
    assert layer.urls == ("https://a.example/f",)
    assert mediatype.is_foreign_layer(layer.media_type)


def test_a_sha512_descriptor_is_fine() -> None:
    layer = {**entry("x"), "digest": str(Digest.of(b"x", "sha512"))}
    assert parse_manifest(encode({**IMAGE, "layers": [layer]})).layers[0].digest.algorithm == "sha512"


@pytest.mark.parametrize(
    "document",
    [
        {**IMAGE, "layers": None},
        {
            **IMAGE,
            "layers": None,
            "annotations": None,
            "subject": None,
            "manifests": None,
            "artifactType": "",
        },
        {**INDEX, "manifests": None},
        {**INDEX, "manifests": []},
        {**INDEX, "manifests": [{**AMD64, "platform": None, "urls": None, "annotations": None}]},
        {**INDEX, "manifests": [{**AMD64, "platform": {}}]},
        {**INDEX, "manifests": [{**AMD64, "platform": {"os": "linux", "os.features": None}}]},
        {**INDEX, "layers": [], "blobs": []},
    ],
)
def test_null_and_empty_are_the_same_as_absent(document: dict[str, Any]) -> None:
    assert parse_manifest(encode(document)).layers == ()


@pytest.mark.parametrize(
    ("document", "content_type", "expected"),
    [
        (IMAGE, None, mediatype.OCI_MANIFEST),
        (IMAGE, "application/json", mediatype.OCI_MANIFEST),
        (IMAGE, mediatype.DOCKER_MANIFEST, mediatype.OCI_MANIFEST),
        (without(IMAGE, "mediaType"), mediatype.DOCKER_MANIFEST, mediatype.OCI_MANIFEST),
        (without(IMAGE, "mediaType"), f"{mediatype.OCI_MANIFEST}; charset=utf-8", mediatype.OCI_MANIFEST),
        (without(IMAGE, "mediaType"), "text/plain", mediatype.OCI_MANIFEST),
        (without(IMAGE, "mediaType", "schemaVersion"), None, mediatype.OCI_MANIFEST),
        (without(INDEX, "mediaType"), None, mediatype.OCI_INDEX),
        ({"schemaVersion": 2, "manifests": None}, "", mediatype.OCI_INDEX),
        (without(INDEX, "mediaType"), mediatype.DOCKER_LIST, mediatype.OCI_INDEX),
        ({**INDEX, "mediaType": ""}, None, mediatype.OCI_INDEX),
        ({"blobs": [entry("x")]}, None, mediatype.OCI_ARTIFACT),
        (IMAGE, mediatype.DOCKER_SCHEMA1_SIGNED, mediatype.OCI_MANIFEST),
    ],
)
def test_the_type_is_the_documents_own_word_then_the_headers_then_its_shape(
    document: dict[str, Any], content_type: str | None, expected: str
) -> None:
    assert parse_manifest(encode(document), content_type).media_type == expected


@pytest.mark.parametrize(
    ("document", "content_type", "reason"),
    [
        ({**IMAGE, **without(INDEX, "mediaType")}, None, "has manifests"),
        ({**INDEX, "config": CONFIG}, None, "has config"),
        ({**INDEX, "layers": IMAGE["layers"]}, None, "has layers"),
        ({**without(IMAGE, "mediaType"), "manifests": [AMD64]}, None, "has config and layers"),
        ({**IMAGE, "blobs": [CONFIG]}, None, "has blobs"),
        (IMAGE, mediatype.OCI_INDEX, "served as application/vnd.oci.image.index"),
        (IMAGE, mediatype.DOCKER_LIST, "its mediaType is application/vnd.oci.image.manifest"),
        (INDEX, mediatype.OCI_MANIFEST, "served as"),
        (without(IMAGE, "mediaType"), mediatype.OCI_INDEX, "has config and layers"),
        (without(INDEX, "mediaType"), mediatype.DOCKER_MANIFEST, "has manifests"),
    ],
)
def test_a_document_that_two_clients_could_read_as_two_kinds_is_refused(
    document: dict[str, Any], content_type: str | None, reason: str
) -> None:
    message = refused(document, content_type)
    assert "ambiguous manifest" in message
    assert reason in message


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"not json", "not JSON"),
        (b'{"schemaVersion": 2', "not JSON"),
        (encode(IMAGE) + b"x", "not JSON: Extra data"),
        (encode(IMAGE) + encode(IMAGE), "not JSON: Extra data"),
        (b"\xef\xbb\xbf" + encode(IMAGE), "not JSON"),
        (encode(IMAGE).decode().encode("utf-16"), "not UTF-8 at byte 0"),
        (b'{"schemaVersion": 2, "x": "\xff"}', "not UTF-8 at byte 27"),
        (b'{"x": NaN}', "NaN"),
        (b'{"config": {}, "config": {}}', "key 'config' is given twice"),
        (encode(IMAGE).replace(b'"size"', b'"digest": "", "size"', 1), "key 'digest' is given twice"),
        (b'{"x": "\\ud800", "config": 1, "mediaType": "\\ud800"}', "invalid manifest"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"2", "not a JSON object"),
        (b"{}", "neither config, layers nor manifests"),
        (b'{"schemaVersion": 2}', "neither config, layers nor manifests"),
        (b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}', "neither config, layers nor manifests"),
    ],
)
def test_bytes_that_are_not_a_manifest_are_refused_with_the_reason(data: bytes, reason: str) -> None:
    assert reason in refused(data)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config": None}, "needs a config"),
        ({"schemaVersion": 3}, "schemaVersion is 3"),
        ({"schemaVersion": "2"}, "schemaVersion"),
        ({"schemaVersion": 2.0}, "schemaVersion"),
        ({"schemaVersion": True}, "schemaVersion"),
        ({"mediaType": 2}, "mediaType"),
        ({"mediaType": "application/vnd.example+json"}, "'application/vnd.example+json' is not the type"),
        ({"mediaType": LAYER_TYPE}, "is not the type of a manifest"),
        ({"layers": {}}, "$.layers"),
        ({"layers": [None]}, "$.layers[0]"),
        ({"layers": [without(CONFIG, "size")]}, "`size` - at `$.layers[0]`"),
        ({"layers": [without(CONFIG, "digest")]}, "`digest` - at `$.layers[0]`"),
        ({"layers": [entry("x"), entry("y", size=-1)]}, ">= 0 - at `$.layers[1].size`"),
        ({"layers": [entry("x", size=1 << 63)]}, "$.layers[0].size"),
        ({"layers": [entry("x", size=10**400)]}, "$.layers[0].size"),
        ({"layers": [entry("x", size=1.0)]}, "$.layers[0].size"),
        ({"layers": [entry("x", size="1")]}, "$.layers[0].size"),
        ({"layers": [entry("x", size=True)]}, "$.layers[0].size"),
        ({"layers": [entry("x", digest="sha256:ff")]}, "64 hex digits, not 2 - at `$.layers[0].digest`"),
        ({"layers": [entry("x", digest="../../x")]}, "is not a digest"),
        ({"layers": [entry("x", digest=7)]}, "$.layers[0].digest"),
        ({"layers": [entry("x", "text/plain\r\nX: y")]}, "is not a media type"),
        ({"layers": [entry("x", urls="https://a.example")]}, "$.layers[0].urls"),
        ({"layers": [entry("x", annotations={"a": 1})]}, "$.layers[0].annotations"),
        ({"layers": [entry("x"), entry("x", size=2)]}, "with 1 and with 2 bytes"),
        ({"layers": [{**CONFIG, "size": 7}]}, "with 6 and with 7 bytes"),
        ({"subject": {"digest": "x", "size": 1}}, "$.subject.digest"),
    ],
)
def test_a_broken_field_is_refused_with_its_place(changes: dict[str, Any], reason: str) -> None:
    assert reason in refused({**IMAGE, **changes})


def test_the_largest_size_of_the_specification_is_accepted() -> None:
    manifest = parse_manifest(encode({**IMAGE, "layers": [entry("x", size=(1 << 63) - 1)]}))
    assert manifest.layers[0].size == 2**63 - 1


SCHEMA1 = {"schemaVersion": 1, "name": "a/b", "tag": "v1", "fsLayers": [{"blobSum": CONFIG["digest"]}]}


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        (SCHEMA1, None),
        (SCHEMA1, "application/json"),
        ({**SCHEMA1, "signatures": []}, mediatype.DOCKER_SCHEMA1_SIGNED),
        (without(SCHEMA1, "schemaVersion"), None),
        ({"schemaVersion": 1}, None),
        ({"payload": "e30", "signatures": [{"protected": "e30"}]}, None),
        ({"schemaVersion": 2, "mediaType": mediatype.DOCKER_SCHEMA1}, None),
        ({"name": "a/b"}, mediatype.DOCKER_SCHEMA1),
    ],
)
def test_schema_1_is_refused_with_what_to_do(document: dict[str, Any], content_type: str | None) -> None:
    with pytest.raises(InvalidManifest, match="schema 1, cannot be copied") as caught:
        parse_manifest(encode(document), content_type)
    assert "pull the image with docker or skopeo and push it again" in str(caught.value.advice)
    assert "publisher" in str(caught.value.advice)


def test_a_document_over_the_size_limit_is_not_even_parsed() -> None:
    with pytest.raises(LimitExceeded, match="4194305 bytes, over the limit of 4194304") as caught:
        parse_manifest(b"x" * ((4 << 20) + 1))
    assert (caught.value.limit, caught.value.actual) == (4194304, 4194305)  # type: ignore[attr-defined]


def test_a_document_of_exactly_the_limit_is_read() -> None:
    data = encode(IMAGE)
    assert parse_manifest(data, limits=Limits(size=len(data))).layers


def test_too_many_entries_are_refused_with_the_count() -> None:
    document = {**INDEX, "manifests": [entry(str(number)) for number in range(11)]}
    assert len(parse_manifest(encode(document), limits=Limits(entries=11)).manifests) == 11
    with pytest.raises(LimitExceeded, match="11 entries, over the limit of 10"):
        parse_manifest(encode(document), limits=Limits(entries=10))


@pytest.mark.parametrize("levels", [31, 40, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_is_refused(opening: bytes, closing: bytes, levels: int) -> None:
    data = encode(IMAGE)[:-1] + b', "x": ' + opening * levels + b"1" + closing * levels + b"}"
    if levels < Limits().depth:
        assert parse_manifest(data).layers
        return
    with pytest.raises(LimitExceeded, match="deeper than the limit of 32 levels"):
        parse_manifest(data)


def test_a_number_of_many_digits_costs_nothing() -> None:
    data = encode(IMAGE)[:-1] + b', "x": ' + b"9" * 1_000_000 + b"}"
    assert parse_manifest(data).layers


def contents(text: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.sampled_from(
        ["mediaType", "digest", "size", "platform", "config", "layers", "manifests", "urls"]
    )
    return st.one_of(
        st.lists(text, max_size=3), st.dictionaries(st.one_of(fields, st.text(max_size=3)), text)
    )


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just(CONFIG)),
    contents,
)
FIELDS = st.sampled_from(
    sorted({*IMAGE, *INDEX, "blobs", "subject", "annotations", "fsLayers", "artifactType"})
)
TYPES = st.one_of(st.none(), st.sampled_from(mediatype.MANIFEST_ACCEPT), st.text(max_size=5))


def check_any(data: bytes, media_type: str | None) -> None:
    try:
        manifest = parse_manifest(data, media_type)
    except ContentError as error:
        shown = str(error)
    else:
        shown = manifest.media_type
        assert mediatype.is_manifest(manifest.media_type)
        assert len({*digests(manifest)}) == len(digests(manifest))
    assert shown.isprintable()


@given(st.binary(), TYPES)
def test_any_bytes_are_a_manifest_or_a_content_error(data: bytes, media_type: str | None) -> None:
    check_any(data, media_type)


@given(st.dictionaries(FIELDS, JSON), st.sampled_from([IMAGE, INDEX, {}]), TYPES)
def test_any_document_is_a_manifest_or_a_content_error(
    changes: dict[str, Any], base: dict[str, Any], media_type: str | None
) -> None:
    check_any(encode({**base, **changes}), media_type)


@given(st.data())
def test_a_damaged_manifest_is_a_manifest_or_a_content_error(data: st.DataObject) -> None:
    document = bytearray(encode(IMAGE))
    for _ in range(data.draw(st.integers(1, 3))):
        document[data.draw(st.integers(0, len(document) - 1))] = data.draw(st.integers(0, 255))
    check_any(bytes(document), None)


def test_a_key_given_twice_among_very_many_is_found_in_one_pass() -> None:
    """Comparing each with all before it would take hours."""
    keys = ",".join(f'"{number}":0' for number in range(190_000))
    with pytest.raises(InvalidManifest, match="'189999' is given twice"):
        parse_manifest(f'{{{keys},"189999":0}}'.encode())
