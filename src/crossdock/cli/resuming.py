"""What to tell a person whose copy ended with something that the next one can go on with."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from crossdock.cli.units import format_size
from crossdock.events import BlobSpooled, UploadKept


def how_to_resume(kept: Sequence[UploadKept | BlobSpooled], namespace: argparse.Namespace) -> str:
    """The command to paste, and where it goes on; empty when nothing was kept."""
    if not kept:
        return ""
    import shlex

    uploads = [each for each in kept if isinstance(each, UploadKept)]
    spooled = sum(each.kept for each in kept if isinstance(each, BlobSpooled))
    where = [f"at {_places(uploads)}"] if uploads else []
    where += [f"with {format_size(spooled)} from the spool"] if spooled else []
    command = shlex.join(["crossdock", *namespace.words])
    listing = ["crossdock", "state", "list"]
    listing += ["--state", namespace.state] if namespace.state and uploads else []
    listing += ["--spool", str(namespace.spool)] if spooled else []
    return f"to resume {', '.join(where)}, run again: {command} (what is kept: {shlex.join(listing)})"


def _places(uploads: Sequence[UploadKept]) -> str:
    sizes = ", ".join(f"{format_size(each.offset)} of {format_size(each.size)}" for each in uploads[:3])
    return sizes + (f" and {len(uploads) - 3} more" if len(uploads) > 3 else "")
