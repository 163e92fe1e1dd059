"""Nights of the closed loop by their rules alone: how often something is changed, and how soon.

No frame is made. Blocks of 500 frames have binomial numbers of hits and indexed frames, and the
rules of `tuner.closed_loop.rules` decide. A session of 200 frames has the Wilson intervals of what
it has seen. Its set is as good as the one in force, or, behind a change that it mends, indexes what
it says; two sets of the same rate each index 3 % of the frames alone. It is the best of eight such
sets by the frames on which it is then held against the one in force. Told for each case: nights
with an alarm, with another set in force for a while, and with another one in the end; medians of
the frames until the alarm and until the set is proved.

    python -m experiments.nights_by_numbers [--nights 1000] [--json]

It takes about forty seconds of processor time.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import Any

import click
import numpy as np

from envs.evaluation import wilson_interval
from tuner.cli.options import print_json
from tuner.closed_loop.events import Alarmed, Block, Kept, Pairs, Tuned, Tuning
from tuner.closed_loop.evidence import chance_of_gain
from tuner.closed_loop.retuning import BETTER, COMPARED
from tuner.closed_loop.rules import CUSTOMARY, Rules, State, after, due

RULES = Rules()
SIZE, SAMPLE, N_SESSION = 500, 50, 200
BLOCKS_OF_SESSION = 4
"""That are searched while a session runs."""
ALONE = 0.03
"""Share of the frames that each of two sets of the same rate indexes alone."""
N_SETS = 8
"""From which a session chooses by its own frames."""


@dataclass(frozen=True)
class Case:
    """What a night has.

    Attributes
    ----------
    hits, indexed : (float, float)
        Rates before and after the change.
    mended : float or None
        Indexing rate of the set that a session finds behind it.
    scatter : float
        By how much both rates go up and down from block to block, relative, at most.
    correlation : float
        Of the rates of two blocks that follow each other, where they go up and down so.
    """

    hits: tuple[float, float]
    indexed: tuple[float, float]
    mended: float | None = None
    scatter: float = 0.0
    correlation: float = 0.0


CASES = {
    "no change": Case((0.5, 0.5), (0.42, 0.42)),
    "few hits, no change": Case((0.05, 0.05), (0.03, 0.03)),
    "a jet that comes and goes": Case((0.5, 0.5), (0.42, 0.42), scatter=0.3),
    "a jet that wanders, correlation 0.5": Case((0.5, 0.5), (0.42, 0.42), None, 0.3, 0.5),
    "a jet that wanders, correlation 0.9": Case((0.5, 0.5), (0.42, 0.42), None, 0.3, 0.9),
    "the jet gives a third of the hits": Case((0.5, 0.17), (0.42, 0.14)),
    "a tenth fewer index, mended": Case((0.5, 0.45), (0.42, 0.38), 0.42),
    "a third fewer index, mended": Case((0.5, 0.35), (0.42, 0.28), 0.42),
    "nothing indexes, mended": Case((0.5, 0.02), (0.42, 0.0), 0.42),
    "few hits, a third fewer, mended": Case((0.05, 0.035), (0.03, 0.02), 0.03),
}


@click.command()
@click.option("--nights", default=1000, show_default=True)
@click.option("--blocks", default=60, show_default=True, help="Of a night.")
@click.option("--change", default=10, show_default=True, help="Block of the change.")
@click.option("--json", "as_json", is_flag=True)
def main(nights: int, blocks: int, change: int, as_json: bool) -> None:
    """Print the table."""
    rows = []
    for name, case in CASES.items():
        random = np.random.default_rng(1)
        told = [_night(case, blocks, change, random) for _ in range(nights)]
        rows.append(
            {
                "case": name,
                "alarm": sum(each["alarm"] is not None for each in told) / nights,
                "swap": sum(each["swaps"] > 0 for each in told) / nights,
                "kept": sum(each["kept"] is not None for each in told) / nights,
                "sessions": sum(each["sessions"] for each in told) / nights,
                "to the alarm": _median([each["alarm"] for each in told]),
                "to the proof": _median([each["kept"] for each in told]),
            }
        )
    if as_json:
        print_json(rows)
        return
    click.echo(
        f"{nights} nights of {blocks * SIZE:,} frames, change at {change * SIZE:,}\n"
        f"{'':<36}{'alarm':>7}{'swap':>7}{'kept':>7}{'sessions':>10}{'to alarm':>10}"
        f"{'to proof':>10}"
    )
    for row in rows:
        shares = "".join(f"{row[key]:>7.1%}" for key in ("alarm", "swap", "kept"))
        late = "".join(f"{row[key] or '-':>10}" for key in ("to the alarm", "to the proof"))
        click.echo(f"{row['case']:<36}{shares}{row['sessions']:>10.2f}{late}")


def _night(case: Case, blocks: int, change: int, random: np.random.Generator) -> dict[str, Any]:
    found: dict[str, Any] = {"alarm": None, "kept": None, "swaps": 0, "sessions": 0}
    state, started, mended = State(), 0, -1
    jet = _jet(case, blocks, random)
    for number in range(blocks):
        late = number >= change
        good = state.used == mended and late
        hits = case.hits[not good and late] if case.mended else case.hits[late]
        rate = (case.mended if good else case.indexed[late]) if case.mended else case.indexed[late]
        watched = state.phase in ("watching", "proving")
        block = Block(
            number=state.next_block,
            first=state.next_frame,
            n_frames=SIZE,
            n_unreadable=0,
            n_hits=int(random.binomial(SIZE, jet[number] * hits)),
            used=state.used,
            n_sampled=SAMPLE if watched else 0,
            n_indexed=int(random.binomial(SAMPLE, jet[number] * (rate or 0.0))) if watched else 0,
        )
        if state.phase == "proving":
            gain = (case.mended or 0) - case.indexed[1] if late and case.mended else 0.0
            block = _with_pairs(block, 2 * SAMPLE, gain, random)
        state = after(state, block, RULES)
        if state.phase == "tuning" and number >= started + BLOCKS_OF_SESSION:
            tuned = _tuned(state, case, late, random)
            if tuned.outcome == "better":
                found["swaps"] += 1
                mended = tuned.number if late and case.mended else mended
            state = after(state, tuned, RULES)
        while (event := due(state, RULES)) is not None:
            since = (number + 1 - change) * SIZE
            match event:
                case Alarmed() if found["alarm"] is None:
                    found["alarm"] = since
                case Kept():
                    found["kept"] = since
                case Tuning():
                    started = number
                    found["sessions"] += 1
            state = after(state, event, RULES)
    return found


def _jet(case: Case, blocks: int, random: np.random.Generator) -> list[float]:
    """Return what the rates of each block are multiplied by."""
    if not case.correlation:
        return [1 + random.uniform(-case.scatter, case.scatter) for _ in range(blocks)]
    deviation, rho = case.scatter / np.sqrt(3), case.correlation  # as where it is uniform
    steps = random.normal(0, deviation, blocks)
    steps[1:] *= np.sqrt(1 - rho**2)
    found: list[float] = []
    for step in steps:
        found.append(float(step + (rho * found[-1] if found else 0.0)))
    return [min(max(1 + each, 0.0), 1.9) for each in found]


def _with_pairs(block: Block, n: int, gain: float, random: np.random.Generator) -> Block:
    return replace(block, n_sampled=n, pairs=_pairs(n, gain, random))


def _pairs(n: int, gain: float, random: np.random.Generator) -> Pairs:
    new, old, _ = random.multinomial(n, [ALONE + gain, ALONE, 1 - 2 * ALONE - gain])
    return Pairs(n, int(new), int(old))


def _chosen(n: int, gain: float, random: np.random.Generator) -> Pairs:
    """Return what the set comes to that does best on the frames by which it is chosen."""
    tried = (_pairs(n, gain, random) for _ in range(N_SETS))
    return max(tried, key=lambda pairs: pairs.new_only - pairs.old_only)


def _tuned(state: State, case: Case, late: bool, random: np.random.Generator) -> Tuned:
    hits = case.hits[0 if case.mended or not late else 1]
    indexed = case.mended if late and case.mended else case.indexed[late]
    assert indexed is not None
    seen = {"hit rate": hits, "indexing rate": indexed}
    intervals = {
        name: wilson_interval(int(random.binomial(N_SESSION, rate)), N_SESSION)
        for name, rate in seen.items()
    }
    if state.used == CUSTOMARY:
        return Tuned(state.n_sessions, "first", intervals=intervals)
    gain = indexed - case.indexed[1] if late and case.mended and state.used == 1 else 0.0
    pairs = _chosen(COMPARED, gain, random)
    if chance_of_gain(pairs) > BETTER:
        return Tuned(state.n_sessions, "no better", pairs=pairs)
    return Tuned(state.n_sessions, "better", pairs=pairs, intervals=intervals)


def _median(values: list[Any]) -> int | None:
    known = [value for value in values if value is not None]
    return int(statistics.median(known)) if known else None


if __name__ == "__main__":
    main()
