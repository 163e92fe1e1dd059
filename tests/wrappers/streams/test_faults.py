"""What goes wrong with a sender is said in a sentence, and the rest of the frames is taken."""

from __future__ import annotations

import math
import random
import threading
import time

import h5py
import numpy as np
import pytest

from tests.array_source import ArraySource
from tests.geometries import geometry_text, panel_text
from tests.ports import free_port
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.cxi import SOURCE_EVENT
from wrappers.frames.frame import Frame
from wrappers.frames.run import Run
from wrappers.streams.arriving import StreamFrames
from wrappers.streams.dectris import encode_image, encode_start
from wrappers.streams.faults import Faults, damaged, parse_faults, segments
from wrappers.streams.messages import SeriesStart
from wrappers.streams.player import Player, Remembered, messages_of
from wrappers.streams.protocols import PROTOCOLS, parse_address
from wrappers.streams.recording import record

N = 40


@pytest.fixture
def run(tmp_path) -> ArraySource:
    """Frames whose pixels say which they are."""
    (tmp_path / "small.geom").write_text(geometry_text(panel_text("a", 60, 40, (-30, -20))))
    geometry = Geometry.read(tmp_path / "small.geom")
    rng = np.random.default_rng(1)
    frames = []
    for number in range(N):
        data = rng.poisson(20, (40, 60)).astype("u2")
        data[0, 0] = number
        frames.append(Frame(data, np.ones((40, 60), bool), 9300.0, 0.1, "x", f"//{number}"))
    return ArraySource(geometry, frames)


def received(run, scheme: str, faults: Faults, tmp_path, rate: float = 200.0):
    """Play the run with faults; return what was recorded, how it went, and which frames it has."""
    address = parse_address(f"{scheme}+tcp://127.0.0.1:{free_port()}")

    def play() -> None:
        rng = random.Random(3)
        for series, (piece, restarts) in enumerate(segments(run, faults)):
            messages = messages_of(piece, scheme, series=str(series))
            player.play(damaged(messages, faults, rng), rate, patience=20.0)
            if restarts:
                player.restart()

    with StreamFrames(address, run.geometry, 500) as frames, Player(address) as player:
        came = [math.inf]
        thread = threading.Thread(target=play)
        thread.start()
        try:
            found = record(
                *(frames, tmp_path / "frames.cxi", 10 * N),
                idle=60.0,
                # Nothing more comes; a busy machine takes its time for the first frame.
                enough=lambda: not thread.is_alive() and time.monotonic() - came[-1] > 0.8,
                on_frame=lambda frame: came.append(time.monotonic()),
            )
        finally:
            thread.join()
    numbers = []
    with Run.open(found.data, Geometry.read(found.geometry)) as recorded:
        for frame in recorded:
            number = int(frame.data[0, 0])
            np.testing.assert_array_equal(frame.data, run[number].data)
            numbers.append(number)
    assert len(numbers) == len(set(numbers))
    return found, frames.counts, numbers


@pytest.mark.parametrize("scheme", PROTOCOLS.names())
def test_whatever_goes_wrong_sound_frames_are_taken_and_the_rest_is_counted(run, tmp_path, scheme):
    _, counts, numbers = received(run, scheme, Faults(drop=0.1, corrupt=0.2, other=15), tmp_path)
    assert N // 2 <= len(numbers) < N
    assert counts.damaged >= 2 and counts.other >= 2
    said = str(counts)
    assert f"{counts.damaged} damaged" in said and f"{counts.other} of another series" in said


