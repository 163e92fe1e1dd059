from pathlib import Path

import pytest

from envs.evaluation import Evaluation, FrameOutcome
from envs.objective import USUAL_MERIT as merit
from envs.parameter_space import ParameterSpace, make_space
from tests.third_parts import SecondBest
from tuner.recommendation import read_recommendation, recommend, write_recommendation
from tuner.search.contract import SearcherKind
from tuner.session.budget import Budget
from tuner.session.choice import best_trial
from tuner.session.config import SessionConfig
from tuner.session.loop import run_session
from tuner.session.store import SessionStore
from tuner.session.trial import Trial
from wrappers.errors import InputError, ProgramError
from wrappers.settings import CRYSTFEL_DEFAULTS


def run(directory: Path, evaluator, space: ParameterSpace, *, n: int = 20, **options):
    if (directory / "session.json").exists():
        store = SessionStore.open(directory, mend=True)
    else:
        store = SessionStore.create(directory, SessionConfig(data="run.h5", tuned=space.names))
    options = {"searcher": "gp", "seed": 1, "budget": Budget(n), **options}
    return store, run_session(store, evaluator, space, **options)


def test_a_session_beats_the_defaults_and_finds_the_camera_length(tmp_path, landscape, space):
    _, outcome = run(tmp_path, landscape, space)
    assert outcome is not None
    assert outcome.best.settings.clen == pytest.approx(landscape.true_clen, rel=5e-4)
    assert outcome.best.rate > 0.75  # 0.8 is the best there is
    assert outcome.best.rate > outcome.baseline.rate
    assert outcome.baseline.settings.replace(clen=None) == CRYSTFEL_DEFAULTS


def test_the_budget_is_kept(tmp_path, landscape, space):
    store, _ = run(tmp_path, landscape, space, n=9)
    assert len([trial for trial in store.trials if trial.stage != "confirm"]) == 9


def test_a_budget_of_minutes_ends_the_search(tmp_path, landscape, space):
    store, outcome = run(tmp_path, landscape, space, budget=Budget(minutes=2 / 60))
    spent = len(store.trials)
    assert outcome is not None and spent > 2
    # What was spent before counts when the session is resumed.
    store, _ = run(tmp_path, landscape, space, budget=Budget(minutes=0.01 / 60))
    assert len(store.trials) == spent


def test_where_nothing_indexes_it_looks_for_the_camera_length(tmp_path, make_landscape, space):
    far = make_landscape(true_clen=0.0784 * 1.045)
    store, outcome = run(tmp_path, far, space)
    assert "coarse" in [trial.stage for trial in store.trials]
    assert outcome is not None
    assert outcome.best.settings.clen == pytest.approx(far.true_clen, rel=5e-4)


def test_a_camera_length_that_is_not_tuned_stays(tmp_path, landscape, space):
    _, outcome = run(tmp_path, landscape, space.fixed(clen=0.0792))
    assert outcome is not None
    assert outcome.best.settings.clen == 0.0792


def test_nothing_indexed_is_no_recommendation(tmp_path, make_landscape, space):
    store, outcome = run(tmp_path, make_landscape(true_clen=0.2), space, n=14)
    assert outcome is None
    assert len(store.trials) == 14
    assert best_trial(store.trials, space) is None
    assert all(trial.best == -1 for trial in store.trials)


def test_of_equal_settings_the_middle_of_the_plateau_wins(space):
    def trial(min_snr: float, k: int) -> Trial:
        outcomes = tuple(FrameOutcome(i, 20, True, int(i < k)) for i in range(10))
        return Trial(0, "search", Evaluation(space.base.replace(min_snr=min_snr), outcomes))

    crowd = [trial(min_snr, 8) for min_snr in (8.5, 8.6, 8.8, 9)]
    trials = [trial(3, 4), trial(4, 8), trial(6, 8), *crowd, trial(5, 7)]
    best = best_trial(trials, space)
    assert best is not None and best.evaluation.settings.min_snr == 6


def test_fresh_frames_decide_about_the_winner(tmp_path, landscape, make_landscape, space):
    fresh = make_landscape(first=1000)
    _, outcome = run(tmp_path, landscape, space, n=8, fresh=fresh)
    assert outcome is not None and outcome.on_fresh_frames
    assert {o.frame for o in outcome.best.outcomes} == set(range(1000, 1200))
    assert {o.frame for o in outcome.baseline.outcomes} == set(range(1000, 1200))


