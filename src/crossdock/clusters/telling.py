"""The events that workers tell the client of: those that displays and reports need, beside the figures."""

from __future__ import annotations

from crossdock.events import (
    BlobDone,
    CopyDone,
    CopyFailed,
    CopyStarted,
    Retrying,
    UploadKept,
    UploadResumed,
    Warned,
)

TOLD = BlobDone | CopyDone | CopyFailed | CopyStarted | Retrying | UploadKept | UploadResumed | Warned
