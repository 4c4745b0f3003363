"""Stubs match the compiled kernels, the TLS engine and the twins."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "src" / "crossdock"
KERNELS = ["buffers", "digest"]


@pytest.mark.skipif(
    os.environ.get("CROSSDOCK_KERNELS") == "pure", reason="CROSSDOCK_KERNELS=pure was asked for"
)
def test_stubs_agree_with_what_is_compiled() -> None:
    modules = [f"crossdock._ext.{name}" for name in KERNELS]
    if importlib.util.find_spec("crossdock_tls"):
        modules.append("crossdock_tls")
    allowed = ["--allowlist", "tests/meta/stubtest-allow.txt", "--ignore-unused-allowlist"]
    result = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", *modules, *allowed, "--mypy-config-file", "pyproject.toml"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def signatures(path: Path) -> dict[str, str]:
    """Every function, method and property of the file with its arguments and result, but private ones."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        members = [node] if isinstance(node, ast.FunctionDef) else getattr(node, "body", [])
        owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for member in members:
            if isinstance(member, ast.FunctionDef) and not is_private(owner, member.name):
                kind = "".join(f"@{ast.unparse(one)} " for one in member.decorator_list)
                result = ast.unparse(member.returns) if member.returns else ""
                found[owner + member.name] = f"{kind}({ast.unparse(member.args)}) -> {result}"
    return found


def is_private(owner: str, name: str) -> bool:
    # The hooks of the tests, `digest._implementations` and its like, are module functions that stubs declare.
    if owner.startswith("_"):
        return True
    return bool(owner) and name.startswith("_") and name != "__init__"


@pytest.mark.parametrize("name", KERNELS)
def test_twins_have_the_names_and_signatures_of_the_compiled(name: str) -> None:
    stub = signatures(PACKAGE / "_ext" / f"{name}.pyi")
    twin = signatures(PACKAGE / "_kernels" / f"{name}.py")
    assert stub
    assert {key: twin.get(key) for key in stub} == stub
    extra = {key for key in twin.keys() - stub.keys() if "." in key}
    assert not extra, "the compiled kernel lacks these"


def test_every_kernel_has_stub_twin_source_and_declaration() -> None:
    sources = {path.stem for path in (REPOSITORY / "ext/crossdock/_ext").glob("*.pyx")}
    assert sources == set(KERNELS)
    assert {path.stem for path in (REPOSITORY / "ext/crossdock/_ext").glob("*.pxd")} == sources
    assert {path.stem for path in (PACKAGE / "_ext").glob("*.pyi")} == sources
    assert {path.stem for path in (PACKAGE / "_kernels").glob("*.py")} - {"__init__"} == sources
