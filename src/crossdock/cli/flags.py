"""Flags that several commands have, and the `CopyOptions` that they fill.

A flag that fills a field is one row, `option`, whose second word is the field.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from crossdock.cli.streams import read_credentials
from crossdock.cli.values import (
    checked,
    file_path,
    folder,
    folder_path,
    integer,
    listen,
    platform,
    readable_file,
)
from crossdock.errors import InvalidOption, Side
from crossdock.inventory.find import open_inventory
from crossdock.options import (
    CopyOptions,
    Credentials,
    ForeignLayers,
    NetworkOptions,
    RegistryOptions,
    Verify,
    default_state_folder,
)
from crossdock.units import parse_duration, parse_size

REFERENCE = "[docker://][HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST], or oci:DIR[:TAG|@DIGEST]"
_PREFIX = "options."  # of the members of the namespace that are fields of options


def option(flags: Any, field: str, *names: str, **settings: Any) -> None:
    """Add a flag that fills a field of `CopyOptions`, or of a part of it: ``network.timeout``.

    The options themselves check the value, so that a limit is written down once.
    """
    part, _, name = field.rpartition(".")
    options: Callable[..., Any] = NetworkOptions if part else CopyOptions
    if (convert := settings.get("type")) and part not in ("source", "target"):
        settings["type"] = checked(convert, lambda value: options(**{name: value}))
    settings.setdefault("default", argparse.SUPPRESS)
    flags.add_argument(*names, dest=_PREFIX + field, **settings)


def copy_options(
    namespace: argparse.Namespace, source: Credentials | None = None, target: Credentials | None = None
) -> CopyOptions:
    """The options that a command's flags say. Raises `InvalidOption` for flags that contradict each other."""
    parts: dict[str, dict[str, Any]] = {"": {}, "network": {}, "source": {}, "target": {}}
    for dest, value in vars(namespace).items():
        if dest.startswith(_PREFIX):
            part, _, name = dest.removeprefix(_PREFIX).rpartition(".")
            parts[part][name] = tuple(value) if isinstance(value, list) else value
    network = parts["network"]
    if "timeout" in network:  # it bounds every silence, also that before a commit's response
        network["commit_timeout"] = network["timeout"]
        network["connect_timeout"] = min(network["timeout"], NetworkOptions().connect_timeout)
    if "retries" in network:  # for a registry that may still be starting
        network["retries_closed"] = network["retries"]
    authfile = getattr(namespace, "authfile", None)
    return CopyOptions(
        source=_registry_options("source", {"authfile": authfile, "credentials": source, **parts["source"]}),
        target=_registry_options("target", {"authfile": authfile, "credentials": target, **parts["target"]}),
        network=NetworkOptions(**network),
        registries=open_inventory(getattr(namespace, "inventory", None), os.environ),
        **parts[""],
    )


def read_options(namespace: argparse.Namespace) -> CopyOptions:
    """As `copy_options`, with the credentials that the ``-creds-stdin`` flags read."""
    source = read_credentials(flag) if (flag := namespace.source_creds_stdin) else None
    target = read_credentials(flag) if (flag := getattr(namespace, "target_creds_stdin", "")) else None
    return copy_options(namespace, source, target)


def _registry_options(side: Side, values: dict[str, Any]) -> RegistryOptions:
    try:
        return RegistryOptions(**values)
    except InvalidOption as error:
        raise InvalidOption(f"flags of the {side}: {error}") from None


# -- groups of flags -------------------------------------------------------------------------------------


def add_copying(parser: argparse.ArgumentParser) -> None:
    """Add everything that says how to copy, which ``copy`` and ``mirror`` share."""
    add_content(parser)
    add_side(parser, "source", "src-")
    add_side(parser, "target", "dest-")
    parser.add_argument(
        "--authfile", type=readable_file, metavar="FILE", help="--src-authfile and --dest-authfile in one"
    )
    tuning = add_network(parser)
    option(
        tuning,
        "network.connections",
        "--connections",
        type=integer,
        metavar="N",
        help="connections to the source (default: 1 to 32, as many as throughput asks for)",
    )
    option(
        tuning,
        "chunk_size",
        "--chunk-size",
        type=parse_size,
        metavar="SIZE",
        help="bytes per ranged request (default: from 4MiB up, by latency and rate)",
    )
    option(
        tuning,
        "memory",
        "--memory",
        type=parse_size,
        metavar="SIZE",
        help="all content buffers together (default 256MiB)",
    )
    option(
        tuning,
        "verify",
        "--verify",
        choices=get_args(Verify),
        help="stream: hash here (default); target: trust its own check; reread: read everything back from "
        "the target as well, and repair what is missing or wrong there",
    )
    option(
        tuning,
        "paranoid",
        "--paranoid",
        action="store_true",
        help="check every buffer a second time before it is sent",
    )
    _add_resuming(parser)
    output = parser.add_argument_group("output")
    add_progress(output)
    add_output(output)
    output.add_argument(
        "--report", type=file_path, metavar="FILE", help="write a JSON report, also on failure"
    )


