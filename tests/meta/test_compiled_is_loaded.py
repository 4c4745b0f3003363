"""The compiled kernels are used unless the twins are selected, and their absence is always reported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PRINT_BACKEND = "import crossdock._kernels as k; print(k.BACKEND, k.SHA256_IMPLEMENTATION)"
# As on a machine where one of the compiled modules cannot be loaded.
WITHOUT_COMPILED = "import sys; sys.modules['crossdock._ext.digest'] = None; "


def run(script: str, choice: str | None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CROSSDOCK_KERNELS": choice or ""}
    if choice is None:
        del environment["CROSSDOCK_KERNELS"]
    return subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(
    os.environ.get("CROSSDOCK_KERNELS") == "pure", reason="CROSSDOCK_KERNELS=pure was asked for"
)
@pytest.mark.parametrize("choice", [None, "", "auto", "compiled"])
def test_a_fresh_interpreter_runs_the_compiled_kernels(choice: str | None) -> None:
    result = run(PRINT_BACKEND, choice)
    assert result.returncode == 0, result.stderr
    backend, implementation = result.stdout.split()
    assert backend == "compiled", "build them: python setup.py build_ext --inplace"
    assert implementation in {"x86-sha", "armv8", "portable"}


def test_the_twins_run_when_asked_for() -> None:
    assert run(PRINT_BACKEND, "pure").stdout.split() == ["pure", "pure"]


def test_auto_falls_back_to_all_twins_and_reports_it() -> None:
    script = PRINT_BACKEND + "; print({c.__module__ for c in (k.Arena, k.Sha256)})"
    result = run(WITHOUT_COMPILED + script, "auto")
    assert result.stdout.startswith("pure pure"), result.stderr
    assert "_ext" not in result.stdout


def test_compiled_says_what_to_do_when_absent() -> None:
    result = run(WITHOUT_COMPILED + PRINT_BACKEND, "compiled")
    assert result.returncode != 0
    assert (
        "ImportError: CROSSDOCK_KERNELS=compiled, but the compiled kernels cannot be loaded" in result.stderr
    )
    assert "build from source with a C compiler" in result.stderr


def test_an_unknown_choice_is_an_error_that_names_the_known_ones() -> None:
    result = run(PRINT_BACKEND, "fast")
    assert result.returncode != 0
    assert "ImportError: CROSSDOCK_KERNELS='fast': expected auto, compiled or pure" in result.stderr


def test_the_door_imports_nothing_but_the_kernels() -> None:
    script = """
import sys
import crossdock  # what the package itself imports is not the door's affair
before = set(sys.modules)
import crossdock._kernels
print(*sorted(set(sys.modules) - before))
"""
    result = run(script, None)
    assert result.returncode == 0, result.stderr
    foreign = [
        name for name in result.stdout.split() if not name.startswith(("crossdock.", "_cython", "cython"))
    ]
    if os.environ.get("CROSSDOCK_KERNELS") != "pure":
        assert foreign == []
