"""How the peak finders compare: the learned one, peakfinder8, the robust one, and probixi's.

    python -m experiments.spot_finders [--json] [--crystfel [NAME]] [--frames N] [--only NAME]
        [--picture FILE]

On runs that nothing was learnt from: experiments of the test family, detectors that the train
family does not have (from the shifted family), CrystFEL's simulation `jf1m_lyso_60`, and the real
runs of the shared data. Each finder has a grid of its settings. Every second frame chooses the best
of them, by F1 and by the indexing rate, the other frames score it, and then the other way round; so
no frame scores what it has chosen. probixi has no settings, and is asked where it is installed
(``SFX_TUNER_PROBIXI_PYTHON``).

- ``f1``, ``precision``, ``recall``: against the true spots of four photons or more, within two
  pixels; null where nobody knows the truth. ``f1_ci95`` is what F1 comes to in 95 of 100 drawings
  of as many frames; ``recall_by_photons`` has the recall by brightness.
- ``rate``: frames of the run that the embedded indexer indexes, of all; with ``--crystfel`` also
  ``rate_crystfel``, for the sets that were chosen by F1, or else by the embedded one's rate (which
  may like lists with more noise than CrystFEL can take).
- ``ms_1mpx``: processor time of one thread until a frame that nothing is known of has its peaks,
  for a megapixel, with the set that was chosen by F1, or else by the rate. (The learned finder
  judges 1,000 candidates in frames of less than a megapixel, too.)
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from envs.environments.tasks import run_space
from experiments.peakfinder_accuracy import matches
from experiments.probixi_peaks import ProbixiPeaks, ask_probixi, probixi_python
from experiments.spot_report import BRIGHTNESS, draw_recall, print_table
from experiments.spot_runs import StudyRun, study_runs
from tuner.cli.options import print_json, stderr
from tuner.threads import single_threaded_algebra
from wrappers.crystfel.indexamajig import find_indexamajig
from wrappers.crystfel.indexer import CrystfelIndexer
from wrappers.errors import InputError
from wrappers.indexing import Pattern
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.peakfinding.finders import NamedFinder
from wrappers.peakfinding.peak_batch import PeakBatch
from wrappers.peaks import PeakList
from wrappers.settings import Settings

SHARED = Path(__file__).parents[2] / "shared" / "data"

FAINTEST = 4.0
"""Expected photons of a spot that is to be found."""

MIN_PEAKS = 10
SNR, PIXELS = (3.0, 3.5, 4.0, 4.5, 5.0, 6.0), (2, 3)
THRESHOLDS = (0.1, 0.2, 0.3, 0.45)
ROBUST_SNR, ROBUST_THRESHOLDS, ROBUST_PIXELS = (2.0, 2.5, 3.0), (0.0,), (2, 3)
PROBABILITIES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
"""Grids: min_snr, thresholds as places in their range, min_pix_count; least probabilities."""

TIMED, TRIES = 6, 5
"""Frames of which a first look is timed, and how often; the quickest counts."""

DRAWN = 1000
"""Drawings of frames that say how far F1 is known."""


@dataclass(frozen=True, eq=False)
class Found:
    """What one finder found in all frames of a run, with each of its sets.

    Attributes
    ----------
    sets : sequence of Settings or None
        None for a finder without settings.
    lists : list of list of PeakList
        By set, then by frame.
    ms : mapping or float
        Milliseconds of a first look, for one set or any.
    """

    sets: Sequence[Settings | None]
    lists: list[list[PeakList]]
    ms: float | None = None


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option(
    "--crystfel",
    is_flag=False,
    flag_value="",
    metavar="[NAME]",
    help="Index the chosen sets with CrystFEL, too: of all runs, or of those whose name begins so.",
)
@click.option("--frames", default=20, show_default=True, help="Of each rendered run.")
@click.option("--no-index", is_flag=True, help="Only the peaks: rates are null.")
@click.option("--only", help="Runs whose name begins so.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw recall by brightness there.")
@click.option("--model", type=click.Path(path_type=Path), help="Another spot model.")
@click.option("--shared", type=click.Path(path_type=Path), default=SHARED, show_default=True)
def main(
    as_json: bool,
    crystfel: str | None,
    frames: int,
    no_index: bool,
    only: str | None,
    picture: Path | None,
    model: Path | None,
    shared: Path,
) -> None:
    """Print the comparison."""
    single_threaded_algebra()
    learned = "learned" if model is None else f"learned:{model}"
    python, lacking = probixi_python()
    if crystfel is not None and find_indexamajig() is None:
        raise InputError("--crystfel needs indexamajig on the PATH or in SFX_TUNER_INDEXAMAJIG")
    results: dict[str, Any] = {}
    with study_runs(shared, frames, only or "") as runs, ThreadPoolExecutor(1) as beside:
        # It takes longer than all else together, and has a core of its own.
        asked = [beside.submit(ask_probixi, python, each) if python else None for each in runs]
        for each, answer in zip(runs, asked, strict=True):
            stderr.print(f"{each.name} ...", highlight=False)
            by_crystfel = crystfel is not None and each.name.startswith(crystfel)
            results[each.name] = compare(each, learned, answer, by_crystfel, not no_index)
    if picture is not None:
        draw_recall(results, picture)
    if as_json:
        print_json({"runs": results, "lacking": lacking})
        return
    for line in lacking:
        print(line)
    print_table(results)


def compare(
    study: StudyRun,
    learned: str,
    probixi: Future[ProbixiPeaks | None] | None = None,
    crystfel: bool = False,
    index: bool = True,
) -> dict[str, dict[str, Any]]:
    """Return the figures of each finder on a run, by its name."""
    made: dict[str, Found] = {}
    for name, sets in grids(study, learned).items():
        made[name] = find(study, sets)
    indexed = _Indexed(study) if index else None
    rows = {name: figures(study, found, indexed, crystfel) for name, found in made.items()}
    if probixi is not None and (answer := probixi.result()) is not None:
        found = Found([None], [answer.lists], answer.ms)
        rows["probixi"] = figures(study, found, indexed, crystfel)
    return rows


def grids(study: StudyRun, learned: str) -> dict[str, list[Settings]]:
    """Return the sets of each finder that can be used on a run."""
    run, n = study.run, range(min(len(study.run), 20))
    place = {"min_peaks": MIN_PEAKS, **study.place}
    space = run_space(run, n, ("min_snr", "threshold", "min_pix_count"))
    base = space.base.replace(**place)
    found = {
        "learned": [
            run_space(run, n, ("min_probability",), peak_finder=learned).base.replace(
                min_probability=probability, **place
            )
            for probability in PROBABILITIES
        ],
        "peakfinder8": [
            base.replace(
                min_snr=snr, threshold=space["threshold"].from_unit(unit), min_pix_count=pixels
            )
            for snr, unit, pixels in itertools.product(SNR, THRESHOLDS, PIXELS)
        ],
    }
    try:
        robust = run_space(run, n, ("min_snr", "threshold"), peak_finder="robust")
    except InputError:
        return found  # the geometry does not say what a photon is
    found["robust"] = [
        robust.base.replace(**place).replace(
            min_snr=snr, threshold=robust["threshold"].from_unit(unit), min_pix_count=pixels
        )
        for snr, unit, pixels in itertools.product(ROBUST_SNR, ROBUST_THRESHOLDS, ROBUST_PIXELS)
    ]
    return found


def find(study: StudyRun, sets: Sequence[Settings]) -> Found:
    """Return what a finder finds in every frame with each of its sets."""
    finder = NamedFinder(study.run.geometry)
    frames = list(PeakBatch(finder, study.run).search(range(len(study.run)), sets))
    lists = [[frame.patterns[i].peaks for frame in frames] for i in range(len(sets))]
    return Found(sets, lists)


def first_look(study: StudyRun, settings: Settings) -> float:
    """Return the milliseconds that a frame of a megapixel takes until it has its peaks.

    Processor time of this thread for a whole search: of a finder that prepares frames what one set
    asks for, not what it would keep for others. The median over some frames, each at its quickest.
    """
    finder = NamedFinder(study.run.geometry)
    frames = [study.run[i] for i in range(min(TIMED, len(study.run)))]
    for frame in frames[:2]:
        finder.find(frame, settings)
    seconds = []
    for frame in frames:
        tries = []
        for _ in range(TRIES):  # others on the machine may be in the way of some
            started = time.thread_time()
            finder.find(frame, settings)
            tries.append(time.thread_time() - started)
        seconds.append(min(tries))
    return 1e3 * float(np.median(seconds)) / (frames[0].data.size / 1e6)


class _Indexed:
    """Which frames of a run are indexed with some peaks; equal lists are asked for once."""

    def __init__(self, study: StudyRun) -> None:
        self._study, self._known = study, dict[bytes, bool]()
        self._indexer = FastIndexer(study.run.geometry, study.cell)
        nominal = study.run.nominal_clen
        self._clen = study.place.get("clen", nominal) - nominal

    def pattern(self, frame: int, peaks: PeakList) -> Pattern:
        """Return a frame's peaks with the detector where it truly is."""
        run, place = self._study.run, self._study.place
        shift_x, shift_y = run.shift(frame)
        return Pattern(
            peaks,
            run.photon_energy(frame),
            run.camera_length(frame) + self._clen,
            shift_x + place.get("shift_x", 0.0),
            shift_y + place.get("shift_y", 0.0),
        )

    def of(self, lists: Sequence[PeakList]) -> NDArray[np.bool_]:
        """Return which frames, in their order, the embedded indexer indexes."""
        answers = np.zeros(len(lists), bool)
        for frame, peaks in enumerate(lists):
            if len(peaks) < MIN_PEAKS:
                continue
            pattern = self.pattern(frame, peaks)
            key = pattern.digest()
            if key not in self._known:
                self._known[key] = self._indexer.index([pattern])[0].indexed
            answers[frame] = self._known[key]
        return answers

    def by_crystfel(self, lists: Mapping[int, PeakList]) -> int:
        """Return how many of some frames' lists CrystFEL indexes."""
        hits = [self.pattern(i, peaks) for i, peaks in lists.items() if len(peaks) >= MIN_PEAKS]
        indexer = CrystfelIndexer(self._study.run.geometry, self._study.cell)
        return sum(answer.indexed for answer in indexer.index(hits))


