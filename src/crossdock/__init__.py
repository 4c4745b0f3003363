"""crossdock copies container images and OCI artifacts from registry to registry, byte-exact.

    >>> from crossdock import copy_sync
    >>> copy_sync("docker.io/library/hello-world", "127.0.0.1:5000/hello-world").digest

Names load on first use, so the version line does not pay for an HTTP client.
"""

from __future__ import annotations

# A name that type checkers take for true; the real one costs the import of `typing`, half of a quick start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from crossdock.api import (
        copy,
        copy_many,
        copy_many_sync,
        copy_sync,
        inspect,
        list_tags,
        mirror,
        mirror_sync,
    )
    from crossdock.bodies import BytesBlob, StreamBlob
    from crossdock.content import BlobSource, Body, ByteSink, Source, Target, UploadSession
    from crossdock.errors import Advice, CopyError, CrossdockError
    from crossdock.events import Event
    from crossdock.mirroring.run import MirrorResult
    from crossdock.oci.descriptor import Descriptor
    from crossdock.oci.digest import Digest
    from crossdock.oci.reference import Reference
    from crossdock.options import CopyOptions, Credentials, HostLimits, NetworkOptions, RegistryOptions
    from crossdock.runs.looking import Inspection
    from crossdock.runs.one import CopyResult
    from crossdock.runs.results import ManyResult, PairResult, TargetResult, TargetsResult
    from crossdock.runs.run import Run, RunEvent
    from crossdock.runs.totals import Totals
    from crossdock.session import Session

__version__ = "0.1.0"

_HOME = {
    "BlobSource": "content",
    "Body": "content",
    "ByteSink": "content",
    "BytesBlob": "bodies",
    "Advice": "errors",
    "CopyError": "errors",
    "CopyOptions": "options",
    "CopyResult": "runs.one",
    "Credentials": "options",
    "CrossdockError": "errors",
    "Descriptor": "oci.descriptor",
    "Digest": "oci.digest",
    "Event": "events",
    "HostLimits": "options",
    "Inspection": "runs.looking",
    "ManyResult": "runs.results",
    "MirrorResult": "mirroring.run",
    "NetworkOptions": "options",
    "PairResult": "runs.results",
    "Reference": "oci.reference",
    "RegistryOptions": "options",
    "Run": "runs.run",
    "RunEvent": "runs.run",
    "Session": "session",
    "Source": "content",
    "StreamBlob": "bodies",
    "Target": "content",
    "TargetResult": "runs.results",
    "TargetsResult": "runs.results",
    "Totals": "runs.totals",
    "UploadSession": "content",
    "copy": "api",
    "copy_many": "api",
    "copy_many_sync": "api",
    "copy_sync": "api",
    "inspect": "api",
    "list_tags": "api",
    "mirror": "api",
    "mirror_sync": "api",
}

__all__ = [
    "Advice",
    "BlobSource",
    "Body",
    "ByteSink",
    "BytesBlob",
    "CopyError",
    "CopyOptions",
    "CopyResult",
    "Credentials",
    "CrossdockError",
    "Descriptor",
    "Digest",
    "Event",
    "HostLimits",
    "Inspection",
    "ManyResult",
    "MirrorResult",
    "NetworkOptions",
    "PairResult",
    "Reference",
    "RegistryOptions",
    "Run",
    "RunEvent",
    "Session",
    "Source",
    "StreamBlob",
    "Target",
    "TargetResult",
    "TargetsResult",
    "Totals",
    "UploadSession",
    "copy",
    "copy_many",
    "copy_many_sync",
    "copy_sync",
    "inspect",
    "list_tags",
    "mirror",
    "mirror_sync",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'crossdock' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"crossdock.{_HOME[name]}"), name)
    globals()[name] = value
    return value
