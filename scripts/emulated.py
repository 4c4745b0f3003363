"""For scripts/wheels.py: the libraries of a wheel that cannot run here, tried as far as they can be.

qemu-user runs Debian's Python for aarch64, and musl's own loader resolves the symbols of libraries for musl.
Both are Debian's packages, unpacked below build/, not installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHON = "3.11"  # of Debian 12
PACKAGES = (
    "libc6",
    "libgcc-s1",
    "libcrypt1",
    "libexpat1",
    "zlib1g",
    "libbz2-1.0",
    "liblzma5",
    "libffi8",
    "libssl3",
    "libsqlite3-0",
    "libuuid1",
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "musl",
)
DEMO = """
import sys
sys.executable = sys.argv.pop(1)
from crossdock.cli.commands import demo
from crossdock.cli.main import main
demo._START_S = 300.0
sys.exit(main(sys.argv[1:]))
"""
WHEELS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def run(*words: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """Run a command quietly; returns its output. Ends with its last lines when it fails."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(
            "\n".join((*done.stdout.splitlines()[-40:], f"crossdock: failed: {' '.join(map(str, words))}"))
        )
    return done.stdout


def unpack(folder: Path, machine: str) -> Path:
    """Debian's Python and musl for x86_64 or aarch64, and a program that runs its Python: its path."""
    root, program = folder / machine, folder / f"python-{machine}"
    if program.exists():
        return program
    shutil.rmtree(root, ignore_errors=True)
    packages = root / "packages"
    packages.mkdir(parents=True)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[machine]
    for name in ("lists/partial", "cache/archives/partial"):
        (root / name).mkdir(parents=True)
    (root / "status").touch()
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",
        "Dir::State::lists": root / "lists",
        "Dir::State::status": root / "status",
        "Dir::Cache": root / "cache",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    run("apt-get", *options, "update", "--quiet")
    run("apt-get", *options, "download", *PACKAGES, cwd=packages)
    run("apt-get", "download", "qemu-user-static", cwd=packages)
    for package in packages.glob("*.deb"):
        run("dpkg", "-x", package, root)
    qemu = root / "usr" / "bin" / f"qemu-{machine}-static"
    program.write_text(f'#!/bin/sh\nexec {qemu} -L {root} {root}/usr/bin/python{PYTHON} "$@"\n')
    program.chmod(0o755)
    return program


def copy_an_image(program: Path, wheel: Path, folder: Path, environment: dict[str, str]) -> str:
    """Install the wheel of aarch64 into `folder` and copy an image, emulated; returns its version."""
    platforms = [word for each in WHEELS for word in ("--platform", each)]
    options = ("--quiet", "--disable-pip-version-check", "--no-compile", "--only-binary", ":all:")
    run(
        "python3",
        "-m",
        "pip",
        "install",
        *options,
        *platforms,
        "--python-version",
        PYTHON,
        "--target",
        folder,
        wheel,
    )
    environment = {**environment, "PYTHONPATH": str(folder)}
    said = run(program, "-m", "crossdock", "--version", **environment)
    run(program, "-c", DEMO, program, "demo", "--size", "1MiB", **environment)
    return said.strip()


def unresolved(root: Path, machine: str, library: Path) -> set[str]:
    """The symbols of a library that musl's loader finds nowhere, except Python's, which its program has."""
    loader = [root / machine / "lib" / f"ld-musl-{machine}.so.1", "--list", library]
    if machine != os.uname().machine:
        loader = [root / machine / "usr" / "bin" / f"qemu-{machine}-static", "-L", root / machine, *loader]
    done = subprocess.run(loader, capture_output=True, text=True, check=False)
    found = set(re.findall(r"Error relocating .*: (\S+): symbol not found", done.stdout + done.stderr))
    assert found, f"the loader of musl did not read {library}: {done.stderr}"
    return {name for name in found if not re.match("_?Py", name)}


def musl_lacks(folder: Path, machine: str, wheel: Path, scratch: Path) -> set[str]:
    """The symbols that musl has not, of all libraries of a wheel."""
    unpack(folder, machine)
    lacking = set()
    with zipfile.ZipFile(wheel) as opened:
        for name in opened.namelist():
            if name.endswith(".so"):
                lacking |= unresolved(folder, machine, Path(opened.extract(name, scratch)))
    return lacking
