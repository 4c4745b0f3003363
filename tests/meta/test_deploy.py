"""The files in ``deploy/``: read by crossdock's own readers, and by systemd where it is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crossdock.inventory.read import read_inventory
from crossdock.service.config import read_settings
from crossdock.service.identity.rights import Rights
from support.command import MODULE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "crossdock.service").read_text("utf-8")
CONTAINERFILE = (DEPLOY / "Containerfile").read_text("utf-8")


def directives(name: str) -> list[str]:
    """The values of a directive of the unit, continued lines joined."""
    return re.findall(rf"^{name}=(.*)$", UNIT.replace("\\\n", ""), re.MULTILINE)


def test_the_inventory_and_the_settings_are_good_and_fit_together() -> None:
    inventory = read_inventory(DEPLOY / "inventory.yaml")
    settings = read_settings(DEPLOY / "settings.yaml")
    Rights(settings.principals)
    names = {each.name for each in inventory.registries}
    given = {name for who in settings.principals for role in who.roles for name in role.registries}
    assert given == names


def test_every_credential_that_the_files_name_is_loaded_by_the_unit() -> None:
    texts = [(DEPLOY / name).read_text("utf-8") for name in ("inventory.yaml", "settings.yaml")]
    named = set(re.findall(r"/run/credentials/crossdock\.service/(\S+)", "".join(texts)))
    loaded = {each.partition(":")[0] for each in directives("LoadCredential")}
    assert named | set(re.findall(r"%d/(\S+)", UNIT)) == loaded


@pytest.mark.parametrize("place", ["unit", "container"])
def test_every_flag_is_one_of_the_command(place: str) -> None:
    if place == "unit":
        [line] = directives("ExecStart")
        words = line.split()[1:]
    else:
        entry = re.search(r"^CMD (\[.*\])$", CONTAINERFILE.replace("\\\n", ""), re.MULTILINE)
        assert entry is not None
        words = json.loads(entry[1])
    assert words[0] == "serve"
    shown = subprocess.run(
        [*MODULE, "serve", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    flags = {word for word in words if word.startswith("--")}
    assert flags
    assert flags <= set(re.findall(r"--[a-z-]+", shown.stdout))


def test_the_unit_stops_the_service_later_than_it_stops_itself() -> None:
    from crossdock.service.operations.imports import STOP_S
    from crossdock.service.run import GRACE

    assert directives("TimeoutStopSec") == ["45"]
    assert STOP_S + GRACE < 45


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    unit = tmp_path / "crossdock.service"
    unit.write_text(UNIT.replace("/opt/crossdock/bin/crossdock", sys.executable))
    done = subprocess.run(
        [program, "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if "crossdock.service" in line]
    assert said == []


def test_the_last_stage_of_the_container_runs_as_nobody_and_builds_nothing() -> None:
    stages = re.split(r"^FROM ", CONTAINERFILE, flags=re.MULTILINE)[1:]
    last = stages[-1]
    assert len(stages) == 2
    assert not re.search(r"gcc|cargo|apt-get|pip\b|rust", last)
    users = re.findall(r"^USER (.*)$", last, re.MULTILINE)
    assert users
    assert users[-1].split(":")[0].isdigit()
    assert users[-1] != "0:0"
    assert last.index("\nUSER ") < last.index("\nENTRYPOINT ")
    assert "\nHEALTHCHECK " in last
    assert "--no-cache-dir" in stages[0]
    for copied in re.findall(r"^COPY (?!--from)(\S+)", CONTAINERFILE, re.MULTILINE):
        assert (ROOT / copied).exists() or copied == "dist"  # which `make wheels` fills


def test_secrets_and_what_was_built_here_do_not_go_into_the_image() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split()
    assert {".git", ".venv", ".az", "rivals", "**/*.so"} <= set(ignored)
