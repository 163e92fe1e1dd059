"""The report's beginning and end: what to do, how well that is known, and how to apply it."""

from __future__ import annotations

import shlex
from html import escape
from typing import Any

import numpy as np

from envs.evaluation import wilson_interval
from tuner.recommendation import shown
from tuner.report.findings import Findings
from tuner.report.html import commands, paragraph, section, table
from wrappers.peak_finders import PEAK_FINDERS
from wrappers.settings import ABOUT, CRYSTFEL_DEFAULTS

__all__ = ["apply_section", "opening"]


def opening(found: Findings) -> str:
    """Return what comes first: the recommendation and its evidence."""
    config = found.store.config
    name = escape(str(config.get("data", "")).rsplit("/", 1)[-1])
    head = f"<header><h1>sfx-tuner · {name}</h1>\n"
    evidence = found.evidence
    if not evidence.get("n_frames"):
        return head + _nothing(found) + "</header>\n"
    sentence, remark = _verdict(found)
    return (
        f'{head}<p class="headline">{escape(sentence)}</p></header>\n'
        + (paragraph(f"{escape(found.amended)}.", "note") if found.amended else "")
        + (paragraph(remark) if remark else "")
        + _bars(evidence)
        + _facts(found)
        + _settings(found)
        + _evidence(found)
    )


def _nothing(found: Findings) -> str:
    failures = [trial.evaluation.failure for trial in found.trials if trial.evaluation.failure]
    text = (
        '<p class="headline">No settings have indexed any frame.</p>\n'
        "<p>Look at the numbers of peaks and hits below, then check the cell, the geometry and "
        "the photon energy.</p>\n"
    )
    return text + (paragraph(escape(failures[-1]), "note") if failures else "")


def _verdict(found: Findings) -> tuple[str, str]:
    evidence = found.evidence
    rate, base = evidence["indexing_rate"], evidence["baseline_rate"]
    low, high = evidence.get("gain_ci95", (-1.0, 1.0))
    if found.best is not None and found.best is found.baseline:
        so_far = "" if found.finished else " so far"
        return f"CrystFEL's defaults index {_percent(rate)} of the frames: the best{so_far}.", ""
    if not found.finished:
        so_far = "So far the best settings index"
    elif found.amended:
        so_far = "The session's own settings index"
    else:
        so_far = "The recommended settings index"
    if low > 0:
        against = "more than"
    elif high < 0:
        against = "less than"
    else:
        against = "not clearly different from"
    sentence = (
        f"{so_far} {_percent(rate)} of the frames, {against} the {_percent(base)} of CrystFEL's "
        "defaults."
    )
    if against == "not clearly different from":
        return sentence, (
            "The difference is within its interval: more frames (<code>--frames</code>) would "
            "tell whether there is one."
        )
    if against == "less than":
        return sentence, "Keep the defaults, or tune with a larger budget."
    return sentence, ""


def _bars(evidence: dict[str, Any]) -> str:
    n, base = evidence["n_frames"], evidence["baseline_rate"]
    ours = evidence.get("ci95") or wilson_interval(evidence["n_indexed"], n)
    rows = (
        ("Recommended", evidence["indexing_rate"], ours, "blue"),
        ("CrystFEL's defaults", base, wilson_interval(round(base * n), n), "vermilion"),
    )
    return (
        '<div class="bars">'
        + "".join(
            f'<div class="name"><span>{name}</span><span>{_percent(rate)} '
            f"[{100 * low:.0f}–{100 * high:.0f}]</span></div>"
            f'<div class="bar" role="img" aria-label="{_percent(rate)}" '
            f'style="--colour: var(--{colour})"><i style="width: {100 * rate:.1f}%"></i>'
            f'<b style="left: {100 * low:.1f}%; width: {100 * (high - low):.1f}%"></b></div>'
            for name, rate, (low, high), colour in rows
        )
        + "</div>\n"
    )


def _facts(found: Findings) -> str:
    evidence = found.evidence
    low, high = evidence.get("gain_ci95", (-1.0, 1.0))
    interval = f"95\u00a0% interval {100 * low:+.0f} to {100 * high:+.0f}\u00a0%"
    facts = [
        (
            f"{100 * evidence['gain']:+.1f}\u00a0%".replace("-", "−"),
            f"of all frames gained, {interval}".replace("-", "−"),
        ),
        (
            f"{evidence['n_indexed']} of {evidence['n_frames']}",
            f"frames indexed, of {evidence['n_hits']} hits",
        ),
    ]
    n = evidence.get("n_decoys", 0)
    if n:
        k = evidence["n_decoys_indexed"]
        chance = wilson_interval(k, n)[1]
        facts.append(
            (
                f"{k} of {n}",
                f"scrambled peak lists indexed: chance indexes less than {chance:.0%} of the hits",
            )
        )
    spent = sum(trial.evaluation.core_seconds for trial in found.trials)
    facts.append(
        (_duration(spent), f"processor time for {len(found.trials)} evaluations, all cores")
    )
    return (
        '<div class="facts">'
        + "".join(f"<div><b>{value}</b><span>{what}</span></div>" for value, what in facts)
        + "</div>\n"
    )


