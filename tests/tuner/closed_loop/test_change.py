"""A night whose detector changes, on real frames, from the first session to the proof."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import pytest

from envs.simulation.simulator import demo_experiment, simulate_run
from tuner.closed_loop.events import Alarmed, Begun, Block, Kept, Tuned, Tuning, read_events
from tuner.closed_loop.loop import LOG, Loop
from tuner.closed_loop.rules import Rules, replayed
from tuner.recommendation import read_recommendation

N_BEFORE, N_AFTER, SIZE, N_TUNING = 80, 200, 20, 60
GAIN = 0.25
"""What the detector's gain falls to: a threshold that was tuned before is four times too high."""
RULES = Rules(
    n_tuning=N_TUNING,
    n_proof=500,
    n_settled=(200, 1000),
    n_settled_indexed=20,
    n_tests=(25, 200, 1000),
)


@pytest.mark.slow
def test_a_gain_that_falls_is_mended_and_the_new_set_proved(tmp_path):
    base = demo_experiment(seed=20)
    detector = dataclasses.replace(base.detector, gain=GAIN * base.detector.gain)
    before = simulate_run(base, tmp_path / "before", N_BEFORE)
    after = simulate_run(
        dataclasses.replace(base, seed=21, detector=detector), tmp_path / "after", N_AFTER
    )
    frames = tmp_path / "night.lst"
    frames.write_text(f"{before.data}\n{after.data}\n")
    night = tmp_path / "night"
    begun = Begun(
        source=str(frames),
        geometry=str(before.geometry),
        tune=(
            *("--cell", str(before.cell), "--indexer", "fast", "--searcher", "map"),
            *("--frames", str(N_TUNING // 2), "--evaluations", "6"),
        ),
        n_tuning=N_TUNING,
        size=SIZE,
        seconds=1e6,
        n_sample=SIZE,
        version="0",
    )

    def proved() -> bool:
        """Return whether the set that was proved has searched a block since."""
        kinds = [event.kind for event in loop.events]
        return "kept" in kinds and kinds[-1] == "block"

    # Nobody waits for the last checks of the sessions.
    with Loop(night, begun, rules=RULES, stopped=proved) as loop:
        loop.run()
    events = read_events(night / LOG)
    assert replayed(events, RULES) == loop.state, "the log alone says where the night is"
    told = [e for e in events if isinstance(e, Alarmed | Tuning | Tuned | Kept)]
    assert [event.kind for event in told[:6]] == [
        *("tuning", "tuned", "alarm", "tuning", "tuned", "kept")
    ]
    _, first, alarm, again, second, kept = told[:6]
    assert (first.outcome, second.outcome) == ("first", "better")
    # All frames of the second session have come since the gain fell.
    blocks = {event.number: event for event in events if isinstance(event, Block)}
    assert "darker" in alarm.rate and all(blocks[n].first >= N_BEFORE for n in again.blocks)
    assert kept.used == 2 and kept.pairs.new_only > kept.pairs.old_only + 5
    # Which is what the night goes on with, and whoever reads its folder.
    assert loop.state.used == 2 and loop.failure is None
    used = read_recommendation(night / "recommended.toml").settings
    assert used == read_recommendation(night / "tuning-2").settings
    assert used.threshold < read_recommendation(night / "tuning-1").settings.threshold
    # Each frame was searched once, with the set that its block names.
    done = 0
    for block in blocks.values():
        assert block.first == done
        done += block.n_frames
        with h5py.File(Path(night, block.hits)) as file:
            assert len(file["/sfx_tuner/frames/n_peaks"]) == block.n_frames
    assert done >= N_BEFORE + 2 * N_TUNING
    last = [block for block in blocks.values() if block.used == 2]
    old = [block for block in blocks.values() if block.used == 1 and block.first >= N_BEFORE]
    rates = [sum(b.n_hits for b in some) / sum(b.n_frames for b in some) for some in (old, last)]
    assert rates[1] > rates[0]
