"""What was read of large blobs, on disk: where a target cannot resume, the source need not be read again.

`Spool` is what a copy uses and never fails it. Each blob has one file (`spool.file`) in one folder
(`spool.folder`), under the lock of its digest. No network, no asyncio; calls block on the disk.
"""
