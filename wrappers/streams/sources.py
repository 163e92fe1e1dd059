"""The door to frames as they arrive: a socket's, or those of files that grow, by their address."""

from __future__ import annotations

from collections.abc import Collection

from wrappers.detector.geometry import Geometry
from wrappers.streams.arriving import ArrivingFrames, StreamFrames
from wrappers.streams.growing import GrowingFiles
from wrappers.streams.protocols import is_growing, parse_address
from wrappers.streams.receiver import BUFFER

__all__ = ["open_arriving"]


def open_arriving(
    name: str,
    geometry: Geometry,
    size: int = BUFFER,
    *,
    every_series: bool = False,
    before: tuple[float | None, float | None] = (None, None),
    goes_on: bool = False,
    taken: Collection[tuple[str, str]] = (),
) -> ArrivingFrames:
    """Listen to what an address names.

    Parameters
    ----------
    name : str
        Of a stream, or of files that grow.
    geometry : Geometry
    size : int
        Frames that may wait.
    every_series : bool
        Whether a series with another energy or distance is taken, too; else it is left out.
    before, goes_on : (float or None, float or None), bool
        Whether frames were taken before, and of which energy and distance; see `StreamFrames`.
    taken : collection of (str, str)
        Which were, of files that grow; see `GrowingFiles`.

    Raises
    ------
    InputError
        If it is no address, or the geometry does not go with it.
    ProgramError
        If the socket cannot be made.
    """
    if is_growing(name):
        return GrowingFiles(name, geometry, taken)
    return StreamFrames(
        parse_address(name),
        geometry,
        size,
        every_series=every_series,
        before=before,
        goes_on=goes_on,
    )
