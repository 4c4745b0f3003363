"""Lists are complete or an error, for every command that reads one; invalid entries are skipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.command import DONE, NOT_FOUND, SOURCE, USAGE, Crossdock
from support.scripted import Before, Reply, Request, ScriptedRegistry

NOTHING_MATCHED = 12
Start = Callable[..., ScriptedRegistry]


@pytest.fixture
def start(closing: ExitStack) -> Start:
    return lambda before=None, **how: ScriptedRegistry(closing, before, is_strict=True, **how)


def paged(path: str, member: str, names: list[str], link: str = "", most: int = 4) -> Before:
    """A list with its own page size; `link` is a template for the next page's path; empty: no Link."""

    def before(request: Request) -> Reply | None:
        if request.path != path:
            return None
        rest = [name for name in names if name > request.query.get("last", "")]
        page = rest[: int(request.query["n"])] if not link else rest[:most]
        headers = {}
        if link and len(rest) > most:
            headers["Link"] = link.format(f"{path}?last={page[-1]}&n={most}")
        return Reply.json({member: page}, **headers)

    return before


@pytest.mark.parametrize(
    "link", ['{}; rel="next"', "<{}>; rel='next'", "<{}>", "<http://registry.internal{}>; rel=next"]
)
def test_a_mirror_follows_links_as_servers_write_them(crossdock: Crossdock, start: Start, link: str) -> None:
    names = [f"team/app{number}" for number in range(6)]
    source, target = start(paged("/v2/_catalog", "repositories", names, link)), start()
    for name in names:
        source.image(name, "v1", name)
    done = crossdock.ok("mirror", source.host, target.host, "--output", "json", "--progress", "none")
    assert (done.result["totals"]["repositories"], done.result["totals"]["copied"]) == (6, 6)
    assert {name for name, _ in target.manifests} == set(names)


def test_a_catalog_without_links_is_read_to_its_end(crossdock: Crossdock, start: Start) -> None:
    names = [f"team/app{number:03}" for number in range(130)]
    source = start(paged("/v2/_catalog", "repositories", names))
    listed = crossdock.ok("acr", "repository", "list", "-n", source.host, "-o", "tsv")
    assert listed.stdout.split() == names
    for name in names:
        source.image(name, "v1")
    pairs = crossdock.ok("mirror", source.host, "other.example", "--dry-run").stdout.splitlines()
    assert len(pairs) == 130


def test_tags_without_links_are_read_to_their_end(crossdock: Crossdock, start: Start) -> None:
    tags = [f"v{number:04}" for number in range(1500)]
    source = start(paged("/v2/team/app/tags/list", "tags", tags))
    assert crossdock.ok("tags", f"{source.host}/team/app").stdout.split() == tags
    shown = crossdock.ok("acr", "repository", "show-tags", "-n", source.host, "--repository", "team/app")
    assert json.loads(shown.stdout) == tags


def test_a_signature_on_the_second_page_of_tags_is_found(crossdock: Crossdock, start: Start) -> None:
    """The engine reads the same lists: a page that was cut would cost a signature."""
    source, target = start(), start()
    image = source.image("app", "v1")
    stem = image["digest"].replace(":", "-")
    fillers = [f"sha256-{number:064x}.sig" for number in range(1100)]
    tags = sorted([*fillers, f"{stem}.sig", "v1"])
    source.image("app", f"{stem}.sig", "signature")
    source.before = paged("/v2/app/tags/list", "tags", tags)
    crossdock.copy(f"{source.host}/app:v1", f"{target.host}/app:v1")
    assert target.tags("app") == [f"{stem}.sig", "v1"]


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("tags", "{}/team/app"), "/v2/team/app/tags/list"),
        (("mirror", "{}", "other.example"), "/v2/_catalog"),
        (("acr", "repository", "list", "-n", "{}"), "/v2/_catalog"),
        (("acr", "manifest", "list-metadata", "{}/team/app"), "/acr/v1/team/app/_manifests"),
    ],
    ids=["tags", "mirror", "repositories", "manifests"],
)
@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("see /v2/page/2", "the Link to the next page is not understood: 'see /v2/page/2'"),
        ('<?page=2>; rel="next"', "the list repeats a page instead of continuing"),
    ],
    ids=["unclear", "repeating"],
)
def test_an_incomplete_list_is_an_error(
    crossdock: Crossdock, start: Start, words: tuple[str, ...], path: str, link: str, said: str
) -> None:
    def before(request: Request) -> Reply | None:
        if request.path != path:
            return None
        document = {
            "tags": ["v1"],
            "repositories": ["team/app"],
            "manifests": [{"digest": f"sha256:{7:064x}", "tags": []}],
        }
        return Reply.json(document, Link=link)

    source = start(before)
    crossdock.fail(*(word.format(source.host) for word in words), code=SOURCE, naming=[said, source.host])


