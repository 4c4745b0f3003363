"""The entry point. It handles ``--version`` itself and imports everything else when it is needed.

This file imports nothing of crossdock at its top: `tests/unit/cli/test_startup.py` lists the modules that
``crossdock --version`` may load.
"""

from __future__ import annotations

import gc
import sys

TYPE_CHECKING = False  # typing itself costs as much as the rest of this start-up
if TYPE_CHECKING:
    from collections.abc import Sequence


GARBAGE = 50_000  # objects made before a collection; at Python's 700 every few modules cause one


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's arguments); returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["--version"], ["-V"]):
        return print_version()
    # Collections would take longer than a short copy, and find nothing: modules that are being loaded are
    # not garbage, and a process that ends frees everything.
    gc.set_threshold(GARBAGE)
    try:
        from crossdock.cli.command import run

        return run(arguments)
    except KeyboardInterrupt:  # while modules were being imported
        return 130
    finally:
        if argv is None:
            gc.freeze()


def print_version() -> int:
    """Print version and backends; returns 1 when the requested backends cannot be loaded."""
    from crossdock import __version__

    try:
        from crossdock import _kernels, _tls
    except ImportError as error:
        print(f"crossdock {__version__} (parts of it cannot be loaded)")
        print(f"crossdock: {error}", file=sys.stderr)
        return 1
    kernels = f"kernels: {_kernels.BACKEND}, sha256: {_kernels.SHA256_IMPLEMENTATION}"
    misfit = f", for {_tls.misfit}" if _tls.misfit else ""
    print(f"crossdock {__version__} ({kernels}; tls: {_tls.BACKEND}{misfit})")
    return 0
