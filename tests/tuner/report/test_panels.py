"""What the report says of spots and panels."""

from __future__ import annotations

import math

import pytest

from tuner.report.panels import MOST_ROWS, _magnified, _offset_words, _picture, _residual_words
from tuner.session.residuals import RESIDUALS, SpotResiduals, read_residuals, write_residuals
from wrappers.lattices.spot_residuals import PanelOffset


def residuals(*offsets: tuple[float, float], **fields) -> SpotResiduals:
    panels = tuple(
        PanelOffset(
            f"m{i}",
            0 if math.isnan(x) else 120,
            12,
            x,
            y,
            *(math.nan if math.isnan(x) else 0.02,) * 2,
        )
        for i, (x, y) in enumerate(offsets)
    )
    outlines = tuple(
        ((100.0 * i, 0.0), (100.0 * i + 90, 0.0), (100.0 * i + 90, 50.0), (100.0 * i, 50.0))
        for i in range(len(offsets))
    )
    known = {"given": (2.5, 0.11), "refined": (0.66, 0.017), "fresh": True, **fields}
    return SpotResiduals(16, 17, 1374, panels=panels, outlines=outlines, **known)


def test_a_session_keeps_them_and_does_without_damaged_ones(tmp_path):
    found = residuals((0.9, 0.0), (0.0, 0.1), (math.nan, math.nan))
    assert read_residuals(tmp_path) is None
    write_residuals(found, tmp_path)
    assert repr(read_residuals(tmp_path)) == repr(found)  # NaN is not equal to itself
    text = (tmp_path / RESIDUALS).read_text()
    for damage in (text[:100], text.replace("16", '"x"', 1), "[]"):
        (tmp_path / RESIDUALS).write_text(damage)
        assert read_residuals(tmp_path) is None
    write_residuals(None, tmp_path)
    assert not (tmp_path / RESIDUALS).exists()


def test_before_and_after_are_said_with_their_errors_and_frames():
    words = str(_residual_words(residuals((0.0, 0.0))))
    assert "0.66 ± 0.02 px" in words and "2.50 ± 0.1 px" in words
    assert "17 lattices on 16 fresh frames" in words
    same = str(_residual_words(residuals((0.0, 0.0), given=(0.66, 0.017), fresh=False)))
    assert "is the one that was given" in same and "frames of the search" in same


def test_only_panels_that_are_clearly_off_are_said_to_be():
    found = residuals((0.15, 0.0), (0.0, -0.6), (math.nan, math.nan))
    (words,) = _offset_words([p for p in found.panels if p.n_spots], 3)
    assert words.warning and "1 of 2 panels is off" in words.text and "m1 by 0.60 px" in words.text
    assert "Too few spots fall on 1 of 3 panels" in words.text
    (words,) = _offset_words(residuals((0.15, 0.0)).panels, 1)
    assert not words.warning and "No panel is off by more than 0.2 px" in words.text
    (words,) = _offset_words([], 4)
    assert "On none of 4 panels" in words.text


@pytest.mark.parametrize("size", [0.0, 0.01, 0.5, 40.0])
def test_arrows_are_seen_and_stay_within_the_detector(size):
    found = residuals(*[(size, 0.0)] * 20)
    times = _magnified(found, found.panels)
    assert times >= 1 and times * max(size, 0.2) <= max(0.13 * 1990, size)
    picture = _picture(found, times)
    assert picture.startswith("<svg") and len(found.panels) > MOST_ROWS
