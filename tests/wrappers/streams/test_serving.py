"""Hits out again: our own receiver and the real indexamajig get what the file of hits has."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time

import h5py
import hdf5plugin
import msgpack
import numpy as np
import pytest
import zmq

from envs.simulation.simulator import demo_experiment, simulate_run
from tests.ports import free_port
from tuner.cli.live import serving, wait_until_served
from wrappers.crystfel.messages import message_geometry_text
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.run import Run
from wrappers.indexing import Pattern
from wrappers.peakfinding.finders import NamedFinder
from wrappers.reduction import reduce_run
from wrappers.reduction.placed import Placed
from wrappers.settings import Settings
from wrappers.streams.serving import HitServer, serving_endpoint

SETTINGS = Settings(min_snr=4.5, threshold=25.0, min_pix_count=2, max_pix_count=50, min_peaks=10)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("served") / "run", 24)


@pytest.fixture(scope="module")
def placed(simulated) -> list[Placed]:
    """The run's frames as they were searched, hits or not."""
    geometry = Geometry.read(simulated.geometry)
    found = []
    with Run.open(simulated.data, geometry) as run:
        finder = NamedFinder(geometry)
        for frame in run:
            peaks = finder.find(frame, SETTINGS)
            pattern = Pattern(peaks, frame.photon_energy, frame.camera_length)
            found.append(Placed(frame, pattern, len(peaks) >= SETTINGS.min_peaks))
    return found


def asking(port: int, context: zmq.Context) -> zmq.Socket:
    socket = context.socket(zmq.REQ)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVTIMEO, 5000)
    socket.connect(f"tcp://127.0.0.1:{port}")
    return socket


def test_each_hit_goes_to_one_who_asks(placed):
    port = free_port()
    hits = [each for each in placed if each.is_hit]
    assert 3 <= len(hits) < len(placed)
    with HitServer(f"tcp://127.0.0.1:{port}") as server, zmq.Context() as context:
        with asking(port, context) as gone:
            gone.send(b"next")  # asks, and goes before there is a hit
            time.sleep(0.2)
        time.sleep(0.2)  # what is sent before its end is noticed is lost
        with asking(port, context) as one, asking(port, context) as two:
            one.send(b"next")
            two.send(b"next")
            for each in placed:
                server.offer(each)
            got = {}
            either = zmq.Poller()
            either.register(one, zmq.POLLIN)
            either.register(two, zmq.POLLIN)
            for _ in hits:
                socket, _ = either.poll(5000)[0]
                document = msgpack.unpackb(socket.recv())
                got[document["event"]] = document
                socket.send(b"next")
            wait_until_served(server, idle=1.0)
            assert server.n_waiting == 0 and server.counts.dropped == 0
    assert server.counts.taken == server.counts.offered == len(hits)
    for hit in hits:
        document = got[hit.frame.event]
        image = np.frombuffer(document["image"]["data"], "<f4").reshape(document["image"]["shape"])
        np.testing.assert_array_equal(np.isnan(image), ~hit.frame.mask)
        np.testing.assert_array_equal(image[hit.frame.mask], hit.frame.data[hit.frame.mask])
        assert document["clen_mm"] == pytest.approx(1e3 * hit.pattern.camera_length)
        assert len(document["peaks"]["fs"]) == len(hit.pattern.peaks)


def test_what_nobody_takes_is_dropped_and_nobody_waits(placed):
    hits = [each for each in placed if each.is_hit]
    size = hits[0].frame.data.nbytes
    with HitServer(f"tcp://127.0.0.1:{free_port()}", most=3 * size) as server:
        started = time.monotonic()
        for _ in range(200):
            server.offer(hits[0])
        assert time.monotonic() - started < 1
        assert server.n_waiting == 3
        assert (server.counts.offered, server.counts.dropped) == (200, 197)


def test_where_to_listen():
    assert serving_endpoint("tcp://127.0.0.1:5555") == ("tcp://127.0.0.1:5555", True)
    assert serving_endpoint("tcp://0.0.0.0:5555") == ("tcp://0.0.0.0:5555", False)
    for name in ("5555", "tcp://127.0.0.1", "tcp://127.0.0.1:0", "http://127.0.0.1:80"):
        with pytest.raises(InputError, match="no address to listen at"):
            serving_endpoint(name)
    port = free_port()
    with (
        HitServer(f"tcp://127.0.0.1:{port}"),
        pytest.raises(InputError, match="cannot be listened at"),
    ):
        HitServer(f"tcp://127.0.0.1:{port}")


