"""The embedded registry with a file of users: token forms, challenges, scopes, and Azure's own SDK."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import trustme

from crossdock.embedded.acr import signing
from crossdock.embedded.acr.access import may, needed_scopes
from crossdock.embedded.acr.accounts import AccountsFile, granted
from crossdock.embedded.acr.signing import Signer
from crossdock.embedded.routes import find_route
from crossdock.errors import InvalidOption, StoreError
from crossdock.protocol.acrtoken import NULL_USER
from unit.embedded.test_registry_server import Served, digest_of, running, users_file

USERS: dict[str, Any] = {
    "users": [
        {"name": "admin", "password": "s3cret-admin", "access_tokens": ["s3cret-entra"]},
        {"name": "ci", "password": "s3cret-ci", "scopes": ["repository:team/*:pull,push"]},
        {"name": "reader", "password": "s3cret-reader", "scopes": ["repository:team/app:metadata_read"]},
    ],
    "anonymous": ["repository:public/*:pull"],
}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return users_file(tmp_path, USERS)


class Guarded:
    """A server with users, and a client for it."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.host = f"127.0.0.1:{served.port}"

    async def get(self, path: str, authorization: str = "", method: str = "GET") -> tuple[int, str, Any]:
        """Status, challenge and document."""
        headers = {"Authorization": authorization} if authorization else None
        status, answered, body = await self.served.call(method, path, headers=headers)
        return status, answered.get("www-authenticate", ""), json.loads(body or b"null")

    async def post(self, path: str, **fields: str) -> tuple[int, Any]:
        body = urlencode({"service": self.host, **fields}).encode()
        status, _, answer = await self.served.call("POST", path, body, headers=FORM)
        return status, json.loads(answer)

    async def token(self, name: str, password: str, *scopes: str) -> str:
        query = urlencode([("service", self.host), *(("scope", each) for each in scopes)])
        headers = {"Authorization": basic(name, password)} if name else None
        status, _, answer = await self.served.call("GET", f"/oauth2/token?{query}", headers=headers)
        assert status == 200, answer
        token: str = json.loads(answer)["access_token"]
        return token


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def write(path: Path, text: str) -> None:
    path.write_text(text)


def claims(token: str) -> Any:
    return json.loads(base64.b64decode(token.split(".")[1] + "=="))


@pytest.fixture
async def guarded(tmp_path: Path, users: Path) -> AsyncIterator[Guarded]:
    async with running(tmp_path / "root", users=users) as served:
        yield Guarded(served)


# -- challenges --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v2/", "registry:catalog:*"),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
        ("GET", "/v2/team/app/manifests/v1", "repository:team/app:pull"),
        ("GET", "/v2/team/app/tags/list", "repository:team/app:pull"),
        ("PUT", "/v2/team/app/manifests/v1", "repository:team/app:pull,push"),
        ("DELETE", "/v2/team/app/manifests/v1", "repository:team/app:delete"),
        ("POST", "/v2/team/app/blobs/uploads/", "repository:team/app:pull,push"),
        (
            "POST",
            "/v2/team/app/blobs/uploads/?mount=sha256:0&from=other",
            "repository:team/app:pull,push repository:other:pull",
        ),
        ("GET", "/acr/v1/_catalog", "registry:catalog:*"),
        ("GET", "/acr/v1/team/app/_manifests", "repository:team/app:metadata_read"),
        ("GET", "/acr/v1/team/app/_tags/v1", "repository:team/app:metadata_read"),
    ],
)
async def test_a_challenge_names_the_scope_and_has_no_spaces_between_parameters(
    guarded: Guarded, method: str, path: str, scope: str
) -> None:
    status, challenge, document = await guarded.get(path, method=method)
    assert status == 401
    realm = f"{guarded.served.base}/oauth2/token"
    assert challenge == f'Bearer realm="{realm}",service="{guarded.host}",scope="{scope}"'
    assert document["errors"][0]["code"] == "UNAUTHORIZED"


async def test_without_users_there_is_no_challenge_and_no_token_service(tmp_path: Path) -> None:
    async with running(tmp_path / "open") as served:
        assert (await served.call("GET", "/v2/"))[0] == 200
        assert (await served.call("POST", "/oauth2/token"))[0] == 404


