"""Rules for all responses, and rights: over HTTP, with imports that are only recorded."""

from __future__ import annotations

import base64
import json
import logging
import re
import uuid
from typing import Any
from urllib.parse import urlencode

import pytest

from crossdock.acr.plan import ImportPlan, make_plan
from crossdock.inventory.values import Entry, Inventory
from crossdock.rate import RateLimit
from crossdock.service.values import Detail, Principal, Problem, State
from crossdock.service.web import imports, pageaccess
from crossdock.service.web.arm import VERSIONS
from crossdock.service.web.imports import MAX_BODY
from crossdock.service.web.pageaccess import button_token
from crossdock.service.web.service import PageLink
from unit.service.web.doubles import (
    BASE,
    BODY,
    IMPORT,
    OTHER,
    PROVIDER,
    REGISTRY,
    SOURCE_ID,
    SUBSCRIPTION,
    WrittenDown,
    bearer,
    client_of,
    make_service,
)

CLIENTS_ID = "6b6d8a7e-0000-4000-8000-000000000001"


async def accepted(client: Any, headers: Any = None, body: Any = BODY) -> str:
    """Post an import; the path of its result."""
    answer = await client.post(IMPORT, json=body, headers=headers, params={"api-version": "2023-07-01"})
    assert answer.status == 202, await answer.text()
    location = answer.headers["Location"]
    assert location.startswith(str(client.make_url("/")))
    return location.removeprefix(str(client.make_url("")).rstrip("/"))


# -- accepting and polling -------------------------------------------------------------------------------


async def test_an_accepted_import_says_where_its_result_will_be() -> None:
    async with client_of(make_service()) as client:
        answer = await client.post(f"{IMPORT}?api-version=2019-05-01", json=BODY)
        assert (answer.status, await answer.read()) == (202, b"")
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Location"].startswith("http://127.0.0.1:")
        assert "/operationResults/registries-" in answer.headers["Location"]
        assert answer.headers["Location"].endswith("?api-version=2019-05-01")
        assert answer.headers["x-ms-operation-identifier"].startswith("tenantId=")
        assert answer.headers["api-supported-versions"] == VERSIONS
        assert "Azure-AsyncOperation" not in answer.headers


@pytest.mark.parametrize("state", ["Accepted", "Running"])
async def test_a_poll_of_an_open_import_is_202_with_a_place_and_a_pause(state: State) -> None:
    service = make_service()
    async with client_of(service) as client:
        path = await accepted(client)
        (operation,) = service.imports.all()
        operation.state = state
        operation.progress.manifests = {"library/x@sha256:0": "Pending"}
        answer = await client.get(path)
        assert answer.status == 202
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Location"].endswith(path)
        document = await answer.json()
        assert document["library/x@sha256:0"] == "Pending"
        assert document["status"] == "Accepted"
        assert document["crossdock"]["state"] == state


async def test_a_poll_of_a_done_import_is_200_without_a_place() -> None:
    service = make_service()
    async with client_of(service) as client:
        path = await accepted(client)
        service.imports.all()[0].state = "Succeeded"
        answer = await client.get(path.upper().replace("API-VERSION", "api-version"))
        assert answer.status == 200
        assert "Location" not in answer.headers
        assert "Retry-After" not in answer.headers
        assert (await answer.json())["status"] == "Succeeded"


async def test_a_poll_of_a_failed_import_is_its_error() -> None:
    service = make_service()
    async with client_of(service) as client:
        path = await accepted(client)
        (operation,) = service.imports.all()
        operation.state = "Failed"
        operation.problem = Problem(
            status=409,
            code="C",
            message="m",
            target="t",
            details=(Detail(code="d", message="w", target="s"),),
        )
        answer = await client.get(path)
        assert answer.status == 409
        assert "Retry-After" not in answer.headers
        assert await answer.json() == {
            "error": {
                "code": "C",
                "message": "m",
                "target": "t",
                "details": [{"code": "d", "message": "w", "target": "s"}],
                "additionalInfo": [],
            }
        }


