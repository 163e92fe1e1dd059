"""What frames are opened by: the name of a file, or an address."""

from __future__ import annotations

import os

__all__ = ["Address", "is_address"]

Address = str | os.PathLike[str]
"""The name of a file, or ``scheme://…``."""


def is_address(name: Address) -> bool:
    """Tell whether a name is an address, such as ``dectris+tcp://host:31001``, not a file's."""
    return "://" in os.fspath(name)
