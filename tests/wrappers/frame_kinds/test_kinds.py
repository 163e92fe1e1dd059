"""Kinds of frames: measured, named, clustered, written, carried on."""

from __future__ import annotations

import dataclasses
import json
import warnings

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfx_tuner import open_run
from tests.array_source import ArraySource
from wrappers.errors import InputError, UnreadableError
from wrappers.frame_kinds import KINDS, VETOED, FrameKinds, KindTeller, measures, tell_kinds
from wrappers.frame_kinds.features import FEATURES, Reference, features, median
from wrappers.frame_kinds.kernels import repeated
from wrappers.frame_kinds.measures import Measurer
from wrappers.frame_kinds.mixture import Mixture
from wrappers.frame_kinds.naming import drops, name_of
from wrappers.frame_kinds.spots import disorder

points = st.lists(
    st.floats(-5, 12, allow_nan=False), min_size=len(FEATURES), max_size=len(FEATURES)
)


@pytest.fixture(scope="module")
def told(mixed):
    return tell_kinds(mixed[0], range(len(mixed[0])))


def test_kinds_are_called_what_they_are(mixed, told):
    right = [name == true for name, true in zip(told.names, mixed[1], strict=True)]
    assert np.mean(right) > 0.85
    for kind in ("beam off", "detector fault", "jet streak", "powder or ice ring", "salt"):
        called = [name for name, true in zip(told.names, mixed[1], strict=True) if true == kind]
        assert np.mean([name == kind for name in called]) > 0.6, kind


def test_the_veto_drops_frames_without_light_and_of_a_faulty_detector_alone(mixed, told):
    dropped = [mixed[1][frame] for frame in told.dropped]
    assert {*dropped} <= {*VETOED}
    assert dropped.count("beam off") == mixed[1].count("beam off") > 0
    for point in told.points:  # one with spots is kept, whatever it is called
        values = dict(zip(FEATURES, point.tolist(), strict=True))
        if values["spots"] > 1.4 or values["brightest"] > 2.5:
            assert not any(drops(kind, point.tolist()) for kind in KINDS)


@given(points)
def test_every_frame_has_a_kind_and_only_some_can_be_dropped(values):
    name = name_of(values)
    assert name in KINDS
    for kind in KINDS:
        assert not drops(kind, values) or kind in VETOED


def test_a_pedestal_is_no_light(mixed):
    run, kinds = mixed
    off = kinds.index("beam off")
    lifted = [dataclasses.replace(frame, data=frame.data + 40) for frame in run]
    found = tell_kinds(ArraySource(run.geometry, lifted), range(len(lifted)))
    assert found.names[off] == "beam off"


def test_one_frame_is_told_as_among_the_others(mixed, told):
    teller = KindTeller(told.kinds, mixed[0].geometry)
    for index in (0, 7, 30):
        assert teller.tell(mixed[0][index]).name == told.names[index]


