"""How many of the planted bad pixels the mask maker finds, and how many good ones it takes.

The run is ``jf1m_lyso_60`` of the shared data: 60 frames with 90 hot, 150 noisy and 250 dead pixels
that the geometry does not mask, listed beside it. Nothing is known of which frames are hits.

    python -m experiments.mask_accuracy ../shared/data/simulated [--picture mask.png]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
from numpy.typing import NDArray

from tuner.cli.options import print_json
from tuner.display.mask_picture import draw_mask
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.masks.bad_pixel_map import KINDS, BadPixelMap
from wrappers.masks.bad_pixels import find_bad_pixels, spread_frames
from wrappers.masks.settings_mask import BITS, SettingsMask
from wrappers.settings import Settings

SIGMAS = (4.0, 4.5, 5.0, 5.5, 6.0, 8.0, 10.0)
USUAL = 5.0
N_FRAMES = (10, 20, 30, 40, 60)


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the mask at 5 σ.")
@click.option("--json", "as_json", is_flag=True)
def main(folder: Path, picture: Path | None, as_json: bool) -> None:
    """Print the tables for the run in FOLDER."""
    geometry = Geometry.read(folder / "jf1m.geom")
    run = Run.open(folder / "jf1m_lyso_60.h5", geometry)
    with h5py.File(folder / "jf1m_lyso_60_truth.h5") as file:
        planted = {kind: file[f"unmasked_{kind}"][:] for kind in KINDS}
    usable = run.static_mask(0).reshape(-1)
    maps = {n: find_bad_pixels(run, spread_frames(len(run), n)) for n in N_FRAMES}
    result: dict[str, Any] = {
        "planted": {kind: len(pixels) for kind, pixels in planted.items()},
        "good": int(usable.sum()) - sum(map(len, planted.values())),
        "by_threshold": [
            {"sigma": sigma, **_score(maps[len(run)], sigma, planted, usable)} for sigma in SIGMAS
        ],
        "by_frames": [
            {"n_frames": n, **_score(found, USUAL, planted, usable)} for n, found in maps.items()
        ],
    }
    if picture is not None:
        settings = _settings(USUAL)
        bits = SettingsMask(geometry, maps[len(run)]).bits(settings)
        bits[~run.static_mask(0)] |= BITS["geometry"]
        draw_mask(picture, geometry, bits, maps[len(run)], settings)
    if as_json:
        print_json(result)
        return
    print(f"{result['planted']} planted among {result['good']} good pixels, {len(run)} frames")
    print("threshold   found    hot  noisy   dead   good pixels masked")
    for row in result["by_threshold"]:
        print(f"{row['sigma']:7g} σ  {_line(row)}")
    print(f"by number of frames, at {USUAL:g} σ")
    for row in result["by_frames"]:
        print(f"{row['n_frames']:9d}  {_line(row)}")


def _settings(sigma: float) -> Settings:
    return Settings(mask_hot_sigma=sigma, mask_noisy_sigma=sigma, mask_dead_sigma=sigma)


def _score(
    found: BadPixelMap, sigma: float, planted: dict[str, NDArray[Any]], usable: NDArray[np.bool_]
) -> dict[str, Any]:
    """Return shares of the planted pixels that are masked, for whatever reason."""
    settings = _settings(sigma)
    masked = np.logical_or.reduce([found.beyond(kind, settings) for kind in KINDS]).reshape(-1)
    good = usable.copy()
    good[np.concatenate(list(planted.values()))] = False
    n_found = {kind: int(masked[pixels].sum()) for kind, pixels in planted.items()}
    return {
        "found": sum(n_found.values()) / sum(map(len, planted.values())),
        **{kind: n / len(planted[kind]) for kind, n in n_found.items()},
        "n_false": int((masked & good).sum()),
        "false": float((masked & good).sum() / good.sum()),
    }


def _line(row: dict[str, Any]) -> str:
    kinds = " ".join(f"{row[kind]:6.1%}" for kind in KINDS)
    return f"{row['found']:6.1%} {kinds}   {row['n_false']:6d} ({row['false']:.4%})"


if __name__ == "__main__":
    main()
