"""Frames reduced as they arrive: what reduce_run makes of a file, only sooner."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

from envs.simulation.simulator import demo_experiment, simulate_run
from tests.geometries import geometry_text, panel_text
from tests.ports import free_port
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.frame import Frame, Mask
from wrappers.frames.run import Run
from wrappers.peakfinding.finders import NamedFinder
from wrappers.reduction import SettingsSet, reduce_run
from wrappers.settings import Settings
from wrappers.streams.arriving import ArrivingFrames, Late, StreamFrames
from wrappers.streams.dectris import encode_image, encode_start
from wrappers.streams.frames import OtherFrames
from wrappers.streams.messages import SeriesStart
from wrappers.streams.player import Player
from wrappers.streams.protocols import parse_address
from wrappers.streams.recording import record
from wrappers.streams.reducing import reduce_arriving

SETTINGS = Settings(min_snr=4.5, threshold=25.0, min_pix_count=2, max_pix_count=50, min_peaks=10)


class Arriving(ArrivingFrames):
    """Frames of a list, or what reading them raises; then none."""

    def __init__(self, geometry: Geometry, given: Sequence[Frame | Exception]) -> None:
        super().__init__("a list", geometry)
        self._given = iter(given)

    @property
    def own_mask(self) -> Mask:
        return self.geometry.static_mask()

    def next(self, timeout: float) -> Late | None:
        for each in self._given:
            return partial(self._read, partial(self._make, each))
        time.sleep(timeout)
        return None

    @staticmethod
    def _make(each: Frame | Exception) -> Frame:
        if isinstance(each, Exception):
            raise each
        return each

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("arriving") / "run", 24)


@pytest.fixture(scope="module")
def run(simulated):
    with Run.open(simulated.data, Geometry.read(simulated.geometry)) as run:
        yield run


def reduced(frames: ArrivingFrames, folder: Path, **options):
    given = {"batch": 1000, "seconds": 60.0, "idle": 0.2, **options}
    settings = given.pop("settings", lambda: SettingsSet(SETTINGS, "set"))
    clen = frames.geometry.camera_length()
    return list(reduce_arriving(frames, settings, folder, nominal_clen=clen, **given))


def contents(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        found = {}
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
        return found


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_file_is_that_of_a_run(run, tmp_path, jobs):
    asked = SettingsSet(SETTINGS, "set")
    whole = reduce_run(run, NamedFinder(run.geometry), asked, tmp_path / "run.cxi")
    decided = []
    (part,) = reduced(
        Arriving(run.geometry, list(run)), tmp_path, jobs=jobs, on_frame=decided.append
    )
    assert part.hits == tmp_path / "hits-00001.cxi"
    assert (part.n_frames, part.n_hits, part.sets) == (24, whole.n_hits, whole.sets)
    assert part.geometry.read_text() == whole.geometry.read_text()
    ours, theirs = contents(part.hits), contents(whole.hits)
    for name in theirs.keys() - {"sfx_tuner/summary"}:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert [each.frame.event for each in decided] == [frame.event for frame in run]
    assert sum(each.is_hit for each in decided) == whole.n_hits
    assert not list(tmp_path.glob(".*"))


def test_files_are_rolled_and_each_has_its_set(run, tmp_path):
    sets = iter([SettingsSet(SETTINGS.replace(min_snr=snr), f"{snr}") for snr in (4.5, 6, 8)])
    (tmp_path / "hits-00002.cxi").write_text("kept")
    parts = reduced(
        Arriving(run.geometry, list(run)), tmp_path, batch=10, settings=lambda: next(sets), jobs=2
    )
    assert [part.n_frames for part in parts] == [10, 10, 4]
    assert [part.sets[0].name for part in parts] == ["4.5", "6", "8"]
    assert [part.hits.name for part in parts] == [f"hits-0000{n}.cxi" for n in (1, 3, 4)]
    assert (tmp_path / "hits-00002.cxi").read_text() == "kept"


@pytest.mark.parametrize("jobs", [1, 3])
def test_another_series_begins_another_file(run, tmp_path, jobs):
    # Headers: of each series the stream says what its energy and distance are.
    text = run.geometry.path.read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("clen", "photon_energy"))]
    path = run.geometry.path.with_name("headers.geom")
    path.write_text("\n".join(["photon_energy = /e eV", "clen = /d m", *lines]))
    clen, messages = run.geometry.camera_length(), []
    for number, (energy, distance) in enumerate(
        [(9500.0, clen), (9500.0, clen), (9500.0, 1.01 * clen), (9600.0, 1.01 * clen)]
    ):
        start = SeriesStart(f"{number}", run.geometry.slab_shape, energy, distance)
        messages.append([encode_start(start, run[0].data.dtype)])
        messages += [[encode_image(f"{number}", i, np.asarray(run[i].data))] for i in range(6)]
    address = parse_address(f"dectris+tcp://127.0.0.1:{free_port()}")
    with (
        StreamFrames(address, Geometry.read(path), 50, every_series=True) as frames,
        Player(address) as player,
    ):
        player.play(messages, 500.0)
        parts = list(
            reduce_arriving(
                frames,
                lambda: SettingsSet(SETTINGS, "set"),
                tmp_path,
                nominal_clen=clen,
                batch=1000,
                seconds=60.0,
                idle=1.0,
                jobs=jobs,
            )
        )
        assert frames.counts.other == 0
        assert [note.partition(" with ")[2].partition(":")[0] for note in frames.notes] == [
            f"{1.01 * clen:.6g} m instead of {clen:.6g} m",
            "9600 eV instead of 9500 eV",
        ]
    assert [part.n_frames for part in parts] == [12, 6, 6]
    assert parts[0].n_hits == 2 * parts[1].n_hits > 0
    for part, energy, distance in zip(
        parts, (9500, 9500, 9600), (clen, 1.01 * clen, 1.01 * clen), strict=True
    ):
        with Run.open(part.hits, Geometry.read(part.geometry)) as hits:
            assert {round(hit.photon_energy, 3) for hit in hits} == {energy}
            assert all(hit.camera_length == pytest.approx(distance, rel=1e-9) for hit in hits)


def test_being_stopped_keeps_what_came(run, tmp_path):
    decided = []
    (part,) = reduced(
        Arriving(run.geometry, list(run)),
        tmp_path,
        stopped=lambda: len(decided) >= 7,
        on_frame=decided.append,
    )
    assert part.n_frames == 7


def test_a_slow_frame_is_no_silence_of_the_sender(run, tmp_path):
    decided = []

    def slow(placed) -> None:
        time.sleep(0.3 if not decided else 0)
        decided.append(placed)

    for jobs in (1, 2):
        decided.clear()
        frames = Arriving(run.geometry, list(run)[:8])
        (part,) = reduced(frames, tmp_path, jobs=jobs, idle=0.1, on_frame=slow)
        assert part.n_frames == 8
    found = record(
        Arriving(run.geometry, list(run)[:8]),
        tmp_path / "frames.cxi",
        9,
        idle=0.1,
        on_frame=lambda frame: time.sleep(0.15),
    )
    assert found.n_frames == 8


@pytest.mark.slow
def test_a_night_of_frames_is_not_kept_in_memory(tmp_path):
    """Over 100,000 frames: `experiments.stream_speed`."""
    n, side = 9000, 64
    path = tmp_path / "small.geom"
    path.write_text(geometry_text(panel_text("a", side, side, (-32, -32))))
    rng = np.random.default_rng(1)
    images = rng.poisson(10, (30, side, side)).astype("u2")
    for image in images[::3]:
        for ss, fs in itertools.product(range(9, side - 8, 12), repeat=2):
            image[ss : ss + 2, fs : fs + 2] += 500
    start = SeriesStart("1", (side, side), 9300.0, 0.1, 1e-4)
    packed = [[encode_image("1", i, image)] for i, image in enumerate(images)]
    messages = itertools.chain([[encode_start(start, images.dtype)]], itertools.cycle(packed))
    address = parse_address(f"dectris+tcp://127.0.0.1:{free_port()}")
    held: list[int] = []
    done, ended = itertools.count(1), threading.Event()

    def look(placed: object) -> None:
        if next(done) % (n // 3) == 0:
            held.append(psutil.Process().memory_info().rss)

    with StreamFrames(address, Geometry.read(path), 500) as frames, Player(address) as player:
        sender = threading.Thread(
            target=player.play, args=(messages, 3000.0), kwargs={"stopped": ended.is_set}
        )
        sender.start()
        try:
            parts = reduced(frames, tmp_path, jobs=2, n_frames=n, on_frame=look, idle=20.0)
        finally:
            ended.set()
            sender.join()
    assert sum(part.n_frames for part in parts) == n and sum(part.n_hits for part in parts) > n / 4
    # Frames that were kept would be 50 MB, hits 16.
    assert held[2] - held[0] < 8e6, held


def test_what_cannot_be_read_is_counted_and_the_rest_is_taken(run, tmp_path):
    given = [InputError("torn"), *list(run)[:5], OtherFrames("another detector"), run[5]]
    given.append(Frame(**{**vars(run[6]), "data": run[6].data.astype("f4")}))
    frames = Arriving(run.geometry, given)
    (part,) = reduced(frames, tmp_path, jobs=2)
    assert part.n_frames == 6
    assert (frames.counts.damaged, frames.counts.other) == (1, 2)
    assert frames.notes[0].startswith("another detector (")
    assert "are float32 now" in frames.notes[1]
    assert str(frames.counts) == ", 1 damaged, 2 of another series left out"


class LeavingOut(Arriving):
    """Leaves frames out before they are read, as a stream does with another detector's."""

    def next(self, timeout: float) -> Late | None:
        time.sleep(0.1)
        for each in self._given:
            if not isinstance(each, OtherFrames):
                return partial(self._read, partial(self._make, each))
            self._leave_out(each)
            break
        return None


def test_a_sender_whose_frames_are_left_out_is_not_silent(run, tmp_path):
    frames = LeavingOut(run.geometry, [run[0], *[OtherFrames("another detector")] * 8, run[1]])
    (part,) = reduced(frames, tmp_path, idle=0.4)
    assert part.n_frames == 2 and frames.counts.other == 8


def test_another_detector_from_the_beginning_is_refused(run, tmp_path):
    with pytest.raises(OtherFrames, match="another detector"):
        reduced(Arriving(run.geometry, [OtherFrames("another detector")]), tmp_path)
    assert list(tmp_path.iterdir()) == []
