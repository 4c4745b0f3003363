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
from crossdock.oci.index import (
    attestations,
    matching,
    offers_exactly,
    platform_of_config,
    raw_entries,
    with_entries,
)
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


OFFERED = [
    each and Platform(each["os"], each["architecture"], each.get("variant", ""), each.get("os.version", ""))
    for each in (listed.get("platform") for listed in ENTRIES)
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
    at = matching(OFFERED, Platform.parse(wanted))
    assert (None if at is None else ENTRIES[at]["digest"]) == (expected and Digest.of(expected.encode()))


@pytest.mark.parametrize(
    ("wanted", "exactly"),
    [("linux/amd64", True), ("linux/arm/v6", True), ("linux/riscv64", False), ("linux/s390x", False)],
)
def test_an_exact_match_is_distinguished_from_one_that_fits(wanted: str, exactly: bool) -> None:
    assert offers_exactly(OFFERED, Platform.parse(wanted)) == exactly


def test_a_windows_version_is_chosen_by_its_build() -> None:
    at = matching(OFFERED, Platform("windows", "amd64", os_version="10.0.20348"))
    assert at is not None
    assert ENTRIES[at]["digest"] == Digest.of(b"windows 2022")


def test_an_attestation_is_never_chosen() -> None:
    assert matching(OFFERED[:2], Platform("unknown", "unknown")) is None


def test_the_attestations_of_a_manifest_are_those_of_no_platform_that_name_it() -> None:
    about = {"vnd.docker.reference.type": "attestation-manifest"}
    name = "vnd.docker.reference.digest"
    one, other = Digest.of(b"amd64"), Digest.of(b"armv7")
    index = index_of(
        [
            entry("amd64", platform("linux", "amd64")),
            entry("of one", platform("unknown", "unknown"), annotations={**about, name: one}),
            entry("of the other", platform("unknown", "unknown"), annotations={**about, name: other}),
            entry("of one, no platform", annotations={**about, name: one}),
            entry("an image", platform("linux", "arm64"), annotations={name: one}),
            entry("no annotations", platform("unknown", "unknown"), annotations=None),
        ]
    )
    assert attestations(index, {one}) == [1, 3]
    assert attestations(index, {one, other}) == [1, 2, 3]
    assert attestations(index, set()) == []


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


def test_an_index_with_other_entries_keeps_every_other_field_every_spelling_and_the_order() -> None:
    entries = raw_entries(ODD)
    assert with_entries(ODD, [entries[0], entries[2]]) == (
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",'
        b'"x-first":{"number":1.10,"big":123456789012345678901234567890,"far":1e999},"manifests":['
        b'{"size":1,"digest":"%s","x":"a\\u00e9\\/b"},{"size":1,"digest":"%s"}],'
        b'"annotations":{"b":"2","a":"1"}}'
    ) % ((Digest.of(b"1").encode(),) * 2)


def test_giving_it_the_same_entries_changes_nothing_more() -> None:
    once = with_entries(ODD, raw_entries(ODD)[1:2])
    assert with_entries(once, raw_entries(once)) == once


def test_nothing_kept_is_an_empty_list() -> None:
    assert parse_manifest(with_entries(ODD, [])).manifests == ()


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"{}", b'{"manifests": {}}', b"[" * 100_000, b'{"manifests": [], "x": "\xff"}'),
    ],
)
def test_other_content_than_an_index_has_no_entries(data: bytes) -> None:
    with pytest.raises(InvalidManifest, match="invalid index"):
        raw_entries(data)


@given(st.lists(st.sampled_from(ENTRIES), unique_by=lambda item: item["digest"]), st.data())
def test_an_index_holds_the_entries_it_was_given(entries: list[dict[str, Any]], data: st.DataObject) -> None:
    keep = [at for at in range(len(entries)) if data.draw(st.booleans())]
    document = {"schemaVersion": 2, "manifests": entries, "annotations": {"a": "b"}}
    encoded = json.dumps(document).encode()
    raw = raw_entries(encoded)
    filtered = json.loads(with_entries(encoded, [raw[at] for at in keep]))
    assert filtered == {**document, "manifests": [entries[at] for at in keep]}


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
