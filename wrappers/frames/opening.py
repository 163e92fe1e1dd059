"""The one door to frames: a source is opened by the name of a file, or by an address."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from wrappers.detector.geometry import Geometry
from wrappers.frames.address import Address, is_address
from wrappers.frames.cbf import CBF_SUFFIXES, CBFFrames
from wrappers.frames.events import read_list
from wrappers.frames.hdf5 import is_hdf5
from wrappers.frames.hdf5_links import why_unfit
from wrappers.frames.run import HDF5_SUFFIXES, Run
from wrappers.frames.source import FrameSource
from wrappers.registry import Registry
from wrappers.streams.protocols import GROWING, PROTOCOLS

__all__ = ["SOURCES", "Opener", "looks_like_frames", "open_source"]

Opener = Callable[[str, Geometry], FrameSource]
"""Takes the whole name, and the geometry of the frames; raises InputError."""

SOURCES: Registry[Opener] = Registry("frame source")
"""Openers by the scheme of an address, such as ``dectris+tcp``, or a file's suffix with its dot."""

SOURCES.register("file", Run.open, HDF5_SUFFIXES)
SOURCES.register("cbf", CBFFrames.open, CBF_SUFFIXES)


def _open_stream(name: str, geometry: Geometry) -> FrameSource:
    # What receives is imported when there is something to receive.
    from wrappers.streams.opening import open_stream

    return open_stream(name, geometry)


for _scheme in (GROWING, *(f"{_protocol}+tcp" for _protocol in PROTOCOLS.names())):
    SOURCES.register(_scheme, _open_stream)


def looks_like_frames(path: Path) -> bool:
    """Whether a file's name or beginning is that of a file of frames; a list's is not."""
    return path.suffix.lower() in SOURCES or is_hdf5(path)


def open_source(name: Address, geometry: Geometry) -> FrameSource:
    """Open what a name stands for.

    Parameters
    ----------
    name : str or path
        An address, whose scheme says what it is. Or a file: an opener registered for its suffix
        takes it, and a list of such files; any other is an HDF5 file or a list of those.
    geometry : Geometry

    Raises
    ------
    InputError
        If there is no such scheme, or the source cannot be opened.
    """
    text = os.fspath(name)
    if is_address(name):
        opener = SOURCES.get(text.split("://", 1)[0])
        return opener(text.removeprefix("file://"), geometry)
    suffix = Path(text).suffix.lower()
    if suffix not in SOURCES and not why_unfit(text) and not is_hdf5(Path(text)):
        # A list is opened as its first file.
        suffix = Path(read_list(Path(text))[0][0]).suffix.lower()
    return SOURCES.get(suffix if suffix in SOURCES else "file")(text, geometry)
