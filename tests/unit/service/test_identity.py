"""Bearer tokens to principals, and principals to rights."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest

from crossdock.inventory.values import Entry
from crossdock.service.config import Action, IdentitySettings, PrincipalSettings, Role, StaticToken
from crossdock.service.identity.rights import Rights
from crossdock.service.identity.tokens import Identity, principal_of
from crossdock.service.problems import Refused
from crossdock.service.values import ANYBODY, Principal
from crossdock.webtokens.values import Issuer, TokenRefused
from support.webtokens import AUDIENCE, KeyServer, claims, public, rsa_key, sign

ISSUER = "https://login.example.com/T/v2.0"
OID = "11111111-2222-3333-4444-555555555555"
SECRET = "s3cret-static-token"
KEYS = {"keys": [public(rsa_key(), "k1")]}


def token_settings(name: str, secret: str) -> StaticToken:
    return StaticToken(name=name, sha256=hashlib.sha256(secret.encode()).hexdigest())


def identity(*, with_issuer: bool = True, issuer: Issuer | None = None) -> Identity:
    known = issuer or Issuer(issuer=ISSUER, audiences=(AUDIENCE,), keys=KEYS)
    return Identity(
        IdentitySettings(
            issuers=(known,) if with_issuer else (),
            tokens=(token_settings("ci", SECRET), token_settings("cd", "another")),
        )
    )


async def refused(who: Identity, authorization: str | None) -> Refused:
    with pytest.raises(Refused) as caught:
        await who.authenticate(authorization)
    error = caught.value
    shown = f"{error} {error.problem} {error.headers}"
    if authorization and len(authorization) > 30:
        assert authorization.split(" ")[-1] not in shown
    assert "retry-after" not in {name.lower() for name in error.headers}
    return error


async def test_without_settings_everybody_is_let_in() -> None:
    who = Identity(None)
    assert who.is_open
    for authorization in (None, "Bearer nonsense", "Basic eDp5"):
        assert await who.authenticate(authorization) is ANYBODY


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "  BEARER   {}  "])
async def test_a_static_token_is_known_by_its_hash(form: str) -> None:
    assert await identity().authenticate(form.format(SECRET)) == Principal(id="ci", name="ci")


async def test_a_json_web_token_names_its_principal() -> None:
    said = claims(ISSUER, oid=OID, sub=OID, appid="app-1", tid="T", idtyp="app")
    principal = await identity().authenticate(f"Bearer {sign(said)}")
    assert principal == Principal(id=OID, name="app-1", tenant="T", issuer=ISSUER, others=("app-1",))


@pytest.mark.parametrize(
    ("said", "names", "shown"),
    [
        ({"oid": OID, "sub": OID, "azp": "app"}, (OID, "app"), "app"),
        (
            {"oid": OID, "sub": "pair", "azp": "app", "upn": "ann@example.com"},
            (OID, "pair"),
            "ann@example.com",
        ),
        ({"oid": OID, "sub": OID, "azp": "app", "scp": "x"}, (OID,), OID),
        ({"sub": "ann", "azp": "web", "preferred_username": "Ann"}, ("ann",), "Ann"),
        ({"sub": "app", "azp": "app"}, ("app",), "app"),
        ({"sub": None, "azp": "app"}, ("app",), "app"),
        ({"sub": None, "appid": "app"}, ("app",), "app"),
        ({"sub": "repo:org/x:ref:refs/heads/main"}, ("repo:org/x:ref:refs/heads/main",), None),
    ],
)
def test_an_application_is_meant_only_by_its_own_token(
    said: dict[str, Any], names: tuple[str, ...], shown: str | None
) -> None:
    principal = principal_of(claims(ISSUER, **said))
    assert (principal.id, *principal.others) == names
    assert principal.name == (shown or names[0])


@pytest.mark.parametrize(
    "said", [{"sub": None}, {"sub": "a\nb"}, {"sub": "x" * 257}, {"oid": ["a"]}], ids=str
)
def test_a_token_that_names_nobody_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        principal_of(claims(ISSUER, **said))


NOW = int(time.time())
INVALID = "InvalidAuthenticationToken"


@pytest.mark.parametrize(
    ("authorization", "code", "words"),
    [
        (None, "AuthenticationFailed", "The 'Authorization' header is missing."),
        ("", "AuthenticationFailed", "The 'Authorization' header is missing."),
        ("Basic eDp5", "AuthenticationFailed", "in an invalid format"),
        ("Bearer", "AuthenticationFailed", "in an invalid format"),
        ("Bearer  ", "AuthenticationFailed", "in an invalid format"),
        (f"Bearer {SECRET}x", INVALID, "The access token is invalid"),
        ("Bearer \udcff", INVALID, "The access token is invalid"),
        (f"Bearer {sign(claims(ISSUER, exp=NOW - 3600))}", "ExpiredAuthenticationToken", "expiry UTC time"),
        (
            f"Bearer {sign(claims(ISSUER, aud='https://vault.azure.net'))}",
            "InvalidAuthenticationTokenAudience",
            "wrong audience or resource 'https://vault.azure.net'. It should exactly match with one of the "
            "allowed audiences 'https://management.azure.com'.",
        ),
        (f"Bearer {sign(claims('https://evil.example'))}", INVALID, "wrong issuer 'https://evil.example'"),
        (f"Bearer {sign(claims(ISSUER), rsa_key('theirs'))}", INVALID, "its signature is wrong"),
        (f"Bearer {sign(claims(ISSUER, sub='ci'))}", INVALID, "another principal"),
        (f"Bearer {sign(claims(ISSUER, oid=OID, sub='ci'))}", INVALID, "another principal"),
        (f"Bearer {sign(claims(ISSUER, sub='anonymous'))}", INVALID, "another principal"),
    ],
    ids=range(14),
)
async def test_who_is_not_known_gets_azures_words_and_a_challenge(
    authorization: str | None, code: str, words: str
) -> None:
    error = await refused(identity(), authorization)
    assert (error.problem.status, error.problem.code) == (401, code)
    assert words in error.problem.message
    challenge = error.headers["WWW-Authenticate"]
    assert challenge.startswith(f'Bearer authorization_uri="{ISSUER}", error="invalid_token"')


async def test_without_issuers_any_other_token_is_invalid() -> None:
    error = await refused(identity(with_issuer=False), f"Bearer {sign(claims(ISSUER))}")
    assert error.problem.code == INVALID
    assert error.headers["WWW-Authenticate"].startswith("Bearer error=")


async def test_an_issuer_that_cannot_be_asked_is_not_a_fault_of_the_token() -> None:
    async with KeyServer().running() as server:
        server.status = 500
        who = identity(issuer=Issuer(issuer=server.url, audiences=(AUDIENCE,)))
        error = await refused(who, f"Bearer {sign(claims(server.url))}")
    assert (error.problem.status, error.problem.code) == (503, "IdentityProviderUnavailable")
    assert "responded with 500" in error.problem.message
    assert (await who.authenticate(f"Bearer {SECRET}")).id == "ci"


async def test_an_issuer_may_be_believed_later() -> None:
    who = identity(with_issuer=False)
    who.believe(Issuer(issuer=ISSUER, audiences=(AUDIENCE,), keys=KEYS))
    assert (await who.authenticate(f"Bearer {sign(claims(ISSUER))}")).id == "the-sub"


# -- rights ----------------------------------------------------------------------------------------------

HUB = Entry(name="hub", login_server="hub.example:5000", subscription="S", resource_group="rg")
SIX = Entry(name="six", login_server="[::1]:5000")
ALL: tuple[Action, ...] = ("importImage", "read", "pull")


def rights(*roles: tuple[tuple[Action, ...], tuple[str, ...]], issuer: str = "") -> Rights:
    made = tuple(Role(actions=actions, registries=registries) for actions, registries in roles)
    return Rights([PrincipalSettings(id="ci", issuer=issuer, roles=made)])


CI = Principal(id="ci")


@pytest.mark.parametrize(
    ("pattern", "entry", "fits"),
    [
        ("hub", HUB, True),
        ("HUB", HUB, True),
        ("hub.example:5000", HUB, True),
        ("*", HUB, True),
        ("h*", HUB, True),
        ("*.example:*", HUB, True),
        ("hu", HUB, False),
        ("hub.example", HUB, False),
        ("[::1]:5000", SIX, True),
        ("[::*", SIX, True),
        ("*", SIX, True),
        (":5000", SIX, False),
    ],
)
def test_registries_are_named_by_name_or_login_server(pattern: str, entry: Entry, fits: bool) -> None:
    assert rights((("pull",), (pattern,))).may(CI, "pull", entry) is fits


@pytest.mark.parametrize("given", ALL)
def test_each_action_is_its_own(given: Action) -> None:
    held = rights(((given,), ("hub",)))
    assert [action for action in ALL if held.may(CI, action, HUB)] == [given]
    assert not any(held.may(CI, action, SIX) for action in ALL)


def test_roles_add_up_and_others_have_none() -> None:
    held = rights((("read",), ("*",)), (("importImage",), ("hub",)))
    assert held.may(CI, "importImage", HUB)
    assert held.may(CI, "read", SIX)
    assert not held.may(CI, "importImage", SIX)
    assert not held.may(Principal(id="cd"), "read", HUB)
    assert held.may(Principal(id=OID, others=("ci",), issuer=ISSUER), "read", HUB)


def test_a_principal_of_one_issuer_is_not_that_of_another() -> None:
    held = rights((ALL, ("*",)), issuer=ISSUER)
    assert held.may(Principal(id="ci", issuer=ISSUER), "pull", HUB)
    assert not held.may(Principal(id="ci", issuer="https://b.example"), "pull", HUB)
    assert not held.may(CI, "pull", HUB)


def test_anybody_may_everything_but_somebody_of_that_name_nothing() -> None:
    assert Rights([]).may(ANYBODY, "importImage", HUB)
    assert not Rights([]).may(Principal(id="anonymous"), "importImage", HUB)


def forbidden(held: Rights, target: Entry, source: Entry | None) -> tuple[int, str, str]:
    with pytest.raises(Refused) as caught:
        held.check_import(Principal(id=OID, name="app-1", others=("ci",)), target, source)
    problem = caught.value.problem
    return problem.status, problem.code, problem.message


def test_an_import_needs_the_right_at_the_target() -> None:
    assert forbidden(rights((("read", "pull"), ("*",))), HUB, None) == (
        403,
        "AuthorizationFailed",
        f"The client 'app-1' with object id '{OID}' does not have authorization to perform action "
        "'Microsoft.ContainerRegistry/registries/importImage/action' over scope "
        "'/subscriptions/S/resourceGroups/rg/providers/Microsoft.ContainerRegistry/registries/hub' or the "
        "scope is invalid. If access was recently granted, please refresh your credentials.",
    )


@pytest.mark.parametrize(("has", "missing"), [((), "read"), (("pull",), "read"), (("read",), "pull/read")])
def test_an_import_needs_read_and_pull_at_a_source_of_the_inventory(
    has: tuple[Action, ...], missing: str
) -> None:
    held = rights((("importImage",), ("hub",)), (has, ("six",)))
    held.check_import(CI, HUB, None)
    assert forbidden(held, HUB, SIX) == (
        403,
        "LinkedAuthorizationFailed",
        f"The client 'app-1' with object id '{OID}' has permission to perform action "
        "'Microsoft.ContainerRegistry/registries/importImage/action' on scope "
        "'/subscriptions/S/resourceGroups/rg/providers/Microsoft.ContainerRegistry/registries/hub'; however, "
        f"it does not have permission to perform action '{missing}' on the linked scope(s) '[::1]:5000'.",
    )
    rights((("importImage",), ("hub",)), (("read", "pull"), ("six",))).check_import(CI, HUB, SIX)
