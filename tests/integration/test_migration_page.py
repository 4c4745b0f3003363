"""The migration of docs/migrate.md, from start to cut-over: its file and commands as they are printed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder
from support.command import Crossdock, Finished
from support.docker_registry import DockerRegistry
from support.images import one_layer_image, push

pytestmark = pytest.mark.real

PAGE = (Path(__file__).parents[2] / "docs" / "migrate.md").read_text()
SECTION = PAGE.partition("## From start to cut-over\n")[2].partition("\n## ")[0]
FILE = re.search(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
COMMANDS = re.findall(r"^    crossdock (.*)$", SECTION, re.MULTILINE)


@pytest.fixture
def prefix(repository: str) -> str:
    return f"{repository}/team"


@pytest.fixture
def inventory(source: DockerRegistry, target: DockerRegistry, tmp_path: Path) -> Path:
    """The page's host names are these registries."""
    path = tmp_path / "inventory.yaml"
    registries = [
        {"name": name, "login_server": f"{name}.example", "tls": {"plain_http": True}}
        for name in ("old", "new")
    ]
    hosts = {"old.example": source.host, "new.example": target.host}
    path.write_text(json.dumps({"registries": registries, "hosts": hosts}))
    return path


def test_the_commands_of_a_migration_in_order(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    prefix: str,
    inventory: Path,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    assert FILE is not None
    text = FILE[1].replace("old.example/team", f"old.example/{prefix}")
    file = tmp_path / "migration.yaml"
    file.write_text(text.replace("new.example/team", f"new.example/{prefix}"))
    names = ("plan", "copy", "keep up", "last", "prove", "nothing left", "sample")
    assert len(COMMANDS) == len(names)
    commands = dict(zip(names, COMMANDS, strict=True))

    def run(name: str) -> Finished:
        words = [
            str(tmp_path / each) if each.endswith((".yaml", ".html", ".json")) else each
            for each in shlex.split(commands[name])
        ]
        return crossdock(*words, env={"CROSSDOCK_INVENTORY": str(inventory)})

    def push_more(tag: str) -> None:
        push(source.remote, f"{prefix}/app", builder, one_layer_image(builder, 3000)[0], tag)

    push_more("v1")
    push_more("v2")
    planned = run("plan")
    assert planned.code == 0, str(planned)
    assert "2 " in planned.stdout
    assert (tmp_path / "plan.html").read_text().startswith("<!doctype html>")
    assert run("nothing left").code == 12, "there is something to do"
    assert run("prove").code == 7
    copied = run("copy")
    assert "2 copied" in copied.stdout, str(copied)
    assert json.loads((tmp_path / "report.json").read_text())["totals"]["copied"] == 2
    push_more("v3")
    assert "1 copied, 2 unchanged" in run("keep up").stdout
    push_more("v4")
    assert "1 copied, 3 unchanged" in run("last").stdout
    assert run("prove").code == 0
    assert run("nothing left").code == 0
    assert run("sample").code == 0
    assert target.remote.tags(f"{prefix}/app") == ["v1", "v2", "v3", "v4"]
