"""Tokens that count, and every reason for which one does not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from crossdock.errors import InvalidInput
from crossdock.webtokens import keys
from crossdock.webtokens.keys import IssuerKeys, read_keys
from crossdock.webtokens.values import Issuer, TokenRefused
from crossdock.webtokens.verify import MAX_TOKEN, Verifier
from support.webtokens import AUDIENCE, KeyServer, claims, ec_key, public, raw, rsa_key, sign

ISSUER = "https://login.example.com/T/v2.0"
KEYS = {"keys": [public(rsa_key(), "k1"), public(ec_key(), "e1")]}
NOW = int(time.time())


def given(**changes: Any) -> Verifier:
    issuer = {"issuer": ISSUER, "audiences": (AUDIENCE, "https://other.example"), "keys": KEYS, **changes}
    return Verifier([Issuer(**issuer)])


async def refused(verifier: Verifier, token: str) -> TokenRefused:
    with pytest.raises(TokenRefused) as caught:
        await verifier.claims(token)
    if len(token) > 20:
        assert token not in str(caught.value)
        assert token.rpartition(".")[2][:20] not in str(caught.value) or not token.rpartition(".")[2]
    return caught.value


@pytest.mark.parametrize(
    "token",
    [
        sign(claims(ISSUER)),
        sign(claims(ISSUER), algorithm="PS256"),
        sign(claims(ISSUER), ec_key(), "e1", "ES256"),
        sign(claims(ISSUER), ec_key(), None, "ES256"),
        sign(claims(ISSUER, aud=["https://third.example", "https://other.example"])),
        sign(claims(ISSUER, nbf=None)),
    ],
    ids=["rs256", "ps256", "es256", "no kid", "one of audiences", "no nbf"],
)
async def test_a_token_of_the_issuer_for_the_audience_counts(token: str) -> None:
    assert (await given().claims(token))["sub"] == "the-sub"


@pytest.mark.parametrize(("claim", "off_s"), [("exp", -30), ("nbf", 30)])
async def test_clocks_may_differ_by_half_a_minute(claim: str, off_s: int) -> None:
    token = sign(claims(ISSUER, **{claim: int(time.time()) + off_s}))  # here: collection may be long ago
    assert (await given().claims(token))["sub"] == "the-sub"


def hmac_with_the_public_key() -> str:
    pem = (
        rsa_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    token = raw({"alg": "HS256", "kid": "k1"}, claims(ISSUER))
    signed = token.rpartition(".")[0]
    digest = hmac.digest(pem, signed.encode(), hashlib.sha256)
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def tampered() -> str:
    head, _, signature = sign(claims(ISSUER)).split(".")
    return f"{head}.{raw({}, claims(ISSUER, sub='admin')).split('.')[1]}.{signature}"


def nested() -> str:
    payload = base64.urlsafe_b64encode(b"[" * 20_000).rstrip(b"=").decode()
    return f"{raw({'alg': 'RS256'}, {}).split('.')[0]}.{payload}.AA"


def detached() -> str:
    head = raw({"alg": "RS256", "kid": "k1", "b64": False, "crit": ["b64"]}, {}).split(".")[0]
    return f"{head}..AAAA"


REFUSED = [
    ("", "malformed"),
    ("opaque", "malformed"),
    ("a.b", "malformed"),
    ("a.b.c", "malformed"),
    ("...", "malformed"),
    ("ä.b.c", "malformed"),
    ("x" * (MAX_TOKEN + 1), "malformed"),
    (nested(), "malformed"),
    (raw({"alg": "RS256"}, []), "malformed"),  # type: ignore[arg-type]
    (raw({"alg": "RS256", "kid": 5}, claims(ISSUER), b"s"), "malformed"),
    (detached(), "malformed"),
    (raw({"alg": "none"}, claims(ISSUER)), "algorithm"),
    (raw({"alg": "None", "kid": "k1"}, claims(ISSUER), b"s"), "algorithm"),
    (raw({}, claims(ISSUER), b"s"), "algorithm"),
    (hmac_with_the_public_key(), "algorithm"),
    (sign(claims(ISSUER), ec_key(), "k1", "ES256"), "key"),
    (sign(claims(ISSUER), rsa_key("theirs")), "signature"),
    (raw({"alg": "RS256", "kid": "k1"}, claims(ISSUER)), "signature"),
    (raw({"alg": "ES256", "kid": "e1"}, claims(ISSUER), b"\0" * 64), "signature"),
    (tampered(), "signature"),
    (sign(claims(ISSUER), kid="k2"), "key"),
    (sign(claims(ISSUER, iss="https://login.example.com/T/v2.0/")), "issuer"),
    (sign(claims(ISSUER, iss="https://evil.example")), "issuer"),
    (sign(claims(ISSUER, iss=None)), "issuer"),
    (raw({"alg": "RS256"}, claims(ISSUER, iss=[ISSUER]), b"s"), "issuer"),
    (sign(claims(ISSUER, aud="https://third.example")), "audience"),
    (sign(claims(ISSUER, aud=[])), "claims"),
    (sign(claims(ISSUER, aud=None)), "claims"),
    (sign(claims(ISSUER, exp=None)), "claims"),
    (sign(claims(ISSUER, exp="soon")), "claims"),
    (sign(claims(ISSUER, exp=float("inf"))), "claims"),
    (sign(claims(ISSUER, exp=NOW - 3600)), "expired"),
    (sign(claims(ISSUER, exp=-(10**17))), "expired"),
    (sign(claims(ISSUER, nbf=NOW + 3600)), "early"),
]


@pytest.mark.parametrize(
    ("token", "reason"), REFUSED, ids=[f"{number} {reason}" for number, (_, reason) in enumerate(REFUSED)]
)
async def test_invalid_counts_are_refused_with_the_reason(token: str, reason: str) -> None:
    assert (await refused(given(), token)).reason == reason


async def test_an_audience_is_quoted_without_what_could_break_a_header() -> None:
    error = await refused(given(), sign(claims(ISSUER, aud='x"\r\ny' + "z" * 500)))
    assert "'x???y" in str(error)
    assert "z" * 201 not in str(error)


async def test_an_embedded_key_or_its_place_plays_no_part() -> None:
    theirs = rsa_key("theirs")
    header = {"alg": "RS256", "kid": "k1", "jwk": public(theirs, "k1"), "jku": "https://evil.example/keys"}
    import jwt

    token = jwt.encode(claims(ISSUER), theirs, "RS256", headers=header)
    assert (await refused(given(), token)).reason == "signature"


@pytest.mark.parametrize(
    "entry",
    [
        public(rsa_key("weak", 1024), "k1"),
        public(rsa_key(), "k1", use="enc"),
        public(rsa_key(), "k1", alg="RS512"),
        public(ec_key(), "k1", alg="RS256"),
        {"kty": "oct", "kid": "k1", "k": "c2VjcmV0"},
        {"kty": "RSA", "kid": "k1", "n": "!", "e": "AQAB"},
        {"kty": "RSA", "kid": 1},
        {"kid": "k1"},
        "k1",
        None,
    ],
    ids=["weak", "enc", "alg", "kind", "oct", "damaged", "kid", "no kind", "text", "nothing"],
)
def test_keys_that_must_not_be_used_are_passed_over(entry: Any) -> None:
    assert [key.kid for key in read_keys({"keys": [entry, public(rsa_key(), "good")]})] == ["good"]


def test_a_private_part_that_somebody_published_is_not_read() -> None:
    from jwt.algorithms import RSAAlgorithm

    (key,) = read_keys({"keys": [{**RSAAlgorithm.to_jwk(rsa_key(), as_dict=True), "kid": "k1"}]})
    assert not hasattr(key.public, "private_numbers")


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": [{}] * 101}], ids=str)
def test_an_invalid_key_set_is_an_error(document: Any) -> None:
    with pytest.raises(ValueError, match="not a key set"):
        read_keys(document)
    with pytest.raises(InvalidInput, match=r"login\.example"):
        IssuerKeys(Issuer(issuer=ISSUER, audiences=("x",), keys=document or {}))


async def test_a_key_says_what_it_is_for() -> None:
    only = {"keys": [public(rsa_key(), "k1", alg="PS256")]}
    assert (await refused(given(keys=only), sign(claims(ISSUER)))).reason == "key"
    assert await given(keys=only).claims(sign(claims(ISSUER), algorithm="PS256"))


# -- keys that are fetched -------------------------------------------------------------------------------


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    async with KeyServer().running() as running:
        yield running


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def fetching(server: KeyServer, clock: Clock, **changes: Any) -> IssuerKeys:
    return IssuerKeys(Issuer(issuer=server.url, audiences=(AUDIENCE,), **changes), clock)


async def test_keys_are_found_by_the_configuration_and_fetched_once(server: KeyServer) -> None:
    verifier = Verifier([Issuer(issuer=server.url, audiences=(AUDIENCE,))])
    token = sign(claims(server.url))
    await asyncio.gather(*(verifier.claims(token) for _ in range(5)))
    assert server.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_a_jwks_uri_of_the_settings_is_asked_alone(server: KeyServer) -> None:
    await fetching(server, Clock(), jwks_uri=f"{server.url}/mine").find("k1", "RS256")
    assert server.asked == ["/mine"]


async def test_an_unknown_key_is_looked_for_again_but_not_more_than_ten_times_a_minute(
    server: KeyServer,
) -> None:
    clock = Clock()
    found = fetching(server, clock, jwks_uri=f"{server.url}/keys")
    await found.find("k1", "RS256")
    server.keys.append(public(rsa_key("new"), "k2"))
    assert (await found.find("k2", "RS256")).kid == "k2"
    for _ in range(15):
        with pytest.raises(TokenRefused, match="does not have"):
            await found.find("k3", "RS256")
    assert len(server.asked) == keys.FETCHES
    server.keys.append(public(rsa_key("newer"), "k3"))
    clock.now += keys.PAUSE_S
    assert (await found.find("k3", "RS256")).kid == "k3"
    assert len(server.asked) == keys.FETCHES + 1


async def test_a_key_that_is_gone_is_refused_when_the_keys_were_fetched_again(server: KeyServer) -> None:
    clock = Clock()
    found = fetching(server, clock, jwks_uri=f"{server.url}/keys")
    await found.find("k1", "RS256")
    server.keys = [public(rsa_key("new"), "k2")]
    clock.now += keys.FRESH_S
    with pytest.raises(TokenRefused) as caught:
        await found.find("k1", "RS256")
    assert caught.value.reason == "key"


async def test_known_keys_stand_for_a_day_while_the_issuer_is_down(
    server: KeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    found = fetching(server, clock, jwks_uri=f"{server.url}/keys")
    await found.find("k1", "RS256")
    server.status = 503
    clock.now += keys.FRESH_S
    await found.find("k1", "RS256")
    await found.find("k1", "RS256")
    assert len(server.asked) == 2  # a failure is not repeated at once
    clock.now += keys.STALE_S
    with pytest.raises(TokenRefused) as caught:
        await found.find("k1", "RS256")
    assert caught.value.reason == "unavailable"
    assert "responded with 503" in caplog.text


async def test_nobody_waits_for_keys_that_somebody_fetches_while_known_ones_stand(server: KeyServer) -> None:
    clock = Clock()
    found = fetching(server, clock, jwks_uri=f"{server.url}/keys")
    await found.find("k1", "RS256")
    clock.now += keys.FRESH_S
    server.hold = asyncio.Event()
    slow = asyncio.create_task(found.find("k1", "RS256"))
    await server.waiting.wait()
    assert (await found.find("k1", "RS256")).kid == "k1"
    assert not slow.done()
    server.hold.set()
    assert (await slow).kid == "k1"


async def test_an_issuer_that_never_answers_is_given_up(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "TIMEOUT_S", 0.05)
    server.hold = asyncio.Event()
    with pytest.raises(TokenRefused, match="did not respond") as caught:
        await fetching(server, Clock()).find("k1", "RS256")
    assert caught.value.reason == "unavailable"
    server.hold.set()


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"status": 500}, "responded with 500"),
    ({"status": 404}, "responded with 404"),
    ({"body": b"<html>"}, "is not JSON"),
    ({"body": b"[" * 100_000}, "is not JSON"),
    ({"body": b"{}"}, "not a key set"),
    ({"body": b" " * (keys.MAX_DOCUMENT + 1)}, "has over 262144 bytes"),
    ({"location": "http://127.0.0.1:1/keys"}, "responded with 302"),
    ({"configuration": {"issuer": "https://another.example"}}, "of another issuer"),
    ({"configuration": {"jwks_uri": "http://keys.example/"}}, "no jwks_uri with https"),
    ({"configuration": {"jwks_uri": "https://u:p@keys.example/"}}, "no jwks_uri with https"),
    ({"configuration": {"jwks_uri": "file:///etc/passwd"}}, "no jwks_uri with https"),
    ({"configuration": {"jwks_uri": None}}, "no jwks_uri with https"),
]


@pytest.mark.parametrize(("changes", "words"), BROKEN, ids=[words for _, words in BROKEN])
async def test_keys_that_cannot_be_had_let_nobody_in(
    server: KeyServer, changes: dict[str, Any], words: str
) -> None:
    for name, value in changes.items():
        setattr(server, name, value)
    verifier = Verifier([Issuer(issuer=server.url, audiences=(AUDIENCE,))])
    error = await refused(verifier, sign(claims(server.url)))
    assert error.reason == "unavailable"
    assert words in str(error)


async def test_an_issuer_that_is_not_there_lets_nobody_in() -> None:
    async with KeyServer().running() as server:
        pass
    verifier = Verifier([Issuer(issuer=server.url, audiences=(AUDIENCE,))])
    assert (await refused(verifier, sign(claims(server.url)))).reason == "unavailable"


async def test_the_ca_of_an_issuer_is_trusted_for_its_keys_alone(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    async with KeyServer().running(context) as server:
        token = sign(claims(server.url))
        trusted = Issuer(issuer=server.url, audiences=(AUDIENCE,), ca_file=ca)
        assert await Verifier([trusted]).claims(token)
        untrusted = Verifier([Issuer(issuer=server.url, audiences=(AUDIENCE,))])
        assert (await refused(untrusted, token)).reason == "unavailable"


async def test_a_new_ca_is_trusted_after_a_reload_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    authority, ca = trustme.CA(), tmp_path / "ca.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trustme.CA().cert_pem.write_to_path(str(ca))
    async with KeyServer().running(context) as server:
        token = sign(claims(server.url))
        verifier = Verifier([Issuer(issuer=server.url, audiences=(AUDIENCE,), ca_file=ca)])
        assert (await refused(verifier, token)).reason == "unavailable"
        authority.cert_pem.write_to_path(str(ca))
        verifier.reload_trust()
        assert await verifier.claims(token)
        ca.write_text("no certificate")
        with pytest.raises(InvalidInput, match=r"ca\.pem"):
            verifier.reload_trust()
        assert await verifier.claims(token)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_named_at_start(content: str | None, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_text(content)
    with pytest.raises(InvalidInput, match=r"ca\.pem"):
        Verifier([Issuer(issuer=ISSUER, audiences=("x",), ca_file=ca)])
