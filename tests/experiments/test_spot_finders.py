"""The study of the peak finders: what it reports, and that no frame scores what it has chosen."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner

import experiments.spot_finders as study_module
import experiments.spot_speed as speed_module
from envs.simulation.experiment import demo_experiment
from envs.simulation.families import family_of
from envs.simulation.simulator import read_truth, simulate_run
from experiments.spot_finders import Found, compare, figures
from experiments.spot_report import draw_recall, print_table
from experiments.spot_runs import UNSEEN, StudyRun, _chosen
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.opening import open_source
from wrappers.peaks import PeakList
from wrappers.settings import Settings


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> StudyRun:
    paths = simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("study") / "run", 6)
    geometry = Geometry.read(paths.geometry)
    spots = tuple(truth.spots for truth in read_truth(paths.truth))
    run = open_source(paths.data, geometry)
    cell, place = Cell.read(paths.cell), {"clen": 0.08}
    return StudyRun("demo", paths.data, paths.geometry, run, cell, spots, place)


def test_a_run_gives_every_finder_all_figures(study, monkeypatch, tmp_path, capsys):
    for name, few in (
        ("SNR", (4.0,)),
        ("ROBUST_SNR", (2.5,)),
        ("ROBUST_PIXELS", (2,)),
        ("PIXELS", (2,)),
        ("TIMED", 2),
    ):
        monkeypatch.setattr(study_module, name, few)
    monkeypatch.setattr(study_module, "PROBABILITIES", (0.2, 0.5, 0.8))
    found = compare(study, "learned")
    assert set(found) == {"learned", "peakfinder8", "robust"}
    for row in found.values():
        assert all(0 <= row[key] <= 1 for key in ("f1", "precision", "recall", "rate"))
        assert row["ms_1mpx"] > 0 and len(row["chosen_by_f1"]) == 2
        assert 0 <= row["f1_ci95"][0] <= row["f1"] <= row["f1_ci95"][1] <= 1
    assert found["learned"]["f1"] > 0.4
    draw_recall({"demo": found}, tmp_path / "recall.png")
    assert (tmp_path / "recall.png").stat().st_size > 5000
    print_table({"demo": found})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and len({line.count("|") for line in lines}) == 1
    assert f"{found['learned']['f1']:.3f} [" in lines[2]
    unknown = dataclasses.replace(study, spots=None)
    found = compare(unknown, "learned")
    assert all(row[key] is None for row in found.values() for key in ("f1", "precision", "recall"))
    assert all(row["rate"] is not None for row in found.values())


class _Index:
    """Every list with a peak is indexed."""

    def of(self, lists):
        return np.array([len(each) > 0 for each in lists])


def test_no_frame_scores_what_it_has_chosen(study):
    """One set is right in even frames only, the other in odd ones: both halves choose badly."""

    def right(spots):
        fs, ss, _ = spots[spots[:, 2] >= 4].T
        zeros = np.zeros(len(fs))
        whole = zeros.astype(np.int32)
        return PeakList(fs, ss, zeros, zeros, whole, whole, zeros)

    lists = [
        [right(s) if i % 2 == half else PeakList.empty() for i, s in enumerate(study.spots)]
        for half in (0, 1)
    ]
    sets = [Settings(min_snr=4), Settings(min_snr=5)]
    row = figures(study, Found(sets, lists), _Index(), crystfel=False)
    assert row["f1"] == row["recall"] == 0 and row["rate"] == 0
    row = figures(study, Found(sets[:1], [lists[0]]), _Index(), crystfel=False)
    assert row["rate"] > 0 and 0 < row["recall"] < 1


def test_the_runs_are_of_families_and_detectors_that_nothing_was_learnt_from():
    chosen = _chosen()
    assert {family_of(draw.experiment) for _, _, draw in chosen} == {"test", "shifted"}
    assert {draw.kind for family, _, draw in chosen if family == "shifted"} == set(UNSEEN)


def test_a_first_look_is_timed_beside_peakfinder8s(monkeypatch):
    monkeypatch.setattr(speed_module, "LEVELS", (3.0,))
    monkeypatch.setattr(speed_module, "TRIES", 1)
    done = CliRunner().invoke(speed_module.main, ["--json"], catch_exceptions=False)
    (row,) = json.loads(done.stdout)["levels"]
    assert row["candidates"] == pytest.approx(1000, abs=20)
    assert 0 < row["peakfinder8_ms"] < row["learned_ms"]
