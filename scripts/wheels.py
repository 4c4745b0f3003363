"""`make wheels`: the sdist, and a wheel for each platform and Python, into dist/.

Linux on x86_64 and aarch64, with glibc 2.28 and with musl 1.2, for every Python of the classifiers. zig, a
wheel of PyPI, is compiler and linker of all of them. Rust's standard library is compiled for each target with
the engine (`-Z build-std`), from Debian's rust-web-src: that rustc is unpacked below build/, not installed.

A wheel that can run here is installed into a fresh environment and copies an image; so does, under
qemu-user, the one for aarch64 and Debian's Python. Of all wheels the machine, the libraries and the versions
of glibc that they need are checked; of those for musl, that its loader finds every symbol (emulated.py).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import emulated
from emulated import ROOT, run

WORK = ROOT / "build" / "wheels"
PYTHONS = re.findall(r":: (3\.\d+)\"", (ROOT / "pyproject.toml").read_text("utf-8"))
RUST_PACKAGES = r"(rustc-web|rust-web-src|libstd-rust-web-dev|libstd-rust-web-[\d.]+|libllvm\d+)"
NEEDED = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1"}
NEEDED |= {"libc.so", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}  # of musl; the loaders


@dataclass(frozen=True)
class Target:
    """A platform: the tag of its wheels, and its names for zig and for Rust."""

    tag: str
    zig: str
    rust: str

    @property
    def machine(self) -> str:
        """x86_64 or aarch64."""
        return self.rust.partition("-")[0]


TARGETS = [
    target
    for machine in ("x86_64", "aarch64")
    for target in (
        Target(f"manylinux_2_28_{machine}", f"{machine}-linux-gnu.2.28", f"{machine}-unknown-linux-gnu"),
        Target(f"musllinux_1_2_{machine}", f"{machine}-linux-musl", f"{machine}-unknown-linux-musl"),
    )
]


def main() -> None:
    """Build and check the wheels of the tags that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "tags", nargs="*", metavar="TAG", help=f"of {', '.join(each.tag for each in TARGETS)}"
    )
    parser.add_argument("--no-tls", action="store_true", help="without the TLS engine, for a quick look")
    chosen = parser.parse_args()
    dist = ROOT / "dist"
    tools = make_tools(PYTHONS[0])
    if Path(sys.prefix).resolve() != tools.parents[1].resolve():
        os.execv(tools, [str(tools), *sys.argv])
    shutil.rmtree(dist, ignore_errors=True)
    run(tools, "-m", "build", "--no-isolation", "--sdist", "--outdir", str(dist), str(ROOT))
    rust = None if chosen.no_tls else unpack_rust()
    for target in TARGETS:
        if not chosen.tags or target.tag in chosen.tags:
            engine = build_engine(tools, target, rust) if rust else None
            for version in PYTHONS:
                wheel = build_wheel(version, target, engine, dist)
                inspect(wheel, target, with_tls=engine is not None)
                say(f"{wheel.name}: {attempt(version, target, wheel, with_tls=engine is not None)}")


def say(text: str) -> None:
    """A line about what was done."""
    print(f"crossdock: {text}", file=sys.stderr)


def interpreter(version: str) -> str:
    """The program of a version of Python, with its headers. Ends where there is none."""
    found = shutil.which(f"python{version}")
    ask = "import os, sysconfig, venv; print(os.path.exists(sysconfig.get_path('include') + '/Python.h'))"
    tried = found and subprocess.run([found, "-c", ask], capture_output=True, text=True, check=False)
    if not found or not tried or tried.stdout.strip() != "True":
        sys.exit(f"crossdock: wheels for Python {version} need python{version} on PATH, with its headers")
    return found


def make_tools(version: str) -> Path:
    """The Python of an environment with the tools, of exact versions."""
    python = WORK / version / "bin" / "python"
    stamp = WORK / version / "stamp"
    wanted = (ROOT / "requirements" / "wheels.txt").read_text("utf-8")
    if not stamp.exists() or stamp.read_text() != wanted:
        say(f"installing zig, maturin and build for Python {version} below build/wheels")
        run(interpreter(version), "-m", "venv", "--clear", WORK / version)
        run(python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", "requirements/wheels.txt")
        stamp.write_text(wanted)
    return python


def unpack_rust() -> Path:
    """Unpack Debian's rustc and its standard library's source; returns a program that runs that rustc."""
    folder = WORK / "rust"
    program = folder / "rustc"
    if not program.exists():
        if not shutil.which("apt-get") or not shutil.which("cargo"):
            sys.exit("crossdock: the TLS engine needs cargo, and apt-get of Debian 12; or give --no-tls")
        say("unpacking Debian's rustc-web and rust-web-src below build/wheels")
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "packages").mkdir(parents=True)
        leave_out = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
        options = (f"--no-{each}" for each in leave_out)
        listed = run("apt-cache", "depends", "--recurse", *options, "rustc-web", "rust-web-src")
        names = sorted({line for line in listed.splitlines() if re.fullmatch(RUST_PACKAGES, line)})
        run("apt-get", "download", *names, cwd=folder / "packages")
        for package in sorted((folder / "packages").glob("*.deb")):
            run("dpkg", "-x", package, folder)
        libraries = f"{folder}/usr/lib/x86_64-linux-gnu:{next(folder.rglob('libLLVM*.so*')).parent}"
        command = f'exec {folder}/usr/bin/rustc "$@"'
        program.write_text(f"#!/bin/sh\nLD_LIBRARY_PATH={libraries} {command}\n")
        program.chmod(0o755)
    return program


