"""What frames drawn by promise say of a run, against as many drawn at random.

Runs are simulated by their frames alone: how far each stands out from a blank one, and whether it
is indexed. A share of the frames, "hits", shows a crystal, of which the median has 20 peaks and two
thirds lie within a factor of 2.2 of that; one with 12 peaks has even odds to be indexed. All others
look blank, up to noise, and are indexed once in 5,000. Each of many runs is looked at (20 frames
for each that is indexed), a sample is drawn by strata (`envs.strata`), and its weighted rate and
interval are held against the share of frames that such a run has indexed on average. The same for
the difference of two parameter sets, of which one needs more peaks than the other.

Further rows are about what the look does not see: crystals that look blank, and blank-looking
frames that are indexed more often.

    python -m experiments.strata [--runs 500] [--json]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from envs.evaluation import wilson_interval
from envs.strata import draw, promising_share, shares, strata_by_promise
from tuner.cli.options import print_json, progress_bar
from tuner.statistics import difference_interval

RUN = 20_000
SAMPLE = 200
WIDER = 20
"""Frames of a look for each that is indexed."""

Z = 1.959963984540054
MEDIAN_PEAKS, SPREAD = 20.0, 0.8
EVEN_ODDS, STRICTER, STEEPNESS = 12.0, 18.0, 0.3


@dataclass(frozen=True)
class Kind:
    """A kind of runs.

    Attributes
    ----------
    name : str
    hits : float
        Share of frames that show a crystal.
    hidden : float
        Share of those that look blank.
    chance : float
        Share of blank frames that are indexed.
    """

    name: str
    hits: float
    hidden: float = 0.0
    chance: float = 2e-4


KINDS = (
    Kind("0.5 % hits", 0.005),
    Kind("1 % hits", 0.01),
    Kind("1 % hits, blank frames never indexed", 0.01, chance=0.0),
    Kind("3 % hits", 0.03),
    Kind("10 % hits", 0.1),
    Kind("1 % hits, one in ten looks blank", 0.01, hidden=0.1),
    Kind("1 % hits, three in ten look blank", 0.01, hidden=0.3),
    Kind("1 % hits, one blank frame in 1,000 indexed", 0.01, chance=1e-3),
    Kind("1 % hits, one blank frame in 200 indexed", 0.01, chance=5e-3),
)


@click.command()
@click.option("--runs", default=500, show_default=True, help="Simulated runs of each kind.")
@click.option("--sample", default=SAMPLE, show_default=True, help="Frames indexed in each.")
@click.option("--json", "as_json", is_flag=True)
def main(runs: int, sample: int, as_json: bool) -> None:
    """Print what strata gain, and whether their intervals hold."""
    found = {}
    with progress_bar("runs", len(KINDS) * runs) as show:
        for place, kind in enumerate(KINDS):
            found[kind.name] = study(
                kind, runs, sample, lambda done, place=place: show(place * runs + done)
            )
    if as_json:
        print_json({"frames": RUN, "sample": sample, "n_runs": runs, "runs": found})
        return
    print(
        "| run | rate | mean error ± its own | coverage | width | worth (random frames) |", end=""
    )
    print(" indexed, random | gain: error, coverage |\n|---|---|---|---|---|---|---|---|")
    for name, each in found.items():
        print(
            f"| {name} | {each['rate']:.2%} | {each['error']:+.3%} ± {each['error_se']:.3%} "
            f"| {each['coverage_95']:.1%} | {each['width']:.2%} | {each['worth']:,.0f} "
            f"| {each['n_indexed']:.1f}, {each['n_indexed_random']:.1f} "
            f"| {each['gain_error']:+.3%} ± {each['gain_error_se']:.3%}, "
            f"{each['gain_coverage_95']:.1%} |"
        )


def study(kind: Kind, n_runs: int, sample: int, progress: Any) -> dict[str, float]:
    """Return what the samples of many runs of a kind say, on average.

    ``worth`` is the number of frames of a random sample whose Wilson interval, at the true rate, is
    as wide as the median of the weighted ones; ``coverage_95_run`` is of the rate of each run's own
    frames, ``coverage_95`` of the kind's.
    """
    generator = np.random.default_rng(0)
    _, likely, stricter = _frames(kind, 4_000_000, generator)
    rate, gain = float(likely.mean()), float((likely - stricter).mean())
    rows = []
    for number in range(n_runs):
        score, chance, chance_stricter = _frames(kind, RUN, generator)
        luck = generator.random(RUN)
        indexed, other = luck < chance, luck < chance_stricter
        look = generator.permutation(RUN)[: WIDER * sample]
        drawn, _ = draw(strata_by_promise(look.tolist(), score[look]), sample, seed=number)
        frames = list(drawn.frames)
        seen = shares(indexed[frames], drawn.strata, drawn.sizes)
        low, high = wilson_interval(seen.up * seen.n_effective, seen.n_effective)
        both = shares(
            (indexed & ~other)[frames], drawn.strata, drawn.sizes, (other & ~indexed)[frames]
        )
        least, most = difference_interval(both, Z)
        own = float(indexed.mean())
        rows.append(
            (
                *(seen.up - rate, low <= rate <= high, low <= own <= high, high - low),
                *(both.up - both.down - gain, least <= gain <= most),
                *(indexed[frames].sum(), indexed[look[:sample]].sum()),
                promising_share(score[look]),
            )
        )
        progress(number + 1)
    table = np.array(rows, float)
    errors = table.std(axis=0, ddof=1) / np.sqrt(n_runs)
    means, width = table.mean(axis=0), float(np.median(table[:, 3]))
    return {
        "rate": rate,
        "promising": float(means[8]),
        "error": float(means[0]),
        "error_se": float(errors[0]),
        "coverage_95": float(means[1]),
        "coverage_95_run": float(means[2]),
        "width": width,
        "worth": _frames_worth(width, rate),
        "gain": gain,
        "gain_error": float(means[4]),
        "gain_error_se": float(errors[4]),
        "gain_coverage_95": float(means[5]),
        "n_indexed": float(means[6]),
        "n_indexed_random": float(means[7]),
    }


def _frames(
    kind: Kind, n: int, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return each frame's promise and its chance to be indexed with either parameter set."""
    hit = generator.random(n) < kind.hits
    peaks = np.where(hit, MEDIAN_PEAKS * np.exp(SPREAD * generator.standard_normal(n)), 0.0)
    shown = np.where(generator.random(n) < kind.hidden, 0.0, peaks)
    score = shown + 1.0 + 1.2 * generator.standard_normal(n)
    first, second = (_chance(peaks, hit, kind.chance, needed) for needed in (EVEN_ODDS, STRICTER))
    return score, first, second


def _chance(
    peaks: NDArray[np.float64], hit: NDArray[np.bool_], otherwise: float, needed: float
) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.where(hit, 1 / (1 + (needed / peaks) ** (1 / STEEPNESS)), otherwise)


def _frames_worth(width: float, rate: float) -> float:
    """Return the frames of a random sample whose interval at a rate is so wide."""
    low, high = 1.0, 1e7
    for _ in range(60):
        middle = np.sqrt(low * high)
        ends = wilson_interval(rate * middle, middle)
        low, high = (middle, high) if ends[1] - ends[0] > width else (low, middle)
    return float(middle)


if __name__ == "__main__":
    main()
