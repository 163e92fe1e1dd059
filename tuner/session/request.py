"""What a session is asked to tune, and what can be refused before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from envs.geometry_rule import SHIFTS
from envs.parameter_space import CLEN_RANGE, DEFAULT_TUNED, ParameterSpace
from tuner.search.contract import Policy
from tuner.searchers import SEARCHERS
from tuner.session.budget import Budget
from tuner.session.config import Sampling, SessionConfig
from tuner.session.start import Start
from wrappers.errors import InputError
from wrappers.extras import missing, require
from wrappers.frames.address import Address, is_address
from wrappers.indexers import IndexerChoice
from wrappers.peak_finders import PEAK_FINDERS
from wrappers.settings import Settings

if TYPE_CHECKING:
    from wrappers.frames.source import FrameSource

__all__ = [
    "FEWEST_FRAMES",
    "USUAL",
    "Request",
    "begun_with",
    "search_space",
    "searcher_of",
    "usual_searcher",
    "with_fit_searcher",
]

USUAL = "map-agent"
"""Who proposes parameter sets where nobody names a searcher, and nothing speaks against it."""

FEWEST_FRAMES = 10
"""Of a sample, from which on a session goes by the response map."""


@dataclass(frozen=True)
class Request:
    """What a session is asked to tune, and how.

    Attributes
    ----------
    data : path or str
        A file, or an address: see `wrappers.frames.opening.open_source`.
    geometry : Path
    cell : Path or None
        None: it is sought in the frames (`tuner.cells.search`).
    searcher : str or None
        A name in `tuner.searchers.SEARCHERS`; None: see `usual_searcher`.
    n_frames : int or None
        Size of the tuning sample; None takes every frame.
    tuned : tuple of str
        The tuned settings.
    peak_finder : str
        The peak finder whose settings are tuned, of `wrappers.peak_finders.PEAK_FINDERS`. The
        baseline is CrystFEL's defaults in any case.
    clen_range : float
        ``clen`` is sought within this fraction of the geometry's.
    fixed : mapping of str to float
        Settings that keep this value.
    bounds : mapping of str to (float, float)
        Ranges of tuned settings, instead of the usual ones.
    start : Start, optional
        What is in use today, to be measured first: the bar to beat. By default what is customary
        for the detector.
    seed : int
        Of the sample and of the searcher.
    indexer : IndexerChoice
    stop_early : bool
        End before the budget is spent, once there is nothing to gain.
    sampling : Sampling
        How the frames are drawn.
    policy : Path, optional
        Directory of the agent's policy; the shipped one by default.
    """

    data: Address
    geometry: Path
    cell: Path | None
    searcher: str | None = None
    n_frames: int | None = 200
    tuned: tuple[str, ...] = DEFAULT_TUNED
    peak_finder: str = Settings.peak_finder
    clen_range: float = CLEN_RANGE
    fixed: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    start: Start | None = None
    seed: int = 0
    indexer: IndexerChoice = IndexerChoice()  # noqa: RUF009 (frozen)
    stop_early: bool = True
    policy: Path | None = None
    sampling: Sampling = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "peak_finder", PEAK_FINDERS.name_of(self.peak_finder))
        if not is_address(self.data):
            object.__setattr__(self, "data", Path(self.data))
        if self.sampling not in get_args(Sampling):
            raise InputError(
                f"sampling is {self.sampling!r}, but must be one of {', '.join(get_args(Sampling))}"
            )

    def read_policy(self) -> Policy | None:
        """Return the policy that was named, which the searcher takes; None: the shipped one.

        Raises
        ------
        InputError
            If it cannot be read, or is of another kind.
        """
        load = self.searcher and SEARCHERS.get(self.searcher).load_policy
        return load(self.policy) if load and self.policy is not None else None


def begun_with(config: SessionConfig) -> tuple[Request, Budget]:
    """Return what a session was begun with, so that it can be resumed without saying it again."""
    request = Request(
        data=config.data,
        geometry=Path(config.geometry),
        cell=Path(config.cell),
        searcher=config.searcher,
        n_frames=config.n_frames,
        tuned=config.tuned,
        peak_finder=config.peak_finder,
        clen_range=config.clen_range,
        fixed=config.fixed,
        bounds=config.bounds,
        start=Start.from_dict(config.start) if config.start else None,
        seed=config.seed,
        indexer=config.choice,
        stop_early=config.stop_early,
        policy=None if config.policy is None else Path(config.policy),
        sampling=config.sampling or "random",
    )
    return request, Budget(config.evaluations, config.minutes)


def usual_searcher(peak_finder: str, n_frames: int) -> str:
    """Return the searcher where nobody names one.

    It is the agent on the response map, whose model saw peakfinder8's lists of dozens of frames:
    on frozen frames it misses least after those of three evaluations
    (``sfx-tuner compare --recorded``). With another peak finder, or with so few
    frames that many sets index all of them, it is the Gaussian process, which begins with the
    initial design and takes the middle of what is equally good; the Parzen estimator where its
    extra is missing.

    Parameters
    ----------
    peak_finder : str
    n_frames : int
        Of the sample.
    """
    if peak_finder == Settings.peak_finder and n_frames >= FEWEST_FRAMES:
        return USUAL
    extra = SEARCHERS.get("gp").extra
    return "tpe" if missing(extra) else "gp"


def searcher_of(request: Request, n_frames: int, resumed: Path | None) -> str:
    """Return the searcher that was named, that of a session that goes on, or the usual one.

    Parameters
    ----------
    request : Request
    n_frames : int
        Of the sample.
    resumed : Path or None
        The directory of the session that goes on.

    Raises
    ------
    InputError
        If that session's searcher is no longer there.
    """
    if request.searcher is not None:
        return request.searcher
    if resumed is not None and (resumed / "session.json").exists():
        begun = SessionConfig.read(resumed / "session.json").searcher
        SEARCHERS.get(begun)  # which may have been retired since
        return begun
    return usual_searcher(request.peak_finder, n_frames)


def with_fit_searcher(request: Request) -> Request:
    """Return the request, with the usual searcher where it names a policy and no searcher.

    Raises
    ------
    InputError
        If the searcher cannot do what is asked of it.
    """
    if request.policy is not None and request.searcher is None:
        request = replace(request, searcher=USUAL)
    if request.searcher is None:
        return request
    kind = SEARCHERS.get(request.searcher)
    if request.policy is not None and not kind.load_policy:
        able = sorted(name for name in SEARCHERS if SEARCHERS.get(name).load_policy)
        raise InputError(
            f"the {request.searcher} searcher takes no policy: choose --searcher "
            f"{' or '.join(able)}, or leave --policy out"
        )
    if kind.extra:
        require(kind.extra, f"the {request.searcher} searcher (--searcher map does without)")
    if kind.peak_finders and request.peak_finder not in kind.peak_finders:
        raise InputError(
            f"the {request.searcher} searcher was trained with {', '.join(kind.peak_finders)} and "
            f"knows no {request.peak_finder} peak finder: choose --searcher gp"
        )
    return request


def search_space(request: Request, run: FrameSource, sample: Sequence[int]) -> ParameterSpace:
    """Return the box in which a session on a sample of a run's frames searches.

    A detector shift that is neither tuned nor given may join what the lattices fix.
    """
    from envs.environments.tasks import run_space  # with Numba, which takes a while to import

    joining = [name for name in SHIFTS if name not in {*request.tuned, *request.fixed}]
    space = run_space(
        run,
        sample,
        (*request.tuned, *joining) if request.tuned else (),
        clen_range=request.clen_range,
        peak_finder=request.peak_finder,
        fixed=request.fixed,
        bounds=request.bounds,
    )
    n = len(request.tuned)
    return replace(space, parameters=space.parameters[:n], joining=space.parameters[n:])
