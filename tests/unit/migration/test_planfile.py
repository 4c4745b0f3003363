"""PLAN.json: what is written is read back, line by line or from a file that another tool wrote anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossdock.errors import InvalidInput, OutputFailed
from crossdock.migration.file import MigrationFile, parse_migration
from crossdock.migration.plan import Plan
from crossdock.migration.planfile import PlannedRepository, PlanWriter, is_plan, read_plan
from crossdock.mirroring.views import RepositoryView, TargetView
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Reference

ONE, TWO = (Digest.of(word) for word in (b"one", b"two"))
WHOLE = """
version: 1
limits: {bytes_per_second: 50MiB, hours: "20:00-06:00", hosts: {new.example: {connections: 4}}}
mirrors:
  - name: team
    source: old.example/team
    targets: [new.example/team, eu.example]
    repositories: {include: ["app-*", "/^lib/"], exclude: ["*-tmp"]}
    tags: {exclude: ["/-rc/"], semver: ">=1.2 <3", newest: 10, pushed_after: 90d, min_age: 72h}
    untagged: true
    platforms: [linux/amd64]
    referrers: required
    rename: [{match: "^lib-(.*)$", to: "libs/\\\\1"}]
    flatten: 2
    existing: report
    delete: {mode: report, max_tags: 3, max_percent: 7, grace: 1d}
  - {source: "oci:layout", targets: [new.example/layout]}
"""


@pytest.fixture
def file(tmp_path: Path) -> MigrationFile:
    """A file that uses everything."""
    return parse_migration(WHOLE.encode(), "migration.yaml", tmp_path)


def view(name: str) -> RepositoryView:
    """A repository with a tag that the first target has, and a manifest without one."""
    there = TargetView(
        name="new.example/team/app",
        repository=Reference("new.example", "team/app"),
        tags={"v1": TWO},
        digests=frozenset({TWO}),
    )
    nowhere = TargetView(name="eu.example/app", repository=Reference("eu.example", "app"))
    return RepositoryView(
        name=name,
        source=Reference("old.example", f"team/{name}"),
        targets=(there, nowhere),
        tags={"v1": ONE},
        untagged=(TWO,),
    )


def write(path: Path, file: MigrationFile) -> None:
    """A plan of two repositories."""
    writer = PlanWriter(path, file)
    writer.add(0, view("app"), ({"old": TWO}, {}), 512)
    writer.add(0, view("lib"), ({}, {}), 0)
    writer.finish(Plan(entries=[], requests={}))


EXPECTED = [
    PlannedRepository(
        mirror=0,
        name=name,
        tags={"v1": (ONE, TWO, None)},
        untagged={TWO: (TWO, TWO, None)},
        delete=delete,
        bytes=size,
    )
    for name, delete, size in (("app", ({"old": TWO}, {}), 512), ("lib", (), 0))
]


def test_written_values_are_read_back(tmp_path: Path, file: MigrationFile) -> None:
    path = tmp_path / "PLAN.json"
    write(path, file)
    assert is_plan(path)
    found = read_plan(path)
    assert found.file == file
    assert list(found.repositories()) == EXPECTED
    assert json.loads(path.read_text())["plan"]["entries"] == []
    assert [each.name for each in tmp_path.iterdir()] == ["PLAN.json"]


def test_a_plan_that_another_tool_wrote_anew(tmp_path: Path, file: MigrationFile) -> None:
    path = tmp_path / "PLAN.json"
    write(path, file)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2))
    assert is_plan(path)
    found = read_plan(path)
    assert (found.file, list(found.repositories())) == (file, EXPECTED)


def test_a_plan_that_was_cut_is_refused(tmp_path: Path, file: MigrationFile) -> None:
    path = tmp_path / "PLAN.json"
    write(path, file)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]))
    with pytest.raises(InvalidInput, match="it ends before its sums"):
        list(read_plan(path).repositories())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mirror": 7}, r"repositories\[1\]: mirror is 7, and the plan's mirrors are 0 to 1"),
        ({"mirror": -1}, "mirror is -1"),
        ({"mirror": "x"}, r"repositories\[1\]: "),
        ({"mirror": 1}, "v1 must have 2 digests"),
        ({"tags": {"../x": [ONE, None, None]}}, "'../x' is not a valid tag"),
        ({"tags": {"v1": ["sha256:12", None, None]}}, "is not a digest"),
        ({"tags": {"v1": None}}, r"repositories\[1\]: "),
        ({"delete": [{}]}, "delete must have 2 members"),
        ({"delete": [{}, {"a/b": None}]}, "'a/b' is not a valid tag"),
        ({"name": None}, "name is not a string"),
        ({"tag": {}}, "'tag' is unknown"),
    ],
)
def test_a_plan_that_was_edited_wrongly_is_refused(
    tmp_path: Path, file: MigrationFile, change: dict[str, object], said: str
) -> None:
    path = tmp_path / "PLAN.json"
    write(path, file)
    document = json.loads(path.read_text())
    document["repositories"][1] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match=f"is not a plan that can be applied: .*{said}"):
        list(read_plan(path).repositories())


def test_a_repository_that_lacks_a_key_is_refused(tmp_path: Path, file: MigrationFile) -> None:
    path = tmp_path / "PLAN.json"
    write(path, file)
    document = json.loads(path.read_text())
    del document["repositories"][0]["delete"]
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match=r"repositories\[0\] has no 'delete'"):
        list(read_plan(path).repositories())


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"version": 2, "repositories": []}', '{"version": 1, "repositories": [\n'],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "PLAN.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match="is not a plan"):
        read_plan(path)


def test_a_migration_file_is_no_plan(tmp_path: Path) -> None:
    path = tmp_path / "migration.yaml"
    path.write_text(WHOLE)
    assert not is_plan(path)


def test_a_plan_that_is_given_up_leaves_nothing(tmp_path: Path, file: MigrationFile) -> None:
    writer = PlanWriter(tmp_path / "PLAN.json", file)
    writer.add(0, view("app"), ({}, {}), 0)
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path, file: MigrationFile) -> None:
    with pytest.raises(OutputFailed, match="cannot write the plan"):
        PlanWriter(tmp_path / "missing" / "PLAN.json", file)