@pytest.mark.parametrize("host", ['a"b', "a,b", "x" * 300])
async def test_a_host_that_cannot_stand_in_a_challenge_is_refused(guarded: Guarded, host: str) -> None:
    status, headers, _ = await guarded.served.call("GET", "/v2/", headers={"Host": host})
    assert status == 400
    assert "www-authenticate" not in headers


# -- tokens ------------------------------------------------------------------------------------------


async def test_a_password_gets_a_token_by_get_and_by_post(guarded: Guarded) -> None:
    token = await guarded.token(
        "ci", "s3cret-ci", "repository:team/app:pull,push,delete", "registry:catalog:*"
    )
    said = claims(token)
    assert said["access"] == [{"type": "repository", "name": "team/app", "actions": ["pull", "push"]}]
    assert (said["aud"], said["sub"], said["grant_type"]) == (guarded.host, "ci", "access_token")
    assert 4499 <= said["exp"] - said["iat"] <= 4502
    fields = {"grant_type": "password", "username": "ci", "password": "s3cret-ci"}
    status, answer = await guarded.post("/oauth2/token", **fields, scope="repository:team/app:pull")
    assert status == 200
    assert (await guarded.get("/v2/team/app/manifests/v1", f"Bearer {answer['access_token']}"))[0] == 404


async def test_an_access_token_is_exchanged_and_redeemed(guarded: Guarded) -> None:
    status, answer = await guarded.post(
        "/oauth2/exchange?api-version=2021-07-01", grant_type="access_token", access_token="s3cret-entra"
    )
    assert status == 200
    refresh_token = answer["refresh_token"]
    assert claims(refresh_token)["grant_type"] == "refresh_token"
    scope = "repository:any:metadata_read"
    for fields in (
        {"grant_type": "refresh_token", "refresh_token": refresh_token},
        {"grant_type": "password", "username": NULL_USER, "password": refresh_token},
    ):
        status, answer = await guarded.post("/oauth2/token", **fields, scope=scope)
        assert (status, claims(answer["access_token"])["access"][0]["actions"]) == (200, ["metadata_read"])
    token = await guarded.token(NULL_USER, refresh_token, "repository:any:pull")
    for authorization in (
        f"Bearer {token}",
        basic(NULL_USER, token),
        basic(NULL_USER, refresh_token),
        basic("admin", "s3cret-admin"),
    ):
        assert (await guarded.get("/v2/any/manifests/v1", authorization))[0] == 404


async def test_nobody_gets_what_is_public(guarded: Guarded) -> None:
    token = await guarded.token("", "", "repository:public/x:pull,push", "repository:team/app:pull")
    assert claims(token)["access"] == [{"type": "repository", "name": "public/x", "actions": ["pull"]}]
    fields = {"grant_type": "password", "refresh_token": "", "scope": "repository:public/x:pull"}
    status, answer = await guarded.post("/oauth2/token", **fields)  # as azure-containerregistry does
    assert (status, claims(answer["access_token"])["sub"]) == (200, "")
    assert (await guarded.get("/v2/public/x/tags/list", f"Bearer {answer['access_token']}"))[0] == 404


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/oauth2/exchange", {"grant_type": "access_token", "access_token": "s3cret-wrong"}, 401),
        ("/oauth2/exchange", {"grant_type": "access_token"}, 401),
        ("/oauth2/exchange", {"grant_type": "refresh_token", "access_token": "s3cret-entra"}, 400),
        ("/oauth2/exchange", {"grant_type": "access_token", "service": "other"}, 400),
        ("/oauth2/token", {"grant_type": "refresh_token", "refresh_token": "s3cret-wrong"}, 401),
        ("/oauth2/token", {"grant_type": "password", "username": "ci", "password": "s3cret-wrong"}, 401),
        ("/oauth2/token", {"grant_type": "password", "username": "ci"}, 401),
        ("/oauth2/token", {"grant_type": "client_credentials"}, 400),
        ("/oauth2/token", {"grant_type": "password", "padding": "x" * 300_000}, 413),
        ("/oauth2/nothing", {}, 404),
    ],
)
async def test_undocumented_requests_are_refused(
    guarded: Guarded, path: str, fields: dict[str, str], status: int
) -> None:
    answered, document = await guarded.post(path, **fields)
    assert answered == status
    assert "s3cret" not in json.dumps(document)


