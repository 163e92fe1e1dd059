"""What a session measures first, what its result is held against, and where nothing indexes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from envs.evaluation import Evaluation, FrameOutcome
from envs.geometry_rule import GeometryLock
from envs.parameter_space import make_space
from tuner.recommendation import read_recommendation, recommend
from tuner.session.budget import Budget
from tuner.session.choice import cross_validated_rate
from tuner.session.initial_design import convincing
from tuner.session.loop import Outcome, run_session
from tuner.session.nothing import FILE, few_peaks, read_nothing, why_nothing, write_nothing
from tuner.session.start import Start, start_of_values, with_start
from tuner.session.store import MemoryLog
from tuner.session.trial import Trial
from wrappers.errors import InputError
from wrappers.settings import Settings

GOOD = {"min_snr": 4.3, "threshold": 40.0}


def run(evaluator, space, *, n=20, **options):
    log = MemoryLog()
    options = {"searcher": "gp", "seed": 1, "budget": Budget(n), **options}
    return log.trials, run_session(log, evaluator, space, **options)


def box(clen_range=0.05, **options):
    return make_space(
        ("min_snr", "threshold", "min_pix_count", "clen"),
        background=(12.0, 60.0),
        camera_length=0.0784,
        pixel_size=75e-6,
        largest_radius=725.0,
        clen_range=clen_range,
        **options,
    )


def test_what_is_in_use_is_measured_first_and_is_the_bar(landscape, make_landscape, space):
    start = start_of_values({"min_snr": 5.5, "threshold": 60}).measured(space, 0.0784)
    trials, outcome = run(landscape, space, start=start, fresh=make_landscape(first=1000))
    assert [trial.stage for trial in trials[:3]] == ["start", "baseline", "initial"]
    assert trials[0].evaluation.settings == start and trials[2].evaluation.settings == space.base
    assert outcome.start.settings == start
    frames = [{o.frame for o in e.outcomes} for e in (outcome.start, outcome.baseline)]
    assert frames == [{o.frame for o in outcome.best.outcomes}] * 2, "all on the same fresh frames"
    evidence = recommend(outcome.best, outcome.baseline, {}, start=outcome.start).evidence
    assert evidence["start_rate"] == pytest.approx(outcome.start.rate)
    assert evidence["baseline_rate"] == pytest.approx(outcome.baseline.rate)
    assert evidence["gain"] == pytest.approx(outcome.best.rate - outcome.start.rate, abs=1e-6)


def test_the_opening_counts_in_the_budget(landscape, space):
    start = start_of_values(GOOD).measured(space, 0.0784)
    trials, _ = run(landscape, space, start=start, n=8)
    assert sum(trial.stage != "confirm" for trial in trials) == 8


def test_a_set_that_nothing_beats_is_itself_recommended(landscape, space):
    best = start_of_values(GOOD).settings.replace(clen=landscape.true_clen)
    _, outcome = run(landscape, space, start=best, n=8)
    assert outcome.best.rate == outcome.start.rate
    assert not why_nothing([], outcome)


def test_what_is_not_tuned_keeps_the_users_value():
    start = start_of_values({"local_bg_radius": 5, "min_res": 40, "min_peaks": 0, "min_snr": 7})
    base = with_start(box(), start, fixed=("min_res",)).base
    assert (base.local_bg_radius, base.min_res, base.min_snr) == (5, 0, 5)
    assert base.min_peaks == 10, "0 would send every frame to the indexer"


def test_coarse_evaluations_cover_the_whole_range(make_landscape):
    """The file's camera length is 8 % short."""
    far = make_landscape(true_clen=0.0784 / 0.92)
    trials, outcome = run(far, box(clen_range=0.1), n=30)
    coarse = [t.evaluation.settings.clen / 0.0784 for t in trials if t.stage == "coarse"]
    assert max(coarse) > 1.05
    assert outcome.best.settings.clen == pytest.approx(far.true_clen, rel=5e-4)
    after = [t for t in trials if t.stage == "initial"][1:]
    assert after and all(t.evaluation.n_indexed for t in after), "never back to where none indexes"


