"""All spellings of a registry's name have one key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.oci.reference import Reference
from crossdock.oci.registryname import registry_key


@pytest.mark.parametrize(
    ("key", "spellings"),
    [
        ("registry.example", ["REGISTRY.example", "registry.example.", "Registry.Example.:0443"]),
        ("registry.example:80", ["registry.example:080", "REGISTRY.EXAMPLE:80"]),
        ("registry.example:5000", ["registry.example.:5000", "Registry.example:05000"]),
        ("localhost:5000", ["LOCALHOST:5000", "localhost.:5000"]),
        (
            "127.0.0.1:5000",
            [
                "127.1:5000",
                "127.0.1:5000",
                "2130706433:5000",
                "0x7f000001:5000",
                "0X7F.1:5000",
                "0177.0.0.1:5000",
                "017700000001:5000",
                "127.0.0.1.:5000",
                "[::ffff:127.0.0.1]:5000",
                "[::FFFF:7f00:1]:5000",
                "[0:0:0:0:0:ffff:7f00:0001]:5000",
            ],
        ),
        ("10.0.0.5", ["10.5", "10.0.5:443", "167772165", "0xa000005"]),
        ("[::1]:5000", ["[0:0:0:0:0:0:0:1]:5000", "[0000::0001]:05000"]),
        ("[2001:db8::1]", ["[2001:DB8:0:0::1]", "[2001:db8::1]:443"]),
        (
            "docker.io",
            [
                "docker.io:443",
                "DOCKER.IO.",
                "index.docker.io",
                "registry-1.docker.io",
                "Registry-1.Docker.io:443",
                "registry.hub.docker.com",
                "registry.hub.docker.com:443",
            ],
        ),
    ],
)  # fmt: skip
def test_one_registry_has_one_key(key: str, spellings: list[str]) -> None:
    assert registry_key(key) == key
    assert {text: registry_key(text) for text in spellings} == dict.fromkeys(spellings, key)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("registry.example", "registry.example:80"),
        ("registry.example", "registry.example:4430"),
        ("registry.example", "xregistry.example"),
        ("docker.io", "hub.docker.io"),
        ("docker.io", "auth.docker.io"),
        ("docker.io", "docker.io.example"),
        ("127.0.0.1:5000", "127.0.0.1:5001"),
        ("127.0.0.1", "localhost"),  # a name, whose address may be another one
        ("127.0.0.1", "127.0.0.1.example"),
        ("1.2.3.4", "1.2.3.4.5"),
        ("127.0.0.1", "[::1]"),
        ("127.0.0.1", "[::127.0.0.1]"),  # deprecated (RFC 4291 section 2.5.5.1), and connects elsewhere
        ("127.0.0.1", "[64:ff9b::7f00:1]"),  # behind a translator
        ("127.0.0.9", "127.0.0.09x"),
    ],
)
def test_other_registries_have_other_keys(one: str, other: str) -> None:
    assert registry_key(one) != registry_key(other)


@pytest.mark.parametrize(
    "text", ["", ":", ":443", "[", "[]", "[:::]:1", "a:b:c", "a@b", "ü.example", "0x", "1.2.3.999", "\0"]
)
def test_an_invalid_registry_name_has_a_key_all_the_same(text: str) -> None:
    assert registry_key(text) == registry_key(registry_key(text))


@given(
    st.text(alphabet="0123456789abcdefx.-", max_size=24) | st.ip_addresses(v=6).map("[{}]".format),
    st.sampled_from(["", ":443", ":05000"]),
)
def test_a_key_is_its_own_key(host: str, port: str) -> None:
    text = host + port
    key = registry_key(text)
    assert registry_key(key) == key
    assert registry_key(text.upper()) == key


@pytest.mark.parametrize(
    "name", ["docker.io:443", "registry-1.docker.io", "index.docker.io:443", "registry.hub.docker.com"]
)
def test_references_call_docker_hub_by_one_name(name: str) -> None:
    reference = Reference.parse(f"{name}/hello-world:latest")
    assert str(reference) == "docker.io/library/hello-world:latest"
    assert reference.api_host == "registry-1.docker.io"
    assert Reference(name, "library/hello-world").api_host == "registry-1.docker.io"
