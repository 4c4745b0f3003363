"""The registry's page, health and metrics: what they show, and to whom."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossdock.embedded import page
from crossdock.embedded.counts import Counts, Visit
from crossdock.imagebuilder import OCI_INDEX, ImageBuilder, sample_index
from crossdock.protocol.acrtoken import NULL_USER
from unit.embedded.test_acr_access import USERS, Guarded, basic
from unit.embedded.test_registry_server import Served, running, users_file


async def text(served: Served, path: str, authorization: str = "") -> tuple[int, str]:
    headers = {"Authorization": authorization} if authorization else None
    status, _, body = await served.call("GET", path, headers=headers)
    return status, body.decode()


async def fill(root: Path, *names: str) -> str:
    """Push an index to each repository; its digest."""
    builder = ImageBuilder()
    index = sample_index(builder)
    async with running(root) as served:
        for name in names:
            for child in json.loads(builder.read(index.digest))["manifests"]:
                await served.push(name, builder, child["digest"], child["mediaType"])
            await served.push(name, builder, index.digest, OCI_INDEX, "v1")
    return index.digest


async def test_it_lists_repositories_tags_and_manifests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await fill(tmp_path, "team/app", "team/b", "other")
    async with running(tmp_path) as served:
        status, html = await text(served, "/")
        assert status == 200
        assert all(f'<a href="?repository={each}"' in html for each in ("team%2Fapp", "team%2Fb", "other"))
        assert "<b>3</b> repositories" in html
        assert "<b>1</b> repository" in (await text(served, "/?q=APP"))[1]
        status, html = await text(served, "/?repository=team/app")
        assert status == 200
        assert html.index(digest) < html.index("linux/amd64")  # the one with a tag comes first
        assert "<span>v1</span>" in html
        assert "oci.image.index.v1+json" in html
        assert (await text(served, "/?repository=team/none"))[0] == 404
        assert (await text(served, "/?repository=../x"))[0] == 404
        monkeypatch.setattr(page, "SHOWN", 2)
        _, html = await text(served, "/")
        assert "team%2Fb" not in html
        assert '<a href="?after=team%2Fapp">more</a>' in html
        assert "team%2Fb" in (await text(served, "/?after=team/app"))[1]
        for odd in ("q=%ff%00", "q=%ed%a0%80", "repository=%ff", "after=%ed%a0%80"):
            assert (await text(served, f"/?{odd}"))[0] in (200, 404)
        evil = "%3Cscript%3E%22"
        assert "<script" not in (await text(served, f"/?q={evil}"))[1]


async def test_headers_forbid_what_is_not_its_own(tmp_path: Path) -> None:
    async with running(tmp_path) as served:
        _, headers, body = await served.call("GET", "/")
        assert "default-src 'none'" in headers["content-security-policy"]
        assert b"//" not in body
        assert (await served.call("GET", "/", headers={"Host": f"evil.example:{served.port}"}))[0] == 421
        status, headers, body = await served.call("GET", "/page.css")
        assert (status, headers["content-type"]) == (200, "text/css; charset=utf-8")
        assert b"url(" not in body
        assert (await served.call("HEAD", "/healthz"))[0] == 200
        assert (await served.call("POST", "/"))[0] == 405


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return users_file(tmp_path, USERS)


async def test_a_stranger_sees_nothing(tmp_path: Path, users: Path) -> None:
    root = tmp_path / "root"
    digest = await fill(root, "team/app", "team/other", "public/app")
    async with running(root, users=users) as served:
        guarded = Guarded(served)
        anonymous = await guarded.token("", "", "repository:public/app:pull")
        strangers = (
            *("", basic("admin", "wrong"), basic("", ""), "Basic %", "Bearer x", f"Bearer {anonymous}"),
            basic(NULL_USER, anonymous),
        )
        for authorization in strangers:
            for path in ("/", "/?repository=public/app", "/metrics"):
                headers = {"Authorization": authorization}
                status, answered, body = await served.call("GET", path, headers=headers)
                assert (status, path, authorization) == (401, path, authorization)
                assert answered["www-authenticate"].startswith("Basic realm=")
                assert b"app" not in body
        assert (await text(served, "/healthz"))[1] == '{"status":"ok"}'
        for user, seen in (
            ("admin", {"team/app", "team/other", "public/app"}),
            ("ci", {"team/app", "team/other"}),
            ("reader", {"team/app"}),
        ):
            login = basic(user, f"s3cret-{user}")
            _, html = await text(served, "/", login)
            names = ("team/app", "team/other", "public/app")
            assert {each for each in names if f">{each}<" in html} == seen
            for each in names:
                status, html = await text(served, f"/?repository={each}", login)
                assert (status == 200, digest in html) == (each in seen, each in seen)
            assert (await text(served, "/metrics", login))[0] == (200 if user == "admin" else 403)
        token = await guarded.token("admin", "s3cret-admin", "registry:catalog:*")
        assert (await text(served, "/metrics", f"Bearer {token}"))[0] == 200


async def test_wrong_passwords_at_the_page_are_counted(tmp_path: Path, users: Path) -> None:
    async with running(tmp_path / "root", users=users) as served:
        statuses = [(await text(served, "/", basic("admin", "wrong")))[0] for _ in range(40)]
        assert statuses[-1] == 429


async def test_metrics_count_requests_and_bytes_with_few_labels(tmp_path: Path) -> None:
    async with running(tmp_path) as served:
        await served.push_blob("a/b", b"x" * 1000)
        await served.call("TRACE", "/secret/path")
        await served.call("GET", "/v2/a/b/manifests/none")
        _, metrics = await text(served, "/metrics")
    prefix = "crossdock_registry_"
    assert f'{prefix}requests_total{{method="POST",endpoint="uploads",status="201"}} 1\n' in metrics
    assert f'{prefix}requests_total{{method="GET",endpoint="manifest",status="404"}} 1\n' in metrics
    assert f'{prefix}requests_total{{method="other",endpoint="none",status="404"}} 1\n' in metrics
    assert f"{prefix}received_bytes_total 1000\n" in metrics
    assert f"{prefix}requests_in_flight 1\n" in metrics
    assert "secret" not in metrics
    assert "a/b" not in metrics


def test_prometheus_reads_the_metrics() -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    counts = Counts()
    visit = Visit()
    visit.endpoint = "blob"
    counts.responded("GET", 200, visit, received=0, sent=7)
    found = {each.name: each for each in parser.text_string_to_metric_families(counts.text())}
    assert found["crossdock_registry_sent_bytes"].samples[0].value == 7
    assert found["crossdock_registry_request_seconds"].samples[0].labels == {"endpoint": "blob"}
