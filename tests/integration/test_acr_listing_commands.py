"""``crossdock acr manifest`` and ``crossdock acr repository`` as scripts for ``az acr`` call them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from support.command import AUTH, NOT_FOUND, SOURCE, USAGE, Crossdock
from support.docker_registry import DockerRegistry, htpasswd_file
from support.embedded import Embedded, start_embedded
from support.images import push

SECRET = "hunter2-of-the-listing"


@pytest.fixture
def served(tmp_path: Path, closing: ExitStack) -> Embedded:
    """An embedded registry, which has ``/acr/v1``."""
    (tmp_path / "root").mkdir()
    return start_embedded(tmp_path, tmp_path / "root", closing)


def fill(root: Path) -> list[Content]:
    """``team/app`` with the tags t0 to t2, of which t0 is the newest."""
    builder = ImageBuilder(root / "team" / "app")
    layer, images = builder.random_layer(64), []
    for number in range(3):
        image = builder.image([layer], annotations={"number": str(number)})
        builder.tag(image, f"t{number}")
        os.utime(builder.path(image.digest), (1_700_000_000 - number, 1_700_000_000 - number))
        images.append(image)
    return images


def inventory(folder: Path, text: str) -> Path:
    path = folder / "inventory.yaml"
    path.write_text(text)
    return path


def answer(crossdock: Crossdock, *words: str | Path, **how: Any) -> Any:
    done = crossdock.ok("acr", *words, **how)
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_manifests_are_listed_by_login_server_by_name_and_by_one_word(
    crossdock: Crossdock, served: Embedded, tmp_path: Path
) -> None:
    images = fill(served.root)
    listing = "manifest", "list-metadata"
    entries = answer(crossdock, *listing, "-r", served.host, "-n", "team/app")
    assert [each["digest"] for each in entries] == sorted(image.digest for image in images)
    assert entries[0].keys() >= {"imageSize", "createdTime", "architecture", "os", "changeableAttributes"}
    assert answer(crossdock, *listing, f"{served.host}/team/app") == entries
    known = inventory(tmp_path, f"registries:\n  - name: myregistry\n    login_server: {served.host}\n")
    by_name = *listing, "--registry", "myregistry", "--name", "team/app"
    assert answer(crossdock, *by_name, "--inventory", known) == entries
    assert answer(crossdock, *by_name, env={"CROSSDOCK_INVENTORY": str(known)}) == entries
    assert answer(crossdock, *listing, "--inventory", known, "myregistry.azurecr.io/team/app") == entries
    newest = answer(crossdock, *listing, f"{served.host}/team/app", "--orderby", "time_desc", "--top", "2")
    assert [each["digest"] for each in newest] == [image.digest for image in images[:2]]


def test_repositories_tags_and_manifests_are_shown(crossdock: Crossdock, served: Embedded) -> None:
    images = fill(served.root)
    where = "-n", served.host
    assert answer(crossdock, "repository", "list", *where) == ["team/app"]
    tags = "repository", "show-tags", *where, "--repository", "team/app"
    assert answer(crossdock, *tags) == ["t0", "t1", "t2"]
    assert answer(crossdock, *tags, "--orderby", "time_asc") == ["t2", "t1", "t0"]
    detailed = answer(crossdock, *tags, "--detail", "--top", "1")
    assert [(each["name"], each["digest"]) for each in detailed] == [("t0", images[0].digest)]
    assert detailed[0]["lastUpdateTime"] == "2023-11-14T22:13:20.0000000Z"
    show = "acr", "manifest", "show"
    whole = crossdock.ok(*show, "-r", served.host, "-n", "team/app:t1", "--raw").stdout
    assert whole == served.remote.manifest("team/app", "t1").body.decode()
    by_digest = f"{served.host}/team/app@{images[1].digest}"
    assert json.loads(crossdock.ok(*show, by_digest).stdout) == json.loads(whole)
    crossdock.fail(*show, f"{served.host}/team/app", code=NOT_FOUND, naming=["team/app:latest"])


def test_other_formats_are_those_of_az(crossdock: Crossdock, served: Embedded) -> None:
    images = fill(served.root)
    where = "acr", "repository", "show-tags", "-n", served.host, "--repository", "team/app"
    assert crossdock.ok(*where, "-o", "tsv").stdout == "t0\nt1\nt2\n"
    assert crossdock.ok(*where, "-o", "table").stdout == "Result\n--------\nt0\nt1\nt2\n"
    assert crossdock.ok(*where, "-o", "none").stdout == ""
    assert crossdock.ok(*where, "-o", "yaml").stdout == "- t0\n- t1\n- t2\n"
    assert json.loads(crossdock.ok(*where, "-o", "jsonc").stdout) == ["t0", "t1", "t2"]
    table = crossdock.ok(*where, "--detail", "-o", "table").stdout.splitlines()
    assert table[0].split() == ["CreatedTime", "Digest", "LastUpdateTime", "Name", "Signed"]
    assert table[2].split()[1::2] == [images[0].digest, "t0"]
    manifests = "acr", "manifest", "list-metadata", f"{served.host}/team/app"
    fields = crossdock.ok(*manifests, "-o", "tsv").stdout.splitlines()[0].split("\t")
    assert fields[0] == "amd64"
    assert fields[-1] == "1", "tsv has a nested list's length"


def test_the_documented_query_for_old_manifests_runs(crossdock: Crossdock, served: Embedded) -> None:
    images = fill(served.root)
    query = "[?lastUpdateTime < '2023-11-14T22:13:19.5'].digest"
    words = "acr", "manifest", "list-metadata", "--name", "team/app", "--registry", served.host
    done = crossdock.ok(*words, "--orderby", "time_asc", "--query", query, "-o", "tsv")
    assert done.stdout.splitlines() == [images[2].digest, images[1].digest]
    crossdock.fail(*words, "--query", "[?", code=USAGE, naming=["--query is not a JMESPath expression"])


@pytest.mark.real
def test_a_registry_without_the_api_asks_for_its_password(
    crossdock: Crossdock, new_registry: Callable[..., DockerRegistry], tmp_path: Path
) -> None:
    users = htpasswd_file(tmp_path / "users", "me", SECRET)
    registry = new_registry(auth={"htpasswd": {"realm": "test", "path": str(users)}}, basic=f"me:{SECRET}")
    builder = ImageBuilder()
    graph = push(registry.remote, "app", builder, builder.image([builder.random_layer(100)]), "v1")
    words = "acr", "manifest", "list-metadata", f"{registry.host}/app"
    env = {"APP_PASSWORD": SECRET}
    known = inventory(
        tmp_path,
        f"registries:\n  - name: myregistry\n    login_server: {registry.host}\n"
        "    credentials: {username: me, password_env: APP_PASSWORD}\n",
    )
    runs = [
        crossdock.ok(*words, "-u", "me", "--password-stdin", stdin=f"{SECRET}\n"),
        crossdock.ok(*words, "-u", "me", "-p", SECRET),
        crossdock.ok(*words, "--inventory", known, env=env),
        crossdock.ok(*words, "--inventory", known, "-u", "me", "-p", SECRET),  # APP_PASSWORD is not needed
    ]
    for run in runs:
        assert [each["digest"] for each in json.loads(run.stdout)] == [graph.root]
        assert SECRET not in run.stderr
    line = crossdock.fail(*words, "-u", "me", "-p", f"not-{SECRET}", code=AUTH, naming=[registry.host])
    assert SECRET not in line


def test_names_that_mean_nothing_are_refused_before_any_request(crossdock: Crossdock) -> None:
    listing = "acr", "manifest", "list-metadata"
    specifier = "You must provide either a fully qualified repository specifier"
    for words in ((), ("-r", "myregistry"), ("-n", "app"), ("myregistry/app", "-n", "app"), ("app",)):
        crossdock.fail(*listing, *words, code=USAGE, naming=[specifier])
    crossdock.fail(*listing, "127.0.0.1:1/app:v1", code=USAGE, naming=["should not include a tag or digest"])
    rule = "Registry names may contain only alpha numeric characters"
    crossdock.fail("acr", "repository", "list", "-n", "my-registry", code=USAGE, naming=[rule])
    crossdock.fail("acr", "repository", "list", "-n", "abc", code=USAGE, naming=[rule])
    crossdock.fail(*listing, "127.0.0.1:1/app", "-u", "me", code=USAGE, naming=["Please provide password."])
    crossdock.fail(*listing, "127.0.0.1:1/app", "--top", "0", code=USAGE, naming=["from 1"])
    crossdock.fail(*listing, "127.0.0.1:1/app", "--retries", "0", code=SOURCE, naming=["list manifests of"])


def test_a_missing_scope_is_named_and_not_taken_for_a_missing_api(
    crossdock: Crossdock, tmp_path: Path, closing: ExitStack
) -> None:
    fill(tmp_path / "root")
    users = {
        "users": [
            {"name": "reader", "password": SECRET, "scopes": ["repository:team/*:metadata_read"]},
            {"name": "puller", "password": SECRET, "scopes": ["repository:team/*:pull"]},
        ]
    }
    served = start_embedded(tmp_path, tmp_path / "root", closing, users=users)
    words = "acr", "manifest", "list-metadata", f"{served.host}/team/app", "-p", SECRET, "-u"
    assert len(json.loads(crossdock.ok(*words, "reader").stdout)) == 3
    crossdock.fail(*words, "puller", code=AUTH, naming=["list manifests of", served.host])
    crossdock.fail(
        *("acr", "repository", "list", "-n", served.host, "-u", "reader", "-p", SECRET),
        code=AUTH,
        naming=["list repositories of"],
    )
