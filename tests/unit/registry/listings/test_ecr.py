"""The API of AWS: signed requests, its own refusals, and where it is not used."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from crossdock.content import ManifestRow
from crossdock.oci.digest import Digest
from crossdock.options import Credentials, RegistryOptions
from crossdock.registry.auth.clouds import ecr_host
from crossdock.registry.client import RegistryClient
from crossdock.registry.context import Context
from crossdock.registry.listings import ecr
from crossdock.registry.repository import RegistryRepository
from crossdock_testing.listings.ecr import ACCOUNT, KEY, REGION, REGISTRY, SECRET, EcrDouble
from crossdock_testing.listings.front import Described
from unit.registry.conftest import HastyClock
from unit.registry.scripted_registry import PatientNetwork

ROWS = [
    Described(Digest.of(b"%d" % at), "application/json", at + 1, (f"v{at}",) if at % 2 else (), 1.5e9 + at)
    for at in range(5)
]
EXPECTED = [ManifestRow(Digest(row.digest), row.tags, row.media_type, row.size, row.pushed) for row in ROWS]


class Ecr(EcrDouble):
    """With rows of its own, and no registry behind it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__("127.0.0.1:1", **settings)

    async def described(self, repository: str) -> list[Described] | None:
        return ROWS if repository == "team/app" else None

    async def v2(self, request: web.Request, path: str) -> web.StreamResponse | None:
        return await super().v2(request, path) or web.Response(status=404)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The variables of AWS, and nothing else of this machine."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return monkeypatch


async def listed(
    double: Ecr, *names: str, options: RegistryOptions | None = None, calls: int = 1
) -> list[list[ManifestRow] | None]:
    """What the lists of these repositories say."""
    port = double.port

    def served_at(name: str, _: int) -> tuple[str, int] | None:
        return ("127.0.0.1", port) if name == REGISTRY else None

    context = Context(network=PatientNetwork(retries=1), environ={}, clock=HastyClock(), served_at=served_at)
    async with AsyncExitStack() as stack:
        client = RegistryClient(REGISTRY, "source", options or RegistryOptions(plain_http=True), context)
        stack.push_async_callback(client.close)
        repositories = [RegistryRepository(client, f"{REGISTRY}/{name}") for name in names]
        return [await each.list_manifests() for each in repositories for _ in range(calls)]


def test_rows_come_page_by_page_and_throttling_is_waited_for(aws: pytest.MonkeyPatch) -> None:
    with Ecr(page=2, throttles=2) as double:
        aws.setenv("AWS_ENDPOINT_URL_ECR", f"http://{double.host}")
        assert asyncio.run(listed(double, "team/app")) == [EXPECTED]
        assert double.refusals == ["ThrottlingException"] * 2
        assert len(double.asked) == 5


def test_a_repository_that_is_missing_does_not_end_the_questions(aws: pytest.MonkeyPatch) -> None:
    with Ecr() as double:
        aws.setenv("AWS_ENDPOINT_URL_ECR", f"http://{double.host}")
        assert asyncio.run(listed(double, *["gone"] * 9, "team/app")) == [None] * 9 + [EXPECTED]


def test_a_wrong_secret_is_given_up(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with Ecr() as double:
        aws.setenv("AWS_ENDPOINT_URL_ECR", f"http://{double.host}")
        assert asyncio.run(listed(double, "team/app", calls=9)) == [None] * 9
        assert double.refusals == ["InvalidSignatureException"] * 5


@pytest.mark.parametrize("reason", ["no credentials", "no package", "only what was given"])
def test_without_means_there_is_no_question(aws: pytest.MonkeyPatch, reason: str) -> None:
    options = RegistryOptions(plain_http=True)
    if reason == "no credentials":
        aws.delenv("AWS_ACCESS_KEY_ID")
    elif reason == "no package":
        aws.setitem(__import__("sys").modules, "botocore.session", None)
    else:
        options = RegistryOptions(plain_http=True, own_only=True, credentials=Credentials("AWS", "x"))
    with Ecr() as double:
        aws.setenv("AWS_ENDPOINT_URL_ECR", f"http://{double.host}")
        assert asyncio.run(listed(double, "team/app", calls=3, options=options)) == [None] * 3
        assert double.asked == []


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        (REGISTRY, f"https://api.ecr.{REGION}.amazonaws.com/"),
        (f"{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn", "https://api.ecr.cn-north-1.amazonaws.com.cn/"),
        (f"{ACCOUNT}.dkr.ecr-fips.us-east-1.amazonaws.com", "https://ecr-fips.us-east-1.amazonaws.com/"),
        (f"{ACCOUNT}.dkr-ecr.us-east-1.on.aws", "https://ecr.us-east-1.api.aws/"),
        (
            f"{ACCOUNT}.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn",
            "https://ecr.cn-north-1.api.amazonwebservices.com.cn/",
        ),
    ],
)
def test_the_endpoint_is_that_of_the_registrys_region(
    aws: pytest.MonkeyPatch, host: str, endpoint: str
) -> None:
    signer = ecr.Signer.prepared(ecr_host(host))
    assert signer.url.text == endpoint


def test_a_registry_by_another_name_is_in_the_region_of_the_settings(aws: pytest.MonkeyPatch) -> None:
    assert ecr.Signer.prepared(None, region=REGION).url.text == f"https://api.ecr.{REGION}.amazonaws.com/"
    aws.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    assert ecr.Signer.prepared(None, region=REGION).url.text == "https://api.ecr.eu-north-1.amazonaws.com/"
