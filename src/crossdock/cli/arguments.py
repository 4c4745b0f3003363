"""The command line: every flag, once. Parsing imports no network code: help is fast."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, get_args

from crossdock.cli import exits
from crossdock.cli.argumentvalues import (
    checked,
    file_path,
    folder,
    folder_path,
    integer,
    location,
    minimum,
    readable_file,
)
from crossdock.cli.contentarguments import add_content, add_progress
from crossdock.cli.main import print_version
from crossdock.cli.statearguments import ACTIONS, add_state
from crossdock.cli.units import parse_duration, parse_size
from crossdock.errors import InvalidInput, InvalidOption, Side
from crossdock.inventory.find import open_inventory
from crossdock.options import (
    CopyOptions,
    Credentials,
    NetworkOptions,
    RegistryOptions,
    Verify,
    default_state_folder,
)

COMMANDS = (
    *("copy", "inspect", "tags", "registry", "demo", "state", "acr", "serve", "mirror"),
    *("login", "logout"),
)
REFERENCE = "[docker://][HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST], or oci:DIR[:TAG|@DIGEST]"


class UsageError(InvalidInput):
    """The command line cannot be understood. ``.command`` is the program and subcommand it was given to."""

    command: str = "crossdock"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line as a namespace whose ``command`` names the subcommand.

    Raises `UsageError`, or SystemExit after ``--help`` and ``--version`` have printed.
    """
    # argparse finds positionals between flags only when they are required.
    listed = any(word.partition("=")[0] == "--from-file" for word in arguments)
    only = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    parser = build_parser(listed=listed, only=only)
    namespace, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UsageError(_about_unknown(unknown, namespace.command), command=f"crossdock {namespace.command}")
    if namespace.command == "copy" and (problem := _problem_of_copy(namespace)):
        raise UsageError(problem, command="crossdock copy")
    namespace.words = list(arguments)  # what to run again
    return namespace


def copy_options(
    namespace: argparse.Namespace, source: Credentials | None, target: Credentials | None
) -> CopyOptions:
    """What the flags of any subcommand say, as options. Raises `InvalidOption` when they contradict."""
    network = {key: value for key in _NETWORK if (value := getattr(namespace, key, None)) is not None}
    if "timeout" in network:  # whoever sets a bound means every silence, a commit's too
        network["commit_timeout"] = network["timeout"]
        network["connect_timeout"] = min(network["timeout"], NetworkOptions().connect_timeout)
    if "retries" in network:  # whoever asks for retries may be waiting for a registry to start
        network["retries_closed"] = network["retries"]
    rest = {key: value for key in _COPY if (value := getattr(namespace, key, None)) is not None}
    return CopyOptions(
        source=_registry_options(namespace, "source", source),
        target=_registry_options(namespace, "target", target),
        network=NetworkOptions(**network),
        platforms=tuple(getattr(namespace, "platforms", None) or ()),
        registries=open_inventory(getattr(namespace, "inventory", None), os.environ),
        state=_state_folder(namespace),
        **rest,
    )


def _state_folder(namespace: argparse.Namespace) -> Path | None:
    if namespace.command not in ("copy", "mirror") or namespace.state == "none":
        return None
    return Path(namespace.state) if namespace.state else default_state_folder(os.environ)


_NETWORK = ("timeout", "retries", "connections")
_COPY = (
    *("resume_above", "upload_chunk", "spool", "spool_size"),
    *("chunk_size", "memory", "verify", "paranoid", "referrers", "foreign_layers"),
    "check_blobs",
)


def _registry_options(
    namespace: argparse.Namespace, side: Side, credentials: Credentials | None
) -> RegistryOptions:
    def flag(name: str) -> Any:
        return getattr(namespace, f"{side}_{name}", None)

    try:
        return RegistryOptions(
            credentials=credentials,
            ca_file=flag("ca"),
            cert_file=flag("cert"),
            key_file=flag("key"),
            plain_http=True if flag("plain_http") else None,
            authfile=flag("authfile") or getattr(namespace, "authfile", None),
        )
    except InvalidOption as error:
        raise InvalidOption(f"flags of the {side}: {error}") from None


