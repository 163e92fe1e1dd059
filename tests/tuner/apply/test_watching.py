"""A watch: runs that appear, sets that change, rates that fall."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.geometries import geometry_text, panel_text
from tuner.apply.applying import CurrentSet, rate_intervals, session_indexer
from tuner.apply.watching import Watch, WatchRequest
from tuner.recommendation import Recommendation, settings_digest, write_recommendation
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.run import Run
from wrappers.indexing import Indexing
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.settings import Settings

GEOMETRY = geometry_text(
    panel_text("a", 80, 80, (-40, -40)), photon_energy="9000 eV", adu_per_photon=10, clen=0.1
)
SETTINGS = Settings(min_snr=5, threshold=100, min_pix_count=1, min_peaks=2, clen=0.1)
EVIDENCE = {"n_frames": 200, "n_hits": 100, "n_indexed": 80}


def write_run(path: Path, n_frames: int = 40, every: int = 2, seed: int = 0) -> None:
    """Write frames of which every so manyth is a hit; the file appears at once."""
    rng = np.random.default_rng(seed)
    data = rng.poisson(20, (n_frames, 80, 80)).astype(np.int16)
    for frame in data[::every]:
        for y, x in zip(*np.divmod(rng.choice(8 * 8, 12, replace=False), 8), strict=True):
            frame[9 * y + 8 : 9 * y + 10, 9 * x + 8 : 9 * x + 10] += 800
    part = path.with_suffix(".writing")
    with h5py.File(part, "w") as file:
        file["data"] = data
    part.rename(path)


def recommend(path: Path, settings: Settings = SETTINGS, evidence=EVIDENCE, **provenance) -> None:
    known = {"geometry_clen": 0.1, "indexer": "fast 0.1.0", "date": "2026-11-21", **provenance}
    write_recommendation(Recommendation(settings, evidence, known), path / "recommended.toml")


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder for runs, and a session."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "session").mkdir()
    (tmp_path / "run.geom").write_text(GEOMETRY)
    recommend(tmp_path / "session")
    return tmp_path


@pytest.fixture
def make_watch(place):
    def make(said: list[str] | None = None, progress=lambda *_: None, **options) -> Watch:
        request = WatchRequest(
            place / "session",
            place / "raw",
            options.pop("pattern", "*.h5"),
            place / "hits",
            **{"settle": 0, **options},
        )
        say = (said if said is not None else []).append
        return Watch(request, Geometry.read(place / "run.geom"), say=say, progress=progress)

    return make


def test_each_run_is_reduced_once(place, make_watch):
    watch = make_watch()
    assert watch.step() == []
    write_run(place / "raw" / "r1.h5")
    (line,) = watch.step()
    assert (line["n_frames"], line["n_hits"], line["alarms"]) == (40, 20, [])
    assert watch.step() == []
    write_run(place / "raw" / "r2.h5", 20)
    (second,) = watch.step()
    assert second["hits"] == str(place / "hits" / "r2.h5_hits.cxi")
    assert (
        len(Run.open(second["hits"], Geometry.read(place / "hits" / "r2.h5_hits.cxi.geom"))) == 10
    )
    assert make_watch().step() == [], "a new watch knows what was done"
    lines = (place / "hits" / "watched.jsonl").read_text().splitlines()
    assert [json.loads(text) for text in lines] == [line, second]


def test_kinds_are_carried_on_from_run_to_run(place, make_watch):
    write_run(place / "raw" / "r1.h5")
    (first,) = make_watch(veto=True).step()
    kinds = json.loads((place / "hits" / "kinds.json").read_text())
    assert kinds["n_frames"] == first["n_frames"] == 40
    assert first["n_hits"] == 20, "no frame with spots is left out"
    write_run(place / "raw" / "r2.h5", 20)
    make_watch(veto=True).step()
    assert json.loads((place / "hits" / "kinds.json").read_text())["n_frames"] == 60


def test_a_watch_that_is_killed_before_its_journal_goes_on(place, make_watch, monkeypatch):
    write_run(place / "raw" / "r1.h5")
    make_watch(veto=True).step()
    write_run(place / "raw" / "r2.h5", 20)

    def killed(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tuner.apply.watching.append_line", killed)
    with pytest.raises(KeyboardInterrupt):
        make_watch(veto=True).step()
    monkeypatch.undo()
    said: list[str] = []
    (line,) = make_watch(said, veto=True).step()
    assert (line["n_frames"], said) == (20, [])
    assert json.loads((place / "hits" / "kinds.json").read_text())["n_frames"] == 60


def test_a_watch_that_is_killed_in_a_run_learns_the_whole_of_it(place, make_watch):
    write_run(place / "raw" / "r1.h5")
    make_watch(veto=True).step()
    write_run(place / "raw" / "r2.h5", 20)

    def killed(_, n_frames: int, done: int, hits: int) -> None:
        if done > n_frames // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_watch(progress=killed, veto=True).step()
    make_watch(veto=True).step()
    assert json.loads((place / "hits" / "kinds.json").read_text())["n_frames"] == 60


def test_a_watch_begins_with_the_session_s_kinds(place, make_watch):
    write_run(place / "raw" / "r1.h5")
    make_watch(veto=True).step()
    shutil.move(place / "hits" / "kinds.json", place / "session" / "kinds.json")
    write_run(place / "raw" / "r2.h5", 20)
    make_watch(veto=True).step()
    assert json.loads((place / "hits" / "kinds.json").read_text())["n_frames"] == 60
    assert json.loads((place / "session" / "kinds.json").read_text())["n_frames"] == 40


def test_kinds_that_are_damaged_or_in_the_way_end_a_watch_at_its_start(place, make_watch):
    (place / "hits").mkdir()
    (place / "hits" / "kinds.json").write_text("{")
    with pytest.raises(InputError, match=r"kinds\.json.*make it anew"):
        make_watch(veto=True)
    for name in ("session/recommended.toml", "run.geom"):
        with pytest.raises(InputError, match="is read by"):
            make_watch(kinds=place / name)
    with pytest.raises(InputError, match="written twice"):
        make_watch(kinds=place / "hits" / "watched.jsonl")


def test_bad_pixels_come_from_the_file_that_is_named(place, make_watch):
    recommend(place / "session", SETTINGS.replace(mask_hot_sigma=5))
    write_run(place / "raw" / "r1.h5", 8)
    bad = [3, 40, 70], [5, 41, 6]
    with h5py.File(place / "raw" / "r1.h5", "r+") as file:
        data = file["data"][:]
        data[:, *bad] = 900
        file["data"][:] = data
    said: list[str] = []
    assert make_watch(said).step() == [], "8 frames are too few for a map of their own"
    assert "8 frames" in said[0] and "--mask" in said[0]
    hot = np.zeros((80, 80), np.float16)
    hot[bad] = 30
    BadPixelMap(hot, np.zeros_like(hot), np.zeros_like(hot), 100).save(place / "map.h5")
    (line,) = make_watch(mask=place / "map.h5").step()
    assert (line["n_frames"], line["n_hits"]) == (8, 4)
    with h5py.File(line["hits"]) as file:
        assert file["/entry_1/data_1/mask"][0][bad].tolist() == [1, 1, 1]
    # Another detector's is refused before anything is watched.
    BadPixelMap(hot[1:], hot[1:], hot[1:], 100).save(place / "map.h5")
    with pytest.raises(InputError, match="make one from frames of this detector"):
        make_watch(mask=place / "map.h5")


def test_no_rate_is_held_against_settings_that_were_edited(place, make_watch):
    recommend(place / "session", settings_sha256=settings_digest(SETTINGS.replace(min_snr=4)))
    write_run(place / "raw" / "r1.h5", 300, every=30)
    (line,) = make_watch().step()
    assert line["alarms"] == []
    recommend(place / "session", settings_sha256=settings_digest(SETTINGS))
    write_run(place / "raw" / "r2.h5", 300, every=30)
    (line,) = make_watch().step()
    assert len(line["alarms"]) == 1 and "hit rate" in line["alarms"][0]


def test_a_file_that_grows_is_waited_for(place, make_watch):
    watch = make_watch(settle=0.0)
    write_run(place / "raw" / "whole.h5")
    half = (place / "raw" / "whole.h5").read_bytes()
    (place / "raw" / "r1.h5").write_bytes(half[: len(half) // 2])
    said: list[str] = []
    watch = make_watch(said)
    assert [Path(line["file"]).name for line in watch.step()] == ["whole.h5"]
    assert len(said) == 1 and said[0].startswith("r1.h5 is left out")
    assert watch.step() == [] and len(said) == 1, "told once"
    (place / "raw" / "r1.h5").write_bytes(half)
    assert [Path(line["file"]).name for line in watch.step()] == ["r1.h5"]


def test_a_file_is_a_run_once_it_rests(place, make_watch):
    write_run(place / "raw" / "r1.h5")
    watch = make_watch(settle=60)
    assert watch.step() == [] and watch.step() == []


def test_runs_of_one_name_in_several_folders(place, make_watch):
    for folder in ("r0001", "r0002"):
        (place / "raw" / folder).mkdir()
        write_run(place / "raw" / folder / "run.h5", 8)
    request = WatchRequest(
        place / "session", place / "raw", "*/run.h5", place / "hits", settle=0, n_sample=0
    )
    lines = Watch(request, Geometry.read(place / "run.geom")).step()
    assert [Path(line["hits"]).relative_to(place / "hits") for line in lines] == [
        Path("r0001/run.h5_hits.cxi"),
        Path("r0002/run.h5_hits.cxi"),
    ]


def test_no_two_runs_share_an_output(place):
    (place / "raw" / "a").mkdir()
    for name in ("a_b.h5", "a/b.h5", "x.h5", "x.hdf5"):
        write_run(place / "raw" / name, 4)
    request = WatchRequest(
        place / "session", place / "raw", "**/*.h*5", place / "hits", settle=0, n_sample=0
    )
    lines = Watch(request, Geometry.read(place / "run.geom")).step()
    assert len({line["hits"] for line in lines}) == 4
    for line in lines:
        with h5py.File(line["hits"]) as file:
            (source,) = set(file["/entry_1/result_1/sourceFile"].asstr()[:])
        assert source == line["file"]


@pytest.mark.parametrize("out", ["raw", "raw/hits", "."])
def test_outputs_are_never_inputs(place, out):
    write_run(place / "raw" / "x.h5", 4)
    request = WatchRequest(
        place / "session", place / "raw", "**/*", place / out, settle=0, n_sample=0
    )
    said: list[str] = []
    watch = Watch(request, Geometry.read(place / "run.geom"), say=said.append)
    assert [Path(line["file"]).name for line in watch.step()] == ["x.h5"]
    assert watch.step() == [] and watch.step() == []
    again = Watch(request, Geometry.read(place / "run.geom"))
    assert again.step() == []


def test_a_pattern_that_leads_elsewhere_is_refused(place):
    request = WatchRequest(place / "session", place / "raw", "../*.h5", place / "hits")
    with pytest.raises(InputError, match="leads out of"):
        Watch(request, Geometry.read(place / "run.geom"))


def test_a_file_that_is_no_output_of_the_watch_stays(place, make_watch):
    write_run(place / "raw" / "r1.h5", 4)
    (place / "hits").mkdir()
    (place / "hits" / "r1.h5_hits.cxi").write_text("the user's own")
    said: list[str] = []
    assert make_watch(said).step() == []
    assert "exists already" in said[0]
    assert (place / "hits" / "r1.h5_hits.cxi").read_text() == "the user's own"
    (line,) = make_watch(replace=True).step()
    assert line["n_frames"] == 4


def test_a_time_in_the_future_is_said_and_not_waited_for(place, make_watch):
    write_run(place / "raw" / "r1.h5", 4)
    os.utime(place / "raw" / "r1.h5", (time.time() + 3600,) * 2)
    said: list[str] = []
    watch = make_watch(said, settle=0.2)
    assert watch.step() == []
    assert len(said) == 1 and "in the future" in said[0]
    time.sleep(0.25)
    assert len(watch.step()) == 1 and len(said) == 1


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_new_set_is_taken_up_without_a_restart(place, make_watch, jobs):
    changed = []

    def change(path: Path, n_frames: int, done: int, hits: int) -> None:
        if done >= 100 and not changed:
            changed.append(done)
            recommend(place / "session", SETTINGS.replace(min_peaks=0), {**EVIDENCE, "n_hits": 200})

    write_run(place / "raw" / "r1.h5", 400)
    (line,) = make_watch(progress=change, jobs=jobs).step()
    assert [used["settings"]["min_peaks"] for used in line["sets"]] == [2, 0]
    assert line["alarms"] == [], "each set is held against its own evidence"
    with h5py.File(line["hits"]) as file:
        of_frames = file["/sfx_tuner/frames/set"][:]
        n_peaks = file["/sfx_tuner/frames/n_peaks"][:]
        hits = file["/sfx_tuner/hits/frame"][:]
        of_hits = file["/sfx_tuner/hits/set"][:]
    assert sorted(set(of_frames)) == [0, 1]
    assert (np.diff(of_frames) >= 0).all()
    assert of_frames[:100].max() == 0 and of_frames[-1] == 1
    expected = np.flatnonzero((n_peaks >= 2) | (of_frames == 1))
    np.testing.assert_array_equal(hits, expected)
    np.testing.assert_array_equal(of_hits, of_frames[hits])


def test_a_set_that_cannot_be_read_changes_nothing(place):
    write_run(place / "raw" / "r1.h5", 4)
    run = Run.open(place / "raw" / "r1.h5", Geometry.read(place / "run.geom"))
    said: list[str] = []
    current = CurrentSet(place / "session", run, said.append)
    first = current()
    assert first.settings == SETTINGS
    (place / "session" / "recommended.toml").write_text("[settings]\nmin_sn")
    assert current() is first and current() is first
    assert len(said) == 1 and "the set before it stays in force" in said[0]
    (place / "session" / "recommended.toml").unlink()
    assert current() is first
    recommend(place / "session", SETTINGS.replace(min_snr=6))
    assert current().settings.min_snr == 6
    assert current().name != first.name
    assert list(current.recommendations) == [first.name, current().name]


def test_a_fallen_hit_rate_is_told_as_soon_as_it_is_certain(place, make_watch):
    said: list[str] = []
    when: list[int] = []

    def progress(path: Path, n_frames: int, done: int, hits: int) -> None:
        if said and not when:
            when.append(done)

    watch = make_watch(said, progress)
    write_run(place / "raw" / "good.h5", 400)
    assert watch.step()[0]["alarms"] == [] and not said
    write_run(place / "raw" / "poor.h5", 800, every=10)
    (line,) = watch.step()
    assert line["n_hits"] == 80
    assert len(line["alarms"]) == len(said) == 1
    assert "the hit rate is 10.0%" in said[0] and said[0].endswith("a re-tune is due")
    assert when and when[0] <= 300


CELL = """\
CrystFEL unit cell file version 1.0
lattice_type = tetragonal
centering = P
unique_axis = c
a = 79 A
b = 79 A
c = 38 A
al = 90 deg
be = 90 deg
ga = 90 deg
"""


class Nothing:
    """An indexer that never finds a lattice."""

    name, parallel = "nothing", True

    def index(self, patterns, done=None):
        return [Indexing()] * len(patterns)


def test_a_fallen_indexing_rate_is_told(place, make_watch):
    (place / "run.cell").write_text(CELL)
    said: list[str] = []
    request = WatchRequest(place / "session", place / "raw", "*.h5", place / "hits", settle=0)
    watch = Watch(
        request,
        Geometry.read(place / "run.geom"),
        Cell.read(place / "run.cell"),
        Nothing(),
        say=said.append,
    )
    write_run(place / "raw" / "r1.h5", 60)
    (line,) = watch.step()
    assert line["sample"] == {"n_frames": 60, "n_kept": 0, "n_lost": 0, "indexer": "nothing"}
    assert len(line["alarms"]) == 1
    assert line["alarms"][0].startswith("the indexing rate is 0.0% (0 of 60 frames)")
    assert said == [f"r1.h5: {line['alarms'][0]}"]


def test_an_interrupted_run_is_gone_on_with(place, make_watch):
    class Interrupted(Exception):
        pass

    def interrupt(path: Path, n_frames: int, done: int, hits: int) -> None:
        if done > 100:
            raise Interrupted

    write_run(place / "raw" / "r1.h5", 400)
    with pytest.raises(Interrupted):
        make_watch(progress=interrupt).step()
    steps: list[int] = []
    (line,) = make_watch(progress=lambda path, n, done, hits: steps.append(done)).step()
    assert (line["n_frames"], line["n_hits"]) == (400, 200)
    assert steps[0] > 100


def test_a_run_that_changed_after_an_interruption_is_begun_anew(place, make_watch):
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    write_run(place / "raw" / "r1.h5", 40)
    with pytest.raises(Interrupted):
        make_watch(progress=interrupt).step()
    write_run(place / "raw" / "r1.h5", 60, every=3)
    (line,) = make_watch().step()
    assert (line["n_frames"], line["n_hits"]) == (60, 20)


def test_damage_to_the_journal_is_told(place, make_watch):
    (place / "hits").mkdir()
    (place / "hits" / "watched.jsonl").write_text('{"file": \n{"fi')
    with pytest.raises(ValueError, match=r"watched\.jsonl, line 1 is damaged"):
        make_watch()


def test_the_sessions_indexer_and_intervals():
    def of(name: str) -> tuple:
        choice = session_indexer(Recommendation(SETTINGS, {}, {"indexer": name}))
        return choice.name, choice.method, choice.effort

    assert of("fast 0.1.0") == ("fast", None, "normal")
    assert of("CrystFEL 0.12.0, asdf") == ("crystfel", "asdf", "normal")
    assert of("CrystFEL 0.12.0-113-g80, xgandalf cheap") == ("crystfel", "xgandalf", "cheap")
    intervals = rate_intervals(Recommendation(SETTINGS, EVIDENCE, {}))
    assert intervals["hit rate"] == pytest.approx((0.431, 0.569), abs=1e-3)
    assert intervals["indexing rate"] == pytest.approx((0.335, 0.469), abs=1e-3)
    assert rate_intervals(Recommendation(SETTINGS, {}, {})) == {}


def test_copies_are_runs_of_their_own(place, make_watch):
    write_run(place / "raw" / "r1.h5", 8)
    shutil.copy(place / "raw" / "r1.h5", place / "raw" / "r2.h5")
    assert len(make_watch().step()) == 2


def test_a_run_that_is_taken_away_while_it_waits_its_turn_ends_no_watch(place, make_watch):
    said: list[str] = []
    for name in ("r1", "r2", "r3"):
        write_run(place / "raw" / f"{name}.h5")

    def take_away(path, *_):
        if path.name == "r1.h5":
            (place / "raw" / "r2.h5").unlink(missing_ok=True)

    lines = make_watch(said, progress=take_away).step()
    assert [Path(line["file"]).name for line in lines] == ["r1.h5", "r3.h5"]
    assert [sentence.split()[0] for sentence in said if "left out" in sentence] == ["r2.h5"]


def test_what_was_left_out_is_tried_again_and_the_reason_said_once(
    place, make_watch, monkeypatch, tmp_path
):
    said: list[str] = []
    watch = make_watch(said)
    write_run(place / "raw" / "r1.h5")
    (place / "hits").joinpath("r1.h5_hits.cxi").mkdir()  # nothing can be written there
    assert watch.step() == watch.step() == []
    monkeypatch.setattr("tuner.apply.watching.TRIED_AGAIN", 0.0)
    assert watch.step() == []
    assert len(said) == 1
    (place / "hits" / "r1.h5_hits.cxi").rmdir()
    assert [line["n_hits"] for line in watch.step()] == [20]


def test_a_pattern_that_is_none_is_refused(make_watch):
    with pytest.raises(InputError, match=r"write one such as \*\.h5"):
        make_watch(pattern="")


def test_in_a_folder_with_its_hits_a_users_own_file_is_a_run(place):
    raw = place / "raw"
    write_run(raw / "r1.cxi")
    shutil.copy(raw / "r1.cxi", raw / "lyso_hits.cxi")
    request = WatchRequest(place / "session", raw, "*.cxi", raw, settle=0)
    geometry = Geometry.read(place / "run.geom")
    done = [Path(line["file"]).name for line in Watch(request, geometry).step()]
    assert sorted(done) == ["lyso_hits.cxi", "r1.cxi"]
    # Hits are no runs, not even once their run has gone.
    (raw / "r1.cxi").unlink()
    assert Watch(request, geometry).step() == []


def test_a_pattern_of_everything_passes_over_what_is_no_run(place, make_watch):
    raw = place / "raw"
    write_run(raw / "r1.h5")
    write_run(raw / "without_a_suffix")
    (raw / "folder").mkdir()
    (raw / "notes.txt").write_text("a log")
    (raw / "broken.h5").write_text("cut short")
    said: list[str] = []
    lines = make_watch(said, pattern="*").step()
    assert [Path(line["file"]).name for line in lines] == ["r1.h5", "without_a_suffix"]
    assert len(said) == 1 and said[0].startswith("broken.h5 is left out")
