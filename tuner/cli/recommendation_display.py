"""What a session prints at its end: the recommended settings, and how well they are known."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.table import Table

from envs.evaluation import wilson_interval
from tuner.display.terminal import Terminal
from tuner.recommendation import Recommendation
from tuner.report.findings import find
from tuner.report.words import shown
from tuner.session.store import SessionStore
from tuner.statistics import SIGNIFICANT
from wrappers.settings import ABOUT

__all__ = ["print_recommendation"]


def print_recommendation(recommendation: Recommendation, directory: Path) -> None:
    """Print the recommended settings and what they gain, on stdout."""
    evidence = recommendation.evidence
    table = Table("setting", "recommended", "unit", title="Recommended settings")
    for name, value in recommendation.as_dict()["settings"].items():
        error = evidence.get(f"{name}_se")
        known = f" ± {error:.1g}" if error is not None else ""
        table.add_row(name, shown(value) + known, ABOUT[name].unit)
    console = Terminal(width=max(70, min(100, shutil.get_terminal_size().columns)))
    console.print(table)
    low, high = evidence["ci95"]
    fresh = recommendation.provenance.get("measured_on_fresh_frames")
    where = "on frames that the search never saw" if fresh else "on the frames of the search"
    if "cross_validated_rate" in evidence:
        where += f", cross-validated {evidence['cross_validated_rate']:.1%}"
    hits = f", {evidence['n_hits']} hits" if recommendation.settings.min_peaks else ""
    counted, whole = f"{evidence['n_indexed']} of {evidence['n_frames']} frames", ""
    if "strata" in evidence:
        counted, whole = f"{counted} drawn by promise", " of the run"
    console.print(
        f"indexing rate {evidence['indexing_rate']:.1%}{whole} [{low:.1%}, {high:.1%}]: "
        f"{counted}{hits},\n"
        f"  measured {where}\n{_held_against(recommendation)}",
        markup=False,
    )
    for statement in find(SessionStore.open(directory), recommendation).detector:
        text = f"warning: {statement}" if statement.warning else str(statement)
        console.print(text, markup=False, style="bold" if statement.warning else "")
    if "stopped" in recommendation.provenance:
        console.print(f"stopped early: {recommendation.provenance['stopped']}")
    if "choice" in recommendation.provenance:
        console.print(f"not what measured best: {recommendation.provenance['choice']}")
    if "geometry_start" in evidence:
        console.print(evidence["geometry_start"], markup=False)
    if "cell_check" in evidence:
        verdict, wrong = evidence["cell_check"], evidence["cell_check"] == "contradicted"
        text = f"the given cell: {verdict}: {evidence['cell_check_reason']}"
        console.print(text, markup=False, style="bold" if wrong else "")
    own = evidence.get("crystfel_own_search", {})
    if "not_done" in own:
        console.print(f"CrystFEL's own peak search was not compared: {own['not_done']}")
    elif own:
        console.print(
            f"CrystFEL's own peak search, same settings: the same number of peaks in "
            f"{own['same_peaks']} of {own['n_frames']} frames, {own['n_indexed']} indexed"
        )
    n, k = evidence["n_decoys"], evidence["n_decoys_indexed"]
    if n:
        console.print(
            f"decoys: {k} of {n} scrambled peak lists indexed: chance indexes "
            f"< {wilson_interval(k, n)[1]:.0%} of the hits"
        )
    console.print(f"written: {directory / 'recommended.toml'}")


def _held_against(recommendation: Recommendation) -> str:
    """Return the rates of what is in use today and of the defaults, and the gain over the first."""
    evidence = recommendation.evidence
    low, high = evidence["gain_ci95"]
    gain = f"gain {evidence['gain']:+.1%} [{low:+.1%}, {high:+.1%}], p = {evidence['gain_p']:.1g}"
    defaults = f"CrystFEL's defaults {evidence['baseline_rate']:.1%}"
    if "start_rate" not in evidence:
        return f"{defaults}, same frames: {gain}"
    start = recommendation.provenance.get("start", "what is in use")
    nothing = (
        ""
        if evidence["gain_p"] < SIGNIFICANT
        else f"\nnothing clearly better than {start} was found"
    )
    return f"{start} {evidence['start_rate']:.1%}, same frames: {gain}\n  ({defaults}){nothing}"