def test_a_searcher_that_recommends_says_what_is_recommended(tmp_path, landscape, space):
    kind = SearcherKind(SecondBest, handles_geometry=True, starts_itself=True)
    store, outcome = run(tmp_path, landscape, space, n=12, searcher=kind)
    searched = [trial.evaluation for trial in store.trials if trial.stage == "search"]
    whole = [one for one in searched if one.n_frames == landscape.n_frames]
    *_, second, best = sorted(whole, key=merit)
    assert 0 < merit(second) < merit(best)
    assert outcome.best.settings.min_snr == second.settings.min_snr != best.settings.min_snr
    assert "which may be luck" in outcome.choice


def test_an_interrupted_session_goes_on_where_it_stopped(tmp_path, make_landscape, space):
    class Interrupted(make_landscape):
        def evaluate(self, settings, n_frames=None):
            if len({call for call in self.calls}) == 7 and settings not in self.calls:
                raise KeyboardInterrupt
            return super().evaluate(settings, n_frames)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Interrupted(), space, n=12)
    before = SessionStore.open(tmp_path).trials
    assert len(before) == 7
    store, outcome = run(tmp_path, make_landscape(), space, n=12)
    assert outcome is not None
    assert [trial.evaluation.settings for trial in store.trials[:7]] == [
        trial.evaluation.settings for trial in before
    ]
    assert len([trial for trial in store.trials if trial.stage != "confirm"]) == 12
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 1 + len(store.trials)
    assert (tmp_path / "trials.csv").read_text() == store.table().to_csv(index=False)


def test_a_resumed_finished_session_measures_nothing_again(tmp_path, landscape, space):
    _, outcome = run(tmp_path, landscape, space, n=8)
    calls = len(landscape.calls)
    _, same = run(tmp_path, landscape, space, n=8)
    assert len(landscape.calls) == calls
    assert same is not None and outcome is not None
    assert same.best.settings == outcome.best.settings


def test_a_half_written_line_is_dropped(tmp_path, landscape, space):
    run(tmp_path, landscape, space, n=5)
    log = tmp_path / "evaluations.jsonl"
    n = len(log.read_text().splitlines())
    log.write_text(log.read_text()[:-200])
    half = log.read_text()
    assert len(SessionStore.open(tmp_path).trials) == n - 1
    assert log.read_text() == half, "who only reads changes nothing: the session may be running"
    assert len(SessionStore.open(tmp_path, mend=True).trials) == n - 1
    assert log.read_text().endswith("\n")


def test_a_session_is_never_begun_over_another(tmp_path, landscape, space):
    run(tmp_path, landscape, space, n=3)
    with pytest.raises(InputError, match="holds a session already: add --resume"):
        SessionStore.create(tmp_path, SessionConfig())


def test_damaged_session_files_are_told(tmp_path, landscape, space):
    run(tmp_path, landscape, space, n=3)
    log = tmp_path / "evaluations.jsonl"
    log.write_text("{}\n" + log.read_text())
    with pytest.raises(InputError, match="line 1 is damaged"):
        SessionStore.open(tmp_path)
    with pytest.raises(InputError, match="holds no session"):
        SessionStore.open(tmp_path / "other")


class Breaking:
    """A landscape whose indexer breaks at some calls, counted from 0."""

    def __init__(self, landscape, broken) -> None:
        self.landscape, self.broken, self.n_calls = landscape, broken, 0

    @property
    def n_frames(self) -> int:
        return self.landscape.n_frames

    def evaluate(self, settings, n_frames=None):
        self.n_calls += 1
        if self.n_calls - 1 in self.broken:
            raise ProgramError("indexamajig is gone")
        return self.landscape.evaluate(settings, n_frames)


def test_an_evaluation_that_fails_once_is_made_again(tmp_path, landscape, space):
    store, outcome = run(tmp_path, Breaking(landscape, {0, 6}), space, n=8)
    assert outcome is not None and not outcome.ended_by_failure
    assert not any(trial.evaluation.failure for trial in store.trials)


def test_an_evaluation_that_fails_twice_is_recorded_and_the_session_goes_on(
    tmp_path, landscape, space
):
    store, outcome = run(tmp_path, Breaking(landscape, {6, 7}), space, n=12)
    assert outcome is not None and not outcome.ended_by_failure
    assert [t.evaluation.failure for t in store.trials if t.evaluation.failure] == [
        "indexamajig is gone"
    ]
    assert outcome.best.rate > 0.6
    assert "indexamajig is gone" in (tmp_path / "trials.csv").read_text()


def test_a_session_whose_indexer_is_gone_ends_with_what_it_has_and_can_go_on(
    tmp_path, landscape, space
):
    store, outcome = run(tmp_path, Breaking(landscape, range(8, 1000)), space, n=30)
    assert outcome is not None
    assert outcome.ended_by_failure.startswith("indexamajig is gone")
    assert outcome.best.n_indexed > 0
    assert len(store.trials) < 12
    store, outcome = run(tmp_path, landscape, space, n=15)
    assert outcome is not None and not outcome.ended_by_failure
    assert len([t for t in store.trials if t.stage not in ("confirm", "fresh")]) == 15


