"""The only door to the kernels: compiled ones, or their twins in plain Python.

``CROSSDOCK_KERNELS`` chooses once, on import: ``auto`` (the default) takes the compiled ones and falls back to the
twins, ``compiled`` raises ImportError where they are absent, ``pure`` takes the twins. All or none: they are never
mixed. `BACKEND` says which run. The contract of kernels and twins is in ext/README.md.

This module is on the way of ``crossdock --version``: it imports nothing but the kernels.
"""

from __future__ import annotations

import os

# A name that type checkers take for true; the real one costs the import of `typing`. They see the twins' types.
TYPE_CHECKING = False

BACKEND: str  # "compiled" or "pure"
SHA256_IMPLEMENTATION: str  # "x86-sha", "armv8", "portable" or "pure"

if TYPE_CHECKING:
    from crossdock._kernels.buffers import Arena, Slot
    from crossdock._kernels.chunks import Chunks
    from crossdock._kernels.digest import IMPLEMENTATION as SHA256_IMPLEMENTATION
    from crossdock._kernels.digest import Sha256

__all__ = ["BACKEND", "SHA256_IMPLEMENTATION", "Arena", "Chunks", "Sha256", "Slot"]


def _load(backend: str) -> None:
    global BACKEND
    names = globals()
    if backend == "compiled":
        from crossdock._ext import buffers, chunks, digest
    else:
        from crossdock._kernels import buffers, chunks, digest  # type: ignore[assignment]
    names.update(Arena=buffers.Arena, Slot=buffers.Slot, Chunks=chunks.Chunks, Sha256=digest.Sha256)
    names["SHA256_IMPLEMENTATION"] = digest.IMPLEMENTATION
    BACKEND = backend


def _choose(choice: str) -> None:
    if choice not in ("auto", "compiled", "pure"):
        raise ImportError(f"CROSSDOCK_KERNELS={choice!r}: expected auto, compiled or pure")
    if choice == "pure":
        _load("pure")
        return
    try:
        _load("compiled")
    except ImportError as error:
        if choice == "compiled":
            raise ImportError(
                f"CROSSDOCK_KERNELS=compiled, but the compiled kernels cannot be loaded ({error}). Install a wheel "
                "for this Python, or a C compiler and then crossdock from source; CROSSDOCK_KERNELS=pure is slower"
            ) from error
        _load("pure")


_choose(os.environ.get("CROSSDOCK_KERNELS", "auto"))
