"""The development cloud: certificates, tokens, and how Azure's own libraries log in to it."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import ssl
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential, CredentialUnavailableError, ManagedIdentityCredential
from cryptography import x509

from crossdock.inventory.values import Entry, Inventory
from crossdock.listening import server_tls
from crossdock.service.config import IdentitySettings
from crossdock.service.identity.rights import Rights
from crossdock.service.identity.tokens import Identity
from crossdock.service.problems import Refused
from crossdock.webtokens.verify import Verifier
from crossdock_testing.azure import authority
from crossdock_testing.azure.authority import Certificates, make_certificates
from crossdock_testing.azure.cloud import DevCloud
from crossdock_testing.azure.provider import ARM_AUDIENCES, Declined, Provider

HUB = Entry(name="hub", login_server="127.0.0.1:5000", subscription="S", resource_group="rg")
INVENTORY = Inventory((HUB, Entry(name="other", login_server="other.azurecr.io", subscription="S2")))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- certificates ----------------------------------------------------------------------------------------


def contents(made: Certificates) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in made)


def test_certificates_are_used_again(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "dev"
    made = make_certificates(folder, ["host.example", "10.1.2.3"])
    before = contents(made)
    assert contents(make_certificates(folder, ["host.example"])) == before
    server = x509.load_pem_x509_certificate(made.cert.read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "host.example"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == [
        "127.0.0.1",
        "::1",
        "10.1.2.3",
    ]
    assert mode(folder) == 0o700
    assert {mode(path) for path in folder.iterdir()} == {0o600}


def test_a_new_host_needs_a_new_certificate_of_the_same_authority(tmp_path: Path) -> None:
    before = contents(make_certificates(tmp_path, []))
    after = contents(make_certificates(tmp_path, ["host.example"]))
    assert after[0] == before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize("name", ["ca.pem", "ca.key", "server.pem", "server.key"])
@pytest.mark.parametrize("damage", [b"", b"no PEM", None])
def test_damaged_or_missing_files_are_made_again(name: str, damage: bytes | None, tmp_path: Path) -> None:
    make_certificates(tmp_path, [])
    if damage is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(damage)
    made = make_certificates(tmp_path, [])
    assert server_tls(str(made.cert), str(made.key)) is not None
    trusted = x509.load_pem_x509_certificate(made.ca.read_bytes())
    x509.load_pem_x509_certificate(made.cert.read_bytes()).verify_directly_issued_by(trusted)


def test_a_token_that_ends_soon_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(make_certificates(tmp_path, []))
    monkeypatch.setattr(authority, "RENEWED", authority.LIFE + datetime.timedelta(days=1))
    after = contents(make_certificates(tmp_path, []))
    assert not set(before) & set(after)


# -- tokens ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    made = Provider(tmp_path_factory.mktemp("dev"))
    made.base = "https://localhost:8443"
    return made


def form(provider: Provider, **changes: str) -> dict[str, str]:
    who = provider.who
    given = {
        "grant_type": "client_credentials",
        "client_id": who.client_id,
        "client_secret": who.client_secret,
    }
    return {**given, "scope": "https://management.azure.com/.default", **changes}


@pytest.mark.parametrize(
    ("fields", "audience"),
    [
        ({}, "https://management.azure.com"),
        ({"scope": "https://management.core.windows.net//.default"}, "https://management.core.windows.net/"),
        ({"scope": "", "resource": "https://management.azure.com/"}, "https://management.azure.com/"),
        # MSAL for Go, and MSAL for Python with `offline_access` in front.
        (
            {"scope": "https://management.azure.com/.default openid offline_access profile"},
            "https://management.azure.com",
        ),
        (
            {"scope": "offline_access  https://management.azure.com//.default"},
            "https://management.azure.com/",
        ),
    ],
)
async def test_the_secret_gives_a_token_that_the_service_believes(
    provider: Provider, fields: dict[str, str], audience: str
) -> None:
    answer = provider.by_secret(provider.who.tenant.upper(), form(provider, **fields))
    said = await Verifier([provider.issuer]).claims(answer["access_token"])
    assert said["aud"] == audience
    assert (said["tid"], said["appid"]) == (provider.who.tenant, provider.who.client_id)
    assert (said["oid"], said["sub"]) == (provider.who.object_id, provider.who.object_id)
    assert said["iss"] == f"https://localhost:8443/{provider.who.tenant}"
    assert answer["expires_in"] == said["exp"] - said["iat"] == 3600


@pytest.mark.parametrize("audience", ["https://localhost:8443", "https://localhost:8443/", *ARM_AUDIENCES])
async def test_tokens_for_arm_count_by_each_of_its_names(provider: Provider, audience: str) -> None:
    answer = provider.by_secret("common", form(provider, scope=f"{audience}/.default"))
    assert await Verifier([provider.issuer]).claims(answer["access_token"])


@pytest.mark.parametrize(
    ("tenant", "changes", "status", "error", "number"),
    [
        ("", {"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ("", {"client_secret": ""}, 401, "invalid_client", 7000215),
        ("", {"client_secret": "\udcff"}, 401, "invalid_client", 7000215),
        ("", {"client_id": "somebody"}, 400, "unauthorized_client", 700016),
        ("", {"client_id": ""}, 400, "invalid_request", 900144),
        ("", {"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
        ("", {"scope": ""}, 400, "invalid_scope", 1002012),
        ("", {"scope": "https://a"}, 400, "invalid_scope", 1002012),
        ("", {"scope": "https://a/.default https://b/.default"}, 400, "invalid_scope", 1002012),
        ("", {"scope": "openid offline_access profile"}, 400, "invalid_scope", 1002012),
        ("", {"scope": "https://a/.default User.Read"}, 400, "invalid_scope", 1002012),
        ("", {"scope": "/.default"}, 400, "invalid_scope", 1002012),
        ("another", {}, 400, "invalid_request", 90002),
    ],
)
def test_a_wrong_form_is_declined_as_entra_id_does(
    provider: Provider, tenant: str, changes: dict[str, str], status: int, error: str, number: int
) -> None:
    with pytest.raises(Declined) as caught:
        provider.by_secret(tenant or provider.who.tenant, form(provider, **changes))
    said = caught.value.document
    assert (caught.value.status, said["error"], said["error_codes"]) == (status, error, [number])
    assert said["error_description"].startswith(f"AADSTS{number}: ")
    assert provider.who.client_secret not in json.dumps(said)


def test_identities_outlive_a_restart_and_are_in_no_repr(tmp_path: Path) -> None:
    first, second = Provider(tmp_path), Provider(tmp_path)
    assert first.who == second.who
    assert first.key_set() == second.key_set()
    assert first.who.client_secret not in repr(first.who)
    (tmp_path / "identities.json").write_text("{}")
    assert Provider(tmp_path).who != first.who


# -- on a server -----------------------------------------------------------------------------------------


class Running(NamedTuple):
    cloud: DevCloud
    identity: Identity
    info: dict[str, Any]

    @property
    def verify(self) -> str:
        return str(self.info["ca"])

    async def ask(self, method: str, path: str, **how: Any) -> tuple[int, Any]:
        context = ssl.create_default_context(cafile=self.verify)
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # Python 3.13's default
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.info["arm"] + path, ssl=context, **how) as answer,
        ):
            assert answer.headers["Cache-Control"] == "no-store"
            return answer.status, await answer.json()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    cloud = DevCloud(tmp_path / "dev", "127.0.0.1")
    identity = Identity(IdentitySettings())
    app = web.Application()
    app.add_routes(cloud.routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        tls = server_tls(str(cloud.certificates.cert), str(cloud.certificates.key))
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        base = cloud.open(runner.addresses[0][1], identity)
        info = tmp_path / "info.json"
        cloud.write_info(info, INVENTORY)
        assert mode(info) == 0o600
        said = json.loads(info.read_text())
        assert said["arm"] == base
        yield Running(cloud, identity, said)
    finally:
        await runner.cleanup()


async def test_the_info_has_what_a_script_needs(running: Running) -> None:
    info = running.info
    assert info["registries"] == {"hub": "127.0.0.1:5000", "other": "other.azurecr.io"}
    assert (info["subscription"], info["resource_group"]) == ("S", "rg")
    assert Path(info["ca"]).is_absolute()
    assert all(info[key] for key in ("tenant", "client_id", "client_secret", "identity_header"))


async def test_az_finds_the_login_by_the_metadata(running: Running) -> None:
    arm, tenant = running.info["arm"], running.info["tenant"]
    status, said = await running.ask("GET", "/metadata/endpoints?api-version=2022-09-01")
    assert (status, said["resourceManager"]) == (200, arm)
    assert said["suffixes"]["acrLoginServer"] == "azurecr.io"
    login = said["authentication"]["loginEndpoint"].removeprefix(arm)
    for place in (login, f"{login}/{tenant}", f"/{tenant}/v2.0", f"/{tenant}"):
        status, said = await running.ask("GET", f"{place}/.well-known/openid-configuration")
        assert (status, said["issuer"]) == (200, f"{arm}/{tenant}")
        _, keys = await running.ask("GET", said["jwks_uri"].removeprefix(arm))
        assert [key["kty"] for key in keys["keys"]] == ["RSA"]
        assert not {"d", "p", "q"} & set(keys["keys"][0])
        token = said["token_endpoint"].removeprefix(arm)
        status, said = await running.ask("POST", token, data={"grant_type": "x"})
        assert (status, said["error"]) == (400, "unsupported_grant_type")
    status, said = await running.ask("GET", "/another/v2.0/.well-known/openid-configuration")
    assert (status, said["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("body", [b"\xff\xfe", b"a=1&" * 100])
async def test_a_body_that_is_not_a_form_is_refused(running: Running, body: bytes) -> None:
    status, said = await running.ask("POST", "/common/oauth2/v2.0/token", data=body)
    assert (status, said["error"]) == (400, "invalid_request")


async def test_a_form_that_is_too_large_is_refused(running: Running) -> None:
    status, _ = await running.ask("POST", "/common/oauth2/v2.0/token", data=b"a" * 70_000)
    assert status == 413


def credential(running: Running, secret: str = "", authority: str = "") -> ClientSecretCredential:
    info = running.info
    return ClientSecretCredential(
        info["tenant"],
        info["client_id"],
        secret or info["client_secret"],
        authority=authority or info["arm"],
        disable_instance_discovery=True,
        connection_verify=running.verify,
    )


@pytest.mark.parametrize("place", ["", "/adfs"])
async def test_azures_library_logs_in_with_the_secret(running: Running, place: str) -> None:
    with credential(running, authority=running.info["arm"] + place) as logged_in:
        token = await asyncio.to_thread(logged_in.get_token, "https://management.azure.com/.default")
    principal = await running.identity.authenticate(f"Bearer {token.token}")
    assert (principal.id, principal.name) == (running.info["object_id"], running.info["client_id"])
    assert Rights(running.cloud.principals()).may(principal, "importImage", HUB)


async def test_azures_library_says_that_the_secret_is_wrong(running: Running) -> None:
    logging.getLogger("azure").setLevel(logging.CRITICAL)
    with (
        credential(running, secret="wrong") as logged_in,
        pytest.raises(ClientAuthenticationError, match="AADSTS7000215"),
    ):
        await asyncio.to_thread(logged_in.get_token, "https://management.azure.com/.default")


async def test_azures_library_logs_in_as_the_managed_identity(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", running.info["identity_endpoint"])
    monkeypatch.setenv("IDENTITY_HEADER", running.info["identity_header"])
    scope = running.info["arm"] + "/.default"
    with ManagedIdentityCredential(connection_verify=running.verify) as machine:
        token = await asyncio.to_thread(machine.get_token, scope)
    principal = await running.identity.authenticate(f"Bearer {token.token}")
    assert principal.id == running.info["managed_identity"]
    assert Rights(running.cloud.principals()).may(principal, "pull", HUB)
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    with (
        ManagedIdentityCredential(connection_verify=running.verify) as machine,
        pytest.raises((ClientAuthenticationError, CredentialUnavailableError)),
    ):
        await asyncio.to_thread(machine.get_token, scope)


async def test_a_token_for_registries_is_none_for_imports(running: Running) -> None:
    with credential(running) as logged_in:
        token = await asyncio.to_thread(logged_in.get_token, "https://containerregistry.azure.net/.default")
    with pytest.raises(Refused) as caught:
        await running.identity.authenticate(f"Bearer {token.token}")
    assert caught.value.problem.code == "InvalidAuthenticationTokenAudience"


async def test_tokens_outlive_a_restart(running: Running, tmp_path: Path) -> None:
    answer = running.cloud._provider.by_machine(
        running.info["identity_header"], {"resource": "https://management.azure.com"}
    )
    again, identity = DevCloud(tmp_path / "dev", "127.0.0.1"), Identity(IdentitySettings())
    again.open(int(running.info["arm"].rpartition(":")[2]), identity)
    assert (await identity.authenticate(f"Bearer {answer['access_token']}")).tenant == running.info["tenant"]


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "https://localhost:1"), ("::", "https://localhost:1"), ("::1", "https://[::1]:1")],
)
def test_the_url_is_one_that_clients_can_use(host: str, url: str, tmp_path: Path) -> None:
    assert DevCloud(tmp_path, host).open(1, Identity(IdentitySettings())) == url
