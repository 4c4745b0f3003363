"""Content that a descriptor carries itself (image-spec descriptor.md, ``data``)."""

from __future__ import annotations

import binascii

from crossdock.content import BlobSource, Source
from crossdock.errors import ContentError
from crossdock.oci.descriptor import Descriptor
from crossdock.verify import verify_bytes


def blob_at(source: Source, descriptor: Descriptor) -> BlobSource:
    """The blob's bytes: those in the descriptor if they are right, else the source's."""
    data = inline_bytes(descriptor)
    if data is None:
        return source.blob(descriptor)
    from crossdock.bodies import BytesBlob  # few descriptors carry data

    return BytesBlob(data)


def inline_bytes(descriptor: Descriptor) -> bytes | None:
    """The bytes in the descriptor; None if there are none, or if they do not match its size and digest."""
    if not descriptor.data:
        return None
    try:
        data = binascii.a2b_base64(descriptor.data)
        verify_bytes(data, descriptor)
    except (ValueError, ContentError):
        return None
    return data
