"""``sfx-tuner compare``, as a user meets it."""

import json
import shutil
from dataclasses import replace

import pytest

from envs.evaluators.live import LiveEvaluator
from envs.simulation.simulator import RunPaths, demo_experiment, simulate_run
from tuner.comparison.frames_benchmark import METHODS, RECORDED
from tuner.comparison.runs import compare_run
from tuner.search.warm_start import SHIPPED, WarmStart
from wrappers.indexers import IndexerChoice


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> RunPaths:
    return simulate_run(demo_experiment(seed=1), tmp_path_factory.mktemp("sim") / "run", 12)


def run_arguments(paths: RunPaths, *extra: object) -> list[object]:
    return [
        *("compare", paths.data, "-g", paths.geometry, "-p", paths.cell),
        *("--indexer", "fast", "-j", 1, "--methods", "map-agent,static,defaults"),
        *("--evaluations", 3, *extra),
    ]


def test_a_run_is_stopped_resumed_and_measured_once(cli, simulated, tmp_path, monkeypatch):
    evaluate, measured = LiveEvaluator.evaluate, []

    def stopping(self, settings, n_frames=None):
        if len(measured) == 4:
            raise KeyboardInterrupt
        measured.append((self.n_frames, settings))
        return evaluate(self, settings, n_frames)

    monkeypatch.setattr(LiveEvaluator, "evaluate", stopping)
    code, _, err = cli(*run_arguments(simulated, "-o", "c"))
    assert code == 130
    assert "the same command with --resume goes on with c" in err
    before = list(measured)

    def counting(self, settings, n_frames=None):
        measured.append((self.n_frames, settings))
        return evaluate(self, settings, n_frames)

    monkeypatch.setattr(LiveEvaluator, "evaluate", counting)
    measured.clear()
    code, out, _ = cli(*run_arguments(simulated, "-o", "c", "--resume", "--json"))
    assert code == 0
    found = json.loads(out)["families"]["run"]
    measured_after = list(measured)
    code, out, _ = cli(*run_arguments(simulated, "-o", "whole", "--json"))
    whole = json.loads(out)["families"]["run"]
    assert len(before) + len(measured_after) == len(measured) - len(measured_after)
    for method in ("map-agent", "static", "defaults"):
        found[method].pop("suggestion_seconds"), whole[method].pop("suggestion_seconds")
    assert found == whole
    assert found["n_scoring_frames"] == 12
    assert found["n_seeds"] == 2
    assert {path.name for path in (tmp_path / "c").iterdir()} == {
        *("asked.json", "comparison.json", "comparison.md", "results.npz"),
        *("run_anytime.png", "run_forest.png"),
    }


