"""The test kit is a separate distribution, and the product imports it in one place."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from setuptools import find_packages

import crossdock

ROOT = Path(__file__).parents[2]
SRC, KIT = ROOT / "src", ROOT / "testkit/src"
MODULES = sorted(
    ".".join(path.relative_to(KIT).with_suffix("").parts).removesuffix(".__init__")
    for path in KIT.rglob("*.py")
)
DEV_WITHOUT_KIT = """
import sys
sys.modules["crossdock_testing"] = None
from crossdock.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_wheel_holds_no_simulator() -> None:
    packages = find_packages(str(SRC))
    assert {name.split(".")[0] for name in packages} == {"crossdock"}
    assert not {"testing", "dev"} & {part for name in packages for part in name.split(".")}


def test_the_product_names_the_kit_in_one_module() -> None:
    naming = [path for path in SRC.rglob("*.py") if "crossdock_testing" in path.read_text("utf-8")]
    assert naming == [SRC / "crossdock/service/run.py"]


def test_the_kit_is_of_the_same_version() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "testkit/pyproject.toml").read_text("utf-8"))["project"]
    [needed] = map(Requirement, project["dependencies"])
    assert project["version"] == crossdock.__version__
    assert (needed.name, str(needed.specifier)) == ("crossdock", f"=={crossdock.__version__}")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_the_kit_imports_alone(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import {name}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_serve_dev_without_the_kit_says_how_to_get_it(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text("registries: []\n")
    words = ["serve", "--dev", "--inventory", str(inventory), "--state", str(tmp_path / "state")]
    done = subprocess.run(
        [sys.executable, "-c", DEV_WITHOUT_KIT, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "crossdock-testing, which is not installed" in done.stderr
    assert "make build" in done.stderr
    assert not (tmp_path / "state").exists()
