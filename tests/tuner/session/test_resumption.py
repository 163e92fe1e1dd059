"""A session that was stopped anywhere goes on as if it had not been."""

import json
from dataclasses import replace

import pytest

from envs.objective import Merit
from tests.third_parts import SecondBest
from tuner.search.contract import SearcherKind
from tuner.searchers import SEARCHERS
from tuner.session.budget import Budget
from tuner.session.config import SessionConfig
from tuner.session.loop import run_session
from tuner.session.store import MemoryLog, SessionStore
from tuner.session.trial import Trial
from wrappers.errors import InputError, ProgramError

BUDGET = 10


def tried(log) -> list[tuple]:
    return [(t.stage, t.evaluation.settings, t.evaluation.n_frames, t.best) for t in log.trials]


def session(trials, landscape, space, searcher, n=BUDGET) -> MemoryLog:
    log = MemoryLog(trials)
    run_session(log, landscape, space, searcher=searcher, seed=1, budget=Budget(n))
    return log


@pytest.mark.parametrize("searcher", [name for name in SEARCHERS if not SEARCHERS.get(name).looks])
@pytest.mark.parametrize("n", [BUDGET, pytest.param(24, marks=pytest.mark.slow)])
def test_a_session_stopped_after_any_trial_makes_the_same_trials(
    searcher, n, make_landscape, space
):
    whole = session([], make_landscape(), space, searcher, n)
    for cut in range(len(whole.trials)):
        resumed = session(whole.trials[:cut], make_landscape(), space, searcher, n)
        assert tried(resumed) == tried(whole), cut


def test_a_session_that_nothing_indexed_in_is_resumed_the_same(make_landscape, space):
    far = make_landscape(true_clen=0.2)
    whole = session([], far, space, "cmaes")
    for cut in range(len(whole.trials)):
        assert tried(session(whole.trials[:cut], far, space, "cmaes")) == tried(whole)


def test_a_failure_before_the_stop_counts_after_it(make_landscape, space):
    class Gone(make_landscape):
        def evaluate(self, settings, n_frames=None):
            if len(set(self.calls)) >= 7:
                raise ProgramError("indexamajig is gone")
            return super().evaluate(settings, n_frames)

    whole = session([], Gone(), space, "tpe")
    assert [bool(t.evaluation.failure) for t in whole.trials[-2:]] == [True, True]
    landscape = Gone()
    landscape.calls = [trial.evaluation.settings for trial in whole.trials[:7]]
    assert tried(session(whole.trials[:-1], landscape, space, "tpe")) == tried(whole)


def test_a_session_begun_otherwise_goes_on_with_what_was_measured(make_landscape, space):
    other = session([], make_landscape(), space, "random").trials[:9]
    resumed = session(other, make_landscape(), space, "gp")
    assert resumed.trials[:9] == other
    assert len([t for t in resumed.trials if t.stage not in ("confirm", "fresh")]) == BUDGET


def test_a_log_on_disk_holds_what_a_log_in_memory_holds(tmp_path, make_landscape, space):
    config = SessionConfig(data="run.h5", tuned=space.names)
    store = SessionStore.create(tmp_path, config)
    run_session(store, make_landscape(), space, searcher="gp", seed=1, budget=Budget(BUDGET))
    memory = session([], make_landscape(), space, "gp")
    assert tried(store) == tried(memory)
    again = SessionStore.open(tmp_path)
    assert again.config == config
    assert tried(again) == tried(memory)


