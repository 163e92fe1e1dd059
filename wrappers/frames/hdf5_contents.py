"""What an HDF5 file holds that a field of the geometry could mean, for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

import h5py

__all__ = ["candidates"]

MOST = 5
BUDGET = 2000
"""Members that are looked at; a file may have any number."""


def candidates(file: h5py.File, name: str, field: str) -> str:
    """Say what a field that names nothing should be set to.

    Parameters
    ----------
    file : h5py.File
    name : str
        What is not there.
    field : str
        "data": arrays of at least two dimensions are named, the largest first; "mask": whole
        numbers in two dimensions, of a frame's size; a header: single numbers, and one for each
        frame, those first whose names are like this one.
    """
    found = list(_arrays(file))
    if field == "data":
        fit = [each for each in found if len(each[1]) >= 2 and each[2] in "iuf"]
        fit.sort(key=lambda each: -each[3])
    elif field == "mask":
        frames = max((shape for _, shape, _, _ in found if len(shape) >= 3), key=len, default=())
        fit = [
            each
            for each in found
            if len(each[1]) == 2 and each[2] in "iub" and each[1] == (frames[-2:] or each[1])
        ]
    else:
        fit = [each for each in found if len(each[1]) <= 1 and each[2] in "iufSO"]
        fit.sort(key=lambda each: -difflib.SequenceMatcher(None, name, each[0]).ratio())
    if not fit:
        if field == "mask":
            return (
                "it holds nothing that can be a mask; remove the lines of the mask, and make one "
                "with sfx-tuner mask"
            )
        return f"set {field} to what it holds (no {'arrays' if field == 'data' else 'numbers'})"
    texts = [
        f"{path}: {' x '.join(map(str, shape)) or 'one value'}" for path, shape, _, _ in fit[:MOST]
    ]
    return f"set {field} to what it holds ({', '.join(texts)})"


def _arrays(file: h5py.File) -> Iterator[tuple[str, tuple[int, ...], str, int]]:
    """Yield name, shape, kind and size of data sets that are in the file itself."""
    groups: list[tuple[h5py.Group, str, int]] = [(file, "", 0)]
    budget = BUDGET
    while groups and budget > 0:
        group, prefix, depth = groups.pop(0)
        for key in group:
            budget -= 1
            if budget <= 0:
                break
            try:
                # A link may lead to where HDF5 waits for ever.
                if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                    continue
                item = group[key]
                if isinstance(item, h5py.Group):
                    if depth < 8:
                        groups.append((item, f"{prefix}/{key}", depth + 1))
                elif isinstance(item, h5py.Dataset) and item.shape is not None:
                    yield f"{prefix}/{key}", item.shape, item.dtype.kind, item.size
            except (KeyError, OSError, RuntimeError, TypeError, ValueError):
                continue