async def test_forwarded_headers_change_no_url_and_a_public_url_does() -> None:
    forwarded = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=evil"}
    async with client_of(make_service()) as client:
        assert "evil" not in (await client.post(IMPORT, json=BODY, headers=forwarded)).headers["Location"]
    async with client_of(make_service(public_url="https://import.example.com")) as client:
        answer = await client.post(IMPORT, json=BODY, headers=forwarded)
        assert answer.headers["Location"].startswith("https://import.example.com/subscriptions/")
    async with client_of(make_service(scheme="https")) as client:  # TLS ended elsewhere
        answer = await client.post(IMPORT, json=BODY, headers=forwarded | {"Host": "import.example.com"})
        assert answer.headers["Location"].startswith("https://import.example.com/subscriptions/")


async def test_a_request_is_planned_once_and_after_the_callers_rights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[ImportPlan] = []

    def make(*args: Any) -> ImportPlan:
        made.append(make_plan(*args))
        return made[-1]

    monkeypatch.setattr(imports, "make_plan", make)
    service = make_service(identities=True)
    body = {"source": {"resourceId": SOURCE_ID, "sourceImage": "UP:1"}}
    async with client_of(service) as client:
        refused = await client.post(IMPORT, json=body, headers=bearer("importer"))
        assert (refused.status, made) == (403, [])  # not 400 for the image's name
        await accepted(client, bearer("ci"))
    assert len(made) == 1


# -- headers ---------------------------------------------------------------------------------------------


async def test_ids_come_back() -> None:
    asked = {
        "x-ms-client-request-id": CLIENTS_ID,
        "x-ms-return-client-request-id": "true",
        "x-ms-correlation-request-id": CLIENTS_ID,
    }
    async with client_of(make_service()) as client:
        answer = await client.get(REGISTRY, headers=asked)
        assert answer.headers["x-ms-client-request-id"] == CLIENTS_ID
        assert answer.headers["x-ms-correlation-request-id"] == CLIENTS_ID
        assert uuid.UUID(answer.headers["x-ms-request-id"])
        answer = await client.get(REGISTRY, headers={"x-ms-client-request-id": CLIENTS_ID})
        assert "x-ms-client-request-id" not in answer.headers
        answer = await client.get(REGISTRY, headers={"x-ms-correlation-request-id": "<no guid>"})
        assert uuid.UUID(answer.headers["x-ms-correlation-request-id"])


NO_IMAGE = {"source": {"registryUri": "docker.io", "sourceImage": ""}}

