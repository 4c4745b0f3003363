"""Flags that several commands share, and the `CopyOptions` that they fill.

A flag that fills a field of the options is one row: `option`. Nothing else needs to know it.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
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
    number,
    platform,
    readable_file,
)
from crossdock.errors import InvalidOption, Side
from crossdock.inventory.find import open_inventory
from crossdock.options import (
    CopyOptions,
    Credentials,
    Existing,
    ForeignLayers,
    NetworkOptions,
    RegistryOptions,
    Verify,
    default_state_folder,
)
from crossdock.units import parse_duration, parse_size

REFERENCE = (
    "[docker://][HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG|@DIGEST], "
    "oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME[:TAG]|:@N]"
)

_PREFIX = "options."  # of the members of the namespace that are fields of options
_CONVERTERS = {
    "SIZE": parse_size,
    "TIME": parse_duration,
    "N": integer,
    "FILE": readable_file,
    "DIR": folder_path,
}


def option(flags: Any, field: str, names: str, text: str, **settings: Any) -> None:
    """Add a flag, to a parser or a group, that fills a field of `CopyOptions`.

    `field` is ``memory``, or ``network.timeout`` and ``source.ca_file`` in a part of the options. `names` are
    the flag, its aliases and the kind of its value: ``--timeout TIME``. Without a kind it is a switch. The
    options class checks the value, so that a limit is written down once.
    """
    words = names.split()
    if not words[-1].startswith("-"):
        settings["metavar"] = kind = words.pop()
        settings.setdefault("type", _CONVERTERS.get(kind))
        settings["type"] = _checked(field, settings["type"])
    elif not settings:
        settings["action"] = "store_true"
    flags.add_argument(*words, dest=_PREFIX + field, help=text, **{"default": argparse.SUPPRESS, **settings})


def _checked(field: str, convert: Any) -> Any:
    part, _, name = field.rpartition(".")
    if part in ("source", "target"):  # their fields depend on each other
        return convert
    options: Any = NetworkOptions if part else CopyOptions
    return checked(convert, lambda value: options(**{name: value}))


def copy_options(
    namespace: argparse.Namespace, source: Credentials | None = None, target: Credentials | None = None
) -> CopyOptions:
    """The options given by a command's flags. Raises `InvalidOption` for flags that contradict each other."""
    parts: dict[str, dict[str, Any]] = {"": {}, "network": {}, "source": {}, "target": {}}
    for dest, value in vars(namespace).items():
        if dest.startswith(_PREFIX):
            part, _, name = dest.removeprefix(_PREFIX).rpartition(".")
            parts[part][name] = tuple(value) if isinstance(value, list) else value
    network = parts["network"]
    if "timeout" in network:  # it bounds every silence, also the one before a commit's response
        network["commit_timeout"] = network["timeout"]
        network["connect_timeout"] = min(network["timeout"], NetworkOptions().connect_timeout)
    if "retries" in network:  # the registry may still be starting
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


def add_copying(parser: argparse.ArgumentParser, *, chooses: bool = True) -> None:
    """Add the flags that ``copy``, ``mirror`` and ``apply`` share; `chooses`: what is copied, too."""
    _add_run_output(parser)
    content = parser.add_argument_group("content")
    if chooses:
        option(
            content,
            "existing",
            "--existing",
            "if a target tag has other content, overwrite it (default), report it and leave it, or refuse: "
            "leave it and fail",
            choices=get_args(Existing),
        )
        add_content(content)
    else:
        add_layers(content)
    add_sides(parser)
    add_network(parser)
    _add_tuning(parser.add_argument_group("speed, memory and checks"))
    _add_resuming(parser.add_argument_group("resuming"))


def add_archiving(parser: argparse.ArgumentParser) -> None:
    """Add the flags that ``archive`` shares with ``copy``: those of one side, which is the source."""
    _add_run_output(parser)
    add_content(parser.add_argument_group("content"))
    add_side(parser, "source", "")
    add_network(parser)
    _add_tuning(parser.add_argument_group("speed, memory and checks"))


def _add_run_output(parser: argparse.ArgumentParser) -> None:
    add_output(parser)
    parser.add_argument(
        "--report", type=file_path, metavar="FILE", help="write a JSON report, also on failure"
    )
    add_progress(parser)


def add_content(parser: Any) -> None:
    """Add the flags for the content to copy, which ``copy``, ``mirror`` and ``acr import`` share."""
    add = partial(option, parser)
    add(
        "platforms",
        "--platform OS/ARCH[/VARIANT]",
        "copy only this platform of an index; repeatable: several become a new index with a new digest",
        type=platform,
        action="append",
    )
    add(
        "referrers",
        "--referrers",
        "copy signatures, SBOMs and all other referrers, and fail if they cannot be queried "
        "(default: copy them but only warn; with --from-file: skip them)",
        action=argparse.BooleanOptionalAction,
    )
    add_layers(parser)