@pytest.mark.parametrize(
    "odd", [None, 7, {}, "", "bad tag", "x/y", "-x", "é", "a" * 129, "\x1b[31mred"], ids=repr
)
def test_a_tag_that_is_none_ends_nothing(crossdock: Crossdock, start: Start, odd: object) -> None:
    def before(request: Request) -> Reply | None:
        if request.path != "/v2/team/app/tags/list":
            return None
        return Reply.json({"name": "team/app", "tags": ["v1", odd]})

    source, target = start(before), start()
    image, other = source.image("team/app", "v1"), source.image("team/other", "v2", "2")
    report = crossdock.home / "report.json"
    done = crossdock.ok(
        "mirror", source.host, target.host, "--output", "json", "--progress", "plain", "--report", report
    )
    assert target.has("team/app", "v1", image["digest"])
    assert target.has("team/other", "v2", other["digest"])
    (warning,) = done.result["warnings"]
    assert warning.startswith("list of tags of team/app: 1 invalid entry was left out: ")
    assert json.loads(report.read_text())["warnings"] == [warning]
    assert "warning: list of tags of team/app" in done.stderr
    assert "\x1b" not in done.stderr
    listed = crossdock.ok("tags", f"{source.host}/team/app")
    assert listed.stdout == "v1\n"
    assert listed.stderr.startswith("warning: list of tags of team/app: 1 invalid entry was left out")


@pytest.mark.parametrize(
    "odd", [None, 7, {}, "", "Upper/Case", "a//b", "/a", "a/", "é", "a b", "a" * 256], ids=repr
)
def test_a_repository_that_is_none_ends_nothing(crossdock: Crossdock, start: Start, odd: object) -> None:
    def before(request: Request) -> Reply | None:
        return Reply.json({"repositories": [odd, "team/app"]}) if request.path == "/v2/_catalog" else None

    source, target = start(before), start()
    image = source.image("team/app", "v1")
    done = crossdock.ok("mirror", source.host, target.host, "--output", "json", "--progress", "none")
    assert target.has("team/app", "v1", image["digest"])
    (warning,) = done.result["warnings"]
    assert warning.startswith("list of repositories: 1 invalid entry was left out: ")
    listed = crossdock.ok("acr", "repository", "list", "-n", source.host, "-o", "tsv")
    assert listed.stdout == "team/app\n"
    assert listed.stderr == f"warning: {warning}\n"


def test_a_name_too_long_behind_the_targets_prefix_fails_alone(crossdock: Crossdock, start: Start) -> None:
    source, target = start(), start()
    source.image("a" * 250, "v1")
    image = source.image("short", "v1")
    done = crossdock("mirror", source.host, f"{target.host}/mirrored", "--output", "json")
    assert done.code == USAGE
    assert done.result["totals"]["failed"] == 1
    assert "more than 255" in done.stderr
    assert target.has("mirrored/short", "v1", image["digest"])


def test_an_entry_of_azures_lists_that_is_none_is_left_out(crossdock: Crossdock, start: Start) -> None:
    entry = {"digest": f"sha256:{7:064x}", "tags": ["v1"]}

    def before(request: Request) -> Reply | None:
        if request.path == "/acr/v1/team/app/_manifests":
            return Reply.json({"manifests": [entry, None, {"digest": "none"}, 7]})
        if request.path == "/acr/v1/team/app/_tags":
            return Reply.json({"tags": [{"name": "v1"}, {"name": "bad tag"}, None]})
        return None

    source = start(before)
    listed = crossdock.ok("acr", "manifest", "list-metadata", f"{source.host}/team/app")
    assert json.loads(listed.stdout) == [entry]
    words = "list of manifests of team/app: 3 invalid entries were left out: null, dict, 7"
    assert listed.stderr == f"warning: {words}\n"
    shown = crossdock.ok("acr", "repository", "show-tags", "-n", source.host, "--repository", "team/app")
    assert json.loads(shown.stdout) == ["v1"]
    assert "left out: dict, null" in shown.stderr


def test_azures_pages_without_links_are_continued_behind_the_last_digest(
    crossdock: Crossdock, start: Start
) -> None:
    digests = [f"sha256:{number:064x}" for number in range(230)]

    def before(request: Request) -> Reply | None:
        if request.path != "/acr/v1/team/app/_manifests":
            return None
        rest = [digest for digest in digests if digest > request.query.get("last", "")]
        return Reply.json({"manifests": [{"digest": digest} for digest in rest[: int(request.query["n"])]]})

    source = start(before)
    listed = crossdock.ok("acr", "manifest", "list-metadata", f"{source.host}/team/app")
    assert [each["digest"] for each in json.loads(listed.stdout)] == digests
    top = crossdock.ok("acr", "manifest", "list-metadata", f"{source.host}/team/app", "--top", "100")
    assert len(json.loads(top.stdout)) == 100


