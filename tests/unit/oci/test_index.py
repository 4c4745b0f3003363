"""Choosing from an index, and indexes with fewer entries."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import InvalidManifest
from crossdock.oci import mediatype
from crossdock.oci.digest import Digest
from crossdock.oci.index import filter_index, matching, platform_of_config
from crossdock.oci.manifest import Manifest, parse_manifest
from crossdock.oci.platform import Platform


def entry(name: str, platform: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    digest = Digest.of(name.encode())
    document = {"mediaType": mediatype.OCI_MANIFEST, "digest": str(digest), "size": len(name), **fields}
    return document if platform is None else {**document, "platform": platform}


def platform(os: str, architecture: str, variant: str = "", **fields: Any) -> dict[str, Any]:
    return {"os": os, "architecture": architecture, **({"variant": variant} if variant else {}), **fields}


ENTRIES = [
    entry("attestation", platform("unknown", "unknown")),
    entry("no platform"),
    entry("armv6", platform("linux", "arm", "v6")),
    entry("armv7", platform("linux", "arm", "v7")),
    entry("amd64v3", platform("linux", "amd64", "v3")),
    entry("amd64", platform("linux", "amd64")),
    entry("amd64 again", platform("linux", "amd64")),
    entry("arm64v8", platform("linux", "arm64", "v8")),
    entry("windows 2019", platform("windows", "amd64", **{"os.version": "10.0.17763.1"})),
    entry("windows 2022", platform("windows", "amd64", **{"os.version": "10.0.20348.1"})),
    entry("riscv", platform("linux", "riscv64", "rva20u64")),
]


def index_of(entries: list[dict[str, Any]]) -> Manifest:
    return parse_manifest(json.dumps({"schemaVersion": 2, "manifests": entries}).encode())


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("linux/amd64", "amd64"),
        ("linux/amd64/v3", "amd64v3"),
        ("linux/amd64/v2", None),
        ("linux/arm", "armv7"),
        ("linux/arm/v6", "armv6"),
        ("linux/arm/v5", None),
        ("linux/arm64", "arm64v8"),
        ("linux/aarch64/v8", "arm64v8"),
        ("windows/amd64", "windows 2019"),
        ("linux/riscv64", "riscv"),
        ("linux/s390x", None),
        ("darwin/arm64", None),
    ],
)
def test_the_first_entry_of_exactly_the_variant_is_chosen(wanted: str, expected: str | None) -> None:
    found = matching(index_of(ENTRIES), Platform.parse(wanted))
    assert (found and found.digest) == (expected and Digest.of(expected.encode()))


def test_a_windows_version_is_chosen_by_its_build() -> None:
    found = matching(index_of(ENTRIES), Platform("windows", "amd64", os_version="10.0.20348"))
    assert found is not None
    assert found.digest == Digest.of(b"windows 2022")


def test_an_attestation_is_never_chosen() -> None:
    assert matching(index_of(ENTRIES[:2]), Platform("unknown", "unknown")) is None


def test_an_image_manifest_has_nothing_to_choose_from() -> None:
    config = entry("config")
    image = parse_manifest(json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode())
    assert matching(image, Platform("linux", "amd64")) is None


ODD = b"""{
  "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
  "x-first": { "number": 1.10, "big": 123456789012345678901234567890, "far": 1e999 },
  "manifests": [
     {"size": 1, "digest": "%s", "x": "a\\u00e9\\/b"} ,
     {"digest": "%s", "size": 1 , "mediaType": "application/vnd.oci.image.manifest.v1+json"},
     {"size": 1, "digest": "%s"} ],
  "annotations": {"b": "2", "a": "1"}
}
""" % tuple(Digest.of(name).encode() for name in (b"1", b"2", b"1"))


def test_a_filtered_index_keeps_every_other_field_every_spelling_and_the_order() -> None:
    assert filter_index(ODD, {Digest.of(b"1")}) == (
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",'
        b'"x-first":{"number":1.10,"big":123456789012345678901234567890,"far":1e999},"manifests":['
        b'{"size":1,"digest":"%s","x":"a\\u00e9\\/b"},{"size":1,"digest":"%s"}],'
        b'"annotations":{"b":"2","a":"1"}}'
    ) % ((Digest.of(b"1").encode(),) * 2)


def test_filtering_twice_changes_nothing_more() -> None:
    keep = [Digest.of(b"2")]
    once = filter_index(ODD, keep)
    assert filter_index(once, keep) == once


def test_nothing_kept_is_an_empty_list() -> None:
    assert parse_manifest(filter_index(ODD, set())).manifests == ()


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"{}", b'{"manifests": {}}', b'{"manifests": [1]}', b'{"manifests": [{}]}'),
        *(b"\xff", b"[" * 100_000, b'{"manifests": [], "x": "\xff"}'),
    ],
)
def test_what_is_no_index_cannot_be_filtered(data: bytes) -> None:
    with pytest.raises(InvalidManifest, match="invalid index"):
        filter_index(data, set())


@given(st.lists(st.sampled_from(ENTRIES), unique_by=lambda item: item["digest"]), st.data())
def test_a_filtered_index_holds_what_was_kept_in_order(
    entries: list[dict[str, Any]], data: st.DataObject
) -> None:
    keep = {Digest(item["digest"]) for item in entries if data.draw(st.booleans())}
    document = {"schemaVersion": 2, "manifests": entries, "annotations": {"a": "b"}}
    filtered = json.loads(filter_index(json.dumps(document).encode(), keep))
    assert filtered == {**document, "manifests": [item for item in entries if item["digest"] in keep]}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (b'{"os": "linux", "architecture": "amd64", "rootfs": {}}', Platform("linux", "amd64")),
        (b'{"os": "linux", "architecture": "arm", "variant": "v7"}', Platform("linux", "arm", "v7")),
        (
            b'{"os": "windows", "architecture": "amd64", "os.version": "10.0.1", "os.features": ["win32k"]}',
            Platform("windows", "amd64", "", "10.0.1", ("win32k",)),
        ),
        (b"{}", None),
        (b'{"os": "", "architecture": null}', None),
        (b'{"name": "chart", "version": "1"}', None),
        (b'{"os": 1}', None),
        (b"[]", None),
        (b"", None),
        (b"\x7fELF", None),
        (b'{"os": "\xff"}', None),
        (b"[" * 100_000, None),
    ],
)
def test_a_config_states_its_platform_or_none(config: bytes, expected: Platform | None) -> None:
    assert platform_of_config(config) == expected


@given(st.binary())
def test_any_config_has_a_platform_or_none(config: bytes) -> None:
    assert platform_of_config(config) is None or config
