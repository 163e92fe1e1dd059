"""Fits the response map's model to recorded looks at experiments of the train family.

    python -m experiments.record_looks experiments/data/looks --family train --experiments 110
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
from envs.response_map.model import SHIPPED_MODEL, MapModel
from envs.response_map.regression import Outcomes, fit_prior
from envs.response_map.response_map import FEWEST_PEAKS
from wrappers.settings import Settings

__all__ = ["fit_model", "made_sets", "read_looks", "sets_of"]

Look = dict[str, NDArray[Any]]
ROUNDS = 20


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


def fit_model(looks: dict[str, Look]) -> MapModel:
    """Return the model that fits recorded looks in which anything was indexed."""
    counts: list[Outcomes] = []
    lattices: list[Outcomes] = []
    described = []
    for look in looks.values():
        if not look["indexed"].any():
            continue
        volume, chosen, n = float(look["volume"]), look["chosen"], len(look["counts"])
        alike = np.ones(n)
        floor = floor_of(look["counts"], alike)
        bright = bright_peaks(look["counts"], floor, sets_of(look))
        described.append(descriptors(look["counts"], bright, volume, alike))
        enough = look["counts"][:, chosen] >= FEWEST_PEAKS
        for rows, x, into in (
            (np.ones(n, bool), count_features(look["counts"], floor, bright, volume), counts),
            (
                look["lattice"],
                lattice_features(look["split"][..., 0], look["split"][..., 1], volume),
                lattices,
            ),
        ):
            frame, place = np.nonzero(enough & rows[:, None])
            into.append(Outcomes(x[frame, chosen[place]], look["indexed"][frame, place], frame, n))
    values = np.array(described)
    typical = values.mean(axis=0)
    precision = np.asarray(np.linalg.inv(np.cov(values.T)), float)
    away = values - typical
    distances = np.sqrt(np.einsum("ri,ij,rj->r", away, precision, away))
    named = hashlib.sha256(",".join(sorted(looks)).encode()).hexdigest()
    return MapModel(
        fit_prior(counts, rounds=ROUNDS),
        fit_prior(lattices, rounds=ROUNDS),
        typical,
        precision,
        float(np.quantile(distances, 0.99)),
        {
            "family": "train",
            "experiments": len(counts),
            "outcomes": int(sum(len(each.x) for each in counts)),
            "indexer": "fast",
            "recorded": named,
        },
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=SHIPPED_MODEL)
def main(folder: Path, output: Path) -> None:
    """Fit the model and write it."""
    model = fit_model(read_looks(folder, "train"))
    model.save(output)
    click.echo(f"{output}: {dict(model.provenance)}; frame levels {model.counts.frame_sd:.2f} and "
               f"{model.lattices.frame_sd:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
