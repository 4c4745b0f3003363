"""Bytes that are not those of the descriptor: how that is known, and the one retry that it is worth."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from crossdock._kernels import Slot
from crossdock.errors import CopyError, DigestMismatch, RegistryError, SizeMismatch, root_cause
from crossdock.oci.descriptor import Descriptor
from crossdock.tally import Tally

_T = TypeVar("_T")


def is_wrong_content(error: BaseException) -> bool:
    """Whether the bytes were not those of the descriptor, by our check or the target's."""
    cause = root_cause(error)
    refused = isinstance(cause, RegistryError) and "DIGEST_INVALID" in cause.codes
    return refused or isinstance(cause, DigestMismatch | SizeMismatch)


async def retry_wrong_content(attempt: Callable[[], Awaitable[_T]], blob: Descriptor, tally: Tally) -> _T:
    """Make the attempt, and a second one if the bytes were wrong: they may have been damaged on the way."""
    try:
        return await attempt()
    except CopyError as error:
        if not is_wrong_content(error):
            raise
        operation = "fetch blob" if error.side == "source" else "push blob"
        tally.retried(error.side, operation, str(root_cause(error)))
        tally.progress(blob, 0)
        return await attempt()


def check_mark(slot: Slot, blob: Descriptor, reference: str) -> None:
    """Raise `CopyError` when the slot's bytes differ from those marked. `reference` is the source's."""
    try:
        slot.check()
    except BufferError as error:
        raise CopyError(
            f"buffer of {blob.digest} changed while it was in use: {error}",
            operation="move blob",
            side="source",
            reference=reference,
        ) from error
