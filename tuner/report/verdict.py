"""The report's beginning and end: what to do, how well that is known, and how to apply it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from envs.evaluation import wilson_interval
from tuner.recommendation import shown
from tuner.report.detector import Statement
from tuner.report.findings import Findings
from tuner.report.words import duration, percent, plainly
from wrappers.peak_finders import PEAK_FINDERS
from wrappers.settings import ABOUT, CRYSTFEL_DEFAULTS

__all__ = ["Opening", "Usage", "opening", "usage"]


@dataclass(frozen=True)
class Bar:
    """A rate with its interval, in one of the page's colours; `small` is beside the point."""

    name: str
    rate: float
    low: float
    high: float
    colour: str
    small: bool = False


@dataclass(frozen=True)
class Fact:
    """A number and what it is."""

    value: str
    meaning: str


@dataclass(frozen=True)
class Opening:
    """What comes first.

    Attributes
    ----------
    headline, remark : str
        The verdict, and what follows from it; the second may be "".
    amended : str
        What ``recommended.toml`` holds instead of the session's own set, or "".
    bars : tuple of Bar
    facts : tuple of Fact
    detector : tuple of Statement
        On camera length and beam centre.
    settings : tuple of (str, str, str, str, str)
        Name, recommended and default value, unit and role of those that were tuned or changed.
    unused : tuple of str
        Names of all others.
    evidence : tuple of str
        Sentences; code stands between backticks.
    """

    headline: str
    remark: str = ""
    amended: str = ""
    bars: tuple[Bar, ...] = ()
    facts: tuple[Fact, ...] = ()
    detector: tuple[Statement, ...] = ()
    settings: tuple[tuple[str, str, str, str, str], ...] = ()
    unused: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Usage:
    """How to put the recommendation to use.

    Attributes
    ----------
    directory : str
        Of the session, quoted for a shell.
    finished : bool
        Whether the session has ended.
    crystfel_finds_the_same : bool
        Whether CrystFEL has the peak finder, too.
    """

    directory: str
    finished: bool
    crystfel_finds_the_same: bool


def opening(found: Findings) -> Opening:
    """Return what comes first: the recommendation and its evidence."""
    if found.nothing:
        return Opening("Nothing to recommend.", f"{found.nothing[0].upper()}{found.nothing[1:]}")
    if not found.evidence.get("n_frames"):
        failures = [trial.evaluation.failure for trial in found.trials if trial.evaluation.failure]
        return Opening(
            "No settings have indexed any frame.",
            "Look at the numbers of peaks and hits below, then check the cell, the geometry and "
            "the photon energy.",
            amended=failures[-1] if failures else "",
        )
    headline, remark = _verdict(found)
    if found.evidence.get("cell_check") == "contradicted":
        # Whatever the rate is, it is of a cell that the crystals do not have.
        headline = "The frames contradict the given cell."
        reason = str(found.evidence["cell_check_reason"])
        remark = f"{reason[:1].upper()}{reason[1:]}."
    settings, unused = _settings(found)
    return Opening(
        headline,
        remark,
        found.amended,
        _bars(found),
        _facts(found),
        found.detector,
        settings,
        unused,
        tuple(_evidence(found)),
    )


def usage(found: Findings) -> Usage | None:
    """Return how to put the recommendation to use, or None where there is none."""
    if found.recommendation is None:
        return None
    return Usage(
        shlex.quote(str(found.store.directory)),
        found.finished,
        PEAK_FINDERS.get(found.recommendation.settings.peak_finder).in_crystfel,
    )


def _verdict(found: Findings) -> tuple[str, str]:
    rate, words = found.evidence["indexing_rate"], found.bar_words
    base = found.evidence["baseline_rate" if found.start is None else "start_rate"]
    so_far = "" if found.finished else " so far"
    if found.best is not None and found.best is found.bar:
        if found.start is not None:
            return (
                f"Nothing better than {words} was found{so_far}: {percent(rate)} of the frames.",
                "",
            )
        return f"CrystFEL's defaults index {percent(rate)} of the frames: the best{so_far}.", ""
    if not found.finished:
        start = "So far the best settings index"
    elif found.amended:
        start = "The session's own settings index"
    else:
        start = "The recommended settings index"
    gain, remark = found.gain, ""
    if gain is None or not gain.clear:
        against = "not clearly different from"
        remark = "More frames (`--frames`) would tell whether there is a difference."
        if found.start is not None and found.finished:
            return (
                f"Nothing clearly better than {words} was found: {percent(rate)} of the frames "
                f"with the recommended settings, {percent(base)} with those.",
                remark,
            )
    elif gain.difference < 0:
        against, remark = "less than", "Keep those, or tune with a larger budget."
    else:
        against = "more than"
    headline = f"{start} {percent(rate)} of the frames, {against} the {percent(base)} of {words}."
    return headline, remark


