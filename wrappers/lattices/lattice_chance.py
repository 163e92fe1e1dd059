"""Kernels that weigh a lattice against chance.

As everywhere in the indexer, peaks are slopes of rays (see `lattice_fit`), ``k`` is 1/λ
in 1/Å, and distances in reciprocal space are in 1/Å.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wrappers.lattices.compiling import bare_kernel, inner_kernel
from wrappers.lattices.lattice_fit import write_distances, write_vectors
from wrappers.peakfinding.vectors import larger, smaller, views
from wrappers.sorting import DEPTH, make_sort

__all__ = ["Room", "chance_shares", "significance", "significance_of", "sort_values"]

sort_values = inner_kernel(make_sort())

_SHIFTS = 3e-3
"""Range of the detector shifts that the fit allows, in 1/Å."""
N_BINS = 512
_SPHERE = 4.0 / 3.0 * math.pi
_ORIENTATIONS = 8.0 * (math.pi * math.pi)
"""All there are. (Whole powers are written as products: Numba compiles a function for them.)"""
_LARGEST_SHARE = 0.3
"""Nodes' surroundings are not looked at beyond this share of reciprocal space."""
_MOVED_PEAKS = 2000
"""Peaks that a sample of chance holds, about."""
_FARTHEST = 2.5
"""How far they move at most, in edges of the mean reciprocal cell."""
_NEAREST = 0.2
"""Share of that which they move at least along a line: without moving all peaks fit."""
_MANY = 64
"""Only in longer lists peaks crowd on lines so much that it matters."""
_NUMBERS_TRIED = 1.0
"""Logarithm of how many independent numbers of nearest peaks are tried. Set so that of simulated
noise no more is accepted than should be, whatever the cell."""
_FEW = 20
"""Fewer peaks of the sample say nothing of how many to expect."""


class Room(NamedTuple):
    """Scratch for the peaks of a list: see `Room.for_peaks`."""

    q: NDArray[np.float64]
    d: NDArray[np.float64]
    moved: NDArray[np.float64]
    counts: NDArray[np.float64]
    shares: NDArray[np.float64]
    waiting: NDArray[np.int64]

    @classmethod
    def for_peaks(cls, n: int) -> Room:
        """Return room for so many peaks."""
        bins = np.empty(N_BINS + 1), np.empty(N_BINS + 1)
        return cls(
            np.empty((n, 3)), np.empty(n), np.empty((n, 2)), *bins, np.empty((DEPTH, 2), np.int64)
        )


@inner_kernel
def _move(t, way, x, y, moved):
    """Displace rays by x and y (way 0), by x or y alone (1, 2), or along their rings by x (3)."""
    for i in range(len(t)):
        if way == 3:
            radius = math.sqrt(t[i, 0] * t[i, 0] + t[i, 1] * t[i, 1])
            angle = smaller(math.pi, x / (radius + 1e-9))
            c, s = math.cos(angle), math.sin(angle)
            moved[i, 0] = t[i, 0] * c - t[i, 1] * s
            moved[i, 1] = t[i, 0] * s + t[i, 1] * c
        else:
            moved[i, 0] = t[i, 0] + (x if way != 2 else 0.0)
            moved[i, 1] = t[i, 1] + (y if way != 1 else 0.0)


@inner_kernel
def chance_shares(t, k, recip, geometry, volume, edge, room):
    """Write how many peaks would be near the nodes if they were where they are by chance.

    The mean over all orientations is the share of reciprocal space that is near a node. But
    where peaks crowd in a small part of the Ewald sphere (a hot panel, an ice ring, the rows
    from which a list was cut short), a search finds orientations with more nodes just there, and
    then all these peaks profit. So the whole pattern is displaced by up to some reciprocal cell
    edges: along its rings, along the detector's two axes, and across, each of which keeps
    another kind of crowd together. The largest of the shares counts. Nothing is random.

    Real lattices have rows of nodes, too, which displacements along a line find again, so their
    evidence suffers from those; few peaks cannot spare it, and need them less.

    Parameters
    ----------
    t : float64 array (n, 2)
        Slopes of the rays.
    k : float
    recip : float64 array (3, 3)
        Rows a*, b*, c*.
    geometry : float64 array (3,)
        Stretch and shifts of the slopes.
    volume, edge : float
        Of the primitive cell, in Å³, and its cube root.
    room : Room
        Its `shares` are written: the share of peaks within the distance from a node at which a
        share i / N_BINS × 0.3 of reciprocal space is as near.
    """
    n_bins = N_BINS
    q, d, moved, count, shares = room.q, room.d, room.moved, room.counts, room.shares
    n = len(t)
    n_moves = 1 + _MOVED_PEAKS // n
    reach = _FARTHEST / k / edge
    for i in range(n_bins):
        shares[i] = i * (_LARGEST_SHARE / n_bins)
    shares[n_bins] = _LARGEST_SHARE
    to_bin = _SPHERE * volume / _LARGEST_SHARE * n_bins
    for way in range(4 if n > _MANY else 1):
        for i in range(n_bins + 1):
            count[i] = 0.0
        for i in range(n_moves):
            # multiples of the plastic number's inverse powers spread evenly over a square
            x = 2.0 * ((i + 1) * 0.7548776662466927 % 1.0) - 1.0
            y = 2.0 * ((i + 1) * 0.5698402909980532 % 1.0) - 1.0
            if way > 0:
                x = math.copysign(_NEAREST + (1.0 - _NEAREST) * abs(x), x)
            _move(t, way, reach * x, reach * (x if way == 2 else y), moved)
            write_vectors(moved, k, geometry, q)
            write_distances(q, recip, d)
            for j in range(n):
                place = d[j] * (d[j] * d[j]) * to_bin
                if place < n_bins:
                    count[np.int64(place) + 1] += 1.0
        first, total = n_bins, 0.0
        for i in range(1, n_bins + 1):
            total += count[i]
            count[i] = total / (n * n_moves)
            if total >= _FEW:
                first = smaller(first, i)
        for i in range(1, n_bins + 1):
            share = count[i] if i >= first else count[first] * i / first
            shares[i] = larger(shares[i], share)


