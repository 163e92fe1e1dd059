"""How a night ends, and that no frame is lost on the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.tuner.closed_loop.test_loop import begun, found_in
from tuner.closed_loop.events import Block, Ended, Noted, Tuned, Tuning, append_event, read_events
from tuner.closed_loop.loop import LOG, Loop
from tuner.closed_loop.rules import Rules
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.streams.player import Player, messages_of
from wrappers.streams.protocols import absolute, parse_address

GONE = ("--cell", "/nowhere.cell", "--indexer", "fast")
"""Of a session that fails at once."""
SOON = Rules(n_first_hits=1)


@pytest.fixture(scope="module")
def customary(simulated, tmp_path_factory) -> dict[str, int]:
    """Return the hits of all frames, in one block."""
    night = tmp_path_factory.mktemp("customary") / "night"
    with Loop(night, begun(simulated, size=30)) as loop:
        loop.run()
    return found_in(night)


@contextmanager
def played(simulated) -> Iterator[str]:
    """Play the run once, and yield where."""
    url, stop = f"dectris+tcp://127.0.0.1:{free_port()}", threading.Event()
    with Run.open(simulated.data, Geometry.read(simulated.geometry)) as run:
        messages = list(messages_of(run))
    with Player(parse_address(url)) as player:
        how = {"patience": 10.0, "stopped": stop.is_set}
        playing = threading.Thread(target=player.play, args=(messages, 300.0), kwargs=how)
        playing.start()
        try:
            yield url
        finally:
            stop.set()
            playing.join()


def searched(loop: Loop) -> list[tuple[int, int]]:
    blocks = [event for event in loop.events if isinstance(event, Block)]
    assert all(block.n_unreadable == 0 for block in blocks)
    ends = [block.first + block.n_frames for block in blocks]
    assert [block.first for block in blocks] == [0, *ends[:-1]]
    return [(block.first, block.n_frames) for block in blocks]


@pytest.mark.parametrize("size", [4, 7, 11])
@pytest.mark.parametrize("grows", [False, True])
def test_blocks_of_any_size_have_every_frame(simulated, customary, tmp_path, grows, size):
    """What is customary is seen on ten frames, more than a block may have."""
    source = f"growing+file://{simulated.data}?frames=30" if grows else None
    with Loop(tmp_path / "night", begun(simulated, source, size=size)) as loop:
        loop.run()
    assert sum(n for _, n in searched(loop)) == 30
    assert found_in(tmp_path / "night").keys() == customary.keys()


def test_a_stream_loses_no_frame_that_was_looked_at(simulated, customary, tmp_path):
    with played(simulated) as url:
        of_stream = begun(simulated, f"{url}?frames=30", size=4)
        with Loop(tmp_path / "night", of_stream, idle=10.0) as loop:
            loop.run()
    assert sum(n for _, n in searched(loop)) == 30
    assert len(found_in(tmp_path / "night")) == len(customary)


def test_a_block_that_ends_for_a_session_loses_nothing(simulated, tmp_path):
    with Loop(tmp_path / "night", begun(simulated, size=10, n_tuning=13)) as loop:
        loop.run()
    assert searched(loop)[:2] == [(0, 10), (10, 3)]
    assert sum(n for _, n in searched(loop)) == 30


def test_the_session_under_way_is_waited_for(simulated, tmp_path):
    source = f"growing+file://{simulated.data}"
    words = begun(simulated, source, n_tuning=15, tune=GONE, size=30)
    with Loop(tmp_path / "night", words, idle=0.2, rules=SOON) as loop:
        loop.run()
    outcomes = [event.outcome for event in loop.events if isinstance(event, Tuned)]
    assert outcomes == ["failed"] and isinstance(loop.events[-1], Ended)
    assert "no session of the night has found a set: tuning-1 has failed" in str(loop.failure)


def test_a_night_whose_frames_have_all_come_goes_on_with_its_session(simulated, tmp_path):
    night = tmp_path / "night"
    words = begun(simulated, f"growing+file://{simulated.data}?frames=12", n_tuning=12, tune=GONE)
    with Loop(night, words) as loop:
        loop._take(loop._search.next(loop.state, 1.0))
        loop._take(Tuning(1, (1,)))  # and the program is killed
    with Loop(night, None) as loop:
        loop.run()
    (tuned,) = (event for event in loop.events if isinstance(event, Tuned))
    assert tuned.outcome == "failed"
    times = [event.time for event in loop.events]
    assert times == sorted(times)


def test_what_becomes_of_a_session_is_told_when_it_is_known(simulated, tmp_path):
    night = tmp_path / "night"
    with Loop(night, begun(simulated, n_tuning=12, tune=GONE)) as loop:
        loop._take(loop._search.next(loop.state, 1.0))
        loop._take(Tuning(1, (1,)))
    old = Tuned(1, "nothing", "no frame indexes", time=1.0)
    append_event(night / "tuning-1.json", old)  # before the loop was killed
    with Loop(night, None) as loop:
        loop.run()
    told = next(event for event in loop.events if isinstance(event, Tuned))
    assert replace(told, time=1.0) == old and told.time > loop.events[0].time


def test_a_night_without_a_session_ends_in_an_error(cli, simulated):
    how = ("-g", simulated.geometry, "--idle", 0.1, "-j", 1)
    few = f"growing+file://{simulated.data}?frames=12"
    nowhere = "growing+file:///nowhere/run.h5"
    sources = (simulated.data, few, f"dectris+tcp://127.0.0.1:{free_port()}", nowhere)
    for place, source in enumerate(sources):
        code, _, err = cli("run", source, *how, "-o", f"night{place}")
        assert code == 4, source
        assert "no session of the night has found a set: no session was run" in err
    assert "/nowhere/run.h5: No such file" in err, "why no frame has come"


def test_a_stream_that_is_refused_leaves_nothing(cli, simulated):
    right = Path(simulated.geometry)
    wrong = right.with_name("wrong.geom")
    wrong.write_text(right.read_text().replace("res = ", "res = 1"))
    assert wrong.read_text() != right.read_text()
    with played(simulated) as url:
        how = ("-g", wrong, "-o", "night", "-j", 1)
        code, _, err = cli("run", f"{url}?frames=12", *how)
    assert code == 2 and "give the geometry of this detector" in err
    assert not Path("night").exists(), "the same command with the right geometry begins it"


def test_a_resumed_night_finds_its_files_from_any_folder(cli, simulated, monkeypatch):
    Path("raw.h5").symlink_to(simulated.data)
    how = ("-g", simulated.geometry, "-o", "night", "-j", 1)
    code, *_ = cli("run", "growing+file://raw.h5?frames=12", *how)
    assert code == 4
    found = read_events(Path("night") / LOG)[0].source
    assert found == f"growing+file://{Path('raw.h5').absolute()}?frames=12"
    url = "dectris+tcp://host:1?frames=3"
    assert absolute(url) == url and absolute(found) == found


def test_why_no_frame_comes_is_in_the_log(simulated, tmp_path):
    with Loop(tmp_path / "night", begun(simulated, "growing+file:///nowhere"), idle=0.1) as loop:
        loop.run()
    assert "/nowhere: No such file" in loop.events[-1].why
    assert any(isinstance(event, Noted) for event in loop.events)


@pytest.mark.slow
def test_last_checks_that_a_kill_has_ended_are_done(cli, simulated, tmp_path):
    words = ("-g", simulated.geometry, "-p", simulated.cell, "--indexer", "fast", "-j", 1)
    night = tmp_path / "night"
    with Loop(night, begun(simulated)) as loop:
        code, _, err = cli(
            *("tune", simulated.data, *words, "-o", night / "tuning-1"),
            *("--frames", 10, "--evaluations", 2, "--no-cell-check"),
        )
        assert code == 0, err
        (night / "tuning-1" / "report.html").unlink()
        loop._take(loop._search.next(loop.state, 1.0))
        for event in (Tuning(1, (1,)), Tuned(1, "first")):
            loop._take(event)
    append_event(night / "tuning-1.json", loop.events[-1])
    with Loop(night, None) as loop:
        loop.run()
    assert (night / "tuning-1" / "report.html").exists()
    assert not any(isinstance(event, Noted) for event in loop.events)
