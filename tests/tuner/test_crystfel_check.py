"""The comparison with CrystFEL's own peak search."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from envs.evaluation import Evaluation
from tuner.crystfel_check import check_own_search
from tuner.recommendation import Recommendation, read_recommendation, write_recommendation
from wrappers.indexers import IndexerChoice
from wrappers.settings import Settings


def test_a_finder_that_crystfel_does_not_have_is_not_compared():
    nothing = cast(Any, SimpleNamespace())  # neither frames nor program are asked for
    measured = Evaluation(Settings(peak_finder="robust", min_snr=2.5), ())
    choice = IndexerChoice("crystfel")
    told = check_own_search(measured, nothing, Path("x.geom"), nothing, choice, jobs=1)
    assert told == {"not_done": "CrystFEL has no robust peak search"}


@pytest.mark.parametrize(
    "found",
    [
        {"n_frames": 40, "n_indexed": 12, "same_peaks": 39, "same_indexed": 40},
        {"not_done": "CrystFEL has no robust peak search"},
    ],
)
def test_what_it_says_can_be_read_again(tmp_path, found):
    written = Recommendation(Settings(clen=0.1), {"crystfel_own_search": found}, {})
    write_recommendation(written, tmp_path / "recommended.toml")
    assert read_recommendation(tmp_path).evidence == written.evidence
