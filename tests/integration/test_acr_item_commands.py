"""``crossdock acr``'s commands for one tag, manifest or repository, with ``/acr/v1`` and without."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import Content, ImageBuilder, sample_index
from support.command import AUTH, NOT_FOUND, SOURCE, USAGE, Crossdock
from support.docker_registry import DockerRegistry
from support.embedded import Embedded, start_embedded
from support.images import push

SECRET = "hunter2-of-the-items"
UNLOCKED = {"deleteEnabled": True, "writeEnabled": True, "readEnabled": True, "listEnabled": True}


@pytest.fixture
def served(tmp_path: Path, closing: ExitStack) -> Embedded:
    """An embedded registry, which has ``/acr/v1``."""
    (tmp_path / "root").mkdir()
    return start_embedded(tmp_path, tmp_path / "root", closing)


@pytest.fixture
def plain(new_registry: Callable[..., DockerRegistry]) -> DockerRegistry:
    """distribution 2, which has not, and which deletes by digest."""
    return new_registry()


def fill(registry: Any, repository: str = "team/app") -> tuple[Content, Content]:
    """Two images: v1 and latest are the first, v2 is the second."""
    builder = ImageBuilder()
    first, second = (builder.image([builder.random_layer(size)]) for size in (100, 200))
    for tag, image in (("v1", first), ("latest", first), ("v2", second)):
        push(registry.remote, repository, builder, image, tag)
    return first, second


def answer(crossdock: Crossdock, *words: str | Path, **how: Any) -> Any:
    return json.loads(crossdock.ok("acr", *words, **how).stdout)


# -- one item is shown -----------------------------------------------------------------------------------


def test_a_tag_a_manifest_and_a_repository_are_shown(crossdock: Crossdock, served: Embedded) -> None:
    first, second = fill(served)
    where = "repository", "show", "-n", served.host
    tag = answer(crossdock, *where, "--image", "team/app:v1")
    assert (tag["name"], tag["digest"], tag["changeableAttributes"]) == ("v1", first.digest, UNLOCKED)
    assert answer(crossdock, *where, "-t", "team/app")["name"] == "latest"
    manifest = answer(crossdock, *where, "--image", f"team/app@{first.digest}")
    assert (manifest["digest"], manifest["tags"]) == (first.digest, ["latest", "v1"])
    repository = answer(crossdock, *where, "--repository", "team/app")
    assert repository["imageName"] == "team/app"
    assert (repository["manifestCount"], repository["tagCount"]) == (2, 3)
    show = "acr", "manifest", "show-metadata"
    for words in (("-r", served.host, "-n", "team/app:v2"), (f"{served.host}/team/app:v2",)):
        done = crossdock.ok(*show, *words, "--query", "digest", "-o", "tsv")
        assert done.stdout == f"{second.digest}\n"


@pytest.mark.real
def test_a_registry_without_the_api_is_read_over_the_distribution_api(
    crossdock: Crossdock, plain: DockerRegistry
) -> None:
    builder = ImageBuilder()
    index = sample_index(builder)
    push(plain.remote, "team/app", builder, index, "multi")
    first, _ = fill(plain)
    where = "repository", "show", "-n", plain.host
    tag = answer(crossdock, *where, "--image", "team/app:v1")
    assert (tag["name"], tag["digest"], tag["changeableAttributes"]) == ("v1", first.digest, UNLOCKED)
    manifest = answer(crossdock, *where, "--image", f"team/app@{index.digest}")
    assert (manifest["digest"], manifest["tags"]) == (index.digest, ["multi"])
    assert len(manifest["references"]) > 1
    repository = answer(crossdock, *where, "--repository", "team/app")
    assert (repository["imageName"], repository["tagCount"]) == ("team/app", 4)
    assert repository["registry"] == plain.host
    for missing in (("--image", "team/app:v9"), ("--repository", "team/none"), ("--image", "none:v1")):
        crossdock.fail("acr", *where, *missing, code=NOT_FOUND, naming=[missing[1].partition(":")[0]])
    gone = f"team/app@sha256:{'0' * 64}"
    crossdock.fail(
        "acr", "manifest", "show-metadata", f"{plain.host}/{gone}", code=NOT_FOUND, naming=["0000"]
    )


def test_missing_content_is_not_found(crossdock: Crossdock, served: Embedded) -> None:
    fill(served)
    where = "acr", "repository", "show", "-n", served.host
    for missing in (("--image", "team/app:v9"), ("--repository", "none"), ("--image", "none")):
        crossdock.fail(*where, *missing, code=NOT_FOUND, naming=["show"])
    for words in ((), ("--image", "a:1", "--repository", "a")):
        crossdock.fail(*where, *words, code=USAGE, naming=["either --image IMAGE | --repository REPOSITORY"])
    for wrong in ("a:1:2", f"a:1@sha256:{'0' * 64}"):
        crossdock.fail(*where, "--image", wrong, code=USAGE, naming=["'name:tag' or digest in the format"])


def test_a_repository_is_named_without_a_tag(crossdock: Crossdock, served: Embedded) -> None:
    fill(served, "redis")
    for verb in ("show-tags", "show-manifests", "show", "update", "delete"):
        words = "acr", "repository", verb, "-n", served.host, "--only-show-errors", "--repository"
        crossdock.fail(*words, "redis:v1", code=USAGE, naming=["invalid repository name"])


def test_manifests_are_listed_by_the_old_name(crossdock: Crossdock, served: Embedded) -> None:
    first, second = fill(served)
    words = "acr", "repository", "show-manifests", "-n", served.host, "--repository", "team/app"
    done = crossdock.ok(*words)
    assert "deprecated" in done.stderr
    listed = {each["digest"]: each for each in json.loads(done.stdout)}
    assert listed.keys() == {first.digest, second.digest}
    assert listed[first.digest].keys() == {"digest", "tags", "timestamp"}
    assert listed[first.digest]["tags"] == ["latest", "v1"]
    quiet = crossdock.ok(*words, "--detail", "--orderby", "time_desc", "--top", "1", "--only-show-errors")
    assert quiet.stderr == ""
    assert "imageSize" in json.loads(quiet.stdout)[0]


# -- locks -----------------------------------------------------------------------------------------------


def test_a_lock_is_set_shown_obeyed_and_taken_off(crossdock: Crossdock, served: Embedded) -> None:
    first, _ = fill(served)
    update = "repository", "update", "-n", served.host, "--image", "team/app:v1"
    locked = answer(crossdock, *update, "--write-enabled", "false")
    assert locked["changeableAttributes"] == {**UNLOCKED, "writeEnabled": False}
    assert answer(crossdock, *update) == locked, "without a flag it shows"
    source = f"{served.host}/team/app:v2"
    for words in (
        ("repository", "untag", "-n", served.host, "--image", "team/app:v1"),
        ("repository", "delete", "-n", served.host, "--image", "team/app:v1", "--yes", "--only-show-errors"),
        ("repository", "delete", "-n", served.host, "--repository", "team/app", "--yes"),
        ("manifest", "delete", f"{served.host}/team/app@{first.digest}", "--yes"),
    ):
        crossdock.fail("acr", *words, code=SOURCE, naming=["The operation is disallowed"])
    crossdock.fail(
        "copy", source, f"{served.host}/team/app:v1", code=6, naming=["disallowed", "may be locked"]
    )
    assert served.remote.manifest("team/app", "v1").headers["docker-content-digest"] == first.digest
    unlocked = answer(crossdock, *update, "--write-enabled", "--delete-enabled", "TRUE")
    assert unlocked["changeableAttributes"] == UNLOCKED
    crossdock.ok("copy", source, f"{served.host}/team/app:v1")
    crossdock.fail("acr", *update, "--write-enabled", "no", code=USAGE, naming=["true or false"])


def test_manifests_and_repositories_are_locked_too(crossdock: Crossdock, served: Embedded) -> None:
    first, _ = fill(served)
    words = "manifest", "update-metadata", "-r", served.host, "-n", f"team/app@{first.digest}"
    locked = answer(crossdock, *words, "--delete-enabled", "false")
    assert locked["changeableAttributes"] == {**UNLOCKED, "deleteEnabled": False}
    words = "repository", "update", "-n", served.host, "--repository", "team/app"
    locked = answer(crossdock, *words, "--list-enabled", "false", "--read-enabled", "false")
    assert locked["changeableAttributes"] == {**UNLOCKED, "listEnabled": False, "readEnabled": False}
    assert answer(crossdock, "repository", "list", "-n", served.host) == []


@pytest.mark.real
def test_a_registry_without_locks_says_so(crossdock: Crossdock, plain: DockerRegistry) -> None:
    fill(plain)
    words = "acr", "repository", "update", "-n", plain.host, "--write-enabled", "false"
    crossdock.fail(*words, "--image", "team/app:v1", code=SOURCE, naming=["has no locks"])
    crossdock.fail(*words, "--repository", "team/app", code=SOURCE, naming=["has no locks"])
    crossdock.fail(*words, "--image", "team/app:v9", code=NOT_FOUND, naming=["v9"])


# -- what is removed -------------------------------------------------------------------------------------


def test_a_tag_goes_alone_and_an_image_with_all_its_tags(crossdock: Crossdock, served: Embedded) -> None:
    first, second = fill(served)
    where = "acr", "repository"
    done = crossdock.ok(*where, "untag", "-n", served.host, "-t", "team/app:latest")
    assert (done.stdout, done.stderr) == ("", "")
    assert served.remote.tags("team/app") == ["v1", "v2"]
    crossdock.fail(
        *where, "untag", "-n", served.host, "-t", "team/app:latest", code=NOT_FOUND, naming=["latest"]
    )
    crossdock.fail(
        *(*where, "untag", "-n", served.host, "-t", f"team/app@{first.digest}"),
        code=USAGE,
        naming=["may include a tag in the format 'name:tag'."],
    )
    crossdock.ok("acr", "repository", "untag", "-n", served.host, "-t", "team/app:v1")
    assert served.remote.manifest("team/app", first.digest).status == 200
    done = crossdock.ok(*where, "delete", "-n", served.host, "--image", "team/app:v2", "--yes")
    assert done.stdout == ""
    assert f"will delete the manifest '{second.digest}'" in done.stderr
    assert "all the following images: 'team/app:v2'" in done.stderr
    assert served.remote.manifest("team/app", second.digest).status == 404
    by_digest = "acr", "manifest", "delete", "-r", served.host, "-n", f"team/app@{first.digest}"
    crossdock.ok(*by_digest, "-y")
    crossdock.fail(*by_digest, "-y", code=NOT_FOUND, naming=[first.digest])


def test_a_repository_goes_whole_and_says_what_it_had(crossdock: Crossdock, served: Embedded) -> None:
    first, second = fill(served)
    words = "repository", "delete", "-n", served.host, "--repository", "team/app", "--yes"
    had = answer(crossdock, *words)
    assert had["tagsDeleted"] == ["latest", "v1", "v2"]
    assert had["manifestsDeleted"] == sorted([first.digest, second.digest])
    assert answer(crossdock, "repository", "list", "-n", served.host) == []
    crossdock.fail("acr", *words, code=NOT_FOUND, naming=["team/app"])


def test_nothing_is_deleted_without_yes_or_a_terminal(crossdock: Crossdock, served: Embedded) -> None:
    first, _ = fill(served)
    for words in (
        ("repository", "delete", "-n", served.host, "--image", "team/app:v1"),
        ("repository", "delete", "-n", served.host, "--repository", "team/app"),
        ("manifest", "delete", f"{served.host}/team/app@{first.digest}"),
    ):
        crossdock.fail("acr", *words, stdin="y\n", code=USAGE, naming=["no tty available. Use --yes."])
    assert served.remote.tags("team/app") == ["latest", "v1", "v2"]


@pytest.mark.real
def test_a_registry_without_the_api_deletes_by_digest(crossdock: Crossdock, plain: DockerRegistry) -> None:
    first, second = fill(plain)
    words = "repository", "delete", "-n", plain.host, "--image", "team/app:v1", "--yes"
    done = crossdock.ok("acr", *words)
    assert "'team/app:latest', 'team/app:v1'" in done.stderr
    assert plain.remote.manifest("team/app", first.digest).status == 404
    # distribution 2 does not delete a tag by its name: the tag stays, and that is said.
    untag = "acr", "repository", "untag", "-n", plain.host, "--image", "team/app:v2"
    crossdock.fail(*untag, code=SOURCE, naming=["untag"])
    assert plain.remote.manifest("team/app", "v2").status == 200
    had = answer(crossdock, "repository", "delete", "-n", plain.host, "--repository", "team/app", "--yes")
    assert had == {"manifestsDeleted": [second.digest], "tagsDeleted": ["v2"]}
    assert plain.remote.manifest("team/app", second.digest).status == 404


def test_rights_that_are_missing_are_named(crossdock: Crossdock, tmp_path: Path, closing: ExitStack) -> None:
    builder = ImageBuilder(tmp_path / "root" / "team" / "app")
    builder.tag(builder.image([builder.random_layer(10)]), "v1")
    users = {
        "users": [
            {"name": "reader", "password": SECRET, "scopes": ["repository:team/*:pull,metadata_read"]},
            {"name": "locker", "password": SECRET, "scopes": ["repository:*:metadata_read,metadata_write"]},
        ]
    }
    served = start_embedded(tmp_path, tmp_path / "root", closing, users=users)
    reader = "-n", served.host, "-u", "reader", "-p", SECRET, "--image", "team/app:v1"
    assert answer(crossdock, "repository", "show", *reader)["name"] == "v1"
    crossdock.fail("acr", "repository", "untag", *reader, code=AUTH, naming=["untag"])
    crossdock.fail(
        *("acr", "repository", "update", *reader, "--write-enabled", "false"),
        code=AUTH,
        naming=["metadata_write"],
    )
    locker = ("-n", served.host, "-u", "locker", "-p", SECRET, "--image", "team/app:v1")
    locked = answer(crossdock, "repository", "update", *locker, "--write-enabled", "false")
    assert locked["changeableAttributes"]["writeEnabled"] is False


# -- az's defaults ---------------------------------------------------------------------------------------


def test_az_s_default_registry_stands_in_for_the_flag(
    crossdock: Crossdock, served: Embedded, tmp_path: Path
) -> None:
    first, _ = fill(served)
    known = tmp_path / "inventory.yaml"
    known.write_text(f"registries:\n  - {{name: myregistry, login_server: '{served.host}'}}\n")
    env = {"CROSSDOCK_INVENTORY": str(known), "AZURE_DEFAULTS_ACR": "myregistry"}
    assert answer(crossdock, "repository", "list", env=env) == ["team/app"]
    shown = answer(crossdock, "manifest", "show-metadata", "-n", "team/app:v1", env=env)
    assert shown["digest"] == first.digest
    crossdock.ok(
        *("acr", "import", "--source", f"{served.host}/team/app:v1", "-t", "other:1"),
        env=env,
    )
    assert served.remote.tags("other") == ["1"]
    # The flag and the one word go before it.
    assert answer(crossdock, "repository", "list", "-n", served.host, env=env | {"AZURE_DEFAULTS_ACR": "x"})
    identifier = f"{served.host}/team/app:v1"
    assert answer(crossdock, "manifest", "show-metadata", identifier, env=env)["digest"] == first.digest


def test_az_s_configuration_file_has_defaults_too(
    crossdock: Crossdock, served: Embedded, tmp_path: Path
) -> None:
    fill(served)
    known = tmp_path / "inventory.yaml"
    known.write_text(f"registries:\n  - {{name: myregistry, login_server: '{served.host}'}}\n")
    env = {"CROSSDOCK_INVENTORY": str(known)}
    words = "acr", "repository", "list"
    for folder, more in (
        (crossdock.home / ".azure", {}),
        (tmp_path / "azure", {"AZURE_CONFIG_DIR": str(tmp_path / "azure")}),
    ):
        crossdock.fail(*words, env=env | more, code=USAGE, naming=["--name", "AZURE_DEFAULTS_ACR"])
        folder.mkdir()
        (folder / "config").write_text("[defaults]\nacr = myregistry\n\n[core]\noutput = tsv\n")
        assert crossdock.ok(*words, env=env | more).stdout == "team/app\n"
        assert crossdock.ok(*words, "-o", "json", env=env | more).stdout == '[\n  "team/app"\n]\n'
        (folder / "config").write_bytes(b"no section\n\xff")
        crossdock.fail(*words, env=env | more, code=USAGE, naming=["--name"])
    crossdock.fail("acr", "import", "--source", "a.b/c", env=env, code=USAGE, naming=["--name/-n"])


def test_the_suffix_of_a_tenant_is_taken(crossdock: Crossdock, served: Embedded, tmp_path: Path) -> None:
    fill(served)
    known = tmp_path / "inventory.yaml"
    known.write_text(
        f"registries:\n  - {{name: myregistry, login_server: '{served.host}'}}\n"
        f"hosts: {{other-contoso.azurecr.io: '{served.host}'}}\n"
    )
    words = "acr", "repository", "list", "--inventory", known, "--suffix", "contoso"
    done = crossdock.ok(*words, "-n", "myregistry")
    assert json.loads(done.stdout) == ["team/app"]
    assert "--suffix contoso is ignored" in done.stderr
    assert answer(crossdock, *words[1:], "-n", "other") == ["team/app"]
