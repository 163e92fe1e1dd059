"""Families: reproducible, apart from each other, and what they claim to be."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import envs
import experiments
from envs.simulation.families import FAMILIES, KINDS, USUAL, draw_experiments, family_of
from envs.simulation.family_ranges import BEYOND, PLAUSIBLE


@pytest.fixture(scope="module")
def drawn():
    return {family: draw_experiments(family, 40, seed=3) for family in FAMILIES}


def test_a_seed_gives_the_same_experiments_however_many_are_drawn(drawn) -> None:
    assert draw_experiments("train", 5, seed=3) == drawn["train"][:5]
    assert draw_experiments("train", 5, seed=4) != drawn["train"][:5]


def test_no_two_families_share_a_seed(drawn) -> None:
    seeds = {f: {draw.experiment.seed for draw in draws} for f, draws in drawn.items()}
    for family, draws in drawn.items():
        assert len(seeds[family]) == len(draws)
        assert {family_of(draw.experiment) for draw in draws} == {family}
    for one in FAMILIES:
        assert all(not seeds[one] & seeds[other] for other in FAMILIES if other != one)


def test_no_family_depends_on_another(drawn) -> None:
    """The same seed must not give related experiments in two families."""
    energies = {f: [d.experiment.beam.photon_energy for d in ds] for f, ds in drawn.items()}
    for one in FAMILIES:
        for other in FAMILIES:
            if one < other:
                assert abs(np.corrcoef(energies[one], energies[other])[0, 1]) < 0.5


def test_nothing_of_the_shared_data_is_read() -> None:
    """What experiments are made of, and fitted to, is this project's own."""
    paths = [*Path(envs.__file__).parent.glob("*.py")]
    folder = Path(experiments.__file__).parent
    paths += [folder / f"{name}.py" for name in ("fit_responses", "response_fit", "record_tables")]
    for path in paths:
        texts = [
            node.value
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        assert not any("shared/data" in text for text in texts), path


def test_train_is_wider_than_what_is_plausible() -> None:
    for name, (scale, low, high) in PLAUSIBLE.items():
        beyond = BEYOND[name]
        assert beyond[0] == scale
        assert beyond[1] <= low and high <= beyond[2], name


def test_shifted_has_what_train_lacks(drawn) -> None:
    kinds = {draw.kind for draw in drawn["shifted"]}
    assert kinds - set(USUAL)
    assert {draw.kind for draw in drawn["train"]} == set(USUAL)
    for draw in drawn["shifted"]:
        experiment = draw.experiment
        outside = [
            experiment.background.level > BEYOND["background"][2],
            experiment.background.ring_spacing > BEYOND["ring_spacing"][2],
            experiment.beam.bandwidth > BEYOND["bandwidth"][2],
            experiment.crystals.cell.volume > 100 * BEYOND["volume_edge"][2],
        ]
        assert any(outside) or draw.kind not in USUAL or experiment.background.level > 9


def test_detectors_are_of_their_kind(drawn) -> None:
    for draw in [*drawn["test"], *drawn["shifted"]]:
        kind, detector = KINDS[draw.kind], draw.experiment.detector
        assert detector.pixel_size == kind.pixel_size
        assert kind.gain[0] <= detector.gain <= kind.gain[1]
        photons = detector.read_noise / detector.gain
        assert kind.noise[0] * 0.999 <= photons <= kind.noise[1] * 1.001
        assert draw.n_pixels in [rows * cols * h * w for rows, cols, h, w, _ in kind.layouts]


def test_small_detectors_can_be_asked_for() -> None:
    draws = draw_experiments("train", 30, seed=1, most_pixels=1.1e6)
    assert max(draw.n_pixels for draw in draws) <= 1.1e6


def test_spots_are_apart(drawn) -> None:
    for draw in drawn["test"]:
        experiment = draw.experiment
        cell = experiment.crystals.cell
        spacing = experiment.clen * 12398.4198 / experiment.beam.photon_energy
        spacing /= max(cell.a, cell.b, cell.c) * experiment.detector.pixel_size
        assert spacing > 4.9


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="family"):
        draw_experiments("real", 1, seed=0)