@pytest.mark.parametrize("scheme", ["dectris", "karabo", "hdf5"])
def test_a_sender_that_comes_back_is_heard(run, tmp_path, scheme):
    _, counts, numbers = received(run, scheme, Faults(restart=10), tmp_path, rate=40.0)
    # What waits in a sender's socket dies with it: a frame or two, not a series.
    assert len(numbers) >= N - 16 and {n // 10 for n in numbers} == {0, 1, 2, 3}
    assert counts.damaged == counts.other == 0
    assert counts.series == (4 if scheme == "dectris" else 0)


def test_another_detector_is_said_once(run, tmp_path):
    found, counts, numbers = received(run, "dectris", Faults(other=10), tmp_path)
    assert numbers == list(range(N)) and counts.other == 40
    assert len(found.notes) == 1
    assert "have 20 x 60 pixels" in found.notes[0] and "are left out" in found.notes[0]


@pytest.mark.parametrize(
    "word",
    [
        *("drop", "drop=2", "drop=x", "drop=nan", "restart=0", "restart=inf", "restart=nan"),
        *("other=1.5", "fire=1"),
    ],
)
def test_faults_that_are_none_are_one_sentence(word):
    with pytest.raises(InputError, match=f"--fault {word} is none: write drop=0.1"):
        parse_faults([word])
    assert parse_faults(["drop=0.5", "restart=7"]) == Faults(0.5, 0.0, 7, 0)


def test_a_run_that_is_played_again_goes_on_counting(run):
    pieces = [
        (len(piece), restarts)
        for loop in range(3)
        for piece, restarts in segments(run, Faults(restart=50, other=50), loop * N)
    ]
    first, second = [(40, False), (10, True), (10, False)], [(30, False), (20, True), (10, False)]
    assert pieces == [*first, *second, (20, False)]


def test_messages_are_remembered_if_they_are_not_too_large():
    made = [[b"start"], [b"12345", b"678"], [b"end"]]
    kept = Remembered(16)
    assert [*kept.of(iter(made))] == made == kept.messages and kept.is_whole
    small = Remembered(15)
    assert [*small.of(iter(made))] == made and small.messages == [] and not small.is_whole


def test_images_whose_series_begins_with_a_lost_message_are_left_out_and_counted(tmp_path):
    """Nobody knows their energy, distance and mask: those of the series before are not theirs."""
    text = geometry_text(
        panel_text("a", 60, 40, (-30, -20)), photon_energy="/energy eV", clen="/distance m"
    )
    (tmp_path / "small.geom").write_text(text)
    geometry = Geometry.read(tmp_path / "small.geom")
    data = np.arange(2400, dtype="u2").reshape(40, 60)
    address = parse_address(f"dectris+tcp://127.0.0.1:{free_port()}")
    messages = []
    for series, energy in (("1", 9000.0), ("2", 12000.0), ("3", 13000.0)):
        start = encode_start(SeriesStart(series, (40, 60), energy, 0.1), data.dtype)
        images = [encode_image(series, number, data) for number in range(3)]
        messages += [[start[:30] if series == "2" else start], *([each] for each in images)]
    with (
        StreamFrames(address, geometry, 50, every_series=True) as frames,
        Player(address) as player,
    ):
        player.play(messages, 200.0, patience=20.0)
        found = record(frames, tmp_path / "frames.cxi", 9, idle=1.0)
    with Run.open(found.data, Geometry.read(found.geometry)) as recorded:
        assert [frame.photon_energy for frame in recorded] == [9000.0] * 3 + [13000.0] * 3
    assert frames.counts.other == 3 and frames.counts.damaged == 1
    assert any("begins was lost" in note for note in found.notes)
    assert names_of(found) == [f"{series}//{number}" for series in "13" for number in range(3)]


def names_of(found) -> list[str]:
    with h5py.File(found.data) as file:
        return list(file[SOURCE_EVENT].asstr()[()])


def test_whoever_can_send_frames_from_elsewhere_is_said(run):
    for host, is_said in (("0.0.0.0", True), ("127.0.0.1", False)):
        address = parse_address(f"hdf5+tcp://{host}:{free_port()}")
        with StreamFrames(address, run.geometry, 5) as frames:
            assert any("can send frames" in note for note in frames.notes) == is_said
    elsewhere = parse_address("hdf5+tcp://192.0.2.1:5555?connect=")
    with StreamFrames(elsewhere, run.geometry, 5) as frames:
        assert frames.notes == []
