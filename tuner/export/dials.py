"""The recommended settings for DIALS: a detector and beam model, and parameters that go with it.

The model is an experiment list of dxtbx (``.expt``, JSON), which ``dials.import`` and
``dials.stills_process`` take as ``reference_geometry``; the parameters are the phil of
``dials.stills_process``. Names and meanings are those of DIALS 3.12.

dxtbx has z from the sample to the source: CrystFEL's frame turned by half a turn about y, as dxtbx
itself turns that of NeXus, which is the same.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.export.job import Export, Job, comments, geometry_notes, mask_notes
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC
from wrappers.errors import InputError
from wrappers.frames.linked import names_files
from wrappers.frames.opening import open_source
from wrappers.outputs import companion
from wrappers.settings import Settings
from wrappers.text import one_line_value, to_json, utf8_value

__all__ = ["dials", "experiment_list", "space_group"]

TO_DIALS = np.diag([-1.0, 1.0, -1.0])
"""Half a turn about y: what DIALS has of a vector of CrystFEL's laboratory frame."""

MM = 1e3
Floats = NDArray[np.float64]
LEAST_VALUE = -1e6
"""Pixels below are not trusted: values below 0 are usual where a pedestal was taken off."""
MOST_VALUE = 1e9
"""And above, where the geometry has no ``max_adu``."""

SYMMETRY = {
    "triclinic": "1",
    "orthorhombic": "2 2 2",
    "tetragonal": "4",
    "rhombohedral": "3",
    "hexagonal": "3",
    "cubic": "2 3",
}
"""The least symmetric group of rotations that gives a lattice its shape."""
TWOFOLD = {"a": "2 1 1", "b": "1 2 1", "c": "1 1 2"}


def dials(job: Job) -> Export:
    """Return parameters for ``dials.stills_process`` and, beside them, the geometry."""
    settings = job.settings
    geometry, cell = Geometry.read(job.geometry), Cell.read(job.cell)
    clen, energy = _camera_length(job, geometry), _photon_energy(job, geometry)
    place = utf8_value(str(companion(job.path, ".expt").absolute()), "the experiment list")
    data = str(job.recommendation.provenance.get("data", "run.h5"))
    gain = geometry.adu_per_photon(energy)
    notes = (
        *geometry_notes(job),
        *mask_notes(job, "turn it into DIALS' own (dials.generate_mask)"),
        "the geometry for DIALS is the .expt file: input.reference_geometry of dials.import (with "
        "check_reference_geometry=False) and of dials.stills_process; its panels are those of the "
        "geometry file, in that order, which must be the order in which DIALS reads the data",
        "masks of the geometry (mask files, flags, bad regions) are not in the .expt: DIALS masks "
        "what its own reader of the data does",
        "dials.import takes the wavelength of the .expt, too, unless use_beam_reference=False",
        "peak_finder, min_snr: DIALS finds spots by dispersion, whose sigma_strong counts against "
        "the noise of a few pixels and not of a ring, so DIALS' own value stays",
        "threshold: global_threshold, in the data's units",
        f"local_bg_radius: half the width of the kernel ({settings.local_bg_radius} px)",
        f"min_res, max_res: as d_max and d_min, at {energy:.6g} eV and {clen:.6g} m",
        "space_group: the least symmetric one of the lattice; give the crystal's own if you know",
        *(
            ["gain: the geometry has no adu_per_photon, so give DIALS' gain yourself"]
            if gain is None
            else []
        ),
    )
    lines = [
        *comments(job, "Parameters for dials.stills_process", notes, "# "),
        f"# dials.stills_process {one_line_value(job.path.name, 'the file')} "
        f"{'input.file_list=' if names_files(Path(data)) else ''}{one_line_value(data, 'the run')}",
        "input {",
        f"  reference_geometry = {_quoted(place)}",
        "}",
        "dispatch.hit_finder {",
        f"  minimum_number_of_reflections = {settings.min_peaks}",
        "}",
        *_spot_finding(settings, gain, clen, energy, geometry),
        "indexing {",
        "  stills.indexer = stills",
        "  known_symmetry {",
        f"    unit_cell = {', '.join(f'{value:.6g}' for value in cell.parameters)}",
        f"    space_group = {_quoted(space_group(cell))}",
        "  }",
        "}",
    ]
    model = to_json(experiment_list(geometry, clen, energy)) + "\n"
    return Export("\n".join(lines) + "\n", notes, {".expt": model})


def _spot_finding(
    settings: Settings, gain: float | None, clen: float, energy: float, geometry: Geometry
) -> list[str]:
    res = geometry.panels[0].res
    d_min, d_max = (
        _spacing(pixels / res, clen, energy) for pixels in (settings.max_res, settings.min_res)
    )
    return [
        "spotfinder {",
        "  filter {",
        f"    min_spot_size = {settings.min_pix_count}",
        f"    max_spot_size = {settings.max_pix_count}",
        *([f"    d_min = {d_min:.5g}"] if settings.max_res else []),
        *([f"    d_max = {d_max:.5g}"] if settings.min_res else []),
        "  }",
        "  threshold {",
        "    algorithm = dispersion",
        "    dispersion {",
        *([f"      gain = {gain:.6g}"] if gain is not None else []),
        f"      kernel_size = {settings.local_bg_radius} {settings.local_bg_radius}",
        f"      global_threshold = {settings.threshold:.6g}",
        "    }",
        "  }",
        "}",
    ]


