"""What a user calls: tune, find peaks, index, apply."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from envs.evaluation import Evaluation
from envs.evaluators.live import LiveEvaluator
from envs.parameter_space import usually_tuned
from sfx_tuner.session import Session
from tuner.session.budget import Budget
from tuner.session.config import Sampling
from tuner.session.request import Request
from tuner.session.trial import Trial
from tuner.tuning import tune as run_tuning
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.opening import open_source
from wrappers.frames.source import FrameSource
from wrappers.indexers import IndexerChoice, make_indexer
from wrappers.masks.bad_pixels import with_needed_map
from wrappers.peaks import PeakList
from wrappers.settings import Settings
from wrappers.workers.opening import open_pool

if TYPE_CHECKING:
    from tuner.session.start import Start
    from wrappers.reduction import Reduction

__all__ = ["Indexed", "apply", "find_peaks", "index", "open_run", "tune"]

PathLike = str | os.PathLike[str]


def open_run(data: PathLike, geometry: PathLike | Geometry) -> FrameSource:
    """Open a run: a file of frames, a list of such files, or the address of another source.

    Parameters
    ----------
    data : path or str
    geometry : path or Geometry
        CrystFEL's geometry file of the detector.

    Raises
    ------
    InputError
        If one of them cannot be used.
    """
    panels = geometry if isinstance(geometry, Geometry) else Geometry.read(Path(geometry))
    return open_source(os.fspath(data), panels)


def tune(
    data: PathLike,
    geometry: PathLike,
    cell: PathLike,
    directory: PathLike,
    *,
    evaluations: int | None = None,
    minutes: float | None = None,
    searcher: str | None = None,
    frames: int | None = Request.n_frames,
    tuned: Sequence[str] | None = None,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    clen_range: float = Request.clen_range,
    start: Mapping[str, float] | PathLike | None = None,
    peak_finder: str = Settings.peak_finder,
    indexer: str | IndexerChoice = "auto",
    sampling: Sampling = Request.sampling,
    seed: int = 0,
    jobs: int = 1,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Session:
    """Find the parameter set that indexes most frames of a run; ``sfx-tuner tune`` from Python.

    With ``jobs`` above 1 call it below ``if __name__ == "__main__":``, as worker processes begin
    by importing the script.

    Parameters
    ----------
    data, geometry, cell : path
        The run, CrystFEL's geometry file, the unit cell.
    directory : path
        Of the session; new or empty.
    evaluations, minutes : optional
        The budget; 30 evaluations by default.
    searcher : str, optional
        A name in `tuner.searchers.SEARCHERS`; by default "map-agent", or "gp" where that does not
        apply.
    frames : int or None
        Size of the tuning sample; None takes every frame.
    tuned : sequence of str, optional
        Tuned settings; by default min_snr, threshold, min_pix_count and clen (with the learned
        peak finder min_probability and clen), without those that are fixed.
    fixed : mapping of str to float, optional
        Settings that keep a value.
    bounds : mapping of str to (float, float), optional
        Ranges of tuned settings, instead of the usual ones.
    clen_range : float
        ``clen`` is sought within this fraction of the geometry's.
    start : mapping of str to float, or path, optional
        What is in use today, the bar to beat: settings, or a file as ``tune --start`` takes it.
        By default what is customary for the detector.
    peak_finder : str
    indexer : str or IndexerChoice
        A name in `wrappers.indexers.INDEXERS`, or "auto": CrystFEL where it is installed.
    sampling : str
        How the frames are drawn: "auto", "random" or "strata" (by what their peaks promise).
    seed : int
        Of the sample and of the searcher.
    jobs : int
        Worker processes.
    on_trial : callable
        Called with each new trial.

    Returns
    -------
    Session
        Its ``recommendation`` is None if nothing is worth recommending.

    Raises
    ------
    InputError
        If a file cannot be used, or the directory holds something else.
    ProgramError
        If the indexer cannot be run.
    """
    fixed, bounds = dict(fixed or {}), dict(bounds or {})
    request = Request(
        data=os.fspath(data),
        geometry=Path(geometry),
        cell=Path(cell),
        searcher=searcher,
        n_frames=frames,
        tuned=usually_tuned(fixed, bounds, peak_finder) if tuned is None else tuple(tuned),
        peak_finder=peak_finder,
        clen_range=clen_range,
        fixed=fixed,
        bounds=bounds,
        start=_start(start),
        sampling=sampling,
        seed=seed,
        indexer=indexer if isinstance(indexer, IndexerChoice) else IndexerChoice(indexer),
    )
    budget = Budget.of(evaluations, minutes)
    run_tuning(request, Path(directory), budget=budget, jobs=jobs, on_trial=on_trial)
    return Session.open(directory)


def _start(start: Mapping[str, float] | PathLike | None) -> Start | None:
    from tuner.session.start import read_start, start_of_values  # waits for the exporters

    if start is None:
        return None
    if isinstance(start, Mapping):
        return start_of_values(dict(start))
    return read_start(Path(start))


def find_peaks(
    run: FrameSource,
    settings: Settings,
    *,
    frames: Sequence[int] | None = None,
    jobs: int = 1,
) -> list[PeakList]:
    """Find the peaks of a run's frames.

    Parameters
    ----------
    run : FrameSource
        See `open_run`.
    settings : Settings
    frames : sequence of int, optional
        Indices in the run; all by default.
    jobs : int
        Worker processes.

    Returns
    -------
    list of PeakList
        One a frame, in the order of `frames`.

    Raises
    ------
    InputError
        If a frame cannot be read.
    """
    chosen = list(range(len(run)) if frames is None else frames)
    known = with_needed_map(run, settings, jobs=jobs)
    with closing(open_pool(known, None, chosen, jobs, 0, finder=settings.peak_finder)) as pool:
        found = pool.search(list(dict.fromkeys(chosen)), [settings])
    for one in found.values():
        if one.failure:
            raise InputError(one.failure)
    return [found[place].patterns[0].peaks for place in chosen]


@dataclass(frozen=True, eq=False)
class Indexed:
    """A run that was indexed.

    Attributes
    ----------
    evaluation : Evaluation
        Counts, rates and diagnostics, with the outcome of every frame.
    peaks : dict of int to PeakList
        By frame; a frame that cannot be read has none.
    lattices : dict of int to float64 array (n, 3, 3)
        By indexed frame: rows a*, b*, c* of each lattice in 1/Å, in CrystFEL's laboratory frame.
    """

    evaluation: Evaluation
    peaks: dict[int, PeakList]
    lattices: dict[int, NDArray[np.float64]]

    @property
    def table(self) -> pd.DataFrame:
        """One row a frame: number of peaks and lattices, whether it is a hit, why it failed."""
        rows: list[dict[str, Any]] = [
            {
                "frame": outcome.frame,
                "n_peaks": outcome.n_peaks,
                "hit": outcome.hit,
                "n_lattices": outcome.n_lattices,
                "failure": outcome.failure,
            }
            for outcome in self.evaluation.outcomes
        ]
        return pd.DataFrame(rows).set_index("frame")


def index(
    run: FrameSource,
    cell: PathLike | Cell,
    settings: Settings,
    *,
    frames: Sequence[int] | None = None,
    indexer: str | IndexerChoice = "auto",
    jobs: int = 1,
) -> Indexed:
    """Find the peaks of a run's frames and index the hits.

    Parameters
    ----------
    run : FrameSource
        See `open_run`.
    cell : path or Cell
    settings : Settings
    frames : sequence of int, optional
        Indices in the run; all by default.
    indexer : str or IndexerChoice
        A name in `wrappers.indexers.INDEXERS`, or "auto": CrystFEL where it is installed.
    jobs : int
        Worker processes.

    Raises
    ------
    InputError
        If the cell cannot be read, or there is no such indexer.
    ProgramError
        If the indexer cannot be run.
    """
    unit = cell if isinstance(cell, Cell) else Cell.read(Path(cell))
    choice = indexer if isinstance(indexer, IndexerChoice) else IndexerChoice(indexer)
    chosen = list(range(len(run)) if frames is None else frames)
    known = with_needed_map(run, settings, jobs=jobs)
    with (
        closing(make_indexer(choice, run.geometry, unit, jobs=jobs)) as made,
        LiveEvaluator(known, unit, made, chosen, jobs=jobs) as evaluator,
    ):
        evaluation, patterns, answers = evaluator.inspect(settings)
    lattices = {
        frame: np.array([lattice.reciprocal for lattice in answer.lattices])
        for frame, answer in answers.items()
        if answer.indexed
    }
    return Indexed(evaluation, {i: pattern.peaks for i, pattern in patterns.items()}, lattices)


def apply(
    recommended: PathLike | Session,
    data: PathLike,
    output: PathLike,
    *,
    geometry: PathLike | None = None,
    virtual: bool = False,
    resume: bool = False,
    replace: bool = False,
    veto_kinds: bool = False,
    jobs: int = 1,
) -> Reduction:
    """Find peaks with the recommended set, drop the non-hits, write the hits.

    Parameters
    ----------
    recommended : path or Session
        A session, its directory, or a recommended.toml.
    data : path
        The run to reduce.
    output : path
        CXI file for the hits; a geometry to read it with is written beside it.
    geometry : path, optional
        The session's by default.
    virtual : bool
        Leave the images where they are.
    resume : bool
        Go on with an interrupted reduction.
    replace : bool
        Replace an output that exists; what is read stays in any case.
    veto_kinds : bool
        Leave out frames without light or of a faulty detector, by the session's kinds of frames
        or those of the run itself; see `tell_kinds`.
    jobs : int
        Worker processes.

    Raises
    ------
    InputError
        If a file cannot be used, or the output would replace an input.
    """
    from tuner.apply.applying import check_outputs_of, named_set
    from tuner.apply.by_kind import ByKind
    from tuner.recommendation import read_recommendation, session_geometry
    from wrappers.peakfinding.finders import NamedFinder
    from wrappers.reduction import reduce_run

    named = recommended.directory if isinstance(recommended, Session) else Path(recommended)
    recommendation = read_recommendation(named)
    panels = session_geometry(recommendation, None if geometry is None else Path(geometry))
    with open_run(data, panels) as run:
        out = Path(output)
        check_outputs_of(out, recommendation, run, named, Path(data), panels)
        used = named_set(recommendation, run)
        by_kind = ByKind.of(run, None, named, True, jobs=jobs) if veto_kinds else None
        return reduce_run(
            with_needed_map(run, used.settings, jobs=jobs),
            NamedFinder(run.geometry),
            used,
            out,
            jobs=jobs,
            virtual=virtual,
            resume=resume,
            replace=replace,
            **({} if by_kind is None else by_kind.options),
        )
