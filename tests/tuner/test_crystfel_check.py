"""The comparison with CrystFEL's own peak search."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from envs.evaluation import Evaluation
from tuner.crystfel_check import check_own_search
from wrappers.indexers import IndexerChoice
from wrappers.settings import Settings


def test_a_finder_that_crystfel_does_not_have_is_not_compared():
    nothing = cast(Any, SimpleNamespace())  # neither frames nor program are asked for
    measured = Evaluation(Settings(peak_finder="robust", min_snr=2.5), ())
    choice = IndexerChoice("crystfel")
    told = check_own_search(measured, nothing, Path("x.geom"), nothing, choice, jobs=1)
    assert told == {"not_done": "CrystFEL has no robust peak search"}
