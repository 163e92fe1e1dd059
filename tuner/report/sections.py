"""The report's middle: the search, the responses, what matters, the geometry, the trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from envs.geometry_rule import FEWEST_INDEXED
from tuner.report.drawing import group_of, legend
from tuner.report.findings import Findings
from tuner.report.html import grid, paragraph, picture, section, table
from tuner.report.landscape import importance_picture, response_picture
from tuner.report.model import (
    FEWEST_FOR_IMPORTANCE,
    Axis,
    Importance,
    Response,
    comparable,
    importance,
)
from tuner.report.trends import (
    clen_picture,
    progress_picture,
    response_pictures,
    scale_picture,
    shift_picture,
)
from tuner.session.loop import merit
from tuner.session.store import Trial
from wrappers.settings import ABOUT

__all__ = [
    "geometry_section",
    "landscape_section",
    "progress_section",
    "responses_section",
    "trials_section",
]

FEWEST_FOR_RESPONSE = 6
"""Trials below which a smooth response would be a fancy."""


def progress_section(found: Findings) -> str:
    """Return how the search went."""
    if not found.trials:
        return ""
    shown = {group_of(trial) for trial in found.trials}
    whole = max(trial.evaluation.n_frames for trial in found.trials)
    notes = ["Bars are 95 % intervals (Wilson); the line is the rate of the best settings so far."]
    if any(trial.stage == "fresh" for trial in found.trials):
        notes.append("The last confirmations were made on other, fresh frames.")
    if any(0 < trial.evaluation.n_frames < whole for trial in found.trials):
        notes.append("Hollow: dropped early, as it was losing on the frames seen so far.")
    if any(trial.evaluation.failure for trial in found.trials):
        notes.append("Cross: failed.")
    wide, narrow = (
        progress_picture(found.trials, found.incumbents, narrow=narrow) for narrow in (False, True)
    )
    return section(
        "progress",
        "Progress of the search",
        legend(shown),
        f'<div class="wide">{picture(wide)}</div><div class="narrow">{picture(narrow)}</div>',
        f"<figcaption>{' '.join(notes)}</figcaption>",
        paragraph(
            "Best is what indexes most, less what chance alone would index, less a fifth of the "
            "hits that are not indexed: they cost disk and the indexer's time.",
            "soft",
        ),
    )


def responses_section(found: Findings) -> str:
    """Return rate, cost and decoy rate against each tuned setting."""
    trials = found.measured
    if not trials or not found.tuned:
        return ""
    rows = []
    for name in found.tuned:
        pictures = response_pictures(trials, name, ABOUT[name].unit, found.best_value(name))
        rows.append(f"<h3><code>{escape(name)}</code></h3>\n{grid(map(picture, pictures))}")
    return section(
        "responses",
        "Rate, cost and decoys against each setting",
        paragraph(
            "Every evaluation, over each tuned setting in turn; the others varied as well, so "
            "points at one place differ. Bars are 95 % intervals; the dashed line is the "
            "recommended value. The cost of an evaluation was measured once, so it has no "
            "interval; the first ones include reading the frames. Decoys are peak lists with "
            "scrambled azimuths: each that is indexed is a false lattice."
        ),
        legend({group_of(trial) for trial in trials}),
        *rows,
    )


def landscape_section(found: Findings) -> str:
    """Return which settings matter, and a picture of the rate over two of them."""
    trials = comparable(found.trials, found.tuned)
    if not trials:
        return ""
    settings = [trial.evaluation.settings for trial in trials]
    varied = [name for name in found.tuned if len({getattr(each, name) for each in settings}) > 1]
    ranked, about = _importance(trials, varied)
    parts = [about]
    if ranked:
        parts.append(picture(importance_picture(ranked)))
    names = [each.name for each in ranked] or varied
    return section("importance", "What matters", *parts, _response(found, trials, names))


def _importance(trials: Sequence[Trial], varied: Sequence[str]) -> tuple[list[Importance], str]:
    if len(trials) < FEWEST_FOR_IMPORTANCE or len(varied) < 2:
        return [], paragraph(
            f"Too few evaluations ({len(trials)} that differ only in what was tuned) to tell how "
            f"much each setting matters: from {FEWEST_FOR_IMPORTANCE} on it is shown here."
        )
    merits = [merit(trial.evaluation) for trial in trials]
    if max(merits) == min(merits):
        return [], paragraph("All evaluations came out the same: nothing that was varied matters.")
    ranked = importance([trial.evaluation.settings for trial in trials], merits, varied)
    return ranked, paragraph(
        f"How much each setting tells the best evaluations from the rest (PED-ANOVA on "
        f"{len(trials)} evaluations; bars hold 90 % of resampled lists of them). The search does "
        "not choose its evaluations evenly, so this is a hint, not a measurement."
    )


def _response(found: Findings, trials: Sequence[Trial], names: Sequence[str]) -> str:
    evaluations = [trial.evaluation for trial in trials]
    if len(trials) < FEWEST_FOR_RESPONSE or len(names) < 2 or found.recommendation is None:
        return paragraph("Too few evaluations for a picture of the rate over two settings.")
    settings = [each.settings for each in evaluations]
    axes = [Axis.of(name, settings) for name in names]
    # A setting that was measured in two places or so makes stripes, not a picture.
    x, y = sorted(axes, key=lambda axis: axis.n_places < 4)[:2]
    try:
        response = Response(axes, evaluations)
    except (ValueError, np.linalg.LinAlgError):
        return paragraph("No smooth response fits these rates.")
    drawing = response_picture(
        response,
        evaluations,
        found.recommendation.settings,
        (x.name, y.name),
        (ABOUT[x.name].unit, ABOUT[y.name].unit),
    )
    return "<h3>Indexing rate over two settings</h3>\n" + picture(
        drawing,
        f"<code>{x.name}</code> and <code>{y.name}</code>, all other settings as recommended: a "
        "Gaussian process through all evaluations. Points are what was measured, in their own "
        "rate's colour; they may differ from the ground in the settings that are not shown. Where "
        "nothing was measured nearby the ground fades away. The red ring is the recommendation.",
    )


def geometry_section(found: Findings) -> str:
    """Return what the lattices say about camera length, detector shift and cell."""
    trials = [
        trial
        for trial in found.measured
        if all(map(math.isfinite, trial.evaluation.refined.get("clen", (math.nan,))))
        # One frame knows nothing of how frames differ, so its error is no error.
        and trial.evaluation.n_indexed >= FEWEST_INDEXED
    ]
    title = "Camera length and cell"
    if not found.measured:
        return ""
    if not trials:
        return section(
            "geometry",
            title,
            paragraph("Too few frames were indexed for their lattices to tell the geometry."),
        )
    nominal = _nominal(found)
    tried = np.array(
        [
            nominal if trial.evaluation.settings.clen is None else trial.evaluation.settings.clen
            for trial in trials
        ]
    )
    best = found.best_value("clen")
    legend_shown = legend({group_of(trial) for trial in trials})
    figures = [
        picture(
            clen_picture(trials, tried, best),
            "What the indexed frames' own lattices ask for, with 95 % intervals; dashes: what was "
            "tried. Evaluations that agree, wherever they started, can be trusted.",
        )
    ]
    placed = np.isfinite(tried)
    known = [trial for trial, there in zip(trials, placed, strict=True) if there]
    if known:
        figures.append(
            picture(
                scale_picture(known, tried[placed], best),
                "Refined cells against the reference cell. A camera length that is too long makes "
                "them too large: they agree at the right one. Dotted: what a wrong length alone "
                "would do.",
            )
        )
    if all("shift_x" in trial.evaluation.refined for trial in trials):
        figures.append(
            picture(
                shift_picture(trials),
                "Where the lattices want the detector, with 95 % intervals. Far from 0: refine "
                "the beam centre, or tune <code>shift_x</code> and <code>shift_y</code>.",
            )
        )
    return section("geometry", title, _crossing(known, tried[placed]), legend_shown, grid(figures))


def _crossing(trials: Sequence[Trial], tried: np.ndarray) -> str:
    """Say where the cells agree with the reference."""
    deviation = np.array([trial.evaluation.scale_deviation for trial in trials])
    seen = np.isfinite(deviation)
    if not seen.any():
        return ""
    # A length 1 % too long makes cells 1 % too large, so each evaluation tells the right one.
    lengths = 1e3 * tried[seen] / (1 + deviation[seen])
    middle = float(np.median(lengths))
    text = f"The cells have their reference's size at a camera length of {middle:.3f} mm"
    if len(lengths) > 1:
        text += f" (evaluations from {lengths.min():.3f} to {lengths.max():.3f} mm)"
    return paragraph(
        f"{text}. An error of the reference cell or of the photon energy would move it by as "
        "much: positions alone cannot tell them apart."
    )


def _nominal(found: Findings) -> float:
    provenance = found.recommendation.provenance if found.recommendation else {}
    value = provenance.get("geometry_clen")
    return float(value) if isinstance(value, float) else math.nan


def trials_section(found: Findings) -> str:
    """Return the table of all trials."""
    if not found.trials:
        return ""
    tuned = found.tuned
    head = ["", "stage", *tuned, "hits", "indexed", "frames", "rate", "95 % interval", "decoys"]
    head += ["explained", "residual (px)", "clen asked (mm)", "core s", "note"]
    rows = [_row(trial, tuned) for trial in found.trials]
    best = found.best
    chosen = [number for number, trial in enumerate(found.trials) if trial.evaluation is best]
    return section(
        "evaluations",
        "All evaluations",
        table(head, rows, kind="trials", text=(1, len(head) - 1), chosen=chosen),
        paragraph("The same with all settings is in <code>trials.csv</code>.", "soft"),
    )


def _row(trial: Trial, tuned: Sequence[str]) -> list[str]:
    evaluation = trial.evaluation
    values = evaluation.settings.as_dict()
    start = [str(trial.number), trial.stage]
    start += ["" if values[name] is None else f"{values[name]:.6g}" for name in tuned]
    if evaluation.failure:
        return [*start, *[""] * 10, f"failed: {evaluation.failure}"]
    low, high = evaluation.ci95
    clen, error = (1e3 * x for x in evaluation.refined.get("clen", (math.nan, math.nan)))
    notes = [f"{evaluation.n_failed} without an answer"] if evaluation.n_failed else []
    return [
        *start,
        str(evaluation.n_hits),
        str(evaluation.n_indexed),
        str(evaluation.n_frames),
        f"{evaluation.rate:.1%}",
        f"{100 * low:.0f}–{100 * high:.0f} %",
        f"{evaluation.n_decoys_indexed}/{evaluation.n_decoys}",
        "" if math.isnan(evaluation.explained) else f"{evaluation.explained:.0%}",
        "" if math.isnan(evaluation.residual) else f"{evaluation.residual:.2f}",
        "" if math.isnan(clen) else f"{clen:.3f} ± {error:.3f}",
        f"{evaluation.core_seconds:.1f}",
        "; ".join([*notes, trial.reason] if trial.reason else notes),
    ]
