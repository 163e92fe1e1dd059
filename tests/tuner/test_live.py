"""Sessions and reductions on frames from a socket, through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import msgpack
import numpy as np
import pytest
import zmq

from envs.simulation.simulator import demo_experiment, simulate_run
from tests.ports import free_port
from tuner.cells.search import usual_settings
from tuner.cli.interrupt import ended_by_interrupt
from tuner.live.recording import with_recorded_frames
from tuner.session.request import Request
from wrappers.detector.geometry import Geometry
from wrappers.frames.opening import open_source
from wrappers.frames.run import Run
from wrappers.peakfinding.finders import NamedFinder
from wrappers.streams.dectris import encode_image, encode_start
from wrappers.streams.frames import FrameMaker
from wrappers.streams.messages import SeriesStart
from wrappers.streams.player import Player, messages_of
from wrappers.streams.protocols import parse_address


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("live") / "run", 24)


@contextmanager
def sender(simulated, rate: float = 100.0, loops: int = 1000) -> Iterator[str]:
    """Play a run in a loop at an address of this machine."""
    name = f"dectris+tcp://127.0.0.1:{free_port()}"
    stop = threading.Event()
    with Run.open(simulated.data, Geometry.read(simulated.geometry)) as run:
        messages = list(messages_of(run))
    with Player(parse_address(name)) as player:
        thread = threading.Thread(
            target=player.play,
            args=(messages * loops, rate),
            kwargs={"stopped": stop.is_set},
        )
        thread.start()
        try:
            yield name
        finally:
            stop.set()
            thread.join()


def test_a_session_keeps_the_frames_of_its_stream(cli, simulated):
    begin = ("-o", "session", "--indexer", "fast", "-j", 1, "--evaluations", 2, "--frames", 12)
    # Slowly: while the kernels are compiled nothing is to be dropped.
    with sender(simulated, rate=20.0) as url:
        code, _, err = cli("tune", url, "-g", simulated.geometry, "-p", simulated.cell, *begin)
    assert code == 0, err
    assert "24 of 24 frames" in err and f"of {url} are kept in session/frames.cxi" in err
    with h5py.File("session/frames.cxi") as file:
        assert file["/entry_1/data_1/data"].shape[0] == 24
        assert file["/entry_1/result_1/sourceFile"][0].decode() == url
    written = tomllib.loads(Path("session/recommended.toml").read_text())
    assert written["provenance"]["data"].endswith("session/frames.cxi")
    assert written["evidence"]["n_indexed"] >= 1
    # Its geometry holds for further frames: the numbers and the masks are those that were given.
    given, kept = Geometry.read(simulated.geometry), Geometry.read("session/frames.cxi.geom")
    assert kept.clen_header is None and kept.camera_length() == given.camera_length()
    masked = [FrameMaker(url, each).own_mask for each in (given, kept)]
    np.testing.assert_array_equal(*masked)
    assert not masked[0].all()
    # The stream is gone, and the session is not.
    code, _, err = cli("tune", "--resume", "session", "--evaluations", 3, "-j", 1)
    assert code == 0, err
    code, _, err = cli("report", "session", "-o", "again.html")
    assert code == 0, err


def test_a_reduction_takes_frames_as_they_come(cli, simulated):
    Path("recommended.toml").write_text(
        "[settings]\nmin_snr = 4.5\nthreshold = 25.0\nmin_pix_count = 2\nmax_pix_count = 50\n"
    )
    with sender(simulated, loops=2) as url:
        code, out, err = cli(
            *("apply", "recommended.toml", url, "-g", simulated.geometry, "-o", "hits"),
            *("--sample", 0, "--idle", 1, "--buffer", 25, "-j", 1, "--json"),
        )
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) >= 1 and all(Path(line["output"]).is_file() for line in lines)
    assert lines[-1]["n_received"] == 48
    assert sum(line["n_frames"] for line in lines) + lines[-1]["n_dropped"] == 48
    code, _, err = cli(
        *("apply", "recommended.toml", simulated.data, "-g", simulated.geometry),
        *("-o", "file.cxi", "--sample", 0, "-j", 1),
    )
    assert code == 0, err
    of_file, of_stream = {}, {}
    for path, found in (("file.cxi", of_file), (lines[0]["output"], of_stream)):
        with h5py.File(path) as file:
            peaks = file["/entry_1/result_1"]
            for event, n, x in zip(
                *(peaks[name][()] for name in ("sourceEvent", "nPeaks", "peakXPosRaw")), strict=True
            ):
                found[event.rpartition(b"//")[2]] = n, x[:n]
    assert of_stream and set(of_stream) <= set(of_file)
    for event, (n, x) in of_stream.items():
        assert n == of_file[event][0]
        np.testing.assert_array_equal(x, of_file[event][1])
    assert not list(Path("hits").glob("sfx-tuner-*"))


def test_the_frames_that_an_address_asks_for(cli, simulated):
    Path("recommended.toml").write_text(
        "[settings]\nmin_snr = 4.5\nthreshold = 25.0\nmin_pix_count = 2\nmax_pix_count = 50\n"
    )
    with sender(simulated) as url:
        options = ("-g", simulated.geometry, "-o", "hits", "--sample", 0, "-j", 2, "--block", 5)
        code, out, err = cli("apply", "recommended.toml", f"{url}?frames=13", *options)
        assert code == 0, err
        assert "in 13 frames" in out.splitlines()[-1]
        n_of_files = [line.partition(" in ")[2].split()[0] for line in out.splitlines()]
        assert n_of_files == ["5", "5", "3", "13"]
    code, _, err = cli("apply", "recommended.toml", simulated.data, *options)
    assert code == 2 and "leave out --block with one run: that is of a stream" in err
    code, _, err = cli("tune", f"{url}?frames=13", "-g", simulated.geometry, "-o", "s")
    assert code == 2 and "leave frames= out" in err and not Path("s").exists()


def test_frames_that_nobody_asked_for_are_not_called_unread(cli, simulated):
    Path("recommended.toml").write_text("[settings]\nthreshold = 25.0\n")
    url = f"growing+file://{simulated.data}?frames="
    options = ("-g", simulated.geometry, "--sample", 0, "-j", 1, "--idle", 0.5)
    code, out, err = cli("apply", "recommended.toml", f"{url}7", *options, "-o", "hits")
    assert code == 0 and "in 7 frames" in out
    assert "not read" not in err


def test_whatever_takes_a_run_takes_some_frames_of_a_stream(simulated):
    geometry = Geometry.read(simulated.geometry)
    with sender(simulated) as url:
        run = open_source(f"{url}?frames=5", geometry)
    with run, Run.open(simulated.data, geometry) as original:
        assert len(run) == 5
        assert run[0].file == url
        number = int(run[0].event.rpartition("//")[2])
        np.testing.assert_array_equal(run[0].data, original[number].data)


def test_nothing_listens_and_nothing_is_left(cli, simulated):
    url = f"dectris+tcp://127.0.0.1:{free_port()}"
    code, _, err = cli(
        *("apply", "recommended.toml", url, "-g", simulated.geometry, "-o", "hits"),
        *("--sample", 0, "--idle", 0.3),
    )
    assert code == 2 and "recommended.toml does not exist" in err
    Path("recommended.toml").write_text("[settings]\nthreshold = 25.0\n")
    code, _, err = cli(
        *("apply", "recommended.toml", url, "-g", simulated.geometry, "-o", "hits"),
        *("--sample", 0, "--idle", 0.3),
    )
    assert code == 3 and "no frame came from" in err
    assert list(Path("hits").iterdir()) == []


def test_what_is_played_needs_a_place(cli, simulated):
    code, _, err = cli("simulate", "--play", simulated.data, simulated.geometry)
    assert code == 2 and "add --stream URL" in err
    code, _, err = cli("simulate")
    assert code == 2 and "either -o" in err
    code, _, err = cli("simulate", "-o", "x", "--fault", "drop=0.1")
    assert code == 2 and "--fault is of what is played" in err and not Path("x").exists()
    code, _, err = cli("simulate", "-o", "x", "--stream", "kafka+tcp://127.0.0.1:1")
    assert code == 2 and "no stream protocol" in err and not Path("x").exists()


@contextmanager
def sending(messages, rate: float = 100.0) -> Iterator[str]:
    """Play messages once at an address of this machine."""
    name = f"dectris+tcp://127.0.0.1:{free_port()}"
    stop = threading.Event()
    with Player(parse_address(name)) as player:
        thread = threading.Thread(
            target=player.play, args=(messages, rate), kwargs={"stopped": stop.is_set}
        )
        thread.start()
        try:
            yield name
        finally:
            stop.set()
            thread.join()


def test_a_reduction_goes_on_with_another_series(cli, simulated):
    text = Path(simulated.geometry).read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("clen", "photon_energy"))]
    # Beside the given one, whose mask file it names.
    headers = Path(simulated.geometry).with_name("headers.geom")
    headers.write_text("\n".join(["photon_energy = /e eV", "clen = /d m", *lines]))
    numbers = Geometry.read(simulated.geometry)
    clen = numbers.camera_length()
    with Run.open(simulated.data, numbers) as run:
        images = [np.asarray(frame.data) for frame in run]
        energy, pixel = run.photon_energy(0), 1 / numbers.panels[0].res
    messages = []
    for name, distance in (("a", clen), ("b", 1.005 * clen)):
        start = SeriesStart(name, images[0].shape, energy, distance, pixel)
        messages.append([encode_start(start, images[0].dtype)])
        messages += [[encode_image(name, i, image)] for i, image in enumerate(images)]
    messages[30:30] = [[encode_image("b", 99, images[0][:99])]]
    # With bad pixels to be mapped first, too: the map is made of the first series.
    Path("recommended.toml").write_text(
        "[settings]\nmin_snr = 4.5\nthreshold = 25.0\nmin_pix_count = 2\nmax_pix_count = 50\n"
        "mask_hot_sigma = 8.0\n"
    )
    for geometry, n_of_files in ((headers, [24, 24]), (simulated.geometry, [48])):
        out = f"hits-{len(n_of_files)}"
        with sending(messages) as url:
            code, words, err = cli(
                *("apply", "recommended.toml", f"{url}?frames=48", "-g", geometry, "-o", out),
                *("--sample", 0, "-j", 2),
            )
        assert code == 0, err
        lines = [line for line in words.splitlines() if "hits in" in line]
        assert [int(line.partition(" in ")[2].split()[0]) for line in lines[:-1]] == n_of_files
        assert "in 48 frames, 1 of another series left out, " in lines[-1]
        assert ("another series begins" in err) is (geometry == headers)


def test_a_poor_run_is_waited_for_until_enough_of_it_are_hits(cli, simulated):
    geometry = Geometry.read(simulated.geometry)
    with Run.open(simulated.data, geometry) as run:
        start, *messages, _ = messages_of(run)
        finder, settings = NamedFinder(geometry), usual_settings(run, range(len(run)))
        n_peaks = [len(finder.find(frame, settings)) for frame in run]
    by_peaks = [messages[i] for i in np.argsort(n_peaks)]
    blank, hits = by_peaks[:10], by_peaks[-3:]
    request = Request(data="", geometry=simulated.geometry, cell=simulated.cell, n_frames=5)
    seen = []
    with sending([start, *blank, *blank[:9], *hits]) as url:
        found = with_recorded_frames(
            replace(request, data=url), Path("poor"), idle=3.0, on_seen=seen.append
        )
    # Ten frames are wanted and two that promise something; those come after nineteen frames.
    assert (seen[-1].n_frames, seen[-1].n_promising) == (21, 2)
    assert any(
        "10 of 10 frames, " in str(each) and ", 0 of 2 promising" in str(each) for each in seen
    )
    assert found.data == Path("poor/frames.cxi")
    # Ctrl-C: what has come is enough, and is kept.
    seen.clear()
    with sending([start, *messages]) as url:
        found = with_recorded_frames(
            replace(request, data=url, n_frames=500),
            Path("ended"),
            stopped=lambda: bool(seen) and seen[-1].n_frames >= 7,
            on_seen=seen.append,
        )
    with Run.open(found.data, Geometry.read(found.geometry)) as run:
        assert 7 <= len(run) <= 8


def test_ctrl_c_asks_first_and_stops_the_second_time():
    with ended_by_interrupt() as ended:
        assert not ended()
        os.kill(os.getpid(), signal.SIGINT)
        assert ended()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_keeps_what_was_reduced_and_the_sample_is_indexed(simulated, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("recommended.toml").write_text(
        "[settings]\nmin_snr = 4.5\nthreshold = 25.0\nmin_pix_count = 2\nmax_pix_count = 50\n"
    )
    with sender(simulated, rate=20.0) as url:
        program = subprocess.Popen(
            [
                *(sys.executable, "-c", "from tuner.cli import main; main()"),
                *("apply", "recommended.toml", url, "-g", str(simulated.geometry)),
                *("-p", str(simulated.cell), "--sample", "12", "-o", "hits", "-j", "1", "--json"),
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert program.stderr is not None
            assert any(line.startswith("reducing") for line in program.stderr)
            time.sleep(1.5)
            program.send_signal(signal.SIGINT)
            out, err = program.communicate(timeout=60)
        finally:
            program.kill()
    assert program.returncode == 0, err
    line, sample = map(json.loads, out.splitlines())
    assert line["n_frames"] >= 5 and Path(line["output"]).is_file()
    assert 1 <= sample["sample"]["n_frames"] <= 12 and "fast" in sample["sample"]["indexer"]


def test_a_run_is_served_while_it_is_reduced(cli, simulated):
    url = f"tcp://127.0.0.1:{free_port()}"
    Path("recommended.toml").write_text(
        "[settings]\nmin_snr = 4.5\nthreshold = 25.0\nmin_pix_count = 2\nmax_pix_count = 50\n"
    )
    asked = Served(url)
    code, _, err = cli(
        *("apply", "recommended.toml", simulated.data, "-g", simulated.geometry),
        *("-o", "hits.cxi", "--sample", 0, "-j", 1, "--serve", url),
    )
    asked.join()
    assert code == 0, err
    assert f"indexamajig --zmq-input={url}" in err and Path("hits.cxi.served.geom").is_file()
    with h5py.File("hits.cxi") as file:
        events = file["/entry_1/result_1/sourceEvent"].asstr()[()].tolist()
    assert f"{len(events)} of {len(events)} hits served" in err
    assert [message["event"] for message in asked.messages] == events
    code, _, err = cli(
        *("apply", "recommended.toml", simulated.data, "-g", simulated.geometry),
        *("-o", "again.cxi", "--sample", 0, "-j", 1, "--serve", "5555"),
    )
    assert code == 2 and "no address to listen at" in err


class Served(threading.Thread):
    """Asks for hits, as a worker of indexamajig does, until none has come for a while."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url, self.messages = url, []
        self.start()

    def run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(self._url)
            socket.send(b"next")
            while socket.poll(1000 if self.messages else 60_000):
                self.messages.append(msgpack.unpackb(socket.recv()))
                socket.send(b"next")
