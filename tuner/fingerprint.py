"""Telling which file was read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

__all__ = ["fingerprint"]

WHOLE_FILE_LIMIT = 64 << 20


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file, as ``sha256:…``.

    Of a file above 64 MiB only the first and last MiB and the size are taken, marked
    ``sha256-ends:…``, because a run may be hundreds of gigabytes.
    """
    digest = hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb") as stream:
        if size <= WHOLE_FILE_LIMIT:
            digest = hashlib.file_digest(stream, "sha256")
            return f"sha256:{digest.hexdigest()}"
        digest.update(stream.read(1 << 20))
        stream.seek(-(1 << 20), os.SEEK_END)
        digest.update(stream.read())
    digest.update(str(size).encode())
    return f"sha256-ends:{digest.hexdigest()}"
