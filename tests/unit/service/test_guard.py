"""The SSRF table, without a network: which sources and which addresses the guard lets pass."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import AddressRefused, InvalidInput, SourceNotAllowed
from crossdock.inventory.values import Entry, Inventory
from crossdock.protocol.addresses import literal
from crossdock.service.config import Sources
from crossdock.service.guard import SourceGuard, split_registry

ENTRIES = (
    Entry(name="lab", login_server="10.0.0.5:5000"),
    Entry(name="near", login_server="localhost:5001"),
    Entry(name="cloud", login_server="cloud.azurecr.io"),
)
HOSTS = {"docker.io": "127.0.0.1:5002", "auth.docker.io": "127.0.0.1:5003", "six.example:5000": "[::1]:5004"}
INVENTORY = Inventory(ENTRIES, HOSTS)


def guard(
    *networks: str, allow: tuple[str, ...] = ("public.example",), trust_proxy: bool = False
) -> SourceGuard:
    private = tuple(ip_network(each) for each in networks)
    return SourceGuard(Sources(allow=allow, private_addresses=private, trust_proxy=trust_proxy), INVENTORY)


# What no stranger may lead us to, in every spelling that some resolver takes.
LITERALS = [
    ("127.0.0.1", "loopback-address"),
    ("127.255.1.2", "loopback-address"),
    ("127.1", "loopback-address"),
    ("2130706433", "loopback-address"),
    ("0x7f000001", "loopback-address"),
    ("0x7f.0.0.1", "loopback-address"),
    ("0177.0.0.1", "loopback-address"),
    ("017700000001", "loopback-address"),
    ("127.0.0.1.", "loopback-address"),
    ("::1", "loopback-address"),
    ("0:0:0:0:0:0:0:1", "loopback-address"),
    ("::ffff:127.0.0.1", "loopback-address"),
    ("::ffff:7f00:1", "loopback-address"),
    ("::127.0.0.1", "loopback-address"),
    ("::ffff:0:127.0.0.1", "loopback-address"),
    ("64:ff9b::7f00:1", "loopback-address"),
    ("2002:7f00:1::", "loopback-address"),
    ("2001:0:4136:e378:8000:63bf:80ff:fffe", "loopback-address"),  # Teredo of 127.0.0.1
    ("0.0.0.0", "unspecified-address"),
    ("0", "unspecified-address"),
    ("0.1.2.3", "unspecified-address"),
    ("::", "unspecified-address"),
    ("169.254.1.1", "link-local-address"),
    ("fe80::1", "link-local-address"),
    ("169.254.169.254", "metadata-address"),
    ("0xa9fea9fe", "metadata-address"),
    ("2852039166", "metadata-address"),
    ("::ffff:169.254.169.254", "metadata-address"),
    ("64:ff9b::a9fe:a9fe", "metadata-address"),
    ("169.254.170.2", "metadata-address"),
    ("fd00:ec2::254", "metadata-address"),
    ("168.63.129.16", "metadata-address"),
    ("100.100.100.200", "metadata-address"),
    ("10.0.0.1", "private-address"),
    ("10.1", "private-address"),
    ("172.16.0.1", "private-address"),
    ("172.31.255.255", "private-address"),
    ("192.168.1.1", "private-address"),
    ("100.64.0.1", "private-address"),
    ("fc00::1", "private-address"),
    ("fd12:3456::1", "private-address"),
    ("fec0::1", "private-address"),
    ("::ffff:10.0.0.1", "private-address"),
    ("2002:a00:1::", "private-address"),
    ("224.0.0.1", "multicast-address"),
    ("ff02::1", "multicast-address"),
    ("192.0.2.1", "documentation-address"),
    ("198.51.100.7", "documentation-address"),
    ("203.0.113.9", "documentation-address"),
    ("2001:db8::1", "documentation-address"),
    ("3fff::1", "documentation-address"),
    ("255.255.255.255", "reserved-address"),
    ("240.0.0.1", "reserved-address"),
    ("198.18.0.1", "reserved-address"),
    ("192.0.0.8", "reserved-address"),
    ("64:ff9b:1::1", "reserved-address"),
    ("100::1", "reserved-address"),
    ("2001:2::1", "reserved-address"),
    ("::8.8.8.8", "reserved-address"),
    ("4000::1", "reserved-address"),
]
PUBLIC = [
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::",
]


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@pytest.mark.parametrize(("host", "rule"), LITERALS)
def test_no_source_is_an_address_that_is_not_public(host: str, rule: str) -> None:
    for port in ("", ":5000"):
        with pytest.raises(SourceNotAllowed, match=rf"\({rule}\)") as refused:
            guard(allow=("*",)).check_source(bracketed(host) + port)
        assert refused.value.rule == rule


@pytest.mark.parametrize(("host", "rule"), LITERALS)
def test_no_connection_is_made_to_an_address_that_is_not_public(host: str, rule: str) -> None:
    address = str(literal(host))
    for name, addresses in ((host, (address,)), ("dns.example", (address,)), (host, ()), (host, None)):
        with pytest.raises(AddressRefused, match=rf"\({rule}\)") as refused:
            guard(allow=("*",)).check(name, 443, addresses, registry="public.example")
        assert refused.value.rule == rule
        assert not refused.value.retryable


@pytest.mark.parametrize("host", PUBLIC)
def test_public_addresses_pass(host: str) -> None:
    guard(allow=("*",)).check_source(bracketed(host))
    guard().check("dns.example", 443, (host,), registry="public.example")
    guard().check(host, 443, (), registry="public.example")
    guard().check("dns.example", 443, None, registry="public.example")


@pytest.mark.parametrize("addresses", [("8.8.8.8", "10.0.0.1"), ("10.0.0.1", "8.8.8.8"), ("8.8.8.8", "::1")])
def test_one_private_address_of_several_makes_the_name_refused(addresses: tuple[str, ...]) -> None:
    with pytest.raises(AddressRefused):
        guard().check("dns.example", 443, addresses, registry="public.example")


def test_a_refusal_does_not_tell_where_a_name_leads() -> None:
    with pytest.raises(AddressRefused) as refused:
        guard().check("dns.example", 443, ("10.11.12.13",), registry="public.example")
    assert "10.11" not in str(refused.value)


def test_a_zone_does_not_hide_an_address() -> None:
    with pytest.raises(AddressRefused, match="link-local-address"):
        guard().check("dns.example", 443, ("fe80::1%eth0",), registry="public.example")


def test_an_invalid_address_is_refused() -> None:
    with pytest.raises(AddressRefused):
        guard().check("dns.example", 443, ("nonsense",), registry="public.example")


@pytest.mark.parametrize(
    "host", ["metadata.google.internal", "METADATA.google.internal.", "metadata", "instance-data"]
)
def test_names_of_metadata_services_are_refused_wherever_they_lead(host: str) -> None:
    with pytest.raises(SourceNotAllowed, match="metadata-address"):
        guard(allow=("*",)).check_source(host)
    with pytest.raises(AddressRefused, match="metadata-address"):
        guard().check(host, 80, None, registry="cloud.azurecr.io")
    with pytest.raises(AddressRefused, match="metadata-address"):
        guard().check(host, 80, ("8.8.8.8",), registry="cloud.azurecr.io")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "a.localhost", "localhost."])
def test_names_of_this_machine_are_refused_as_sources(host: str) -> None:
    with pytest.raises(SourceNotAllowed, match="loopback-address"):
        guard(allow=("*",)).check_source(host)


@pytest.mark.parametrize(
    "registry",
    [
        "",
        ":5000",
        "１２７.0.0.1",
        "127。0。0。1",
        "①27.0.0.1",
        "regıstry.example",
        "user@public.example",
        "https://public.example",
        "public.example/x",
        "public.example:0",
        "public.example:65536",
        "public.example:５０",
        "public.example:",
        "public.example\n",
        "public..example",
        "public.example..",
        "-.example",
        "[::1",
        "::1",
        "[fe80::1%25eth0]",
        "[127.0.0.1]x",
        "[:::]",
        "a" * 64 + ".example",
        "a." * 127 + "a",
        "127.0.0.1%00.public.example",
    ],
)
def test_an_invalid_host_is_not_a_source(registry: str) -> None:
    with pytest.raises(InvalidInput, match="is not a host"):
        guard(allow=("*",)).check_source(registry)


def test_a_password_before_the_host_is_not_repeated() -> None:
    with pytest.raises(InvalidInput, match="is not a host") as raised:
        guard(allow=("*",)).check_source("user:secret@registry.example")
    assert "***@registry.example" in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "registry",
    [
        "lab",
        "LAB.azurecr.io",
        "10.0.0.5:5000",
        "10.5:5000",
        "localhost:5001",
        "cloud.azurecr.io",
        "docker.io",
        "registry-1.docker.io",
        "auth.docker.io",
        "six.example:5000",
    ],
)
def test_a_host_named_by_the_operator_is_a_source(registry: str) -> None:
    guard(allow=()).check_source(registry)


@pytest.mark.parametrize(
    ("pattern", "registry", "is_allowed"),
    [
        ("*", "any.example:5000", True),
        ("quay.io", "quay.io", True),
        ("quay.io", "QUAY.io.", True),
        ("quay.io", "quay.io:443", True),
        ("quay.io", "quay.io:22", False),
        ("quay.io", "x.quay.io", False),
        ("quay.io", "quay.io.evil.example", False),
        ("quay.io:5000", "quay.io:5000", True),
        ("quay.io:5000", "quay.io", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "evilexample.com", False),
        ("*.example.com", "a.example.com:5000", False),
        ("*.example.com:5000", "a.example.com:5000", True),
        ("8.8.8.8", "8.8.8.8", True),
        ("[2606:4700::1]:5000", "[2606:4700:0::1]:5000", True),
        ("[2606:4700::1]", "[2606:4700::1]:5000", False),
    ],
)
def test_the_allow_list(pattern: str, registry: str, is_allowed: bool) -> None:
    if is_allowed:
        guard(allow=(pattern,)).check_source(registry)
        return
    with pytest.raises(SourceNotAllowed, match="source-not-allowed") as refused:
        guard(allow=(pattern,)).check_source(registry)
    assert refused.value.rule == "source-not-allowed"


def test_all_names_of_docker_hub_are_one() -> None:
    strict = SourceGuard(Sources(allow=("docker.io",)), Inventory())
    for name in ("docker.io", "registry-1.docker.io", "index.docker.io"):
        strict.check_source(name)
    with pytest.raises(SourceNotAllowed):
        strict.check_source("hub.docker.io")


NAMED = [
    ("a registry of the inventory itself", "10.0.0.5:5000", "10.0.0.5", 5000, "10.0.0.5"),
    ("one by name", "localhost:5001", "localhost", 5001, "127.0.0.1"),
    ("one whose name leads inside, by HTTPS", "cloud.azurecr.io", "cloud.azurecr.io", 443, "10.1.1.1"),
    ("one whose name leads inside, by HTTP", "cloud.azurecr.io", "cloud.azurecr.io", 80, "10.1.1.1"),
    ("a host that is served elsewhere", "registry-1.docker.io", "registry-1.docker.io", 443, "127.0.0.1"),
    ("its token service, too", "registry-1.docker.io", "auth.docker.io", 443, "127.0.0.1"),
    ("and for strangers", "public.example", "auth.docker.io", 443, "127.0.0.1"),
    ("what one registry says of another", "10.0.0.5:5000", "localhost", 5001, "127.0.0.1"),
    ("or of where a host is served", "10.0.0.5:5000", "127.0.0.1", 5002, "127.0.0.1"),
    ("in another spelling", "10.0.0.5:5000", "127.1", 5002, "127.0.0.1"),
    ("by IPv6", "six.example:5000", "::1", 5004, "::1"),
]
NOT_NAMED = [
    ("a registry that sends us to its other ports", "10.0.0.5:5000", "10.0.0.5", 22, "10.0.0.5"),
    ("or to its neighbours", "10.0.0.5:5000", "10.0.0.6", 5000, "10.0.0.6"),
    ("or to metadata", "10.0.0.5:5000", "169.254.169.254", 80, "169.254.169.254"),
    ("a name that became metadata", "cloud.azurecr.io", "cloud.azurecr.io", 443, "169.254.169.254"),
    ("a stranger that sends us to a registry", "public.example", "10.0.0.5", 5000, "10.0.0.5"),
    ("or to where a host is served", "public.example", "127.0.0.1", 5002, "127.0.0.1"),
    ("a stranger that is inside itself", "public.example", "public.example", 443, "10.0.0.7"),
]


@pytest.mark.parametrize(
    ("registry", "host", "port", "address"), [e[1:] for e in NAMED], ids=[e[0] for e in NAMED]
)
def test_hosts_named_by_the_operator_may_be_internal(
    registry: str, host: str, port: int, address: str
) -> None:
    guard().check(host, port, (address,), registry=registry)
    guard().check(host, port, (), registry=registry)


@pytest.mark.parametrize(
    ("registry", "host", "port", "address"), [e[1:] for e in NOT_NAMED], ids=[e[0] for e in NOT_NAMED]
)
def test_nobody_else_may(registry: str, host: str, port: int, address: str) -> None:
    with pytest.raises(AddressRefused):
        guard().check(host, port, (address,), registry=registry)


def test_networks_can_be_allowed() -> None:
    inside = guard("10.0.0.0/8", "fd00::/8", allow=("10.1.2.3",))
    inside.check_source("10.1.2.3")
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00::1"):
        inside.check("dns.example", 443, (address, "8.8.8.8"), registry="public.example")
    for address in ("192.168.1.1", "127.0.0.1", "fc00::1"):
        with pytest.raises(AddressRefused):
            inside.check("dns.example", 443, (address,), registry="public.example")


def test_an_allowed_network_does_not_make_a_source() -> None:
    with pytest.raises(SourceNotAllowed, match="source-not-allowed"):
        guard("10.0.0.0/8").check_source("10.1.2.3")


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "100.100.100.200"])
def test_metadata_is_allowed_by_its_own_address_alone(address: str) -> None:
    with pytest.raises(AddressRefused, match="metadata-address"):
        guard("0.0.0.0/0", "::/0").check("dns.example", 80, (address,), registry="public.example")
    guard(address).check("dns.example", 80, (address,), registry="public.example")


def test_a_name_that_a_proxy_looks_up_is_refused_unless_the_proxy_is_trusted() -> None:
    with pytest.raises(AddressRefused, match=r"\(unchecked-proxy\)"):
        guard().check("dns.example", 443, (), registry="public.example")
    guard(trust_proxy=True).check("dns.example", 443, (), registry="public.example")
    with pytest.raises(AddressRefused, match="loopback-address"):
        guard(trust_proxy=True).check("127.1", 443, (), registry="public.example")


@given(st.text(max_size=60) | st.from_regex(r"\A[0-9a-fxX.:\[\]%]{1,40}\Z"))
def test_any_text_is_a_source_or_is_refused(text: str) -> None:
    try:
        guard(allow=("*",)).check_source(text)
    except (InvalidInput, SourceNotAllowed):
        return
    host, _ = split_registry(text)
    address = literal(host)
    assert address is None or not (address.is_loopback or address.is_link_local or address.is_multicast)