class Falsely:
    """A landscape in which one frame indexes at the first camera length that is off, by chance."""

    def __init__(self, landscape, clen) -> None:
        self.landscape, self.clen, self.n_frames = landscape, clen, landscape.n_frames

    def evaluate(self, settings, n_frames=None):
        found = self.landscape.evaluate(settings, n_frames)
        if found.n_indexed or abs(settings.clen / self.clen - 1) > 1e-4:
            return found
        first = replace(found.outcomes[0], n_lattices=1)
        return replace(found, outcomes=(first, *found.outcomes[1:]))


def test_one_false_lattice_does_not_end_the_coarse_search(make_landscape):
    far = make_landscape(true_clen=0.0784 / 1.055)
    _, outcome = run(Falsely(far, 0.0784 * 1.03), box(clen_range=0.08), n=30)
    assert outcome.best.settings.clen == pytest.approx(far.true_clen, rel=5e-4)


def test_lattices_that_contradict_each_other_do_not_convince(space):
    def indexed(n, apart):
        lengths = 0.07 * (1 + apart * np.linspace(-1, 1, n))
        own = tuple((i, float(each), 1e-5) for i, each in enumerate(lengths))
        return replace(made(space.base, n), frame_clens=own)

    assert convincing(indexed(15, 0.005)) and convincing(indexed(3, 0.008))
    assert not convincing(indexed(15, 0.04)) and not convincing(indexed(3, 0.03))
    assert convincing(made(space.base, 15)), "no frame says anything of its own"


def test_a_run_whose_camera_length_changes_convinces(space):
    """It was moved in the middle, or drifts; or but few of the frames know their own."""

    def indexed(n, *lengths):
        own = tuple((i, 0.07 * float(each), 1e-5) for i, each in enumerate(lengths))
        return convincing(replace(made(space.base, n, 80), frame_clens=own))

    rng = np.random.default_rng(1)
    moved = [*rng.normal(1.0, 1e-4, 22), *rng.normal(1.02, 1e-4, 21)]
    assert indexed(43, *moved)
    assert indexed(60, *np.linspace(1, 1.04, 60))
    assert indexed(30, 1.0, 1.001, 1.002, 1.003, 0.999, 1.0, 1.03, 0.95, 1.06)
    assert not indexed(43, *rng.uniform(0.93, 1.07, 43))


def test_below_three_indexed_frames_the_geometrys_camera_length_is_kept(make_landscape):
    nowhere = make_landscape(true_clen=0.2)
    _, outcome = run(Falsely(nowhere, 0.0784 * 1.03), box(), n=14)
    assert outcome.best.settings.clen == pytest.approx(0.0784)
    assert "may be chance" in why_nothing([], outcome)


def test_a_camera_length_at_the_edge_is_never_fixed(make_landscape):
    space = box(clen_range=0.03)
    lock = GeometryLock(space)
    beyond = make_landscape(true_clen=0.0784 * 1.04)
    lock.observe(beyond.evaluate(space.base.replace(clen=0.0784 * 1.03, **GOOD)), 0.5)
    assert lock.fixed == {}
    within = make_landscape(true_clen=0.0784 * 1.02)
    lock.observe(within.evaluate(space.base.replace(**GOOD)), 0.6)
    assert lock.fixed["clen"] == pytest.approx(0.0784 * 1.02, rel=5e-4)


class Small:
    """A run of a small molecule: six peaks in every frame."""

    n_frames = 40

    def evaluate(self, settings, n_frames=None):
        hit = settings.min_peaks <= 6
        outcomes = (FrameOutcome(i, 6, hit, 0) for i in range(n_frames or self.n_frames))
        return Evaluation(settings, tuple(outcomes))


def test_without_hits_no_camera_length_is_tried_and_the_reason_is_said():
    trials, outcome = run(Small(), box(), n=12)
    coarse = [trial.evaluation.settings.clen for trial in trials if trial.stage == "coarse"]
    assert set(coarse) == {0.0784}
    assert outcome is None
    why = why_nothing(trials, outcome)
    assert "No frame has 10 peaks" in why and "--set min_peaks=3" in why
    assert few_peaks(Small().evaluate(box().base.replace(min_peaks=4))) == ""


