"""The flags of ``crossdock mirror``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PLACE = "HOST[:PORT][/PREFIX], or a name of the inventory for HOST[:PORT]"


def add_mirror(commands: Any, command: Callable[..., Any], copying: Callable[[Any], None]) -> None:
    """Add the command; `command` makes its parser, `copying` adds what it shares with ``copy``."""
    parser = command(
        commands,
        "mirror",
        "copy all repositories and tags of a registry to others",
        f"Copies all repositories and tags of SOURCE to each TARGET, each of them {PLACE}.\n"
        "Nothing is removed at a target. Patterns are a shell's; a * takes slashes too.",
    )
    parser.add_argument("source", metavar="SOURCE", help="where from")
    parser.add_argument("targets", metavar="TARGET", nargs="+", help="where to; each gets everything")
    what = parser.add_argument_group("what is mirrored")
    what.add_argument(
        "--repository",
        dest="repositories",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only these repositories, as named below PREFIX; repeatable; the catalog is asked for only "
        "when there is a pattern",
    )
    what.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="not these repositories; repeatable",
    )
    what.add_argument(
        "--tags", action="append", default=[], metavar="PATTERN", help="only these tags; repeatable"
    )
    what.add_argument(
        "--untagged",
        action="store_true",
        help="manifests without a tag as well, where the source lists them (Azure)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="copy nothing, and list what would be looked into, as `crossdock copy --from-file` takes it",
    )
    parser.add_argument("--fail-fast", action="store_true", help="end with the first copy that fails")
    copying(parser)
