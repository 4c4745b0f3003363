"""``oci-archive:`` and ``docker-archive:`` references."""

from __future__ import annotations

import pytest

from crossdock.errors import InvalidReference
from crossdock.oci.archivereference import DockerArchiveReference, OciArchiveReference, whole_name
from crossdock.oci.digest import Digest
from crossdock.oci.reference import parse_location

DIGEST = Digest("sha256:" + "ab" * 32)


@pytest.mark.parametrize(
    ("text", "path", "tag", "digest"),
    [
        ("oci-archive:a.tar", "a.tar", None, None),
        ("oci-archive:/srv/a.tar:v1", "/srv/a.tar", "v1", None),
        ("oci-archive:-:v1", "-", "v1", None),
        ("oci-archive:a.tar:registry.example:5000/app:v1", "a.tar", "registry.example:5000/app:v1", None),
        (f"oci-archive:a.tar@{DIGEST}", "a.tar", None, DIGEST),
    ],
)
def test_an_oci_archive(text: str, path: str, tag: str | None, digest: Digest | None) -> None:
    location = parse_location(text)
    assert location == OciArchiveReference(path, tag, digest)
    assert str(location) == text


@pytest.mark.parametrize(
    ("text", "path", "name", "position"),
    [
        ("docker-archive:a.tar", "a.tar", None, None),
        ("docker-archive:a.tar:app", "a.tar", "app", None),
        ("docker-archive:a.tar:app:1", "a.tar", "app:1", None),
        ("docker-archive:-:host:5000/team/app:1", "-", "host:5000/team/app:1", None),
        ("docker-archive:a.tar:@12", "a.tar", "@12", 12),
    ],
)
def test_an_archive_of_docker(text: str, path: str, name: str | None, position: int | None) -> None:
    location = parse_location(text)
    assert location == DockerArchiveReference(path, name)
    assert str(location) == text
    assert location.position == position


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("oci-archive:", "the file's path is missing"),
        ("oci-archive:a.tar:", "the tag after : is missing"),
        ("oci-archive://host/app", "oci-archive: takes a file, not a URL"),
        ("docker-archive:a.tar:", "the image's name after : is missing"),
        ("docker-archive:a.tar:team/UPPER", "lower case"),
        ("docker-archive:a.tar:@x", "@x"),
        (f"docker-archive:a.tar:app@{DIGEST}", "an archive of docker knows no digests"),
    ],
)
def test_mistakes_are_reported(text: str, words: str) -> None:
    with pytest.raises(InvalidReference, match=words):
        parse_location(text)


def test_spellings_of_one_file_are_one_place() -> None:
    assert parse_location("oci-archive:./a.tar:x").place == parse_location("oci-archive:a.tar").place
    assert parse_location("oci-archive:a.tar").place != parse_location("docker-archive:a.tar").place


@pytest.mark.parametrize("name", ["app", "app:latest", "docker.io/app", "docker.io/library/app:latest"])
def test_names_are_compared_as_docker_reads_them(name: str) -> None:
    assert whole_name(name) == "docker.io/library/app:latest"
