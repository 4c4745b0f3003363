"""Which registries take the login of a cloud, and how that login is kept and renewed."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from itertools import count
from pathlib import Path

import pytest
from aiohttp import web

from crossdock.errors import CredentialsError, RetriesExhausted, Unauthorized
from crossdock.options import Credentials, RegistryOptions
from crossdock.registry.auth.cloudlogin import MARGIN_S, PAUSE_S, CloudLogin, in_thread
from crossdock.registry.auth.clouds import Answer, Cloud, cloud_of
from crossdock.registry.client import RegistryClient, Scope
from crossdock.registry.context import Context
from unit.registry.http.scripted import MovedClock, ScriptedServer, demand, refuse
from unit.registry.scripted_registry import PatientNetwork

ACCOUNT = "123456789012"
ECR = f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com"
HOUR = 3600.0


@pytest.mark.parametrize(
    ("host", "kind", "cloud"),
    [
        (ECR, "", Cloud("ecr", "eu-west-1")),
        (f"{ECR.upper()}.:443", "", Cloud("ecr", "eu-west-1")),
        (f"{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn", "", Cloud("ecr", "cn-north-1")),
        (f"{ACCOUNT}.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "", Cloud("ecr", "us-gov-west-1", fips=True)),
        (f"{ACCOUNT}.dkr-ecr.us-east-2.on.aws", "", Cloud("ecr", "us-east-2", dual_stack=True)),
        (f"{ACCOUNT}.dkr-ecr-fips.us-east-2.on.aws", "", Cloud("ecr", "us-east-2", True, True)),
        (f"{ACCOUNT}.dkr.ecr.us-iso-east-1.c2s.ic.gov", "", Cloud("ecr", "us-iso-east-1")),
        ("public.ecr.aws", "", Cloud("ecr-public", "us-east-1")),
        ("gcr.io", "", Cloud("google")),
        ("eu.gcr.io", "", Cloud("google")),
        ("europe-west1-docker.pkg.dev", "", Cloud("google")),
        # the kind that the inventory gives
        ("mirror.example:5000", "ecr", Cloud("ecr", "from-environ")),
        (ECR, "ecr", Cloud("ecr", "eu-west-1")),
        ("mirror.example", "ecr-public", Cloud("ecr-public", "us-east-1")),
        ("mirror.example", "gar", Cloud("google")),
        ("mirror.example", "gcr", Cloud("google")),
        (ECR, "distribution", None),
        # others, and names that only look like it: buckets and load balancers are anybody's
        ("docker.io", "", None),
        ("127.0.0.1:5000", "", None),
        (f"{ACCOUNT}.dkr.ecr.s3.amazonaws.com", "", None),
        (f"{ACCOUNT}.dkr.ecr.eu-west-1.elb.amazonaws.com", "", None),
        (f"{ECR}.evil.example", "", None),
        (f"x{ECR}", "", None),
        ("public.ecr.aws.evil.example", "", None),
        ("evilgcr.io", "", None),
        ("gcr.io.evil.example", "", None),
        ("npm.pkg.dev", "", None),
    ],
)
def test_hosts_and_kinds_that_take_the_login_of_a_cloud(host: str, kind: str, cloud: Cloud | None) -> None:
    assert cloud_of(host, kind, "from-environ") == cloud


class Identity:
    """Gives logins for an hour, and counts them; fails while it has an error."""

    def __init__(self, clock: MovedClock) -> None:
        self.clock = clock
        self.asked = 0
        self.error: CredentialsError | None = None

    def __call__(self) -> Answer:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return Answer(Credentials("AWS", f"secret-{self.asked}"), self.clock.wall() + HOUR)


def login_of(identity: Identity) -> CloudLogin:
    return CloudLogin(Cloud("ecr", "eu-west-1"), identity.clock, identity)


async def test_a_login_is_asked_for_once_and_renewed_before_it_ends(clock: MovedClock) -> None:
    identity = Identity(clock)
    login = login_of(identity)
    assert identity.asked == 0
    first = await asyncio.gather(*(login.get() for _ in range(20)))
    clock.now += HOUR - MARGIN_S - 1
    assert [await login.get()] * 20 == first
    assert identity.asked == 1
    clock.now += 1
    assert set(await asyncio.gather(*(login.get() for _ in range(20)))) == {Credentials("AWS", "secret-2")}
    assert identity.asked == 2


async def test_a_login_that_is_refused_is_renewed_by_the_first_of_many(clock: MovedClock) -> None:
    identity = Identity(clock)
    login = login_of(identity)
    old = await login.get()
    assert {await login.get(old), *await asyncio.gather(*(login.get(old) for _ in range(20)))} == {
        Credentials("AWS", "secret-2")
    }
    assert identity.asked == 2
    newer = await login.get()
    assert await login.get(newer) is newer  # whoever is refused again at once has no right there
    clock.now += PAUSE_S
    assert await login.get(newer) != newer
    assert identity.asked == 3


async def test_a_login_that_cannot_be_renewed_stays_in_use(clock: MovedClock) -> None:
    identity = Identity(clock)
    login = login_of(identity)
    old = await login.get()
    identity.error = CredentialsError("no")
    clock.now += HOUR
    assert [await login.get(), await login.get()] == [old, old]
    assert identity.asked == 2
    identity.error = None
    clock.now += PAUSE_S
    assert await login.get() == Credentials("AWS", "secret-3")


async def test_without_an_identity_there_is_one_question(clock: MovedClock) -> None:
    identity = Identity(clock)
    identity.error = CredentialsError("none here")
    login = login_of(identity)
    for _ in range(3):
        with pytest.raises(CredentialsError, match="none here"):
            await login.get()
    assert identity.asked == 1


async def test_a_library_that_hangs_holds_nothing_up() -> None:
    released = threading.Event()
    try:
        with pytest.raises(TimeoutError):
            await in_thread(released.wait, 0.05)
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0, 60)
        task = asyncio.ensure_future(in_thread(released.wait, 60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        released.set()


# -- at a registry -----------------------------------------------------------------------------------------


@pytest.fixture
def identity(clock: MovedClock) -> Identity:
    return Identity(clock)


class Registries:
    """Clients of hosts that are all served by one scripted server, in one session."""

    def __init__(
        self, server: ScriptedServer, identity: Identity, environ: dict[str, str] | None = None
    ) -> None:
        self.context = Context(
            network=PatientNetwork(retries=1),
            environ=environ or {},
            clock=identity.clock,
            served_at=lambda name, port: ("127.0.0.1", server.port),
        )
        cloud = Cloud("ecr", "eu-west-1")
        self.context.clouds[cloud] = CloudLogin(cloud, identity.clock, identity)

    def client(self, host: str = ECR, **options: object) -> RegistryClient:
        return RegistryClient(host, "source", RegistryOptions(plain_http=True, **options), self.context)  # type: ignore[arg-type]


PULL = Scope.pull("x")


def password_of(request: web.Request) -> str:
    from base64 import b64decode

    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    return b64decode(text).decode().partition(":")[2] if scheme == "Basic" else ""


async def test_two_registries_share_a_login_and_its_renewal(
    registry: ScriptedServer, identity: Identity
) -> None:
    numbers = count(1)

    def handler(request: web.Request) -> web.Response:
        password = password_of(request)
        if not password:
            return demand('Basic realm="https://ecr",service="ecr.amazonaws.com"')
        if password == "secret-1" and next(numbers) > 4:
            return refuse(
                403, "DENIED", "Your authorization token has expired. Reauthenticate and try again."
            )
        return web.Response(text=password)

    registry.handler = handler
    registries = Registries(registry, identity)
    clients = [registries.client(), registries.client(ECR.replace(ACCOUNT, "999999999999"))]
    replies = [
        await asyncio.gather(
            *(client.request("GET", "/v2/x", scope=PULL) for client in clients for _ in "123")
        )
        for _ in "12"
    ]
    assert {reply.body for reply in replies[1]} == {b"secret-2"}
    assert identity.asked == 2
    identity.clock.now += HOUR - MARGIN_S
    assert [(await client.request("GET", "/v2/x", scope=PULL)).body for client in clients] == [
        b"secret-3"
    ] * 2
    for client in clients:
        assert {"secret-1", "secret-2", "secret-3"} <= set(client.auth.secrets())
        await client.close()


@pytest.mark.parametrize(
    "place", ["given", "helper", "file", "variables", "own only", "another kind", "another host"]
)
async def test_any_other_login_goes_first(
    registry: ScriptedServer, identity: Identity, tmp_path: Path, place: str
) -> None:
    registry.handler = lambda request: (
        web.Response(text=password_of(request)) if password_of(request) else demand('Basic realm="r"')
    )
    environ, options, host = {}, {}, ECR
    if place == "given":
        options["credentials"] = Credentials("AWS", "other")
    elif place == "helper":
        program = tmp_path / "docker-credential-fake"
        program.write_text('#!/bin/sh\necho \'{"Username":"AWS","Secret":"other"}\'\n')
        program.chmod(0o755)
        environ["PATH"], options["helper"] = f"{tmp_path}:/bin:/usr/bin", "fake"
    elif place == "file":
        (tmp_path / "config.json").write_text(json.dumps({"auths": {ECR: {"auth": "QVdTOm90aGVy"}}}))
        environ["DOCKER_CONFIG"] = str(tmp_path)
    elif place == "variables":
        environ |= {"CROSSDOCK_SOURCE_USERNAME": "AWS", "CROSSDOCK_SOURCE_PASSWORD": "other"}
    elif place == "own only":
        options["own_only"] = True
    elif place == "another kind":
        options["kind"] = "distribution"
    else:
        host = "registry.example"
    client = Registries(registry, identity, environ).client(host, **options)
    try:
        answer = await client.request("GET", "/v2/x", scope=PULL)
    except Unauthorized:
        assert place in ("own only", "another kind", "another host")
    else:
        assert answer.body == b"other"
    finally:
        await client.close()
    assert identity.asked == 0


async def test_without_its_library_requests_are_anonymous_and_a_refusal_says_what_to_install(
    registry: ScriptedServer, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    monkeypatch.setitem(sys.modules, "requests", None)
    registry.handler = lambda request: (
        demand('Basic realm="r"') if "private" in request.path else web.Response(text="in")
    )
    registries = Registries(registry, identity)
    registries.context.clouds.clear()
    for host, extra in ((ECR, "aws"), ("gcr.io", "google")):
        client = registries.client(host)
        assert (await client.request("GET", "/v2/x", scope=PULL)).body == b"in"
        with pytest.raises(Unauthorized) as caught:
            await client.request("GET", "/v2/private", scope=PULL)
        assert caught.value.advice is not None
        assert caught.value.advice.kind == "install"
        assert caught.value.advice.text == f"pip install 'crossdock[{extra}]'"
        assert "is not installed" in caught.value.advice.why
        await client.close()


async def test_a_cloud_without_rights_does_not_close_what_is_open_to_all(
    registry: ScriptedServer, identity: Identity
) -> None:
    """Public images of ECR Public and Artifact Registry, on a machine whose identity is refused there."""

    def handler(request: web.Request) -> web.Response:
        if request.path == "/token":
            if request.headers.get("Authorization") and "bad" in request.query["scope"]:
                return refuse(403, "DENIED", "no permission")
            return web.json_response({"token": "good" if request.headers.get("Authorization") else "open"})
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token or (token == "open" and "private" in request.path):
            return demand(f'Bearer realm="{registry.url}/token",service="s"')
        return web.Response(text=token)

    registry.handler = handler
    client = Registries(registry, identity).client()
    bodies = [
        (await client.request("GET", f"/v2/{name}", scope=Scope.pull(name))).body
        for name in ("bad", "fine", "bad", "fine2")
    ]
    assert bodies == [b"open", b"good", b"open", b"good"]
    with pytest.raises((Unauthorized, RetriesExhausted)) as caught:
        await client.request("GET", "/v2/bad-private", scope=Scope.pull("bad-private"))
    assert caught.value.advice is not None
    assert "the login of AWS is refused" in caught.value.advice.why
    assert identity.asked == 1
    await client.close()
