"""What the project promises on the shared runs, with either indexer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from envs.live_evaluator import LiveEvaluator
from tuner.recommendation import Recommendation
from tuner.session import Budget
from tuner.tuning import Request, tune
from wrappers.cell import Cell
from wrappers.detector.geom_file import write_geometry
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.indexing import Indexer
from wrappers.settings import Settings


@pytest.fixture(params=["fast", pytest.param("crystfel", marks=pytest.mark.crystfel)])
def make_indexer(request):
    if request.param == "fast":
        from wrappers.lattices.fast_indexer import FastIndexer

        return FastIndexer
    program = request.getfixturevalue("indexamajig")

    def make(geometry: Geometry, cell: Cell) -> Indexer:
        from wrappers.crystfel.indexer import CrystfelIndexer

        return CrystfelIndexer(geometry, cell, program=program, jobs=2, timeout=300)

    return make


def indexed_frames(request: Request, settings: Settings, make_indexer) -> frozenset[int]:
    geometry, cell = Geometry.read(request.geometry), Cell.read(request.cell)
    run = Run.open(request.data, geometry)
    indexer = make_indexer(geometry, cell)
    with LiveEvaluator(run, geometry, cell, indexer, range(len(run)), max_decoys=0) as evaluator:
        return evaluator.evaluate(settings).indexed_frames


def session(request: Request, folder: Path, make_indexer, evaluations: int) -> Recommendation:
    recommendation = tune(
        dataclasses.replace(request, n_frames=None),
        folder / "session",
        make_indexer,
        budget=Budget(evaluations),
        jobs=2,
    )
    assert recommendation is not None
    return recommendation


def test_thermolysin_with_a_clen_2_percent_short(shared_data, tmp_path, make_indexer):
    original = shared_data / "frames/thermolysin_cspad.geom"
    true_clen = Geometry.read(original).camera_length()
    write_geometry(original, tmp_path / "short.geom", clen_change=-0.02 * true_clen)
    request = Request(
        shared_data / "frames/thermolysin_cspad_4.h5",
        tmp_path / "short.geom",
        shared_data / "cell/thermolysin.cell",
    )
    recommendation = session(request, tmp_path, make_indexer, 16)
    assert recommendation.evidence["baseline_rate"] <= 3 / 4
    assert recommendation.evidence["indexing_rate"] == 1
    assert recommendation.settings.clen == pytest.approx(true_clen, rel=0.003)


@pytest.mark.slow
def test_thaumatin_indexes_the_crystal_and_not_the_blanks(shared_data, tmp_path, make_indexer):
    request = Request(
        shared_data / "frames/thaumatin_p6m_crop1320_19.h5",
        shared_data / "frames/thaumatin_p6m_crop1320.geom",
        shared_data / "cell/thaumatin.cell",
    )
    recommendation = session(request, tmp_path, make_indexer, 16)
    assert recommendation.evidence["n_indexed"] == 15
    assert indexed_frames(request, recommendation.settings, make_indexer) == set(range(15))
