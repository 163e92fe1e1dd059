"""How well the response map foretells indexing: before any, after one and three evaluations.

    python -m experiments.response_map [--looks FOLDER] [--folds 4] [--json]

Runs: recorded looks at experiments of the test and shifted families, which no fit saw, and where
it is there the shared ``jf1m_lyso_60``, with the embedded indexer and with CrystFEL. In each run
the map chooses what is evaluated, as in a session; the truth is every set of the design,
indexed on every frame. Errors are of the rates of all sets that were not evaluated; ``regret`` is
the best merit less that of the set that the map likes best (the expected merit less its error).
With ``--folds`` it is the train family's runs instead, each with a model fitted without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from envs.look import FrameLook
from envs.objective import UNINDEXED_HIT_PENALTY
from envs.response_map.model import MapModel
from envs.response_map.response_map import ResponseMap
from envs.response_map.session import CAUTION
from experiments.fit_response_map import Look, fit_model, made_sets, read_looks, sets_of
from tuner.cli.options import print_json
from tuner.search.response_map import best_candidate
from wrappers.cell import Cell
from wrappers.settings import Settings

SHARED = Path(__file__).parents[2] / "shared/data/simulated"
LOOKS = Path(__file__).parent / "data" / "looks"
AFTER = (0, 1, 3)


@dataclass(frozen=True, eq=False)
class KnownRun:
    """A run whose every set was indexed.

    Attributes
    ----------
    settings : list of Settings
    counts : uint16 array (F, S)
    indexed : bool array (F, M)
    chosen : int array (M,)
        Which sets were.
    own : int array (F, S)
        -1 where no lattice is known.
    volume : float
    """

    indexer: str
    settings: list[Settings]
    counts: NDArray[np.uint16]
    indexed: NDArray[np.bool_]
    chosen: NDArray[np.int64]
    own: NDArray[np.int64]
    volume: float


def recorded(look: Look) -> KnownRun:
    """Return a recorded look as a known run."""
    own = np.where(look["lattice"][:, None], look["split"][..., 0].astype(int), -1)
    return KnownRun(
        "fast",
        sets_of(look),
        look["counts"],
        look["indexed"],
        look["chosen"],
        own,
        float(look["volume"]),
    )


def shared_runs() -> dict[str, KnownRun]:
    """Return jf1m_lyso_60 with either indexer, where the shared data are."""
    path = SHARED / "jf1m_lyso_60_grid.npz"
    if not path.exists():
        return {}
    arrays = dict(np.load(path))
    cell = Cell.read(SHARED / "lyso.cell")
    volume = float(abs(np.linalg.det(cell.primitive_axes)))
    names = ("min_snr", "threshold", "min_pix_count")
    rows = np.column_stack([arrays[name] for name in names])
    settings = made_sets(rows, 10)
    own = arrays["explained"].astype(int)
    known = own.max(axis=1) >= 0
    own = np.where(known[:, None], np.maximum(own, 0), -1)
    chosen = np.arange(len(settings))
    found = {
        "jf1m_lyso_60": KnownRun(
            "fast", settings, arrays["n_peaks"].astype(np.uint16),
            arrays["indexed_embedded"].astype(bool), chosen, own, volume,
        )
    }  # fmt: skip
    places = [
        int(np.argmin(np.abs(rows - np.asarray(each)).sum(axis=1)))
        for each in arrays["crystfel_sets"]
    ]
    found["jf1m_lyso_60 crystfel"] = KnownRun(
        "crystfel", settings, arrays["n_peaks"].astype(np.uint16),
        arrays["crystfel_indexed"].T.astype(bool), np.array(places), own, volume,
    )  # fmt: skip
    return found


def follow(run: KnownRun, model: MapModel) -> dict[str, dict[str, float]]:
    """Let the map choose three evaluations, and hold what it foretells against the truth."""
    frames = tuple(range(len(run.counts)))
    look = FrameLook(tuple(run.settings), frames, run.counts, {})
    response = ResponseMap(look, run.volume, model, CAUTION[run.indexer])
    least = np.array([each.min_peaks for each in run.settings])[run.chosen]
    hit = run.counts[:, run.chosen] >= least
    truth = (run.indexed & hit).mean(axis=0)
    penalty = UNINDEXED_HIT_PENALTY
    merit = truth - penalty * (hit.mean(axis=0) - truth)
    known = np.zeros(len(frames), bool)
    done: list[int] = []
    told: dict[str, dict[str, float]] = {}
    for n in range(max(AFTER) + 1):
        forecast = response.forecast()
        if n in AFTER:
            rest = np.setdiff1d(np.arange(len(run.chosen)), done)
            mean, sd = forecast.mean[run.chosen], forecast.sd[run.chosen]
            error = (mean - truth)[rest]
            liked = int(np.argmax(forecast.cautious_merits(penalty)[run.chosen]))
            told[f"after_{n}"] = {
                "rmse": float(np.sqrt(np.mean(error**2))),
                "rank_correlation": float(spearmanr(mean[rest], truth[rest])[0]),
                "coverage_95": float(np.mean(np.abs(error) <= 1.96 * sd[rest] + 1e-9)),
                "regret": float(merit.max() - merit[liked]),
            }
        place = best_candidate(forecast, run.chosen, done, penalty, run.indexer)
        done.append(place)
        column = int(run.chosen[place])
        response.learn_outcomes(column, frames, run.indexed[:, place] & hit[:, place])
        known |= run.indexed[:, place] & hit[:, place] & (run.own[:, 0] >= 0)
        rows = np.flatnonzero(known)
        own = run.own[rows]
        response.learn_lattices(rows, own, np.maximum(run.counts[rows] - own, 0))
    return told


def left_out(looks: Path, folds: int) -> dict[str, tuple[KnownRun, MapModel]]:
    """Return the train family's runs, each with the model that was fitted without it."""
    train = {
        name: look for name, look in read_looks(looks, "train").items() if look["indexed"].any()
    }
    order = np.random.default_rng(0).permutation(list(train)).tolist()
    found: dict[str, tuple[KnownRun, MapModel]] = {}
    for fold in range(folds):
        held = order[fold::folds]
        model = fit_model({name: look for name, look in train.items() if name not in held})
        found |= {name: (recorded(train[name]), model) for name in held}
    return found


