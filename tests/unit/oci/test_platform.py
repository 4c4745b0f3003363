"""Platforms: many spellings, one meaning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import InvalidOption
from crossdock.oci.platform import Platform, matches


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/i386", "linux/386"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v8.0", "linux/arm64"),
        ("linux/arm64/v8.2", "linux/arm64/v8.2"),
        ("linux/arm64/v9.0", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("Linux/ARM64", "linux/arm64"),
        ("macos/arm64", "darwin/arm64"),
        ("windows/amd64", "windows/amd64"),
        ("linux/riscv64/rva20u64", "linux/riscv64/rva20u64"),
        ("wasip1/wasm", "wasip1/wasm"),
    ],
)
def test_spellings_are_brought_to_one_form(text: str, shown: str) -> None:
    assert str(Platform.parse(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        *("", "linux", "arm64", "linux/", "/amd64", "linux//v7", "linux/arm/v7/x", "linux/*", "li nux/amd64"),
        *("linux/amd64\n", "linux/amd64,linux/arm64", "linux\\amd64", "../..", "linux/ärm"),
    ],
)
def test_nonsense_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidOption, match="is not a platform") as caught:
        Platform.parse(text)
    assert "linux/arm64" in str(caught.value.advice)


@pytest.mark.parametrize("text", ["unknown/unknown", "Unknown/Unknown", "linux/unknown"])
def test_the_mark_of_attestations_cannot_be_requested(text: str) -> None:
    with pytest.raises(InvalidOption, match="attestations"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("wanted", "offered", "expected"),
    [
        ("linux/amd64", Platform("linux", "amd64"), True),
        ("linux/amd64", Platform("linux", "arm64"), False),
        ("linux/amd64", Platform("windows", "amd64", os_version="10.0.17763.1577"), False),
        ("windows/amd64", Platform("windows", "amd64", os_version="10.0.17763.1577"), True),
        ("linux/arm64", Platform("linux", "arm64", "v8"), True),
        ("linux/arm64/v8", Platform("linux", "arm64"), True),
        ("linux/arm64", Platform("linux", "aarch64"), True),
        ("linux/arm/v7", Platform("linux", "arm"), True),
        ("linux/arm/v7", Platform("linux", "arm", "7"), True),
        ("linux/arm/v7", Platform("linux", "arm", "v6"), False),
        ("linux/arm", Platform("linux", "arm", "v6"), False),
        ("linux/amd64", Platform("linux", "amd64", "v3"), True),
        ("linux/amd64/v2", Platform("linux", "amd64", "v3"), False),
        ("linux/amd64/v2", Platform("linux", "amd64"), False),
    ],
)
def test_matching_follows_the_table(wanted: str, offered: Platform, expected: bool) -> None:
    assert matches(Platform.parse(wanted), offered) is expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("", True),
        ("10.0.17763", True),
        ("10.0.17763.1577", True),
        ("10.0.1776", False),
        ("10.0.20348", False),
    ],
)
def test_a_windows_version_matches_by_whole_numbers(version: str, expected: bool) -> None:
    offered = Platform("windows", "amd64", os_version="10.0.17763.1577")
    assert matches(Platform("windows", "amd64", os_version=version), offered) is expected


def test_an_attestation_matches_no_platform() -> None:
    attestation = Platform("unknown", "unknown")
    assert attestation.is_unknown
    assert not matches(attestation, attestation)


PARTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True)
KNOWN = st.sampled_from(
    ["linux", "arm", "arm64", "amd64", "386", "armhf", "v8", "8", "v1", "v7.0", "v8.0.0", ""]
)


@given(st.one_of(st.text(), st.lists(st.one_of(PARTS, KNOWN), max_size=4).map("/".join)))
def test_any_text_is_a_platform_that_prints_to_itself_or_an_invalid_option(text: str) -> None:
    try:
        platform = Platform.parse(text)
    except InvalidOption:
        return
    assert Platform.parse(str(platform)) == platform
    assert matches(platform, platform)


@given(st.builds(Platform, *[st.one_of(st.text(max_size=8), PARTS, KNOWN)] * 4))
def test_normalising_twice_changes_nothing_more(platform: Platform) -> None:
    once = platform.normalised()
    assert once.normalised() == once