async def test_a_token_that_ran_out_is_distinguished_from_one_without_the_right(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await guarded.token("ci", "s3cret-ci", "repository:team/app:pull")
    status, challenge, _ = await guarded.get("/v2/other/manifests/v1", f"Bearer {token}")
    assert (status, challenge.endswith('scope="repository:other:pull",error="insufficient_scope"')) == (
        401,
        True,
    )
    assert (await guarded.get("/v2/_catalog", f"Bearer {token}"))[0] == 401
    assert (await guarded.get("/v2/", f"Bearer {token}"))[0] == 200
    now = signing.time.time()
    monkeypatch.setattr(signing.time, "time", lambda: now + 4600)
    status, challenge, _ = await guarded.get("/v2/team/app/manifests/v1", f"Bearer {token}")
    assert (status, challenge.endswith(',error="invalid_token"')) == (401, True)


async def test_basic_without_the_right_is_403(guarded: Guarded) -> None:
    status, _, document = await guarded.get("/v2/other/manifests/v1", basic("ci", "s3cret-ci"))
    assert (status, document["errors"][0]["code"]) == (403, "DENIED")
    assert (await guarded.get("/v2/other/manifests/v1", basic("ci", "s3cret-no")))[0] == 401


async def test_a_password_that_is_taken_out_of_the_file_is_refused_from_then_on(
    guarded: Guarded, users: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authorization = basic("ci", "s3cret-ci")
    assert (await guarded.get("/v2/", authorization))[0] == 200
    write(users, json.dumps({**USERS, "users": USERS["users"][:1]}))
    assert (await guarded.get("/v2/", authorization))[0] == 401
    write(users, "{")
    for _ in range(3):
        assert (await guarded.get("/v2/", basic("admin", "s3cret-admin")))[0] == 200
    assert caplog.text.count("the users are unchanged") == 1


# -- the parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "asked", "given"),
    [
        (("repository:*:*",), "repository:a/b:pull,push", ("pull", "push")),
        (("repository:a/*:pull",), "repository:a/b:pull,push", ("pull",)),
        (("repository:a:pull", "repository:a:push"), "repository:a:push,pull", ("push", "pull")),
        (("repository:a:pull",), "repository:b:pull", ()),
        (("repository:*:*",), "registry:catalog:*", ()),
        (("registry:catalog:*",), "registry:catalog:*", ("*",)),
        (("repository:*:*",), "nonsense", ()),
    ],
)
def test_a_scope_grants_what_it_covers(held: tuple[str, ...], asked: str, given: tuple[str, ...]) -> None:
    assert granted(held, asked) == given


def test_metadata_is_read_with_its_own_right_and_tags_with_either() -> None:
    tags, entries = find_route("GET", "/v2/a/tags/list"), find_route("GET", "/acr/v1/a/_manifests")
    for held, is_tags, is_entries in (
        ("pull", True, False),
        ("metadata_read", True, True),
        ("push", False, False),
    ):
        scopes = (f"repository:a:{held}",)
        assert may(scopes, tags, needed_scopes("GET", tags)) is is_tags
        assert may(scopes, entries, needed_scopes("GET", entries)) is is_entries


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("PATCH", "/acr/v1/a", "metadata_write"),
        ("PATCH", "/acr/v1/a/_tags/v1", "metadata_write"),
        ("PATCH", f"/acr/v1/a/_manifests/sha256:{'0' * 64}", "metadata_write"),
        ("DELETE", "/acr/v1/a", "delete"),
        ("DELETE", "/acr/v1/a/_tags/v1", "delete"),
        ("GET", "/acr/v1/a", "metadata_read"),
    ],
)
def test_changes_need_rights_of_their_own(method: str, path: str, action: str) -> None:
    assert needed_scopes(method, find_route(method, path)) == (f"repository:a:{action}",)


def test_tokens_are_base64_in_either_alphabet() -> None:
    token = Signer().token("refresh_token", "r", ">?~\x7fÿ" * 9, 9, note="???>>>~~~")
    payload = token.split(".")[1]
    assert not set("-_+/") & set(payload)
    assert claims(token)["note"] == "???>>>~~~"


