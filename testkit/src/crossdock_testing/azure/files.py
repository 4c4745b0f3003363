"""Files of the development cloud: secrets, readable by their owner alone, replaced atomically."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from crossdock.errors import StoreError


def private_folder(path: Path) -> Path:
    """The folder, created for its owner alone when missing. Raises `StoreError`. Blocks."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be created: {error.strerror}") from None
    return path


def write_private(path: Path, data: bytes) -> None:
    """Replace the file atomically, mode 0600.

    Raises `StoreError`. Blocks.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None


def read_if_there(path: Path) -> bytes:
    """The bytes of the file; empty when it does not exist. Raises `StoreError`. Blocks."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from None
