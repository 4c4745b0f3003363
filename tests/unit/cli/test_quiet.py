"""``-q``: a command that succeeds prints nothing on stderr and at most one line on stdout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossdock.cli.command import run
from crossdock.cli.commands import COMMANDS, acr
from crossdock.imagebuilder import ImageBuilder

ALL = [(name,) for name in COMMANDS] + [("acr", name) for name in acr.COMMANDS]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    builder = ImageBuilder(tmp_path / "images")
    for tag in ("v1", "v2"):
        builder.tag(builder.image([builder.random_layer(500)]), tag)
    (tmp_path / "list").write_text("oci:images:v1 oci:copy:1\noci:images:v2 oci:copy:2 oci:copy:3\n")
    (tmp_path / "empty").write_text("# nothing\n")
    report = {"source": "a.example", "targets": ["b.example"], "totals": {"tags": 1}, "copies": []}
    for shard in ("0/3", "1/3"):  # joining them warns of the third
        Path(f"report{shard[0]}").write_text(json.dumps({**report, "shard": shard}))
    return tmp_path


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_takes_it(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "-q", "--help"]) == 0
    assert "-q, --quiet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("copy oci:images:v1 oci:copy:1", "copied oci:images:v1 -> oci:copy:1  new  sha256:"),
        ("copy oci:images:v1 oci:copy:1 oci:copy:2", "2 of 2 targets have sha256:"),
        ("copy --from-file list", "copied 3 of 3  "),
        ("copy --from-file empty", "copied 0 of 0  "),
        ("tags oci:images", "2 tags"),
        ("inspect oci:images:v1", "sha256:"),
        ("registries", ""),
        ("registries quay.io", "quay.io is quay"),
        ("state list", ""),
        ("state prune", "forgot 0 uploads"),
        ("runs list", ""),
        ("report merge joined report0 report1", "joined 2 reports: 2 tags"),
        ("acr list", ""),
    ],
)
def test_one_line_at_most(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words.split(), "-q"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert len(out.splitlines()) <= 1
    assert out.startswith(line)


def test_json_is_not_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tags", "oci:images", "--output", "json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["tags"] == ["v1", "v2"]


def test_an_error_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tags", "oci:none", "-q"]) != 0
    assert capsys.readouterr().err.startswith("crossdock: ")
