"""References of registries are read as Docker reads them."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crossdock.errors import InvalidReference
from crossdock.oci.digest import Digest
from crossdock.oci.reference import LayoutReference, Reference, parse_location

SHA256 = "sha256:" + "f" * 64
SHA512 = "sha512:" + "0" * 128
HEX64 = "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a"


@pytest.mark.parametrize(
    ("text", "registry", "repository"),
    [
        # Docker Hub, in every way people write it
        ("hello-world", "docker.io", "library/hello-world"),
        ("library/hello-world", "docker.io", "library/hello-world"),
        ("docker.io/hello-world", "docker.io", "library/hello-world"),
        ("docker.io/library/hello-world", "docker.io", "library/hello-world"),
        ("index.docker.io/hello-world", "docker.io", "library/hello-world"),
        ("index.docker.io/library/hello-world", "docker.io", "library/hello-world"),
        ("grafana/loki", "docker.io", "grafana/loki"),
        ("docker.io/grafana/loki", "docker.io", "grafana/loki"),
        ("index.docker.io/grafana/loki", "docker.io", "grafana/loki"),
        ("library/foo/bar", "docker.io", "library/foo/bar"),
        ("store/foo/bar", "docker.io", "store/foo/bar"),
        ("docker", "docker.io", "library/docker"),
        ("oci", "docker.io", "library/oci"),
        ("ubuntu-12.04-base", "docker.io", "library/ubuntu-12.04-base"),
        # A host only counts as one before a slash
        ("test.com", "docker.io", "library/test.com"),
        ("192.168.0.1", "docker.io", "library/192.168.0.1"),
        ("localhost", "docker.io", "library/localhost"),
        ("local/host", "docker.io", "local/host"),
        ("foo/foo_bar.com", "docker.io", "foo/foo_bar.com"),
        # Hosts
        ("localhost/x", "localhost", "x"),
        ("localhost:5000/x", "localhost:5000", "x"),
        ("registry:5000/x/y", "registry:5000", "x/y"),
        ("test.com/repo", "test.com", "repo"),
        ("ghcr.io/a/b/c/d", "ghcr.io", "a/b/c/d"),
        ("sub-dom1.foo.com/bar/baz/quux", "sub-dom1.foo.com", "bar/baz/quux"),
        ("xn--n3h.com/myimage", "xn--n3h.com", "myimage"),
        ("b.gcr.io/test.example.com/my-app", "b.gcr.io", "test.example.com/my-app"),
        ("127.0.0.1:8000/privatebase", "127.0.0.1:8000", "privatebase"),
        ("[::1]/x", "[::1]", "x"),
        ("[::1]:5000/x/y", "[::1]:5000", "x/y"),
        ("[2001:db8:1:2:3:4:5:6]:5000/x", "[2001:db8:1:2:3:4:5:6]:5000", "x"),
        ("LOCALDOMAIN/x", "LOCALDOMAIN", "x"),
        ("Foo/bar", "Foo", "bar"),
        ("Registry.Example/bar", "Registry.Example", "bar"),
        (f"registry.example/{HEX64}", "registry.example", HEX64),
        # Separators inside a name
        ("a/b__c", "docker.io", "a/b__c"),
        ("a/b---c", "docker.io", "a/b---c"),
        ("a_b/c", "docker.io", "a_b/c"),
        ("d/docker", "docker.io", "d/docker"),
        # The prefix that skopeo and podman write
        ("docker://hello-world", "docker.io", "library/hello-world"),
        ("docker://localhost:5000/x", "localhost:5000", "x"),
        ("docker://dir", "docker.io", "library/dir"),
    ],
)
def test_names_are_normalised_as_docker_does(text: str, registry: str, repository: str) -> None:
    expected = Reference(registry, repository, "latest")
    assert Reference.parse(text) == expected
    assert Reference.parse(f"{text}:latest") == expected
    assert Reference.parse(f"{text}@{SHA256}") == Reference(registry, repository, None, Digest(SHA256))


@pytest.mark.parametrize(
    ("text", "tag", "digest"),
    [
        ("a/b:v1", "v1", None),
        ("a/b:Upper.Case_1-2", "Upper.Case_1-2", None),
        ("a/b:_", "_", None),
        ("a/b:5000", "5000", None),
        (f"a/b:{'t' * 128}", "t" * 128, None),
        ("localhost:5000/a/b:5000", "5000", None),
        ("test.com:5000", "5000", None),
        (f"a/b@{SHA256}", None, SHA256),
        (f"a/b@{SHA512}", None, SHA512),
        (f"a/b:v1@{SHA256}", "v1", SHA256),
        (f"localhost:5000/a/b:v1@{SHA512}", "v1", SHA512),
        (f"{HEX64}:v1", "v1", None),
    ],
)
def test_tag_and_digest_are_read_and_no_tag_is_added_to_a_digest(
    text: str, tag: str | None, digest: str | None
) -> None:
    reference = Reference.parse(text)
    assert (reference.tag, reference.digest) == (tag, digest)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("docker://", "empty"),
        (" a/b", "white space"),
        ("a/b\n", "white space"),
        ("a /b", "white space"),
        ("a/b\N{NO-BREAK SPACE}", "white space"),
        ("a/b\0", "control characters"),
        ("a/b\x1b[31m", "control characters"),
        ("a/b\ud800", "control characters"),
        (HEX64, "64 hexadecimal digits"),
        ("docker/Docker", "must be lower case, as in 'docker/docker'"),
        ("Uppercase:tag", "must be lower case, as in 'library/uppercase'"),
        ("test:5000/Uppercase/lowercase:tag", "must be lower case"),
        ("docker.io/docker/Docker", "must be lower case"),
        ("-docker", "not a repository's name"),
        ("docker-/docker", "not a repository's name"),
        ("docker///docker", "not a repository's name"),
        ("docker.io/docker///docker", "not a repository's name"),
        ("a/b/", "not a repository's name"),
        ("/a/b", "not a repository's name"),
        ("_docker/_docker", "not a repository's name"),
        ("____/____", "not a repository's name"),
        ("dock_.er/docker", "not a registry"),
        ("a/dock..er", "not a repository's name"),
        ("a/dock-.er", "not a repository's name"),
        ("a/b___c", "not a repository's name"),
        ("aa/asdf$$^/aa", "not a repository's name"),
        ("a/bär", "not a repository's name"),
        ("a/ſ", "not a repository's name"),
        ("docker/", "not a repository's name"),
        ("test.com/", "missing"),
        (":tag", "missing"),
        (f"@{SHA256}", "missing"),
        (f"a/{'b' * 256}", "258 characters, more than 255"),
        ("a/b:", "tag after : is missing"),
        (f"a/b:@{SHA256}", "tag after : is missing"),
        ("a/b:-x", "'-x' is not a tag"),
        ("a/b:.x", "'.x' is not a tag"),
        ("a/b:x:y", "'x:y' is not a tag"),
        ("a/b:x/y", "'x/y' is not a tag"),
        ("a/b:ä", "'ä' is not a tag"),
        (f"a/b:{'t' * 129}", "129 characters, more than 128"),
        ("a/b@", "not a digest"),
        ("a/b@latest", "'latest' is not a digest"),
        ("a/b@sha256:ffff", "64 hex digits, not 4"),
        (f"a/b@sha256:{'F' * 64}", "lower case"),
        (f"a/b@blake3:{'f' * 64}", "unknown algorithm 'blake3'"),
        (f"a/b@{SHA256}:v1", "not a digest"),
        (f"a/b@{SHA256}@{SHA256}", "not a digest"),
        ("-docker.io/docker/docker", "not a registry"),
        ("a..b/c", "not a registry"),
        ("a.b_c/d", "not a registry"),
        ("registry.example./c", "not a registry"),
        (".../c", "not a registry"),
        ("localhost:/c", "not a registry"),
        ("localhost:port/c", "not a registry"),
        ("localhost:5000:5000/c", "not a registry"),
        ("localhost:0/c", "'0' is not a port"),
        ("localhost:65536/c", "'65536' is not a port"),
        ("[fc00::1]", "not a repository's name"),
        ("[fc00::1]:5000", "not a repository's name"),
        ("fc00::1:5000/debian", "not a registry"),
        ("[fe80::1%eth0]:5000/debian", "not a registry"),
        ("[2001:db8:3:4::192.0.2.33]:5000/debian", "not a registry"),
        ("[:::]/debian", "not an IPv6 address"),
        ("[1:2]/debian", "not an IPv6 address"),
    ],
)
def test_names_that_docker_refuses_are_refused_with_the_part_that_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert reason in str(caught.value)
    assert str(caught.value).isprintable(), "one line, whatever was given"


def test_the_longest_repository_name_is_accepted() -> None:
    assert len(Reference.parse(f"example.com/{'a' * 255}:tag").repository) == 255


def test_long_input_is_refused_quickly_and_quoted_shortly() -> None:
    for text in ("a" * 1_000_000, "a-" * 500_000, "a/" * 500_000 + "!", "a" * 1_000_000 + ".b/c_"):
        with pytest.raises(InvalidReference) as caught:
            Reference.parse(text)
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        "alice:pass-1@registry.example/app:v1",
        "alice:pass-1@registry.example:5000/app",
        "docker://alice:pass-1@registry.example/app",
        "https://alice:pass-1@registry.example/app",
        "https://pass-1@registry.example/app",
        "oci://alice:pass-1@registry.example/app",
        "pass-1@registry.example/app",
        "alice:pass-1/x@registry.example/app",
        "alice:pass-1@b@registry.example/app",
        f"alice:pass-1@registry.example/app@{SHA256}",
    ],
)
def test_a_password_in_front_of_the_host_is_not_repeated(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse_location(text)
    assert "pass-1" not in str(caught.value)
    assert "registry.example" in str(caught.value)
    assert caught.value.__cause__ is None


def test_default_tag_can_be_another_or_none() -> None:
    assert Reference.parse("a/b", default_tag=None) == Reference("docker.io", "a/b")
    assert Reference.parse("a/b", default_tag="edge").tag == "edge"
    assert Reference.parse("a/b:v1", default_tag="edge").tag == "v1"


def test_docker_hub_is_shown_by_its_name_and_reached_at_its_api() -> None:
    reference = Reference.parse("hello-world")
    assert reference.api_host == "registry-1.docker.io"
    assert reference.locator == "docker.io/library/hello-world"
    assert str(reference) == reference.describe() == "docker.io/library/hello-world:latest"
    assert Reference.parse("localhost:5000/x").api_host == "localhost:5000"


def test_a_tag_or_digest_can_be_set_and_the_other_stays() -> None:
    reference = Reference.parse("localhost:5000/a:v1")
    assert str(reference.with_digest(Digest(SHA256))) == f"localhost:5000/a:v1@{SHA256}"
    assert str(reference.with_digest(Digest(SHA256)).with_tag("v2")) == f"localhost:5000/a:v2@{SHA256}"
    with pytest.raises(InvalidReference, match="'no tag' is not a tag"):
        reference.with_tag("no tag")


def test_a_reference_cannot_be_made_wrong_or_changed() -> None:
    with pytest.raises(InvalidReference, match="lower case"):
        Reference("localhost", "A")
    with pytest.raises(InvalidReference, match="missing"):
        Reference("localhost", "")
    with pytest.raises(InvalidReference, match="registry"):
        Reference("", "a")
    with pytest.raises(FrozenInstanceError):
        Reference("localhost", "a").tag = "b"  # type: ignore[misc]


def test_references_survive_pickling_and_serve_as_keys() -> None:
    reference = Reference.parse(f"a/b:v1@{SHA256}")
    assert {reference: 1}[pickle.loads(pickle.dumps(reference))] == 1


HOSTS = st.from_regex(
    r"[a-zA-Z0-9-]{1,6}(\.[a-z0-9-]{1,4}){0,2}(:[0-9]{1,6})?|\[[0-9a-f:]{2,8}\]", fullmatch=True
)
PATHS = st.from_regex(r"[a-zA-Z0-9._-]{1,8}(/[a-z0-9._-]{1,8}){0,3}", fullmatch=True)
TAGS = st.from_regex(r"(:[a-zA-Z0-9_.-]{0,10})?", fullmatch=True)
DIGESTS = st.sampled_from(["", "", f"@{SHA256}", f"@{SHA512}", "@sha256:ff", "@"])
PREFIXES = st.sampled_from(["", "", "docker://", "index.docker.io/", "docker.io/", "localhost/", "http://"])
LIKELY = st.builds(
    "".join, st.tuples(PREFIXES, st.one_of(HOSTS.map("{}/".format), st.just("")), PATHS, TAGS, DIGESTS)
)


@given(st.one_of(st.text(), LIKELY, st.text("aA0.:/@[]-_ \n", max_size=20)))
@example("docker://" * 2 + "a")
@example("[" + ":" * 1000 + "]/a")
def test_any_text_is_a_reference_that_reads_back_or_an_invalid_reference(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference as error:
        shown = str(error)
    else:
        shown = str(reference)
        _check_reference(reference)
    assert shown.isprintable()


def _check_reference(reference: Reference) -> None:
    assert reference.tag or reference.digest
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(f"docker://{reference}") == reference
    assert reference.repository == reference.repository.lower()
    assert str(reference).isascii()


@given(
    st.one_of(
        st.text(), LIKELY, LIKELY.map("oci:{}".format), st.text("oci:/@-sha256. \n").map("oci:{}".format)
    )
)
def test_any_location_reads_back_from_its_text_or_is_an_invalid_reference(text: str) -> None:
    try:
        location = parse_location(text)
    except InvalidReference as error:
        shown = str(error)
    else:
        shown = str(location)
        assert parse_location(shown) == location
        assert isinstance(location, LayoutReference) == text.startswith("oci:")
    assert shown.isprintable()


def test_a_password_before_a_host_is_in_no_part_of_the_message() -> None:
    with pytest.raises(InvalidReference) as raised:
        Reference.parse("user:secret@registry.example/repository:tag")
    assert "***@registry.example" in str(raised.value)
    assert "secret" not in str(raised.value)
