"""The choice of the TLS engine: rustls, of the wheel ``crossdock-tls``, or Python's `ssl`.

``CROSSDOCK_TLS`` chooses once, on import: ``auto`` (the default) takes rustls where its wheel is installed
and falls back to `ssl`, ``rustls`` raises ImportError where it is absent, ``ssl`` never looks for it.
A wheel of another version than this package was written for counts as absent.
Hosts that rustls cannot serve are served by `ssl` in any case; see `transport.tls_door`.

The version line loads this module: it imports nothing but the engine.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as in `_kernels`: the real one costs the import of `typing`
if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["BACKEND", "NEEDED", "misfit", "rustls"]

NEEDED = "0.1.0"  # of crossdock-tls: its interface may change with every version

BACKEND: str
"""``rustls`` or ``ssl``."""

misfit = ""
"""Why the installed wheel is not used."""

rustls: ModuleType | None
"""The module `crossdock_tls`, when `BACKEND` is ``rustls``."""


def _choose(choice: str) -> ModuleType | None:
    if choice not in ("auto", "rustls", "ssl"):
        raise ImportError(f"CROSSDOCK_TLS={choice!r}: expected auto, rustls or ssl")
    if choice == "ssl":
        return None
    try:
        import crossdock_tls

        if crossdock_tls.__version__ != NEEDED:
            global misfit
            misfit = f"crossdock-tls {crossdock_tls.__version__} is installed, {NEEDED} is needed"
            raise ImportError(misfit)
    except ImportError as error:
        if choice == "rustls":
            raise ImportError(
                f"CROSSDOCK_TLS=rustls, but crossdock_tls cannot be loaded ({error}): install crossdock-tls, "
                "or build it from ext/tls with cargo; CROSSDOCK_TLS=ssl works without it, slower"
            ) from error
        return None
    engine: ModuleType = crossdock_tls
    return engine


rustls = _choose(os.environ.get("CROSSDOCK_TLS") or "auto")
BACKEND = "rustls" if rustls is not None else "ssl"
