"""Valid sources and targets: a registry's reference, or a folder in skopeo's notation."""

from __future__ import annotations

import pytest

from crossdock.errors import (
    Advice,
    InvalidReference,
)
from crossdock.oci.digest import Digest
from crossdock.oci.reference import LayoutReference, Reference, parse_location

SHA256 = "sha256:" + "f" * 64


@pytest.mark.parametrize(
    ("text", "path", "tag", "digest"),
    [
        ("oci:layout", "layout", None, None),
        ("oci:/srv/images/layout", "/srv/images/layout", None, None),
        ("oci:.", ".", None, None),
        ("oci:../layout/", "../layout/", None, None),
        ("oci:layout:v1", "layout", "v1", None),
        ("oci:/srv/my layout:v1", "/srv/my layout", "v1", None),
        ("oci:5000/x", "5000/x", None, None),
        ("oci:layout:registry.example/app:v1", "layout", "registry.example/app:v1", None),
        ("oci:/a/b:c/d:e", "/a/b", "c/d:e", None),
        ("oci:layout:1.0+build_5", "layout", "1.0+build_5", None),
        ("oci:layout:a--b", "layout", "a--b", None),
        ("oci:layout:a@b", "layout", "a@b", None),
        ("oci:layout:_x", "layout", "_x", None),
        ("oci:layout:a__b", "layout", "a__b", None),
        ("oci:layout:v1.", "layout", "v1.", None),
        ("oci:layout:1-", "layout", "1-", None),
        ("oci:layout:A..b", "layout", "A..b", None),
        ("oci:layout:registry.example/a__b/c:_x", "layout", "registry.example/a__b/c:_x", None),
        ("oci:me@work/layout", "me@work/layout", None, None),
        ("oci:me@work:latest", "me@work", "latest", None),
        (f"oci:layout@{SHA256}", "layout", None, SHA256),
        (f"oci:/a/b:v1@{SHA256}", "/a/b", "v1", SHA256),
        (f"oci:me@work:a@b@{SHA256}", "me@work", "a@b", SHA256),
        ("oci:layöut:v1", "layöut", "v1", None),
    ],
)
def test_layouts_are_read_as_skopeo_does_and_may_have_a_digest(
    text: str, path: str, tag: str | None, digest: str | None
) -> None:
    location = parse_location(text)
    assert location == LayoutReference(path, tag, Digest(digest) if digest else None)
    assert str(location) == location.describe() == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("oci:", "path is missing"),
        ("oci::v1", "path is missing"),
        (f"oci:@{SHA256}", "path is missing"),
        ("oci:layout:", "tag after : is missing"),
        ("oci:layout:-x", "'-x' is not a tag of a layout"),
        ("oci:layout:.x", "'.x' is not a tag of a layout"),
        ("oci:layout:a b", "'a b' is not a tag of a layout"),
        ("oci:me@work:a,b", "invalid reference 'oci:me@work:a,b'"),
        ("oci:layout:v1\n", r"'v1\n' is not a tag of a layout"),
        ("oci:layout@sha256:ffff", "64 hex digits, not 4"),
        ("oci:layout:v1@sha512:ffff", "128 hex digits, not 4"),
        (f"oci:layout@blake3:{'f' * 64}", "unknown algorithm 'blake3'"),
        ("oci:lay\0out", "control characters"),
        ("oci:lay\nout", "control characters"),
        ("oci:lay\udcffout", "not UTF-8"),
    ],
)
def test_a_wrong_layout_reference_is_refused_with_the_part_that_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse_location(text)
    assert reason in str(caught.value)
    assert str(caught.value).isprintable()


def test_helms_way_to_name_a_registry_is_recognised() -> None:
    with pytest.raises(InvalidReference) as caught:
        parse_location("oci://registry.example/charts/app")
    assert "leave oci:// away" in str(caught.value.advice)


def test_a_layout_reference_cannot_be_made_wrong() -> None:
    with pytest.raises(InvalidReference, match="cannot contain a colon"):
        LayoutReference("a:b")
    with pytest.raises(InvalidReference, match="tag of a layout"):
        LayoutReference("a", "v1 ")