def test_what_is_written_is_read(told, tmp_path):
    told.kinds.write(tmp_path / "kinds.json")
    again = FrameKinds.read(tmp_path / "kinds.json")
    assert again == told.kinds
    assert again.assign(told.points) == list(told.names)
    shares = json.loads((tmp_path / "kinds.json").read_text())["kinds"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("damage", ["covariance", "name", "feature", "swing", "places", "json"])
def test_a_damaged_file_is_refused(told, tmp_path, damage):
    path = tmp_path / "kinds.json"
    told.kinds.write(path)
    document = json.loads(path.read_text())
    if damage == "covariance":
        document["parts"][0]["covariance"][0][0] = -1.0
    elif damage == "name":
        document["parts"][0]["name"] = "seventh"
    elif damage == "feature":
        document["features"][0] = "weight"
    elif damage == "swing":
        document["reference"]["swing"] = -1.0
    elif damage == "places":
        document["places"].pop()
    path.write_text(json.dumps(document) if damage != "json" else "{")
    with pytest.raises(InputError, match=r"kinds\.json.*make it anew"):
        FrameKinds.read(path)


def test_a_new_kind_is_announced_and_then_known(plain, mixed):
    first = tell_kinds(plain[0], range(len(plain[0])))
    assert first.new == () and first.kinds.counts.get("jet streak", 0) < 2
    streaks = [i for i, kind in enumerate(mixed[1]) if kind == "jet streak"]
    others = [i for i, kind in enumerate(mixed[1]) if kind in ("blank", "single crystal")]
    # As many as it takes, some of them again.
    frames = [mixed[0][i] for i in [*others, *streaks, *streaks, *streaks]]
    second = tell_kinds(ArraySource(mixed[0].geometry, frames), range(len(frames)), first.kinds)
    assert second.new == ("jet streak",)
    third = tell_kinds(ArraySource(mixed[0].geometry, frames), range(len(frames)), second.kinds)
    assert third.new == ()
    assert third.kinds.n_frames == len(plain[0]) + 2 * len(frames)
    once, _ = third.kinds.learn(second.points, "a run")
    assert once.runs == ("a run",) and once.learn(second.points, "a run") == (once, ())


def test_kinds_of_another_detector_are_refused(told, mixed):
    other = dataclasses.replace(told.kinds, shape=(10, 10))
    with pytest.raises(InputError, match="pixels"):
        tell_kinds(mixed[0], [0], other)
    # Of the same shape, too: with the pixels where they were the kinds hold.
    ours = mixed[0].geometry

    def stretched(by: float):
        panels = (
            dataclasses.replace(panel, corner_x=by * panel.corner_x, corner_y=by * panel.corner_y)
            for panel in ours.panels
        )
        return dataclasses.replace(ours, panels=tuple(panels))

    told.kinds.require_detector(stretched(1.005))
    with pytest.raises(InputError, match="pixels elsewhere"):
        told.kinds.require_detector(stretched(1.3))


def test_real_frames_are_called_what_they_are(shared_data):
    frames = shared_data / "frames"

    def told_of(run: str, geometry: str):
        with open_run(frames / run, frames / geometry) as source:
            return tell_kinds(source, range(len(source)))

    found = told_of("thaumatin_p6m_crop1320_19.h5", "thaumatin_p6m_crop1320.geom")
    # The crystal leaves the beam in frame 14; what is behind has nothing.
    assert {*found.names[:14]} <= {"single crystal", "several crystals"}
    assert found.names[:14].count("single crystal") >= 12
    assert found.names[15:] == ("blank",) * 4
    assert found.dropped == ()
    found = told_of("thermolysin_cspad_4.h5", "thermolysin_cspad.geom")
    assert {*found.names} <= {"single crystal", "several crystals"}, "panels differ: no streak"
    assert found.dropped == ()


def test_frames_of_two_crystals_are_told(shared_data):
    folder = shared_data / "simulated"
    with h5py.File(folder / "jf1m_lyso_60_truth.h5") as truth:
        several = {*np.flatnonzero(truth["n_crystals"][()] > 1).tolist()}
    with open_run(folder / "jf1m_lyso_60.h5", folder / "jf1m.geom") as source:
        found = tell_kinds(source, range(len(source)))
    called = {*found.of("several crystals")}
    assert len(called & several) >= 4 and len(several) == 7
    assert len(called - several) <= 1
    # Frame 48 has a sixth of the usual light: nothing is sharp where there is next to none.
    assert {*found.names} == {"blank", "single crystal", "several crystals"}


class Torn(ArraySource):
    """A run of which some frames cannot be read."""

    def __getitem__(self, index: int):
        if index % 3 == 1 or not self._frames:
            raise InputError(f"frame {index} is torn")
        return super().__getitem__(index)


def test_unreadable_frames_are_left_out_and_counted(mixed):
    run = Torn(mixed[0].geometry, [mixed[0][i] for i in range(12)])
    found = tell_kinds(run, range(12))
    assert sorted(found.failures) == [1, 4, 7, 10]
    assert len(found.names) == 8
    with pytest.raises(UnreadableError, match="frame 1 is torn"):
        tell_kinds(run, [1, 4])


def test_measuring_does_not_change_with_the_data_type(mixed):
    frame = next(f for f, kind in zip(mixed[0], mixed[1], strict=True) if kind == "single crystal")
    measurer = Measurer(mixed[0].geometry)
    one = measurer.measure(frame)
    reference = Reference.of([one])
    for dtype in ("int32", "float32", "float64", ">i4"):
        other = measurer.measure(dataclasses.replace(frame, data=frame.data.astype(dtype)))
        np.testing.assert_allclose(features(other, reference), features(one, reference), atol=0.05)


def test_shifts_of_the_detector_share_its_places(mixed, monkeypatch):
    run = mixed[0]
    frame = next(f for f, kind in zip(run, mixed[1], strict=True) if kind == "single crystal")
    made = []
    real = measures._Places.of
    monkeypatch.setattr(measures._Places, "of", lambda geometry: made.append(1) or real(geometry))
    measurer, reference = (
        Measurer(run.geometry),
        Reference.of([Measurer(run.geometry).measure(frame)]),
    )
    made.clear()
    for x, y in np.random.default_rng(0).normal(0, 3e-5, (12, 2)):
        moved = dataclasses.replace(frame, shift_x=x, shift_y=y)
        found = measurer.measure(moved)
        exact = Measurer(run.geometry.moved(x, y)).measure(frame)
        _, ours, theirs = np.intersect1d(found.spot_pixel, exact.spot_pixel, return_indices=True)
        assert len(ours) > 0.9 * len(exact.spot_pixel)
        np.testing.assert_allclose(found.spot_q[ours], exact.spot_q[theirs], atol=1e-6)
        np.testing.assert_allclose(features(found, reference), features(exact, reference), atol=0.3)
    assert len(made) <= 12 + 5, "those of the exact ones beside"


def test_as_many_parts_as_there_are():
    generator = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    truth = generator.integers(3, size=240)
    mixture = Mixture.fit(centres[truth] + 0.4 * generator.standard_normal((240, 2)))
    assert len(mixture.weights) == 3
    assert len(Mixture.fit(generator.standard_normal((240, 2))).weights) == 1


@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=1, max_size=30),
    st.sampled_from([0.4, 1.1]),
)
def test_vectors_that_repeat_are_counted(vectors, tolerance):
    own = np.array(vectors, float)
    both = np.concatenate([own, -own])
    both = both[np.argsort(both[:, 0], kind="stable")]
    n = len(own)
    off = np.linalg.norm(both[:, None] - both[None], axis=2) <= tolerance
    np.fill_diagonal(off, False)
    assert repeated(both, n, tolerance) == np.count_nonzero(off[n:].any(axis=1))


