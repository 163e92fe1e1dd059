"""The main job: from the files of a run to a recommendation."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs.evaluators.live import LiveEvaluator, sample_frames
from envs.parameter_space import DEFAULT_TUNED, ParameterSpace
from envs.tasks import run_space
from tuner.agent.policy import Policy
from tuner.crystfel_check import check_own_search
from tuner.fingerprint import data_fingerprint, fingerprint
from tuner.recommendation import Recommendation, recommend, write_recommendation
from tuner.report import write_report
from tuner.searchers import AGENTS
from tuner.session.loop import Budget, Outcome, run_session
from tuner.session.store import SessionStore, Trial
from wrappers.cell import Cell
from wrappers.crystfel.options import require_program
from wrappers.crystfel.server import can_serve
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.opening import Address, is_address, open_source
from wrappers.frames.source import FrameSource
from wrappers.indexers import INDEXERS, IndexerChoice, make_indexer
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.masks.bad_pixels import find_bad_pixels
from wrappers.masks.settings_mask import needs_map

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Request", "search_space", "tune"]

BAD_PIXELS = "bad_pixels.h5"
"""In a session's directory: the map that its settings' masks are made of."""

HOW = ("indexer", "stop_early")
"""Fields of a request that a resumed session may change; the indexer's name it may not."""

DECOYS = 50
"""Of an evaluation on fresh frames."""


@dataclass(frozen=True)
class Request:
    """What a session is asked to tune, and how.

    Attributes
    ----------
    data : path or str
        A file, or an address: see `wrappers.frames.opening.open_source`.
    geometry, cell : Path
    searcher : str
        A name in `tuner.searchers.SEARCHERS`.
    n_frames : int or None
        Size of the tuning sample; None takes every frame.
    tuned : tuple of str
        The tuned settings.
    peak_finder : str
        The peak finder whose settings are tuned, of `wrappers.peak_finders.PEAK_FINDERS`. The
        baseline is CrystFEL's defaults in any case.
    clen_range : float
        ``clen`` is sought within this fraction of the geometry's.
    seed : int
        Of the sample and of the searcher.
    indexer : IndexerChoice
    stop_early : bool
        End before the budget is spent, once the winner is separated.
    policy : Path, optional
        Directory of the agent's policy; the shipped one by default.
    """

    data: Address
    geometry: Path
    cell: Path
    searcher: str = "gp"
    n_frames: int | None = 200
    tuned: tuple[str, ...] = DEFAULT_TUNED
    peak_finder: str = "peakfinder8"
    clen_range: float = 0.05
    seed: int = 0
    indexer: IndexerChoice = IndexerChoice()  # noqa: RUF009 (frozen)
    stop_early: bool = False
    policy: Path | None = None

    def __post_init__(self) -> None:
        if not is_address(self.data):
            object.__setattr__(self, "data", Path(self.data))


