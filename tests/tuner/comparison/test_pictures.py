import numpy as np

from tuner.comparison.frames import run_figures
from tuner.comparison.pictures import draw_run_pictures


def test_pictures_of_runs_are_those_that_make_sense(tmp_path, splits):
    def drawn(folder, some):
        arrays = {
            method: {
                "rate": np.array([[split.rate[method] for split in some]]),
                "regret": np.array([[split.regret[method] for split in some]]),
            }
            for method in ("map-agent", "warm-gp")
        }
        folder.mkdir()
        paths = draw_run_pictures({"run": arrays}, {"run": run_figures(some)}, folder)
        assert all(path.stat().st_size > 5000 for path in paths)
        return [path.name for path in paths]

    assert drawn(tmp_path / "two", splits[:2]) == ["run_anytime.png", "run_forest.png"]
    assert drawn(tmp_path / "three", splits) == [
        "run_anytime.png", "run_forest.png", "run_paired.png",
    ]  # fmt: skip
