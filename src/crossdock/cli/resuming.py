"""What to tell a person whose copy ended with uploads that can be gone on with."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from crossdock.cli.units import format_size
from crossdock.events import UploadKept


def how_to_resume(kept: Sequence[UploadKept], namespace: argparse.Namespace) -> str:
    """The command to paste, and where it goes on; empty when nothing was kept."""
    if not kept:
        return ""
    sizes = ", ".join(f"{format_size(each.offset)} of {format_size(each.size)}" for each in kept[:3])
    more = f" and {len(kept) - 3} more" if len(kept) > 3 else ""
    command = shlex.join(["crossdock", *namespace.words])
    state = f" --state {shlex.quote(namespace.state)}" if namespace.state else ""
    return f"to resume at {sizes}{more}, run again: {command} (what is kept: crossdock state list{state})"