# -- the parser --------------------------------------------------------------------------------------


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """argparse makes one for every flag that is added, and would ask the terminal by `shutil` each time."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


@cache
def _columns() -> int:
    """The terminal's width, found as `shutil.get_terminal_size` finds it."""
    try:
        columns = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        columns = 0
    if columns <= 0:
        try:
            columns = os.get_terminal_size(1).columns
        except OSError:
            columns = 0
    return columns or 80


class _Parser(argparse.ArgumentParser):
    """Raises instead of leaving the process; quotes no possible password; abbreviates as az alone."""

    def __init__(self, allow_abbrev: bool = False, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=allow_abbrev, formatter_class=_Formatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        if "ignored explicit argument" in message:
            message = message.partition(" ignored explicit argument")[0] + " takes no value"
        if message.startswith("ambiguous option: "):  # may be --pass=SECRET
            message = re.sub(r"=.* could match", " could match", message, flags=re.DOTALL)
        if message.startswith("argument COMMAND: invalid choice"):
            message = f"no such command; there are {', '.join(COMMANDS)}"
        if message.startswith("argument ACTION: invalid choice"):
            message = f"no such action; there are {', '.join(ACTIONS)}"
        if message.startswith("argument GROUP: invalid choice"):
            message = "no such group; `crossdock acr --help` lists them"
        raise UsageError(message, command=self.prog)


class _Version(argparse.Action):
    """What ``--version`` alone prints, also among other arguments."""

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise SystemExit(print_version())


def build_parser(*, listed: bool = False, only: str = "") -> argparse.ArgumentParser:
    """The whole command line, or what is needed of it to parse the command `only`.

    `listed`: the pairs to copy come from a file.
    """
    parser = _Parser(
        prog="crossdock",
        description="Copies container images and OCI artifacts between registries and layouts, byte-exact.",
        epilog=exits.table(),
    )
    parser.add_argument(
        "-V", "--version", action=_Version, nargs=0, help="show version and backends, and exit"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    adders: dict[str, Callable[[], None]] = {
        "copy": lambda: _add_copy(commands, listed=listed),
        "inspect": lambda: _add_inspect(commands),
        "tags": lambda: _add_tags(commands),
        "registry": lambda: _add_registry(commands),
        "demo": lambda: _add_demo(commands),
        "state": lambda: add_state(commands, _command),
        "acr": lambda: _add_acr(commands),
        "serve": lambda: _add_serve(commands),
        "mirror": lambda: _add_mirror(commands),
        "login": lambda: _add_login(commands),
        "logout": lambda: _add_logout(commands),
    }
    for name, add in adders.items():
        if not only or name == only:
            add()
    return parser


def _command(commands: Any, name: str, summary: str, description: str = "", **settings: Any) -> _Parser:
    text = description or summary[0].upper() + summary[1:] + "."
    parser: _Parser = commands.add_parser(
        name, help=summary, description=text, epilog=exits.table(), **settings
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _add_copy(commands: Any, *, listed: bool) -> None:
    parser = _command(
        commands,
        "copy",
        "copy an image or artifact, with everything it refers to",
        f"Copies what SOURCE names to TARGET. A reference is {REFERENCE}.\n"
        "Without --platform everything is copied and no byte changes. --from-file LIST stands in for both.",
    )
    parser.add_argument(
        "source", type=location, metavar="SOURCE", nargs="?" if listed else None, help="what to copy"
    )
    parser.add_argument(
        "target", type=location, metavar="TARGET", nargs="?" if listed else None, help="where to"
    )
    parser.add_argument(
        "--from-file",
        metavar="LIST",
        help="copy many: one SOURCE TARGET pair a line, # begins a comment; - is stdin",
    )
    parser.add_argument(
        "--fail-fast", action="store_true", help="end with the first copy of the list that fails"
    )
    _add_copying(parser)


def _add_mirror(commands: Any) -> None:
    from crossdock.cli.mirrorarguments import add_mirror

    add_mirror(commands, _command, _add_copying)


def _add_copying(parser: _Parser) -> None:
    """The flags of how to copy, which one copy and many have."""
    add_content(parser)
    _add_registry_side(parser, "source", "src")
    _add_registry_side(parser, "target", "dest")
    parser.add_argument(
        "--authfile", type=readable_file, metavar="FILE", help="--src-authfile and --dest-authfile in one"
    )
    tuning = _add_network(parser)
    tuning.add_argument(
        "--connections",
        type=checked(NetworkOptions, "connections", integer),
        metavar="N",
        help="connections to the source (default: 1 to 32, as many as throughput asks for)",
    )
    tuning.add_argument(
        "--chunk-size",
        type=checked(CopyOptions, "chunk_size", parse_size),
        metavar="SIZE",
        help="bytes of one ranged request (default: from 4MiB up, by latency and rate)",
    )
    tuning.add_argument(
        "--memory",
        type=checked(CopyOptions, "memory", parse_size),
        metavar="SIZE",
        help="all content buffers together (default 256MiB)",
    )
    tuning.add_argument(
        "--verify",
        choices=get_args(Verify),
        help="stream: hash here (default); target: trust its own check; reread: read everything back from "
        "the target as well, and repair what is missing or wrong there",
    )
    tuning.add_argument(
        "--paranoid", action="store_true", help="check every buffer a second time before it is sent"
    )
    _add_resuming(parser)
    output = parser.add_argument_group("output")
    add_progress(output)
    _add_output(output)
    output.add_argument(
        "--report", type=file_path, metavar="FILE", help="write a JSON report, also on failure"
    )


def _add_resuming(parser: _Parser) -> None:
    group = parser.add_argument_group("resuming")
    group.add_argument(
        "--state",
        type=folder,
        metavar="DIR",
        help="journal of interrupted uploads, from which the same command resumes; none: keep none "
        "(default: crossdock in XDG_STATE_HOME, or in ~/.local/state)",
    )
    group.add_argument(
        "--resume-above",
        type=checked(CopyOptions, "resume_above", parse_size),
        metavar="SIZE",
        help="upload larger blobs resumably, where the registry can (default 256MiB)",
    )
    group.add_argument(
        "--upload-chunk",
        type=checked(CopyOptions, "upload_chunk", parse_size),
        metavar="SIZE",
        help="bytes per request of a resumable upload; an interruption loses at most one (default 64MiB)",
    )
    group.add_argument(
        "--spool",
        type=folder_path,
        metavar="DIR",
        help="keep source bytes of such blobs here, so that an upload that restarts need not read them again",
    )
    group.add_argument(
        "--spool-size",
        type=checked(CopyOptions, "spool_size", parse_size),
        metavar="SIZE",
        help="limit on the spool; the oldest files go first (default 16GiB)",
    )


def _add_acr(commands: Any) -> None:
    from crossdock.cli.acrarguments import add_acr  # many flags, which no other command has

    add_acr(commands, _command, _add_network)


def _add_login(commands: Any) -> None:
    from crossdock.cli.loginarguments import add_login

    add_login(commands, _command, _add_connection, _add_network)


def _add_logout(commands: Any) -> None:
    from crossdock.cli.loginarguments import add_logout

    add_logout(commands, _command)


def _add_serve(commands: Any) -> None:
    from crossdock.cli.servearguments import add_serve

    add_serve(commands, _command)


def _add_inspect(commands: Any) -> None:
    parser = _command(commands, "inspect", "show what a reference names, without copying")
    parser.add_argument("reference", type=location, metavar="REFERENCE", help=REFERENCE)
    output = parser.add_argument_group("output")
    _add_output(output)
    output.add_argument("--raw", action="store_true", help="print the manifest's bytes, unchanged")
    _add_registry_side(parser, "source", "")
    _add_network(parser)


def _add_tags(commands: Any) -> None:
    parser = _command(commands, "tags", "list the tags of a repository, one a line")
    parser.add_argument(
        "repository", type=location, metavar="REPOSITORY", help="[HOST[:PORT]/]REPOSITORY, or oci:DIR"
    )
    _add_output(parser.add_argument_group("output"))
    _add_registry_side(parser, "source", "")
    _add_network(parser)


def _add_registry(commands: Any) -> None:
    from crossdock.cli.listenarguments import add_listening

    parser = _command(commands, "registry", "serve an OCI layout as a registry")
    parser.add_argument(
        "--root", type=file_path, required=True, metavar="DIR", help="folder that holds the content"
    )
    add_listening(parser, "127.0.0.1:5000")
    parser.add_argument(
        "--users",
        type=readable_file,
        metavar="FILE",
        help="JSON of those who may use it, as Azure's registries ask",
    )
    parser.add_argument(
        "--anonymous",
        choices=("read", "write"),
        help="what anybody may do without --users; needed to listen on more than loopback",
    )


def _add_demo(commands: Any) -> None:
    parser = _command(
        commands,
        "demo",
        "copy a real image between two registries on this machine",
        "Starts two registries on loopback, builds a multi-architecture image, copies it from one to the\n"
        "other, compares, and copies again. Needs no network; uses about 3.5 times --size of temporary disk.",
    )
    parser.add_argument(
        "--size",
        type=minimum(parse_size, 1 << 20, "1MiB"),
        default=300 << 20,
        metavar="SIZE",
        help="size of the largest layer (default 300MiB)",
    )
    parser.add_argument("--keep", action="store_true", help="keep the files and say where they are")


def _add_registry_side(parser: _Parser, side: Side, prefix: str) -> None:
    """The connection flags of one side; without prefix the plain names, with ``--src-…`` as aliases."""

    def names(name: str) -> list[str]:
        return [f"--{prefix}-{name}"] if prefix else [f"--{name}", f"--src-{name}"]

    group = parser.add_argument_group(f"{side} registry")
    group.add_argument(
        *names("authfile"),
        dest=f"{side}_authfile",
        type=readable_file,
        metavar="FILE",
        help="read logins from this file of docker's or podman's form, and from no other",
    )
    group.add_argument(
        *names("creds-stdin"),
        dest=f"{side}_creds_stdin",
        action="store_true",
        help="read one user:password line from stdin" + (" (the source's first)" if prefix else ""),
    )
    _add_connection(group, side, names)


def _add_connection(group: Any, side: Side, names: Callable[[str], list[str]]) -> None:
    for name, text in (
        ("ca", "CA certificates to trust besides the system's"),
        ("cert", "client certificate"),
        ("key", "its key, unless it is in the same file"),
    ):
        group.add_argument(*names(name), dest=f"{side}_{name}", type=readable_file, metavar="FILE", help=text)
    group.add_argument(
        *names("plain-http"),
        dest=f"{side}_plain_http",
        action="store_true",
        help="speak HTTP, never HTTPS (automatic for loopback ports that do not speak TLS)",
    )


def _add_network(parser: _Parser) -> Any:
    group = parser.add_argument_group("network and memory")
    group.add_argument(
        "--timeout",
        type=checked(NetworkOptions, "timeout", parse_duration),
        metavar="TIME",
        help="drop a connection after this long without progress (default 30s; 10m for commits)",
    )
    group.add_argument(
        "--retries",
        type=checked(NetworkOptions, "retries", integer),
        metavar="N",
        help="tries after the first, per request (default 5; 1 where nothing listens)",
    )
    group.add_argument(
        "--inventory",
        metavar="FILE",
        help="registries, their credentials, and hosts that are served elsewhere "
        "(default: CROSSDOCK_INVENTORY, or crossdock/inventory.yaml in XDG_CONFIG_HOME)",
    )
    return group


def _add_output(group: Any) -> None:
    group.add_argument(
        "--output", choices=("text", "json"), default="text", help="what stdout holds (default text)"
    )


# -- what is wrong ----------------------------------------------------------------------------------


def _problem_of_copy(namespace: argparse.Namespace) -> str:
    """What contradicts in the words of ``crossdock copy``; empty when nothing does."""
    if namespace.from_file is None:
        return "--fail-fast is for --from-file" if namespace.fail_fast else ""
    if namespace.source is not None:
        return "--from-file takes the place of SOURCE and TARGET"
    if namespace.from_file == "-" and (namespace.source_creds_stdin or namespace.target_creds_stdin):
        return "--from-file - and the -creds-stdin flags both read stdin: give the list as a file"
    return ""


def _about_unknown(words: Sequence[str], command: str) -> str:
    """What is wrong with words nobody asked for. Only flag names are quoted: values may be passwords."""
    flags = [word.partition("=")[0] for word in words if word.startswith("--")]
    flags += [word[:2] for word in words if word.startswith("-") and not word.startswith("--")]
    if command == "login" and any(flag in ("-p", "--password") for flag in flags):
        return "passwords are never arguments: give it on stdin, with --password-stdin"
    if any("cred" in flag or "pass" in flag for flag in flags):
        return f"unknown flag {flags[0]}: passwords are never arguments; the -creds-stdin flags read them"
    if flags:
        return f"unknown flag {', '.join(flags)}"
    return f"{len(words)} argument{'s' if len(words) > 1 else ''} too many"
