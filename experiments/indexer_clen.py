"""How well indexed frames place the camera length and the beam, where the rate cannot.

The run is ``jf1m_lyso_60`` of the shared data, simulated for a camera length of 80 mm. It is
indexed at wrong camera lengths and beam positions with the embedded indexer; the first 20 frames
that it indexes tell the geometry (`wrappers.lattices.geometry_refinement`).

    python -m experiments.indexer_clen ../shared/data/simulated [--picture FILE.png] [--json]
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tuner.cli.options import print_json
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.indexing import Pattern
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.lattices.geometry_refinement import estimate_geometry, fit_frame
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.settings import Settings

SETTINGS = Settings(min_snr=4.25, threshold=30, min_pix_count=2, max_pix_count=50)
MIN_PEAKS = 10
TRUE_LENGTH = 0.08
OFFSETS = (-0.05, -0.04, -0.03, -0.02, -0.01, -0.005, 0.0, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05)
SHIFT_PX = 1.5
"""By how much the beam is misplaced along x, too."""
ENOUGH = 20
"""Indexed frames that tell the geometry."""


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--picture", type=click.Path(path_type=Path), help="Where to draw it.")
@click.option("--json", "as_json", is_flag=True)
def main(folder: Path, picture: Path | None, as_json: bool) -> None:
    """Print the table for the run in FOLDER."""
    geometry, cell = Geometry.read(folder / "jf1m.geom"), Cell.read(folder / "lyso.cell")
    run = Run.open(folder / "jf1m_lyso_60.h5", geometry)
    finder = PeakFinder(geometry)
    patterns = []
    for frame in range(len(run)):
        image = run[frame]
        peaks = finder.find(image, SETTINGS)
        if len(peaks) >= MIN_PEAKS:
            patterns.append(Pattern(peaks, image.photon_energy, image.camera_length))
    rows = [measure(patterns, geometry, cell, offset, len(run)) for offset in OFFSETS]
    if picture:
        draw(rows, picture)
    if as_json:
        print_json({"rows": rows})
    else:
        print_table(rows)


def measure(
    patterns: Sequence[Pattern], geometry: Geometry, cell: Cell, offset: float, n_frames: int
) -> dict[str, Any]:
    """Index the patterns at a wrong geometry; return what the lattices say of it."""
    pixel = 1.0 / geometry.panels[0].res
    misplaced = [
        dataclasses.replace(
            pattern,
            camera_length=pattern.camera_length * (1.0 + offset),
            shift_x=pattern.shift_x + SHIFT_PX * pixel,
        )
        for pattern in patterns
    ]
    answers = FastIndexer(geometry, cell).index(misplaced)
    indexed = [i for i, answer in enumerate(answers) if answer.indexed]
    row = {"offset": offset, "indexed": len(indexed), "frames": n_frames}
    known = indexed[:ENOUGH]
    told = estimate_geometry(
        [misplaced[i] for i in known], [answers[i] for i in known], geometry, cell
    )
    if told is None:
        return row
    started = time.thread_time()
    for i in known:
        fit_frame(misplaced[i], answers[i].lattices[0], geometry, cell)
    return row | {
        "told_by": told.n_frames,
        "error": told.camera_length / TRUE_LENGTH - 1.0,
        "error_se": told.camera_length_se / TRUE_LENGTH,
        "scale_deviation": told.scale_deviation,
        "scale_deviation_se": told.scale_deviation_se,
        "shift_px": told.shift_x / pixel,
        "shift_px_se": told.shift_x_se / pixel,
        "residual_px": told.residual_px,
        "residual_px_se": told.residual_px_se,
        "ms_a_fit": 1e3 * (time.thread_time() - started) / len(known),
    }


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows for people, in Markdown."""
    print(
        "| tried, % off | indexed | camera length told, % off | cells' scale, % | "
        "beam told, px off | residual, px | ms a fit |\n|---|---|---|---|---|---|---|"
    )
    for row in rows:
        start = f"| {100 * row['offset']:+.1f} | {row['indexed']} of {row['frames']} | "
        if "error" not in row:
            print(f"{start}– | – | – | – | – |")
            continue
        print(
            f"{start}{100 * row['error']:+.4f} ± {100 * row['error_se']:.4f} | "
            f"{100 * row['scale_deviation']:+.2f} ± {100 * row['scale_deviation_se']:.2f} | "
            f"{row['shift_px']:+.3f} ± {row['shift_px_se']:.3f} | "
            f"{row['residual_px']:.2f} ± {row['residual_px_se']:.2f} | {row['ms_a_fit']:.2f} |"
        )


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the rate, and what the lattices say, against the camera length that was tried."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (rate, told) = plt.subplots(1, 2, figsize=(9, 3.4))
    tried = [100 * row["offset"] for row in rows]
    rate.plot(tried, [100 * row["indexed"] / row["frames"] for row in rows], "o-", color="#0072b2")
    rate.set_ylim(0, 100)
    rate.set_ylabel("indexing rate, %")
    rate.set_title("The rate does not place the camera length …", fontsize=10)
    known = [row for row in rows if "error" in row]
    told.errorbar(
        [100 * row["offset"] for row in known],
        [100 * row["error"] for row in known],
        yerr=[196 * row["error_se"] for row in known],
        fmt=".",
        color="#d55e00",
        capsize=3,
    )
    told.axhline(0.0, color="0.8", linewidth=0.8)
    told.set_ylim(-0.02, 0.02)
    told.set_ylabel("camera length told, % off\n(95 % interval)")
    told.set_title(f"… {ENOUGH} indexed frames do", fontsize=10)
    for axis in (rate, told):
        axis.set_xlabel("camera length tried, % off")
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