def add_layers(parser: Any) -> None:
    """Add how the layers of whatever is copied are treated."""
    add = partial(option, parser)
    add(
        "foreign_layers",
        "--foreign-layers",
        "keep: leave them at their URLs (default); copy: fetch them, without credentials, and push them",
        choices=get_args(ForeignLayers),
    )
    add(
        "check_blobs",
        "--check-blobs",
        "check that the target still has the blobs of images that it already has, and copy missing ones "
        "(one HEAD per blob; layouts are always checked)",
    )


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the network flags of every command that connects to registries."""
    group = parser.add_argument_group("network")
    add = partial(option, group)
    add(
        "network.timeout",
        "--timeout TIME",
        "drop a connection after this long without progress (default 30s; 10m for commits)",
    )
    add("network.retries", "--retries N", "retries per request (default 5; 1 if the connection is refused)")
    add_inventory(group, "file of registries, their credentials, and hosts to reach at other addresses")


def _add_tuning(group: Any) -> None:
    add = partial(option, group)
    add(
        "network.connections",
        "--connections N",
        "connections to the source (default: 1 to 32, by throughput)",
    )
    add(
        "limit_rate",
        "--limit-rate SIZE",
        "bytes of blobs per second, all copies together (default: no limit)",
    )
    add(
        "limit_requests",
        "--limit-requests N",
        "requests per second, all registries together; 0.5 is one in two seconds (default: no limit)",
        type=number,
    )
    add("chunk_size", "--chunk-size SIZE", "bytes per ranged GET (default: by latency and rate)")
    add("memory", "--memory SIZE", "limit on all content buffers together (default 256MiB)")
    add(
        "verify",
        "--verify",
        "stream: hash while copying (default); target: rely on the target's own check; reread: also read "
        "everything back from the target, and copy missing or wrong blobs again",
        choices=get_args(Verify),
    )
    add("paranoid", "--paranoid", "check every buffer a second time before it is sent")


def _add_resuming(group: Any) -> None:
    add = partial(option, group)
    add(
        "state",
        "--state DIR",
        "journal of interrupted uploads, from which the same command resumes; none: keep none "
        "(default: crossdock in XDG_STATE_HOME, or in ~/.local/state)",
        type=_state_folder,
        default=default_state_folder(os.environ),
    )
    add("resume_above", "--resume-above SIZE", "upload larger blobs resumably if possible (default 256MiB)")
    add(
        "upload_chunk",
        "--upload-chunk SIZE",
        "bytes per request of a resumable upload; an interruption loses at most one request (default 64MiB)",
    )
    add(
        "spool",
        "--spool DIR",
        "keep source bytes of resumable blobs here, so that a restarted upload need not read them again",
    )
    add("spool_size", "--spool-size SIZE", "limit on the spool; the oldest files go first (default 16GiB)")


def _state_folder(text: str) -> Path | None:
    return None if text == "none" else Path(folder(text))


def add_sides(parser: argparse.ArgumentParser) -> None:
    """Add the flags of both sides."""
    add_side(parser, "source", "src-")
    add_side(parser, "target", "dest-").add_argument(
        "--authfile", type=readable_file, metavar="FILE", help="set both --src-authfile and --dest-authfile"
    )


def add_side(parser: argparse.ArgumentParser, side: Side, prefix: str) -> Any:
    """Add the login and connection flags of one side, ``--src-…`` or ``--dest-…``; returns their group.

    Without `prefix` they have plain names, and those of the source as aliases.
    """
    group = parser.add_argument_group(f"{side} registry")
    add = partial(option, group)
    add(
        f"{side}.authfile",
        f"{_side_names(prefix, 'authfile')} FILE",
        "read logins only from this file, in docker's or podman's format",
    )
    group.add_argument(
        *_side_names(prefix, "creds-stdin").split(),
        dest=f"{side}_creds_stdin",
        action="store_const",
        const=f"--{prefix}creds-stdin",
        help="read one user:password line from stdin" + (" (the source's first)" if prefix else ""),
    )
    add_connection(group, side, prefix)
    return group


def add_connection(group: Any, side: Side, prefix: str) -> None:
    """Add how to connect to the registry of one side; `prefix` as for `add_side`."""
    add = partial(option, group)
    for name, field, text in (
        ("ca", "ca_file", "CA certificates to trust in addition to the system's"),
        ("cert", "cert_file", "client certificate"),
        ("key", "key_file", "key of the client certificate, unless it is in the same file"),
    ):
        add(f"{side}.{field}", _side_names(prefix, name) + " FILE", text)
    add(
        f"{side}.plain_http",
        _side_names(prefix, "plain-http"),
        "use HTTP instead of HTTPS (automatic for loopback ports that do not speak TLS)",
    )


def _side_names(prefix: str, name: str) -> str:
    return f"--{prefix}{name}" if prefix else f"--{name} --src-{name}"


def add_inventory(group: Any, text: str) -> None:
    """Add ``--inventory``; `text` says what the file holds."""
    group.add_argument(
        "--inventory",
        metavar="FILE",
        help=f"{text} (default: CROSSDOCK_INVENTORY, or crossdock/inventory.yaml in XDG_CONFIG_HOME)",
    )


def add_progress(group: Any) -> None:
    """Add ``--progress``."""
    group.add_argument(
        "--progress",
        choices=("auto", "plain", "json", "none"),
        default="auto",
        help="on stderr: live on a terminal, else plain lines; json: one event per line (default auto)",
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
