"""How well frames are told by kind, without indexing, against what is really in them.

Runs of the test and shifted families with frames of every kind (`experiments.kind_runs`), which
nothing was chosen on. Each run is clustered by itself, by several methods:

kinds           what `sfx-tuner kinds` says: the shipped parts, adapted to the run
mixture         a Gaussian mixture of the run's own features alone; number of parts by held-out
                likelihood
frame by frame  each frame named by limits on its own features
counts          k-means on the peak counts of a look, told how many kinds there are
raw pixels      spectral clustering on frames binned to 64 x 64, told how many kinds there are

Homogeneity, completeness and the adjusted Rand index are means over the runs. Then which frames
`apply --veto kinds` would drop, and which of those the embedded indexer, told the true cell and
geometry, would have indexed (`experiments.kind_veto` has more of them); and in how many frames of
one crystal, and of several, it finds a second lattice.

    python -m experiments.frame_kinds [--runs 6] [--seed 22] [--frames 80] [-o FOLDER] [--json]
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from envs.evaluation import wilson_interval
from experiments.kind_runs import KindRun, kind_runs
from tuner.cli.options import print_json, progress_bar
from wrappers.files import write_whole
from wrappers.frame_kinds.features import Reference, features
from wrappers.frame_kinds.kinds import FrameKinds
from wrappers.frame_kinds.measures import Measurer
from wrappers.frame_kinds.mixture import Mixture
from wrappers.frame_kinds.naming import KINDS, VETOED, drops, name_of
from wrappers.frames.frame import Frame
from wrappers.indexing import Indexer, Pattern
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.settings import Settings

__all__ = ["FAMILIES", "agreement", "hit_design", "kept", "lattices", "study_run"]

Floats = NDArray[np.float64]

FAMILIES = ("test", "shifted")
SEED = 24
"""The runs of 21 to 23 were looked at while features were mended."""
BINS = 64
SNRS, PHOTONS = (4.0, 6.0, 10.0), (1.0, 4.0, 10.0)
"""Of the look whose counts are clustered: min_snr, and threshold in photons."""


HIT = Settings(min_snr=5, min_pix_count=1, max_pix_count=200, min_peaks=10)
"""With thresholds of `PHOTONS`: what a dropped frame would have been indexed with."""


@click.command()
@click.option("--runs", default=6, show_default=True, help="Of each family.")
@click.option("--seed", default=SEED, show_default=True, help="Of the runs that are drawn.")
@click.option("--frames", default=80, show_default=True, help="Of each run.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for each run's figures; what it has is not worked out again.",
)
@click.option("--json", "as_json", is_flag=True)
def main(runs: int, seed: int, frames: int, output: Path | None, as_json: bool) -> None:
    """Print the agreement with the truth."""
    drawn = [run for family in FAMILIES for run in kind_runs(family, runs, seed)]
    found = {}
    with progress_bar("frames", len(drawn) * frames) as show:
        for place, run in enumerate(drawn):
            found[run.name] = kept(study_run, run, frames, output)
            show((place + 1) * frames)
    document = {"n_frames": frames, "methods": _means(found), "runs": found, **_veto(found)}
    if as_json:
        print_json(document)
        return
    _print(document)


def kept(
    work: Callable[[KindRun, int], dict[str, Any]], run: KindRun, n: int, folder: Path | None
) -> dict[str, Any]:
    """Return what a study says of a run's first `n` frames, from a folder where it is there."""
    if folder is None:
        return work(run, n)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run.name}_{run.experiment.seed}_{n}.json"
    if not path.exists():
        write_whole(path, json.dumps(work(run, n)))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def study_run(run: KindRun, n: int) -> dict[str, Any]:
    """Return what each method says of the first `n` frames of one run."""
    with tempfile.TemporaryDirectory() as folder:
        geometry = run.geometry(Path(folder))
    measurer, finder = Measurer(geometry), PeakFinder(geometry)
    design = hit_design(run.experiment.detector.gain)
    measured, counts, binned, truth, seconds = [], [], [], [], []
    for frame, kind, _ in run.frames(n):
        started = time.process_time()
        measured.append(measurer.measure(frame))
        seconds.append(time.process_time() - started)
        counts.append(finder.prepare(frame).count_all(design))
        binned.append(_binned(frame))
        truth.append(kind)
    reference = Reference.of(measured)
    started = time.process_time()
    points = np.array([features(each, reference) for each in measured])
    per_frame = float(np.median(seconds)) + (time.process_time() - started) / n
    kinds = FrameKinds.of_run(points, reference, geometry)
    names, n_kinds = kinds.assign(points), len(set(truth))
    labels: dict[str, Sequence[Any]] = {
        "kinds": names,
        "mixture": Mixture.fit(points).parts(points).tolist(),
        "frame by frame": [name_of(each) for each in points],
        "counts": _k_means(np.log1p(np.array(counts, float)), n_kinds),
        "raw pixels": _spectral(np.array(binned), n_kinds),
    }
    pairs = Counter(zip(truth, names, strict=True))
    dropped = [i for i, each in enumerate(points) if drops(names[i], each)]
    of_crystals = {
        kind: [i for i, each in enumerate(truth) if each == kind]
        for kind in ("single crystal", "several crystals")
    }
    return {
        "detector": run.draw.kind,
        "n_true_kinds": n_kinds,
        "methods": {name: agreement(truth, each) for name, each in labels.items()},
        "names": [[true, name, k] for (true, name), k in pairs.items()],
        "n_dropped": len(dropped),
        "n_dropped_of_kinds": sum(truth[i] in VETOED for i in dropped),
        "n_of_kinds": sum(each in VETOED for each in truth),
        "n_dropped_that_index": sum(each > 0 for each in lattices(run, design, dropped)),
        "lattices": {kind: lattices(run, design, some) for kind, some in of_crystals.items()},
        "ms_1mpx": per_frame * 1e3 / (run.draw.n_pixels / 2**20),
    }


