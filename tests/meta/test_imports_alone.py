"""Every module can be imported first: no cycle hides behind the order in which tests import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import crossdock

SRC = Path(crossdock.__file__).parent


def module_name(path: Path) -> str:
    parts = ("crossdock", *path.relative_to(SRC).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = sorted(module_name(path) for path in SRC.rglob("*.py") if path.name != "__main__.py")


@pytest.mark.parametrize("name", MODULES)
def test_the_module_imports_alone_and_without_warnings(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import {name}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
