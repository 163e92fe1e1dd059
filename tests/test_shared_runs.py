"""What the project promises on the shared runs, with either indexer."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path

import pytest

from envs.evaluators.live import LiveEvaluator
from tuner.recommendation import Recommendation, read_recommendation
from tuner.session.budget import Budget
from tuner.session.request import Request
from tuner.tuning import tune
from wrappers.cell import Cell
from wrappers.detector.geom_file import write_geometry
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.indexers import IndexerChoice, make_indexer
from wrappers.settings import Settings


@pytest.fixture(params=["fast", pytest.param("crystfel", marks=pytest.mark.crystfel)])
def choice(request):
    if request.param == "crystfel":
        request.getfixturevalue("indexamajig")
    return IndexerChoice(request.param)


def indexed_frames(request: Request, settings: Settings) -> frozenset[int]:
    geometry, cell = Geometry.read(request.geometry), Cell.read(request.cell)
    run = Run.open(request.data, geometry)
    with (
        closing(make_indexer(request.indexer, geometry, cell, jobs=2)) as indexer,
        LiveEvaluator(run, cell, indexer, range(len(run)), max_decoys=0) as evaluator,
    ):
        return evaluator.evaluate(settings).indexed_frames


def session(request: Request, folder: Path, choice: IndexerChoice) -> Recommendation:
    recommendation = tune(
        dataclasses.replace(request, n_frames=None, indexer=choice),
        folder / "session",
        budget=Budget(16),
        jobs=2,
    )
    assert recommendation is not None
    # What the other commands read.
    assert read_recommendation(folder / "session").settings == recommendation.settings
    if choice.name == "crystfel":
        own = recommendation.evidence["crystfel_own_search"]
        assert own["same_peaks"] == own["n_frames"] == recommendation.evidence["n_frames"]
        # The lists agree to single precision. A frame on the brink goes either way: thermolysin's
        # second one, 2.4 % short, when its peaks are moved by 1e-5 pixels.
        assert abs(own["n_indexed"] - recommendation.evidence["n_indexed"]) <= 1
    return recommendation


def test_thermolysin_with_a_clen_2_percent_short(shared_data, tmp_path, choice):
    original = shared_data / "frames/thermolysin_cspad.geom"
    true_clen = Geometry.read(original).camera_length()
    write_geometry(original, tmp_path / "short.geom", clen_change=-0.02 * true_clen)
    request = Request(
        shared_data / "frames/thermolysin_cspad_4.h5",
        tmp_path / "short.geom",
        shared_data / "cell/thermolysin.cell",
    )
    recommendation = session(request, tmp_path, choice)
    assert recommendation.evidence["baseline_rate"] <= 3 / 4
    assert recommendation.evidence["indexing_rate"] == 1
    assert recommendation.settings.clen == pytest.approx(true_clen, rel=0.003)


@pytest.mark.slow
def test_thaumatin_indexes_the_crystal_and_not_the_blanks(shared_data, tmp_path, choice):
    request = Request(
        shared_data / "frames/thaumatin_p6m_crop1320_19.h5",
        shared_data / "frames/thaumatin_p6m_crop1320.geom",
        shared_data / "cell/thaumatin.cell",
    )
    recommendation = session(request, tmp_path, choice)
    assert recommendation.evidence["n_indexed"] == 15
    assert indexed_frames(
        dataclasses.replace(request, indexer=choice), recommendation.settings
    ) == set(range(15))
