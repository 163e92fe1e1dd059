import json

import numpy as np
import pytest

from tuner.comparison.store import ComparisonStore, Recorded
from wrappers.errors import InputError
from wrappers.settings import CRYSTFEL_DEFAULTS

REFINED = {"methods": ["map-agent"], "seed": 0}
SETTINGS = [CRYSTFEL_DEFAULTS.replace(clen=0.08, min_snr=snr) for snr in (4.0, 5.0)]


def begin(directory):
    store = ComparisonStore.open(directory, REFINED, resume=False)
    store.results["test"] = {"map-agent": {"regret": np.full((2, 1, 3), 0.25)}}
    store.keep()
    return store


def test_a_comparison_goes_on_with_what_was_kept(tmp_path):
    begin(tmp_path / "c")
    again = ComparisonStore.open(tmp_path / "c", REFINED, resume=True)
    assert (again.results["test"]["map-agent"]["regret"] == 0.25).all()
    again.finish()
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["asked.json"]


def test_nothing_that_was_measured_is_written_over(tmp_path):
    begin(tmp_path / "c")
    with pytest.raises(InputError, match="unfinished comparison: add --resume"):
        ComparisonStore.open(tmp_path / "c", REFINED, resume=False)
    with pytest.raises(InputError, match="begun with other seed: give the same"):
        ComparisonStore.open(tmp_path / "c", {**REFINED, "seed": 1}, resume=True)
    (tmp_path / "c" / "comparison.json").write_text("{}")
    for resume in (False, True):
        with pytest.raises(InputError, match="finished comparison: name another directory"):
            ComparisonStore.open(tmp_path / "c", REFINED, resume=resume)


def test_there_must_be_something_to_go_on_with(tmp_path):
    with pytest.raises(InputError, match="leave --resume out"):
        ComparisonStore.open(tmp_path / "none", REFINED, resume=True)
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="name it with -o"):
        ComparisonStore.open(None, REFINED, resume=True)


def test_places_that_cannot_be_written_are_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file: name a directory"):
        ComparisonStore.open(tmp_path / "file", REFINED, resume=False)
    with pytest.raises(InputError, match="choose another place"):
        ComparisonStore.open(tmp_path / "file" / "deep", REFINED, resume=False)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # tests may run as root
    with pytest.raises(InputError, match="may not be written"):
        ComparisonStore.open(tmp_path / "read_only", REFINED, resume=False)


def test_a_directory_is_only_taken_once_there_is_something_to_keep(tmp_path):
    store = ComparisonStore.open(tmp_path, REFINED, resume=False)
    assert not store.begun
    ComparisonStore.open(tmp_path, {"seed": 2}, resume=False)


def test_without_a_directory_nothing_is_kept_and_nothing_measured_twice(landscape):
    store = ComparisonStore.open(None, REFINED, resume=False)
    evaluator = store.recorded(landscape, "run")
    store.keep(now=True)
    assert evaluator.evaluate(SETTINGS[0]) is evaluator.evaluate(SETTINGS[0])
    assert len(landscape.calls) == 1


def test_what_was_recorded_is_answered_without_measuring(tmp_path, landscape):
    path = tmp_path / "run.jsonl"
    first = [Recorded(landscape, path).evaluate(settings) for settings in SETTINGS[:1]]
    landscape.calls.clear()
    again = Recorded(landscape, path)
    found = [again.evaluate(settings) for settings in SETTINGS]
    assert landscape.calls == SETTINGS[1:]
    assert found[0].outcomes == first[0].outcomes
    assert found[0].refined == first[0].refined
    assert again.n_frames == landscape.n_frames
    assert again.evaluate(SETTINGS[0], 20).n_frames == 20


def test_a_line_that_a_kill_left_half_written_is_measured_anew(tmp_path, landscape):
    path = tmp_path / "run.jsonl"
    recorded = Recorded(landscape, path)
    for settings in SETTINGS:
        recorded.evaluate(settings)
    path.write_text(path.read_text()[:-20])
    landscape.calls.clear()
    again = Recorded(landscape, path)
    for settings in SETTINGS:
        again.evaluate(settings)
    assert landscape.calls == SETTINGS[1:]
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 2


def test_damaged_records_are_refused(tmp_path, landscape):
    path = tmp_path / "run.jsonl"
    path.write_text('{"settings": 3}\n')
    with pytest.raises(InputError, match=r"run\.jsonl, line 1 is damaged"):
        Recorded(landscape, path)
    begin(tmp_path / "c")
    (tmp_path / "c" / "unfinished" / "results.npz").write_bytes(b"PK\x03\x04 not")
    with pytest.raises(InputError, match=r"results\.npz is damaged"):
        ComparisonStore.open(tmp_path / "c", REFINED, resume=True)
