"""HDF5's compressions: those of hdf5plugin, whatever HDF5_PLUGIN_PATH says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hdf5plugin

__all__ = ["BITSHUFFLE", "COMPRESSION"]

BITSHUFFLE = 32008
"""HDF5's number of the filter."""


def _take_own_filters() -> bool:
    """Register hdf5plugin's filters in place of those that HDF5_PLUGIN_PATH leads to.

    HDF5 finds the latter first, as after ``module load crystfel``; h5py cannot write with them.
    """
    found = hdf5plugin.get_config().registered_filters
    if all(where != "unknown" for where in found.values()):
        return True
    return bool(hdf5plugin.register(("bshuf", "lz4", "zstd", "blosc"), force=True))


COMPRESSION: Mapping[str, Any] = (
    {**hdf5plugin.Bitshuffle(cname="lz4")}
    if _take_own_filters()
    else {"compression": "gzip", "compression_opts": 1, "shuffle": True}
)
"""How images are compressed: as detectors do it, or where that cannot be, as HDF5 itself can."""
