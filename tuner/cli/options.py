"""Options that several commands share, and what they are turned into."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tuner.indexers import IndexerChoice
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.run import Run
from wrappers.settings import FINDERS, ROBUST_SNR, Settings

__all__ = [
    "cell_option",
    "data_argument",
    "geometry_option",
    "indexer_choice",
    "indexer_options",
    "jobs_option",
    "json_option",
    "mask_option",
    "open_run",
    "print_json",
    "progress_bar",
    "require_directory_for",
    "seed_option",
    "settings_from",
    "settings_options",
    "stderr",
    "with_bad_pixels",
]

stderr = Console(stderr=True)

F = TypeVar("F", bound=Callable[..., Any])

existing = click.Path(path_type=Path)

data_argument = click.argument("data", type=existing, metavar="DATA")
geometry_option = click.option(
    "-g", "--geometry", type=existing, required=True, help="CrystFEL geometry file (.geom)."
)
cell_option = click.option(
    "-p", "--cell", type=existing, required=True, help="Unit cell: CrystFEL .cell or PDB."
)
jobs_option = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 1024),
    default=lambda: len(os.sched_getaffinity(0)),
    show_default="all cores",
    help="Processes to use.",
)
seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True
)
mask_option = click.option(
    "--mask",
    type=existing,
    help="A file of sfx-tuner mask, for settings with a mask_*_sigma.  [default: from the data]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")

HELP = {
    "peaks": f"The peak finder. For robust, min_snr is {ROBUST_SNR:g} and threshold one photon "
    "unless said.",
    "min_snr": "Smallest signal-to-noise ratio of a peak.",
    "threshold": "Smallest pixel value of a peak (ADU).",
    "min_pix_count": "Fewest pixels of a peak.",
    "max_pix_count": "Most pixels of a peak.",
    "local_bg_radius": "Size of the local background (px).",
    "min_res": "Seek peaks only beyond this radius (px).",
    "max_res": "Seek peaks only within this radius (px; 0: no limit).",
    "min_peaks": "Fewest peaks of a hit.",
    "clen": "Camera length, coffset included (m).",
    "shift_x": "Detector shift along x (m).",
    "shift_y": "Detector shift along y (m).",
    "mask_hot_sigma": "Mask pixels this much too bright (robust σ; 0: none).",
    "mask_noisy_sigma": "Mask pixels this much too restless (robust σ; 0: none).",
    "mask_dead_sigma": "Mask pixels this much too faint or still (robust σ; 0: none).",
    "mask_edge": "Mask this many pixels along each panel's rim.",
}


def settings_options(function: F) -> F:
    """Add an option for every setting, and ``--settings`` for a whole set."""
    for field in reversed(dataclasses.fields(Settings)):
        kind: Any = {"int": int, "str": click.Choice(FINDERS)}.get(str(field.type), float)
        default = "the geometry's" if field.name == "clen" else _shown(field.default)
        function = click.option(
            f"--{field.name.replace('_', '-')}",
            type=kind,
            help=f"{HELP[field.name]}  [default: {default}]",
        )(function)
    return click.option(
        "--settings",
        type=existing,
        help="A recommended.toml (or session directory) to take the settings from.",
    )(function)


def _shown(default: Any) -> str:
    return default if isinstance(default, str) else f"{default:g}"


def settings_from(options: dict[str, Any], run: Run) -> Settings:
    """Return the settings that the options of `settings_options` name, for a run."""
    from tuner.recommendation import applied_settings, read_recommendation

    source = options.pop("settings", None)
    base = Settings()
    if source is not None:
        base = applied_settings(read_recommendation(source), run.nominal_clen)
    names = {field.name for field in dataclasses.fields(Settings)}
    given = {name: value for name, value in options.items() if name in names and value is not None}
    if given.get("peaks", base.peaks) != base.peaks:
        # Another finder's min_snr and threshold would mean something else.
        base = base.replace(**_usual(given["peaks"], run))
    return base.replace(**given)


def _usual(peaks: str, run: Run) -> dict[str, float]:
    """Return a finder's usual min_snr and threshold."""
    from wrappers.peakfinding.robust_peaks import photon_adu

    if peaks == "robust":
        photon = photon_adu(run.geometry, run.photon_energy(0))
        return {"min_snr": ROBUST_SNR, "threshold": photon}
    return {"min_snr": Settings.min_snr, "threshold": Settings.threshold}


def indexer_options(function: F) -> F:
    """Add ``--indexer``, ``--method``, ``--effort`` and ``--timeout``; see `indexer_choice`."""
    options = (
        click.option(
            "--indexer",
            type=click.Choice(["auto", "fast", "crystfel"]),
            default="auto",
            show_default=True,
            help="fast: the embedded indexer; auto: CrystFEL where it is installed.",
        ),
        click.option(
            "--method",
            help="CrystFEL's indexing method, such as asdf.  [default: the best installed]",
        ),
        click.option(
            "--effort",
            type=click.Choice(["cheap", "normal", "thorough"]),
            default="normal",
            show_default=True,
            help="How hard xgandalf tries.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=1),
            help="Longest time for one evaluation's indexing with CrystFEL (s); what is done by "
            "then counts, the rest widens the interval.  [default: by the number of frames]",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def indexer_choice(options: dict[str, Any]) -> IndexerChoice:
    """Take the values of `indexer_options` out of a command's options."""
    return IndexerChoice(
        name=options.pop("indexer"),
        method=options.pop("method"),
        effort=options.pop("effort"),
        timeout=options.pop("timeout"),
    )


def open_run(data: Path, geometry: Path) -> tuple[Run, Geometry]:
    """Read the geometry and open the run."""
    read = Geometry.read(geometry)
    return Run.open(data, read), read


def with_bad_pixels(run: Run, settings: Settings, mask: Path | None) -> Run:
    """Return the run with a map of its bad pixels, where the settings need one.

    The map comes from a file that ``sfx-tuner mask`` wrote, or from the run's own frames.
    """
    from wrappers.masks.bad_pixel_map import BadPixelMap
    from wrappers.masks.bad_pixels import find_bad_pixels, spread_frames
    from wrappers.masks.settings_mask import needs_map

    if mask is not None:
        return run.with_bad_pixels(BadPixelMap.load(mask, run.geometry))
    if not needs_map(settings):
        return run
    with progress_bar("looking for bad pixels", 2 * len(spread_frames(len(run)))) as show:
        return run.with_bad_pixels(find_bad_pixels(run, progress=show))


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show progress on stderr; yields a function that takes how many are done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.update(task, completed=done)


def print_json(document: object) -> None:
    """Print the one document of a ``--json`` run; NaN becomes null."""
    click.echo(json.dumps(_plain(document), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def require_directory_for(path: Path) -> None:
    """Raise InputError where a file could not be written, before the work is done."""
    if not path.resolve().parent.is_dir():
        raise InputError(f"cannot write {path}: its directory does not exist, make it first")
