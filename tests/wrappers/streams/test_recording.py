"""A stream from its sender to a file: the same frames, the same peaks, and nobody waits."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest
import zmq

from envs.simulation.simulator import demo_experiment, simulate_run
from tests.array_source import ArraySource
from tests.geometries import geometry_text, panel_text
from tests.ports import free_port
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import Header
from wrappers.errors import InputError, UnreadableError
from wrappers.frames.frame import Frame
from wrappers.frames.run import Run
from wrappers.peakfinding.finders import NamedFinder
from wrappers.settings import Settings
from wrappers.streams.arriving import StreamFrames
from wrappers.streams.dectris import encode_image, encode_start
from wrappers.streams.frames import FrameMaker
from wrappers.streams.messages import SeriesStart
from wrappers.streams.player import Player, messages_of
from wrappers.streams.protocols import is_stream, parse_address
from wrappers.streams.receiver import Counts
from wrappers.streams.recording import record

SETTINGS = Settings(min_snr=4.5, threshold=25.0, min_pix_count=2, max_pix_count=50)


@pytest.fixture
def address():
    """An address of this machine that nobody else listens at."""
    return parse_address(f"dectris+tcp://127.0.0.1:{free_port()}")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return simulate_run(demo_experiment(seed=2), tmp_path_factory.mktemp("stream") / "run", 8)


def small(tmp_path, dtype: str, n: int = 5) -> ArraySource:
    """Frames of 40 x 60 pixels, some without a value."""
    (tmp_path / "small.geom").write_text(geometry_text(panel_text("a", 60, 40, (-30, -20))))
    geometry = Geometry.read(tmp_path / "small.geom")
    rng = np.random.default_rng(1)
    frames = []
    for number in range(n):
        data = rng.poisson(20, (40, 60)).astype(dtype)
        for ss, fs in rng.integers(8, 32, (4, 2)):
            data[ss : ss + 2, fs : fs + 2] = 180 + 10 * number
        data[5, number] = np.iinfo(dtype).max
        frames.append(Frame(data, np.ones((40, 60), bool), 9300.0, 0.1, "x", f"//{number}"))
    return ArraySource(geometry, frames)


def arriving(address, run, size: int = 100) -> StreamFrames:
    return StreamFrames(address, run.geometry, size)


def played(address, run, path, algorithm="bslz4", n=None, **options):
    with arriving(address, run) as frames, Player(address) as player:
        messages = messages_of(run, address.scheme, algorithm)
        thread = threading.Thread(target=player.play, args=(messages, 50.0))
        thread.start()
        try:
            return record(frames, path, n or len(run), idle=5.0, **options)
        finally:
            thread.join()


def test_peaks_of_the_recording_are_those_of_the_file(simulated, address, tmp_path):
    geometry = Geometry.read(simulated.geometry)
    settings = SETTINGS.replace(min_res=10)
    with Run.open(simulated.data, geometry) as run:
        found = played(address, run, tmp_path / "frames.cxi")
        again = Geometry.read(found.geometry)
        with Run.open(found.data, again) as recorded:
            assert len(recorded) == len(run) == found.n_frames
            finders, n = (NamedFinder(geometry), NamedFinder(again)), 0
            for before, after in zip(run, recorded, strict=True):
                np.testing.assert_array_equal(after.data, before.data)
                np.testing.assert_array_equal(after.mask, before.mask)
                # The protocol gives a series one energy, not each image its own.
                assert after.photon_energy == run.photon_energy(0)
                assert after.camera_length == pytest.approx(before.camera_length, rel=1e-12)
                peaks = [
                    finder.find(frame, settings)
                    for finder, frame in zip(finders, (before, after), strict=True)
                ]
                for name in ("fs", "ss", "panel", "intensity", "snr", "n_pixels"):
                    np.testing.assert_array_equal(*(getattr(each, name) for each in peaks))
                n += len(peaks[0])
            assert n > 50
    with h5py.File(found.data) as file:
        names = [each.decode() for each in file["/entry_1/result_1/sourceEvent"]]
    assert names == [f"1//{i}" for i in range(8)]


@pytest.mark.parametrize("algorithm", ["", "lz4", "bslz4", "bszstd"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_each_type_and_compression_has_the_peaks_of_the_frames(address, tmp_path, dtype, algorithm):
    """And pixels without a value are masked."""
    run = small(tmp_path, dtype)
    found = played(address, run, tmp_path / "frames.cxi", algorithm)
    again = Geometry.read(found.geometry)
    finders = NamedFinder(run.geometry), NamedFinder(again)
    with Run.open(found.data, again) as recorded:
        for number, frame in enumerate(recorded):
            sent = run[number]
            sent = replace(sent, mask=sent.data != np.iinfo(dtype).max)
            peaks = [
                finder.find(each, SETTINGS)
                for finder, each in zip(finders, (sent, frame), strict=True)
            ]
            assert len(peaks[0]) >= 2
            for name in ("fs", "ss", "panel", "intensity", "snr", "n_pixels"):
                np.testing.assert_array_equal(*(getattr(each, name) for each in peaks))
            np.testing.assert_array_equal(frame.data, run[number].data)
            assert frame.data.dtype == np.dtype(dtype)
            assert not frame.mask[5, number] and (~frame.mask).sum() == 1


@pytest.mark.parametrize("scheme", ["jungfraujoch", "karabo", "crystfel"])
def test_every_protocol_can_be_played(tmp_path, scheme):
    run = small(tmp_path, "u2", n=6)
    address = parse_address(f"{scheme}+tcp://127.0.0.1:{free_port()}")
    found = played(address, run, tmp_path / "frames.cxi", n=4)
    sent = [frame.data for frame in (run[i] for i in range(6))]
    with Run.open(found.data, Geometry.read(found.geometry)) as recorded:
        for frame in recorded:
            assert any(np.array_equal(frame.data, each) for each in sent)


@pytest.mark.parametrize("scheme", ["karabo", "crystfel"])
@pytest.mark.parametrize("form", ["hdf5", "cxi"])
def test_energy_and_distance_come_with_the_images(tmp_path, scheme, form):
    """What the geometry of the simulation takes from its file is in the stream, too."""
    made = simulate_run(demo_experiment(seed=1), tmp_path / "run", 3, form)
    address = parse_address(f"{scheme}+tcp://127.0.0.1:{free_port()}")
    with Run.open(made.data, Geometry.read(made.geometry)) as run:
        assert isinstance(run.geometry.photon_energy, Header)
        found = played(address, run, tmp_path / "frames.cxi")
        with Run.open(found.data, Geometry.read(found.geometry)) as recorded:
            pairs = [(a, b) for a, b in zip(run, recorded, strict=True)]
            for sent, came in pairs:
                assert came.photon_energy == pytest.approx(sent.photon_energy, rel=1e-9)
                assert came.camera_length == pytest.approx(sent.camera_length, rel=1e-9)


def test_a_preview_is_subscribed_to(tmp_path):
    run, port = small(tmp_path, "u2", n=3), free_port()
    address = parse_address(f"jungfraujoch+tcp://127.0.0.1:{port}?subscribe=")
    messages, ended = list(messages_of(run)), threading.Event()

    def publish() -> None:
        with zmq.Context() as context, context.socket(zmq.PUB) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind(f"tcp://127.0.0.1:{port}")
            while not ended.is_set():
                for parts in messages:
                    socket.send_multipart(parts)
                    time.sleep(0.005)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        with arriving(address, run) as frames:
            found = record(frames, tmp_path / "frames.cxi", 5, idle=5.0)
    finally:
        ended.set()
        thread.join()
    assert found.n_frames == 5 and frames.counts.damaged == 0


def test_a_slow_reader_drops_the_oldest_and_the_sender_never_waits(address, tmp_path):
    run = small(tmp_path, "u2", n=60)
    with arriving(address, run, 10) as frames, Player(address) as player:
        started = time.monotonic()
        player.play(messages_of(run), 1000.0)
        deadline = time.monotonic() + 5
        while frames.counts.received < 60 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert frames.counts.received == 60 and frames.counts.dropped == 50
        assert player.n_dropped == 0 and time.monotonic() - started < 5
        found = record(frames, tmp_path / "last.cxi", 10, idle=1.0)
    with Run.open(found.data, Geometry.read(found.geometry)) as recorded:
        np.testing.assert_array_equal(recorded[0].data, run[50].data)
        np.testing.assert_array_equal(recorded[9].data, run[59].data)


def test_damaged_messages_are_counted_and_the_rest_is_taken(address, tmp_path):
    run = small(tmp_path, "u2", n=4)
    messages = list(messages_of(run))
    messages[2:2] = [[b"garbage"], [messages[2][0][:50]]]
    with arriving(address, run, 10) as frames, Player(address) as player:
        player.play(messages, 200.0)
        found = record(frames, tmp_path / "f.cxi", 4, idle=5.0)
        assert found.n_frames == 4
        assert frames.counts.damaged == 2 and frames.counts.reason


def test_why_messages_are_damaged_is_said_while_frames_come(address, tmp_path):
    run = small(tmp_path, "u2", n=4)
    messages = list(messages_of(run))
    messages[2:2] = [[b"garbage"], [b"rubbish"], [messages[2][0][:50]]] * 3
    with arriving(address, run, 10) as frames, Player(address) as player:
        player.play(messages, 200.0)
        found = record(frames, tmp_path / "f.cxi", 4, idle=5.0)
        assert frames.counts.damaged == 9
    assert found.notes and len({*found.notes}) == len(found.notes) <= 3
    assert all(note.startswith("left out as damaged: ") for note in found.notes)
    many = Counts()
    for number in range(1000):
        many.damage(f"byte {number} is none of {'x' * number}")
    assert many.damaged == 1000
    assert len(many.reasons) <= 50 and max(map(len, many.reasons)) < 1000
    many = Counts()
    for number in range(1000):
        many.damage(f"byte {number} is none")
    assert many.reasons == ["byte 0 is none"], "a number does not make a reason a new one"


def test_of_a_geometry_of_our_own_nothing_is_odd(address, tmp_path):
    run = small(tmp_path, "u2", n=4)
    found = played(address, run, tmp_path / "frames.cxi")
    own = Geometry.read(found.geometry)
    assert FrameMaker(address.name, own).notes == []
    # A mask in the file that is of nobody's recording is said to be none here.
    other = tmp_path / "other.geom"
    other.write_text(found.geometry.read_text())
    (said,) = FrameMaker(address.name, Geometry.read(other)).notes
    assert "takes a mask from the data file, which a stream does not have" in said


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (SeriesStart("1", (30, 60)), "have 30 x 60 pixels"),
        (SeriesStart("1", (40, 60), pixel_size=172e-6), "172 µm wide"),
    ],
)
def test_another_detector_is_refused(address, tmp_path, start, words):
    run = small(tmp_path, "u2")
    with arriving(address, run, 10) as frames, Player(address) as player:
        player.play([[encode_start(start, np.dtype("u2"))]], 100.0)
        with pytest.raises(InputError, match=words):
            record(frames, tmp_path / "f.cxi", 4, idle=5.0)
    assert not (tmp_path / "f.cxi").exists()


def from_the_stream(tmp_path, **given) -> Geometry:
    """A geometry that takes energy and distance from the stream, unless they are given."""
    top = {"photon_energy": "/energy eV", "clen": "/distance m", **given}
    path = tmp_path / "from.geom"
    path.write_text(geometry_text(panel_text("a", 60, 40, (-30, -20)), **top))
    return Geometry.read(path)


def series(*values: tuple[float | None, float | None], dtype: str = "u2") -> list[list[bytes]]:
    """Series of two images each, of another energy and distance."""
    messages = []
    for number, (energy, distance) in enumerate(values):
        start = SeriesStart(f"{number}", (40, 60), energy, distance, 1e-4)
        messages.append([encode_start(start, np.dtype(dtype))])
        for image in range(2):
            data = np.full((40, 60), number, dtype)
            messages.append([encode_image(f"{number}", image, data)])
    return messages


def test_frames_of_another_series_are_not_put_together(address, tmp_path):
    geometry = from_the_stream(tmp_path)
    messages = series((9000.0, 0.1), (12000.0, 0.1), (9000.0, 0.1), (9000.0, 0.2))
    with StreamFrames(address, geometry, 10) as frames, Player(address) as player:
        player.play(messages, 200.0)
        found = record(frames, tmp_path / "f.cxi", 8, idle=0.5)
    assert found.n_frames == 4 and frames.counts.other == 4
    assert "another series begins" in found.notes[0] and "left out" in found.notes[0]
    assert "with 12000 eV instead of 9000 eV" in found.notes[0]
    assert "with 0.2 m instead of 0.1 m" in found.notes[1]


@pytest.mark.parametrize(
    ("given", "values", "n_frames"),
    [
        # What the geometry says by itself holds for any series.
        ({"photon_energy": "9300 eV", "clen": "0.1 m"}, [(9300, 0.1), (12000, 0.3)], 4),
        ({"photon_energy": "9300 eV"}, [(9300, 0.1), (12000, 0.1), (9300, 0.3)], 4),
        ({"clen": "0.1 m"}, [(9300, 0.1), (9300, 0.3), (12000, 0.1)], 4),
        # A series that does not say it has no frames, and is no other one than what follows.
        ({}, [(9300, 0.1), (None, 0.1), (9300, 0.1)], 4),
        ({}, [(9300, 0.1), (None, 0.1), (12000, 0.1)], 2),
    ],
)
def test_series_differ_in_what_is_taken_from_them(address, tmp_path, given, values, n_frames):
    geometry = from_the_stream(tmp_path, **given)
    with StreamFrames(address, geometry, 10) as frames, Player(address) as player:
        player.play(series(*values), 200.0)
        found = record(frames, tmp_path / "f.cxi", 6, idle=0.5)
    assert found.n_frames == n_frames
    assert frames.counts.other == 2 * len(values) - n_frames


def test_nothing_that_comes_is_a_sentence(address, tmp_path):
    run = small(tmp_path, "u2")
    with (
        arriving(address, run) as frames,
        pytest.raises(UnreadableError, match="no frame came from dectris"),
    ):
        record(frames, tmp_path / "f.cxi", 4, idle=0.3)
    assert list(tmp_path.glob("*.cxi*")) == []


def test_what_the_stream_says_otherwise_is_noted(address, tmp_path):
    run = small(tmp_path, "u2", n=2)
    start = SeriesStart("1", (40, 60), 12000.0, 0.2, 1e-4)
    messages = [[encode_start(start, np.dtype("u2"))], [encode_image("1", 0, run[0].data)]]
    with arriving(address, run, 10) as frames, Player(address) as player:
        player.play(messages, 200.0)
        found = record(frames, tmp_path / "f.cxi", 1, idle=5.0)
    assert "the stream says 12000 eV" in found.notes[0] and "0.2 m away" in found.notes[1]


@pytest.mark.parametrize(
    "name",
    ["dectris+tcp://host", "dectris+tcp://host:0", "dectris+tcp://a b:1", "dectris+tcp://x:99999"],
)
def test_addresses_that_are_none_are_one_sentence(name):
    assert is_stream(name)
    with pytest.raises(InputError, match="no address of a stream"):
        parse_address(name)
    with pytest.raises(InputError, match="no stream protocol 'dektris'"):
        parse_address("dektris+tcp://host:31001")
