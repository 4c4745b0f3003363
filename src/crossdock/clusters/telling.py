"""The events that workers pass to the client: those that displays and reports need, beside the figures."""

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
