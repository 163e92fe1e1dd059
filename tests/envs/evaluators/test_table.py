"""Tables: what was recorded is what is answered."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from envs.evaluation import Evaluator
from envs.evaluators.response import ResponseEvaluator
from envs.evaluators.table import TableEvaluator, record_table
from envs.parameter_space import ParameterSpace, make_space
from envs.response.model import ResponseModel
from envs.simulation.families import draw_experiments
from wrappers.errors import InputError
from wrappers.settings import Settings

GRID = {
    "min_snr": [4.0, 6.0, 8.0],
    "threshold": [5.0, 50.0, 500.0],
    "min_pix_count": [1.0, 2.0],
}


@pytest.fixture(scope="module")
def live() -> ResponseEvaluator:
    return ResponseEvaluator(ResponseModel(draw_experiments("test", 4, seed=1)).take([3]))


@pytest.fixture(scope="module")
def space(live) -> ParameterSpace:
    return make_space(
        ("min_snr", "threshold", "min_pix_count", "clen"),
        background=(3.0, 40.0),
        camera_length=0.1,
        pixel_size=75e-6,
        largest_radius=700.0,
        photon_energy=9000.0,
    )


@pytest.fixture(scope="module")
def table(live, space, tmp_path_factory) -> TableEvaluator:
    path = tmp_path_factory.mktemp("tables") / "one.npz"
    record_table(
        lambda points: map(live.evaluate, points),
        space,
        {**GRID, "clen": [0.098, 0.1, 0.102]},
        path,
    )
    return TableEvaluator(path)


def test_a_recorded_point_is_answered_as_it_was_measured(live, space, table) -> None:
    evaluator: Evaluator = table
    assert evaluator.n_frames == live.n_frames
    settings = space.base.replace(min_snr=6, threshold=50, min_pix_count=1, clen=0.102)
    measured, answered = live.evaluate(settings), evaluator.evaluate(settings)
    assert json.dumps(answered.as_dict()) == json.dumps(measured.as_dict())


def test_between_points_the_nearest_answers(table, space) -> None:
    def rate(**changes):
        return table.evaluate(space.base.replace(clen=0.1, **changes)).outcomes

    assert rate(min_snr=4.8, threshold=15, min_pix_count=2) == rate(
        min_snr=4, threshold=5, min_pix_count=2
    )
    # 17 is nearer to 50 than to 5 in ratio
    assert rate(min_snr=5, threshold=17, min_pix_count=4) == rate(
        min_snr=5, threshold=50, min_pix_count=2
    )


def test_the_cell_follows_the_camera_length_asked_for(table, space) -> None:
    found = [
        table.evaluate(space.base.replace(min_snr=4, threshold=5, clen=clen))
        for clen in (0.1, 0.1004)
    ]
    assert found[0].outcomes == found[1].outcomes and found[0].refined == found[1].refined
    if not math.isnan(found[0].scale_deviation):
        difference = found[1].scale_deviation - found[0].scale_deviation
        assert difference == pytest.approx(0.004, rel=1e-6)


def test_part_of_the_frames(table, space) -> None:
    settings = space.base.replace(min_snr=4, threshold=5, min_pix_count=1)
    whole, part = table.evaluate(settings), table.evaluate(settings, 25)
    assert part.outcomes == whole.outcomes[:25]
    assert part.n_decoys <= part.n_hits
    assert part.core_seconds == pytest.approx(whole.core_seconds * 0.25)


def test_what_was_known_is_in_the_table(table, space) -> None:
    assert table.known == space.known
    assert table.base == space.base


def test_settings_without_a_camera_length_take_the_base(table) -> None:
    settings = Settings(min_snr=4, threshold=5, min_pix_count=1)
    assert table.evaluate(settings).n_frames == table.n_frames


def test_other_files_are_refused(tmp_path) -> None:
    path = tmp_path / "no.npz"
    with pytest.raises(InputError, match=r"no\.npz"):
        TableEvaluator(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="no recorded table"):
        TableEvaluator(path)
    np.savez(path, something=np.zeros(3))
    with pytest.raises(InputError, match="no recorded table"):
        TableEvaluator(path)


def test_parts_of_the_frames_add_up(table) -> None:
    whole = table.evaluate(table.points[5])
    parts = [table.take(rows).evaluate(table.points[5]) for rows in ([0, 2], [1])]
    rest = table.take(range(3, table.n_frames)).evaluate(table.points[5])
    assert sum(part.n_indexed for part in (*parts, rest)) == whole.n_indexed
    assert parts[0].outcomes == (whole.outcomes[0], whole.outcomes[2])
    assert sum(part.core_seconds for part in (*parts, rest)) == pytest.approx(whole.core_seconds)
    assert len(table.points) == np.prod([len(values) for values in table.grid.values()])
