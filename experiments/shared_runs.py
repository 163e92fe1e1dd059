"""The real runs and the CrystFEL-simulated one that studies use, of the shared data."""

from __future__ import annotations

__all__ = ["SHARED_RUNS"]

SHARED_RUNS = {
    "crystfel_simulated": (
        "simulated/jf1m_lyso_60.h5",
        "simulated/jf1m.geom",
        "simulated/lyso.cell",
    ),
    "thaumatin": (
        "frames/thaumatin_p6m_crop1320_19.h5",
        "frames/thaumatin_p6m_crop1320.geom",
        "cell/thaumatin.cell",
    ),
    "thermolysin": (
        "frames/thermolysin_cspad_4.h5",
        "frames/thermolysin_cspad.geom",
        "cell/thermolysin.cell",
    ),
}
"""Data, geometry and cell of each, in the folder of shared data."""
