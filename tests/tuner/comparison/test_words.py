import re
from pathlib import Path

import pytest

from tuner.comparison.console import print_figures
from tuner.comparison.frames import run_figures
from tuner.comparison.frames_retired import read_recorded
from tuner.comparison.frames_words import frames_markdown
from tuner.comparison.words import headline, markdown

DOCUMENT = Path(__file__).parents[3] / "docs" / "comparison.md"


@pytest.fixture
def run(splits) -> dict:
    return {**run_figures(splits[:2]), "data": "/somewhere/run.h5", "indexer": "fast 0.1.0"}


def leading(run: dict, by: float, error: float = 0.02) -> dict:
    """The figures, where the agent leads by so much."""
    pair = {"rate_difference": by, "rate_ci95": [by - 2 * error, by + 2 * error]}
    return {**run, "paired": {"warm-gp": {**run["paired"]["warm-gp"], **pair}}}


def test_the_headline_says_who_is_ahead_and_how_surely(run):
    ahead = headline(leading(run, 0.06))
    assert re.match(r"After 10 evaluations the agent's settings index \d+% of the 60 ", ahead)
    assert "the agent is ahead (difference +6.0 points, 95% interval +2.0 to +10.0)" in ahead
    assert "warm-gp is ahead" in headline(leading(run, -0.06))
    assert "no difference can be seen" in headline(leading(run, 0.01))
    assert "no difference can be seen" in headline(run)  # of sixty frames


def test_a_run_that_nothing_indexes_is_called_so(run):
    assert "no method's settings index any" in headline({**run, "reference_rate": 0.0})


def test_without_the_rival_there_is_no_headline(run):
    paired = {name: row for name, row in run["paired"].items() if name != "warm-gp"}
    assert headline({**run, "paired": paired}) == ""


def test_the_documents_tables_are_those_that_are_recorded():
    document = DOCUMENT.read_text()
    for part in frames_markdown(read_recorded()).split("\n\n"):
        assert part.strip() in document


def test_the_tables_of_a_run_give_rates_with_intervals(run):
    text = markdown({"run": run})
    assert "**run** (run.h5, fast 0.1.0, 2 splits: 30 frames to search, 60 scoring frames)" in text
    assert "| method | rate after 5 | 10 | 12 | regret after 10 | 1 − AUC |" in text
    assert re.search(r"\| `map-agent` \| \d+ % \| \d+ % \[\d+, \d+\] \|", text)
    assert "| agent against | rate difference after 10 | 95 % interval |" in text


def test_80_columns_are_enough(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_figures({"run": run})
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed
    assert "warm-gp" in printed
