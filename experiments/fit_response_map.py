"""Fits the response map's model to recorded looks and outcomes of the train family.

    python -m experiments.record_looks experiments/data/looks --family train --experiments 110
    python -m experiments.record_crystfel experiments/data/looks
    python -m experiments.fit_response_map experiments/data/looks

Only files of the train family are read.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from envs.response_map.features import (
    bright_peaks,
    count_features,
    descriptors,
    floor_of,
    lattice_features,
)
from envs.response_map.model import SHIPPED_MODEL, MapModel, Priors
from envs.response_map.regression import Outcomes, fit_prior
from envs.response_map.session_map import FEWEST_PEAKS
from wrappers.settings import Settings

__all__ = ["fit_model", "made_sets", "read_looks", "sets_of"]

Look = dict[str, NDArray[Any]]
ROUNDS = 20
CRYSTFEL_ROUNDS = 20
"""The fewer, the closer do CrystFEL's priors stay to the embedded indexer's."""


def read_looks(folder: Path, family: str) -> dict[str, Look]:
    """Return the recorded looks of a family, by name."""
    return {path.stem: dict(np.load(path)) for path in sorted(folder.glob(f"{family}_*.npz"))}


def sets_of(look: Look) -> list[Settings]:
    """Return the design of a recorded look."""
    return made_sets(look["settings"], int(look["min_peaks"]))


def made_sets(rows: NDArray[np.float64], min_peaks: int) -> list[Settings]:
    """Return the parameter sets with (n, 3) values of min_snr, threshold and min_pix_count."""
    return [
        Settings(min_snr=snr, threshold=threshold, min_pix_count=int(pixels), min_peaks=min_peaks)
        for snr, threshold, pixels in rows.tolist()
    ]


def fit_model(looks: dict[str, Look], crystfel: dict[str, Look]) -> MapModel:
    """Return the model that fits recorded looks in which anything was indexed.

    CrystFEL's priors begin as the embedded indexer's, and move as far as its own outcomes say.

    Parameters
    ----------
    looks : dict of str to Look
    crystfel : dict of str to Look
        What CrystFEL made of frames of the looks of these names; see `record_crystfel`.
    """
    looks = {name: look for name, look in looks.items() if look["indexed"].any()}
    seen = {name: _Seen(look) for name, look in looks.items()}
    embedded = [each.outcomes(each.everything, each.look["indexed"]) for each in seen.values()]
    theirs = [
        seen[name].outcomes(np.ix_(each["frames"], each["places"]), each["outcome"])
        for name, each in crystfel.items()
        if name in seen
    ]
    values = np.array([each.described for each in seen.values()])
    typical = values.mean(axis=0)
    precision = np.asarray(np.linalg.inv(np.cov(values.T)), float)
    away = values - typical
    distances = np.sqrt(np.einsum("ri,ij,rj->r", away, precision, away))
    named = hashlib.sha256(",".join(sorted(looks)).encode()).hexdigest()
    own = Priors(*(fit_prior(runs, rounds=ROUNDS) for runs in zip(*embedded, strict=True)))
    others = [
        fit_prior([run for run in runs if len(run.x)], start=start, rounds=CRYSTFEL_ROUNDS)
        for start, runs in zip(own, zip(*theirs, strict=True), strict=True)
    ]
    return MapModel(
        {"fast": own, "crystfel": Priors(*others) if others else own},
        typical,
        precision,
        float(np.quantile(distances, 0.99)),
        {
            "family": "train",
            "experiments": len(embedded),
            "outcomes": sum(len(each.x) for each, _ in embedded),
            "crystfel_experiments": len(theirs),
            "crystfel_outcomes": sum(len(each.x) for each, _ in theirs),
            "recorded": named,
        },
    )


class _Seen:
    """A recorded look, and what the map reads off it."""

    def __init__(self, look: Look) -> None:
        self.look, volume, alike = look, float(look["volume"]), np.ones(len(look["counts"]))
        floor = floor_of(look["counts"], alike)
        bright = bright_peaks(look["counts"], floor, sets_of(look))
        self.described = descriptors(look["counts"], bright, volume, alike, sets_of(look))
        self._by_counts = count_features(look["counts"], floor, bright, volume)
        split = look["split"]
        self._by_lattice = lattice_features(split[..., 0], split[..., 1], volume)
        self.everything = np.ix_(np.arange(len(alike)), np.arange(len(look["chosen"])))

    def outcomes(
        self, which: tuple[NDArray[np.int64], ...], indexed: NDArray[Any]
    ) -> tuple[Outcomes, Outcomes]:
        """Return what became of lists, by counts and by lattices.

        Parameters
        ----------
        which : (frames, places)
            As of `numpy.ix_`: rows of the look, and places of its chosen sets.
        indexed : bool or int array (F, M)
            Below 0: nobody knows.
        """
        frames, columns = which[0][:, 0], self.look["chosen"][which[1][0]]
        asked = (self.look["counts"][np.ix_(frames, columns)] >= FEWEST_PEAKS) & (indexed >= 0)
        found = []
        for x, rows in (
            (self._by_counts, np.ones(len(frames), bool)),
            (self._by_lattice, self.look["lattice"][frames]),
        ):
            row, place = np.nonzero(asked & rows[:, None])
            answers = indexed[row, place] > 0
            found.append(Outcomes(x[frames[row], columns[place]], answers, row, len(frames)))
        return found[0], found[1]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=SHIPPED_MODEL)
def main(folder: Path, output: Path) -> None:
    """Fit the model and write it."""
    model = fit_model(read_looks(folder, "train"), read_looks(folder / "crystfel", "train"))
    model.save(output)
    click.echo(f"{output}: {model.version}, {dict(model.provenance)}")


if __name__ == "__main__":
    main()