@pytest.mark.parametrize(
    "change",
    [lambda t: t[:-2], lambda t: "x" + t, lambda t: t.partition(".")[2], lambda t: "é", lambda t: ""],
)
def test_a_token_that_was_changed_is_none(change: Callable[[str], str]) -> None:
    signer = Signer()
    token = signer.token("access_token", "r", "ann", 9)
    assert signer.claims(token, "access_token", "r")
    assert signer.claims(change(token), "access_token", "r") is None
    assert signer.claims(token, "refresh_token", "r") is None
    assert signer.claims(token, "access_token", "other") is None
    assert Signer().claims(token, "access_token", "r") is None


@pytest.mark.parametrize(
    ("text", "naming"),
    [
        ("{", "users file"),
        ('{"users": [{"nam": "s3cret"}]}', "nam"),
        ('{"users": [{"name": "a", "password": 7}]}', r"\$.users\[0\].password"),
        ('{"access_token_s": 0}', "access_token_s"),
        ('{"anonymous": ["pull"]}', "is not a scope"),
        ('{"issuers": [{"issuer": "https://a"}]}', "scopes"),
        ('{"issuers": [{"issuer": "https://a", "scopes": ["pull"]}]}', "is not a scope"),
        ('{"issuers": [{"issuer": "https://a", "scopes": [], "audiences": []}]}', "audiences"),
        ('{"issuers": [{"issuer": "http://a", "scopes": []}]}', "need URLs with https"),
        ('{"issuers": [{"issuer": "https://a", "scopes": [], "jwks_uri": "https://u:p@a"}]}', "need URLs"),
        (
            '{"issuers": [{"issuer": "https://a", "scopes": [], "ca": "none.pem"}]}',
            r"none\.pem cannot be read",
        ),
    ],
)
def test_a_users_file_that_says_nothing_usable_is_named(tmp_path: Path, text: str, naming: str) -> None:
    path = tmp_path / "users.json"
    path.write_text(text)
    with pytest.raises(InvalidOption, match=naming) as caught:
        AccountsFile(path)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(StoreError, match="cannot be read"):
        AccountsFile(tmp_path / "none.json")


def test_the_documented_files_are_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "identities.md").read_text()
    lines = "\n".join(line for line in page.splitlines() if line.startswith("    "))
    path = tmp_path / "users.json"
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    users, issuers = lines.replace("\n    {", "\0    {").split("\0")
    path.write_text(users)
    assert [user.name for user in AccountsFile(path).current().users] == ["ci", "ann"]
    path.write_text(issuers)
    file = AccountsFile(path)
    assert [each.issuer for each in file.current().issuers] == ["https://localhost:8443/TENANT"]
    assert file.verifier is not None


def test_users_show_no_secret(users: Path) -> None:
    assert "s3cret" not in repr(AccountsFile(users).current())


# -- Azure's SDK -------------------------------------------------------------------------------------

SDK = """
import sys, time
from azure.containerregistry import ContainerRegistryClient
from azure.core.credentials import AccessToken

class Entra:
    def get_token(self, *scopes, **options):
        return AccessToken("s3cret-entra", int(time.time()) + 3600)

endpoint, ca = sys.argv[1:]
with ContainerRegistryClient(endpoint, Entra(), connection_verify=ca) as client:
    print(*client.list_repository_names())
    print(*(tag.name for tag in client.list_tag_properties("public/x")))
with ContainerRegistryClient(endpoint, None, connection_verify=ca) as client:
    print(client.get_manifest("public/x", "v1").digest)
"""


async def test_the_sdk_logs_in_with_an_access_token_and_anonymously(tmp_path: Path, users: Path) -> None:
    pytest.importorskip("azure.containerregistry")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    trust = ssl.create_default_context(cafile=str(ca))
    async with running(tmp_path / "root", context, trust, users=users) as served:
        served.base = f"https://localhost:{served.port}"
        served.client.headers["Authorization"] = basic("admin", "s3cret-admin")
        config = b"{}"
        await served.push_blob("public/x", config)
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": digest_of(config),
                    "size": len(config),
                },
                "layers": [],
            }
        ).encode()
        kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
        assert (await served.call("PUT", "/v2/public/x/manifests/v1", manifest, kind))[0] == 201
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SDK, served.base, str(ca)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.defpath},
        )
        out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert out.decode().split() == ["public/x", "v1", digest_of(manifest)], errors.decode()
