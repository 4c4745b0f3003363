"""``crossdock archive``: many references into one archive."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from crossdock.cli.exits import UsageError
from crossdock.cli.flags import add_archiving, read_options
from crossdock.cli.parser import Parser
from crossdock.cli.streams import give_stdout_away
from crossdock.cli.values import archive_path, checked, location
from crossdock.errors import Advice, Cancelled, InvalidInput
from crossdock.units import parse_size

if TYPE_CHECKING:
    from crossdock.oci.archivereference import DockerArchiveReference, OciArchiveReference

_COMMAND = "crossdock archive"


def add_flags(parser: Parser) -> None:
    """Add the flags of ``archive``."""
    parser.description = (
        "Write images, with their signatures and other referrers, into one new archive.\n"
        "Each is named host/repository:tag in it, and what they share is stored once.\n"
        "`crossdock copy --from-archive FILE --to HOST` brings them to another registry."
    )
    parser.add_argument(
        "file",
        type=location,
        metavar="FILE",
        help="archive to write: PATH or oci-archive:PATH, docker-archive:PATH for docker; - is stdout",
    )
    parser.add_argument(
        "references",
        type=location,
        nargs="+",
        metavar="REFERENCE",
        help="[docker://][HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]",
    )
    parser.repeated = "references"
    parser.add_argument(
        "--split",
        type=checked(parse_size, _check_part_size),
        metavar="SIZE",
        help="write parts of at most this size: FILE.001, FILE.002, ...",
    )
    parser.add_argument(
        "--since",
        type=location,
        metavar="OLD",
        help="leave out the blobs that this archive holds: copy it to the same target before",
    )
    add_archiving(parser)


def run(namespace: argparse.Namespace) -> int:
    """Write the archive, and print the results."""
    place = _place(namespace.file)
    since = archive_path(namespace.since) if namespace.since is not None else None
    if place.path == "-":
        if namespace.split:
            raise UsageError("--split needs a file, and - is stdout", command=_COMMAND)
        give_stdout_away()
    if since == "-" and namespace.source_creds_stdin:
        raise UsageError(
            "--since - and --creds-stdin both read stdin",
            advice=Advice("give-file", "give the old archive as a file"),
            command=_COMMAND,
        )
    return _write(namespace, place, since)


def _write(
    namespace: argparse.Namespace, place: OciArchiveReference | DockerArchiveReference, since: str | None
) -> int:
    from crossdock.cli.report import ArchiveReport, ReportFile
    from crossdock.cli.running import close_run, error_of
    from crossdock.cli.tally import Tally
    from crossdock.runs.toarchive import ToArchive

    options = read_options(namespace)
    try:
        work = ToArchive(place, namespace.references, part_size=namespace.split, since=since)
    except InvalidInput as wrong:
        raise UsageError(str(wrong), advice=wrong.advice, command=_COMMAND) from None
    with ReportFile(namespace.report) as file:
        tally = Tally(work.totals, work.pairs, keeps_blobs=namespace.report is not None)
        error = error_of(lambda session, listen: session.start(work, listen), options, tally, namespace)
        if isinstance(error, Cancelled):
            error = Cancelled(f"cancelled; {place} was not written")
        report = ArchiveReport(work.result(), tally, str(place), work.written)
        return close_run(error, report, file, namespace, options, tally.kept)


def _check_part_size(size: int) -> None:
    from crossdock.runs.toarchive import SMALLEST_PART

    if size < SMALLEST_PART:
        raise ValueError("a part has at least 64 KiB")


def _place(text: str) -> OciArchiveReference | DockerArchiveReference:
    """The archive that `text` names, without an image. Raises `UsageError`."""
    from crossdock.oci.archivereference import DockerArchiveReference, OciArchiveReference

    is_docker = text.startswith("docker-archive:")
    try:
        return (DockerArchiveReference if is_docker else OciArchiveReference)(archive_path(text))
    except InvalidInput as error:
        raise UsageError(str(error), advice=error.advice, command=_COMMAND) from None
