"""``--shard``: which part of a run this process does, from the flag or from the scheduler's environment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crossdock.cli.values import checked, integer, readable_file
from crossdock.errors import InvalidOption
from crossdock.units import parse_duration

if TYPE_CHECKING:
    from crossdock.cli.parser import Parser
    from crossdock.clusters.place import ClusterPlace
    from crossdock.mirroring.shard import Shard
    from crossdock.options import CopyOptions

_KUBERNETES = "JOB_COMPLETION_INDEX"
_SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")
_CI = ("CI_NODE_INDEX", "CI_NODE_TOTAL")


def add_shard(group: Any) -> None:
    """Add ``--shard``."""
    group.add_argument(
        "--shard",
        type=checked(lambda text: shard_of(text, os.environ)),
        metavar="I/N",
        help="do only part I (from 0) of N; auto/N: I is JOB_COMPLETION_INDEX; auto: as a Slurm array or "
        "CI_NODE_INDEX and CI_NODE_TOTAL say; limits per second are divided by N",
    )


def add_machines(parser: Parser, *, shards: bool = True) -> None:
    """Add ``--cluster`` and its settings, and ``--shard`` unless `shards` is false."""
    group = parser.add_argument_group("several machines")
    which = group.add_mutually_exclusive_group()
    if shards:
        add_shard(which)
    which.add_argument(
        "--cluster",
        metavar="tcp://HOST:PORT",
        help="copy on the workers of this Dask cluster; tls://HOST:PORT: with TLS, by Dask's own settings or "
        "the files below",
    )
    which.add_argument(
        "--workers",
        type=checked(integer, _check_workers),
        metavar="N",
        help="copy in N processes of this machine, which are a Dask cluster",
    )
    group.add_argument(
        "--worker-timeout",
        type=checked(parse_duration),
        metavar="TIME",
        help="give a worker up that says nothing for this long (default 30s)",
    )
    for name, text in (
        ("ca", "CA certificates of the cluster"),
        ("cert", "certificate for the cluster"),
        ("key", "its key, unless it is in the same file"),
    ):
        group.add_argument(f"--cluster-{name}", type=readable_file, metavar="FILE", help=text)


def place_of(namespace: argparse.Namespace, options: CopyOptions) -> ClusterPlace | None:
    """The cluster that the flags name, checked for these options; None: none. Raises `InvalidOption`."""
    files = {f"{name}_file": getattr(namespace, f"cluster_{name}") for name in ("ca", "cert", "key")}
    if namespace.cluster is None and namespace.workers is None:
        if namespace.worker_timeout is not None or any(files.values()):
            raise InvalidOption("--worker-timeout and the files of a cluster need --cluster or --workers")
        return None
    from crossdock.clusters.place import SILENCE_S, ClusterPlace

    place = ClusterPlace(
        address=namespace.cluster,
        workers=namespace.workers or 1,
        silence=namespace.worker_timeout or SILENCE_S,
        **{name: str(path) for name, path in files.items() if path is not None},
    )
    place.check(options)
    return place


def _check_workers(number: int) -> None:
    if number < 1:
        raise ValueError("must be 1 or more")


def shard_of(text: str, environ: Mapping[str, str]) -> Shard:
    """The shard that `text` means: ``I/N``, ``auto/N`` or ``auto``. Raises ValueError."""
    from crossdock.mirroring.shard import Shard  # few commands are given one

    if text == "auto":
        return Shard.of(*_of_array(environ))
    word, _, count = text.partition("/")
    if word != "auto":
        return Shard.parse(text)
    if not count.isdecimal():
        raise ValueError(f"{text!r} is not of the form auto/N")
    _demand(text, environ, (_KUBERNETES,))
    index = _number(environ, _KUBERNETES)
    if index >= int(count):
        raise ValueError(f"{_KUBERNETES} is {index}, which is no shard of {count}: they are counted from 0")
    return Shard.of(index, int(count))


def _of_array(environ: Mapping[str, str]) -> tuple[int, int]:
    """The index and the count from Slurm's variables, else from those of the CI system."""
    if all(map(environ.get, _SLURM)):
        return _of_slurm(environ)
    if not any(map(environ.get, (*_SLURM, *_CI))):
        raise ValueError(
            f"auto needs {' and '.join(_SLURM)}, or {' and '.join(_CI)}, and none of them is set"
        )
    _demand("auto", environ, _CI if any(map(environ.get, _CI)) else _SLURM)
    index, count = (_number(environ, name) for name in _CI)
    if not 1 <= index <= count:
        raise ValueError(f"CI_NODE_INDEX is {index}, and it should be 1 to CI_NODE_TOTAL, {count}")
    return index - 1, count


def _of_slurm(environ: Mapping[str, str]) -> tuple[int, int]:
    """Tasks of an array are numbered from any number, in steps: ``--array=10-40:10``."""
    task, count = (_number(environ, name) for name in _SLURM)
    first = _number(environ, "SLURM_ARRAY_TASK_MIN", 0)
    step = max(1, _number(environ, "SLURM_ARRAY_TASK_STEP", 1))
    last = _number(environ, "SLURM_ARRAY_TASK_MAX", first + (count - 1) * step)
    index, rest = divmod(task - first, step)
    if rest or not 0 <= index < count or (last - first) // step + 1 != count:
        raise ValueError(
            f"the {count} tasks of the Slurm array are not {first} to {last} in steps of {step}; write I/N"
        )
    return index, count


def _demand(text: str, environ: Mapping[str, str], names: tuple[str, ...]) -> None:
    missing = [name for name in names if not environ.get(name)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise ValueError(f"{text} needs {' and '.join(missing)}, which {verb} not set")


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    value = environ.get(name)
    if not value and default is not None:
        return default
    if not (value and value.isdecimal()):
        raise ValueError(f"{name} is {value!r}, which is no number")
    return int(value)