def _spacing(radius: float, clen: float, energy: float) -> float:
    """Return the spacing in Å of what falls so far from the beam, in metres."""
    angle = math.atan2(radius, clen)
    return HC / energy / (2 * math.sin(angle / 2)) if radius else math.inf


def _camera_length(job: Job, geometry: Geometry) -> float:
    if job.settings.clen is not None:
        return job.settings.clen
    if geometry.clen_header is None:
        return geometry.camera_length()
    nominal = job.recommendation.provenance.get("geometry_clen")
    if isinstance(nominal, float):
        return nominal
    raise InputError(
        f"the camera length of {geometry.path} is in the data, and DIALS needs a number: give clen "
        "in the recommended settings, or a geometry with a number (-g)"
    )


def _photon_energy(job: Job, geometry: Geometry) -> float:
    if isinstance(geometry.photon_energy, float):
        return geometry.photon_energy
    data = str(job.recommendation.provenance.get("data", ""))
    try:
        with open_source(data, geometry) as run:
            return run.photon_energy(0)
    except (InputError, IndexError) as error:
        raise InputError(
            f"DIALS needs a photon energy, which {geometry.path} does not give as a number, and "
            f"that of the run cannot be read ({error}): give a geometry with a number (-g)"
        ) from error


def space_group(cell: Cell) -> str:
    """Return the least symmetric space group (Hermann-Mauguin) of a cell's lattice."""
    if cell.lattice_type == "monoclinic":
        return f"{cell.centering} {TWOFOLD.get(cell.unique_axis, TWOFOLD['b'])}"
    return {
        "H": "R 3 :H",
        "R": "R 3 :R",
    }.get(cell.centering, f"{cell.centering} {SYMMETRY[cell.lattice_type]}")


def experiment_list(geometry: Geometry, clen: float, energy: float) -> dict[str, Any]:
    """Return one experiment of a beam and a detector, as dxtbx writes it in JSON.

    Parameters
    ----------
    geometry : Geometry
    clen : float
        Mean over the panels of ``clen`` + ``coffset``, in metres.
    energy : float
        In eV.
    """
    panels = [_panel(geometry, index, clen) for index in range(len(geometry.panels))]
    beam = {
        "direction": [0.0, 0.0, 1.0],
        "wavelength": HC / energy,
        "divergence": 0.0,
        "sigma_divergence": 0.0,
        "polarization_normal": [0.0, 1.0, 0.0],
        "polarization_fraction": 0.999,
        "flux": 0.0,
        "transmission": 1.0,
    }
    root = {
        **_frame("", "", np.zeros(3), np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])),
        "children": [{"panel": i} for i in range(len(panels))],
    }
    return {
        "__id__": "ExperimentList",
        "experiment": [{"__id__": "Experiment", "identifier": "", "beam": 0, "detector": 0}],
        "imageset": [],
        "beam": [beam],
        "detector": [{"panels": panels, "hierarchy": root}],
        **{name: [] for name in ("goniometer", "scan", "crystal", "profile", "scaling_model")},
    }


def _panel(geometry: Geometry, index: int, clen: float) -> dict[str, Any]:
    """Return a panel as dxtbx has it: lengths in mm, its first pixel's corner the origin."""
    panel = geometry.panels[index]
    fs = panel.slab_fs + np.array([0.0, 1.0, 0.0])
    ss = panel.slab_ss + np.array([0.0, 0.0, 1.0])
    places = geometry.lab_positions(fs, ss, np.full(3, index), clen) @ TO_DIALS * MM
    steps = places[1:] - places[0]
    sizes = np.linalg.norm(steps, axis=1)
    return {
        **_frame(panel.name, "SENSOR_PAD", places[0], *(steps / sizes[:, None])),
        "image_size": [panel.width, panel.height],
        "pixel_size": sizes.tolist(),
        "trusted_range": [LEAST_VALUE, min(panel.max_adu, MOST_VALUE)],
    }


def _frame(name: str, kind: str, origin: Floats, fast: Floats, slow: Floats) -> dict[str, Any]:
    """Return what a panel and the detector as a whole have in common."""
    return {
        "name": name,
        "type": kind,
        "fast_axis": fast.tolist(),
        "slow_axis": slow.tolist(),
        "origin": origin.tolist(),
        "raw_image_offset": [0, 0],
        "image_size": [0, 0],
        "pixel_size": [0.0, 0.0],
        "trusted_range": [0.0, 0.0],
        "thickness": 0.0,
        "material": "",
        "mu": 0.0,
        "identifier": "",
        "mask": [],
        "gain": 1.0,
        "pedestal": 0.0,
        "px_mm_strategy": {"type": "SimplePxMmStrategy"},
    }


def _quoted(text: str) -> str:
    """Return a string of phil."""
    return '"' + one_line_value(text, "the name").replace("\\", "\\\\").replace('"', '\\"') + '"'
