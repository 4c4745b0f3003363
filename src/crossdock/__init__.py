"""crossdock copies container images and OCI artifacts from registry to registry, byte-exact.

    >>> from crossdock import copy_sync
    >>> copy_sync("docker.io/library/hello-world", "127.0.0.1:5000/hello-world").digest

Names load on first use, so ``crossdock --version`` does not pay for an HTTP client.
"""

from __future__ import annotations

# A name that type checkers take for true; the real one costs the import of `typing`, half of a quick start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from crossdock.api import CopyResult, Inspection, copy, copy_sync, inspect, list_tags
    from crossdock.bodies import BytesBlob, StreamBlob
    from crossdock.content import BlobSource, Body, ByteSink, Source, Target, UploadSession
    from crossdock.errors import CopyError, CrossdockError
    from crossdock.events import Event
    from crossdock.many import ManyResult, PairResult, copy_many, copy_many_sync
    from crossdock.mirroring.run import MirrorResult, mirror, mirror_sync
    from crossdock.oci.descriptor import Descriptor
    from crossdock.oci.digest import Digest
    from crossdock.oci.reference import Reference
    from crossdock.options import CopyOptions, Credentials, NetworkOptions, RegistryOptions

__version__ = "0.1.0"

_HOME = {
    "BlobSource": "content",
    "Body": "content",
    "ByteSink": "content",
    "BytesBlob": "bodies",
    "CopyError": "errors",
    "CopyOptions": "options",
    "CopyResult": "api",
    "Credentials": "options",
    "CrossdockError": "errors",
    "Descriptor": "oci.descriptor",
    "Digest": "oci.digest",
    "Event": "events",
    "Inspection": "api",
    "ManyResult": "many",
    "MirrorResult": "mirroring.run",
    "NetworkOptions": "options",
    "PairResult": "many",
    "Reference": "oci.reference",
    "RegistryOptions": "options",
    "Source": "content",
    "StreamBlob": "bodies",
    "Target": "content",
    "UploadSession": "content",
    "copy": "api",
    "copy_many": "many",
    "copy_many_sync": "many",
    "copy_sync": "api",
    "inspect": "api",
    "list_tags": "api",
    "mirror": "mirroring.run",
    "mirror_sync": "mirroring.run",
}

__all__ = [
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
    "Inspection",
    "ManyResult",
    "MirrorResult",
    "NetworkOptions",
    "PairResult",
    "Reference",
    "RegistryOptions",
    "Source",
    "StreamBlob",
    "Target",
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
