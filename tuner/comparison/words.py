"""A comparison on runs in words and in tables for documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.comparison.statistics import OURS, RIVAL, told_after

__all__ = ["about", "headline", "markdown", "methods_of"]

Found = Mapping[str, Any]


def methods_of(found: Found) -> list[str]:
    """Return the methods whose figures these are."""
    return [name for name, row in found.items() if isinstance(row, dict) and "auc" in row]


def about(found: Found) -> str:
    """Return what the figures are of: how many splits and frames."""
    return (
        f"{Path(found['data']).name}, {found['indexer']}, {_count(found['n_seeds'], 'split')}: "
        f"{found['n_tuning_frames']} frames to search, {found['n_scoring_frames']} scoring frames"
    )


def headline(found: Found) -> str:
    """Return one sentence: how the agent does beside the warm-started Gaussian process.

    It is empty where one of them is missing.
    """
    pair = found["paired"].get(RIVAL)
    if pair is None:
        return ""
    after = found["paired_after"]
    begin = f"After {_count(after, 'evaluation')} "
    if found["reference_rate"] <= 0:
        return f"{begin}no method's settings index any of the scoring frames."
    ours, theirs = (100 * found[name][f"rate_{after}"] for name in (OURS, RIVAL))
    begin += (
        f"the agent's settings index {ours:.0f}% of the {found['n_scoring_frames']} scoring "
        f"frames, {RIVAL}'s {theirs:.0f}%"
    )
    low, high = pair["rate_ci95"]
    if low <= 0 <= high:
        verdict = "no difference can be seen"
    else:
        verdict = f"{'the agent' if low > 0 else RIVAL} is ahead"
    return (
        f"{begin}: {verdict} (difference {100 * pair['rate_difference']:+.1f} points, "
        f"95% interval {100 * low:+.1f} to {100 * high:+.1f})."
    )


def markdown(figures: Mapping[str, Found]) -> str:
    """Return the tables of a comparison, by run."""
    parts = []
    for name, found in figures.items():
        parts += [f"**{name}** ({about(found)})", _rate_table(found), _run_pairs(found)]
        parts.append(headline(found))
    return "\n\n".join(part for part in parts if part) + "\n"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(line)} |" for line in (headings, *rows)]
    return "\n".join([lines[0], "|---" * len(headings) + "|", *lines[1:]])


def _rate_table(found: Found) -> str:
    after, n = told_after(found["evaluations"]), found["paired_after"]
    headings = ["method", f"rate after {after[0]}", *map(str, after[1:])]
    rows = []
    for name in methods_of(found):
        row = found[name]
        rates = {k: f"{100 * row[f'rate_{k}']:.0f} %" for k in after}
        low, high = row[f"rate_{n}_ci95"]
        rates[n] += f" [{100 * low:.0f}, {100 * high:.0f}]"
        regrets = [f"{row[f'regret_{n}']:.3f}", f"{1 - row['auc']:.3f}"]
        rows.append([f"`{name}`", *rates.values(), *regrets, f"{row['suggestion_seconds']:.3f}"])
    return _table([*headings, f"regret after {n}", "1 − AUC", "seconds a proposal"], rows)


def _run_pairs(found: Found) -> str:
    headings = [
        *("agent against", f"rate difference after {found['paired_after']}", "95 % interval"),
        *("frames gained, lost", "p (sign test, Holm)"),
    ]
    rows = [
        [
            f"`{name}`",
            f"{100 * row['rate_difference']:+.1f} %",
            f"[{100 * row['rate_ci95'][0]:+.1f} %, {100 * row['rate_ci95'][1]:+.1f} %]",
            f"{row['gained']}, {row['lost']}",
            f"{row['p_sign_holm']:.1e}",
        ]
        for name, row in found["paired"].items()
    ]
    return _table(headings, rows) if rows else ""
