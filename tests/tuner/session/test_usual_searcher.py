"""Who proposes parameter sets where nobody says it."""

from __future__ import annotations

from tuner.session import request
from tuner.session.request import FEWEST_FRAMES, usual_searcher


def test_the_agent_on_the_map_is_for_peakfinder8_and_more_than_a_few_frames(monkeypatch) -> None:
    assert usual_searcher("peakfinder8", FEWEST_FRAMES) == "map-agent"
    for finder, n_frames in (("peakfinder8", FEWEST_FRAMES - 1), ("robust", 200)):
        for absent, expected in ((False, "gp"), (True, "tpe")):
            monkeypatch.setattr(request, "missing", lambda extra, absent=absent: absent)
            assert usual_searcher(finder, n_frames) == expected
