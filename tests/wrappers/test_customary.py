"""Which detector a run is taken for."""

from __future__ import annotations

import pytest

from wrappers.customary import DETECTORS, detector_of


@pytest.mark.parametrize(
    ("pixel_size", "counts", "name", "known"),
    [
        (75e-6, True, "EIGER (photons)", True),
        (75e-6, False, "JUNGFRAU", True),
        (75.02e-6, False, "JUNGFRAU", True),
        (72.6e-6, True, "CITIUS", True),
        (172e-6, True, "PILATUS", True),
        (109.92e-6, False, "CSPAD", True),
        (200e-6, False, "AGIPD", True),
        (150e-6, False, "JUNGFRAU", False),
        (150e-6, True, "EIGER (photons)", False),
    ],
)
def test_a_detector_is_told_by_pixels_and_counts(pixel_size, counts, name, known):
    detector, is_known = detector_of(pixel_size, counts)
    assert (detector.name, is_known) == (name, known)


def test_every_set_is_possible():
    for detector in DETECTORS:
        for one in detector.sets:
            assert detector.settings.replace(**one).threshold == one["threshold"]
    eiger = next(each for each in DETECTORS if each.name.startswith("EIGER"))
    assert (eiger.settings.threshold, eiger.settings.min_snr, eiger.settings.min_peaks) == (
        20,
        5,
        10,
    )