@dataclass
class _Score:
    right: int = 0
    found: int = 0
    there: int = 0

    @property
    def f1(self) -> float:
        return 2 * self.right / max(self.found + self.there, 1)


def figures(
    study: StudyRun, found: Found, indexed: _Indexed | None, crystfel: bool
) -> dict[str, Any]:
    """Return a finder's figures, each half of the frames scored with the other's best sets."""
    n = len(study.run)
    halves = np.arange(n) % 2
    by_set = np.zeros((len(found.lists), n), bool)
    if indexed is not None:
        by_set[:] = [indexed.of(lists) for lists in found.lists]
    rate, rate_crystfel = 0, 0
    chosen_by_rate, chosen_by_f1 = [], []
    scored: list[_Score] = []
    bright = [[0, 0] for _ in BRIGHTNESS[1:]]
    scores = None
    if study.spots is not None:
        truth = [spots[spots[:, 2] >= FAINTEST] for spots in study.spots]
        scores = [_counts(lists, truth) for lists in found.lists]
    for half in (0, 1):
        tuning, scoring = np.flatnonzero(halves == half), np.flatnonzero(halves != half)
        best = _best(by_set[:, tuning].sum(axis=1))
        chosen_by_rate.append(best)
        rate += int(by_set[best, scoring].sum())
        if scores is not None:
            f1 = [_sum([each[i] for i in tuning]).f1 for each in scores]
            best = int(np.argmax(f1))
            chosen_by_f1.append(best)
            scored += [scores[best][i] for i in scoring]
            for i in scoring:
                _add_by_brightness(bright, found.lists[best][i], truth[i])
        if crystfel and indexed is not None:
            rate_crystfel += indexed.by_crystfel({int(i): found.lists[best][i] for i in scoring})
    known, total = scores is not None, _sum(scored)
    fastest = (chosen_by_f1 or chosen_by_rate)[0]
    settings = found.sets[fastest]
    return {
        "f1": total.f1 if known else None,
        "f1_ci95": _interval(scored) if known else None,
        "precision": total.right / max(total.found, 1) if known else None,
        "recall": total.right / max(total.there, 1) if known else None,
        "rate": None if indexed is None else rate / n,
        "ms_1mpx": found.ms if settings is None else first_look(study, settings),
        **({"rate_crystfel": rate_crystfel / n} if crystfel else {}),
        "n_frames": n,
        "recall_by_photons": {
            f"{low:g}-{high:g}": right / there if there else None
            for (low, high), (right, there) in zip(
                itertools.pairwise(BRIGHTNESS), bright, strict=True
            )
        }
        if known
        else None,
        "chosen_by_f1": [_words(found.sets[i]) for i in chosen_by_f1],
        "chosen_by_rate": []
        if indexed is None
        else [_words(found.sets[i]) for i in chosen_by_rate],
    }


