"""``crossdock tags``."""

from __future__ import annotations

import argparse

from crossdock.cli.exits import ExitCode
from crossdock.cli.failure import fold
from crossdock.cli.flags import add_network, add_output, add_side, read_options
from crossdock.cli.parser import Parser
from crossdock.cli.streams import print_json, print_result, warn
from crossdock.cli.values import location
from crossdock.errors import (
    Advice,
    InvalidReference,
)
from crossdock.units import count


def add_flags(parser: Parser) -> None:
    """Add the flags of ``tags``."""
    parser.add_argument(
        "repository",
        type=location,
        metavar="REPOSITORY",
        help="[HOST[:PORT]/]REPOSITORY, oci:DIR, oci-archive:FILE or docker-archive:FILE",
    )
    add_output(parser.add_argument_group("output"))
    add_side(parser, "source", "")
    add_network(parser)


def run(namespace: argparse.Namespace) -> int:
    """Print the tags of a repository, in the registry's order."""
    from crossdock import api
    from crossdock.cli.loop import run_until_done

    _refuse_tag(namespace.repository)
    names = run_until_done(api.list_tags(namespace.repository, read_options(namespace), on_warning=warn))
    if namespace.output == "json":
        print_json({"repository": namespace.repository, "tags": names})
    elif names:
        print_result("\n".join(fold(name) for name in names), brief=count(len(names), "tag"))
    return ExitCode.DONE


def _refuse_tag(repository: str) -> None:
    """Raise `InvalidReference` for a repository or layout with a tag or digest."""
    from crossdock.oci.reference import parse_location

    location = parse_location(repository, default_tag=None)
    for named in (location.tag and f":{location.tag}", location.digest and f"@{location.digest}"):
        if named:
            raise InvalidReference(
                f"{location} names one image, and tags are listed for a whole repository",
                advice=Advice("omit-tag", f"leave {named} out; crossdock inspect shows what it means"),
            )
