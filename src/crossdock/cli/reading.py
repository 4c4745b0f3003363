"""``crossdock inspect`` and ``crossdock tags``: look, change nothing."""

from __future__ import annotations

import argparse
import json

from crossdock import api
from crossdock.cli.arguments import copy_options
from crossdock.cli.exits import ExitCode
from crossdock.cli.failure import fold
from crossdock.cli.loop import run_until_done
from crossdock.cli.streams import print_bytes, print_json, print_result, read_credentials, warn
from crossdock.cli.units import format_size
from crossdock.errors import InvalidReference
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.reference import parse_location
from crossdock.options import CopyOptions

_LONGEST_INTEGER = 1000  # digits; sys.set_int_max_str_digits allows no bound below 640, and begins with 4300


def inspect(namespace: argparse.Namespace) -> int:
    """Print what a reference names."""
    found = run_until_done(api.inspect(namespace.reference, _options(namespace), on_warning=warn))
    if namespace.raw:
        print_bytes(found.raw)
    elif namespace.output == "json":
        print_json(
            {
                "reference": found.reference,
                "digest": found.digest,
                "media_type": found.media_type,
                "size": found.size,
                "manifest": json.loads(found.raw, parse_int=integer),
            }
        )
    else:
        print_result("\n".join(_describe(found)))
    return ExitCode.DONE


def tags(namespace: argparse.Namespace) -> int:
    """Print the tags of a repository, in the registry's order."""
    _refuse_tag(namespace.repository)
    names = run_until_done(api.list_tags(namespace.repository, _options(namespace), on_warning=warn))
    if namespace.output == "json":
        print_json({"repository": namespace.repository, "tags": names})
    elif names:
        print_result("\n".join(fold(name) for name in names))
    return ExitCode.DONE


def _refuse_tag(repository: str) -> None:
    """Raise `InvalidReference` for a repository or layout with a tag or digest."""
    location = parse_location(repository, default_tag=None)
    for named in (location.tag and f":{location.tag}", location.digest and f"@{location.digest}"):
        if named:
            raise InvalidReference(
                f"{location} names one image, and tags are listed of a whole repository",
                hint=f"leave {named} out; crossdock inspect shows what it means",
            )


def _options(namespace: argparse.Namespace) -> CopyOptions:
    credentials = read_credentials("--creds-stdin") if namespace.source_creds_stdin else None
    return copy_options(namespace, credentials, None)


def _describe(found: api.Inspection) -> list[str]:
    lines = [
        f"reference   {found.reference}",
        f"digest      {found.digest}",
        f"media type  {fold(found.media_type)}",
        f"size        {found.size}",
    ]
    document = found.manifest
    for name, entries in (
        ("manifest", document.manifests),
        ("config", (document.config,)),
        ("layer", document.layers),
        ("blob", document.blobs),
        ("subject", (document.subject,)),
    ):
        lines += [f"{name:<12}{_line(entry)}" for entry in entries if entry is not None]
    return lines


def integer(digits: str) -> int | str:
    """The number; as text when Python's ``int`` would refuse it for its length."""
    return int(digits) if len(digits) < _LONGEST_INTEGER else digits


def _line(descriptor: Descriptor) -> str:
    role = descriptor.platform or descriptor.media_type
    return f"{descriptor.digest}  {format_size(descriptor.size):>10}  {fold(str(role))}".rstrip()
