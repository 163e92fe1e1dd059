import json

import numpy as np
import pytest

from envs.parameter_space import DEFAULT_TUNED, make_space
from envs.strata import Sample
from tuner.session.sampling import SAMPLE_FILE, choose_frames
from wrappers.errors import InputError
from wrappers.peakfinding.peak_batch import FrameCounts

RUN = 1000


class Counter:
    """Peaks of a run of which every so manieth frame is a hit with 40 of its own."""

    def __init__(self, every: int) -> None:
        self.every, self.asked = every, 0

    def count(self, frames, settings):
        self.asked += len(frames)
        noise = np.array([np.exp(8 - 1.6 * each.min_snr) for each in settings])
        return {
            frame: FrameCounts(
                frame,
                (
                    np.random.default_rng(frame).poisson(noise)
                    + (0 if frame % self.every else 40)
                ).astype(np.uint16),
            )
            for frame in frames
        }  # fmt: skip


@pytest.fixture
def random():
    order = np.random.default_rng(5).permutation(RUN).tolist()
    return order[:50], order[50:100]


def chosen(sampling, random, folder, counter, space):
    return choose_frames(sampling, random, RUN, space, 0, folder, lambda: counter)


@pytest.fixture
def space():
    return make_space(
        DEFAULT_TUNED,
        background=(20.0, 60.0),
        camera_length=0.1,
        pixel_size=75e-6,
        largest_radius=700.0,
    )


def test_a_poor_run_is_looked_at_widely_and_many_hits_are_drawn(random, tmp_path, space):
    counter = Counter(100)
    drawn = chosen("auto", random, tmp_path, counter, space)
    assert counter.asked == RUN
    for sample in (drawn.tuning, drawn.fresh):
        assert sum(frame % 100 == 0 for frame in sample.frames) == 5
        assert sum(sample.sizes) == RUN
    assert "1.0% of 1000" in drawn.words
    again = Counter(100)
    assert chosen("auto", random, tmp_path, again, space) == drawn
    assert again.asked == 0


def test_a_rich_run_keeps_its_random_sample(random, tmp_path, space):
    counter = Counter(3)
    drawn = chosen("auto", random, tmp_path, counter, space)
    assert counter.asked == len(random[0])
    assert drawn.tuning == Sample(tuple(random[0]))
    assert not drawn.words


def test_frames_that_hold_nothing_are_drawn_as_seldom_as_blank_ones(random, tmp_path, space):
    asked = []

    def without_anything(frames):
        asked.extend(frames)
        return {frame for frame in frames if frame % 200 == 0}

    drawn = choose_frames(
        "strata", random, RUN, space, 0, tmp_path, lambda: Counter(50),
        without_anything=without_anything,
    )  # fmt: skip
    # Only what looks promising is asked about; half of the twenty hits are none.
    assert {frame for frame in asked if frame % 50 == 0} == set(range(0, RUN, 50))
    assert len(asked) < RUN / 4
    hits = [frame for frame in drawn.tuning.frames if frame % 50 == 0 and frame % 200]
    empty = [frame for frame in drawn.tuning.frames if frame % 200 == 0]
    assert len(hits) >= 7 and len(empty) <= 2
    assert "5 show salt, a faulty detector or no light" in drawn.words


def test_random_frames_need_no_look(random, tmp_path, space):
    drawn = chosen("random", random, tmp_path, None, space)
    assert drawn.fresh == Sample(tuple(random[1]))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept["tuning"]["frames"].append(kept["tuning"]["frames"][0]),
        lambda kept: kept["tuning"]["strata"].pop(),
        lambda kept: kept["fresh"]["strata"].__setitem__(0, 9),
        lambda kept: kept["fresh"]["frames"].__setitem__(0, RUN),
        lambda kept: kept.pop("tuning"),
    ],
)
def test_a_damaged_record_of_the_frames_is_refused(random, tmp_path, space, damage):
    chosen("strata", random, tmp_path, Counter(100), space)
    kept = json.loads((tmp_path / SAMPLE_FILE).read_text())
    damage(kept)
    (tmp_path / SAMPLE_FILE).write_text(json.dumps(kept))
    with pytest.raises(InputError, match=r"sample\.json"):
        chosen("strata", random, tmp_path, Counter(100), space)
