"""A parameter set that wins by false lattices, and loses once decoys are taken off.

The run is ``jf1m_lyso_60`` of the shared data: 60 frames, of which 46 hold a crystal, with their
true lattices. Each parameter set is evaluated as in a session: hits are indexed, and a decoy of
each (`wrappers.lattices.decoys`); what a session maximises is the rate less what the decoys say of
chance (`envs.objective.merit`). The indexers are the embedded one; the same search, but accepting
whatever explains 20 peaks, as indexers do that count; and the others that are installed
(`other_indexers`), if asked for.

    python -m experiments.false_lattices ../shared/data/simulated [--other probixi] [--json]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
from numpy.typing import NDArray

from envs.objective import merit
from envs.simulation.stills import is_same_lattice
from experiments.other_indexers import Answers, Program, find_programs
from experiments.real_peak_lists import RecordedList
from tuner.cli.options import print_json, stderr
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC
from wrappers.frames.run import Run
from wrappers.indexing import Pattern
from wrappers.lattices.decoys import make_decoy
from wrappers.lattices.fast_indexer import LatticeFinder
from wrappers.lattices.lattice_fit import distances
from wrappers.lattices.lattice_search import Room, search_orientations
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.settings import Settings

Floats = NDArray[np.float64]

GRID = ((5.0, 30.0, 2), (4.25, 30.0, 2), (3.5, 20.0, 2), (3.0, 20.0, 2), (3.0, 20.0, 1))
"""min_snr, threshold and min_pix_count."""
MIN_PEAKS = 10
ENOUGH = 20
"""Peaks that make a lattice for an indexer that counts."""
NEAR = 0.25
"""A peak is explained by a node within this share of the shortest reciprocal axis."""
SEARCHED = 48
"""Strongest peaks that it searches with."""


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--other", multiple=True, help="probixi, xgandalf or asdf; they take minutes.")
@click.option("--json", "as_json", is_flag=True)
def main(folder: Path, other: tuple[str, ...], as_json: bool) -> None:
    """Print the table for the run in FOLDER."""
    geometry, cell = Geometry.read(folder / "jf1m.geom"), Cell.read(folder / "lyso.cell")
    run = Run.open(folder / "jf1m_lyso_60.h5", geometry)
    with h5py.File(folder / "jf1m_lyso_60_truth.h5") as file:
        nodes = [file[f"frame/{i:04d}"].get("astar_bstar_cstar_invnm") for i in range(len(run))]
        truth: list[Sequence[Floats] | Floats] = [
            np.asarray(each) / 10.0 if each is not None else [] for each in nodes
        ]
    programs: dict[str, Program] = {"ours": find_all, f"{ENOUGH} peaks are enough": count_peaks}
    if other:
        found, lacking = find_programs()
        if missing := set(other) - set(found):
            raise click.UsageError(f"{', '.join(missing)} cannot be asked: {'; '.join(lacking)}")
        programs |= {name: found[name] for name in other}
    rows = []
    finder = PeakFinder(geometry)
    for snr, threshold, pixels in GRID:
        settings = Settings(
            min_snr=snr, threshold=threshold, min_pix_count=pixels, max_pix_count=50
        )
        patterns = {}
        for frame in range(len(run)):
            image = run[frame]
            peaks = finder.find(image, settings)
            if len(peaks) >= MIN_PEAKS:
                patterns[frame] = Pattern(peaks, image.photon_energy, image.camera_length)
        decoys = [make_decoy(pattern, geometry, cell, seed=i) for i, pattern in patterns.items()]
        as_list = partial(as_recorded, geometry, cell)
        for name, ask in programs.items():
            row = evaluate(
                ask,
                len(run),
                [as_list(pattern) for pattern in patterns.values()],
                [as_list(decoy) for decoy in decoys],
                [truth[frame] for frame in patterns],
            )
            rows.append({"indexer": name, "settings": [snr, threshold, pixels], **row})
            stderr.print(f"{name}, {snr:g} / {threshold:g} / {pixels}", highlight=False)
    if as_json:
        print_json({"rows": rows})
    else:
        print_table(rows)


def evaluate(
    ask: Program,
    n_frames: int,
    hits: Sequence[RecordedList],
    decoys: Sequence[RecordedList],
    truth: Sequence[Sequence[Floats] | Floats],
) -> dict[str, Any]:
    """Return the counts and rates of one parameter set."""
    found, by_chance = ask(hits)[0], ask(decoys)[0]
    n_indexed = sum(lattice is not None for lattice in found)
    n_decoys = sum(lattice is not None for lattice in by_chance)
    counts = (n_frames, len(hits), n_indexed, len(decoys), n_decoys)
    return {
        "hits": len(hits),
        "indexed": n_indexed,
        "right": sum(
            lattice is not None and any(is_same_lattice(lattice, one, hit.cell) for one in true)
            for lattice, hit, true in zip(found, hits, truth, strict=True)
        ),
        "decoys": len(decoys),
        "decoys_indexed": n_decoys,
        "rate": n_indexed / n_frames,
        "net_rate": float(merit(*counts, unindexed_hit_penalty=0)),
        "merit": float(merit(*counts)),
    }


def as_recorded(geometry: Geometry, cell: Cell, pattern: Pattern) -> RecordedList:
    """Return the scattering vectors of a pattern's peaks."""
    q = geometry.scattering_vectors(
        pattern.peaks, pattern.photon_energy, pattern.camera_length, 0.0, 0.0
    )
    strength = pattern.peaks.intensity
    return RecordedList("", q, strength, pattern.photon_energy / HC, cell, None)


