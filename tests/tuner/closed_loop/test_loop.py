"""The closed loop on small simulated frames: a run in its order, and a stream."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.ports import free_port
from tuner.apply.by_kind import KINDS_FILE
from tuner.closed_loop import kinds
from tuner.closed_loop.events import (
    Begun,
    Block,
    Pairs,
    Tuned,
    Tuning,
    append_event,
    read_events,
)
from tuner.closed_loop.feed import TAKEN, Ahead, RunInOrder, Tap, block_file, forget_blocks
from tuner.closed_loop.loop import LOG, Loop
from tuner.closed_loop.measuring import NightSet
from tuner.closed_loop.page import night_content
from tuner.closed_loop.retuning import LastChecks, Order, Session
from tuner.closed_loop.rules import CUSTOMARY, State
from tuner.closed_loop.searching import BlockSearch, session_folder
from tuner.closed_loop.words import in_words
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frame_kinds import KINDS, tell_kinds
from wrappers.frames.opening import open_source
from wrappers.frames.run import Run
from wrappers.streams.dectris import encode_image, encode_start
from wrappers.streams.messages import SeriesStart
from wrappers.streams.player import Player, messages_of
from wrappers.streams.protocols import parse_address


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
        hits = hits_of(path)
        assert not found.keys() & hits.keys(), "no hit is there twice"
        found.update(hits)
    return found


def hits_of(path: Path) -> dict[str, int]:
    with h5py.File(path) as file:
        peaks = file["/entry_1/result_1"]
        events = peaks["sourceEvent"].asstr()[()]
        return dict(zip(events, peaks["nPeaks"][()].tolist(), strict=True))


def test_every_frame_is_searched_once_also_after_a_kill(simulated, tmp_path):
    with Loop(tmp_path / "whole", begun(simulated)) as loop:
        loop.run()
    blocks = [event for event in loop.events if isinstance(event, Block)]
    assert [(b.first, b.n_frames, b.used) for b in blocks] == [(0, 12, 0), (12, 12, 0), (24, 6, 0)]
    n_hits = sum(b.n_hits for b in blocks)
    assert loop.events[-2].text == (
        f"no session was run: {n_hits} hits in 30 frames, a session waits for 10 hits in 1000"
    )
    whole = found_in(tmp_path / "whole")
    assert len(whole) == sum(b.n_hits for b in blocks) > 5
    night = tmp_path / "killed"
    with Loop(night, begun(simulated)) as loop:
        loop._take(loop._search.next(loop.state, 1.0))
        loop._search.next(loop.state, 1.0)  # written, but not told
    assert len(list((night / "hits").glob("*.cxi"))) == 2
    own = night / "hits" / "merged.cxi"
    with h5py.File(own, "w"):
        pass
    with (night / LOG).open("a") as log:
        log.write('{"time": 1, "kind": "blo')
    with Loop(night, None) as loop:
        loop.run()
    own.unlink()  # it was not ours to remove
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
    (tmp_path / "full" / "hits").mkdir(parents=True)
    with pytest.raises(InputError, match="holds other files already, such as hits: name a new"):
        Loop(tmp_path / "full", begun(simulated))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / LOG).write_text('{"time": 1, "kind": "resumed"}\n')
    with pytest.raises(InputError, match="does not say how the night began"):
        Loop(tmp_path / "other", None)


def test_kept_frames_are_those_that_came(simulated, tmp_path):
    run = open_source(simulated.data, Geometry.read(simulated.geometry))
    path = block_file(tmp_path, 7)
    with Ahead(RunInOrder(run, 3)) as frames, Tap(frames, path) as tap:
        first = frames.look(2, 1.0, lambda: False)
        again = [late() for _ in range(4) if (late := tap.next(0)) is not None]
        assert [frame.event for frame in again] == ["//3", "//4", "//5", "//6"]
        assert again[0] is first[0]
        tap.finish()
        with Run.open(path, Geometry.read(f"{path}.geom")) as kept:
            for place, frame in enumerate(again):
                np.testing.assert_array_equal(kept[place].data, frame.data)
                np.testing.assert_array_equal(kept[place].mask, frame.mask)
        assert len(tap.levels) == 4 and min(tap.levels) > 0
    block_file(tmp_path, 8).write_text("")
    others = ["0001.h5", "000008.h5", "20261129.cxi", "2026_run7"]
    for name in others:
        (tmp_path / name).write_text("the user's own")
    forget_blocks(tmp_path, [7])
    ours = [path.name + end for end in ("", ".geom", ".mask.h5")]
    assert {each.name for each in tmp_path.iterdir()} == {*ours, *others}


def test_what_a_session_needs_is_said(cli, simulated):
    code, _, err = cli("run", simulated.data, "-o", "night")
    assert code == 2 and "-g FILE" in err
    code, _, err = cli("run", "--resume", "night", "--block", 20)
    assert code == 2 and "leave out --block" in err
    code, _, err = cli("run", "--resume", "night")
    assert code == 2 and "holds no night" in err


def test_a_night_that_cannot_begin_leaves_nothing(cli, simulated, tmp_path):
    night = tmp_path / "night"
    for wrong in (begun(simulated, "no.h5"), begun(simulated, geometry="no.geom")):
        with pytest.raises(InputError), Loop(night, wrong):
            pass
        assert not night.exists()
    words = ("run", simulated.data, "-g", simulated.geometry, "-o", night)
    for further, what in (
        (("-p", "no.cell"), "no.cell"),
        (("--set", "min_peeks=3"), "'min_peeks' is no setting"),
        (("--range", "min_snr=3"), "has no second end"),
    ):
        code, _, err = cli(*words, *further)
        assert code == 2 and what in err and not night.exists()


def test_ctrl_c_writes_the_block_under_way(cli, simulated, monkeypatch):
    asked = []

    @contextmanager
    def interrupted():
        yield lambda: len(asked) > 20 or asked.append(0)

    monkeypatch.setattr("tuner.cli.run.ended_by_interrupt", interrupted)
    words = ("-g", simulated.geometry, "-o", "night", "-j", 1)
    code, out, err = cli("run", simulated.data, *words)
    assert code == 130 and "stopped; sfx-tuner run --resume night goes on" in err
    events = read_events(Path("night") / LOG)
    (block,) = (event for event in events if isinstance(event, Block))
    assert block.n_frames > 0 and Path("night", block.hits).exists() and "hits in" in out
    assert events[-1].why == "it was stopped"


def test_files_that_grow_are_gone_on_with(simulated, tmp_path):
    night = tmp_path / "night"
    of_folder = begun(simulated, f"growing+file://{simulated.data}")
    with Loop(night, of_folder, idle=0.5) as loop:
        loop._take(loop._search.next(loop.state, 1.0))
        loop._search.next(loop.state, 1.0)  # written, but not told
    with Loop(night, None, idle=0.5) as loop:
        loop.run()
    blocks = [event for event in loop.events if isinstance(event, Block)]
    assert [(b.number, b.first, b.n_frames) for b in blocks] == [
        (1, 0, 12),
        (2, 12, 12),
        (3, 24, 6),
    ]
    with Loop(tmp_path / "whole", begun(simulated)) as loop:
        loop.run()
    assert found_in(night) == found_in(tmp_path / "whole")
    (night / TAKEN).unlink()
    with pytest.raises(InputError, match="taken a second time"), Loop(night, None):
        pass


def test_a_night_has_the_frames_that_its_address_asks_for(simulated, tmp_path):
    asked = begun(simulated, f"growing+file://{simulated.data}?frames=17")
    with Loop(tmp_path / "night", asked, idle=5.0) as loop:
        loop.run()
    assert [b.n_frames for b in loop.events if isinstance(b, Block)] == [12, 5]
    assert loop.events[-1].why == "the 17 asked-for frames of the run are done"


def test_a_night_goes_on_with_the_geometry_that_it_began_with(simulated, tmp_path):
    geometry, mask = tmp_path / "own.geom", tmp_path / "own.h5"
    with h5py.File(mask, "w") as file:
        file["/mask"] = np.zeros((512, 512), np.uint8)
    text = Path(simulated.geometry).read_text().replace("mask.h5", mask.name)
    geometry.write_text(text)
    night = tmp_path / "night"
    with Loop(night, begun(simulated, geometry=str(geometry))) as loop:
        loop._take(loop._search.next(loop.state, 1.0))
    log = (night / LOG).read_text()
    with h5py.File(mask, "a") as file:
        file["/mask"][0, 0] = 1
    for _ in range(2):  # the mask file is another one; and then the geometry
        with pytest.raises(InputError, match=f"{geometry}, or .*: put it back, or begin another n"):
            Loop(night, None).__enter__()
        assert (night / LOG).read_text() == log
        with h5py.File(mask, "a") as file:
            file["/mask"][0, 0] = 0
        geometry.write_text(text + "\n; detector_shift_x = 1 mm\n")
    # The log of an older version does not say what it was.
    first, _, rest = log.partition("\n")
    older = {key: value for key, value in json.loads(first).items() if "sha256" not in key}
    (night / LOG).write_text(f"{json.dumps(older)}\n{rest}")
    with Loop(night, None) as loop:
        loop.run()
    assert sum(event.n_frames for event in loop.events if isinstance(event, Block)) == 30


def test_a_night_says_why_messages_are_damaged(simulated, tmp_path):
    url = f"dectris+tcp://127.0.0.1:{free_port()}"
    with Run.open(simulated.data, Geometry.read(simulated.geometry)) as run:
        messages = list(messages_of(run))
    messages[5:5] = [[b"garbage"]] * 4
    with (
        Loop(tmp_path / "night", begun(simulated, url), idle=1.0) as loop,
        Player(parse_address(url)) as player,
    ):
        player.play(messages, 500.0)
        loop.run()
    said = [event.text for event in read_events(tmp_path / "night" / LOG) if event.kind == "note"]
    assert sum(text.startswith("left out as damaged: ") for text in said) == 1


def of_headers(geometry: Path) -> Path:
    """A geometry beside the given one that takes energy and distance from the stream."""
    lines = geometry.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("clen", "photon_energy"))]
    path = geometry.with_name("headers.geom")
    path.write_text("\n".join(["photon_energy = /e eV", "clen = /d m", *kept]))
    return path


def series_of(simulated, name: str, energy: float, distance: float) -> list[list[bytes]]:
    with Run.open(simulated.data, Geometry.read(simulated.geometry)) as run:
        images = [np.asarray(frame.data) for frame in run]
    start = SeriesStart(name, images[0].shape, energy, distance)
    messages = [[encode_start(start, images[0].dtype)]]
    return messages + [[encode_image(name, i, image)] for i, image in enumerate(images)]


def test_a_session_has_frames_of_one_series(simulated, tmp_path):
    night, url = tmp_path / "night", f"dectris+tcp://127.0.0.1:{free_port()}"
    asked = begun(simulated, url, geometry=str(of_headers(Path(simulated.geometry))), size=16)
    clen = Geometry.read(simulated.geometry).camera_length()
    values = [(9500.0, clen), (9500.0, clen), (9500.0, 1.005 * clen), (9700.0, 1.005 * clen)]
    series = [series_of(simulated, str(i), *each) for i, each in enumerate(values)]
    # The last one comes when the night goes on: what came before is in its log alone.
    for given, parts in ((asked, series[:3]), (None, series[3:])):
        with Loop(night, given, idle=0.5) as loop, Player(parse_address(url)) as player:
            player.play([message for part in parts for message in part], 500.0)
            loop.run()
    blocks = [event for event in read_events(night / LOG) if isinstance(event, Block)]
    assert [b.n_frames for b in blocks] == [16, 16, 16, 12, 16, 14, 16, 14]
    assert [b.number for b in blocks if b.begins_series] == [5, 7]
    assert [(b.photon_energy, b.camera_length) for b in blocks[3::2]] == [
        pytest.approx(each, rel=1e-6) for each in values[1:]
    ]
    assert [each.number for each in loop.state.kept] == [7, 8]
    files = sorted(path.name for path in (night / "frames").glob("*.cxi"))
    assert files == ["000007.cxi", "000008.cxi"]
    said = [e.text for e in read_events(night / LOG) if e.kind == "note" and "series" in e.text]
    assert [text.partition(", with ")[2].partition(":")[0] for text in said] == [
        f"{1.005 * clen:.6g} m instead of {clen:.6g} m",
        "9700 eV instead of 9500 eV",
    ]
    assert "; another series begins with it" in in_words(blocks[4])


def test_the_set_in_force_is_published_again(simulated, tmp_path, monkeypatch):
    append_event(tmp_path / LOG, begun(simulated))
    for event in (Block(1, 0, 30, 0, 20, 0), Tuning(1, (1,)), Tuned(1, "first")):
        append_event(tmp_path / LOG, event)
    published = []
    monkeypatch.setattr(Loop, "_publish", lambda loop: published.append(loop.state.used))
    with Loop(tmp_path, None) as loop:
        loop.run()
    assert published == [1]


def test_a_session_that_fails_does_not_end_the_night(tmp_path):
    session = object.__new__(Session)
    folder, outcome = str(tmp_path / "tuning-1"), str(tmp_path / "tuning-1.json")
    session.order = Order(1, "d.lst", "g.geom", folder, outcome, (), CUSTOMARY, None, 1, 0)
    session._log = tmp_path / "tuning-1.log"
    session._log.write_text("sfx-tuner: the indexer is gone\n")
    session._process = subprocess.Popen(["false"], stdin=subprocess.PIPE)
    session._process.wait()
    tuned = session.told()
    assert json.loads(Path(outcome).read_text())["outcome"] == "failed"
    assert tuned.outcome == "failed" and "tuning-1 has failed: the indexer is" in in_words(tuned)
    later = replace(session.order, used=1, against="tuning-1", memory=4_000_000_000)
    assert later.arguments()[-2:] == ["--from", "tuning-1"] and "4000000KB" in later.arguments()
    for order in (session.order, later):
        assert order.arguments()[order.arguments().index("-g") + 1] == "g.geom"


def test_a_night_without_any_set_ends_in_an_error(cli, simulated, monkeypatch):
    def failing(session: Session) -> Tuned:
        return Tuned(session.order.number, outcome, "the indexer is gone")

    monkeypatch.setattr("tuner.closed_loop.loop.Session.told", failing)
    words = ("-g", simulated.geometry, "-p", simulated.cell, "--frames", 25, "--block", 10)
    Path("twice.lst").write_text(f"{simulated.data}\n" * 2)
    for outcome, expected in (("failed", 2), ("nothing", 4)):
        code, _, err = cli("run", "twice.lst", *words, "-o", outcome, "-j", 1)
        assert code == expected and "no session of the night has found a set" in err
        assert "the indexer is gone" in err
        sessions = [e for e in read_events(Path(outcome) / LOG) if isinstance(e, Tuning)]
        assert len(sessions) == 1


def test_a_session_that_is_known_goes_on_with_its_report(tmp_path):
    session = object.__new__(Session)
    folder, outcome = tmp_path / "tuning-1", tmp_path / "tuning-1.json"
    session.order = Order(1, "d.lst", "g.geom", str(folder), str(outcome), (), 0, None, 1, 0)
    session._log = tmp_path / "tuning-1.log"
    session._log.write_text("sfx-tuner: no frame shows the cell\n")
    session._process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(5)"], stdin=subprocess.PIPE
    )
    assert session.told() is None
    outcome.write_text(json.dumps({"number": 1, "outcome": "first", "kind": "tuned", "time": 1.0}))
    tuned = session.told()
    assert tuned.outcome == "first" and not session.is_over
    checks = LastChecks()
    checks.add(session, tuned)
    assert checks.under_way and checks.remarks() == []
    checks.close()
    assert not checks.under_way
    assert checks.remarks() == [
        "the frames of tuning-1 contradict the cell: no frame shows the cell"
    ]
    assert checks.remarks() == []


def test_a_proof_ends_though_nothing_can_be_indexed(simulated, tmp_path):
    notes = []
    state = State(phase="proving", used=2, before=1)
    with (
        Loop(tmp_path / "night", begun(simulated)) as loop,
        BlockSearch(
            *(tmp_path / "night", loop._frames, loop.begun), jobs=1, on_note=notes.append
        ) as search,
    ):
        search._sets = {1: NightSet(1), 2: NightSet(2)}  # whose cell is gone
        done = search.next(state, 1.0)
    assert done.pairs == Pairs(12, 0, 0) and "nothing is indexed" in notes[0]


def test_frames_are_told_by_the_first_session_s_kinds(simulated, tmp_path, monkeypatch):
    notes = []
    with Loop(tmp_path / "night", begun(simulated)) as loop:
        session = session_folder(tmp_path / "night", 1)
        session.mkdir()
        with open_source(simulated.data, loop._frames.geometry) as run:
            tell_kinds(run, range(len(run))).kinds.write(session / KINDS_FILE)
        state = State(phase="watching", used=CUSTOMARY, first=1)
        asked = (tmp_path / "night", loop._frames, loop.begun)
        with BlockSearch(*asked, jobs=1, on_note=notes.append) as search:
            done = search.next(state, 1.0)
            monkeypatch.setattr(kinds, "N_TOLD", 4)
            some = search.next(replace(state, next_block=2, next_frame=12), 1.0)
            (session / KINDS_FILE).write_text("{}")
            search._tellers.clear()
            none = search.next(replace(state, next_block=3, next_frame=24), 1.0)
    assert sum(done.kinds.values()) == 12 and {*done.kinds} <= {*KINDS}
    assert sum(some.kinds.values()) == 4
    assert none.kinds == {} and "frames are not told by kind" in notes[-1]
    with h5py.File(tmp_path / "night" / done.hits) as file:
        assert Counter(file["/sfx_tuner/frames/kind"].asstr()[()].tolist()) == done.kinds


def test_what_is_left_out_of_a_stream_is_said():
    block = Block(1, 0, 30, 0, 20, 0, received=1040, dropped=1000, damaged=3, other=7)
    assert "; 1,000 dropped, 3 damaged, 7 others so far" in in_words(block)
    content = night_content("night", [block], State())
    assert "damaged messages" in content and "frames not of the geometry" in content


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