def test_hits_whose_file_is_gone_are_dropped_and_said(simulated, placed, tmp_path):
    geometry, port = Geometry.read(simulated.geometry), free_port()
    with Run.open(simulated.data, geometry) as run:
        reduction = reduce_run(run, NamedFinder(geometry), SETTINGS, tmp_path / "hits.cxi")
    with HitServer(f"tcp://127.0.0.1:{port}") as server, zmq.Context() as context:
        server.offer_file(reduction)
        reduction.hits.unlink()
        with asking(port, context) as one:
            one.send(b"next")
            wait_until_served(server, idle=5.0)
            assert server.answers and server.n_waiting == 0
            assert server.counts.dropped == server.counts.offered == reduction.n_hits
            assert "hits.cxi" in server.counts.reason
            server.offer(next(each for each in placed if each.is_hit))
            assert "image" in msgpack.unpackb(one.recv())


def test_hits_that_nobody_asks_for_are_said_and_wait_no_longer_than_idle(
    simulated, placed, tmp_path, capfd
):
    hits = [each for each in placed if each.is_hit]
    geometry, address = Geometry.read(simulated.geometry), f"tcp://127.0.0.1:{free_port()}"
    with serving(address, tmp_path / "hits.cxi", geometry, [], False) as server:
        assert server is not None
        for each in hits:
            server.offer(each)
        wait_until_served(server, idle=0.3)
    said = capfd.readouterr().err
    assert f"{len(hits)} hits wait to be asked for; Ctrl-C or 0.3 s in which none is taken" in said
    assert f"0 of {len(hits)} hits served, {len(hits)} were not taken" in said


def test_the_geometry_of_served_hits_replaces_no_other_file(simulated, tmp_path):
    geometry, address = Geometry.read(simulated.geometry), f"tcp://127.0.0.1:{free_port()}"
    file = tmp_path / "hits.cxi.served.geom"

    def serve(force: bool) -> None:
        with serving(address, tmp_path / "hits.cxi", geometry, [], force):
            pass

    file.write_text("mine")
    with pytest.raises(InputError, match=r"served\.geom exists already"):
        serve(False)
    assert file.read_text() == "mine"
    serve(True)
    text = file.read_text()
    serve(False)  # what would be written is there
    assert file.read_text() == text != "mine"


@pytest.mark.crystfel
def test_crystfel_indexes_the_frames_that_it_indexes_from_the_file(
    simulated, tmp_path, indexamajig
):
    geometry, port = Geometry.read(simulated.geometry), free_port()
    with Run.open(simulated.data, geometry) as run:
        reduction = reduce_run(run, NamedFinder(geometry), SETTINGS, tmp_path / "hits.cxi")
    served = tmp_path / "served.geom"
    served.write_text(message_geometry_text(geometry, images=True))
    common = (
        *(indexamajig, "--no-revalidate", "-p", str(simulated.cell), "--indexing=asdf"),
        *("-j", "2"),
    )
    environment = {**os.environ, "HDF5_PLUGIN_PATH": hdf5plugin.PLUGIN_PATH}
    (tmp_path / "hits.lst").write_text(f"{reduction.hits}\n")
    subprocess.run(
        [
            *(*common, "-i", str(tmp_path / "hits.lst"), "--peaks=cxi"),
            *("-g", str(reduction.geometry), "-o", str(tmp_path / "file.stream")),
        ],
        check=True,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
    )
    with HitServer(f"tcp://127.0.0.1:{port}") as server:
        server.offer_file(reduction)
        program = subprocess.Popen(
            [
                *(*common, f"--zmq-input=tcp://127.0.0.1:{port}", "--zmq-request=next"),
                *("--data-format=msgpack", "--peaks=msgpack", "--copy-header=event"),
                *("-g", str(served), "-o", str(tmp_path / "live.stream")),
            ],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                chunks = (
                    (tmp_path / "live.stream").read_text().count("End chunk")
                    if (tmp_path / "live.stream").exists()
                    else 0
                )
                if chunks == reduction.n_hits:
                    break
                time.sleep(0.1)
        finally:
            program.send_signal(signal.SIGUSR1)
            program.wait(20)
    with h5py.File(reduction.hits) as file:
        events = file["/entry_1/result_1/sourceEvent"].asstr()[()]
    of_file = {events[int(n)] for n in indexed(tmp_path / "file.stream", r"Event: //(\d+)")}
    of_stream = indexed(tmp_path / "live.stream", r"header/str/event = (\S+)")
    assert len(of_file) >= 3
    assert set(of_stream) == of_file


def indexed(stream, pattern: str) -> list[str]:
    """Return what stands in the chunks of a stream that have a crystal."""
    chunks = stream.read_text().split("Begin chunk")[1:]
    return [re.search(pattern, chunk)[1] for chunk in chunks if "Begin crystal" in chunk]