@pytest.mark.parametrize("axis", [None, 0, 1, (1, 2)])
def test_medians_leave_out_what_is_not_known(axis):
    values = np.random.default_rng(0).normal(size=(4, 5, 6))
    values[values > 1] = np.nan
    values[0, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = np.nanmedian(values, axis=axis)
    np.testing.assert_allclose(median(values, axis), expected)


def test_of_a_large_detector_some_rows_are_enough(shared_data, monkeypatch):
    folder = shared_data / "simulated"
    with open_run(folder / "jf1m_lyso_60.h5", folder / "jf1m.geom") as source:
        some = tell_kinds(source, range(30))
        assert Measurer(source.geometry)._places(0.0, 0.0).step == 3
        monkeypatch.setattr(measures, "MOST_STEP", 1)
        every = tell_kinds(source, range(30))
    assert some.names == every.names
    np.testing.assert_allclose(some.points, every.points, atol=0.35)


def lattice_spots(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return `n` nodes of a lattice that are near the Ewald sphere, in any orientation."""
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0] * np.array([0.0127, 0.0127, 0.0263])[:, None]
    nodes = np.stack(np.meshgrid(*[np.arange(-24, 25)] * 3), axis=-1).reshape(-1, 3) @ axes
    excited = np.abs(np.linalg.norm(nodes + np.array([0, 0, 0.75]), axis=1) - 0.75) < 0.0008
    near = nodes[excited & (np.linalg.norm(nodes, axis=1) < 0.3)]
    return rng.permutation(near)[:n] + rng.normal(0, 2e-4, (min(n, len(near)), 3))


def test_vectors_of_one_lattice_repeat_and_those_of_two_do_not():
    rng = np.random.default_rng(0)
    one = [disorder(lattice_spots(rng, 100), 0.0127) for _ in range(20)]
    two = [
        disorder(np.concatenate([lattice_spots(rng, 50), lattice_spots(rng, 50)]), 0.0127)
        for _ in range(20)
    ]
    assert max(one) < 0 < np.median(two) and max(one) < min(two)
    assert disorder(lattice_spots(rng, 10), 0.0127) == disorder(lattice_spots(rng, 100), 0) == 0
