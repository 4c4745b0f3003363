"""Flags that `copy` and `acr import` share: what is copied, and how that is shown."""

from __future__ import annotations

import argparse
from typing import Any, get_args

from crossdock.cli.argumentvalues import platform
from crossdock.options import ForeignLayers


def add_content(parser: argparse.ArgumentParser) -> None:
    """Add ``--platform``, ``--referrers``, ``--foreign-layers`` and ``--check-blobs``: what is copied."""
    parser.add_argument(
        "--platform",
        dest="platforms",
        type=platform,
        action="append",
        metavar="OS/ARCH[/VARIANT]",
        help="copy only this platform of an index; repeatable: several make a filtered index, new digest",
    )
    parser.add_argument(
        "--referrers",
        action=argparse.BooleanOptionalAction,
        help="copy signatures, SBOMs and whatever else refers to the manifests, or fail if that cannot be "
        "looked for (default: yes, with a warning instead; not with --from-file)",
    )
    parser.add_argument(
        "--foreign-layers",
        choices=get_args(ForeignLayers),
        help="keep: leave them at their URLs (default); copy: fetch them, without credentials, and push them",
    )
    parser.add_argument(
        "--check-blobs",
        action="store_true",
        help="look for every blob of what a target registry has already, and copy those that it lost "
        "(one HEAD for each; layouts are always checked)",
    )


def add_progress(group: Any) -> None:
    """Add ``--progress``."""
    group.add_argument(
        "--progress",
        choices=("auto", "plain", "json", "none"),
        default="auto",
        help="on stderr: live on a terminal, else plain lines; json: one event a line (default auto)",
    )