def significance(
    d: NDArray[np.float64], q_rms: float, volume: float, n_rotations: float, n_modes: float
) -> float:
    """Return what `significance_of` does, without `chance_shares`."""
    room = d.astype(float), np.empty((DEPTH, 2), np.int64), np.empty(0)
    return float(
        _significance(*room, float(q_rms), float(volume), float(n_rotations), float(n_modes))
    )


@bare_kernel
def _significance(d, waiting, shares, q_rms, volume, n_rotations, n_modes):
    d, waiting, shares = views((d, waiting, shares))
    return significance_of(d, shares, waiting, q_rms, volume, n_rotations, n_modes)


@inner_kernel
def significance_of(d, shares, waiting, q_rms, volume, n_rotations, n_modes):
    """Return how little the distances of peaks from a lattice look like chance.

    Among n peaks at random, the number within a distance d of a node is binomial with the
    probability p = (4π/3) d³ × cell volume, or what `chance_shares` says instead. The Chernoff
    bound of its tail, exp(−n D(m/n ‖ p)) with the relative entropy D, is smallest for some number
    m of nearest peaks (Berk and Jones' statistic; as in a-contrario model selection the tolerance
    is not chosen beforehand), which costs a factor exp(`_NUMBERS_TRIED`). The orientation was
    chosen, too, among 8π² / n_rotations × (q_rms/d)³ that differ at that tolerance, and so was the
    geometry: a further factor (q_rms/d) for the camera length and (0.003 1/Å / d)² for the shift;
    and the cell's shape: a factor (0.2 q_rms/d) for each way in which it was free to change.

    Parameters
    ----------
    d : float64 array (n,)
        In 1/Å; overwritten.
    shares : float64 array (m,)
        See `chance_shares`; empty to do without.
    waiting : int64 array (DEPTH, 2)
        Scratch of `sorting.make_sort`.
    q_rms : float
        Root mean square length of the scattering vectors in 1/Å.
    volume : float
        Of the primitive cell, in Å³.
    n_rotations : float
        Order of the lattice's rotation group.
    n_modes : float
        Number of ways in which the cell's shape was refined.

    Returns
    -------
    float
        Minus the natural logarithm of the chance, as estimated so; -inf if nothing fits.
    """
    n = len(d)
    for i in range(n):
        d[i] = d[i] if d[i] >= 0 else math.inf  # no number, where a fit has gone astray
    sort_values(d, n, waiting)
    best = -math.inf
    for i in range(n):
        p = _SPHERE * (d[i] * (d[i] * d[i])) * volume
        share = (i + 1) / n
        if p > _LARGEST_SHARE:
            break
        if len(shares):
            place = p / _LARGEST_SHARE * (len(shares) - 1)
            below = smaller(np.int64(place), len(shares) - 2)
            p = shares[below] + (place - below) * (shares[below + 1] - shares[below])
        if p >= share:
            break
        entropy = share * math.log(share / p)
        if share < 1.0:
            entropy += (1.0 - share) * math.log((1.0 - share) / (1.0 - p))
        choices = 4.0 * math.log(larger(1.0, q_rms / d[i]))
        choices += n_modes * math.log(larger(1.0, 0.2 * q_rms / d[i]))
        choices += 2.0 * math.log(larger(1.0, _SHIFTS / d[i]))
        best = larger(best, n * entropy - choices)
    return best - _NUMBERS_TRIED - math.log(_ORIENTATIONS / n_rotations)
