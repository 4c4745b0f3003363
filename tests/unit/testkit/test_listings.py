"""The doubles of registries with lists of their own refuse what the real ones refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crossdock_testing.listings.ecr import ACCOUNT, KEY, REGION, SECRET, EcrDouble
from crossdock_testing.listings.front import Described
from crossdock_testing.listings.harbor import HarborDouble
from crossdock_testing.listings.quay import QuayDouble
from support.push import Remote, Reply

NOWHERE = "127.0.0.1:1"  # no double of this file asks the registry behind it
ROWS = [Described(f"sha256:{at:064x}", "application/json", 1, (f"v{at}",), 1.5e9) for at in range(3)]


class Harbor(HarborDouble):
    async def described(self, repository: str) -> list[Described] | None:
        return ROWS if repository == "team/a/b" else None


class Quay(QuayDouble):
    async def described(self, repository: str) -> list[Described] | None:
        return ROWS


class Ecr(EcrDouble):
    async def described(self, repository: str) -> list[Described] | None:
        return ROWS


@pytest.mark.parametrize(
    ("target", "login", "status"),
    [
        ("team/repositories/a%252Fb/artifacts", "u:p", 200),
        ("team/repositories/a%2Fb/artifacts", "u:p", 404),  # its server decodes the path once
        ("team/repositories/a/b/artifacts", "u:p", 404),
        ("team/repositories/a%252Fb/artifacts?page_size=101", "u:p", 422),
        ("team/repositories/a%252Fb/artifacts", "", 401),
        ("team/repositories/a%252Fb/artifacts", "u:wrong", 401),
        ("team/repositories/a%252Fb/artifacts", "limited:p", 403),
    ],
)
def test_harbor(target: str, login: str, status: int) -> None:
    logins = {"u": "p", "limited": "p"}
    with Harbor(NOWHERE, logins=logins, is_private=True, without_api={"limited"}) as double:
        remote = Remote(double.host, basic=login)
        assert remote.request("GET", f"/api/v2.0/projects/{target}").status == status
        assert (
            remote.request("GET", "/acr/v1/team/_manifests").headers["content-type"].startswith("text/html")
        )


@pytest.mark.parametrize(
    ("login", "status"),
    [({"bearer": "oauth"}, 200), ({"basic": "robot:p"}, 401), ({"bearer": "other"}, 401), ({}, 401)],
)
def test_quay(login: dict[str, Any], status: int) -> None:
    with Quay(NOWHERE, logins={"robot": "p"}, oauth_token="oauth", is_private=True) as double:
        remote = Remote(double.host, **login)
        reply = remote.request("GET", "/api/v1/repository/team/x/tag/?onlyActiveTags=true&limit=2")
        assert reply.status == status
        if status == 200:
            assert (len(reply.json()["tags"]), reply.json()["has_additional"]) == (2, True)
            history = remote.request("GET", "/api/v1/repository/team/x/tag/").json()["tags"]
            assert [tag["name"] for tag in history] == ["v0", "v1", "v2", "gone"]


def describe_images(double: Ecr, query: dict[str, Any], **changes: str) -> Reply:
    """DescribeImages, signed by botocore and then changed."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    body = json.dumps({"repositoryName": "x", **query}).encode()
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "AmazonEC2ContainerRegistry_V20150921.DescribeImages",
    }
    request = AWSRequest("POST", f"http://{double.host}/", headers, body)
    secret, region = changes.pop("secret", SECRET), changes.pop("region", REGION)
    SigV4Auth(Credentials(changes.pop("key", KEY), secret), "ecr", region).add_auth(request)
    body = changes.pop("body", body.decode()).encode()
    sent = {name: value for name, value in {**dict(request.headers.items()), **changes}.items() if value}
    return Remote(double.host).request("POST", "/", body, sent)


@pytest.mark.parametrize(
    ("query", "changes", "refused"),
    [
        ({}, {}, ""),
        ({"maxResults": 1000, "registryId": ACCOUNT}, {}, ""),
        ({"maxResults": 1001}, {}, "InvalidParameterException"),
        ({"nextToken": "made up"}, {}, "InvalidParameterException"),
        ({"registryId": "999999999999"}, {}, "RepositoryNotFoundException"),
        ({}, {"secret": "another"}, "InvalidSignatureException"),
        ({}, {"region": "us-east-1"}, "InvalidSignatureException"),
        ({}, {"key": "AKIDOTHER"}, "UnrecognizedClientException"),
        ({}, {"body": '{"repositoryName": "y"}'}, "InvalidSignatureException"),
        (
            {},
            {"X-Amz-Target": "AmazonEC2ContainerRegistry_V20150921.BatchDeleteImage"},
            "InvalidSignatureException",
        ),
        ({}, {"X-Amz-Security-Token": "of nobody"}, "UnrecognizedClientException"),
        ({}, {"Authorization": ""}, "MissingAuthenticationTokenException"),
        ({}, {"Authorization": "Bearer x"}, "IncompleteSignatureException"),
    ],
)
def test_ecr(query: dict[str, Any], changes: dict[str, str], refused: str) -> None:
    with Ecr(NOWHERE) as double:
        reply = describe_images(double, query, **changes)
        assert (reply.status, reply.json().get("__type", "")) == (400 if refused else 200, refused)
        assert refused or len(reply.json()["imageDetails"]) == 3
