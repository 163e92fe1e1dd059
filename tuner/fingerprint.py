"""Telling which files were read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from wrappers.frames.address import Address, is_address
from wrappers.frames.linked import files_of_run, masks_named
from wrappers.frames.source import FrameSource
from wrappers.peak_finders import PEAK_FINDERS

__all__ = [
    "data_fingerprint",
    "fingerprint",
    "geometry_fingerprint",
    "linked_fingerprint",
    "policy_fingerprint",
    "spots_fingerprint",
]

WHOLE_FILE_LIMIT = 64 << 20


def fingerprint(*paths: Path) -> str:
    """Return the SHA-256 of a file, or of several together, as ``sha256:…``.

    Of a file above 64 MiB only the first and last MiB and the size are taken, marked
    ``sha256-ends:…``, because a run may be hundreds of gigabytes.
    """
    different = list(dict.fromkeys(path.resolve() for path in paths))
    if len(different) == 1:
        return _of_one(different[0])
    each = "\n".join(_of_one(path) for path in different)
    return f"sha256-of-{len(different)}-files:{hashlib.sha256(each.encode()).hexdigest()}"


def data_fingerprint(name: Address, run: FrameSource) -> str:
    """Return the `fingerprint` of a run's files, with the list that names them.

    Of a source without files there is nothing but its address.
    """
    files = [*([] if is_address(name) else [Path(name)]), *run.files]
    return fingerprint(*files) if files else f"address:{os.fspath(name)}"


def geometry_fingerprint(geometry: Path) -> str:
    """Return the `fingerprint` of a geometry file, with the mask files of it that are there."""
    return fingerprint(geometry, *(mask for mask in masks_named(geometry) if mask.is_file()))


def linked_fingerprint(run: FrameSource) -> str | None:
    """Return the `fingerprint` of external masks and of data behind a run's links, or None."""
    own = {path.resolve() for path in run.files}
    linked = [path for path in files_of_run(run) if path.resolve() not in own]
    return fingerprint(*linked) if linked else None


def policy_fingerprint(policy: Path | None) -> str | None:
    """Return what a session notes of a policy that is not the shipped one."""
    if policy is None:
        return None
    own = policy / "map_agent.safetensors" if policy.is_dir() else policy
    both = own, own.with_name("response_map.safetensors")
    return fingerprint(*(path for path in both if path.exists()))


def spots_fingerprint(peak_finder: str) -> str | None:
    """Return that of the spot model's weights, the shipped ones included; None without a model.

    Raises
    ------
    InputError
        If the model cannot be read.
    """
    kind = PEAK_FINDERS.get(peak_finder)
    if not kind.takes_model:
        return None
    from wrappers.spots.model import SHIPPED, SpotModel  # which waits for Numba

    folder = kind.model or SHIPPED
    SpotModel.load(folder)
    return fingerprint(folder / "spots.safetensors")


def _of_one(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as stream:
        if size <= WHOLE_FILE_LIMIT:
            return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
        digest = hashlib.sha256(stream.read(1 << 20))
        stream.seek(-(1 << 20), os.SEEK_END)
        digest.update(stream.read())
    digest.update(str(size).encode())
    return f"sha256-ends:{digest.hexdigest()}"
