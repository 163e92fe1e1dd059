"""The closed loop on small simulated frames: a run in its order, and a stream."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from envs.simulation.simulator import demo_experiment, simulate_run
from tests.ports import free_port
from tuner.closed_loop.events import Begun, Block, Tuned, read_events
from tuner.closed_loop.feed import RunInOrder, Tap, block_file, forget_blocks
from tuner.closed_loop.loop import LOG, Loop
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.opening import open_source
from wrappers.frames.run import Run
from wrappers.streams.player import Player, messages_of
from wrappers.streams.protocols import parse_address


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("loop") / "run", 30)


def begun(simulated, source=None, **changes) -> Begun:
    values = {
        "source": str(source or simulated.data),
        "geometry": str(simulated.geometry),
        "tune": ("--cell", str(simulated.cell), "--indexer", "fast", "--evaluations", "2"),
        "n_tuning": 1000,
        "size": 12,
        "seconds": 60.0,
        "n_sample": 5,
        "version": "0",
        **changes,
    }
    return Begun(**values)


def found_in(night: Path) -> dict[str, int]:
    """Return the number of peaks of each hit, by its event."""
    found: dict[str, int] = {}
    for path in sorted((night / "hits").glob("*.cxi")):
        with h5py.File(path) as file:
            peaks = file["/entry_1/result_1"]
            events = peaks["sourceEvent"].asstr()[()]
            assert not found.keys() & set(events), "no hit is there twice"
            found.update(zip(events, peaks["nPeaks"][()].tolist(), strict=True))
    return found


def test_every_frame_is_searched_once_also_after_a_kill(simulated, tmp_path):
    with Loop(tmp_path / "whole", begun(simulated)) as loop:
        loop.run()
    blocks = [event for event in loop.events if isinstance(event, Block)]
    assert [(b.first, b.n_frames, b.used) for b in blocks] == [(0, 12, 0), (12, 12, 0), (24, 6, 0)]
    whole = found_in(tmp_path / "whole")
    assert len(whole) == sum(b.n_hits for b in blocks) > 5
    night = tmp_path / "killed"
    with Loop(night, begun(simulated)) as loop:
        loop._take(loop._search.next(loop.state, 1.0))
        loop._search.next(loop.state, 1.0)  # written, but not told
    assert len(list((night / "hits").glob("*.cxi"))) == 2
    with (night / LOG).open("a") as log:
        log.write('{"time": 1, "kind": "blo')
    with Loop(night, None) as loop:
        loop.run()
    # What is customary is so for the frames of a block, which are the same.
    assert found_in(night) == whole
    told = [event for event in read_events(night / LOG) if isinstance(event, Block)]
    assert [(b.number, b.first) for b in told] == [(1, 0), (2, 12), (3, 24)]


def test_what_is_stopped_is_written_and_gone_on_with(simulated, tmp_path):
    asked = []
    night = tmp_path / "night"
    with Loop(night, begun(simulated), stopped=lambda: len(asked) > 20 or asked.append(0)) as loop:
        loop.run()
    (first,) = (event for event in loop.events if isinstance(event, Block))
    assert 0 < first.n_frames < 30 and loop.events[-1].why == "it was stopped"
    with Loop(night, None) as loop:
        loop.run()
    blocks = [event for event in loop.events if isinstance(event, Block)]
    assert blocks[0] == first and sum(block.n_frames for block in blocks) == 30
    assert len(found_in(night)) == sum(block.n_hits for block in blocks)


def test_folders_that_are_none(simulated, tmp_path):
    with pytest.raises(InputError, match="holds no night"):
        Loop(tmp_path, None)
    with Loop(tmp_path / "night", begun(simulated)), pytest.raises(InputError, match="holds a nig"):
        Loop(tmp_path / "night", begun(simulated))
    with Loop(tmp_path / "night", None), pytest.raises(InputError, match="being written by anoth"):
        Loop(tmp_path / "night", None).__enter__()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / LOG).write_text('{"time": 1, "kind": "resumed"}\n')
    with pytest.raises(InputError, match="does not say how the night began"):
        Loop(tmp_path / "other", None)


def test_kept_frames_are_those_that_came(simulated, tmp_path):
    run = open_source(simulated.data, Geometry.read(simulated.geometry))
    path = block_file(tmp_path, 7)
    with RunInOrder(run, 3) as frames, Tap(frames, path) as tap:
        first = tap.first(2, 1.0, lambda: frames.ended)
        again = [late() for _ in range(4) if (late := tap.next(0)) is not None]
        assert [frame.event for frame in again] == ["//3", "//4", "//5", "//6"]
        assert again[0] is first[0]
        with tap.finish() as kept:
            for place, frame in enumerate(again):
                np.testing.assert_array_equal(kept[place].data, frame.data)
                np.testing.assert_array_equal(kept[place].mask, frame.mask)
        assert len(tap.levels) == 4 and min(tap.levels) > 0
    block_file(tmp_path, 8).write_text("")
    forget_blocks(tmp_path, [7])
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        path.name + end for end in ("", ".geom", ".mask.h5")
    ]


def test_what_a_session_needs_is_said(cli, simulated):
    code, _, err = cli("run", simulated.data, "-o", "night")
    assert code == 2 and "-g FILE" in err
    code, _, err = cli("run", "--resume", "night", "--block", 20)
    assert code == 2 and "leave out --block" in err
    code, _, err = cli("run", "--resume", "night")
    assert code == 2 and "holds no night" in err


@pytest.mark.slow
def test_a_stream_is_tuned_on_and_killed_and_gone_on_with(simulated, tmp_path):
    url = f"dectris+tcp://127.0.0.1:{free_port()}"
    stop = threading.Event()
    with Run.open(simulated.data, Geometry.read(simulated.geometry)) as run:
        messages = list(messages_of(run))
    how = ["--frames", "20", "--evaluations", "2", "--indexer", "fast", "-j", "1"]
    how += ["--block", "40", "--seconds", "2", "--sample", "10"]
    program = [sys.executable, "-P", "-c", "from tuner.cli import main; main()", "run"]
    first = [*program, url, "-g", simulated.geometry, "-p", simulated.cell, "-o", "night", *how]
    again = [*program, "--resume", "night", "--idle", "3", "-j", "1"]
    path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}

    def until(kind: str, n: int = 1) -> None:
        ends = time.monotonic() + 300
        while time.monotonic() < ends:
            log = tmp_path / "night" / LOG
            lines = log.read_text().splitlines()[:-1] if log.exists() else []
            if sum(json.loads(line)["kind"] == kind for line in lines) >= n:
                return
            time.sleep(0.1)
        raise AssertionError(f"no {kind}")

    with Player(parse_address(url)) as player:
        playing = threading.Thread(
            target=player.play,
            args=(messages * 10_000, 50.0),
            kwargs={"patience": 300.0, "stopped": stop.is_set},
        )
        playing.start()
        try:
            with subprocess.Popen(list(map(str, first)), cwd=tmp_path, env=environment) as loop:
                until("tuning")
                time.sleep(1)
                os.kill(loop.pid, signal.SIGKILL)
            n = len(read_events(tmp_path / "night" / LOG))
            with subprocess.Popen(list(map(str, again)), cwd=tmp_path, env=environment) as loop:
                until("tuned")
                until("block", n + 3)
                stop.set()
                assert loop.wait(120) == 0
        finally:
            stop.set()
            playing.join()
    events = read_events(tmp_path / "night" / LOG)
    assert [e.outcome for e in events if isinstance(e, Tuned)] == ["first"]
    blocks = [e for e in events if isinstance(e, Block)]
    assert blocks[-1].used == 1 and max(b.n_indexed for b in blocks) > 0
    assert events[-1].kind == "ended" and "3 s" in events[-1].why
    for block in blocks:
        with h5py.File(tmp_path / "night" / block.hits) as file:
            assert len(file["/sfx_tuner/frames/n_peaks"]) == block.n_frames
    assert (tmp_path / "night" / "recommended.toml").is_file()