@pytest.mark.parametrize(
    ("place", "flags", "said"),
    [
        ("", ("--repository", "nosuch*"), "is wanted: 'nosuch*'"),
        ("/nosuchteam", (), "none of the 2 repositories of HOST is below nosuchteam/; it lists 'team/app'"),
        ("/team/app", (), "team/app is a repository: mirror HOST/team with --repository app"),
        ("/team", ("--tags", "9*"), "'9*' matches none of the 2 tags of the 2 repositories of HOST/team"),
        ("", ("--exclude", "*"), "all of the 2 repositories of HOST are excluded: '*'"),
        (
            "/team",
            ("--exclude", "a*", "--exclude", "o*"),
            "all of the 2 repositories of HOST/team are excluded: 'a*', 'o*'",
        ),
        (
            "",
            ("--repository", "*/app", "--exclude", "team/*"),
            "all of the 1 repository of HOST for '*/app' are excluded: 'team/*'",
        ),
        (
            "",
            ("--repository", "team/app", "--exclude", "team/*"),
            "all repositories that are named are excluded: 'team/*'",
        ),
    ],
    ids=["pattern", "prefix", "repository", "tags", "excluded", "below", "matching", "named"],
)
def test_a_mirror_of_nothing_says_why_and_has_its_own_code(
    crossdock: Crossdock, start: Start, tmp_path: Path, place: str, flags: tuple[str, ...], said: str
) -> None:
    source, target = start(), start()
    source.image("team/app", "v1")
    source.image("team/other", "v2")
    words = ("mirror", f"{source.host}{place}", target.host, *flags)
    report = tmp_path / "report.json"
    done = crossdock(*words, "--output", "json", "--report", report)
    assert done.code == NOTHING_MATCHED, str(done)
    assert said.replace("HOST", source.host) in done.error
    assert done.error.startswith("crossdock: nothing to mirror: ")
    assert done.result["totals"]["copies"] == 0
    error = json.loads(report.read_text())["error"]
    assert (error["class"], error["exit_code"]) == ("nothing matched", NOTHING_MATCHED)
    assert crossdock(*words, "--dry-run").code == NOTHING_MATCHED
    assert target.seen == []


def test_a_registry_without_content_is_nothing_as_well(crossdock: Crossdock, start: Start) -> None:
    source = start()
    done = crossdock("mirror", source.host, "other.example")
    assert done.code == NOTHING_MATCHED
    first, advice = done.stderr.splitlines()[-2:]
    assert first == f"crossdock: nothing to mirror: {source.host} lists no repositories"
    assert advice.startswith("  a login may show more: crossdock login ")
    done = crossdock("mirror", f"{source.host}/team", "other.example", "--dry-run")
    assert done.code == NOTHING_MATCHED
    assert f"{source.host} lists no repositories" in done.stderr


def test_a_repository_that_is_named_and_missing_is_not_mirrored_again(
    crossdock: Crossdock, start: Start
) -> None:
    unknown = Reply.error(404, "NAME_UNKNOWN")
    source = start(lambda request: unknown if request.path.startswith("/v2/team/xyz/") else None)
    target = start()
    source.image("team/app", "v1")
    words = ("mirror", source.host, target.host, "--progress", "none", "--repository", "team/xyz")
    done = crossdock(*words)
    assert done.code == NOT_FOUND
    assert done.stderr.splitlines()[-1] == "crossdock: 1 of 1 copies failed"
    done = crossdock(*words, "--repository", "team/app")
    assert done.code == NOT_FOUND
    assert done.stderr.splitlines()[-1] == "crossdock: 1 of 2 copies failed"


def test_a_list_that_is_too_long_says_nothing_of_tags(crossdock: Crossdock, start: Start) -> None:
    body = b'{"tags": ["' + b"a" * (16 << 20) + b'"]}'
    source = start(lambda request: Reply(200, body=body) if request.path.endswith("/tags/list") else None)
    for words in (("tags", f"{source.host}/app"), ("acr", "repository", "show-tags", f"-n{source.host}")):
        more = ("--repository", "app") if words[0] == "acr" else ()
        line = crossdock.fail(*words, *more, code=SOURCE, naming=["over the limit of 16777216 bytes"])
        assert line.endswith("; report it to the registry's operator")
        assert "tagged" not in line


def test_one_pattern_of_several_that_matches_nothing_is_a_warning(crossdock: Crossdock, start: Start) -> None:
    source, target = start(), start()
    source.image("team/app", "v1")
    flags = ("--repository", "team/*", "--repository", "tema/*", "--tags", "v*", "--tags", "9*")
    done = crossdock("mirror", source.host, target.host, *flags, "--output", "json", "--progress", "none")
    assert done.code == DONE
    assert done.result["warnings"] == [
        f"no repository of {source.host} matches 'tema/*'",
        f"no tag of {source.host} matches '9*'",
    ]
