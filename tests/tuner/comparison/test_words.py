import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from tuner.comparison.console import print_figures
from tuner.comparison.frames import compare_on_frames, run_figures
from tuner.comparison.statistics import compare_family
from tuner.comparison.words import headline, markdown

DOCUMENT = Path(__file__).parents[3] / "docs" / "comparison.md"


def family(lead: float, n_tasks: int = 50) -> dict:
    worse = np.random.default_rng(0).uniform(0.1, 0.3, (n_tasks, 3, 20))
    noise = np.random.default_rng(1).normal(0, 0.01, worse.shape)
    found = compare_family({"ppo": worse - lead, "warm-gp": worse + noise, "warm-tpe": worse})
    for name in ("ppo", "warm-gp", "warm-tpe"):
        found[name] |= {"suggestion_seconds": 0.01, "clen_within_0.1_percent_5": 0.85}
    return found


@pytest.fixture
def run(make_landscape, space, policy) -> dict:
    parts = [make_landscape(frames=10), make_landscape(frames=10, first=1000)]
    splits = [
        compare_on_frames(*pair, space, policy, ["ppo", "warm-gp", "defaults"], budget=6)
        for pair in (parts, parts[::-1])
    ]
    return {**run_figures(splits), "data": "/somewhere/run.h5", "indexer": "fast 0.1.0"}


def test_the_headline_says_who_is_ahead_and_how_surely():
    ahead = headline(family(0.05))
    assert ahead.startswith("After 10 evaluations the agent misses ")
    assert re.search(r"the agent is ahead \(difference \+5\.\d points, 95% interval \+4", ahead)
    assert "warm-gp is ahead" in headline(family(-0.05))
    assert "no difference can be seen" in headline(family(0.0))


def test_with_few_frames_no_difference_is_claimed(run):
    assert "after 6 evaluations" in headline(run).lower()
    assert "of the 20 scoring frames" in headline(run)
    assert "no difference can be seen" in headline(run)


def test_a_run_that_nothing_indexes_is_called_so(run):
    assert "no method's settings index any" in headline({**run, "reference_rate": 0.0})


def test_without_the_rival_there_is_no_headline():
    assert headline(compare_family({"ppo": np.zeros((2, 1, 3))})) == ""


def test_the_documents_tables_are_those_of_the_command():
    """The figures of a run of the benchmark are pasted; their headings must be its own."""
    lines = markdown({"test": family(0.05)}).splitlines()
    document = DOCUMENT.read_text().splitlines()
    headings = [line for line, rule in itertools.pairwise(lines) if "|---" in rule]
    assert len(headings) == 2
    for heading in headings:
        assert heading in document
    assert "**test** (50 tasks × 3 seeds)" in lines


def test_the_tables_of_runs_give_rates_with_intervals(run):
    text = markdown({"one": run, "two": run})
    assert "| run | frames (search, scoring) | `ppo` | `warm-gp` | `defaults` |" in text
    assert "| one | 10, 20 | " in text
    assert "| method | rate after 5 | 6 | regret after 6 | 1 − AUC |" in text
    assert re.search(r"\| `ppo` \| \d+ % \| \d+ % \[\d+, \d+\] \|", text)
    assert "| agent against | rate difference after 6 | 95 % interval |" in text


def test_80_columns_are_enough(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_figures({"test": family(0.05), "run": run})
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed
    assert "warm-tpe" in printed
