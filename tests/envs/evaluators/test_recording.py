"""Recorded experiments, and the response model against frames that were rendered and searched."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from envs.box import POLICY_PARAMETERS
from envs.evaluators.recording import HIT, INDEXED, RIGHT, observe_experiment, scan_of
from envs.response.coefficients import Coefficients
from envs.response.columns import NOISE_PEAKS
from envs.response.kernel import PARTS
from envs.response.model import ResponseModel
from envs.simulation.experiment import SMALL_DETECTOR, BadPixels, Crystals, Experiment
from envs.simulation.families import Draw

N_FRAMES = 12


def draw_of(**crystals) -> Draw:
    experiment = Experiment(
        detector=dataclasses.replace(SMALL_DETECTOR, read_noise=2.0),
        crystals=Crystals(multi_fraction=0.0, photons_spread=0.5, **crystals),
        bad_pixels=BadPixels(hot=0, noisy=0, dead=0),
        seed=41,
    )
    return Draw("JUNGFRAU", experiment, 0.0, 0.08, (0.0,) * (NOISE_PEAKS + 4))


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    """A flood, ordinary settings, a high threshold, and a wrong camera length."""
    chosen = (37, *scan_of("threshold").places[-3:], scan_of("clen").places[0])
    return observe_experiment(draw_of(hit_fraction=0.6), N_FRAMES, seed=0, chosen=chosen)


def test_what_is_recorded_is_consistent(recorded) -> None:
    state, peaks, true = recorded["state"], recorded["n_peaks"], recorded["n_true"]
    assert state.shape == peaks.shape == true.shape == (5, N_FRAMES)
    assert ((state & INDEXED > 0) <= (state & HIT > 0)).all()
    assert ((state & RIGHT > 0) <= (state & INDEXED > 0)).all()
    assert (true <= peaks).all()
    np.testing.assert_array_equal(state & HIT > 0, peaks >= 10)
    assert recorded["settings"].shape == (5, len(POLICY_PARAMETERS))
    assert (recorded["photons"] > 0).tolist() == (recorded["crystals"] > 0).tolist()


def test_floods_and_high_thresholds_are_what_they_are_called(recorded) -> None:
    blank = recorded["crystals"] == 0
    peaks = recorded["n_peaks"]
    assert blank.any() and not blank.all()
    assert (peaks[0][blank] > 100).all()
    assert (peaks[1:3, blank] < 10).all()
    right = (recorded["state"] & RIGHT > 0).sum(axis=1)
    assert right[3] > 0.5 * (~blank).sum()


def test_the_model_foretells_the_peaks_of_these_frames(recorded) -> None:
    """Nothing was fitted to this experiment, and little of what peaks depend on was fitted."""
    draw = draw_of(hit_fraction=0.6)
    n = len(recorded["settings"])
    model = ResponseModel([draw], Coefficients.load()).take(np.zeros(n, int))
    crystals, background = draw.experiment.crystals, draw.experiment.background
    latents = np.zeros((n, N_FRAMES, 11))
    latents[..., 0] = recorded["crystals"] == 0
    jitter = np.hypot(background.jitter, background.drift / np.sqrt(2))
    latents[..., 1] = np.log(recorded["level"] / background.level) / jitter
    brightness = np.maximum(recorded["photons"], 1e-3) / crystals.photons
    latents[..., 2] = np.log(brightness) / crystals.photons_spread
    latents[..., 6] = 1
    parts = model.parts_of(
        dict(zip(POLICY_PARAMETERS, recorded["settings"].T, strict=True)), latents
    )
    predicted = dict(zip(PARTS, np.moveaxis(parts, -1, 0), strict=True))
    hit = recorded["crystals"] > 0
    for row in (1, 2, 3):
        measured = recorded["n_true"][row, hit].sum()
        assert predicted["own"][row, hit].sum() == pytest.approx(measured, rel=0.35, abs=10)
    measured = recorded["n_peaks"][0, ~hit].sum()
    assert predicted["other"][0, ~hit].sum() == pytest.approx(measured, rel=0.5)
