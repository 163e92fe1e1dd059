"""Recorded peak lists, for benchmarks of indexers.

A file is NumPy's ``.npz`` without pickled objects. Of its arrays

============== =========== =====================================================================
``q``          (m, 3)      scattering vectors of all lists' peaks in 1/Å, CrystFEL's lab frame
``start``      (n + 1,)    list *i* is ``q[start[i]:start[i + 1]]``
``cell``       (n, 6)      a, b, c in Å, al, be, ga in degrees; (6,): one for all lists
``I``          (m,)        intensities (may be missing)
``set``        (n,)        name of the set that a list belongs to (may be missing: all in one)
``centering``  (n,)        P, A, B, C, I, F, R or H (may be missing: P)
``A_truth``    (n, 3, 3)   columns a*, b*, c* in 1/Å; NaN where unknown (may be missing)
============== =========== =====================================================================

others are not read.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wrappers.cell import Cell
from wrappers.errors import InputError

__all__ = ["RecordedList", "read_lists"]

Floats = NDArray[np.float64]

USUAL_WAVENUMBER = 0.75
"""1/λ in 1/Å, where no list of a set has a peak that tells."""


@dataclass(frozen=True, eq=False)
class RecordedList:
    """The peaks of one frame.

    Attributes
    ----------
    name : str
        Of the set.
    q : float64 array (n, 3)
        In 1/Å.
    strength : float64 array (n,) or None
        Intensities.
    wavenumber : float
        1/λ in 1/Å, as the Ewald sphere through the peaks says.
    cell : Cell
    truth : float64 array (3, 3) or None
        Rows a*, b*, c* in 1/Å, where known.
    """

    name: str
    q: Floats
    strength: Floats | None
    wavenumber: float
    cell: Cell
    truth: Floats | None


def read_lists(path: str | os.PathLike[str]) -> list[RecordedList]:
    """Read the lists of a file.

    Raises
    ------
    InputError
        If it cannot be read, lacks what is needed, or does not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            data = {key: file[key] for key in file.files}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"the peak lists {path} cannot be read ({error}): give a .npz file of plain arrays"
        ) from None
    for key in ("q", "start", "cell"):
        if key not in data:
            raise InputError(f"{path} has no array {key!r}: see experiments/real_peak_lists.py")
    q = np.asarray(data["q"], float).reshape(-1, 3)
    cells = np.asarray(data["cell"], float).reshape(-1, 6)
    ends = np.asarray(data["start"], int).ravel()
    if np.ndim(data["cell"]) == 1:
        cells = np.repeat(cells, max(len(ends) - 1, 0), axis=0)
    n = len(cells)
    if len(ends) == n:
        ends = np.append(ends, len(q))
    if len(ends) != n + 1 or np.any(np.diff(ends) < 0) or ends[0] < 0 or ends[-1] > len(q):
        raise InputError(
            f"{path}: {len(ends)} values of 'start' do not cut {len(q)} peaks into {n} lists"
        )
    strength = np.asarray(data["I"], float).ravel() if "I" in data else None
    names = [str(name) for name in data["set"]] if "set" in data else ["all"] * n
    centerings = [str(one) for one in data["centering"]] if "centering" in data else ["P"] * n
    truth = np.asarray(data.get("A_truth", np.full((n, 3, 3), np.nan)), float)
    per_peak = len(q) if strength is None else len(strength)
    if per_peak != len(q) or {len(names), len(centerings), len(truth)} != {n}:
        raise InputError(
            f"{path}: 'I' must have a value a peak, 'set', 'centering' and 'A_truth' one a list"
        )
    parts = [slice(ends[i], ends[i + 1]) for i in range(n)]
    wavenumbers = np.array([_wavenumber(q[part]) for part in parts])
    lists = []
    for i, part in enumerate(parts):
        try:
            cell = _cell(cells[i], centerings[i])
        except InputError as error:
            raise InputError(f"{path}, list {i}: {error}") from None
        wavenumber = wavenumbers[i]
        if not np.isfinite(wavenumber):
            known = wavenumbers[np.array(names) == names[i]]
            known = known[np.isfinite(known)]
            wavenumber = np.median(known) if len(known) else USUAL_WAVENUMBER
        known_truth = np.isfinite(truth[i]).all() and np.linalg.det(truth[i]) != 0
        lists.append(
            RecordedList(
                names[i],
                q[part],
                None if strength is None else strength[part],
                float(wavenumber),
                cell,
                truth[i].T.copy() if known_truth else None,
            )
        )
    return lists


def _wavenumber(q: Floats) -> float:
    """Return 1/λ of the Ewald sphere through the peaks, NaN where they do not tell."""
    q = q[np.isfinite(q).all(axis=1) & (q[:, 2] < 0)]
    return float(np.median(-(q**2).sum(axis=1) / (2.0 * q[:, 2]))) if len(q) else np.nan


def _cell(parameters: Floats, centering: str) -> Cell:
    """Return the cell with the highest symmetry that its parameters allow."""
    edges, angles = parameters[:3], parameters[3:]

    def same(x: float, y: float) -> bool:
        return abs(x - y) < 1e-3 * abs(y)

    right = [same(angle, 90.0) for angle in angles]
    lattice, axis = "triclinic", "*"
    pairs = [i for i in range(3) if same(edges[i - 2], edges[i - 1])]
    if len(pairs) == 3 and all(right):
        lattice = "cubic"
    elif len(pairs) == 3 and same(angles[0], angles[1]) and same(angles[1], angles[2]):
        lattice = "rhombohedral"
    elif pairs and all(right):
        lattice, axis = "tetragonal", "abc"[pairs[0]]
    elif pairs and same(angles[pairs[0]], 120.0) and sum(right) == 2:
        lattice, axis = "hexagonal", "abc"[pairs[0]]
    elif all(right):
        lattice = "orthorhombic"
    elif sum(right) == 2:
        lattice, axis = "monoclinic", "abc"[right.index(False)]
    if lattice == "hexagonal" and centering == "R":
        centering = "H"  # many programs call it R on hexagonal axes, too
    a, b, c, al, be, ga = parameters.tolist()
    return Cell(a, b, c, al, be, ga, lattice, centering, axis)
