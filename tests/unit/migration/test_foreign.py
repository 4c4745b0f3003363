"""Files of regsync and of skopeo sync as migration files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from crossdock.errors import InvalidInput
from crossdock.migration.file import parse_migration
from crossdock.migration.foreign import Tool, translate, translate_file

REGSYNC = r"""
version: 1
creds:
  - registry: mirror.example:5000
    tls: disabled
    reqPerSec: 50
    reqConcurrent: 500
  - registry: docker.io
    user: "{{env \"HUB_USER\"}}"
    pass: hunter2
defaults:
  ratelimit: {min: 100, retry: 15m}
  parallel: 2
  interval: 60m
  referrers: true
x-common: &tags
  allow: ["latest", "3", "3\\.\\d+"]
sync:
  - source: busybox:latest
    target: mirror.example:5000/library/busybox:latest
    type: image
  - source: alpine
    target: mirror.example:5000/library/alpine
    type: repository
    tags: *tags
  - source: debian
    target: mirror.example:5000/library/debian
    type: repository
    tags: *tags
  - source: alpine
    target: second.example/library/alpine
    type: repository
    tags: *tags
  - source: ghcr.io/tools/cli
    target: mirror.example:5000/tools/command
    type: repository
    platform: linux/amd64
    referrers: false
    tags: {semverRange: [">=1.2 <2", "^3"], deny: [".*-beta"]}
  - source: "{{env \"OLD\"}}"
    target: new.example/all
    type: registry
    repos: {allow: ["team/.*"], deny: ["team/tmp-[0-9]+"]}
    hooks: {post: {type: script, params: ["a"]}}
  - source: app:v1
    target: mirror.example:5000/app:v2
    type: image
  - source: ocidir:///var/images:v1
    target: mirror.example:5000/images:v1
    type: image
"""

SKOPEO = r"""
registry.example.com:
  images:
    busybox: []
    team/redis: ["1.0", "2.0", "sha256:0000000000000000000000000000000011111111111111111111111111111111"]
    other: ["1.0", "2.0"]
  images-by-tag-regex:
    nginx: ^1\.13\.[12]-alpine-perl$
  images-by-semver:
    alpine: ["3.12 - 3.13", ">= 3.17"]
  credentials: {username: john, password: hunter2}
  tls-verify: true
  cert-dir: /home/john/certs
quay.io:
  tls-verify: false
  images:
    coreos/etcd: [latest]
