"""The main job: from the files of a run to a recommendation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs.evaluators.live import LiveEvaluator
from envs.response_map.stored import MAP_FILE
from envs.strata import Sample
from tuner import report
from tuner.cells.forms import check_session_cell
from tuner.cells.search import cell_of_session
from tuner.crystfel_check import check_own_search, crystfel_found
from tuner.fingerprint import (
    data_fingerprint,
    fingerprint,
    linked_fingerprint,
    policy_fingerprint,
    spots_fingerprint,
)
from tuner.provenance import provenance_of
from tuner.recommendation import Recommendation, recommend, write_recommendation
from tuner.session.budget import Budget
from tuner.session.choice import cross_validated_rate
from tuner.session.config import SessionConfig
from tuner.session.found_geometry import at_found_geometry, find_session_geometry
from tuner.session.kinds import frames_without_anything, session_kinds
from tuner.session.look_map import keep_look_map
from tuner.session.loop import run_session
from tuner.session.nothing import why_nothing, write_nothing
from tuner.session.ownership import owned
from tuner.session.request import Request, search_space, searcher_of, with_fit_searcher
from tuner.session.residuals import spot_residuals, write_residuals
from tuner.session.sampling import choose_frames
from tuner.session.start import Start, customary_start, with_start
from tuner.session.store import (
    BAD_PIXELS,
    FOUND_CELL,
    SECOND_CELL,
    SessionStore,
    require_folder_for_session,
)
from tuner.session.trial import Trial
from tuner.session.unconfirmed import keep_unconfirmed
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.first_look import first_look
from wrappers.frames.opening import open_source
from wrappers.frames.sampling import sample_frames
from wrappers.frames.source import FrameSource
from wrappers.indexers import INDEXERS, make_indexer
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.masks.bad_pixels import find_bad_pixels
from wrappers.masks.settings_mask import needs_map
from wrappers.processes import require_main_guard
from wrappers.workers.memory import share_out, usual_memory
from wrappers.workers.opening import open_pool
from wrappers.workers.worker_processes import kept_workers

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["tune"]

FEWEST_FRESH = 25
"""Frames beside the sample that are worth measuring the winner on; with fewer the rate of the
search is cross-validated instead."""

DECOYS = 50
"""Of an evaluation on fresh frames."""


def tune(
    request: Request,
    directory: Path,
    *,
    budget: Budget,
    jobs: int = 1,
    memory: int | None = None,
    cluster: Client | None = None,
    resume: bool = False,
    cell_check: bool = True,
    find_geometry: bool = True,
    on_inputs: Callable[[Cell, Sequence[str]], None] = lambda cell, notes: None,
    on_indexer: Callable[[str], None] = lambda name: None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_look: Callable[[int, int], None] = lambda done, total: None,
    on_sample: Callable[[str], None] = lambda words: None,
    on_geometry: Callable[[str], None] = lambda words: None,
    on_recommended: Callable[[], None] = lambda: None,
) -> Recommendation | None:
    """Run or resume a session and write what it recommends.

    Writes ``recommended.toml``, ``trials.csv``, ``report.html`` and the session's own files.

    Parameters
    ----------
    request : Request
    directory : Path
        Of the session; new or empty unless `resume`.
    budget : Budget
    jobs : int
        Processes of this machine, if the memory allows so many.
    memory : int, optional
        Bytes that they may take together; by default a quarter of the machine's.
    cluster : distributed.Client, optional
        Its workers evaluate instead.
    resume : bool
        Go on with the session in the directory.
    cell_check : bool
        In the end, hold the cell against the one on which the clearest frames agree by themselves.
    find_geometry : bool
        Begin where the clearest frames put the detector, and let a detector shift that the lattices
        clearly ask for join what they fix.
    on_inputs : callable
        Called first, with the cell and with what is odd about the files, a sentence each.
    on_indexer : callable
        Called with the indexer's name and version before the first evaluation.
    on_trial : callable
        Called with each new trial.
    on_progress : callable
        Called with the frames and decoys of the evaluation under way that are done, and with all.
    on_look : callable
        Called with the frames that were looked at before some are chosen, and with all.
    on_sample : callable
        Called with how the frames were drawn, where not at random.
    on_geometry : callable
        Called with where the frames put the detector, if that is not where the geometry does.
    on_recommended : callable
        Called once ``recommended.toml`` has the confirmed set, before the last checks and report.

    Returns
    -------
    Recommendation or None
        None if nothing is worth recommending; ``nothing_to_recommend.txt`` then says why.

    Raises
    ------
    InputError
        If a file cannot be used, the session to resume was begun with other inputs, or another
        process is writing it.
    ProgramError
        If the indexer cannot be run.
    """
    require_main_guard()
    with owned(directory), kept_workers():
        return _tune(
            request,
            directory,
            budget,
            jobs,
            usual_memory() if memory is None else memory,
            cluster,
            resume,
            cell_check,
            find_geometry,
            on_inputs,
            on_indexer,
            on_trial,
            on_progress,
            on_look,
            on_sample,
            on_geometry,
            on_recommended,
        )


def _tune(
    request: Request,
    directory: Path,
    budget: Budget,
    jobs: int,
    memory: int,
    cluster: Client | None,
    resume: bool,
    cell_check: bool,
    find_geometry: bool,
    on_inputs: Callable[[Cell, Sequence[str]], None],
    on_indexer: Callable[[str], None],
    on_trial: Callable[[Trial], None],
    on_progress: Callable[[int, int], None],
    on_look: Callable[[int, int], None],
    on_sample: Callable[[str], None],
    on_geometry: Callable[[str], None],
    on_recommended: Callable[[], None],
) -> Recommendation | None:
    request = with_fit_searcher(request)
    if not resume:
        require_folder_for_session(directory)
    policy = request.read_policy()
    geometry = Geometry.read(request.geometry)
    if request.cell is not None:
        cell, cell_file, origin = Cell.read(request.cell), request.cell, ""
    run = open_source(request.data, geometry)
    sample, others = sample_frames(run, request.n_frames, request.seed)
    searcher = searcher_of(request, len(sample), directory if resume else None)
    fresh = others if len(others) >= FEWEST_FRESH else []
    jobs, room = share_out(memory, jobs, len(sample), run, n_pools=2 if fresh else 1)
    if request.cell is None:
        cell_file = directory / FOUND_CELL
        cell, origin = cell_of_session(run, sample, cell_file, resume, jobs)
    on_inputs(cell, (*((origin,) if origin else ()), *first_look(run)))
    choice = request.indexer.settled()
    kind = INDEXERS.get(choice.name)
    indexer = make_indexer(choice, geometry, cell, jobs=1 if cluster else jobs)
    on_indexer(indexer.name)
    start = _start(request, run, sample, directory if resume else None)
    config = SessionConfig(
        data=str(request.data.resolve() if isinstance(request.data, Path) else request.data),
        geometry=str(request.geometry.resolve()),
        cell=str(cell_file.resolve()),
        cell_origin=origin,
        searcher=searcher,
        n_frames=request.n_frames,
        tuned=request.tuned,
        peak_finder=request.peak_finder,
        clen_range=request.clen_range,
        fixed=dict(request.fixed),
        bounds=dict(request.bounds),
        start={} if start is None else start.as_dict(),
        seed=request.seed,
        indexer=indexer.name,
        indexer_choice=choice.as_dict(),
        stop_early=request.stop_early,
        evaluations=budget.evaluations,
        minutes=budget.minutes,
        policy=None if request.policy is None else str(request.policy.resolve()),
        sampling=request.sampling,
        data_sha256=data_fingerprint(request.data, run),
        geometry_sha256=fingerprint(request.geometry),
        cell_sha256=fingerprint(cell_file),
        linked_sha256=linked_fingerprint(run),
        policy_sha256=policy_fingerprint(request.policy),
        spots_sha256=spots_fingerprint(request.peak_finder),
    )
    # Everything that may be refused comes before the session is begun.
    space = search_space(request, run, sample)
    to_beat = None
    if start is not None:
        to_beat = start.measured(space, run.nominal_clen, request.fixed, request.bounds)
        space = with_start(space, start, tuple(request.fixed))
    if needs_map(space.base) or (to_beat is not None and needs_map(to_beat)):
        run = run.with_bad_pixels(_bad_pixels(run, sample, directory / BAD_PIXELS, resume, jobs))
    store = SessionStore.begun(directory, config, resume=resume)
    if run.bad_pixels is not None:
        run.bad_pixels.save(directory / BAD_PIXELS)

    with ExitStack() as stack:
        stack.enter_context(closing(indexer))
        # Each worker of a cluster has the memory for itself.
        memory = room // jobs if cluster else room
        pool = open_pool(run, indexer, sample, jobs, memory, cluster, request.peak_finder)
        stack.enter_context(closing(pool))
        kinds = session_kinds(run, (*sample, *others), directory, jobs, on_look)
        drawn = choose_frames(
            store.config.sampling or "random",
            (sample, others),
            len(run),
            space,
            request.seed,
            directory,
            lambda: pool,
            on_look,
            lambda frames: frames_without_anything(run, kinds, frames, jobs),
        )
        if drawn.words:
            on_sample(drawn.words)
        sample = list(drawn.tuning.frames)

        def keep_best(trial: Trial) -> None:
            keep_unconfirmed(
                store, lambda best: {**provenance_of(store, run, space, best), **choice.record()}
            )
            on_trial(trial)

        def evaluator(frames: Sample, max_decoys: int = DECOYS) -> LiveEvaluator:
            live = LiveEvaluator(
                run,
                cell,
                indexer,
                frames,
                pool=pool,
                max_decoys=max_decoys,
                cache=directory / "indexed",
                progress=on_progress,
            )
            return stack.enter_context(live)

        live = evaluator(drawn.tuning, kind.most_decoys)
        if find_geometry and store.config.found_geometry is None and not store.trials:
            kept = {*request.fixed, *request.bounds}
            place = (run.geometry, cell, space, run.nominal_clen)
            store.keep(find_session_geometry(live, sample, *place, kept=kept, jobs=jobs))
        found = store.config.found_geometry
        space = at_found_geometry(space, found)
        if found is not None and found.words:
            on_geometry(found.words)
        if start is not None and not start.given:
            to_beat = start.measured(space, run.nominal_clen, request.fixed, request.bounds)

        fresh_live = evaluator(drawn.fresh) if len(drawn.fresh.frames) >= FEWEST_FRESH else None
        outcome = run_session(
            store,
            live,
            space,
            searcher=searcher,
            budget=budget,
            seed=request.seed,
            start=to_beat,
            merit=config.merit,
            fresh=fresh_live,
            stop_early=request.stop_early,
            policy=policy,
            map_file=directory / MAP_FILE,
            on_trial=keep_best,
        )
        keep_look_map(live, store, space)
        residuals = None
        if outcome is not None and not outcome.ended_by_failure:
            by = fresh_live if outcome.on_fresh_frames and fresh_live is not None else live
            residuals = spot_residuals(by, outcome.best, run, cell, fresh=by is fresh_live)
    recommendation = None
    nothing = why_nothing(store.trials, outcome, "" if start is None else start.words)
    if nothing and cell_check:
        settings = space.base if outcome is None else outcome.best.settings
        check = check_session_cell(run, settings, sample, cell, jobs)
        if check.wrong or check.second is not None:
            nothing += f" {check.reason[:1].upper()}{check.reason[1:]}."
    write_nothing(directory, nothing)
    if outcome is not None and not nothing:
        checks: dict[str, Any] = {"crystfel": crystfel_found()} if kind.of_crystfel else {}
        if found is not None and found.words:
            checks["geometry_start"] = found.words
        write_residuals(residuals, directory)
        checks |= {} if residuals is None else residuals.evidence
        provenance = {**provenance_of(store, run, space, outcome), **choice.record()}
        if not outcome.on_fresh_frames:
            rate = cross_validated_rate(store.trials, config.merit)
            checks["cross_validated_rate"] = round(rate, 6)

        def write() -> Recommendation:
            made = recommend(
                outcome.best, outcome.baseline, provenance, checks, start=outcome.start
            )
            write_recommendation(made, directory / "recommended.toml")
            return made

        # Before the last checks: whatever becomes of them, this is on disk.
        recommendation = write()
        if not outcome.ended_by_failure:
            on_recommended()
        if cell_check:
            settings = recommendation.settings
            check = check_session_cell(run, settings, sample, cell, jobs)
            checks |= check.evidence
            if check.second is not None:
                check.second.other.cell.write(directory / SECOND_CELL)
            if store.config.cell_origin:
                checks["cell_check_reason"] = (
                    f"{store.config.cell_origin}; {checks['cell_check_reason']}"
                )
            recommendation = write()
        if kind.of_crystfel and not outcome.ended_by_failure:
            checks["crystfel_own_search"] = check_own_search(
                outcome.best, run, request.geometry, cell, choice, jobs=jobs
            )
            recommendation = write()
    run.close()  # its files may be written again as soon as this returns
    report.write_report(store, recommendation, directory / "report.html")
    return recommendation


def _start(
    request: Request, run: FrameSource, sample: Sequence[int], resumed: Path | None
) -> Start | None:
    """Return what a session's result is held against, beside CrystFEL's defaults."""
    if request.start is not None:
        return request.start
    if resumed is not None and (resumed / "session.json").exists():
        # It goes on as it was begun, perhaps before there was such a set.
        begun = SessionConfig.read(resumed / "session.json").start
        if not begun:
            return None
    return customary_start(run, sample)


def _bad_pixels(
    run: FrameSource, sample: list[int], path: Path, resume: bool, jobs: int
) -> BadPixelMap:
    """Return the session's map of bad pixels, made of its sample when it begins."""
    if resume and path.exists():
        return BadPixelMap.load(path, run.geometry)
    return find_bad_pixels(run, sample, jobs=jobs)