def _bars(found: Findings) -> tuple[Bar, ...]:
    evidence = found.evidence
    n = evidence["n_frames"]
    low, high = evidence.get("ci95") or wilson_interval(evidence["n_indexed"], n)

    def bar(name: str, rate: float, colour: str, small: bool = False) -> Bar:
        # Frames that were drawn by their promise are worth as many random ones.
        worth = evidence.get("n_equivalent")
        ends = (
            wilson_interval(round(rate * n), n)
            if worth is None
            else (wilson_interval(rate * worth, worth))
        )
        return Bar(name, rate, *ends, colour, small)

    bars = [Bar(found.best_words.capitalize(), evidence["indexing_rate"], low, high, "blue")]
    if found.start is not None:
        words = f"{found.bar_words[0].upper()}{found.bar_words[1:]}"
        bars.append(bar(words, evidence["start_rate"], "green"))
    small = found.start is not None
    bars.append(bar("CrystFEL's defaults", evidence["baseline_rate"], "vermilion", small))
    return tuple(bars)


def _facts(found: Findings) -> tuple[Fact, ...]:
    evidence = found.evidence
    low, high = evidence.get("gain_ci95", (-1.0, 1.0))
    interval = f"95\u00a0% interval {100 * low:+.0f} to {100 * high:+.0f}\u00a0%"
    kind = "frames drawn by promise" if "strata" in evidence else "frames"
    facts = [
        Fact(
            f"{100 * evidence['gain']:+.1f}\u00a0%".replace("-", "−"),
            f"of all frames gained, {interval}".replace("-", "−"),
        ),
        Fact(
            f"{evidence['n_indexed']} of {evidence['n_frames']}",
            f"{kind} indexed, of {evidence['n_hits']} hits",
        ),
    ]
    n = evidence.get("n_decoys", 0)
    if n:
        k = evidence["n_decoys_indexed"]
        chance = wilson_interval(k, n)[1]
        facts.append(
            Fact(
                f"{k} of {n}",
                f"scrambled peak lists indexed: chance indexes less than {chance:.0%} of the hits",
            )
        )
    spent = sum(trial.evaluation.core_seconds for trial in found.trials)
    processor = f"processor time for {len(found.trials)} evaluations, all cores"
    return (*facts, Fact(duration(spent), processor))


def _settings(
    found: Findings,
) -> tuple[tuple[tuple[str, str, str, str, str], ...], tuple[str, ...]]:
    assert found.recommendation is not None
    nominal = found.recommendation.provenance.get("geometry_clen")
    rows, unused = [], []
    for name, value in found.recommendation.as_dict()["settings"].items():
        default = nominal if name == "clen" else getattr(CRYSTFEL_DEFAULTS, name)
        if name not in found.tuned and value == default:
            unused.append(name)
            continue
        error = found.evidence.get(f"{name}_se")
        known = f" ± {plainly(error)}" if error is not None else ""
        role = "tuned" if name in found.tuned else "kept"
        usual = "geometry's" if default is None else shown(default)
        rows.append((name, shown(value) + known, usual, ABOUT[name].unit, role))
    return tuple(rows), tuple(unused)


def _evidence(found: Findings) -> list[str]:
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
            "All were measured on fresh frames that the search never saw, so choosing the best "
            "of many does not flatter it."
        )
    else:
        items.append(
            "All were measured on the frames of the search, because the run has next to no others: "
            "that flatters the best of many sets a little."
        )
        if "cross_validated_rate" in evidence:
            items.append(
                f"Cross-validated, it is {percent(evidence['cross_validated_rate'])}: each tenth "
                "of the frames counts for the set that is best on the nine others."
            )
    if "strata" in evidence:
        each = ", ".join(f"{k} of {n} indexed" for _, n, k in evidence["strata"])
        items.append(
            f"The frames were drawn by what their peaks promise, from {evidence['n_looked_at']} "
            f"that were looked at; from the least promising kind on: {each}. Each frame counts for "
            "those of its kind, so that rates and intervals are those of the whole run."
        )
    gain = found.gain
    if gain is not None:
        items.append(
            f"On the same {gain.n_frames} frames {gain.gained} were indexed only by the "
            f"recommended settings and {gain.lost} only by {found.bar_words} (McNemar's exact "
            f"test: p\u00a0=\u00a0{gain.p_value:.2g})."
        )
    if "geometry_start" in evidence:
        words = str(evidence["geometry_start"])
        items.append(f"{words[:1].upper()}{words[1:]}.")
    if evidence.get("cell_check") in ("agrees", "unknown"):
        items.append(f"The given cell: {evidence['cell_check']}: {evidence['cell_check_reason']}.")
    own = evidence.get("crystfel_own_search") or {}
    if "not_done" in own:
        items.append(f"CrystFEL's own peak search was not compared: {own['not_done']}")
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
    if evidence.get("n_cut"):
        items.append(
            f"{evidence['n_cut']} peak lists, decoys included, were cut by the indexer's time "
            "limit: a larger --timeout lets them end."
        )
    if "ended_by" in provenance:
        items.append(f"The session ended early: {provenance['ended_by']}")
    if "stopped" in provenance:
        items.append(f"The session stopped before its budget was spent: {provenance['stopped']}.")
    if "choice" in provenance:
        items.append(f"Not what measured best: {provenance['choice']}")
    return items
