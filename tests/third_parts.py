"""A peak finder, an indexer, a searcher and an export target that the program lacks."""

from __future__ import annotations

from collections.abc import Sequence

from envs.evaluation import Evaluation
from tuner.export.job import Export, Job
from tuner.search.contract import SearchTask, Values
from tuner.searchers import make_searcher
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.indexers import IndexerChoice
from wrappers.indexing import Done, Indexing, Pattern, unheard
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peaks import PeakList
from wrappers.settings import Settings


class StrictFinder:
    """Finds what peakfinder8 finds at twice the min_snr."""

    def __init__(self, geometry: Geometry) -> None:
        self._finder = PeakFinder(geometry)

    def find(self, frame: Frame, settings: Settings) -> PeakList:
        return self._finder.find(frame, doubled(settings))

    def prepare(self, frame: Frame, min_snr: float = 2.0) -> StrictFrame:
        return StrictFrame(self, frame)


class StrictFrame:
    """A frame that is not made ready in any way."""

    def __init__(self, finder: StrictFinder, frame: Frame) -> None:
        self._finder, self._frame = finder, frame

    def find_all(self, settings: Sequence[Settings]) -> list[PeakList]:
        return [self._finder.find(self._frame, each) for each in settings]


def doubled(settings: Settings) -> Settings:
    return settings.replace(peak_finder="peakfinder8", min_snr=2 * settings.min_snr)


class SecondBest:
    """Evenly spread points, of which it recommends the second best of those on all frames."""

    def __init__(self, task: SearchTask) -> None:
        self._points = make_searcher("sobol", task)
        self._told: list[tuple[int, float]] = []

    def suggest(self) -> dict[str, float] | None:
        return self._points.suggest()

    def ingest(self, values: Values, merit: float, evaluation: Evaluation) -> None:
        self._told.append((evaluation.n_frames, merit))
        self._points.ingest(values, merit, evaluation)

    def recommend(self) -> int:
        order = sorted(range(len(self._told)), key=lambda number: self._told[number])
        return order[-2:][0]


class ThirdIndexer:
    """The embedded indexer under another name."""

    name = "third, of nobody's"
    parallel = False

    def __init__(self, geometry: Geometry, cell: Cell) -> None:
        self._indexer = FastIndexer(geometry, cell)

    def index(self, patterns: Sequence[Pattern], done: Done = unheard) -> list[Indexing]:
        return self._indexer.index(patterns, done)

    def close(self) -> None:
        pass


def third_indexer(choice: IndexerChoice, geometry: Geometry, cell: Cell, jobs: int) -> ThirdIndexer:
    return ThirdIndexer(geometry, cell)


def in_words(job: Job) -> Export:
    return Export(f"min_snr is {job.settings.min_snr}\n", ("clen is not held",))
