"""The entry point. Answers ``--version`` by itself; everything else is imported when it is needed.

Nothing above the kernels and the choice of TLS may be imported at the top of this file: start-up is part of
the product, and `tests/unit/cli/test_startup.py` lists what ``crossdock --version`` may load.
"""

from __future__ import annotations

import gc
import sys

TYPE_CHECKING = False  # typing itself costs as much as the rest of this start-up
if TYPE_CHECKING:
    from collections.abc import Sequence


GARBAGE = 50_000  # objects that may be made before a collection; Python's own 700 means one every few modules


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's arguments); returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["--version"], ["-V"]):
        return print_version()
    # Collecting garbage takes longer than all that a short copy does, and there is none: neither among the
    # modules that are being loaded nor, when the process is about to end, anywhere.
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
    """Print version and backends; 1 when those that were asked for cannot be loaded."""
    from crossdock import __version__

    try:
        from crossdock import _kernels, _tls
    except ImportError as error:
        print(f"crossdock {__version__} (not all of it can be loaded)")
        print(f"crossdock: {error}", file=sys.stderr)
        return 1
    kernels = f"kernels: {_kernels.BACKEND}, sha256: {_kernels.SHA256_IMPLEMENTATION}"
    misfit = f", for {_tls.misfit}" if _tls.misfit else ""
    print(f"crossdock {__version__} ({kernels}; tls: {_tls.BACKEND}{misfit})")
    return 0
