"""A comparison in words and in tables for documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.comparison.statistics import OURS, RIVAL, told_after

__all__ = ["about", "headline", "is_run", "markdown", "methods_of"]

Found = Mapping[str, Any]

SHOWN = (OURS, RIVAL, "portfolio", "gp", "defaults")
"""The methods of the table that has several runs."""


def is_run(found: Found) -> bool:
    """Whether these are the figures of one run, measured on its frames."""
    return "reference_rate" in found


def methods_of(found: Found) -> list[str]:
    """Return the methods whose figures these are."""
    return [name for name, row in found.items() if isinstance(row, dict) and "auc" in row]


def about(found: Found) -> str:
    """Return what the figures are of: how many tasks, seeds, frames."""
    if not is_run(found):
        return f"{_count(found['n_tasks'], 'task')} × {_count(found['n_seeds'], 'seed')}"
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
    if not is_run(found):
        ours, theirs = (100 * found[name][f"regret_{after}"] for name in (OURS, RIVAL))
        begin += f"the agent misses {ours:.1f}% of what is within reach, {RIVAL} {theirs:.1f}%"
        difference, interval = pair["difference"], pair["ci95"]
    elif found["reference_rate"] <= 0:
        return f"{begin}no method's settings index any of the scoring frames."
    else:
        ours, theirs = (100 * found[name][f"rate_{after}"] for name in (OURS, RIVAL))
        begin += (
            f"the agent's settings index {ours:.0f}% of the {found['n_scoring_frames']} scoring "
            f"frames, {RIVAL}'s {theirs:.0f}%"
        )
        difference, interval = pair["rate_difference"], pair["rate_ci95"]
    low, high = interval
    if low <= 0 <= high:
        verdict = "no difference can be seen"
    else:
        verdict = f"{'the agent' if low > 0 else RIVAL} is ahead"
    return (
        f"{begin}: {verdict} (difference {100 * difference:+.1f} points, "
        f"95% interval {100 * low:+.1f} to {100 * high:+.1f})."
    )


def markdown(figures: Mapping[str, Found]) -> str:
    """Return the tables of a comparison, by family and run."""
    families = {name: found for name, found in figures.items() if not is_run(found)}
    runs = {name: found for name, found in figures.items() if is_run(found)}
    parts = []
    for name, found in families.items():
        parts += [f"**{name}** ({about(found)})", _regret_table(found), _family_pairs(found)]
        parts.append(headline(found))
    if len(runs) > 1:
        parts += ["**runs**", _runs_table(runs)]
    for name, found in runs.items():
        parts += [f"**{name}** ({about(found)})", _rate_table(found), _run_pairs(found)]
        parts.append(headline(found))
    return "\n\n".join(part for part in parts if part) + "\n"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(line)} |" for line in (headings, *rows)]
    return "\n".join([lines[0], "|---" * len(headings) + "|", *lines[1:]])


def _regret_table(found: Found) -> str:
    after = told_after(found["evaluations"])
    headings = ["method", f"after {after[0]}", *map(str, after[1:])]
    headings += [f"interquartile mean after {found['paired_after']}", "1 − AUC"]
    headings += ["within 10 % after", "never"]
    with_clen = any("clen_within_0.1_percent_5" in found[name] for name in methods_of(found))
    headings += ["clen ± 0.1 % after 5"] if with_clen else []
    rows = []
    for name in methods_of(found):
        row = found[name]
        cells = [f"`{name}`", *(_regret(row, n, found["paired_after"]) for n in after)]
        cells.append(_with_interval(row, f"regret_{found['paired_after']}_iqm"))
        cells += [f"{1 - row['auc']:.3f}", f"{row['evaluations_to_90_percent']:.1f}"]
        cells.append(f"{100 * row['never_within_90_percent']:.0f} %")
        cells += [f"{100 * row['clen_within_0.1_percent_5']:.0f} %"] if with_clen else []
        rows.append([*cells, f"{row['suggestion_seconds']:.3f}"])
    return _table([*headings, "seconds a proposal"], rows)


def _regret(row: Found, n: int, with_interval: int) -> str:
    if n == with_interval:
        return _with_interval(row, f"regret_{n}")
    return f"{row[f'regret_{n}']:.3f}"


def _with_interval(row: Found, what: str) -> str:
    low, high = row[f"{what}_ci95"]
    return f"{row[what]:.3f} [{low:.3f}, {high:.3f}]"


def _family_pairs(found: Found) -> str:
    headings = [
        *("agent against", f"difference after {found['paired_after']}", "95 % interval"),
        *("agent better", "p (Wilcoxon, Holm)"),
    ]
    rows = [
        [
            f"`{name}`",
            f"{row['difference']:+.4f}",
            f"[{row['ci95'][0]:+.4f}, {row['ci95'][1]:+.4f}]",
            f"{100 * row['probability_of_improvement']:.0f} %",
            f"{row['p_wilcoxon_holm']:.1e}",
        ]
        for name, row in found["paired"].items()
    ]
    return _table(headings, rows) if rows else ""


def _runs_table(runs: Mapping[str, Found]) -> str:
    first = next(iter(runs.values()))
    shown = [name for name in SHOWN if name in first]
    headings = ["run", "frames (search, scoring)", *(f"`{name}`" for name in shown)]
    with_grid = all("grid_rate" in found for found in runs.values())
    rows = []
    for run, found in runs.items():
        cells = [run, f"{found['n_tuning_frames']}, {found['n_scoring_frames']}"]
        rates = [found[name][f"rate_{found['paired_after']}"] for name in shown]
        rates += [found["grid_rate"]] if with_grid else []
        rows.append(cells + [f"{100 * rate:.0f} %" for rate in rates])
    return _table(headings + (["best of the grid"] if with_grid else []), rows)


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