def _best(counts: NDArray[np.integer[Any]]) -> int:
    """Return the best set; of several equally good ones the middle, as a plateau's is safest."""
    best = np.flatnonzero(counts == counts.max())
    return int(best[len(best) // 2])


def _counts(lists: Sequence[PeakList], truth: Sequence[NDArray[np.float64]]) -> list[_Score]:
    scores = []
    for peaks, spots in zip(lists, truth, strict=True):
        right, _ = matches(peaks, spots[:, :2])
        scores.append(_Score(int(right.sum()), len(peaks), len(spots)))
    return scores


def _sum(scores: Sequence[_Score]) -> _Score:
    return _Score(
        sum(each.right for each in scores),
        sum(each.found for each in scores),
        sum(each.there for each in scores),
    )


def _interval(scores: Sequence[_Score]) -> list[float]:
    """Return between which values F1 lies in 95 of 100 drawings of as many frames."""
    counts = np.array([(each.right, each.found, each.there) for each in scores])
    drawn = np.random.default_rng(0).integers(len(counts), size=(DRAWN, len(counts)))
    right, found, there = counts[drawn].sum(axis=1).T
    return np.quantile(2 * right / np.maximum(found + there, 1), (0.025, 0.975)).tolist()


def _add_by_brightness(
    bright: list[list[int]], peaks: PeakList, spots: NDArray[np.float64]
) -> None:
    _, seen = matches(peaks, spots[:, :2])
    for place, (low, high) in enumerate(itertools.pairwise(BRIGHTNESS)):
        there = (spots[:, 2] >= low) & (spots[:, 2] < high)
        bright[place][0] += int(seen[there].sum())
        bright[place][1] += int(there.sum())


def _words(settings: Settings | None) -> dict[str, Any]:
    if settings is None:
        return {}
    names = ("min_snr", "threshold", "min_pix_count", "min_probability")
    values = settings.as_dict()
    return {name: values[name] for name in names if name in values}


if __name__ == "__main__":
    main()
