"""The session's report: one HTML file that needs nothing else."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from tuner.recommendation import Recommendation
from tuner.store import SessionStore, Trial
from wrappers.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["write_report"]

COLOURS = {
    "baseline": "#b3541e",
    "start": "#7a5195",
    "look": "#9a9a9a",
    "geometry": "#2a9d8f",
    "portfolio": "#e0a030",
    "search": "#27548a",
    "confirm": "#111111",
    "fresh": "#c2185b",
}

WIDTHS = {"clen": 0.001, "shift_x": 1e-4, "shift_y": 1e-4}
"""Narrowest axis of the settings that are in metres."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 0.2rem 0.6rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
th, td { white-space: nowrap; }
pre { background: #f4f4f4; padding: 0.7rem; overflow-x: auto; }
"""


def write_report(store: SessionStore, recommendation: Recommendation | None, path: Path) -> None:
    """Write the report of a session, atomically.

    Parameters
    ----------
    store : SessionStore
    recommendation : Recommendation or None
        None where no settings indexed any frame.
    path : Path
    """
    parts = [f"<h1>sfx-tuner: {html.escape(Path(store.config['data']).name)}</h1>"]
    if recommendation is None:
        parts.append("<p><b>No settings indexed any frame.</b></p>")
    else:
        parts += _recommendation(recommendation, store.directory)
    if store.trials:
        parts += ["<h2>Progress of the search</h2>", _svg(_progress(store.trials))]
        parts += [
            "<h2>Indexing rate against each tuned setting</h2>",
            _svg(_responses(store.trials, store.config["tuned"])),
            "<h2>Evaluations</h2>",
            f'<div class="wide">{_table(store)}</div>',
        ]
    write_whole(
        path,
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>sfx-tuner report</title><style>{STYLE}</style></head>\n"
        f"<body>{''.join(parts)}</body></html>\n",
    )


def _recommendation(recommendation: Recommendation, directory: Path) -> list[str]:
    values = recommendation.as_dict()["settings"]
    evidence = recommendation.evidence
    rows = "".join(
        f"<tr><td>{name}</td><td>{value:.6g}</td></tr>" for name, value in values.items()
    )
    low, high = evidence["ci95"]
    gain_low, gain_high = evidence["gain_ci95"]
    where = (
        "fresh frames that the search never saw"
        if recommendation.provenance.get("measured_on_fresh_frames")
        else "the frames of the search, which flatters the best of many sets a little"
    )
    decoys = (
        f" Of {evidence['n_decoys']} scrambled peak lists {evidence['n_decoys_indexed']} were "
        "indexed."
    )
    return [
        f"<p><b>{evidence['indexing_rate']:.1%}</b> of the frames are indexed "
        f"({evidence['n_indexed']} of {evidence['n_frames']}; 95&nbsp;% interval {low:.1%} to "
        f"{high:.1%}), measured on {where}. CrystFEL's defaults index "
        f"{evidence['baseline_rate']:.1%} of the same frames: a gain of {evidence['gain']:+.1%} "
        f"({gain_low:+.1%} to {gain_high:+.1%}).{decoys}</p>",
        f"<table><tr><th>setting</th><th>recommended</th></tr>{rows}</table>",
        "<h2>How to apply</h2><pre>"
        + html.escape(
            f"sfx-tuner apply {directory} DATA -o hits.cxi\n"
            f"sfx-tuner export {directory} --to crystfel"
        )
        + "</pre>",
    ]


def _progress(trials: list[Trial]) -> Figure:
    figure = _figure(8, 3.4)
    axes = figure.add_subplot()
    for stage, colour in COLOURS.items():
        chosen = [trial for trial in trials if trial.stage == stage]
        if chosen:
            _rates(axes, [trial.number for trial in chosen], chosen, colour, stage)
    axes.set_xlabel("evaluation")
    axes.set_ylabel("indexing rate")
    axes.legend(fontsize=8, ncols=len(COLOURS), loc="upper center", bbox_to_anchor=(0.5, 1.17))
    return figure


def _responses(trials: list[Trial], tuned: list[str]) -> Figure:
    columns = min(len(tuned), 3)
    rows = -(-len(tuned) // columns)
    figure = _figure(2.8 * columns, 2.5 * rows)
    for position, name in enumerate(tuned):
        axes = figure.add_subplot(rows, columns, position + 1)
        for stage, colour in COLOURS.items():
            chosen = [trial for trial in trials if trial.stage == stage]
            values = [float(getattr(trial.evaluation.settings, name)) for trial in chosen]
            if chosen:
                _rates(axes, values, chosen, colour, stage)
        axes.set_xlabel(name)
        if position % columns == 0:
            axes.set_ylabel("indexing rate")
        if name == "threshold":
            axes.set_xscale("log")
        if name in WIDTHS:
            _widen(axes, WIDTHS[name])
    return figure


def _widen(axes: Axes, width: float) -> None:
    """Keep differences that do not matter from filling the axis."""
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.locator_params(axis="x", nbins=3)
    low, high = axes.get_xlim()
    centre = (low + high) / 2
    half = max(high - low, width) / 2
    axes.set_xlim(centre - half, centre + half)


def _rates(axes: Axes, x: list[float], trials: list[Trial], colour: str, label: str) -> None:
    rates = np.array([trial.evaluation.rate for trial in trials])
    ends = np.array([trial.evaluation.ci95 for trial in trials])
    axes.errorbar(
        x,
        rates,
        yerr=np.clip([rates - ends[:, 0], ends[:, 1] - rates], 0, None),
        fmt="o",
        markersize=4,
        elinewidth=0.8,
        color=colour,
        label=label,
    )
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.3)


def _table(store: SessionStore) -> str:
    columns = ["trial", "stage", *store.config["tuned"], "n_hits", "n_indexed", "indexing_rate"]
    columns += ["false_rate", "explained", "residual_px", "clen_asked", "seconds"]
    table = store.table()[columns]
    formats = {"seconds": "{:.1f}", "indexing_rate": "{:.3f}", "false_rate": "{:.3f}"}
    formatters = {name: formats.get(name, "{:.6g}").format for name in columns[2:]}
    return str(table.to_html(index=False, border=0, na_rep="", formatters=formatters))


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    # A fixed salt keeps the file the same for the same session.
    with matplotlib.rc_context({"svg.hashsalt": "sfx-tuner"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
