"""Where a Location may lead and who may see Authorization there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import RedirectRefused
from crossdock.protocol.redirect import is_internal, is_loopback, next_hop
from crossdock.url import Url


def hop_from(current: str, location: str, registry: str) -> tuple[str, bool]:
    """Where it leads, and whether that is the registry's own origin, which may see ``Authorization``."""
    home = Url.parse(registry).origin
    url = next_hop(Url.parse(current), location, registry=home)
    return url.text, url.origin == home


HUB = "https://registry.example"
LOCAL = "http://127.0.0.1:5000"
LOCAL_TLS = "https://127.0.0.1:5000"

FOLLOWED = [
    # name, registry, Location, where it leads (None: where it says), whether that is the registry
    ("relative path", HUB, "/v2/other", f"{HUB}/v2/other", True),
    ("relative to the path", HUB, "other?a=b", f"{HUB}/v2/x/blobs/other?a=b", True),
    ("same origin, port written out", HUB, f"{HUB}:443/x", None, True),
    ("host in another case", HUB, "https://REGISTRY.example/x", None, True),
    ("another host", HUB, "https://cdn.example/x?sig=a%2Fb", None, False),
    ("another port", HUB, f"{HUB}:8443/x", None, False),
    ("a subdomain", HUB, "https://cdn.registry.example/", None, False),
    ("without scheme", HUB, "//cdn.example/x", "https://cdn.example/x", False),
    ("signature kept byte for byte", HUB, "https://s3.example/b?X=%2f+%20~!'()*", None, False),
    ("fragment dropped", HUB, "https://cdn.example/x#part", "https://cdn.example/x", False),
    ("space and umlaut quoted", HUB, "/a b/ü", f"{HUB}/a%20b/%C3%BC", True),
    ("a public address", HUB, "https://8.8.8.8/x", None, False),
    ("loopback to another loopback port", LOCAL, "http://127.0.0.1:6000/x", None, False),
    ("loopback by name", LOCAL, "http://localhost:5000/x", None, False),
    ("loopback TLS to loopback plain", LOCAL_TLS, "http://127.0.0.1:6000/x", None, False),
    ("plain to TLS", "http://lab.example:5000", "https://lab.example/x", None, False),
    ("private registry to private storage", "https://10.0.0.5", "https://10.0.0.9/x", None, False),
    ("TLS to itself by plain HTTP", HUB, "http://registry.example/x?a=%2F", f"{HUB}/x?a=%2F", True),
    ("TLS to itself by plain HTTP, port 80", HUB, "http://registry.example:80/x", f"{HUB}/x", True),
    (
        "TLS to itself by plain HTTP, port kept",
        f"{HUB}:8443",
        "http://registry.example:8443/x",
        f"{HUB}:8443/x",
        True,
    ),
    (
        "TLS to itself by plain HTTP, port lost",
        f"{HUB}:8443",
        "http://registry.example/x",
        f"{HUB}:8443/x",
        True,
    ),
    ("loopback TLS to itself by plain HTTP", LOCAL_TLS, "http://127.0.0.1:5000/x", f"{LOCAL_TLS}/x", True),
    ("loopback TLS, port lost", LOCAL_TLS, "https://127.0.0.1/x", f"{LOCAL_TLS}/x", True),
    ("loopback TLS, scheme and port lost", LOCAL_TLS, "http://127.0.0.1/x", f"{LOCAL_TLS}/x", True),
    ("loopback, port lost", LOCAL, "http://127.0.0.1/x", f"{LOCAL}/x", True),
    ("loopback IPv6, port lost", "http://[::1]:5000", "http://[::1]/x", "http://[::1]:5000/x", True),
    (
        "to where it was, by plain HTTP",
        HUB,
        "http://registry.example/v2/x/blobs/1",
        f"{HUB}/v2/x/blobs/1",
        True,
    ),
    ("to where it was, port lost", LOCAL, "http://127.0.0.1/v2/x/blobs/1", f"{LOCAL}/v2/x/blobs/1", True),
    ("loopback plain to TLS", LOCAL, "https://127.0.0.1/x", None, False),
    ("port lost elsewhere", "http://lab.example:5000", "http://lab.example/x", None, False),
    ("another port of the same host", f"{HUB}:8443", "https://registry.example/x", None, False),
    ("private registry to itself", "https://10.0.0.5", "/x", "https://10.0.0.5/x", True),
]