def agreement(truth: Sequence[str], labels: Sequence[Any]) -> dict[str, float]:
    """Return homogeneity, completeness and adjusted Rand index of labels, and their number."""
    from sklearn.metrics import adjusted_rand_score, homogeneity_completeness_v_measure

    homogeneity, completeness, _ = homogeneity_completeness_v_measure(truth, labels)
    return {
        "homogeneity": float(homogeneity),
        "completeness": float(completeness),
        "adjusted_rand": float(adjusted_rand_score(truth, labels)),
        "n_kinds": len(set(labels)),
    }


def _binned(frame: Frame) -> Floats:
    """Return a frame of BINS x BINS blocks, flat: the usable pixels' means."""
    values = np.where(frame.mask, frame.data, 0).astype(np.float64)
    rows, columns = (np.arange(BINS) * size // BINS for size in values.shape)

    def blocks(array: Floats) -> Floats:
        return np.asarray(np.add.reduceat(np.add.reduceat(array, rows, 0), columns, 1))

    usable = blocks(frame.mask.astype(np.float64))
    return (blocks(values) / np.maximum(usable, 1)).ravel()


def _k_means(points: Floats, n: int) -> list[int]:
    from sklearn.cluster import KMeans

    return KMeans(n, n_init=10, random_state=0).fit_predict(points).tolist()


def _spectral(points: Floats, n: int) -> list[int]:
    """Return clusters by a Gaussian of the distances, as wide as their median."""
    from sklearn.cluster import SpectralClustering
    from sklearn.metrics import pairwise_distances

    distances = pairwise_distances(points)
    width = max(float(np.median(distances)), 1e-12)
    affinity = np.exp(-((distances / width) ** 2) / 2)
    model = SpectralClustering(n, affinity="precomputed", random_state=0)
    return model.fit_predict(affinity).tolist()


def lattices(
    run: KindRun,
    design: Sequence[Settings],
    frames: Sequence[int],
    indexer: Indexer | None = None,
) -> list[int]:
    """Return how many lattices an indexer finds in each frame with any set of a design, at most.

    It is told the true cell and geometry. By default it is the embedded one, which looks for two.
    """
    experiment = run.experiment
    with tempfile.TemporaryDirectory() as folder:
        geometry = run.geometry(Path(folder))
    finder, cell = PeakFinder(geometry), experiment.crystals.cell
    indexer = indexer or FastIndexer(geometry, cell, max_lattices=2)
    shift = experiment.shift_x, experiment.shift_y
    found = []
    for index in frames:
        frame = run.frame(index)
        patterns = [
            Pattern(peaks, frame.photon_energy, experiment.clen, *shift)
            for peaks in finder.prepare(frame).find_all(design)
            if len(peaks) >= HIT.min_peaks
        ]
        answers = indexer.index(patterns)
        found.append(max((len(answer.lattices) for answer in answers), default=0))
    return found


def hit_design(gain: float) -> list[Settings]:
    """Return the sets of a look, of which frames are indexed with any."""
    return [
        HIT.replace(min_snr=snr, threshold=photons * gain) for snr in SNRS for photons in PHOTONS
    ]


def _means(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return by family and method the means over the runs, with the index's standard error."""
    means: dict[str, dict[str, dict[str, float]]] = {}
    for family in FAMILIES:
        rows = [each["methods"] for name, each in found.items() if name.startswith(family)]
        means[family] = {
            method: {
                **{
                    what: float(np.mean([row[method][what] for row in rows]))
                    for what in ("homogeneity", "completeness", "adjusted_rand", "n_kinds")
                },
                "adjusted_rand_se": float(
                    np.std([row[method]["adjusted_rand"] for row in rows], ddof=1)
                    / np.sqrt(len(rows))
                )
                if len(rows) > 1
                else 0.0,
            }
            for method in rows[0]
        }
    return means


def _veto(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what the veto drops, and the confusion of kinds, over all runs."""
    runs = found.values()
    table: Counter[tuple[str, str]] = Counter()
    for run in runs:
        for true, name, k in run["names"]:
            table[true, name] += k
    dropped, lost = (sum(run[n] for run in runs) for n in ("n_dropped", "n_dropped_that_index"))
    return {
        "names": {
            true: {name: table[true, name] for name in KINDS if table[true, name]}
            for true in KINDS
            if any(table[true, name] for name in KINDS)
        },
        "veto": {
            "n_of_kinds": sum(run["n_of_kinds"] for run in runs),
            "n_dropped": dropped,
            "n_dropped_of_kinds": sum(run["n_dropped_of_kinds"] for run in runs),
            "n_dropped_that_index": lost,
            "ci95": list(wilson_interval(lost, max(dropped, 1))),
        },
        "second_lattice": {
            kind: _second([n for run in runs for n in run["lattices"][kind]])
            for kind in ("single crystal", "several crystals")
        },
        "ms_1mpx": float(np.median([run["ms_1mpx"] for run in runs])),
    }


def _second(n_lattices: Sequence[int]) -> dict[str, int]:
    n_indexed = sum(n > 0 for n in n_lattices)
    return {
        "n": len(n_lattices),
        "n_indexed": n_indexed,
        "n_second": sum(n > 1 for n in n_lattices),
    }


def _print(document: dict[str, Any]) -> None:
    print("| family | method | homogeneity | completeness | adjusted Rand | kinds |")
    print("|---|---|---|---|---|---|")
    for family, methods in document["methods"].items():
        for method, row in methods.items():
            print(
                f"| {family} | {method} | {row['homogeneity']:.2f} | {row['completeness']:.2f} "
                f"| {row['adjusted_rand']:.2f} ± {row['adjusted_rand_se']:.2f} "
                f"| {row['n_kinds']:.1f} |"
            )
    print()
    print(f"| what is there | {' | '.join(KINDS)} |\n|---{'|---' * len(KINDS)}|")
    for true, row in document["names"].items():
        print(f"| {true} | {' | '.join(str(row.get(name, 0)) for name in KINDS)} |")
    veto = document["veto"]
    print(
        f"\nveto: {veto['n_dropped']} frames dropped, {veto['n_dropped_of_kinds']} of the "
        f"{veto['n_of_kinds']} of these kinds; {veto['n_dropped_that_index']} of the dropped "
        f"would index"
    )
    for kind, row in document["second_lattice"].items():
        print(
            f"{kind}: {row['n_indexed']} of {row['n']} index, {row['n_second']} with two lattices"
        )
    print(f"{document['ms_1mpx']:.1f} ms of processor time for a frame of 1 Mpx")


if __name__ == "__main__":
    main()
