"""The conventional cell and centring of a lattice that is known by any primitive basis.

The rotations that map the lattice onto itself, within what the basis is known to, decide (Le Page,
J. Appl. Cryst. 15 (1982) 255): their number tells the crystal system, the directions that they
leave alone are the conventional axes, and the lattice points within the cell of those axes are its
centring. Only the metric is looked at: a crystal may have less symmetry than its lattice, never
more.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from wrappers.cell import PRIMITIVE_AXES, Cell

__all__ = ["Bravais", "bravais_choices", "conventional_cell", "reduced", "unimodular"]

Floats = NDArray[np.float64]

LOOSE = 0.05
"""Relative change of the metric up to which a rotation is thought of at all."""

SYSTEMS = {
    1: "triclinic",
    2: "monoclinic",
    4: "orthorhombic",
    6: "rhombohedral",
    8: "tetragonal",
    12: "hexagonal",
    24: "cubic",
}
"""The crystal system, by the number of rotations of its lattice."""

CENTRINGS = {
    "triclinic": "P",
    "monoclinic": "PC",
    "orthorhombic": "PCIF",
    "tetragonal": "PI",
    "rhombohedral": "H",
    "hexagonal": "P",
    "cubic": "PIF",
}
"""The centrings of the conventional cells of each system."""


@dataclass(frozen=True, eq=False)
class Bravais:
    """One way to see a lattice: the cell of a crystal system, and how far the lattice is from it.

    Attributes
    ----------
    cell : Cell
        Conventional; its edges and angles keep to the system exactly.
    deviation : float
        Root mean square relative change of the metric that makes it so; 0 for triclinic.
    axes : float64 array (3, 3)
        The conventional axes (rows) as whole multiples of the primitive basis.
    """

    cell: Cell
    deviation: float
    axes: Floats


@cache
def unimodular() -> Floats:
    """Return the changes of basis (n, 3, 3) of determinant 1 with entries of -1, 0 and 1."""
    every = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=9))).reshape(-1, 3, 3)
    return every[np.rint(np.linalg.det(every)) == 1]


def reduced(basis: Floats) -> Floats:
    """Return the shortest three vectors (rows) that span the lattice of a basis, right-handed.

    All pairs are at 90° or less, or all at 90° or more, as in Niggli's cell; of a lattice with
    vectors of equal length any of the equivalent bases may come.
    """
    basis = np.array(basis, float)
    for _ in range(100):
        basis = basis[np.argsort(np.linalg.norm(basis, axis=1), kind="stable")]
        # The third vector less the whole multiples of the others that leave it shortest.
        steps = np.array(list(itertools.product((-1, 0, 1), repeat=2)))
        first = np.rint(basis[1] @ basis[0] / (basis[0] @ basis[0]))
        second = basis[1] - first * basis[0]
        pair = np.array([basis[0], second])
        start = np.rint(np.linalg.lstsq(pair.T, basis[2], rcond=None)[0])
        thirds = basis[2] - (start + steps) @ pair
        third = thirds[np.argmin(np.linalg.norm(thirds, axis=1))]
        found = np.array([basis[0], second, third])
        if np.allclose(np.linalg.norm(found, axis=1), np.linalg.norm(basis, axis=1), rtol=1e-9):
            break
        basis = found
    signs = np.array(list(itertools.product((1, -1), repeat=3)))
    metric = basis @ basis.T
    products = np.array([metric[1, 2], metric[0, 2], metric[0, 1]])
    pairs = signs[:, [1, 0, 0]] * signs[:, [2, 2, 1]] * products
    acute, obtuse = (pairs > 0).all(axis=1), (pairs <= 1e-6 * metric.trace()).all(axis=1)
    chosen = signs[int(np.argmax(acute if acute.any() else obtuse))]
    basis = basis * chosen[:, None]
    return basis if np.linalg.det(basis) > 0 else -basis


def bravais_choices(primitive: Floats) -> list[Bravais]:
    """Return what a lattice may be seen as, the highest symmetry first, triclinic last.

    Parameters
    ----------
    primitive : float64 array (3, 3)
        Rows: any primitive basis, in Å.
    """
    basis = reduced(primitive)
    metric = basis @ basis.T
    size = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    turns = unimodular()
    change = np.abs(turns @ metric @ turns.transpose(0, 2, 1) - metric) / size
    off = change.max(axis=(1, 2))
    near = np.argsort(off, kind="stable")
    near = near[off[near] < LOOSE]
    choices: dict[int, Bravais] = {}
    for n in range(1, len(near) + 1):
        if n in SYSTEMS and _closed(group := turns[near[:n]]):
            choice = _as(basis, metric, group)
            if choice is not None:
                choices[n] = choice
    return [choices[n] for n in sorted(choices, reverse=True)]


def _closed(turns: Floats) -> bool:
    """Whether all products of the rotations are among them."""
    known = {turn.astype(np.int8).tobytes() for turn in turns}
    products = (turns[:, None] @ turns[None]).reshape(-1, 3, 3)
    return all(product.astype(np.int8).tobytes() in known for product in products)


def _as(basis: Floats, metric: Floats, group: Floats) -> Bravais | None:
    """Return the lattice with its metric averaged over a group of rotations."""
    exact = (group @ metric @ group.transpose(0, 2, 1)).mean(axis=0)
    size = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    deviation = float(np.sqrt((((exact - metric) / size) ** 2).mean()))
    found = conventional_cell(exact, group)
    return None if found is None else Bravais(found[0], deviation, found[1])


def conventional_cell(metric: Floats, group: Floats) -> tuple[Cell, Floats] | None:
    """Return the conventional cell of a lattice, and its axes as multiples of the basis.

    Parameters
    ----------
    metric : float64 array (3, 3)
        Of a primitive basis, in Å²; kept by the group.
    group : float64 array (n, 3, 3)
        Its rotations, acting on the basis' rows from the left.
    """
    system = SYSTEMS[len(group)]
    axes = _axes_of(metric, group)
    best: tuple[tuple[float, ...], Cell, Floats] | None = None
    for rows in _candidates(system, metric, axes):
        found = _described(system, metric, rows)
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    return None if best is None else (best[1], best[2])


def _axes_of(metric: Floats, group: Floats) -> dict[int, list[Floats]]:
    """Return the axes of the rotations, as whole multiples of the basis, by their order."""
    axes: dict[int, list[Floats]] = {}
    small = _short_vectors(metric)
    for turn in group:
        order = _rotation_order(turn)
        if order == 1:
            continue
        # A vector of the lattice n (a row) is turned to n @ turn.
        along = small[(np.abs(small @ turn - small) < 1e-6).all(axis=1)]
        if len(along):
            axes.setdefault(order, []).append(along[0])
    return axes


def _rotation_order(turn: Floats) -> int:
    power = turn
    for order in range(1, 7):
        if np.array_equal(np.rint(power), np.eye(3)):
            return order
        power = power @ turn
    raise ValueError("a matrix of no rotation")


def _short_vectors(metric: Floats, reach: int = 3) -> Floats:
    """Return primitive vectors of the lattice, one of each pair ±, shortest first."""
    every = np.array(list(itertools.product(range(-reach, reach + 1), repeat=3)), float)
    every = every[np.gcd.reduce(every.astype(int), axis=1) == 1]
    first = every[np.arange(len(every)), np.argmax(every != 0, axis=1)]
    every = every[first > 0]
    return every[np.argsort(np.einsum("ni,ij,nj->n", every, metric, every), kind="stable")]


def _unique(vectors: list[Floats]) -> list[Floats]:
    kept: list[Floats] = []
    for vector in vectors:
        if not any(np.array_equal(vector, one) for one in kept):
            kept.append(vector)
    return kept


def _candidates(system: str, metric: Floats, axes: dict[int, list[Floats]]) -> list[Floats]:
    """Return sets of axes (rows) among which the conventional ones are."""
    twos = _unique(axes.get(2, []))

    def dot(x: Floats, y: Floats) -> float:
        return float(x @ metric @ y / np.sqrt((x @ metric @ x) * (y @ metric @ y)))

    needed = {"triclinic": 1, "tetragonal": 4, "rhombohedral": 3, "hexagonal": 6, "cubic": 4}
    if needed.get(system, 2) not in (1, *axes):
        return []
    if system == "triclinic":
        return [np.eye(3)]
    if system == "monoclinic":
        unique = twos[0]
        small = _short_vectors(metric)
        flat = [v for v in small if abs(dot(v, unique)) < 1e-6][:12]
        return [
            np.array([a * s, unique * t, c])
            for a, c in itertools.permutations(flat, 2)
            for s, t in itertools.product((1.0, -1.0), repeat=2)
        ]
    if system == "orthorhombic":
        return [np.array(rows) for rows in itertools.permutations(twos, 3)]
    mains = _unique(axes[needed[system]])
    if system == "cubic":
        return [np.array(mains)]
    main = mains[0]
    across = [v for v in twos if abs(dot(v, main)) < 1e-6]
    angle = 0.0 if system == "tetragonal" else -0.5
    return [
        np.array([a, s * b, main * t])
        for a, b in itertools.permutations(across, 2)
        for s in (1.0, -1.0)
        for t in (1.0, -1.0)
        if abs(s * dot(a, b) - angle) < 1e-6
    ]


def _described(
    system: str, metric: Floats, rows: Floats
) -> tuple[tuple[float, ...], Cell, Floats] | None:
    """Return how usual a choice of axes is (less is better), the cell, and the axes."""
    determinant = float(np.linalg.det(rows))
    if determinant < 0:
        if system in ("orthorhombic", "cubic"):
            rows = rows * np.array([[1.0], [1.0], [-1.0]])
        else:
            return None  # The other sense of an axis is among the candidates.
    centering = _centering(rows, round(abs(determinant)))
    if centering is None or centering not in CENTRINGS[system]:
        return None
    lattice = "hexagonal" if system == "rhombohedral" else system
    g = rows @ metric @ rows.T
    edges = np.sqrt(np.diag(g))
    cosines = np.array(
        [
            g[1, 2] / edges[1] / edges[2],
            g[0, 2] / edges[0] / edges[2],
            g[0, 1] / edges[0] / edges[1],
        ]
    )
    angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    if system == "monoclinic":
        if angles[1] < 90.0 - 1e-6:
            return None
        usual: tuple[float, ...] = (float(round(edges[0] + edges[2], 6)), float(edges[0]))
        angles[[0, 2]] = 90.0
    elif system == "orthorhombic":
        # a ≤ b ≤ c, or a ≤ b where C is centred
        usual = (float(edges[0] > edges[1]), float(centering != "C" and edges[1] > edges[2]))
        angles[:] = 90.0
    else:
        usual = (abs(determinant), *map(float, np.round(edges, 6)))
        if system != "triclinic":
            angles[:] = 90.0
            if lattice == "hexagonal":
                angles[2] = 120.0
            edges[:2] = edges[:2].mean()
        if system == "cubic":
            edges[:] = edges.mean()
    axis = {"monoclinic": "b", "tetragonal": "c", "hexagonal": "c"}.get(lattice, "*")
    a, b, c, al, be, ga = map(float, (*edges, *angles))
    cell = Cell(a, b, c, al, be, ga, lattice, centering, axis)
    return usual, cell, rows


def _centering(rows: Floats, n_points: int) -> str | None:
    """Return the centring of a cell whose axes are whole multiples of a primitive basis."""
    if n_points == 1:
        return "P"
    for name in {2: "ABCI", 3: "H", 4: "F"}.get(n_points, ""):
        # The centring's primitive axes must be vectors of the lattice.
        whole = np.array(PRIMITIVE_AXES[name]) @ rows
        if np.abs(whole - np.rint(whole)).max() < 1e-6:
            return name
    return None
