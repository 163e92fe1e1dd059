"""The live table on a terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from envs.evaluation import Evaluation, FrameOutcome
from tuner.display.live import LiveTable
from tuner.session.loop import Budget
from tuner.session.trial import Trial
from wrappers.settings import CRYSTFEL_DEFAULTS

TUNED = ("min_snr", "threshold")
SHOW_CURSOR = "\x1b[?25h"


def trial(number: int, n_indexed: int, best: int = 0, **others) -> Trial:
    outcomes = tuple(FrameOutcome(i, 20, True, int(i < n_indexed)) for i in range(10))
    evaluation = Evaluation(CRYSTFEL_DEFAULTS, outcomes, seconds=2.0, **others)
    return Trial(number, "search", evaluation, best=best)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=130, height=12)


def seen(console: Console, table: LiveTable) -> str:
    """What the terminal shows at the moment."""
    with console.capture() as capture:
        console.print(table)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capture.get())


def test_it_shows_trials_progress_and_budget(console):
    table = LiveTable(console, TUNED, Budget(evaluations=30))
    assert "compiling" in seen(console, table)
    for number in range(3):
        table.show_trial(trial(number, number, best=number or -1))
    table.show_progress(7, 200)
    text = seen(console, table)
    assert "7/200 frames" in text and "evaluation 3" in text
    assert "3/30 evaluations" in text and "left" in text
    best = next(line for line in text.splitlines() if "best so far" in line)
    assert best.startswith("★2") and "2/10" in best


def test_progress_never_goes_back_within_an_evaluation(console):
    table = LiveTable(console, TUNED, Budget(evaluations=30))
    table.show_progress(25, 200)
    table.show_progress(10, 200)
    assert "25/200 frames" in seen(console, table)
    table.show_trial(trial(0, 1))
    assert "25/200" not in seen(console, table)


def test_it_fits_the_terminal_and_keeps_the_best_in_sight(console):
    table = LiveTable(console, TUNED, Budget(minutes=20))
    for number in range(40):
        table.show_trial(trial(number, 9 if number == 3 else 1, best=3 if number >= 3 else 0))
    text = seen(console, table)
    assert len(text.splitlines()) <= console.height
    assert "best so far" in text and "/20 minutes" in text
    assert text.splitlines()[-3].split()[0] == "39"


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_terminal_loses_columns_but_no_digits(width):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=24)
    table = LiveTable(
        console, ("min_snr", "threshold", "min_pix_count", "clen"), Budget(evaluations=30)
    )
    settings = CRYSTFEL_DEFAULTS.replace(clen=0.0799707, threshold=1234.5)
    for number in range(12):
        table.show_trial(
            Trial(number, "initial", replace(trial(0, 5).evaluation, settings=settings), best=0)
        )
    text = seen(console, table)
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    best = next(line for line in text.splitlines() if "★0" in line)
    assert all(value in best for value in ("1234.5", "0.0799707", "5/10", "50.0%"))
    assert ("initial" in best and "24–76" in best) == (width >= 80)


def test_a_resumed_session_counts_what_it_had(console):
    table = LiveTable(console, TUNED, Budget(evaluations=10), [trial(i, 1) for i in range(4)])
    table.show_trial(trial(4, 1))
    assert "5/10 evaluations" in seen(console, table)


def test_failures_and_brackets_are_shown_as_they_are(console):
    table = LiveTable(console, TUNED, Budget(evaluations=10))
    table.show_trial(Trial(0, "search", Evaluation(CRYSTFEL_DEFAULTS, (), failure="died [/red]")))
    assert "failed: died [/red]" in seen(console, table)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_the_terminal_is_whole_after_any_end(console, error):
    with pytest.raises(error), LiveTable(console, TUNED, Budget(evaluations=10)) as table:
        table.show_trial(trial(0, 1))
        raise error
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.endswith(SHOW_CURSOR) or text.rstrip().endswith(SHOW_CURSOR)
    assert "evaluations" not in text.rsplit("\x1b[2K", 1)[-1]