def test_within_an_evaluation_the_frames_are_told(simulated):
    told = []
    compare_run(
        simulated.data, simulated.geometry, simulated.cell, IndexerChoice("fast"),
        None, ["static"], budget=1, splits=1,
        on_frames=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert len(told) > 1
    assert told[-1][0] == told[-1][1] >= 6


def test_a_comparison_begun_with_other_warm_starts_is_not_resumed(
    cli, simulated, tmp_path, monkeypatch
):
    def stopping(self, settings, n_frames=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(LiveEvaluator, "evaluate", stopping)
    arguments = run_arguments(simulated, "-o", "c")
    assert cli(*arguments)[0] == 130
    assert cli(*arguments, "--resume")[0] == 130
    other = shutil.copytree(SHIPPED, tmp_path / "data")
    found = WarmStart.load(other)
    replace(found, points=found.points[::-1]).save(other)
    monkeypatch.setattr("tuner.search.warm_start.SHIPPED", other)
    code, _, err = cli(*arguments, "--resume")
    assert code == 2
    assert "was begun with other warm_start: give the same" in err


def test_every_mistake_is_told_in_a_sentence_before_any_work(cli, simulated, tmp_path):
    def complaint(*arguments: object) -> str:
        code, out, err = cli("compare", *arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        return err

    data, geometry, cell = simulated.data, simulated.geometry, simulated.cell
    good = (data, "-g", geometry, "-p", cell)
    assert "nofile.h5 does not exist" in complaint("nofile.h5")
    assert "needs its geometry (-g) and its cell (-p)" in complaint(data)
    assert "needs its cell (-p) to be compared on" in complaint(data, "-g", geometry)
    assert "geometry file nofile" in complaint(data, "-g", "nofile", "-p", cell)
    assert "cell file nofile" in complaint(data, "-g", geometry, "-p", "nofile")
    assert "--methods has 'magic'; choose from agent, map" in complaint("--methods", "magic")
    assert "no searcher 'magic'; choose one of map" in complaint(*good, "--methods", "magic")
    assert "--families has 'magic'" in complaint("--families", "magic")
    for option, value in (("--evaluations", 5), ("--indexer", "fast"), ("--timeout", 3)):
        assert f"{option} is for a run" in complaint(option, value)
    said = complaint("--recorded", "--methods", "agent", "--seeds", 1, "-o", "new")
    assert "leave -o, --methods, --seeds out" in said
    assert "--recorded is for the benchmark" in complaint(*good, "--recorded")
    assert "--frames-benchmark is for the benchmark" in complaint(*good, "--frames-benchmark")
    for given in ((), good):
        assert "--full was of a benchmark that was retired" in complaint(*given, "--full")
        assert "no policy can be read from nodir" in complaint(*given, "--policy", "nodir")
    (tmp_path / "file").touch()
    assert "file is a file: name a directory" in complaint(*good, "-o", "file")
    assert "leave --resume out" in complaint(*good, "-o", "new", "--resume")
    assert not (tmp_path / "new").exists()
    code, _, err = cli("compare", *good, "--evaluations", 0)
    assert code == 2
    assert "'--evaluations': 0 is not in the range" in err


def test_the_frozen_frames_give_the_json_of_the_contract(cli, tmp_path):
    asked = ("compare", "--families", "frames_test", "--seeds", 1, "-j", 1)
    code, out, err = cli(*asked, "--methods", "random,defaults", "--json", "-o", "f")
    assert code == 0
    assert "about 1 min on two cores" in err
    (family,) = json.loads(out)["families"].values()
    assert family["n_seeds"] == 1 and family["n_tasks"] >= 2
    assert "agent_3_against_warm_gp_locked_10_ci95" not in family
    for method in ("random", "defaults"):
        regrets = [family[method][f"regret_{n}"] for n in (1, 2, 3, 5, 10)]
        assert all(0 <= each < 1.2 for each in regrets)
        assert "core_seconds_to_best" in family[method]
    # All sessions begin with the defaults; who searches gets beyond.
    assert family["random"]["regret_1"] == family["defaults"]["regret_10"]
    assert family["random"]["regret_5"] < family["defaults"]["regret_5"]
    assert {path.name for path in (tmp_path / "f").iterdir()} == {
        *("asked.json", "comparison.json", "comparison.md", "results.npz", "anytime.png")
    }
    written = json.loads((tmp_path / "f/comparison.json").read_text())
    assert written["families"]["frames_test"] == family
    assert cli(*asked, "-o", "f")[0] == 2  # it is finished


def test_what_was_recorded_of_a_retired_method_stands_beside_what_is_run(
    cli, tmp_path, monkeypatch
):
    asked = ("compare", "--frames-benchmark", "--families", "runs", "--seeds", 1, "-j", 1)
    two = ("--methods", "defaults,first_agent")
    code, out, err = cli(*asked, *two, "--json")
    assert code == 0 and "left out" not in err
    found = json.loads(out)["families"]["runs"]
    record = json.loads(RECORDED.read_text())
    own, recorded = found["first_agent"], record["families"]["runs"]["first_agent"]
    assert own["recorded_by"] == "b0922b2" and own["n_seeds"] == 3 and found["n_seeds"] == 1
    assert own["regret_3"] == recorded["regret_3"]
    defaults = found["defaults"]
    ends = zip(defaults["regret_10_by_task"], own["regret_10_by_task"], strict=True)
    assert defaults["most_behind_10"] == pytest.approx(max(mine - best for mine, best in ends))
    code, out, _ = cli(*asked, *two)
    assert "first_agent is retired: its figures are those that the last version" in (
        " ".join(out.split())
    )

    # Of other experiments it says nothing.
    record["about"]["records"] = "0" * 16
    (tmp_path / "other.json").write_text(json.dumps(record))
    monkeypatch.setattr("tuner.comparison.frames_retired.RECORDED", tmp_path / "other.json")
    code, out, err = cli(*asked, *two, "--json")
    assert code == 0
    assert "first_agent is left out: it is retired, and what was recorded of it is of other" in err
    assert "first_agent" not in json.loads(out)["families"]["runs"]
    code, _, err = cli(*asked, "--methods", "first_agent")
    assert code == 2 and "which is retired: name another one as well" in err


def test_all_methods_are_asked_for_where_none_is_named(cli, tmp_path, monkeypatch):
    def stopping(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("tuner.comparison.frames_benchmark.compare_frames", stopping)
    code, _, err = cli("compare", "-j", 1)
    assert code == 130
    assert f"{len(METHODS)} methods" in err


def test_the_recorded_comparison_on_frames_is_printed(cli):
    code, out, _ = cli("compare", "--recorded", "--json")
    assert code == 0
    found = json.loads(out)
    families = found["families"]
    assert {"frames_test", "frames_shifted"} <= families.keys()
    both = found["together"]["rendered"]
    parts = [families["frames_test"], families["frames_shifted"]]
    assert both["n_tasks"] == sum(each["n_tasks"] for each in parts)
    missed = sum(each["n_tasks"] * each["map"]["regret_3"] for each in parts) / both["n_tasks"]
    assert both["regret"]["map"]["3"] == pytest.approx(missed)
    lead, low, high = both["lead"]["map"]["3"]
    assert low <= lead <= high
    assert lead == pytest.approx(missed - both["regret"]["agent"]["3"])
    for family in families.values():
        assert {"agent", "map", "warm_gp_locked", "first_agent", "gp"} <= family.keys()
        low, high = family["agent_3_against_warm_gp_locked_10_ci95"]
        lead = family["warm_gp_locked"]["regret_10"] - family["agent"]["regret_3"]
        assert low <= lead <= high
        assert family["n_seeds"] >= 3
    code, out, _ = cli("compare", "--frames-benchmark", "--recorded")
    assert code == 0 and "After the frames of three full evaluations" in out
    assert "first_agent is retired" in " ".join(out.split())
    assert "The agent's lead on map" in " ".join(out.split())
