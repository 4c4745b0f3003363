"""The demo's image: a real multi-architecture index, made from files of this machine."""

from __future__ import annotations

import os
import stat
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from crossdock.imagebuilder import Content, ImageBuilder

APPLICATION_FOLDERS = (Path("/usr/lib"), Path("/usr/libexec"), Path("/usr/bin"), Path("/usr/share"))
DATA_FOLDERS = (Path("/usr/share"),)  # the same on every architecture
_FILLER_SIZE = 4 << 20
_SKIPPED_FOLDERS = {"__pycache__", "site-packages", "dist-packages", "test", "tests"}


@dataclass(frozen=True, slots=True)
class DemoImage:
    """What was built. Sizes are bytes."""

    index: Content
    largest: Content
    blobs: int
    size: int  # of every blob, each once
    generated: int  # bytes of seeded filler, because this machine has too few files


def build_image(builder: ImageBuilder, size: int) -> DemoImage:
    """linux/amd64 and linux/arm64 over a shared layer, with attestations; `size` is the largest layer's."""
    base = builder.tar_layer(python_library())
    application = _Files(*APPLICATION_FOLDERS)
    largest = builder.tar_layer(application, until=size)
    data = _Files(*DATA_FOLDERS)
    smaller = builder.tar_layer(data, until=size // 8)
    images = [
        builder.image([base, largest], "linux/amd64"),
        builder.image([base, smaller], "linux/arm64/v8"),
    ]
    index = builder.index([*images, *(builder.attestation(image) for image in images)])
    builder.tag(index, "1.0")
    sizes = [builder.path(digest).stat().st_size for digest in builder.digests()]
    return DemoImage(index, largest, len(sizes), sum(sizes), application.generated + data.generated)


def python_library() -> Iterator[tuple[str, Path]]:
    """Python's standard library as it lies on this machine, under the path a Linux image has it at."""
    library = Path(sysconfig.get_path("stdlib"))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in regular_files(library):
        yield f"usr/lib/{version}/{path.relative_to(library)}", path


def regular_files(folder: Path) -> Iterator[Path]:
    """Regular files below `folder` that anybody may read, in the order of their names."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - _SKIPPED_FOLDERS)
        for name in sorted(names):
            path = Path(parent, name)
            try:
                mode = path.lstat().st_mode
            except OSError:  # gone since it was listed
                continue
            if stat.S_ISREG(mode) and mode & stat.S_IROTH and os.access(path, os.R_OK):
                yield path


class _Files:
    """Files of some folders without end: when they are used up, seeded filler follows, which is counted."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self.generated = 0

    def __iter__(self) -> Iterator[tuple[str, bytes | Path]]:
        for folder in self._folders:
            for path in regular_files(folder):
                yield str(path.relative_to("/")), path
        random = Random(str(self._folders))
        for number in range(sys.maxsize):
            self.generated += _FILLER_SIZE
            yield f"var/lib/filler/{number:06}", random.randbytes(_FILLER_SIZE)