@click.command()
@click.option("--looks", type=click.Path(path_type=Path), default=LOOKS)
@click.option("--folds", default=0, help="Judge by cross-validation within the train family.")
@click.option("--json", "as_json", is_flag=True)
def main(looks: Path, folds: int, as_json: bool) -> None:
    """Print how well the map foretells indexing."""
    families = ("train",) if folds else ("test", "shifted")
    if folds:
        runs = left_out(looks, folds)
    else:
        known = {
            name: recorded(look)
            for family in families
            for name, look in read_looks(looks, family).items()
        } | shared_runs()
        runs = {name: (run, MapModel.shipped()) for name, run in known.items()}
    found: dict[str, Any] = {}
    for name, (run, model) in runs.items():
        n_frames, n_sets = len(run.counts), len(run.chosen)
        told = {"indexer": run.indexer, "n_frames": n_frames, "n_sets": n_sets}
        found[name] = told | follow(run, model)
        if not as_json:
            numbers = " | ".join(
                " ".join(f"{value:6.3f}" for value in found[name][f"after_{n}"].values())
                for n in AFTER
            )
            click.echo(f"| {name:22} | {run.indexed.mean(axis=0).max():.2f} | {numbers} |")
    if as_json:
        print_json({"runs": found})
        return
    for family in families:
        those = [told for name, told in found.items() if name.startswith(family)]
        for n in AFTER:
            means = (
                {
                    key: np.nanmean([told[f"after_{n}"][key] for told in those])
                    for key in ("rmse", "rank_correlation", "coverage_95", "regret")
                }
                if those
                else {}
            )
            click.echo(f"{family} after {n}: {', '.join(f'{k} {v:.3f}' for k, v in means.items())}")


if __name__ == "__main__":
    main()
