"""rustls is used unless `ssl` is selected, and its absence is always reported."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from crossdock import _tls

REPOSITORY = Path(__file__).parents[2]

PRINT_BACKEND = "from crossdock._tls import BACKEND; print(BACKEND)"
# As on a machine where the wheel is not installed.
WITHOUT_RUSTLS = "import sys; sys.modules['crossdock_tls'] = None; "


def run(script: str, choice: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CROSSDOCK_TLS": choice}
    return subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def sources() -> str:
    """The digest of ext/tls; the test is skipped where the engine cannot be built."""
    asked = subprocess.run(
        ["scripts/tls", "--sources"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    if asked.returncode:
        pytest.skip(f"the TLS engine was not tested: {asked.stderr.strip()}")
    return asked.stdout


@pytest.mark.parametrize("choice", ["", "auto", "rustls"])
def test_a_fresh_interpreter_takes_rustls_as_built_of_these_sources(choice: str, sources: str) -> None:
    result = run("from crossdock._tls import rustls; print(rustls and rustls.__sources__)", choice)
    assert result.stdout == sources, f"build it: scripts/tls .venv\n{result.stderr}"


def test_one_version_is_named_wherever_one_is() -> None:
    def read(file: str) -> Any:
        return tomllib.loads((REPOSITORY / file).read_text())

    assert read("ext/tls/Cargo.toml")["package"]["version"] == _tls.NEEDED
    assert read("ext/tls/pyproject.toml")["project"]["version"] == _tls.NEEDED


def test_ssl_serves_when_asked_for() -> None:
    assert run(PRINT_BACKEND, "ssl").stdout == "ssl\n"


def test_auto_falls_back_to_ssl_and_the_command_says_so() -> None:
    assert run(WITHOUT_RUSTLS + PRINT_BACKEND, "auto").stdout == "ssl\n"
    version = run(WITHOUT_RUSTLS + "from crossdock.cli.main import main; main(['--version'])", "auto")
    assert "tls: ssl)" in version.stdout


def test_a_wheel_of_another_version_is_not_used_and_named() -> None:
    old = "import sys, types; sys.modules['crossdock_tls'] = types.SimpleNamespace(__version__='0.0.1'); "
    version = run(old + "from crossdock.cli.main import main; main(['--version'])", "auto")
    assert f"tls: ssl, for crossdock-tls 0.0.1 is installed, {_tls.NEEDED} is needed)" in version.stdout
    assert "crossdock-tls 0.0.1 is installed" in run(old + PRINT_BACKEND, "rustls").stderr


def test_rustls_says_what_to_do_when_absent() -> None:
    result = run(WITHOUT_RUSTLS + PRINT_BACKEND, "rustls")
    assert result.returncode != 0
    assert "ImportError: CROSSDOCK_TLS=rustls, but crossdock_tls cannot be loaded" in result.stderr
    assert "build it from ext/tls with cargo" in result.stderr


def test_an_unknown_choice_is_an_error_that_names_the_known_ones() -> None:
    result = run(PRINT_BACKEND, "openssl")
    assert "ImportError: CROSSDOCK_TLS='openssl': expected auto, rustls or ssl" in result.stderr


def test_the_choice_imports_nothing_but_the_engine() -> None:
    script = """
import sys
import crossdock
before = set(sys.modules)
import crossdock._tls
print(*sorted(set(sys.modules) - before))
"""
    result = run(script, "")
    assert result.returncode == 0, result.stderr
    loaded = {name.split(".")[0] for name in result.stdout.split()}
    assert loaded <= {"crossdock", "crossdock_tls"}