def add_content(parser: argparse.ArgumentParser) -> None:
    """Add what is copied: ``--platform``, ``--referrers``, ``--foreign-layers`` and ``--check-blobs``."""
    option(
        parser,
        "platforms",
        "--platform",
        type=platform,
        action="append",
        metavar="OS/ARCH[/VARIANT]",
        help="copy only this platform of an index; repeatable: several make a filtered index, new digest",
    )
    option(
        parser,
        "referrers",
        "--referrers",
        action=argparse.BooleanOptionalAction,
        help="copy signatures, SBOMs and whatever else refers to the manifests, or fail if they cannot be "
        "queried (default: yes, with a warning instead; not with --from-file)",
    )
    option(
        parser,
        "foreign_layers",
        "--foreign-layers",
        choices=get_args(ForeignLayers),
        help="keep: leave them at their URLs (default); copy: fetch them, without credentials, and push them",
    )
    option(
        parser,
        "check_blobs",
        "--check-blobs",
        action="store_true",
        help="check every blob of images that a target registry already has, and copy those that it lost "
        "(one HEAD for each; layouts are always checked)",
    )


def _add_resuming(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("resuming")
    option(
        group,
        "state",
        "--state",
        type=_state_folder,
        default=default_state_folder(os.environ),
        metavar="DIR",
        help="journal of interrupted uploads, from which the same command resumes; none: keep none "
        "(default: crossdock in XDG_STATE_HOME, or in ~/.local/state)",
    )
    option(
        group,
        "resume_above",
        "--resume-above",
        type=parse_size,
        metavar="SIZE",
        help="upload larger blobs resumably, where the registry can (default 256MiB)",
    )
    option(
        group,
        "upload_chunk",
        "--upload-chunk",
        type=parse_size,
        metavar="SIZE",
        help="bytes per request of a resumable upload; an interruption loses at most one (default 64MiB)",
    )
    option(
        group,
        "spool",
        "--spool",
        type=folder_path,
        metavar="DIR",
        help="keep source bytes of such blobs here, so that an upload that restarts need not read them again",
    )
    option(
        group,
        "spool_size",
        "--spool-size",
        type=parse_size,
        metavar="SIZE",
        help="limit on the spool; the oldest files go first (default 16GiB)",
    )


def _state_folder(text: str) -> Path | None:
    return None if text == "none" else Path(folder(text))


def add_side(parser: argparse.ArgumentParser, side: Side, prefix: str) -> None:
    """Add the login and connection flags of one side, ``--src-…`` or ``--dest-…``.

    Without `prefix` they have plain names, and those of the source as aliases.
    """
    group = parser.add_argument_group(f"{side} registry")
    option(
        group,
        f"{side}.authfile",
        *_side_names(prefix, "authfile"),
        type=readable_file,
        metavar="FILE",
        help="read logins from this file, of docker's or podman's form, and from no other",
    )
    creds = f"--{prefix}creds-stdin"
    group.add_argument(
        *_side_names(prefix, "creds-stdin"),
        dest=f"{side}_creds_stdin",
        action="store_const",
        const=creds,
        help="read one user:password line from stdin" + (" (the source's first)" if prefix else ""),
    )
    add_connection(group, side, prefix)


def add_connection(group: Any, side: Side, prefix: str) -> None:
    """Add how to connect to the registry of a side, in a group of flags; `prefix` as for `add_side`."""
    for name, field, text in (
        ("ca", "ca_file", "CA certificates to trust besides the system's"),
        ("cert", "cert_file", "client certificate"),
        ("key", "key_file", "its key, unless it is in the same file"),
    ):
        option(
            group,
            f"{side}.{field}",
            *_side_names(prefix, name),
            type=readable_file,
            metavar="FILE",
            help=text,
        )
    option(
        group,
        f"{side}.plain_http",
        *_side_names(prefix, "plain-http"),
        action="store_true",
        help="speak HTTP, never HTTPS (automatic for loopback ports that do not speak TLS)",
    )


def _side_names(prefix: str, name: str) -> list[str]:
    return [f"--{prefix}{name}"] if prefix else [f"--{name}", f"--src-{name}"]


def add_network(parser: argparse.ArgumentParser) -> Any:
    """Add the flags of every command that speaks to registries; returns their group."""
    group = parser.add_argument_group("network and memory")
    option(
        group,
        "network.timeout",
        "--timeout",
        type=parse_duration,
        metavar="TIME",
        help="drop a connection after this long without progress (default 30s; 10m for commits)",
    )
    option(
        group,
        "network.retries",
        "--retries",
        type=integer,
        metavar="N",
        help="tries after the first, per request (default 5; 1 where nothing listens)",
    )
    add_inventory(group)
    return group


def add_inventory(group: Any) -> None:
    """Add ``--inventory``."""
    group.add_argument(
        "--inventory",
        metavar="FILE",
        help="registries, their credentials, and hosts that are served elsewhere "
        "(default: CROSSDOCK_INVENTORY, or crossdock/inventory.yaml in XDG_CONFIG_HOME)",
    )


def add_progress(group: Any) -> None:
    """Add ``--progress``."""
    group.add_argument(
        "--progress",
        choices=("auto", "plain", "json", "none"),
        default="auto",
        help="on stderr: live on a terminal, else plain lines; json: one event a line (default auto)",
    )


def add_output(group: Any) -> None:
    """Add ``--output``."""
    group.add_argument(
        "--output", choices=("text", "json"), default="text", help="format of stdout (default text)"
    )


def add_listening(parser: argparse.ArgumentParser, default: str) -> None:
    """Add where to listen and with which certificate; `default` is ``HOST:PORT``."""
    parser.add_argument(
        "--listen",
        type=listen,
        default=default,
        metavar="HOST:PORT",
        help=f"address to listen on; port 0 takes a free one (default {default})",
    )
    parser.add_argument(
        "--cert", type=readable_file, metavar="FILE", help="serve HTTPS with this certificate"
    )
    parser.add_argument(
        "--key", type=readable_file, metavar="FILE", help="its key, unless it is in the same file"
    )
