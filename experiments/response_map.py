"""How well the response map predicts indexing: before any, after one and three evaluations.

    python -m experiments.response_map [--looks FOLDER] [--folds 4] [--json]

Runs: recorded looks at experiments of the test and shifted families, which no fit saw, those of the
test family that CrystFEL has indexed, too, and where it is there the shared ``jf1m_lyso_60``, with
the embedded indexer and with CrystFEL. In each run the map chooses what is evaluated, as in a
session; the truth is every set of the design (with CrystFEL some of them), indexed on every frame.
Errors are of the rates of all sets that were not evaluated; ``regret`` is the best merit less that
of the set that the map likes best (the expected merit less its error).

With ``--folds`` it is the train family's runs instead, each with a model fitted without it, and for
each indexer the `SCATTER` with which 95 % of the rates would lie within their intervals. Of sets
that are sure, as those without a hit are, it takes no notice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from envs.look import FrameLook
from envs.objective import UNINDEXED_HIT_PENALTY
from envs.response_map.model import MapModel
from envs.response_map.session_map import SCATTER, ResponseMap
from experiments.fit_response_map import Look, fit_model, made_sets, read_looks, sets_of
from tuner.cli.options import print_json
from tuner.search.map_searcher import best_candidate
from wrappers.cell import Cell
from wrappers.settings import Settings

SHARED = Path(__file__).parents[2] / "shared/data/simulated"
LOOKS = Path(__file__).parent / "data" / "looks"
AFTER = (0, 1, 3)
SURE = 0.005
"""Error of a rate, below which its set tells nothing of how wide intervals are to be."""


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
    volume = cell.primitive_volume
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


def indexed_by_crystfel(looks: Path, family: str) -> dict[str, KnownRun]:
    """Return the frames and sets of recorded looks that CrystFEL was asked for."""
    theirs = read_looks(looks / "crystfel", family)
    found = {}
    for name, look in read_looks(looks, family).items():
        if name not in theirs:
            continue
        asked = theirs[name]
        whole, rows = recorded(look), asked["frames"]
        found[f"{name} crystfel"] = replace(
            whole,
            indexer="crystfel",
            counts=whole.counts[rows],
            own=whole.own[rows],
            chosen=whole.chosen[asked["places"]],
            indexed=asked["outcome"] > 0,
        )
    return found


def follow(run: KnownRun, model: MapModel) -> dict[int, Predicted]:
    """Let the map choose three evaluations, and say what it predicted before some of them."""
    frames = tuple(range(len(run.counts)))
    look = FrameLook(tuple(run.settings), frames, run.counts, {})
    response = ResponseMap(look, run.volume, model, run.indexer)
    least = np.array([each.min_peaks for each in run.settings])[run.chosen]
    hit = run.counts[:, run.chosen] >= least
    truth = (run.indexed & hit).mean(axis=0)
    penalty = UNINDEXED_HIT_PENALTY
    merit = truth - penalty * (hit.mean(axis=0) - truth)
    known = np.zeros(len(frames), bool)
    done: list[int] = []
    predicted: dict[int, Predicted] = {}
    for n in range(max(AFTER) + 1):
        forecast = response.forecast()
        if n in AFTER:
            rest = np.setdiff1d(np.arange(len(run.chosen)), done)
            liked = int(np.argmax(forecast.cautious_merits(penalty)[run.chosen]))
            predicted[n] = Predicted(
                truth[rest],
                forecast.mean[run.chosen][rest],
                forecast.rates.var(axis=0)[run.chosen][rest],
                forecast.chance[run.chosen][rest],
                float(merit.max() - merit[liked]),
            )
        place = best_candidate(forecast, run.chosen, done, penalty, run.indexer)
        done.append(place)
        column = int(run.chosen[place])
        response.learn_outcomes(column, frames, run.indexed[:, place] & hit[:, place])
        known |= run.indexed[:, place] & hit[:, place] & (run.own[:, 0] >= 0)
        rows = np.flatnonzero(known)
        own = run.own[rows]
        response.learn_lattices(rows, own, np.maximum(run.counts[rows] - own, 0))
    return predicted


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a map expected of sets that were not evaluated, and what came of them.

    Attributes
    ----------
    truth, mean, variance, chance : float array (S,)
        Rates; see `Forecast` for the last two.
    regret : float
    """

    truth: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    chance: NDArray[np.float64]
    regret: float

    def figures(self) -> dict[str, float]:
        """Return them as printed."""
        error = self.mean - self.truth
        sd = np.sqrt(SCATTER**2 * self.variance + self.chance)
        return {
            "rmse": float(np.sqrt(np.mean(error**2))),
            "rank_correlation": float(spearmanr(self.mean, self.truth)[0]),
            "coverage_95": float(np.mean(np.abs(error) <= 1.96 * sd + 1e-9)),
            "regret": self.regret,
        }

    def scatter_needed(self) -> NDArray[np.float64]:
        """Return with which `SCATTER` truths would just be within; sure sets are left out."""
        unsure = np.sqrt(self.variance + self.chance) > SURE
        beyond = ((self.mean - self.truth) / 1.96) ** 2 - self.chance
        return np.sqrt(np.maximum(beyond[unsure], 0) / np.maximum(self.variance[unsure], 1e-12))


