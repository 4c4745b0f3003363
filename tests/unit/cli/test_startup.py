"""Start-up time matters: the modules that are loaded before the first output."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossdock import __version__, copy_sync
from crossdock.cli.commands.demo import ChildRegistry
from crossdock.imagebuilder import ImageBuilder, sample_index

FAST = ("copy", "mirror", "inspect", "tags", "login", "logout", "registry", "serve")
LOADED = """
import sys
from crossdock.cli.main import main
before = set(sys.modules)
try:
    code = main(sys.argv[1:])
finally:
    print("\\n".join(sorted(set(sys.modules))), file=sys.stderr)
raise SystemExit(code)
"""


def modules_after(*arguments: str) -> set[str]:
    # -S -E: neither site nor its .pth files may decide what counts as loaded; the paths are handed over.
    code = f"import sys; sys.path[:] = {sys.path!r}\n{LOADED}"
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code, *arguments],
        env={"CROSSDOCK_KERNELS": "compiled"},  # the twins are plain Python and may load more
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout
    return set(done.stderr.split())


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version_loads_nothing_but_the_package_its_kernels_and_the_tls_engine(flag: str) -> None:
    loaded = modules_after(flag)
    heavy = {
        "aiohttp",
        "argparse",
        "asyncio",
        "json",
        "msgspec",
        "re",
        "rich",
        "socket",
        "ssl",
        "typing",
        "uvloop",
    }
    assert loaded & heavy == set()
    ours = {name for name in loaded if name.split(".")[0] == "crossdock"}
    allowed = ("crossdock._kernels", "crossdock._ext")
    assert {name for name in ours if not name.startswith(allowed)} == {
        "crossdock",
        "crossdock._tls",
        "crossdock.cli",
        "crossdock.cli.main",
    }


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in FAST)])
def test_help_loads_no_network_code(arguments: list[str]) -> None:
    loaded = modules_after(*arguments)
    assert loaded & {"aiohttp", "asyncio", "msgspec", "rich", "ssl", "uvloop", "crossdock.api"} == set()
    commands = {name for name in loaded if name.startswith("crossdock.cli.commands.")}
    assert commands == {f"crossdock.cli.commands.{word}" for word in arguments if word != "--help"}


@pytest.fixture
def image(tmp_path: Path) -> Iterator[str]:
    """``host:port/repository:tag`` of an image in a plain registry on loopback."""
    builder = ImageBuilder(tmp_path / "layout", seed=7)
    builder.tag(sample_index(builder), "v1")
    registry = ChildRegistry(tmp_path / "root", tmp_path / "log")
    try:
        reference = f"{registry.address}/a:v1"
        copy_sync(f"oci:{tmp_path / 'layout'}:v1", reference)
        yield reference
    finally:
        registry.stop()


def test_a_copy_over_plain_http_loads_nothing_that_it_does_not_use(image: str) -> None:
    loaded = modules_after("copy", image, image.replace("/a:", "/b:"), "--progress", "none")
    servers_and_displays = {"aiohttp", "multidict", "yarl", "rich", "sqlite3"}
    seldom = {"email", "statistics", "shutil", "random", "encodings.idna"}
    seldom |= {f"crossdock.registry.auth.{name}" for name in ("exchange", "helpers", "tokens")}
    seldom |= {f"crossdock.transfer.{name}" for name in ("attachedtags", "platforms", "reread", "resume")}
    # asyncio and uvloop load `ssl` by themselves; an engine, a context or a judge of certificates is ours.
    tls = {name for name in loaded if name.startswith(("crossdock.transport.tls", "crossdock_tls"))}
    assert (loaded & (servers_and_displays | seldom)) | tls == set()


def test_a_copy_of_what_the_target_has_loads_nothing_that_moves_blobs(image: str) -> None:
    target = image.replace("/a:", "/b:")
    copy_sync(image, target)
    moving = {
        name
        for name in modules_after("copy", image, target)
        if ".uploads" in name or ".blobs." in name or name.endswith(".pushes")
    }
    assert moving == set()


def test_the_version_line_names_version_and_backends() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "crossdock", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"crossdock {__version__} (kernels: ")
    assert "sha256: " in done.stdout
    assert done.stdout.rstrip().endswith(("tls: rustls)", "tls: ssl)"))
    assert done.stderr == ""


@pytest.mark.parametrize("switch", ["CROSSDOCK_KERNELS", "CROSSDOCK_TLS"])
def test_backends_that_cannot_be_loaded_are_an_error(switch: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "crossdock", "--version"],
        env={switch: "golden"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "golden" in done.stderr
    assert "Traceback" not in done.stderr