def _settings(found: Findings) -> str:
    assert found.recommendation is not None
    defaults = CRYSTFEL_DEFAULTS.as_dict()
    nominal = found.recommendation.provenance.get("geometry_clen")
    rows, unused = [], []
    for name, value in found.recommendation.as_dict()["settings"].items():
        default = nominal if name == "clen" else defaults[name]
        if name not in found.tuned and value == default:
            unused.append(name)
            continue
        error = found.evidence.get(f"{name}_se")
        known = f" ± {_plainly(error)}" if error is not None else ""
        role = "tuned" if name in found.tuned else "kept"
        usual = "geometry's" if default is None else shown(default)
        rows.append((name, shown(value) + known, usual, ABOUT[name].unit, role))
    rest = ", ".join(f"<code>{name}</code>" for name in unused)
    return (
        "<h3>Settings</h3>\n"
        + table(
            ("setting", "recommended", "default", "unit", ""), rows, kind="settings", text=(3, 4)
        )
        + (paragraph(f"As CrystFEL's defaults: {rest}.", "soft") if rest else "")
    )


def _evidence(found: Findings) -> str:
    assert found.recommendation is not None
    evidence, provenance = found.evidence, found.recommendation.provenance
    items = []
    if "measured_on_fresh_frames" not in provenance:
        items.append(
            "Measured on the frames of the search so far, which flatters the best of many sets a "
            "little."
        )
    elif provenance["measured_on_fresh_frames"]:
        items.append(
            "Both were measured on fresh frames that the search never saw, so choosing the best "
            "of many does not flatter it."
        )
    else:
        items.append(
            "Both were measured on the frames of the search, because the run has no others: "
            "that flatters the best of many sets a little."
        )
    gain = found.gain
    if gain is not None:
        items.append(
            f"On the same {gain.n_frames} frames {gain.gained} were indexed only by the "
            f"recommended settings and {gain.lost} only by the defaults (McNemar's exact test: "
            f"p&nbsp;=&nbsp;{gain.p_value:.2g})."
        )
    own = evidence.get("crystfel_own_search") or {}
    if "not_done" in own:
        items.append(f"CrystFEL's own peak search was not compared: {escape(str(own['not_done']))}")
    elif own:
        items.append(
            f"CrystFEL's own peak search, same settings: the same number of peaks in "
            f"{own['same_peaks']} of {own['n_frames']} frames, {own['n_indexed']} indexed."
        )
    if "cell_scale_deviation" in evidence:
        off = 100 * evidence["cell_scale_deviation"]
        items.append(
            f"The refined cells are {abs(off):.2f} % {'larger' if off > 0 else 'smaller'} than the "
            "reference cell"
            + (
                f", and spots {evidence['residual_px']:.2f} px (r.m.s.) from where they should be."
                if "residual_px" in evidence
                else "."
            )
        )
    if evidence.get("n_failed"):
        items.append(
            f"{evidence['n_failed']} frames had no answer (unreadable, or the indexer gave up): "
            "they count as not indexed, and widen the interval."
        )
    if "ended_by" in provenance:
        items.append(f"The session ended early: {escape(str(provenance['ended_by']))}")
    if "choice" in provenance:
        items.append(f"Not what measured best: {escape(str(provenance['choice']))}")
    rows = "".join(f"<li>{item}</li>" for item in items)
    return f"<h3>Evidence</h3>\n<ul>{rows}</ul>\n"


def apply_section(found: Findings) -> str:
    """Return the commands that put the recommendation to use."""
    if found.recommendation is None:
        return ""
    if not found.finished:
        return section(
            "apply",
            "How to apply it",
            paragraph(
                "The session has not ended, so there is nothing to apply yet. If it was stopped, "
                "its <code>tune</code> command with <code>--resume</code> goes on with it."
            ),
        )
    directory = shlex.quote(str(found.store.directory))
    if PEAK_FINDERS.get(found.recommendation.settings.peak_finder).in_crystfel:
        further = (
            paragraph("Process that, or the run itself, with CrystFEL: a script and the geometry.")
            + commands(f"sfx-tuner export {directory} --to crystfel -o index.sh")
            + paragraph(
                "For other programs: <code>--to project</code> (CrystFEL's graphical program), "
                "<code>xwiz</code> (EXtra-Xwiz), <code>om</code> (OM), <code>cheetah</code>, "
                "<code>geom</code>, <code>json</code>."
            )
        )
    else:
        further = paragraph(
            "Index those with CrystFEL, which cannot find these peaks by itself:"
        ) + commands("indexamajig --peaks=cxi --no-revalidate -g hits.geom …")
    return section(
        "apply",
        "How to apply it",
        paragraph("Find the hits of a run of the same detector, and write them with their peaks:"),
        commands(f"sfx-tuner apply {directory} DATA -o hits.cxi"),
        further,
        paragraph(
            "A moved detector keeps the correction of its camera length that was found here."
        ),
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}\u00a0%"


def _plainly(error: float) -> str:
    """Return an error's first digit, without an exponent."""
    return np.format_float_positional(float(f"{error:.1g}"), trim="-")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
