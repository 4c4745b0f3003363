"""The migration file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from crossdock.errors import InvalidInput
from crossdock.inventory.values import Entry as Registry
from crossdock.inventory.values import Inventory
from crossdock.migration.apply import run_key
from crossdock.migration.file import (
    Limits,
    MigrationFile,
    parse_migration,
    read_migration,
    schema,
)
from crossdock.migration.hours import Hours
from crossdock.mirroring.choice import TagChoice
from crossdock.mirroring.entry import Deletes, Entry
from crossdock.mirroring.names import Namespace
from crossdock.mirroring.patterns import Patterns
from crossdock.mirroring.rename import Naming, Rename
from crossdock.oci.reference import LayoutReference
from crossdock.options import CopyOptions, HostLimits

DOCS = Path(__file__).parents[3] / "docs" / "migrate.md"
SECTION = DOCS.read_text("utf-8").partition("\n## The file\n")[2]
EXAMPLES = re.findall(r"```yaml\n(version: 1\n.*?)```", SECTION, re.DOTALL)


def parse(text: str, **environ: str) -> MigrationFile:
    inventory = Inventory((Registry(name="corp", login_server="corp.example:5000"),))
    return parse_migration(text.encode(), "m.yaml", Path("/folder"), inventory, environ)


def mirror(text: str) -> Entry:
    """The only mirror of a file, from its members but source and targets."""
    lines = "".join(f"    {line}\n" for line in text.splitlines())
    (entry,) = parse(
        f"version: 1\nmirrors:\n  - source: a.example\n    targets: [b.example]\n{lines}"
    ).entries
    return entry


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_of_the_docs_are_read_and_fit_the_schema(example: str) -> None:
    assert parse(example).entries
    jsonschema.validate(yaml.safe_load(example), schema())


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert json.loads(json.dumps(schema())) == schema()


def test_its_limits_are_options_and_those_of_flags_come_first() -> None:
    found = parse(EXAMPLES[0]).limits
    options = found.over(CopyOptions(limit_requests=7))
    assert (options.limit_rate, options.limit_requests) == (50 << 20, 7)
    assert options.limit_hosts == found.hosts
    assert Limits().over(CopyOptions()) == CopyOptions()


def test_every_key_is_read() -> None:
    found = parse(EXAMPLES[0])
    assert found.limits == Limits(
        bytes_per_second=50 << 20,
        requests_per_second=200,
        hours=Hours(20 * 60, 6 * 60),
        hosts={"docker.io": HostLimits(requests_per_second=5, bytes_per_second=20 << 20, connections=4)},
    )
    assert found.entries == (
        Entry(
            name="team",
            source=Namespace("old.example", "team"),
            targets=(Namespace("new.example", "team"), Namespace("eu.example", "team")),
            repositories=Patterns(("app-*", "/^lib-(a|b)$/"), ("*-tmp",)),
            tags=TagChoice(
                patterns=Patterns((), ("/-rc[0-9]+$/",)),
                semver=">=1.2 <3",
                newest=10,
                sort="semver",
                pushed_within=90 * 86400.0,
                min_age=72 * 3600.0,
            ),
            platforms=("linux/amd64",),
            naming=Naming(renames=(Rename("^lib-(.*)$", r"libs/\1"),)),
            deletes=Deletes(mode="off", max_tags=100, max_percent=5, grace=7 * 86400.0),
            place="m.yaml:9",
        ),
    )
    assert found.place == "m.yaml"


def test_keys_left_out_have_the_defaults_of_an_entry() -> None:
    assert parse(EXAMPLES[1]) == MigrationFile(
        entries=(
            Entry(
                name="old.example",
                source=Namespace("old.example"),
                targets=(Namespace("new.example"),),
                place="m.yaml:3",
            ),
        ),
        digest=parse(EXAMPLES[1]).digest,
        place="m.yaml",
    )


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("referrers: false", "referrers", "off"),
        ("referrers: required", "referrers", "required"),
        ("referrers: True", "referrers", "warn"),
        ("delete: {mode: off}", "deletes", Deletes(mode="off")),
        ("delete: {mode: delete, grace: 0h}", "deletes", Deletes(mode="delete", grace=0)),
        (
            "delete: {mode: report, grace: 0, max_percent: 0.5}",
            "deletes",
            Deletes(mode="report", grace=0, max_percent=0.5),
        ),
        ("existing: refuse", "existing", "refuse"),
        ("untagged: true", "untagged", True),
        ("flatten: 1", "naming", Naming(flatten=1)),
        ("tags: {include: [1.20, 3, v1]}", "tags", TagChoice(patterns=Patterns(("1.20", "3", "v1")))),
        ("tags: {semver: 1.2}", "tags", TagChoice(semver="1.2")),
        ("tags: {pushed_after: 2026-01-31}", "tags", TagChoice(pushed_after=1769817600.0)),
        ("tags: {pushed_after: 2026-01-31T12:00:00Z}", "tags", TagChoice(pushed_after=1769860800.0)),
        ("tags: {pushed_after: 2026-01-31T12:00+02:00}", "tags", TagChoice(pushed_after=1769853600.0)),
        (
            "tags: {newest: 3, sort: pushed, min_age: 1.5h}",
            "tags",
            TagChoice(newest=3, sort="pushed", min_age=5400),
        ),
    ],
)
def test_how_values_are_written(text: str, field: str, value: Any) -> None:
    assert getattr(mirror(text), field) == value


def test_names_of_the_inventory_and_layouts() -> None:
    found = parse(
        "version: 1\nmirrors:\n"
        "- {source: corp/team, targets: [b.example/x]}\n"
        "- {source: oci:images, targets: [corp/app]}\n"
    )
    assert found.entries[0].source == Namespace("corp.example:5000", "team")
    assert found.entries[0].name == "corp/team"
    assert found.entries[1].source == LayoutReference("/folder/images")
    assert found.entries[1].targets == (Namespace("corp.example:5000", "app"),)


def test_hosts_of_limits_may_be_names_of_the_inventory() -> None:
    text = "version: 1\nlimits: {hosts: {corp: {connections: 3}}}\nmirrors: [{source: corp, targets: [b.io]}]"
    assert parse(text).limits.hosts == {"corp.example:5000": HostLimits(connections=3)}


def test_variables_are_replaced_in_values() -> None:
    text = "version: 1\nmirrors:\n- name: $${A}\n  source: ${A}/x\n  targets: ['${B}']\n  flatten: ${N}\n"
    (entry,) = parse(text, A="a.example", B="b.example", N="1").entries
    assert (entry.name, str(entry.source), entry.naming.flatten) == ("${A}", "a.example/x", 1)
    assert entry.targets == (Namespace("b.example"),)
    (entry,) = parse(text.replace("$${A}", "${C}"), A="a.example", B="b.example", N="1", C="x: {${A}").entries
    assert entry.name == "x: {${A}"


def test_a_number_may_come_from_a_variable_in_quotes() -> None:
    text = "version: 1\nmirrors: [{source: a.io, targets: [b.io], tags: {newest: '${N}'}, flatten: '1'}]"
    with pytest.raises(InvalidInput, match=r"flatten must be a whole number$"):
        parse(text, N="10")
    (entry,) = parse(text.replace("'1'", "1"), N="10").entries
    assert entry.tags.newest == 10


def test_a_host_of_limits_that_no_mirror_names_is_told() -> None:
    limits = "limits:\n  hosts:\n    b.oi: {}\n    a.io: {}\n"
    text = f"version: 1\n{limits}mirrors: [{{source: a.io, targets: [b.io]}}]"
    assert parse(text).warnings == ("m.yaml:4: limits.hosts: no mirror names the host 'b.oi'",)


def test_a_variable_in_a_list_in_brackets_needs_quotes() -> None:
    with pytest.raises(InvalidInput, match=r"m\.yaml:3:37: this is not YAML") as caught:
        parse("version: 1\nmirrors:\n- {source: a.example, targets: [x, ${B}]}\n", B="b.example")
    assert caught.value.advice is not None
    assert "needs quotes" in caught.value.advice.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("source: ${A}/x", r"m.yaml:3:13: mirrors\[0\].source: the environment variable A is not set"),
        ("source: '${}'", r"m.yaml:3:13: .*'\${}' is not of the form \${VARIABLE}"),
        ("source: '${A'", r"m.yaml:3:13: .*is not of the form"),
        ("source: '${A:-b}'", r"m.yaml:3:13: .*is not of the form"),
    ],
)
def test_a_variable_that_is_not_set_is_a_mistake(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse(f"version: 1\nmirrors:\n  - {text}\n    targets: [b.example]\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flaten: 1", r"m.yaml:5:5: mirrors\[0\] has an unknown key 'flaten'; known are name, source"),
        ("flatten: -1", r"m.yaml:5:14: mirrors\[0\].flatten must be from 0 to 255"),
        ("flatten: x", r"m.yaml:5:14: mirrors\[0\].flatten must be a whole number"),
        ("existing: skip", r"m.yaml:5:15: mirrors\[0\].existing must be overwrite or report or refuse"),
        ("referrers: yes", r"m.yaml:5:16: .* must be true or false or required"),
        ("delete: {mode: on}", r"m.yaml:5:20: .*mode must be off or report or delete or false"),
        ("delete: {max_percent: 101}", r"m.yaml:5:27: .*max_percent must be from 0 to 100"),
        ("delete: {max_tags: -1}", r"m.yaml:5:24: .*max_tags must be from 0 to"),
        ("delete: {grace: 7}", r"m.yaml:5:21: .*grace must be a duration such as 90d, 72h or 30m"),
        ("tags: {min_age: 3 weeks}", r"m.yaml:5:21: .*a duration such as"),
        ("tags: {pushed_after: 2026-13-01}", r"m.yaml:5:26: .*'2026-13-01' is not a date"),
        ("tags: {pushed_after: yesterday}", r"m.yaml:5:26: .*must be a date such as 2026-01-31"),
        ("tags: {newest: 0}", r"m.yaml:5:20: .*newest must be from 1"),
        ("tags: {newest: 1.5}", r"m.yaml:5:20: .*newest must be a whole number"),
        ("tags: {semver: '>2 <1'}", r"m.yaml:5:20: tags.semver: no version is in the range '>2 <1'"),
        ("tags: {semver: newer}", r"m.yaml:5:20: tags.semver: 'newer' is not a range"),
        ("tags: {include: ['a', '/(/']}", r"m.yaml:5:27: tags.include: '\(' is not a regular expression"),
        ("repositories: {exclude: ['/(/']}", r"m.yaml:5:30: repositories.exclude: '\(' is not a regular"),
        ("repositories: [a]", r"m.yaml:5:19: .*repositories must be a mapping, not a list"),
        ("repositories: {include: [A]}", r"m.yaml:5:19: repositories: .*'a.example/A'"),
        ("repositories: {include: [a/x, b/x]}\nflatten: 1", r"m.yaml:5:19: .*a/x and b/x both become x"),
        ("rename: [{match: (, to: a}]", r"m.yaml:5:14: rename: '\(' is not a regular expression"),
        ("rename: [{match: a, to: '\\1'}]", r"m.yaml:5:14: rename: .*does not fit the expression 'a'"),
        ("rename: [{match: a}]", r"m.yaml:5:14: .*has no to"),
        ("platforms: [linux]", r"m.yaml:5:17: platforms: 'linux' is not a platform"),
        ("name: ''", r"m.yaml:5:11: .*name must not be empty"),
        ("untagged: 'true'", r"m.yaml:5:15: .*untagged must be true or false"),
        ("targets: [c.example]", r"m.yaml:5:5: mirrors\[0\] has the key 'targets' twice"),
    ],
)
def test_a_mistake_has_line_and_column_and_what_is_expected(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        mirror(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "m.yaml: the migration file is empty"),
        ("a: [", "m.yaml:1:5: this is not YAML"),
        (
            "mirrors: []",
            r"m.yaml:1:10: mirrors must not be empty|m.yaml:1:1: the migration file has no version",
        ),
        ("---", "m.yaml:1:4: the migration file has no value|m.yaml: the migration file is empty"),
        ("version: 1\nmirrors:\nlimits: {}", "m.yaml:2:9: mirrors has no value"),
        ("version: 1\nmirrors: [{source: a.io, targets: [b.io]}]\nlimits:\n", "3:8: limits has no value"),
        ("version: 1\n---\nversion: 1\n", "m.yaml:2:1: the migration file has a second document"),
        ('{"version": 1, "mirrors": [], "repositories": [\n]}', "m.yaml: this is a plan; give the migration"),
        ("version: 2\nmirrors: []", "m.yaml:1:10: version must be 1"),
        ("version: 1\nmirrors: []", "m.yaml:2:10: mirrors must not be empty"),
    ],
)
def test_a_file_without_mirrors_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse(text)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ("source: team, targets: [b.example]", "m.yaml:2:20: source: 'team' names no registry"),
        ("source: a.example, targets: []", "2:40: .*targets must not be empty"),
        (
            "source: a.example, targets: ['oci:/tmp/x']",
            "targets: 'oci:/tmp/x' is a layout, and a target must",
        ),
        (
            "source: 'http://a.example/x', targets: [b.example]",
            "source: 'http://a.example/x' does not begin with",
        ),
        (
            "source: a.example, targets: [b.example, a.example/x]",
            "2:40: targets: .*hold the same repositories",
        ),
        ("source: 'oci:a:v1', targets: [b.example/x]", "2:20: source: .*names one image"),
        ("source: 'oci:a', targets: [b.example]", "2:38: targets: a layout is copied to"),
        ("source: 'oci:a', targets: [b.example/x], flatten: 1", "2:62: flatten: a layout is one repository"),
        ("source: 'oci:a', targets: [b.example/x], tags: {min_age: 1h}", "a layout has no push times"),
    ],
)
def test_a_mirror_that_cannot_work_is_refused(members: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse(f"version: 1\nmirrors: [{{{members}}}]")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ("hours: '20:00-20:00'", "2:17: limits.hours: '20:00-20:00' ends when it starts"),
        ("hours: 25:00-06:00", "2:17: limits.hours must be hours such as"),
        ("bytes_per_second: 0", "2:28: limits.bytes_per_second must be from 1"),
        ("bytes_per_second: 0MiB", "2:28: bytes_per_second: it must be above 0"),
        ("bytes_per_second: fast", "2:28: .*a size such as 50MiB"),
        ("requests_per_second: 0", "2:31: limits.requests_per_second must be above 0"),
        ("hosts: {docker.io: {requests: 1}}", "2:30: .*unknown key 'requests'"),
        ("hosts: {a.example: {}, A.example: {}}", "2:44: limits.hosts.A.example: the host is listed twice"),
        ("hosts: {'${A}': {}}", "2:18: a key of limits.hosts is not of the form host"),
    ],
)
def test_limits_that_cannot_work_are_refused(limits: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse(f"version: 1\nlimits: {{{limits}}}\nmirrors: [{{source: a.example, targets: [b.example]}}]")


APP = "repositories: {include: [app]}"
TO_T = "targets: [t.example]"


def pair(first: str, second: str) -> str:
    return f"version: 1\nmirrors:\n- {{{first}}}\n- {{{second}}}\n"


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        (f"source: a.example, {TO_T}", f"source: a.example, {TO_T}", "t.example"),
        (f"source: a.example, {TO_T}", f"source: a.example, {TO_T}, {APP}", "t.example"),
        (
            f"source: a.example, targets: [t.example/x], {APP}",
            f"source: b.example, {TO_T}, repositories: {{include: [x/app]}}",
            "t.example/x/app",
        ),
        (
            f"source: a.example, {TO_T}, {APP}, tags: {{include: [v1, v2]}}",
            f"source: b.example, {TO_T}, {APP}, tags: {{include: [v2]}}",
            "t.example/app:v2",
        ),
        (
            f"source: a.example, {TO_T}, repositories: {{include: [a/app]}}, flatten: 1",
            f"source: b.example, {TO_T}, repositories: {{include: [b/app]}}, flatten: 1",
            "t.example/app",
        ),
        (
            "source: 'oci:a', targets: [t.example/app]",
            "source: 'oci:b', targets: [t.example/app]",
            "t.example/app",
        ),
    ],
)
def test_two_mirrors_that_write_one_tag_are_refused(first: str, second: str, what: str) -> None:
    with pytest.raises(InvalidInput, match=rf"m.yaml:4:3: mirrors .* \(line 3\) and .* both write {what}$"):
        parse(pair(first, second))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("source: a.example, targets: [t.example/a]", "source: b.example, targets: [t.example/b]"),
        (f"source: a.example, {TO_T}", f"source: b.example, {TO_T}"),
        (
            f"source: a.example, {TO_T}, tags: {{include: ['v1*']}}",
            f"source: a.example, {TO_T}, tags: {{include: ['v2*']}}",
        ),
        (
            f"source: a.example, {TO_T}, tags: {{include: [v1]}}",
            f"source: a.example, {TO_T}, tags: {{include: [v2]}}",
        ),
        (
            f"source: a.example, {TO_T}, repositories: {{include: ['a*']}}",
            f"source: a.example, {TO_T}, repositories: {{include: ['b*']}}",
        ),
    ],
)
def test_mirrors_that_need_not_meet_are_allowed(first: str, second: str) -> None:
    assert len(parse(pair(first, second)).entries) == 2


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ("source: a.io/one, targets: [b.io/y]", "source: b.io/y, targets: [c.io/z]", "4:3: .*reads b.io/y"),
        ("source: b.io/y/x, targets: [c.io/z]", "source: a.io/one, targets: [b.io/y]", "3:3: .*reads b.io/y"),
        ("source: a.io, targets: [b.io]", "source: b.io, targets: [a.io]", "3:3: mirror 'a.io' reads a.io"),
        ("source: oci:lay, targets: [b.io/y/r]", "source: b.io/y, targets: [c.io]", "4:3: .*reads b.io/y/r"),
    ],
)
def test_a_mirror_that_reads_what_another_writes_is_refused(first: str, second: str, what: str) -> None:
    with pytest.raises(InvalidInput, match=rf"m.yaml:{what}.*line .* would depend on their order"):
        parse(f"version: 1\nmirrors:\n- {{{first}}}\n- {{{second}}}\n")


def test_a_mirror_may_read_beside_what_another_writes() -> None:
    parse(
        "version: 1\nmirrors:\n"
        "- {source: a.io, targets: [b.io/in], repositories: {include: [x]}}\n"
        "- {source: b.io, targets: [c.io], repositories: {include: [other]}}\n"
        "- {source: b.io, targets: [e.io], repositories: {exclude: ['in/*']}}\n"
        "- {source: b.io/out, targets: [d.io]}\n"
    )


def test_of_thousands_of_mirrors_the_two_that_meet_are_found() -> None:
    def app(number: int) -> str:
        return f"- {{source: a.example, {TO_T}, repositories: {{include: [app{number}]}}}}\n"

    text = "version: 1\nmirrors:\n" + "".join(map(app, range(3000)))
    assert len(parse(text).entries) == 3000
    with pytest.raises(InvalidInput, match=r"m\.yaml:3003:3: mirrors .* both write t\.example/app7$"):
        parse(text + app(7))


def test_a_file_is_known_by_its_content_after_variables() -> None:
    text = "version: 1\nmirrors:\n- source: ${A}\n  targets: [b.example]\n"
    digest = parse(text, A="a.example").digest
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert (
        parse("# moved\nversion: 1\nmirrors: [{targets: ['b.example'], source: a.example}]").digest == digest
    )
    assert parse(text, A="c.example").digest != digest


def test_a_file_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    with pytest.raises(InvalidInput, match="No such file"):
        read_migration(file)
    file.write_text("version: 1\nmirrors:\n- {source: oci:a, targets: ['${T}/app']}\n")
    (entry,) = read_migration(file, environ={"T": "t.example"}).entries
    assert entry.source == LayoutReference(str(tmp_path / "a"))
    assert entry.place == f"{file}:3"


def test_a_run_is_known_by_what_its_names_mean() -> None:
    """The same text with a relative layout is another run in another folder."""
    text = "version: 1\nmirrors:\n- source: oci:lay\n  targets: [new.example/a]\n"
    files = [
        parse_migration(text.encode(), "m.yaml", Path(each), Inventory(), {}) for each in ("/one", "/two")
    ]
    assert len({each.digest for each in files}) == 1, "reports of both can be merged"
    assert len({run_key(each, each.digest) for each in files}) == 2
    assert run_key(files[0], files[0].digest) == run_key(files[0], files[0].digest)
