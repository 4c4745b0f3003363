"""The only door to the kernels: compiled ones, or their twins in plain Python.

``CROSSDOCK_KERNELS`` chooses once, on import: ``auto`` (the default) takes the compiled ones and falls back
to the twins, ``compiled`` raises ImportError if they are absent, ``pure`` takes the twins. They are never
mixed. `BACKEND` names the choice. The contract of kernels and twins is in ext/README.md.

The version line loads this module: it imports nothing but the kernels.
"""

from __future__ import annotations

import os

# Type checkers treat this name as true and see the twins' types. The real one costs the import of `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from crossdock._kernels.buffers import Arena, Slot
    from crossdock._kernels.digest import Sha256, update_many

__all__ = [
    "BACKEND",
    "SHA256_IMPLEMENTATION",
    "SHA256_LANES",
    "Arena",
    "Sha256",
    "Slot",
    "update_many",
]

BACKEND: str
"""``compiled`` or ``pure``."""

SHA256_IMPLEMENTATION: str
"""The implementation: ``x86-sha``, ``armv8``, ``portable`` (C without SHA instructions) or ``pure``."""

SHA256_LANES: int
"""How many streams `update_many` interleaves at most; more wait until one of them ends."""


def _compiled() -> tuple[ModuleType, ...]:
    from crossdock._ext import buffers, digest

    return buffers, digest


def _pure() -> tuple[ModuleType, ...]:
    from crossdock._kernels import buffers, digest

    return buffers, digest


def _choose(choice: str) -> tuple[str, tuple[ModuleType, ...]]:
    if choice not in ("auto", "compiled", "pure"):
        raise ImportError(f"CROSSDOCK_KERNELS={choice!r}: expected auto, compiled or pure")
    if choice != "pure":
        try:
            return "compiled", _compiled()
        except ImportError as error:
            if choice == "compiled":
                raise ImportError(
                    f"CROSSDOCK_KERNELS=compiled, but the compiled kernels cannot be loaded ({error}): "
                    "install a wheel for this Python, or build from source with a C compiler; "
                    "CROSSDOCK_KERNELS=pure works without them, slower"
                ) from error
    return "pure", _pure()


def _open() -> None:
    backend, (buffers, digest) = _choose(os.environ.get("CROSSDOCK_KERNELS") or "auto")
    globals().update(
        BACKEND=backend,
        SHA256_IMPLEMENTATION=digest.IMPLEMENTATION,
        SHA256_LANES=digest.LANES,
        Arena=buffers.Arena,
        Sha256=digest.Sha256,
        Slot=buffers.Slot,
        update_many=digest.update_many,
    )


_open()