def test_sessions_of_the_first_version_are_read(tmp_path, make_landscape, space):
    """Without the merit, by the stages' former names, and without the best so far."""
    config = SessionConfig(data="run.h5", tuned=space.names)
    store = SessionStore.create(tmp_path, config)
    far = make_landscape(true_clen=0.0784 * 1.045)
    run_session(store, far, space, searcher="gp", seed=1, budget=Budget(BUDGET))
    stages = {trial.stage for trial in store.trials}
    assert {"coarse", "initial", "search"} <= stages
    former = {"coarse": "look", "initial": "portfolio"}
    lines = []
    for line in (tmp_path / "evaluations.jsonl").read_text().splitlines():
        fields = json.loads(line)
        del fields["best"]
        fields["stage"] = former.get(fields["stage"], fields["stage"])
        evaluation = fields["evaluation"]
        evaluation["asked"] = evaluation.pop("refined")
        lines.append(json.dumps(fields) + "\n")
    (tmp_path / "evaluations.jsonl").write_text("".join(lines))
    (tmp_path / "session.json").write_text(
        json.dumps({"data": "run.h5", "tuned": list(space.names), "stop_early": False})
    )
    read = SessionStore.open(tmp_path)
    assert read.config.merit == Merit()
    assert [(t.stage, t.evaluation.settings) for t in read.trials] == [
        (t.stage, t.evaluation.settings) for t in store.trials
    ]
    assert read.trials[-1].best == store.trials[-1].best
    n = len(read.trials)
    run_session(read, far, space, searcher="gp", seed=1, budget=Budget(BUDGET))
    assert len(read.trials) == n


def test_a_session_with_another_merit_is_refused(tmp_path, space):
    config = SessionConfig(data="run.h5", tuned=space.names)
    with pytest.raises(InputError, match=r"begun with merit = .*0\.2.*, not .*0\.1"):
        config.refuse_other(replace(config, merit=Merit(0.1)), tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("seed", "one", "seed is 'one', but must be a whole number"),
        ("tuned", "clen", "tuned is 'clen', but must be a list"),
        ("n_frames", 2.5, "n_frames is 2.5, but must be a whole number"),
        ("merit", {"name": "beauty"}, "this version knows no merit"),
        ("found_geometry", {"values": {"min_snr": 4}}, "'min_snr' is no setting"),
        ("found_geometry", {"values": {"clen": -1}}, "damaged: clen is -1"),
    ],
)
def test_a_damaged_session_file_is_told_by_its_field(tmp_path, field, value, sentence):
    SessionStore.create(tmp_path, SessionConfig(data="run.h5"))
    path = tmp_path / "session.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(InputError, match=sentence):
        SessionStore.open(tmp_path)


def test_the_best_so_far_is_what_would_be_recommended(make_landscape, space):
    """Of a searcher that says itself what it recommends, too."""
    log, kind = MemoryLog(), SearcherKind(SecondBest, handles_geometry=True, starts_itself=True)
    outcome = run_session(
        log, make_landscape(), space, searcher=kind, seed=1, budget=Budget(BUDGET)
    )
    assert outcome is not None
    last: Trial = log.trials[-1]
    assert log.trials[last.best].evaluation == outcome.best


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -5),
        ("seed", 10**30),
        ("n_frames", 0),
        ("n_frames", -3),
        ("clen_range", 1e14),
        ("clen_range", -0.05),
        ("evaluations", -4),
        ("evaluations", 0),
        ("minutes", -1.5),
        ("minutes", float("nan")),
        ("tuned", ["peak_finder"]),
        ("fixed", {"peak_finder": 3}),
        ("data", "a\0b"),
        ("cell", "\ud800"),
        ("geometry", "/data/" + "x" * 300),
    ],
)
def test_what_no_session_can_have_been_begun_with_is_refused(tmp_path, field, value):
    (tmp_path / "session.json").write_text(json.dumps({field: value}))
    with pytest.raises(InputError, match="is damaged") as told:
        SessionConfig.read(tmp_path / "session.json")
    assert field in str(told.value) or "peak_finder" in str(told.value)


@pytest.mark.parametrize(
    "spent", [{"evaluations": -1}, {"minutes": 0.0}, {"minutes": float("nan")}]
)
def test_a_budget_that_is_none_is_refused(spent):
    with pytest.raises(InputError, match="above 0"):
        Budget(**spent)


def test_a_session_begins_in_a_directory_of_its_own(tmp_path):
    (tmp_path / "run0001.h5").write_text("somebody's data")
    with pytest.raises(InputError, match=r"holds other files already, such as run0001\.h5"):
        SessionStore.create(tmp_path, SessionConfig(data="run.h5"))
    assert [path.name for path in tmp_path.iterdir()] == ["run0001.h5"]