def tune(
    request: Request,
    directory: Path,
    *,
    budget: Budget,
    jobs: int = 1,
    cluster: Client | None = None,
    resume: bool = False,
    on_indexer: Callable[[str], None] = lambda name: None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
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
        Processes of this machine.
    cluster : distributed.Client, optional
        Its workers evaluate instead.
    resume : bool
        Go on with the session in the directory.
    on_indexer : callable
        Called with the indexer's name and version before the first evaluation.
    on_trial : callable
        Called with each new trial.
    on_progress : callable
        Called with the frames and decoys of the evaluation under way that are done, and with all.

    Returns
    -------
    Recommendation or None
        None if no settings indexed any frame.

    Raises
    ------
    InputError
        If a file cannot be used, or the session to resume was begun with other inputs.
    ProgramError
        If the indexer cannot be run.
    """
    if request.searcher in AGENTS and request.peak_finder != "peakfinder8":
        raise InputError(
            f"the {request.searcher} searcher was trained with peakfinder8 and knows no "
            f"{request.peak_finder} peak finder: choose --searcher gp"
        )
    if request.policy is not None and request.searcher not in AGENTS:
        raise InputError(
            f"a policy is for the agent, not for the {request.searcher} searcher: choose "
            "--searcher ppo, or leave --policy out"
        )
    policy = None if request.policy is None else Policy.load(request.policy)
    geometry = Geometry.read(request.geometry)
    cell = Cell.read(request.cell)
    run = open_source(request.data, geometry)
    choice = request.indexer.settled()
    kind = INDEXERS.get(choice.name)
    indexer = make_indexer(choice, geometry, cell, jobs=1 if cluster else jobs)
    on_indexer(indexer.name)
    sample, others = sample_frames(run, request.n_frames, request.seed)
    config = {
        **{key: _plain(value) for key, value in asdict(request).items() if key not in HOW},
        "indexer": indexer.name,
        "data_sha256": data_fingerprint(request.data, run),
        "geometry_sha256": fingerprint(request.geometry),
        "cell_sha256": fingerprint(request.cell),
        **_policy_files(request.policy),
    }
    # Everything that may be refused comes before the session is begun.
    space = search_space(request, run, sample)
    if needs_map(space.base):
        run = run.with_bad_pixels(_bad_pixels(run, sample, directory / BAD_PIXELS, resume))
    store = _open_store(directory, config, resume)
    if run.bad_pixels is not None:
        run.bad_pixels.save(directory / BAD_PIXELS)

    with ExitStack() as stack:
        stack.enter_context(closing(indexer))

        def evaluator(frames: list[int], max_decoys: int = DECOYS) -> LiveEvaluator:
            live = LiveEvaluator(
                run,
                cell,
                indexer,
                frames,
                jobs=jobs,
                max_decoys=max_decoys,
                cache=directory / "indexed",
                cluster=cluster,
                progress=on_progress,
            )
            return stack.enter_context(live)

        outcome = run_session(
            store,
            evaluator(sample, kind.most_decoys),
            space,
            searcher=request.searcher,
            budget=budget,
            seed=request.seed,
            fresh=evaluator(others) if len(others) == len(sample) else None,
            stop_early=request.stop_early,
            policy=policy,
            on_trial=on_trial,
        )
    recommendation = None
    if outcome is not None:
        checks = {"crystfel": _program()} if kind.of_crystfel else {}
        if kind.of_crystfel and not outcome.ended_by_failure:
            checks["crystfel_own_search"] = check_own_search(
                outcome.best, run, request.geometry, cell, choice, jobs=jobs
            )
        provenance = {**_provenance(store, run, outcome), **choice.record()}
        recommendation = recommend(outcome.best, outcome.baseline, provenance, checks)
        write_recommendation(recommendation, directory / "recommended.toml")
    write_report(store, recommendation, directory / "report.html")
    return recommendation


def _policy_files(policy: Path | None) -> dict[str, str]:
    """Return what a session notes of a policy that is not the shipped one."""
    if policy is None:
        return {}
    files = policy / "policy.json", policy / "policy.safetensors"
    return {"policy_sha256": fingerprint(*files)}


def _bad_pixels(run: FrameSource, sample: list[int], path: Path, resume: bool) -> BadPixelMap:
    """Return the session's map of bad pixels, made of its sample when it begins."""
    if resume and path.exists():
        return BadPixelMap.load(path, run.geometry)
    return find_bad_pixels(run, sample)


def _open_store(directory: Path, config: dict[str, Any], resume: bool) -> SessionStore:
    if not resume:
        return SessionStore.create(directory, config)
    store = SessionStore.open(directory)
    for key, value in config.items():
        if store.config.get(key) != value:
            raise InputError(
                f"{directory} was begun with {key} = {store.config.get(key)}, not {value}: "
                "resume it with what it was begun with, or name another directory"
            )
    return store


def search_space(request: Request, run: FrameSource, sample: Sequence[int]) -> ParameterSpace:
    """Return the box in which a session on a sample of a run's frames searches."""
    return run_space(
        run,
        sample,
        request.tuned,
        clen_range=request.clen_range,
        peak_finder=request.peak_finder,
    )


def _provenance(store: SessionStore, run: FrameSource, outcome: Outcome) -> dict[str, Any]:
    evaluations = [trial.evaluation for trial in store.trials]
    return {
        "program": f"sfx-tuner {importlib.metadata.version('sfx-tuner')}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "searcher": store.config["searcher"],
        "tuned": store.config["tuned"],
        "seed": store.config["seed"],
        "indexer": store.config["indexer"],
        "evaluations": len(evaluations),
        "frame_evaluations": sum(evaluation.n_frames for evaluation in evaluations),
        "core_seconds": round(sum(evaluation.core_seconds for evaluation in evaluations), 1),
        "measured_on_fresh_frames": outcome.on_fresh_frames,
        **({"ended_by": outcome.ended_by_failure} if outcome.ended_by_failure else {}),
        **({"choice": outcome.choice} if outcome.choice else {}),
        "geometry_clen": run.nominal_clen,
        **({"bad_pixels": str((store.directory / BAD_PIXELS).resolve())} if run.bad_pixels else {}),
        **{
            key: store.config[key]
            for name in ("data", "geometry", "cell", "policy")
            for key in (name, f"{name}_sha256")
            if store.config.get(key) is not None
        },
    }


def _program() -> dict[str, Any]:
    """Return what CrystFEL was found here."""
    program = require_program(None)
    return {
        "version": program.version,
        "program": program.path,
        "indexers": list(program.indexers),
        "stays": can_serve(program),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.resolve())
    return list(value) if isinstance(value, tuple) else value
