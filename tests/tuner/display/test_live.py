"""The live table on a terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from envs.evaluation import Evaluation, FrameOutcome
from tuner.display.live import LiveTable
from tuner.display.progress import Progress
from tuner.session.budget import Budget
from tuner.session.trial import Trial
from wrappers.settings import CRYSTFEL_DEFAULTS

TUNED = ("min_snr", "threshold")
SHOW_CURSOR = "\x1b[?25h"


def trial(number: int, n_indexed: int, best: int = 0, **others) -> Trial:
    outcomes = tuple(FrameOutcome(i, 20, True, int(i < n_indexed)) for i in range(10))
    evaluation = Evaluation(CRYSTFEL_DEFAULTS, outcomes, seconds=2.0, **others)
    return Trial(number, "search", evaluation, best=best)


def live(
    console: Console, tuned: tuple[str, ...], budget: Budget, earlier: tuple[Trial, ...] = ()
) -> tuple[LiveTable, Progress]:
    """The table, and what it shows."""
    progress = Progress(budget, earlier)
    return LiveTable(console, tuned, progress), progress


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=130, height=12)


def seen(console: Console, table: LiveTable) -> str:
    """What the terminal shows at the moment."""
    with console.capture() as capture:
        console.print(table)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capture.get())


def test_it_shows_trials_progress_and_budget(console):
    table, progress = live(console, TUNED, Budget(evaluations=30))
    assert "compiling" in seen(console, table)
    for number in range(3):
        progress.show_trial(trial(number, number, best=number or -1))
    progress.show_progress(7, 200)
    text = seen(console, table)
    assert "7/200 frames" in text and "evaluation 3" in text
    assert "3/30 evaluations" in text and "left" in text
    lines = text.splitlines()
    best = next(i for i, line in enumerate(lines) if "best so far" in line)
    assert lines[best - 1].startswith("★2") and "2/10" in lines[best - 1]


def test_progress_never_goes_back_within_an_evaluation(console):
    table, progress = live(console, TUNED, Budget(evaluations=30))
    progress.show_progress(25, 200)
    progress.show_progress(10, 200)
    assert "25/200 frames" in seen(console, table)
    progress.show_trial(trial(0, 1))
    assert "25/200" not in seen(console, table)


def test_it_fits_the_terminal_and_keeps_the_best_in_sight(console):
    table, progress = live(console, TUNED, Budget(minutes=20))
    for number in range(40):
        progress.show_trial(trial(number, 9 if number == 3 else 1, best=3 if number >= 3 else 0))
    text = seen(console, table)
    assert len(text.splitlines()) <= console.height
    assert "best so far" in text and "/20 minutes" in text
    assert text.splitlines()[-3].split()[0] == "39"


REASON = "the map expects most of what the agent has chosen here, a stricter threshold " * 3


@pytest.mark.parametrize("width", [80, 120, 160])
def test_a_long_remark_has_a_line_of_its_own_and_takes_no_digit(width):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=40)
    tuned = ("min_snr", "threshold", "min_pix_count", "clen")
    settings = CRYSTFEL_DEFAULTS.replace(clen=0.0799707, threshold=1234.5, min_peaks=10)
    evaluation = replace(trial(0, 5).evaluation, settings=settings, n_decoys=10)
    table, progress = live(console, tuned, Budget(evaluations=30))
    short, other = live(console, tuned, Budget(evaluations=30))
    for number in range(4):
        progress.show_trial(Trial(number, "search", evaluation, REASON, best=0))
        other.show_trial(Trial(number, "search", evaluation, best=0))
    lines = seen(console, table).splitlines()
    assert all(len(line) <= width for line in lines)
    numbers = [line for line in lines if "1234.5" in line]
    # The same numbers at the same places as without remarks.
    assert numbers == [line for line in seen(console, short).splitlines() if "1234.5" in line]
    assert len(numbers) == 4 and all("0.0799707" in line and "5/10" in line for line in numbers)
    # Half is indexed, and the five hits that are not cost a fifth each.
    assert all("100.0%" in line and "40.0" in line for line in numbers)
    remarks = [line for line in lines if "the map expects" in line]
    assert len(remarks) == 4 and all(line.startswith("    ") for line in remarks)
    assert ("0.0%" in numbers[0].split()) == (width >= 120)


def test_where_no_peaks_are_asked_for_no_frame_is_called_a_hit(console):
    table, progress = live(console, TUNED, Budget(evaluations=10))
    progress.show_trial(trial(0, 3))
    shown = next(line for line in seen(console, table).splitlines() if "3/10" in line)
    assert CRYSTFEL_DEFAULTS.min_peaks == 0
    assert "–" in shown.split() and "100.0%" not in shown


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_terminal_loses_columns_but_no_digits(width):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=24)
    table, progress = live(
        console, ("min_snr", "threshold", "min_pix_count", "clen"), Budget(evaluations=30)
    )
    settings = CRYSTFEL_DEFAULTS.replace(clen=0.0799707, threshold=1234.5)
    for number in range(12):
        progress.show_trial(
            Trial(number, "initial", replace(trial(0, 5).evaluation, settings=settings), best=0)
        )
    text = seen(console, table)
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    best = next(line for line in text.splitlines() if "★0" in line)
    assert all(value in best for value in ("1234.5", "0.0799707", "5/10", "50.0%"))
    assert ("initial" in best and "24–76" in best) == (width >= 80)


def test_a_resumed_session_counts_what_it_had(console):
    table, progress = live(
        console, TUNED, Budget(evaluations=10), tuple(trial(i, 1) for i in range(4))
    )
    progress.show_trial(trial(4, 1))
    assert "5/10 evaluations" in seen(console, table)


def test_failures_and_brackets_are_shown_as_they_are(console):
    table, progress = live(console, TUNED, Budget(evaluations=10))
    progress.show_trial(
        Trial(0, "search", Evaluation(CRYSTFEL_DEFAULTS, (), failure="died [/red]"))
    )
    assert "failed: died [/red]" in seen(console, table)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_the_terminal_is_whole_after_any_end(console, error):
    table, progress = live(console, TUNED, Budget(evaluations=10))
    with pytest.raises(error), table:
        progress.show_trial(trial(0, 1))
        raise error
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.endswith(SHOW_CURSOR) or text.rstrip().endswith(SHOW_CURSOR)
    assert "evaluations" not in text.rsplit("\x1b[2K", 1)[-1]


def test_the_line_of_a_page_says_budget_what_is_under_way_and_the_best_so_far() -> None:
    progress = Progress(Budget(evaluations=10))
    assert "compiling" in progress.line and "best so far" not in progress.line
    progress.show_progress(30, 600, "frames looked at")
    assert progress.line.startswith("Evaluation 0: 30/600 frames looked at")
    progress.show_progress(5, 20)
    assert "5/20 frames and decoys" in progress.line, "another thing begins anew"
    for number in range(3):
        progress.show_trial(trial(number, 4, best=0))
    assert "budget: 3/10 evaluations, about 0:00 left" in progress.line
    assert progress.line.endswith("best so far: 40.0% (4 of 10 frames), evaluation 0")
    assert progress.share == pytest.approx(0.3)