REFUSED = [
    ("TLS to plain at another port", HUB, "http://registry.example:5000/x"),
    ("TLS to plain at a subdomain", HUB, "http://a.registry.example/x"),
    ("TLS to plain elsewhere", HUB, "http://cdn.example/x"),
    ("public to loopback", HUB, "https://127.0.0.1/x"),
    ("public to localhost", HUB, "https://localhost/x"),
    ("public to below localhost", HUB, "https://a.localhost/x"),
    ("public to private", HUB, "https://10.1.2.3/x"),
    ("public to link-local (cloud metadata)", HUB, "https://169.254.169.254/latest"),
    ("public to IPv6 loopback", HUB, "https://[::1]/x"),
    ("public to mapped loopback", HUB, "https://[::ffff:127.0.0.1]/x"),
    ("public to private IPv6", HUB, "https://[fd00::1]/x"),
    ("public to loopback inside IPv6", HUB, "https://[::127.0.0.1]/x"),
    ("public to metadata by NAT64", HUB, "https://[64:ff9b::a9fe:a9fe]/x"),
    ("public to loopback by 6to4", HUB, "https://[2002:7f00:1::]/x"),
    ("percent-encoded address", HUB, "https://127%2e0%2e0%2e1/x"),
    ("port 0", HUB, "https://registry.example:0/x"),
    ("address in short form", HUB, "https://127.1/x"),
    ("address as one number", HUB, "https://2130706433/x"),
    ("address in hex", HUB, "https://0x7f.0.0.1/x"),
    ("address with a dot at its end", HUB, "https://127.0.0.1./x"),
    ("this network", HUB, "https://0.0.0.0/x"),
    ("user information", HUB, "https://user:secret@cdn.example/x"),
    ("user information by backslash", HUB, "https://registry.example\\@evil.example/x"),
    ("backslash in the host", HUB, "https://evil.example\\.registry.example/x"),
    ("another scheme", HUB, "file:///etc/passwd"),
    ("ftp", HUB, "ftp://cdn.example/x"),
    ("a port that is none", HUB, "https://cdn.example:99999/x"),
    ("a broken literal", HUB, "https://[::1/x"),
    ("nothing", HUB, " "),
    ("a line break", HUB, "/x\r\nSet-Cookie: a"),
    ("too long", HUB, "/" + "x" * 40_000),
    ("a host outside ASCII", HUB, "https://regıstry.example/x"),
]


@pytest.mark.parametrize(
    ("registry", "location", "leads_to", "authorized"),
    [c[1:] for c in FOLLOWED],
    ids=[c[0] for c in FOLLOWED],
)
def test_locations_that_may_be_followed(
    registry: str, location: str, leads_to: str | None, authorized: bool
) -> None:
    hop = hop_from(f"{registry}/v2/x/blobs/1", location, registry)
    assert hop == (leads_to or location, authorized)


@pytest.mark.parametrize(("registry", "location"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_refused_values(registry: str, location: str) -> None:
    with pytest.raises(RedirectRefused) as caught:
        hop_from(f"{registry}/v2/x/blobs/1", location, registry)
    assert "secret" not in str(caught.value)
    assert not caught.value.retryable


def test_coming_back_to_the_registry_may_carry_authorization_again() -> None:
    assert hop_from("https://cdn.example/x", f"{HUB}/v2/y", HUB)[1]


def test_tls_is_not_lost_on_a_later_hop() -> None:
    with pytest.raises(RedirectRefused, match="plain HTTP"):
        hop_from("https://cdn.example/x", "http://other.example/y", "http://lab.example")


def test_a_storage_host_behind_tls_is_asked_by_https_as_well() -> None:
    hop = hop_from("https://cdn.example:8443/x", "http://cdn.example/y", HUB)
    assert hop == ("https://cdn.example:8443/y", False)


def test_back_to_the_registry_from_elsewhere_stays_on_https() -> None:
    hop = hop_from("https://cdn.example/x", "http://registry.example/y", HUB)
    assert hop == (f"{HUB}/y", True)


@given(st.text(max_size=200))
def test_any_location_leads_somewhere_safe_or_is_refused(location: str) -> None:
    try:
        hop = hop_from(f"{HUB}/v2/x", location, HUB)
    except RedirectRefused:
        return
    assert hop[0].startswith("https://")
    assert hop[1] == (Url.parse(hop[0]).origin == Url.parse(HUB).origin)


LOOPBACK = ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "::ffff:127.0.0.1"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_is_known(host: str) -> None:
    assert is_loopback(host)
    assert is_internal(host)


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", "example.com", "localhost.example", "8.8.8.8", "2606:4700::1111", "a.localhost"],
)
def test_other_hosts_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)
