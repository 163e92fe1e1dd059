"""Writing files so that they appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from wrappers.errors import InputError

__all__ = ["write_whole"]


def write_whole(target: Path, content: str | bytes) -> None:
    """Write a file by way of a temporary one beside it.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogateescape")
        part.write_bytes(content)
        os.replace(part, target)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror}): choose another place"
        ) from None
    finally:
        part.unlink(missing_ok=True)
