"""Builds the kernels of ext/ and nothing else; everything about the package is in pyproject.toml.

Switches, all read from the environment and off by default:
  CROSSDOCK_NO_EXTENSIONS=1  a pure package; the twins in crossdock._kernels run instead
  CROSSDOCK_DEBUG=1          no optimisation, bounds checks, assertions, symbols
  CROSSDOCK_SANITIZE=1       as debug, with address and undefined-behaviour sanitizers; preload libasan to run
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup  # type: ignore[import-untyped]


def is_on(name: str) -> bool:
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        sys.exit(f"{name}={value!r}: expected 0 or 1")
    return value == "1"


NO_EXTENSIONS = is_on("CROSSDOCK_NO_EXTENSIONS")
SANITIZE = is_on("CROSSDOCK_SANITIZE")
DEBUG = is_on("CROSSDOCK_DEBUG") or SANITIZE

HOME = "ext/crossdock/_ext"
# Each kernel: its .pyx and the C files that are compiled with it.
KERNELS = {
    "buffers": ["mapping.c"],
    "digest": ["sha256.c", "sha256_portable.c", "sha256_x86.c", "sha256_armv8.c"],
}


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
    if NO_EXTENSIONS:
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


kind = "pure" if NO_EXTENSIONS else "sanitized" if SANITIZE else "debug" if DEBUG else "accelerated"
print(f"crossdock: {kind} build", file=sys.stderr)
setup(ext_modules=kernels())
