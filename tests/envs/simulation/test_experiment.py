"""Descriptions of experiments."""

from __future__ import annotations

import pytest

from envs.simulation.experiment import (
    JUNGFRAU_1M,
    SMALL_DETECTOR,
    BackgroundModel,
    BadPixels,
    Beam,
    Crystals,
    Detector,
    Experiment,
    Module,
    demo_experiment,
    tiled,
)
from wrappers.errors import InputError


def test_tiles_are_centred_and_the_topmost_come_first():
    modules = tiled(2, 2, (100, 200), (10, 20))
    assert modules == (
        Module(-210.0, 5.0),
        Module(10.0, 5.0),
        Module(-210.0, -105.0),
        Module(10.0, -105.0),
    )


def test_the_default_detector_is_that_of_the_shared_geometry():
    assert JUNGFRAU_1M.modules == (Module(-512.0, 10.0), Module(-512.0, -522.0))
    assert JUNGFRAU_1M.shape == (1024, 1024)
    assert SMALL_DETECTOR.shape == (512, 512)


def test_experiments_are_values():
    assert Experiment(seed=1) == Experiment(seed=1)
    assert hash(demo_experiment(2)) == hash(demo_experiment(2))
    assert Experiment(clen=0.1, clen_error=-0.02).written_clen == pytest.approx(0.098)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Detector((), (10, 10)), "module"),
        (lambda: Detector((Module(0, 0),), (10, 10), gain=0.0), "gain"),
        (lambda: Detector((Module(0, 0),), (10, 10), dtype="float32"), "dtype"),
        (lambda: Detector((Module(0, 0),), (10, 10), saturation=1e6), "saturation"),
        (lambda: Beam(photon_energy=-1.0), "photon_energy"),
        (lambda: Beam(bandwidth=2.0), "bandwidth"),
        (lambda: Crystals(hit_fraction=1.2), "hit_fraction"),
        (lambda: Crystals(multi_fraction=1.0), "multi_fraction"),
        (lambda: Crystals(resolution=0.0), "resolution"),
        (lambda: Crystals(photons=float("nan")), "photons"),
        (lambda: BackgroundModel(level=-1.0), "level"),
        (lambda: BadPixels(hot=0.6, dead=0.6), "bad pixels"),
        (lambda: Experiment(clen=0.0), "clen"),
        (lambda: Experiment(clen_error=-1.0), "clen_error"),
        (lambda: Experiment(seed=-1), "seed"),
    ],
)
def test_nonsense_is_refused_by_name(make, word):
    with pytest.raises(InputError, match=word):
        make()