# What ends in which error. Each is tried with identities; the caller may do everything.
FAILURES: list[tuple[str, str, str, Any, int, str]] = [
    ("malformed JSON", "POST", IMPORT, b"{", 400, "InvalidRequestContent"),
    ("no body", "POST", IMPORT, b"", 400, "InvalidRequestContent"),
    (
        "bytes that are no text",
        "POST",
        IMPORT,
        b'{"source":{"sourceImage":"\xff"}}',
        400,
        "InvalidRequestContent",
    ),
    ("deep nesting", "POST", IMPORT, b"[" * 100_000, 400, "InvalidRequestContent"),
    ("an unknown field", "POST", IMPORT, {**BODY, "tagets": []}, 400, "InvalidRequestContent"),
    (
        "an unknown field of the source",
        "POST",
        IMPORT,
        {"source": {**BODY["source"], "sourceTag": "x"}},
        400,
        "InvalidRequestContent",
    ),
    ("an unknown mode", "POST", IMPORT, {**BODY, "mode": "force"}, 400, "InvalidRequestContent"),
    ("neither source", "POST", IMPORT, {"source": {"sourceImage": "x"}}, 400, "InvalidRequestContent"),
    (
        "both sources",
        "POST",
        IMPORT,
        {"source": {**BODY["source"], "resourceId": SOURCE_ID}},
        400,
        "InvalidRequestContent",
    ),
    ("an oversized body", "POST", IMPORT, b" " * (MAX_BODY + 1), 413, "RequestEntityTooLarge"),
    (
        "no image",
        "POST",
        IMPORT,
        NO_IMAGE,
        400,
        "InvalidParameters",
    ),
    (
        "too many targets",
        "POST",
        IMPORT,
        {
            **BODY,
            "targetTags": [f"a:{number}" for number in range(60)],
            "untaggedTargetRepositories": [f"b{number}" for number in range(41)],
        },
        400,
        "InvalidParameters",
    ),
    ("a tag that is none", "POST", IMPORT, {**BODY, "targetTags": ["UP:1"]}, 400, "InvalidParameters"),
    (
        "a source that is not allowed",
        "POST",
        IMPORT,
        {"source": {"registryUri": "169.254.169.254", "sourceImage": "x"}},
        403,
        "",
    ),
    (
        "a source by an unknown resource ID",
        "POST",
        IMPORT,
        {"source": {"resourceId": SOURCE_ID + "x", "sourceImage": "x"}},
        400,
        "InvalidParameters",
    ),
    ("an unknown registry", "POST", IMPORT.replace("myreg", "noreg"), BODY, 404, "ResourceNotFound"),
    ("a registry of another group", "GET", REGISTRY.replace("Rg1", "Rg2"), None, 404, "ResourceNotFound"),
    ("an unknown subscription", "GET", REGISTRY.replace("1111", "3333"), None, 404, "SubscriptionNotFound"),
    ("another method", "PUT", IMPORT, BODY, 405, "MethodNotAllowed"),
    ("OPTIONS", "OPTIONS", REGISTRY, None, 405, "MethodNotAllowed"),
    ("an update", "PATCH", REGISTRY, b'{"properties":{"adminUserEnabled":true}}', 405, "MethodNotAllowed"),
    ("GET of an action", "GET", IMPORT, None, 405, "MethodNotAllowed"),
    ("another path", "GET", f"{BASE}/x", None, 404, "InvalidResourceType"),
    (
        "an unknown operation",
        "GET",
        f"{BASE}/{PROVIDER}/locations/l/operationResults/registries-{CLIENTS_ID}",
        None,
        404,
        "OperationNotFound",
    ),
    (
        "no operation",
        "GET",
        f"{BASE}/{PROVIDER}/locations/l/operationResults/{CLIENTS_ID}",
        None,
        404,
        "OperationNotFound",
    ),
    ("an unknown import", "GET", f"/imports/{CLIENTS_ID}", None, 404, "ImportNotFound"),
    ("no import", "DELETE", "/imports/x", None, 404, "ImportNotFound"),
    ("an empty state", "GET", "/imports?state=", None, 400, "InvalidQueryParameter"),
    ("an unknown state", "GET", "/imports?state=Done", None, 400, "InvalidQueryParameter"),
    ("a size that is none", "GET", "/imports?top=x", None, 400, "InvalidQueryParameter"),
    ("a filter that is none", "GET", f"{BASE}/resources?$filter=x", None, 400, "InvalidFilterInQueryString"),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [row[1:] for row in FAILURES],
    ids=[row[0] for row in FAILURES],
)
async def test_bad_input_is_one_arm_error_logged_once_and_nothing_starts(
    method: str, path: str, body: Any, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(identities=True)
    caplog.set_level(logging.INFO)
    async with client_of(service) as client:
        data = body if isinstance(body, bytes | None) else json.dumps(body)
        answer = await client.request(method, path, data=data, headers=bearer("ci"))
        document = await answer.json()
    assert answer.status == status
    assert document["error"]["code"] == code or not code
    assert document["error"]["message"]
    assert answer.content_type == "application/json"
    assert "Retry-After" not in answer.headers
    assert answer.headers["x-ms-request-id"]
    assert ("Allow" in answer.headers) == (status == 405)
    assert service.imports.all() == []
    logged = [each for each in caplog.records if each.name == "crossdock.service.web.app"]
    assert len(logged) == 1
    assert logged[0].fields["code"] == document["error"]["code"]  # type: ignore[attr-defined]


async def test_an_unknown_field_is_named() -> None:
    async with client_of(make_service()) as client:
        answer = await client.post(IMPORT, json={**BODY, "tagets": []})
        assert "tagets" in (await answer.json())["error"]["message"]


# -- who may do what -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic Y2k6Y2ktdG9rZW4="}]
)
@pytest.mark.parametrize("path", [REGISTRY, "/imports", "/metrics", "/nothing", "/subscriptions"])
async def test_without_a_good_token_there_is_401_with_a_challenge(path: str, headers: dict[str, str]) -> None:
    async with client_of(make_service(identities=True)) as client:
        answer = await client.get(path, headers=headers)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        assert "Retry-After" not in answer.headers
        assert (await answer.json())["error"]["code"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/schemas/import.json", "/page.js"])
async def test_some_paths_ask_for_no_token(path: str) -> None:
    async with client_of(make_service(identities=True)) as client:
        assert (await client.get(path)).status == 200


@pytest.mark.parametrize(
    ("who", "method", "path", "status", "code"),
    [
        ("reader", "GET", REGISTRY, 200, ""),
        ("reader", "POST", IMPORT, 403, "AuthorizationFailed"),
        ("nobody", "GET", REGISTRY, 403, "AuthorizationFailed"),
        ("nobody", "GET", "/metrics", 403, "AuthorizationFailed"),
        ("reader", "GET", "/metrics", 200, ""),
        ("importer", "POST", IMPORT, 202, ""),
    ],
)
async def test_rights_are_asked(who: str, method: str, path: str, status: int, code: str) -> None:
    async with client_of(make_service(identities=True)) as client:
        answer = await client.request(method, path, json=BODY, headers=bearer(who))
        assert answer.status == status
        if code:
            assert (await answer.json())["error"]["code"] == code


@pytest.mark.parametrize(
    "source",
    [
        {"resourceId": SOURCE_ID, "sourceImage": "x"},
        {"registryUri": "source.example.com", "sourceImage": "x"},
    ],
)
async def test_the_services_own_credentials_at_a_source_need_rights_there(source: dict[str, Any]) -> None:
    async with client_of(make_service(identities=True)) as client:
        answer = await client.post(IMPORT, json={"source": source}, headers=bearer("importer"))
        assert answer.status == 403
        error = (await answer.json())["error"]
        assert error["code"] == "LinkedAuthorizationFailed"
        assert "linked scope(s)" in error["message"]
        assert (await client.post(IMPORT, json={"source": source}, headers=bearer("ci"))).status == 202


async def test_an_address_that_no_reference_could_spell_is_refused_by_its_rule_all_the_same() -> None:
    source = {"registryUri": "[::ffff:169.254.169.254]:80", "sourceImage": "x"}
    async with client_of(make_service()) as client:
        answer = await client.post(IMPORT, json={"source": source})
        assert answer.status == 403
        assert "(metadata-address)" in (await answer.json())["error"]["message"]


async def test_the_callers_own_credentials_need_no_right_at_the_source() -> None:
    source = {"registryUri": "source.example.com", "sourceImage": "x", "credentials": {"password": "p"}}
    async with client_of(make_service(identities=True)) as client:
        assert (await client.post(IMPORT, json={"source": source}, headers=bearer("importer"))).status == 202


async def test_an_operation_is_for_its_principal_and_readers_of_the_target() -> None:
    service = make_service(identities=True)
    async with client_of(service) as client:
        path = await accepted(client, bearer("importer"))
        own = f"/imports/{service.imports.all()[0].id}"
        for who, status in (("importer", 202), ("reader", 202), ("nobody", 403)):
            assert (await client.get(path, headers=bearer(who))).status == status
            assert (await client.get(own, headers=bearer(who))).status == (200 if status == 202 else status)
        listed = [
            len((await (await client.get("/imports", headers=bearer(who))).json())["value"])
            for who in ("importer", "reader", "nobody")
        ]
        assert listed == [1, 1, 0]


async def test_an_operation_is_found_in_its_own_subscription_alone() -> None:
    async with client_of(make_service()) as client:
        path = await accepted(client)
        assert (await client.get(path.replace(SUBSCRIPTION, OTHER))).status == 404


async def test_cancelling_is_for_its_principal_and_those_who_may_import() -> None:
    service = make_service(identities=True)
    async with client_of(service) as client:
        await accepted(client, bearer("ci"))
        own = f"/imports/{service.imports.all()[0].id}"
        assert (await client.delete(own, headers=bearer("reader"))).status == 403
        answer = await client.delete(own, headers=bearer("importer"))
        assert (answer.status, (await answer.json())["state"]) == (200, "Canceled")


async def test_the_page_takes_a_token_as_password_and_nothing_else_does() -> None:
    basic = {"Authorization": "Basic " + base64.b64encode(b"any:ci-token").decode()}
    wrong = {"Authorization": "Basic " + base64.b64encode(b"any:wrong").decode()}
    async with client_of(make_service(identities=True)) as client:
        assert (await client.get("/", headers=basic)).status == 200
        assert (await client.get("/", headers=bearer("ci"))).status == 200
        for headers in ({}, wrong, {"Authorization": "Basic %"}):
            answer = await client.get("/", headers=headers)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert (await client.post(IMPORT, json=BODY, headers=basic)).status == 401


async def test_too_many_requests_are_429_without_retry_after_and_polls_do_not_count() -> None:
    async with client_of(make_service(rate=RateLimit(2))) as client:
        path = await accepted(client)
        assert (await client.get(REGISTRY)).status == 200
        answer = await client.post(IMPORT, json=BODY)
        assert (answer.status, (await answer.json())["error"]["code"]) == (429, "TooManyRequests")
        assert "Retry-After" not in answer.headers
        assert (await client.get(path)).status == 202


# -- lists -----------------------------------------------------------------------------------------------


async def test_registries_are_listed_by_subscription_group_and_filter() -> None:
    kind = "resourceType eq 'Microsoft.ContainerRegistry/registries'"
    async with client_of(make_service()) as client:

        async def names(path: str, **query: str) -> list[str]:
            answer = await client.get(path, params=query)
            assert answer.status == 200
            return [each["name"] for each in (await answer.json())["value"]]

        assert await names(f"{BASE}/{PROVIDER}/registries") == ["myregistry", "second"]
        assert await names(f"{BASE}/resourceGroups/rg1/{PROVIDER}/registries") == ["myregistry"]
        assert await names(f"{BASE}/resources", **{"$filter": kind}) == ["myregistry", "second"]
        assert await names(f"{BASE}/resources", **{"$filter": f"{kind} and name eq 'SECOND'"}) == ["second"]
        assert await names(f"{BASE}/resources", **{"$filter": "resourceType eq 'x'"}) == []
        listed = (await (await client.get("/subscriptions")).json())["value"]
        assert [each["subscriptionId"] for each in listed] == [SUBSCRIPTION, OTHER]
        state = (await (await client.post(f"{BASE}/{PROVIDER}/register")).json())["registrationState"]
        assert state == "Registered"


async def test_a_long_list_has_links_that_lead_to_all_of_it() -> None:
    entries = tuple(
        Entry(
            name=f"reg{each:03}", login_server=f"r{each}.test", subscription=SUBSCRIPTION, resource_group="g"
        )
        for each in range(450)
    )
    async with client_of(make_service(inventory=Inventory(registries=entries))) as client:
        names: list[str] = []
        link = f"{BASE}/{PROVIDER}/registries?api-version=2023-07-01"
        while link:
            document = await (await client.get(link)).json()
            names += [each["name"] for each in document["value"]]
            link = document.get("nextLink", "").removeprefix(str(client.make_url("")).rstrip("/"))
        assert names == [each.name for each in entries]


async def test_imports_are_listed_by_state_and_page() -> None:
    service = make_service()
    async with client_of(service) as client:
        for _ in range(5):
            await accepted(client)
        written = service.imports
        assert isinstance(written, WrittenDown)
        next(iter(written.operations.values())).state = "Failed"
        document = await (await client.get("/imports?state=Failed")).json()
        assert [each["state"] for each in document["value"]] == ["Failed"]
        document = await (await client.get("/imports?top=3")).json()
        assert len(document["value"]) == 3
        rest = await (
            await client.get(document["nextLink"].removeprefix(str(client.make_url("")).rstrip("/")))
        ).json()
        assert len(rest["value"]) == 2
        assert "nextLink" not in rest


# -- the service itself ----------------------------------------------------------------------------------


async def test_a_service_that_stops_takes_no_import_and_still_answers_polls() -> None:
    service = make_service()
    async with client_of(service) as client:
        path = await accepted(client)
        service.is_stopping = True
        answer = await client.post(IMPORT, json=BODY)
        assert (answer.status, (await answer.json())["error"]["code"]) == (503, "ServiceStopping")
        assert "Retry-After" not in answer.headers
        assert (await client.get(path)).status == 202
        assert (await client.get("/readyz")).status == 503
        assert (await client.get("/healthz")).status == 200


async def test_metrics_have_few_labels_whatever_is_asked() -> None:
    service = make_service()
    async with client_of(service) as client:
        for path in ("/a", "/b", REGISTRY, REGISTRY.upper()):
            await client.request("TRACE", path)
        path = await accepted(client)
        (made,) = service.imports.all()
        made.state, made.progress.bytes, made.progress.in_flight = "Running", 7, 5
        made.progress.retries = {"source": 3}
        text = await (await client.get("/metrics")).text()
        assert 'crossdock_import_bytes_in_flight{registry="my.example.com"} 5.0' in text
        assert 'crossdock_imports_in_flight{registry="docker.io"} 1.0' in text
        assert 'crossdock_imports_in_flight{registry="my.example.com"} 1.0' in text
        made.progress.in_flight = 0
        service.imports.all()[0].state, service.imports.all()[0].ended = "Succeeded", 1 << 40
        service.imports.all()[0].progress.bytes = 9
        answer = await client.get("/metrics")
        text = await answer.text()
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert 'crossdock_requests_total{method="other",route="none",status="404"} 2.0' in text
        assert 'crossdock_imports{state="Succeeded"} 1.0' in text
        assert 'crossdock_import_bytes_total{registry="my.example.com"} 9.0' in text
        assert 'crossdock_import_retries_total{registry="docker.io"} 3.0' in text
        assert 'crossdock_import_bytes_in_flight{registry="my.example.com"} 0.0' in text
        assert 'crossdock_imports_in_flight{registry="docker.io"} 0.0' in text
        assert "crossdock_imports_queue_age_seconds 0.0" in text
        assert 'crossdock_import_seconds_count{state="Succeeded"} 1.0' in text
        assert path not in text


async def test_metrics_name_only_registries_that_the_caller_may_read() -> None:
    service = make_service(identities=True)
    async with client_of(service) as client:
        await accepted(client, bearer("ci"), {"source": {"resourceId": SOURCE_ID, "sourceImage": "a:1"}})
        for who, seen in (("ci", True), ("importer", False)):
            text = await (await client.get("/metrics", headers=bearer(who))).text()
            assert 'crossdock_imports_in_flight{registry="my.example.com"} 0.0' in text
            assert ("source.example.com" in text) == seen


async def test_pages_of_other_sites_start_nothing() -> None:
    async with client_of(make_service(hosts=frozenset({"127.0.0.1"}))) as client:
        for origin in ("https://evil.example", "null"):
            answer = await client.post(IMPORT, json=BODY, headers={"Origin": origin})
            assert (answer.status, (await answer.json())["error"]["code"]) == (403, "CrossOriginRequest")
        answer = await client.get("/imports", headers={"Host": "evil.example:80"})
        assert answer.status == 421
        assert (await client.get("/imports", headers={"Host": "localhost:1"})).status == 200
    async with client_of(make_service(public_url="https://a.example/imports")) as client:  # of a proxy
        for origin, status in (("https://a.example", 202), ("https://b.example", 403)):
            assert (await client.post(IMPORT, json=BODY, headers={"Origin": origin})).status == status


async def test_a_bug_is_500_and_the_log_has_no_words_of_the_request(caplog: pytest.LogCaptureFixture) -> None:
    service = make_service()

    async def broken(order: Any) -> Any:
        raise RuntimeError("hunter2")

    service.imports.submit = broken  # type: ignore[method-assign]
    async with client_of(service) as client:
        answer = await client.post(IMPORT, json=BODY)
        assert answer.status == 500
        assert "hunter2" not in await answer.text()


async def test_head_is_get_without_its_body() -> None:
    async with client_of(make_service()) as client:
        answer = await client.head(REGISTRY)
        assert (answer.status, await answer.read()) == (200, b"")


# -- the status page ---------------------------------------------------------------------------------------

BASIC = {
    name: {"Authorization": "Basic " + base64.b64encode(f"x:{name}-token".encode()).decode()}
    for name in ("ci", "reader")
}
TOKEN = re.compile(r'name="token" value="([0-9a-f]{64})"')


async def test_the_button_cancels_and_only_from_the_page() -> None:
    service = make_service(identities=True)
    async with client_of(service) as client:
        for _ in range(2):
            await accepted(client, bearer("ci"))
        made, other = service.imports.all()
        path = f"/imports/{made.id}/cancel"
        page = await (await client.get("/", headers=BASIC["ci"], params={"import": made.id})).text()
        (token,) = TOKEN.findall(page)
        stolen = await (await client.get("/", headers=BASIC["ci"], params={"import": other.id})).text()
        for wrong in ("", "0", "\udcff", *TOKEN.findall(stolen)):
            answer = await client.post(
                path, data=urlencode({"token": wrong}, errors="surrogateescape"), headers=BASIC["ci"]
            )
            assert (answer.status, made.state) == (403, "Accepted")
        many = urlencode({f"f{n}": "x" for n in range(99)} | {"token": token})
        for broken in (b"token=\xff", many.encode()):
            assert (await client.post(path, data=broken, headers=BASIC["ci"])).status == 403
        for odd in ("q=%ff%00", "q=%ed%a0%80", "state=%ff", "import=%ff", "key=%ff"):
            assert (await client.get(f"/?{odd}", headers=BASIC["ci"])).status in (200, 404)
        origin = BASIC["ci"] | {"Origin": "https://evil.example"}
        assert (await client.post(path, data={"token": token}, headers=origin)).status == 403
        assert (await client.post(path, data={"token": token})).status == 401
        assert TOKEN.findall(await (await client.get("/", headers=BASIC["reader"])).text()) == []
        assert (await client.post(path, data={"token": token}, headers=BASIC["reader"])).status == 403
        own = button_token(service, Principal(id="reader", name="reader"), made)
        answer = await client.post(path, data={"token": own}, headers=BASIC["reader"])
        assert (answer.status, (await answer.json())["error"]["code"]) == (403, "AuthorizationFailed")
        assert made.state == "Accepted"
        answer = await client.post(path, data={"token": token}, headers=BASIC["ci"], allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, f"../../?import={made.id}")
        assert (made.state, other.state) == ("Canceled", "Accepted")


async def test_the_link_opens_the_page_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    service = make_service(identities=True)
    service.link = PageLink.of(Principal(id="ci", name="the cloud"))
    query = {"key": service.link.key}
    async with client_of(service) as client:
        for wrong in ({}, {"key": ""}, {"key": "0"}):
            assert (await client.get("/", params=wrong)).status == 401
        answer = await client.get("/", params=query, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "./")
        cookie, _, attributes = answer.headers["Set-Cookie"].partition("; ")
        assert attributes == "Path=/; Secure; HttpOnly; SameSite=Strict"
        sent = {"Cookie": cookie}
        answer = await client.get("/", headers=sent)
        assert (answer.status, "signed in as the cloud" in await answer.text()) == (200, True)
        assert (await client.get("/imports", headers=sent)).status == 401  # for the page only
        assert (await client.post(IMPORT, json=BODY, headers=sent)).status == 401
        monkeypatch.setattr(pageaccess, "is_loopback", lambda host: False)
        assert (await client.get("/", params=query)).status == 401
        assert (await client.get("/", headers=sent)).status == 401
    async with client_of(make_service(identities=True)) as client:  # without the development cloud
        assert (await client.get("/", params=query)).status == 401


async def test_a_browser_that_is_not_let_in_gets_a_page() -> None:
    async with client_of(make_service(identities=True)) as client:
        answer = await client.get("/", headers={"Accept": "text/html,*/*"})
        assert (answer.status, answer.content_type) == (401, "text/html")
        assert "give a token as the password" in await answer.text()
        assert (await client.get("/")).content_type == "application/json"


async def test_an_import_of_others_is_not_shown_by_its_link() -> None:
    service = make_service(identities=True)
    async with client_of(service) as client:
        await accepted(client, bearer("ci"))
        (made,) = service.imports.all()
        nobody = {"Authorization": "Basic " + base64.b64encode(b"x:nobody-token").decode()}
        for headers, status in ((BASIC["ci"], 200), (nobody, 404)):
            answer = await client.get("/", headers=headers, params={"import": made.id})
            assert (answer.status, made.id in await answer.text()) == (status, status == 200)
        assert (await client.get("/", headers=BASIC["ci"], params={"import": "x"})).status == 404
