"""The flags that say what is copied besides the image itself."""

from __future__ import annotations

import argparse
from typing import get_args

from crossdock.options import ForeignLayers


def add_content(parser: argparse.ArgumentParser) -> None:
    """Add ``--referrers`` and ``--foreign-layers``, whose names are those of `CopyOptions`."""
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