@pytest.mark.parametrize("n_good", [9, 13, 20])
def test_a_session_that_ends_so_recommends_the_camera_length_that_is_asked_for(
    tmp_path, landscape, space, n_good
):
    """The baseline, four parts of a race, and four at the geometry, then further trials there."""
    store, outcome = run(tmp_path, Breaking(landscape, range(n_good, 1000)), space, n=30)
    assert outcome is not None and outcome.ended_by_failure == "indexamajig is gone"
    assert outcome.best.settings.clen == pytest.approx(landscape.true_clen, rel=5e-4)
    assert outcome.best in [trial.evaluation for trial in store.trials]


def test_a_camera_length_that_could_not_be_measured_any_more_is_told(tmp_path, landscape, space):
    _, outcome = run(tmp_path, Breaking(landscape, range(2, 1000)), space, n=30)
    assert outcome is not None and outcome.best.settings.clen == 0.0784
    assert "the lattices fix clen = 0.080008 m, which was not measured" in outcome.ended_by_failure


def test_an_indexer_that_breaks_at_the_last_leaves_what_was_measured(tmp_path, landscape, space):
    store = SessionStore.create(tmp_path, SessionConfig(data="run.h5", tuned=space.names))
    outcome = run_session(
        store,
        landscape,
        space,
        searcher="gp",
        seed=1,
        budget=Budget(8),
        fresh=Breaking(landscape, range(1000)),
    )
    assert outcome is not None and outcome.ended_by_failure == "indexamajig is gone"
    assert not outcome.on_fresh_frames and outcome.best.rate > 0.6


def test_an_indexer_that_never_works_is_an_error(tmp_path, landscape, space):
    with pytest.raises(ProgramError, match="indexamajig is gone"):
        run(tmp_path, Breaking(landscape, range(1000)), space, n=30)


def test_a_session_may_stop_before_its_budget_is_spent(tmp_path, landscape, space):
    store, outcome = run(tmp_path, landscape, space, n=60, stop_early=True)
    assert outcome is not None and outcome.best.rate > 0.75
    assert len(store.trials) < 40


def test_the_recommendation_is_read_back_as_written(tmp_path, landscape, space):
    _, outcome = run(tmp_path, landscape, space, n=8)
    assert outcome is not None
    written = recommend(outcome.best, outcome.baseline, {"searcher": "gp", "seed": 1})
    write_recommendation(written, tmp_path / "recommended.toml")
    read = read_recommendation(tmp_path)
    assert read.settings == written.settings
    assert read.evidence == written.evidence
    assert read.evidence["indexing_rate"] == pytest.approx(outcome.best.rate)


def test_a_session_with_the_robust_finder_stays_in_its_box(tmp_path, landscape):
    box = make_space(
        ("min_snr", "min_pix_count", "clen"),
        background=(12.0, 60.0),
        camera_length=0.08,
        pixel_size=75e-6,
        largest_radius=725.0,
        peak_finder="robust",
        photon=30.0,
    )
    store, outcome = run(tmp_path, landscape, box, n=10)
    assert outcome is not None and outcome.baseline.settings.peak_finder == "peakfinder8"
    tried = [trial.evaluation.settings for trial in store.trials[1:]]
    assert {each.peak_finder for each in tried} == {"robust"}
    assert all(2 <= each.min_snr <= 3.5 and each.threshold == 30 for each in tried)
    reopened = SessionStore.open(store.directory)
    assert [trial.evaluation.settings for trial in reopened.trials[1:]] == tried
    written = recommend(outcome.best, outcome.baseline, {})
    write_recommendation(written, tmp_path / "recommended.toml")
    assert 'peak_finder = "robust"' in (tmp_path / "recommended.toml").read_text()
    assert read_recommendation(tmp_path).settings == outcome.best.settings


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '[settings]\npeaks = "zaef"\n',
            "no peak finder 'zaef'; choose one of peakfinder8, robust",
        ),
        ("settings = [", "is not TOML"),
        ("[evidence]\n", "no \\[settings\\] table"),
        ("[settings]\nmin_srn = 4\n", "\\[settings\\]: 'min_srn' is no setting"),
        ("[settings]\nmin_snr = -4\n", "min_snr is -4"),
        ("[settings]\nmin_snr = 'a'\n", "must be a number"),
    ],
)
def test_a_bad_recommendation_is_told_in_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "recommended.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_recommendation(path)
