"""Builds the kernels of ext/crossdock and the TLS engine of ext/tls; all else is in pyproject.toml.

Without a compiler the package is pure, and without cargo TLS is Python's `ssl`: a line says so, and nothing
fetches a toolchain.

Switches, all read from the environment and off by default:
  CROSSDOCK_NO_EXTENSIONS=1  a pure package; the twins in crossdock._kernels run instead
  CROSSDOCK_NO_TLS=1         without the TLS engine
  CROSSDOCK_TLS_LIBRARY=FILE the TLS engine is this library, and is not built
  CROSSDOCK_DEBUG=1          no optimisation, bounds checks, assertions, symbols
  CROSSDOCK_SANITIZE=1       as debug, with address and undefined-behaviour sanitizers; preload libasan to run
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from setuptools import Extension, setup  # type: ignore[import-untyped]
from setuptools.command.build_ext import build_ext  # type: ignore[import-untyped]


def is_on(name: str) -> bool:
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        sys.exit(f"{name}={value!r}: expected 0 or 1")
    return value == "1"


NO_EXTENSIONS = is_on("CROSSDOCK_NO_EXTENSIONS")
SANITIZE = is_on("CROSSDOCK_SANITIZE")
DEBUG = is_on("CROSSDOCK_DEBUG") or SANITIZE
NO_TLS = NO_EXTENSIONS or is_on("CROSSDOCK_NO_TLS")

REPOSITORY = "https://github.com/crossdock/crossdock"
HOME = "ext/crossdock/_ext"
# Each kernel: its .pyx and the C files that are compiled with it.
KERNELS = {
    "buffers": ["mapping.c"],
    "digest": ["sha256.c", "sha256_portable.c", "sha256_x86.c", "sha256_armv8.c"],
}


def say(text: str) -> None:
    """A line of the build; `pip install -v` shows it."""
    print(f"crossdock: {text}", file=sys.stderr)


# -- the kernels ------------------------------------------------------------------------------------------


def lacks_compiler() -> str:
    """Why the kernels cannot be compiled here; empty if they can."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        return f"no C compiler was found ({compiler[0]})"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "try.c"
        source.write_text("#include <Python.h>\n#include <stdlib.h>\n")
        words = [*compiler, f"-I{sysconfig.get_path('include')}", "-c", str(source), "-o", f"{folder}/try.o"]
        tried = subprocess.run(words, capture_output=True, check=False)
    return "" if tried.returncode == 0 else f"{compiler[0]} finds no headers of Python or of C"


def flags() -> tuple[list[str], list[str]]:
    """Compiler and linker arguments. Never -march: a wheel runs on machines that did not build it."""
    compile_args = ["-Wall", "-Wextra", "-fvisibility=hidden"]
    compile_args += ["-O0", "-g3", "-UNDEBUG"] if DEBUG else ["-O2", "-g0"]
    link_args: list[str] = []
    if SANITIZE:
        sanitizers = "-fsanitize=address,undefined"
        compile_args += [sanitizers, "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
        link_args += [sanitizers]
    return compile_args, link_args


def kernels() -> list[Any]:
    """The extensions; none where they cannot be compiled.

    Not for the stable ABI: for that Cython imports `inspect` and 33 more modules, which doubles a start.
    """
    if NO_EXTENSIONS:
        return []
    if lacking := lacks_compiler():
        say(f"{lacking}: the kernels are not compiled; pure Python runs instead, with more CPU per byte")
        return []
    from Cython.Build import cythonize  # only an accelerated build needs Cython

    compile_args, link_args = flags()
    headers = sorted(str(path) for path in Path(HOME).glob("*.h"))
    extensions = [
        Extension(
            f"crossdock._ext.{name}",
            [f"{HOME}/{name}.pyx", *(f"{HOME}/{source}" for source in sources)],
            include_dirs=[HOME],
            depends=headers,
            extra_compile_args=compile_args,
            extra_link_args=link_args,
        )
        for name, sources in KERNELS.items()
    ]
    return list(
        cythonize(  # type: ignore[no-untyped-call]
            extensions,
            include_path=["ext"],
            build_dir="build/cython",
            compiler_directives={
                "language_level": 3,
                "auto_pickle": False,
                "boundscheck": DEBUG,
                "cdivision": not DEBUG,
                "embedsignature": True,
                "embedsignature.format": "python",
                "wraparound": False,
            },
        )
    )


# -- the TLS engine ---------------------------------------------------------------------------------------


def lacks_cargo() -> str:
    """Why the TLS engine cannot be built here; empty if it can."""
    manifest = tomllib.loads(Path("ext/tls/Cargo.toml").read_text("utf-8"))
    needed = str(manifest["package"]["rust-version"])
    try:
        words = ["cargo", "--version"]
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=cargo_environment())
        found = done.stdout.split()[1]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return f"cargo of Rust {needed} or newer was not found"
    numbers = [tuple(map(int, re.findall(r"\d+", each)[:2])) for each in (found, needed)]
    return "" if numbers[0] >= numbers[1] else f"cargo is {found}, and Rust {needed} or newer is needed"


def cargo_environment() -> dict[str, str]:
    """Never let rustup download a toolchain."""
    target = os.environ.get("CARGO_TARGET_DIR") or str(Path("build/tls").absolute())
    return {
        **os.environ,
        "RUSTUP_AUTO_INSTALL": "0",
        "CARGO_TARGET_DIR": target,
        "PYO3_PYTHON": sys.executable,
    }


class BuildExtensions(build_ext):  # type: ignore[misc]
    """Also builds the TLS engine, a module of its own beside the package; not for editable installs."""

    def run(self) -> None:
        """Build all."""
        super().run()
        if not NO_TLS and self.extensions and not self.editable_mode:
            library = os.environ.get("CROSSDOCK_TLS_LIBRARY") or self._build_engine()
            if library:
                shutil.copyfile(library, Path(self.build_lib) / "crossdock_tls.abi3.so")

    def _build_engine(self) -> str:
        """The library that cargo made; empty where it cannot, which a line says."""
        instead = "TLS is Python's ssl instead, with more CPU per byte"
        if lacking := lacks_cargo():
            say(f"{lacking}: the TLS engine is not built; {instead}")
            return ""
        environment = cargo_environment()
        words = ["cargo", "build", "--release", "--features", "pyo3/extension-module"]
        done = subprocess.run(words, cwd="ext/tls", env=environment, check=False)
        if done.returncode:
            say(f"cargo could not build the TLS engine (its messages are above); {instead}")
            return ""
        return f"{environment['CARGO_TARGET_DIR']}/release/libcrossdock_tls.so"


# -- the package ------------------------------------------------------------------------------------------


def readme() -> str:
    """README for a page that is not in the repository: its links are absolute."""
    text = Path("README.md").read_text("utf-8")
    text = re.sub(r"!\[([^\]]*)\]\((?!https?:)", rf"![\1]({REPOSITORY}/raw/main/", text)
    return re.sub(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)", rf"[\1]({REPOSITORY}/blob/main/", text)


def main() -> None:
    """Build and describe it."""
    extensions = kernels()
    kind = "sanitized" if SANITIZE else "debug" if DEBUG else "accelerated"
    say(f"{kind if extensions else 'pure'} build")
    setup(
        ext_modules=extensions,
        cmdclass={"build_ext": BuildExtensions},
        long_description=readme(),
        long_description_content_type="text/markdown",
    )


main()
