"""Where a session starts its geometry from, and which lengths join what the lattices fix."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from envs.evaluation import Evaluation, FrameOutcome
from envs.geometry_rule import SHIFTS, GeometryLock
from envs.parameter_space import ParameterSpace, make_space
from envs.simulation.stills import (
    DETECTOR,
    WAVENUMBER,
    misplace,
    simulate_blank,
    simulate_still,
    turn_around,
)
from tuner.cells.search import ClearFrames
from tuner.search.contract import SearchTask
from tuner.searchers import SEARCHERS
from tuner.session.config import FoundGeometry
from tuner.session.found_geometry import at_found_geometry, moved_geometry, seek_geometry
from tuner.session.proposals import Proposals
from tuner.session.trial import Trial
from wrappers.cell import Cell
from wrappers.lattices.peak_vectors import PeakVectors
from wrappers.settings import Settings

LYSOZYME = Cell(79, 79, 38, 90, 90, 90, "tetragonal", "P", "c")
THAUMATIN = Cell(58.4, 58.4, 152.3, 90, 90, 90, "tetragonal", "P", "c")
PIXEL = 75e-6


def clear(lists) -> ClearFrames:
    return ClearFrames(tuple(range(len(lists))), (), tuple(lists), len(lists), Settings())


def stills(clen_error=0.0, shift_px=0.0, n=8, seed=7):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        q, _ = simulate_still(LYSOZYME, rng, 80, 0.2)
        q = misplace(q, clen_error, shift_px, 0.6)
        found.append(PeakVectors(q, rng.uniform(size=len(q)), WAVENUMBER))
    return clear(found)


@pytest.mark.parametrize(
    ("given", "clen_error", "shift_px"),
    [
        pytest.param(LYSOZYME, 0.0, 4.0, id="right cell"),
        pytest.param(LYSOZYME, -0.08, 0.0, id="right cell, length"),
        pytest.param(LYSOZYME, -0.08, 6.0, id="right cell, both"),
        pytest.param(THAUMATIN, 0.0, 4.0, id="wrong cell"),
        pytest.param(THAUMATIN, -0.08, 0.0, id="wrong cell, length", marks=pytest.mark.slow),
        pytest.param(THAUMATIN, -0.08, 6.0, id="wrong cell, both", marks=pytest.mark.slow),
    ],
)
def test_frames_say_where_the_detector_is_whatever_the_cell(given, clen_error, shift_px):
    found = seek_geometry(stills(clen_error, shift_px), given)
    assert found is not None
    written = DETECTOR * (1 + clen_error)  # in pixels
    assert found.camera_length(written) == pytest.approx(DETECTOR, rel=0.005)
    true = -shift_px * np.array([math.cos(0.6), math.sin(0.6)])
    assert np.hypot(*(np.array(found.shift(written)) - true)) < 0.5


@pytest.mark.parametrize("given", [LYSOZYME, THAUMATIN], ids=["right cell", "wrong cell"])
def test_a_right_geometry_is_left_alone_whatever_the_cell(given):
    found = seek_geometry(stills(), given)
    assert found is not None
    assert abs(found.place[0]) < 1e-3 and np.hypot(*found.shift(DETECTOR)) < 0.1


def test_frames_without_lattices_move_nothing():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        blank = [simulate_blank(rng, 60) for _ in range(12)]
        turned = [turn_around(simulate_still(LYSOZYME, rng, 80, 0.2)[0], rng) for _ in range(12)]
        for kind in (blank, turned):
            lists = [PeakVectors(q, rng.uniform(size=len(q)), WAVENUMBER) for q in kind]
            assert seek_geometry(clear(lists), LYSOZYME) is None
    assert seek_geometry(clear([]), LYSOZYME) is None


def box(tuned=("min_snr", "clen"), joining=SHIFTS) -> ParameterSpace:
    whole = make_space(
        (*tuned, *joining),
        background=(12.0, 60.0),
        camera_length=0.08,
        pixel_size=PIXEL,
        largest_radius=725.0,
    )
    n = len(tuned)
    return replace(whole, parameters=whole.parameters[:n], joining=whole.parameters[n:])


def evaluation(settings, shift_px, error_px=0.01, n_indexed=10) -> Evaluation:
    outcomes = tuple(FrameOutcome(i, 20, True, int(i < n_indexed)) for i in range(20))
    refined = {"clen": (0.08, 1e-5)}
    for name, value in zip(SHIFTS, shift_px, strict=True):
        refined[name] = value * PIXEL, error_px * PIXEL
    return Evaluation(settings, outcomes, refined=refined)


@pytest.mark.parametrize(
    ("shift_px", "error_px", "n_indexed", "joins"),
    [
        ((2.5, 0.1), 0.01, 10, True),
        ((0.4, -0.4), 0.01, 10, True),
        ((0.2, -0.2), 0.01, 10, False),
        ((2.5, 0.1), 0.6, 10, False),
        ((2.5, 0.1), 0.01, 2, False),
        ((math.nan, math.nan), math.nan, 10, False),
    ],
)
def test_a_shift_joins_where_the_lattices_clearly_ask_for_it(shift_px, error_px, n_indexed, joins):
    space = box()
    lock = GeometryLock(space)
    lock.observe(evaluation(space.base, shift_px, error_px, n_indexed), 0.5)
    assert (set(lock.fixed) >= {*SHIFTS}) is joins
    if joins:
        assert lock.fixed["shift_x"] == pytest.approx(shift_px[0] * PIXEL, rel=0.01)


def test_a_shift_of_the_users_never_joins():
    space = box(joining=("shift_y",))
    lock = GeometryLock(space)
    lock.observe(evaluation(space.base, (3.0, 3.0)), 0.5)
    assert "shift_x" not in lock.fixed and "shift_y" in lock.fixed


@pytest.mark.parametrize("searcher", ["gp", "warm-gp", "tpe"])
def test_what_joined_is_proposed_and_learnt_from(searcher):
    space = box(("min_snr", "threshold", "min_pix_count", "clen"))
    proposals = Proposals(SEARCHERS.get(searcher), SearchTask(space, 0, 10))
    asked = evaluation(space.base, (2.0, -1.0))
    trials = [Trial(0, "initial", asked, best=0)]
    there = space.base.replace(**proposals.fixed(trials))
    assert there.shift_x == pytest.approx(2 * PIXEL)
    trials.append(Trial(1, "geometry", evaluation(there, (2.0, -1.0)), best=1))
    proposed = proposals.propose(trials)
    assert proposed is not None
    assert (proposed.shift_x, proposed.shift_y) == (there.shift_x, there.shift_y)
    assert proposals._ingested == [0, 1]


def test_base_and_ranges_follow_the_geometry_that_was_found():
    space = box(("min_snr", "clen", "shift_x"), ("shift_y",))
    found = FoundGeometry({"clen": 0.087, "shift_x": 3e-4, "shift_y": -2e-4}, "words", 0.08)
    there = at_found_geometry(space, found)
    assert (there.base.clen, there.base.shift_x, there.base.shift_y) == (0.087, 3e-4, -2e-4)
    for name in ("clen", "shift_x", "shift_y"):
        before, after = space[name], there[name]
        assert (after.low + after.high) / 2 == pytest.approx(getattr(there.base, name))
        assert after.high - after.low == pytest.approx(before.high - before.low)
    assert there["min_snr"] == space["min_snr"]
    assert moved_geometry(found, there, there.base) == ["shift_y"]


def test_a_session_that_never_asked_goes_on_without():
    space = box()
    assert at_found_geometry(space, None).joining == ()
    assert at_found_geometry(space, FoundGeometry()) == space