def build_engine(tools: Path, target: Target, rust: Path) -> Path:
    """The library of the TLS engine, by maturin with zig."""
    say(f"building the TLS engine for {target.tag}, minutes the first time")
    out = WORK / "engine" / target.tag
    shutil.rmtree(out, ignore_errors=True)
    run(
        *(tools.with_name("maturin"), "build", "--release", "--zig", "--target", target.rust, "--out", out),
        *("--compatibility", target.tag.removesuffix(f"_{target.machine}"), "--interpreter", "python3.11"),
        cwd=ROOT / "ext" / "tls",
        PATH=f"{tools.parent}:{os.environ['PATH']}",
        RUSTC=str(rust),
        RUSTC_BOOTSTRAP="1",  # for -Z build-std
        RUSTFLAGS="-C target-feature=-crt-static" if "musl" in target.tag else "",
        CARGO_UNSTABLE_BUILD_STD="std,panic_abort",
        CARGO_TARGET_DIR=str(WORK / "target"),
        RUSTUP_AUTO_INSTALL="0",
        CROSSDOCK_TLS_SOURCES=run("scripts/tls", "--sources").strip(),
    )
    with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel:
        [name] = [each for each in wheel.namelist() if each.endswith(".so")]
        return Path(wheel.extract(name, out))


def build_wheel(version: str, target: Target, engine: Path | None, dist: Path) -> Path:
    """The wheel of crossdock for a version of Python, compiled with zig."""
    tools = make_tools(version)
    short, libc = version.replace(".", ""), "musl" if "musl" in target.tag else "gnu"
    compiler = f"{tools} -m ziglang cc -target {target.zig}"
    run(
        *(tools, "-m", "build", "--no-isolation", "--wheel", "--outdir", dist),
        f"-C--build-option=--plat-name={target.tag}",
        ROOT,
        CC=compiler,
        LDSHARED=f"{compiler} -shared -s",
        CFLAGS="-g0",
        SETUPTOOLS_EXT_SUFFIX=f".cpython-{short}-{target.machine}-linux-{libc}.so",
        CROSSDOCK_TLS_LIBRARY=str(engine or ""),
        CROSSDOCK_NO_TLS="0" if engine else "1",
    )
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)
    for left in (ROOT / "build").glob("[lbt]*.linux-*"):  # objects of another platform look up to date
        shutil.rmtree(left)
    return next(dist.glob(f"*-cp{short}-cp{short}-{target.tag}.whl"))


def inspect(wheel: Path, target: Target, *, with_tls: bool) -> None:
    """Check tag, machine and what each library needs."""
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerNeedSection

    with zipfile.ZipFile(wheel) as opened, tempfile.TemporaryDirectory() as folder:
        libraries = sorted(name for name in opened.namelist() if name.endswith(".so"))
        modules = [name.partition(".")[0] for name in libraries]
        wanted = ["crossdock/_ext/buffers", "crossdock/_ext/digest"]
        assert modules == wanted + ["crossdock_tls"] * with_tls, libraries
        for name in libraries:
            with open(opened.extract(name, folder), "rb") as file:
                elf = ELFFile(file)
                assert elf["e_machine"] == {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}[target.machine], (
                    name
                )
                needs = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
                assert needs <= NEEDED, f"{name} needs {needs - NEEDED}"
                versions = [
                    auxiliary.name
                    for section in elf.iter_sections()
                    if isinstance(section, GNUVerNeedSection)
                    for _, auxiliaries in section.iter_versions()
                    for auxiliary in auxiliaries
                ]
                glibc = [
                    tuple(map(int, each[6:].split("."))) for each in versions if each.startswith("GLIBC_")
                ]
                assert "musl" not in target.tag or not glibc, f"{name} needs glibc"
                assert max(glibc, default=(0,)) <= (2, 28), f"{name} needs glibc {max(glibc)}"


def attempt(version: str, target: Target, wheel: Path, *, with_tls: bool) -> str:
    """Copy an image with the wheel, or let musl's loader read it; returns what was done."""
    forced = {"CROSSDOCK_KERNELS": "compiled", "CROSSDOCK_TLS": "rustls" if with_tls else "ssl"}
    elsewhere = WORK / "emulated"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if target.tag == f"manylinux_2_28_{os.uname().machine}":
            run(interpreter(version), "-m", "venv", folder)
            run(
                folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=folder
            )
            command = folder / "bin" / "crossdock"
            said = run(command, "--version", cwd=folder, **forced).strip()
            run(command, "demo", "--size", "1MiB", cwd=folder, **forced)
            return f"copied an image: {said}"
        if not shutil.which("apt-get"):
            return "inspected; it cannot run here"
        if "musl" in target.tag:
            lacking = emulated.musl_lacks(elsewhere, target.machine, wheel, folder)
            assert not lacking, f"musl has not {lacking}"
            return "inspected; the loader of musl finds every symbol"
        if version == emulated.PYTHON:
            program = emulated.unpack(elsewhere, target.machine)
            return (
                f"copied an image under qemu-user: {emulated.copy_an_image(program, wheel, folder, forced)}"
            )
    return "inspected; it cannot run here"


if __name__ == "__main__":
    main()
