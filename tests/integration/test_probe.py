"""``crossdock probe`` of strict doubles, of our own registry and of docker-registry."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from crossdock import __version__
from crossdock.cli.command import run
from crossdock.errors import InvalidInput
from crossdock.imagebuilder import ImageBuilder
from crossdock.inventory.read import read_inventory
from crossdock.probing import reading
from crossdock.probing.saving import check_new
from support.command import AUTH, NOT_FOUND, USAGE, Crossdock
from support.docker_registry import DockerRegistry
from support.doubles import PASSWORD, RULES, USER, DoubleRegistry, start_double
from support.embedded import start_embedded
from support.images import push
from support.scripted import Reply, Request

MiB = 1 << 20
LOGIN = {"CROSSDOCK_SOURCE_USERNAME": USER, "CROSSDOCK_SOURCE_PASSWORD": PASSWORD}
READ = [
    *("kind", "software", "login", "token_seconds", "round_trip_ms", "ranges", "redirects"),
    *("bytes_per_second", "best_connections", "bytes_read", "advice"),
]
WRITTEN = ["uploads", "mount", "referrers", "tag_delete", "multi_tag", "left"]
# What the double of each kind has, as `support.doubles.RULES` says it.
CHUNKS: dict[str, tuple[bool, int | None, int | None]] = {
    "ecr": (True, 5 * MiB, 20 * MiB),
    "ecr-public": (True, 5 * MiB, 20 * MiB),
    "ghcr": (True, None, 4 * MiB),
    "acr": (True, None, 20_000_000),
    "gar": (False, None, None),
    "gcr": (False, None, None),
    "nexus": (False, None, None),
}


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def filled(kind: str, closing: ExitStack) -> DoubleRegistry:
    double = start_double(kind, closing)
    double.hold_image("team/app", "v1", (random.Random(1).randbytes(3 * MiB),))
    return double


Probe = Callable[..., dict[str, Any]]


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Probe:
    """The JSON of the command, run here: it is run often."""
    for name, value in {**LOGIN, "HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)

    def run_here(*words: str | Path) -> dict[str, Any]:
        assert run(["probe", *map(str, words), "--output", "json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run_here


@pytest.mark.parametrize("kind", sorted(RULES))
def test_a_double_is_recognised_and_its_limits_are_found(kind: str, probe: Probe, closing: ExitStack) -> None:
    double, rules = filled(kind, closing), RULES[kind]
    before = set(double.manifests), dict(double.held)
    found = probe(f"{double.host}/team/app", "--write")
    assert list(found) == [*READ, *WRITTEN]
    assert (found["kind"], found["login"], found["ranges"]) == (kind, rules.login, "honoured")
    assert found["token_seconds"] == (300 if rules.login == "bearer" else None)
    assert found["redirects"] == (double.storage.host if double.storage else None)
    assert 0 < found["bytes_read"] <= 256 * MiB
    assert str(found["best_connections"]) in found["bytes_per_second"]
    chunks, least, most = CHUNKS.get(kind, (True, None, None))
    assert found["uploads"] == {
        "single": True,
        "chunks": chunks,
        "resume": chunks and not rules.stuck_range,  # which says too little
        "chunk_min": least,
        "chunk_max": most,
    }
    assert found["mount"] == rules.mounts
    assert found["referrers"] == ("api" if rules.referrers else "tag")
    assert (found["tag_delete"], found["multi_tag"]) == (rules.tag_delete is None, False)
    assert bool(found["left"]) == (rules.manifest_delete is not None or rules.blob_delete is not None)
    if not found["left"]:
        assert (set(double.manifests), double.held) == before
    assert double.open_sessions == 0
    assert sum(len(each.body) for each in double.seen) <= 192 * MiB


def test_a_blob_that_cannot_be_mounted_where_it_is_is_mounted_below(probe: Probe, closing: ExitStack) -> None:
    double = filled("gitlab", closing)

    def into_itself_never(request: Request) -> Reply | None:
        name = request.query.get("from", "")
        return Reply.error(400, "UNSUPPORTED") if request.path == f"/v2/{name}/blobs/uploads/" else None

    double.before = into_itself_never
    found = probe(f"{double.host}/team/app", "--write")
    assert (found["mount"], found["left"]) == ("at_once", [])
    below = [name for name in double.held if name.startswith("team/app/crossdock-probe-")]
    assert [double.held[name] for name in below] == [set()]


@pytest.mark.parametrize("verdict", ["ignored", "wrong"])
def test_a_blob_without_ranges_is_read_up_to_the_limit(
    verdict: str, probe: Probe, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_READ", MiB)
    double = filled("artifactory", closing)

    def spoil(request: Request, reply: Reply) -> None:
        if reply.status == 206 and verdict == "wrong":
            reply.headers["Content-Range"] = "bytes 5-9/10"
        elif reply.status == 206:
            digest = request.path.rpartition("/")[2]
            reply.status, reply.body, reply.headers = 200, double.blobs[digest], {}

    double.after = spoil
    found = probe(f"{double.host}/team/app")
    assert (found["ranges"], list(found["bytes_per_second"])) == (verdict, ["1"])
    assert 0 < found["bytes_read"] <= MiB


def test_nothing_is_written_without_being_told_to(
    crossdock: Crossdock, probe: Probe, closing: ExitStack
) -> None:
    double = filled("gitlab", closing)
    found = probe(f"{double.host}/team/app")
    assert list(found) == READ
    assert {each.method for each in double.seen} <= {"GET", "HEAD"}
    alone = probe(double.host)
    assert [alone[name] for name in ("kind", "ranges", "bytes_per_second", "best_connections")] == [
        *("gitlab", None, None, None)
    ]
    line = crossdock.fail("probe", f"{double.host}/team/other", code=NOT_FOUND, env=LOGIN)
    assert PASSWORD not in line
    crossdock.fail("probe", double.host, "--write", code=USAGE, naming=["needs a repository"], env=LOGIN)


MINE = "# mine\nregistries:\n  - name: a # first\nhosts: {b: c}\n"


@pytest.mark.parametrize("text", [None, "", MINE, "{}", "registries: [{name: a}]"])
def test_it_is_saved_to_an_inventory(
    text: str | None, probe: Probe, closing: ExitStack, tmp_path: Path
) -> None:
    double, path = start_double("nexus", closing), tmp_path / "inventory.yaml"
    double.hold_image("team/app", "v1", (b"layer",))
    if text is not None:
        (tmp_path / "real.yaml").write_text(text)
        path.symlink_to("real.yaml")
    words = ["--write"] if text == MINE else []
    probe(f"{double.host}/team/app", *words, "--save", path)
    entry = read_inventory(path).served_by(double.host)[0]
    assert path.is_symlink() == (text is not None)
    expected = {"upload.chunks": False, "mounts": "never", "referrers": "tag"} if words else {}
    assert (entry.kind, dict(entry.values), entry.plain_http) == ("nexus", expected, True)
    if text == MINE:
        assert path.read_text().startswith("# mine\nregistries:\n  - name: a # first\n")
        assert yaml.safe_load(path.read_text())["hosts"] == {"b": "c"}
        with pytest.raises(InvalidInput, match="has an entry for"):
            check_new(path, double.host)


def test_our_own_registry_says_who_it_is(probe: Probe, tmp_path: Path, closing: ExitStack) -> None:
    registry = start_embedded(tmp_path, tmp_path / "root", closing)
    builder = ImageBuilder(tmp_path / "layout", seed=1)
    push(registry.remote, "team/app", builder, builder.image([builder.random_layer(MiB)]), "v1")
    found = probe(f"{registry.host}/team/app", "--write")
    assert (found["kind"], found["software"]) == ("crossdock", f"crossdock/{__version__}")
    assert found["uploads"] | {"chunk_min": None} == {
        "single": True,
        "chunks": True,
        "resume": True,
        "chunk_min": None,
        "chunk_max": None,
    }
    assert [found[name] for name in WRITTEN[1:]] == ["at_once", "api", True, True, []]


@pytest.mark.parametrize(("password", "code"), [(PASSWORD, 0), ("wrong", AUTH)])
def test_a_login_that_is_refused_is_an_error(
    crossdock: Crossdock, closing: ExitStack, password: str, code: int
) -> None:
    double = start_double("ecr", closing)
    env = {**LOGIN, "CROSSDOCK_SOURCE_PASSWORD": password}
    assert crossdock("probe", double.host, env=env).code == code


@pytest.mark.real
def test_docker_registry_is_a_distribution(probe: Probe, target: DockerRegistry) -> None:
    found = probe(target.host)
    assert (found["kind"], found["login"], found["software"]) == ("distribution", "none", None)