def find_all(lists: Sequence[RecordedList]) -> Answers:
    """Ask the embedded indexer."""
    finder = LatticeFinder(lists[0].cell)
    found = [finder.find(one.q, one.wavenumber, one.strength) for one in lists]
    return [each[0].reciprocal if each else None for each in found], None


def count_peaks(lists: Sequence[RecordedList]) -> Answers:
    """Search as the embedded indexer does; take what explains `ENOUGH` peaks, whatever chance."""
    cell = lists[0].cell
    reciprocal = np.linalg.inv(cell.primitive_axes).T @ cell.reciprocal
    basis = np.ascontiguousarray(np.linalg.inv(reciprocal).T)
    basis = np.roll(basis, -int(np.argmin(np.linalg.norm(basis, axis=1))), axis=0)
    near = NEAR * np.linalg.norm(reciprocal, axis=1).min()
    to_cell = np.linalg.inv(basis).T @ np.linalg.inv(cell.reciprocal)
    answers: list[Floats | None] = []
    for one in lists:
        strong = one.q if one.strength is None else one.q[np.argsort(-one.strength)]
        searched = strong[:SEARCHED]
        searched = searched[np.argsort(np.linalg.norm(searched, axis=1))]
        bases, shifts = np.empty((30, 3, 3)), np.empty((30, 2))
        n = search_orientations(
            searched, basis, 1, True, False, 2.0, 3, (bases, shifts), Room.for_found(30, 3)
        )
        tried = [np.linalg.inv(each).T for each in bases[:n]]
        counts = [int((distances(one.q, each) < near).sum()) for each in tried]
        best = int(np.argmax(counts)) if counts else -1
        taken = best >= 0 and counts[best] >= ENOUGH
        answers.append(np.linalg.solve(to_cell, tried[best]) if taken else None)
    return answers, None


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows for people, in Markdown; the best of each indexer in bold."""
    print("| indexer | settings | hits | indexed | right | decoys | rate | net rate | merit |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(row["indexer"] for row in rows):
        own = [row for row in rows if row["indexer"] == name]
        for row in own:
            rates = []
            for key in ("rate", "net_rate", "merit"):
                best = row[key] == max(each[key] for each in own)
                rates.append(f"**{row[key]:.3f}**" if best else f"{row[key]:.3f}")
            snr, threshold, pixels = row["settings"]
            print(
                f"| {name if row is own[0] else ''} | {snr:g} / {threshold:g} / {pixels} | "
                f"{row['hits']} | {row['indexed']} | {row['right']} | "
                f"{row['decoys_indexed']} of {row['decoys']} | {' | '.join(rates)} |"
            )


if __name__ == "__main__":
    main()