def left_out(looks: Path, folds: int) -> dict[str, tuple[KnownRun, MapModel]]:
    """Return the train family's runs, each with the model that was fitted without it."""
    train = {
        name: look for name, look in read_looks(looks, "train").items() if look["indexed"].any()
    }
    theirs = read_looks(looks / "crystfel", "train")
    runs = indexed_by_crystfel(looks, "train")
    order = np.random.default_rng(0).permutation(list(train)).tolist()
    found: dict[str, tuple[KnownRun, MapModel]] = {}
    for fold in range(folds):
        held = order[fold::folds]
        model = fit_model(
            {name: look for name, look in train.items() if name not in held},
            {name: each for name, each in theirs.items() if name not in held},
        )
        found |= {name: (recorded(train[name]), model) for name in held}
        found |= {f"{n} crystfel": (runs[f"{n} crystfel"], model) for n in held if n in theirs}
    return found


@click.command()
@click.option("--looks", type=click.Path(path_type=Path), default=LOOKS)
@click.option("--folds", default=0, help="Cross-validate within the train family.")
@click.option("--json", "as_json", is_flag=True)
def main(looks: Path, folds: int, as_json: bool) -> None:
    """Print how well the map predicts indexing."""
    if folds:
        runs = left_out(looks, folds)
    else:
        known = {
            name: run
            for family in ("test", "shifted")
            for name, run in {
                **{name: recorded(look) for name, look in read_looks(looks, family).items()},
                **indexed_by_crystfel(looks, family),
            }.items()
        } | shared_runs()
        runs = {name: (run, MapModel.shipped()) for name, run in known.items()}
    found: dict[str, Any] = {}
    needed: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
    for name, (run, model) in runs.items():
        predicted = follow(run, model)
        figures = {f"after_{n}": each.figures() for n, each in predicted.items()}
        n_frames, n_sets = len(run.counts), len(run.chosen)
        found[name] = {"indexer": run.indexer, "n_frames": n_frames, "n_sets": n_sets, **figures}
        for n, each in predicted.items():
            needed.setdefault((run.indexer, n), []).append(each.scatter_needed())
        if not as_json:
            numbers = " | ".join(
                " | ".join(f"{value:.3f}" for value in each.values()) for each in figures.values()
            )
            click.echo(f"| {name} | {run.indexed.mean(axis=0).max():.2f} | {numbers} |")
    if as_json:
        print_json({"runs": found})
        return
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, each in found.items():
        groups.setdefault((name.split("_")[0], each["indexer"]), []).append(each)
    for (family, indexer), those in groups.items():
        for n in AFTER:
            means = {
                key: np.nanmean([each[f"after_{n}"][key] for each in those])
                for key in those[0][f"after_{n}"]
            }
            said = ", ".join(f"{key} {value:.3f}" for key, value in means.items())
            click.echo(f"- {family}, {indexer}, {len(those)} runs, after {n}: {said}")
    if folds:
        for (indexer, n), scatters in needed.items():
            value = np.quantile(np.concatenate(scatters), 0.95)
            click.echo(f"- {indexer}, after {n}: 95 % are within their intervals at {value:.2f}")


if __name__ == "__main__":
    main()
