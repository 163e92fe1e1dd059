"""The free look: its design, and how it goes on after an interruption."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from envs.evaluators.live import LiveEvaluator
from envs.look import FRAMES_AT_ONCE, FrameLook, look_design, take_look, wide_frames
from envs.parameter_space import make_space
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, Note
from wrappers.frames.opening import open_source
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.peakfinding.peak_batch import FrameCounts
from wrappers.settings import Settings

KNOWN = {
    "background": (20.0, 60.0),
    "camera_length": 0.1,
    "pixel_size": 75e-6,
    "largest_radius": 700.0,
}
SETS = [Settings(min_snr=snr, min_pix_count=n) for snr in (4, 6) for n in (1, 2)]
FRAMES = [*range(0, 2 * FRAMES_AT_ONCE), 1000, 999]


def space(*tuned, **more):
    return make_space(tuned, **KNOWN, **more)


def test_a_design_is_a_grid_over_the_box():
    box = space("min_snr", "threshold", "min_pix_count", "clen")
    design = look_design(box)
    assert len(design) == len(set(design)) == 240
    for name, n in (("min_snr", 10), ("threshold", 6), ("min_pix_count", 4), ("clen", 1)):
        values = {getattr(each, name) for each in design}
        assert len(values) == n
        if n > 1:
            assert (min(values), max(values)) == (box[name].low, box[name].high)
    assert design == look_design(box)
    limits = [(each.min_snr, each.threshold) for each in design]
    assert sum(a != b for a, b in itertools.pairwise(limits)) == 59  # each pair once


@pytest.mark.parametrize(
    "tuned, more, n",
    [
        (("min_snr", "threshold"), {"fixed": {"min_pix_count": 3}}, 60),
        (("threshold", "clen"), {}, 6),
        (("clen",), {}, 1),
        (("min_snr", "threshold", "min_pix_count"), {"bounds": {"min_pix_count": (1, 7)}}, 240),
        (("min_snr", "threshold", "min_pix_count"), {"fixed": {"max_pix_count": 2}}, 120),
        (("min_snr", "threshold", "min_pix_count"), {"bounds": {"min_snr": (4, 4.0001)}}, 24),
    ],
)
def test_what_is_not_tuned_keeps_the_bases_value(tuned, more, n):
    box = space(*tuned, **more)
    design = look_design(box)
    assert len(design) == len(set(design)) == n
    for each in design:
        changed = {k for k, v in each.as_dict().items() if v != getattr(box.base, k)}
        assert changed <= {"min_snr", "threshold", "min_pix_count"} & set(tuned)


def test_a_wide_look_is_spread_over_the_run():
    sample = [500, 3, 77]
    frames = wide_frames(1000, sample)
    assert frames[:3] == sample and len(frames) == len(set(frames)) == 60
    others = np.array(frames[3:])
    assert (others >= 0).all() and (others < 1000).all()
    assert np.diff(others).max() <= 20 and others[0] < 20 and others[-1] > 980
    assert sorted(wide_frames(40, sample)) != [] and len(wide_frames(40, [3, 7])) == 40
    assert sorted(wide_frames(5, [3])) == [0, 1, 2, 3, 4]
    assert wide_frames(None, sample) == sample
    assert wide_frames(2, [1, 0]) == [1, 0]
    assert wide_frames(10, []) == []


class Counter:
    """Counts by formula; frame 5 cannot be read, and it may be stopped."""

    def __init__(self, stop_after: float = np.inf) -> None:
        self.asked: list[int] = []
        self.stop_after = stop_after

    def count(self, frames, settings):
        if len(self.asked) + len(frames) > self.stop_after:
            raise KeyboardInterrupt
        self.asked += frames
        return {
            i: FrameCounts(i, None, "x.h5 is damaged")
            if i == 5
            else FrameCounts(i, counts_of(i, settings))
            for i in frames
        }


def counts_of(frame, settings):
    numbers = [frame * 7 % 300 + 10 * each.min_pix_count for each in settings]
    return np.array(numbers, np.uint16)


def check(look: FrameLook, frames=FRAMES, sets=SETS):
    assert look.frames == tuple(frames) and look.settings == tuple(sets)
    assert look.counts.dtype == np.uint16 and look.counts.shape == (len(frames), len(sets))
    for frame, row in zip(frames, look.counts, strict=True):
        assert row.tolist() == ([0] * len(sets) if frame == 5 else counts_of(frame, sets).tolist())
    bad = {5} & set(frames)
    assert look.failures == dict.fromkeys(bad, "x.h5 is damaged")
    assert [frame in bad for frame in frames] == (~look.readable).tolist()


def test_a_look_is_taken_some_frames_at_a_time(tmp_path):
    told = []
    for stored in (None, tmp_path / "look.npz"):
        told.clear()
        check(take_look(Counter(), FRAMES, SETS, stored=stored, progress=lambda *n: told.append(n)))
        assert told[0] == (0, 130) and told[-1] == (130, 130) and len(told) == 4
        assert told == sorted(told)
    check(take_look(Counter(), [], SETS), [])
    check(take_look(Counter(), [1, 5], []), [1, 5], [])


def test_an_interrupted_look_goes_on(tmp_path):
    stored = tmp_path / "look.npz"
    first = Counter(stop_after=100)
    with pytest.raises(KeyboardInterrupt):
        take_look(first, FRAMES, SETS, stored=stored)
    assert len(first.asked) == FRAMES_AT_ONCE
    second = Counter()
    check(take_look(second, FRAMES, SETS, stored=stored))
    # What could not be read is tried again; nothing else is.
    assert sorted([*first.asked, *second.asked]) == sorted([*FRAMES, 5])
    third = Counter()
    check(take_look(third, FRAMES, SETS, stored=stored))
    assert third.asked == [5]


def test_another_design_or_frame_is_looked_at_anew(tmp_path):
    stored = tmp_path / "look.npz"
    take_look(Counter(), FRAMES, SETS, stored=stored)
    for other in (SETS[::-1], SETS[:2], [each.replace(mask_edge=2) for each in SETS]):
        counter = Counter()
        check(take_look(counter, FRAMES, other, stored=stored), sets=other)
        assert counter.asked == FRAMES
    take_look(Counter(), FRAMES, SETS, stored=stored)
    # min_peaks and the geometry do not change the peaks.
    counter = Counter()
    same = [each.replace(min_peaks=33, clen=0.2) for each in SETS]
    check(take_look(counter, [2000, *FRAMES[:4]], same, stored=stored), [2000, *FRAMES[:4]], same)
    assert counter.asked == [2000]


def damaged(path):
    """Yield what a file may be instead of a look."""
    whole = path.read_bytes()
    yield b""
    yield whole[: len(whole) // 2]
    yield bytes([*whole[: (n := len(whole) // 2)], whole[n] ^ 255, *whole[n + 1 :]])
    yield b"no archive at all"
    arrays = dict(np.load(path))
    for change in (
        {"counts": arrays["counts"].astype(float)},
        {"counts": arrays["counts"][:, :1]},
        {"counts": arrays["counts"][:3]},
        {"frames": arrays["frames"].astype(np.int32)},
        {"frames": arrays["frames"][:, None]},
        {"frames": np.zeros_like(arrays["frames"])},
        {"frames": np.int64(3)},
        {"design": arrays["design"][:3]},
        {"counts": None},
        {"design": None},
    ):
        kept = {key: value for key, value in (arrays | change).items() if value is not None}
        other = path.with_name("other.npz")
        np.savez(other, **kept)
        yield other.read_bytes()


def test_a_damaged_look_is_dropped_with_a_note(tmp_path):
    stored = tmp_path / "look.npz"
    take_look(Counter(), FRAMES, SETS, stored=stored)
    whole = stored.read_bytes()
    n = 0
    for content in damaged(stored):
        stored.write_bytes(content)
        counter = Counter()
        with pytest.warns(Note, match=r"look\.npz is damaged \(.*\): it is dropped, and"):
            check(take_look(counter, FRAMES, SETS, stored=stored))
        assert counter.asked == FRAMES
        n += 1
        stored.write_bytes(whole)
    assert n == 14


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(InputError, match=r"look\.npz cannot be written"):
        take_look(Counter(), FRAMES, SETS, stored=tmp_path / "none" / "look.npz")


def made_look(counts, failures=()):
    counts = np.array(counts, np.uint16)
    settings = tuple(Settings(min_snr=snr) for snr in (3, 4, 6, 8))
    return FrameLook(settings, tuple(range(len(counts))), counts, dict(failures))


def test_saturated_counts_are_flagged():
    look = made_look([[2048, 2047, 3, 0]])
    assert look.saturated.tolist() == [[True, False, False, False]]


def test_a_blank_run_is_said_to_be_one():
    rng = np.random.default_rng(0)
    noise = rng.poisson([900, 60, 1, 0.1], (200, 4))
    assert "200 frames has more than" in made_look(noise).blank
    assert "the run looks blank" in made_look(np.zeros((3, 4))).blank
    assert made_look([[0, 0, 0, 0]] * 2, {0: "gone", 1: "gone"}).blank == (
        "none of the 2 frames can be read: gone"
    )
    # Few weak crystals, and a run in which every frame has one.
    weak = noise.copy()
    weak[3, 1] += 90
    assert made_look(weak).blank == ""
    assert made_look(noise + np.array([40, 40, 35, 30])).blank == ""


def test_counts_and_own_peaks_are_those_that_were_recorded(shared_data):
    folder = shared_data / "simulated"
    recorded = np.load(folder / "jf1m_lyso_60_grid.npz")
    run = open_source(str(folder / "jf1m_lyso_60.h5"), Geometry.read(folder / "jf1m.geom"))
    cell = Cell.read(folder / "lyso.cell")
    base = Settings(max_pix_count=50, min_res=30, min_peaks=10, clen=0.08)
    grid = [
        base.replace(min_snr=float(snr), threshold=float(threshold), min_pix_count=int(pixels))
        for snr, threshold, pixels in zip(
            *(recorded[name] for name in ("min_snr", "threshold", "min_pix_count")), strict=True
        )
    ]
    measured = grid[recorded["indexed_embedded"].sum(axis=0).argmax()]
    indexer = FastIndexer(run.geometry, cell)
    with LiveEvaluator(run, cell, indexer, range(len(run)), max_decoys=0) as live:
        look = live.look(grid)
        frames, own, other = live.lattice_counts(measured, grid)
    assert np.array_equal(look.counts, recorded["n_peaks"])
    assert look.blank == "" and 0 < look.saturated.mean() < 0.1
    assert len(frames) >= 40
    assert np.array_equal(own + other, look.counts[list(frames)])
    # What was recorded has the lattices of more than one set: they differ by a peak here and there.
    explained = recorded["explained"][list(frames)]
    off = own.astype(float) - explained
    assert (explained >= 0).all() and explained.mean() > 30
    assert np.sqrt((off**2).mean()) < 1 and abs(off.mean()) < 0.3
