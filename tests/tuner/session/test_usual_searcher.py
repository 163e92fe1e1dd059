"""Who proposes parameter sets where nobody says it."""

from __future__ import annotations

from dataclasses import replace

from click.testing import CliRunner

from tuner.cli.main import cli
from tuner.session import request
from tuner.session.request import (
    FEWEST_FRAMES,
    USUAL,
    Request,
    usual_searcher,
    with_fit_searcher,
)


def test_the_agent_on_the_map_is_for_peakfinder8_and_more_than_a_few_frames(monkeypatch) -> None:
    assert usual_searcher("peakfinder8", FEWEST_FRAMES) == "map-agent"
    for finder, n_frames in (("peakfinder8", FEWEST_FRAMES - 1), ("robust", 200)):
        for absent, expected in ((False, "gp"), (True, "tpe")):
            monkeypatch.setattr(request, "missing", lambda extra, absent=absent: absent)
            assert usual_searcher(finder, n_frames) == expected


def test_help_and_policies_go_by_it(tmp_path) -> None:
    printed = CliRunner().invoke(cli, ["tune", "--help"]).output
    assert f"[default:{USUAL}," in "".join(printed.split())
    asked = Request(tmp_path, tmp_path, None, policy=tmp_path)
    assert with_fit_searcher(asked).searcher == USUAL
    named = replace(asked, searcher="map-agent")
    assert with_fit_searcher(named) is named