@pytest.mark.parametrize(
    ("indexed", "others", "is_said"),
    [
        ([12, 13, 14, 11, 30], [5] * 30, True),  # what is indexed is the upper end
        ([40, 90, 60, 50, 12], [5] * 30, False),  # crystals show many, blank frames some noise
        ([12, 13, 14, 11, 30], [2] * 30, False),
        ([12, 13, 14, 11, 30], [5] * 5, False),
    ],
)
def test_a_limit_that_cuts_off_most_crystals_is_told_from_noise(space, indexed, others, is_said):
    peaks = [(n, True) for n in indexed] + [(n, False) for n in others]
    outcomes = tuple(FrameOutcome(i, n, n >= 10, int(yes)) for i, (n, yes) in enumerate(peaks))
    assert bool(few_peaks(Evaluation(space.base, outcomes))) is is_said


def made(settings, n_indexed, n=40):
    return Evaluation(
        settings, tuple(FrameOutcome(i, 20, True, int(i < n_indexed)) for i in range(n))
    )


def test_what_is_worse_than_what_is_in_use_is_not_recommended(space):
    best, start, baseline = (
        made(space.base.replace(min_snr=snr), n) for snr, n in ((5, 10), (6, 30), (7, 2))
    )
    outcome = Outcome(best, baseline, True, start=start)
    why = why_nothing([], outcome, "what you use (a.toml)")
    assert "10 of 40 frames, fewer than what you use (a.toml): 30" in why
    assert why_nothing([], replace(outcome, start=None)) == ""
    close = replace(outcome, best=made(best.settings, 29))
    assert why_nothing([], close) == "", "one frame is no difference"


def test_what_chance_indexes_as_well_is_not_recommended(space):
    bar = made(space.base.replace(min_snr=6), 0)

    def why(n_indexed: int, n_decoys_indexed: int) -> str:
        best = replace(made(space.base, n_indexed), n_decoys=20, n_decoys_indexed=n_decoys_indexed)
        return why_nothing([], Outcome(best, bar, True))

    assert "of 40 hits 1 are indexed, and of 20 scrambled peak lists 3" in why(1, 3)
    assert "chance alone may have done it" in why(12, 6)
    assert why(30, 1) == "" and why(1, 0) == "", "no decoy was indexed"


def test_what_indexes_none_of_the_fresh_frames_is_not_recommended(space):
    none = made(space.base, 0)
    why = why_nothing([], Outcome(none, made(space.base.replace(min_snr=6), 0), True))
    assert "indexes none of 40 fresh frames" in why


def test_a_session_that_recommends_nothing_says_so_to_whoever_asks(tmp_path):
    (tmp_path / "recommended.toml").write_text("[settings]\nmin_snr = 4\n")
    write_nothing(tmp_path, "it is dark.")
    assert not (tmp_path / "recommended.toml").exists()
    with pytest.raises(InputError, match="recommends nothing: it is dark"):
        read_recommendation(tmp_path)
    write_nothing(tmp_path, "")
    assert not (tmp_path / FILE).exists() and read_nothing(tmp_path) == ""


def test_a_rate_chosen_as_the_best_of_many_is_not_believed():
    """Twenty sets that are equally good: the best of them looks better than it is, on average."""
    rng = np.random.default_rng(5)
    best, believed = [], []
    for _ in range(60):
        indexed = (rng.random((20, 60)) < 0.4).tolist()
        sets = [Settings(min_snr=3 + number / 10) for number in range(20)]
        trials = [
            Trial(
                number,
                "search",
                Evaluation(
                    sets[number], tuple(FrameOutcome(i, 20, True, k) for i, k in enumerate(row))
                ),
            )
            for number, row in enumerate(indexed)
        ]
        best.append(max(trial.evaluation.rate for trial in trials))
        believed.append(cross_validated_rate(trials))
    assert np.mean(best) > 0.5
    assert np.mean(believed) == pytest.approx(0.4, abs=0.03)
    assert cross_validated_rate(trials[:1]) == trials[0].evaluation.rate


def test_what_is_customary_gives_way_to_what_the_user_has_set():
    customary = Start(Settings(min_snr=8, min_res=50), "what is customary")
    space = box(fixed={"min_peaks": 15}, bounds={"min_snr": (3, 6)})
    measured = customary.measured(space, 0.0784, {"min_peaks": 15}, ("min_snr",))
    assert (measured.min_peaks, measured.min_snr, measured.min_res) == (15, 6, 50)
    own = replace(customary, given=("min_snr",)).measured(space, 0.0784, {"min_peaks": 15})
    assert (own.min_peaks, own.min_snr) == (10, 8), "what a user names is measured as it is"
