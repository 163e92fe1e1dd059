import numpy as np

from tuner.comparison.frames import compare_on_frames, run_figures
from tuner.comparison.pictures import draw_pictures, draw_run_pictures
from tuner.comparison.statistics import compare_family


def test_draws_four_pictures(tmp_path):
    rng = np.random.default_rng(3)
    regrets = {name: rng.uniform(0, 1, (12, 2, 20)) for name in ("ppo", "warm-gp", "random")}
    families = {"test": regrets, "shifted": regrets}
    figures = {name: compare_family(by_method) for name, by_method in families.items()}
    paths = draw_pictures(families, figures, tmp_path)
    assert [path.name for path in paths] == [
        "anytime.png", "profile.png", "paired.png", "forest.png",
    ]  # fmt: skip
    assert all(path.stat().st_size > 5000 for path in paths)


def test_pictures_of_runs_are_those_that_make_sense(tmp_path, make_landscape, space, policy):
    def drawn(folder, n_splits):
        splits = [
            compare_on_frames(
                make_landscape(frames=20), make_landscape(frames=20, first=100 + split),
                space, policy, ["ppo", "warm-gp"], budget=3, seed=split,
            )
            for split in range(n_splits)
        ]  # fmt: skip
        arrays = {
            method: {
                "rate": np.array([[split.rate[method] for split in splits]]),
                "regret": np.array([[split.regret[method] for split in splits]]),
            }
            for method in ("ppo", "warm-gp")
        }
        folder.mkdir()
        paths = draw_run_pictures({"run": arrays}, {"run": run_figures(splits)}, folder)
        assert all(path.stat().st_size > 5000 for path in paths)
        return [path.name for path in paths]

    assert drawn(tmp_path / "two", 2) == ["run_anytime.png", "run_forest.png"]
    assert drawn(tmp_path / "three", 3) == [
        "run_anytime.png", "run_forest.png", "run_paired.png",
    ]  # fmt: skip