"""


def mirrors(tool: Tool, text: str, target: str = "") -> tuple[list[dict[str, Any]], str]:
    found = translate(tool, text.encode(), f"{tool}.yml", target)
    parse_migration(
        found.text.encode(), "m.yaml", Path(), environ={"OLD": "old.example", "TARGET": "t.example"}
    )
    assert "hunter2" not in found.text
    assert all(f"# - {note}\n" in found.text for note in found.notes)
    return yaml.safe_load(found.text)["mirrors"], "\n".join(found.notes)


def test_a_file_of_regsync() -> None:
    found, notes = mirrors("regsync", REGSYNC)
    assert found == [
        {
            "source": "docker.io/library",
            "targets": ["mirror.example:5000/library"],
            "repositories": {"include": ["busybox"]},
            "tags": {"include": ["latest"]},
            "referrers": True,
        },
        {
            "source": "docker.io/library",
            "targets": ["mirror.example:5000/library"],
            "repositories": {"include": ["alpine", "debian"]},
            "tags": {"include": ["latest", "3", r"/^3\.\d+$/"]},
            "referrers": True,
        },
        {
            "source": "docker.io/library",
            "targets": ["second.example/library"],
            "repositories": {"include": ["alpine"]},
            "tags": {"include": ["latest", "3", r"/^3\.\d+$/"]},
            "referrers": True,
        },
        {
            "source": "ghcr.io/tools",
            "targets": ["mirror.example:5000/tools"],
            "repositories": {"include": ["cli"]},
            "rename": [{"match": "^cli$", "to": "command"}],
            "tags": {"exclude": ["/^.*-beta$/"], "semver": ">=1.2 <2 || ^3"},
            "platforms": ["linux/amd64"],
            "referrers": False,
        },
        {
            "source": "${OLD}",
            "targets": ["new.example/all"],
            "repositories": {"include": ["/^team/.*$/"], "exclude": ["/^team/tmp-[0-9]+$/"]},
            "referrers": True,
        },
        {
            "source": "oci:/var/images",
            "targets": ["mirror.example:5000/images"],
            "tags": {"include": ["v1"]},
            "referrers": True,
        },
    ]
    for words in (
        "creds[0].tls: ",
        "creds[1].user: ",
        "creds[1].pass: log in by `crossdock login`",
        "defaults.interval: nothing is repeated",
        "sync[5].hooks: no commands are run",
        "sync[6]: left out: a tag cannot be renamed",
        "sync[4].tags.semverRange: pre-releases",
    ):
        assert words in notes
    assert "parallel" not in notes


def test_limits_of_regsync() -> None:
    document = yaml.safe_load(translate("regsync", REGSYNC.encode(), "r.yml").text)
    assert document["limits"] == {
        "hosts": {"mirror.example:5000": {"requests_per_second": 50, "connections": 256}}
    }


def test_mirrors_of_regsync_that_differ_in_their_target_are_one() -> None:
    text = """
    sync:
      - {source: a.example/app, target: b.example/app, type: repository}
      - {source: a.example/app, target: c.example/x/app, type: repository}
      - {source: a.example, target: d.example, type: registry}
    """
    found, _ = mirrors("regsync", text)
    assert [(each["source"], each["targets"]) for each in found] == [
        ("a.example", ["b.example", "c.example/x"]),
        ("a.example", ["d.example"]),
    ]
    found, _ = mirrors(
        "regsync", "sync: [{source: a, target: b.example/x/a, type: repository}]", "new.example"
    )
    assert found[0]["targets"] == ["new.example/x"]


@pytest.mark.parametrize(
    ("members", "tags"),
    [
        ("tags: {allow: [a, b]}, tagSets: [{allow: [c]}]", [{"include": ["c", "a", "b"]}]),
        (
            "tags: {allow: [a]}, tagSets: [{semverRange: ['>1']}]",
            [{"semver": ">1"}, {"include": ["a"]}],
        ),
        ("tags: {deny: ['a|b']}", [{"exclude": ["/^a|b$/"]}]),
        ("tags: {allow: ['[${]']}", [{"include": ["/^[$${]$/"]}]),
        ("tags: {}", [{}]),
    ],
)
def test_tags_of_regsync(members: str, tags: list[dict[str, Any]]) -> None:
    text = f"sync: [{{source: a.example/app, target: b.example/app, type: repository, {members}}}]"
    assert [each.get("tags", {}) for each in mirrors("regsync", text)[0]] == tags


@pytest.mark.parametrize(
    "members",
    [
        "source: a.example/app, target: b.example/app, type: repository, tags: {deny: ['(?i']}",
        "source: a.example/app, target: b.example/app, type: repository, tags: {semverRange: [new]}",
        "source: a.example/app, target: 'ocidir://there', type: repository",
        "source: '{{file \"a\"}}/app', target: b.example/app, type: repository",
        "source: 'a.example/app@sha256:0', target: 'b.example/app', type: image",
    ],
)
def test_unsupported_settings_are_left_out_and_noted(members: str) -> None:
    other = "{source: a.example/x, target: b.example/x, type: repository}"
    found, notes = mirrors("regsync", f"sync: [{{{members}}}, {other}]")
    assert [each["repositories"] for each in found] == [{"include": ["x"]}]
    assert re.search(r"^sync\[0\]: left out: ", notes, re.MULTILINE)
    with pytest.raises(InvalidInput, match="nothing in it can be mirrored: "):
        translate("regsync", f"sync: [{{{members}}}]".encode(), "r.yml")


def test_a_file_of_skopeo_sync() -> None:
    found, notes = mirrors("skopeo", SKOPEO)
    common = {"source": "registry.example.com", "targets": ["${TARGET}"], "flatten": 1}
    assert found == [
        {**common, "repositories": {"include": ["busybox"]}},
        {
            **common,
            "repositories": {"include": ["team/redis", "other"]},
            "tags": {"include": ["1.0", "2.0"]},
        },
        {
            **common,
            "repositories": {"include": ["nginx"]},
            "tags": {"include": [r"/^1\.13\.[12]-alpine-perl$/"]},
        },
        {
            **common,
            "repositories": {"include": ["alpine"]},
            "tags": {"semver": "3.12 - 3.13 || >= 3.17"},
        },
        {
            **common,
            "source": "quay.io",
            "repositories": {"include": ["coreos/etcd"]},
            "tags": {"include": ["latest"]},
        },
    ]
    assert notes.index("credentials") < notes.index("cert-dir")  # in the file's order
    for words in (
        "registry.example.com.credentials: log in",
        "registry.example.com.cert-dir: ",
        "quay.io.tls-verify: certificates are always checked",
        "registry.example.com.images.team/redis: sha256:0000",
        "all: repositories keep the last part of their name",
    ):
        assert words in notes
    assert "registry.example.com.tls-verify" not in notes


def test_a_target_is_given_for_skopeo(tmp_path: Path) -> None:
    (tmp_path / "sync.yml").write_text("quay.io: {images: {coreos/etcd: [latest]}}")
    found = translate_file("skopeo", tmp_path / "sync.yml", "docker://new.example/all/")
    entry = parse_migration(found.text.encode(), "m.yaml", Path()).entries[0]
    assert (
        str(entry.target_reference(entry.targets[0], "coreos/etcd", "latest"))
        == "new.example/all/etcd:latest"
    )


def test_names_that_become_one_are_noted() -> None:
    found = translate("skopeo", b"quay.io: {images: {a/app: [], b/app: []}}", "s.yml")
    assert any("a/app and b/app both become app" in note for note in found.notes)


@pytest.mark.parametrize(
    ("tool", "text", "words"),
    [
        ("regsync", "sync: {", "r.yml:1:8: this is not YAML"),
        ("regsync", "- a", "this must be a mapping"),
        ("regsync", "sync: a", "sync must be a list"),
        ("regsync", "sync: [a]", r"sync\[0\] must be a mapping"),
        ("regsync", "sync: [{source: a}]", r"sync\[0\] has no target"),
        (
            "regsync",
            "sync: [{source: a, target: b.example/b, type: x}]",
            "must be registry, repository or image",
        ),
        ("regsync", "creds: []", "nothing in it can be mirrored"),
        ("skopeo", "quay.io: [a]", "quay.io must be a mapping"),
        ("skopeo", "quay.io: {images: {a: b}}", "quay.io.images.a must be a list"),
        ("skopeo", "\x00", "this is not YAML"),
    ],
)
def test_other_files_are_refused(tool: Tool, text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        translate(tool, text.encode(), "r.yml")
