"""``crossdock inspect``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from crossdock.cli.exits import ExitCode
from crossdock.cli.failure import fold
from crossdock.cli.flags import REFERENCE, add_network, add_output, add_side, read_options
from crossdock.cli.parser import Parser
from crossdock.cli.streams import parse_json, print_bytes, print_json, print_result, warn
from crossdock.cli.values import location
from crossdock.units import format_size

if TYPE_CHECKING:
    from crossdock.oci.descriptor import Descriptor
    from crossdock.runs.looking import Inspection


def add_flags(parser: Parser) -> None:
    """Add the flags of ``inspect``."""
    parser.add_argument("reference", type=location, metavar="REFERENCE", help=REFERENCE)
    output = parser.add_argument_group("output")
    add_output(output)
    output.add_argument("--raw", action="store_true", help="print the manifest's bytes, unchanged")
    add_side(parser, "source", "")
    add_network(parser)


def run(namespace: argparse.Namespace) -> int:
    """Print the manifest that a reference names."""
    from crossdock import api
    from crossdock.cli.loop import run_until_done

    found = run_until_done(api.inspect(namespace.reference, read_options(namespace), on_warning=warn))
    if namespace.raw:
        print_bytes(found.raw)
    elif namespace.output == "json":
        print_json(
            {
                "reference": found.reference,
                "digest": found.digest,
                "media_type": found.media_type,
                "size": found.size,
                "manifest": parse_json(found.raw),
            }
        )
    else:
        print_result("\n".join(_describe(found)), brief=found.digest)
    return ExitCode.DONE


def _describe(found: Inspection) -> Iterator[str]:
    yield f"reference   {found.reference}"
    yield f"digest      {found.digest}"
    yield f"media type  {fold(found.media_type)}"
    yield f"size        {found.size}"
    document = found.manifest
    for name, entries in (
        ("manifest", document.manifests),
        ("config", (document.config,)),
        ("layer", document.layers),
        ("blob", document.blobs),
        ("subject", (document.subject,)),
    ):
        yield from (f"{name:<12}{_line(entry)}" for entry in entries if entry is not None)


def _line(descriptor: Descriptor) -> str:
    role = descriptor.platform or descriptor.media_type
    return f"{descriptor.digest}  {format_size(descriptor.size):>10}  {fold(str(role))}".rstrip()