@pytest.mark.parametrize(
    "scheme",
    [
        *("docker-daemon:", "oci-layout:", "containers-storage:"),
        *("ostree:", "tarball:", "sif:", "atomic:", "ftp://", "file://", "s3://", "Docker://"),
    ],
)
def test_a_transport_of_another_tool_is_refused_with_the_forms_that_exist(scheme: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse_location(f"{scheme}a/b")
    assert f"{scheme} is not supported" in str(caught.value)
    assert "docker://, oci:, oci-archive: and docker-archive: are" in str(caught.value)
    assert "[docker://]host[:port]/repository" in str(caught.value.advice)
    assert "oci:DIR" in str(caught.value.advice)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("dir:/srv/image", "skopeo copy dir:DIR oci:NEW"),
    ],
)
def test_a_folder_of_another_format_is_refused_with_the_way_to_a_layout(text: str, advice: str) -> None:
    with pytest.raises(
        InvalidReference, match="is not supported; docker://, oci:, oci-archive: and docker-archive: are"
    ) as caught:
        parse_location(text)
    assert advice in str(caught.value.advice)


@pytest.mark.parametrize("scheme", ["http://", "https://"])
def test_a_url_is_refused_with_the_way_to_choose_plain_http(scheme: str) -> None:
    with pytest.raises(InvalidReference, match=f"{scheme} is not supported") as caught:
        parse_location(f"{scheme}registry.example/app")
    assert caught.value.advice == Advice("omit-scheme")


@pytest.mark.parametrize(
    ("text", "registry", "repository"),
    [
        ("localhost:5000/x", "localhost:5000", "x"),
        ("host:5000/x", "host:5000", "x"),
        ("docker:5000/x", "docker:5000", "x"),
        ("docker://localhost:5000/x", "localhost:5000", "x"),
        ("docker://dir:5000/x", "dir:5000", "x"),
    ],
)
def test_a_host_with_a_port_is_not_a_transport(text: str, registry: str, repository: str) -> None:
    assert parse_location(text) == Reference(registry, repository, "latest")


@pytest.mark.parametrize(
    "text", ["0.0", "1.2.3", "app.v2", "app.example", "0.0:5", "app.v1:20261130", "my-ghcr.io:v1"]
)
def test_a_dotted_name_is_an_image_as_for_docker(text: str) -> None:
    name, _, tag = text.partition(":")
    assert parse_location(text) == Reference("docker.io", f"library/{name}", tag or "latest")


@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        "localhost:5000/",
        "docker://localhost:5000",
        "10.0.0.1",
        "10.0.0.1:5000",
        "[::1]",
        "registry.example:443",
        "ghcr.io",
        "me.azurecr.io/",
        "europe-docker.pkg.dev",
        "1234.dkr.ecr.eu-west-1.amazonaws.com",
        "docker.io",
    ],
)
def test_a_registry_without_a_repository_is_called_that(text: str) -> None:
    with pytest.raises(InvalidReference, match="a registry, without a repository"):
        parse_location(text)


def test_images_named_like_a_transport_are_reached_with_the_prefix() -> None:
    assert str(parse_location("docker:24-dind")) == "docker.io/library/docker:24-dind"
    assert str(parse_location("docker://dir:v1")) == "docker.io/library/dir:v1"
    assert str(parse_location("docker://oci:v1")) == "docker.io/library/oci:v1"


def test_the_default_tag_is_for_registries_alone() -> None:
    assert parse_location("a/b", default_tag=None) == Reference("docker.io", "a/b")
    assert parse_location("oci:a") == LayoutReference("a")


def test_the_error_of_a_wrong_reference_says_what_was_parsed() -> None:
    with pytest.raises(InvalidReference) as caught:
        parse_location("oci:a:b c")
    assert (caught.value.operation, caught.value.reference) == ("parse", "oci:a:b c")
    with pytest.raises(InvalidReference) as caught:
        parse_location("user:secret@host/App")
    assert "secret" not in str(caught.value.reference)
