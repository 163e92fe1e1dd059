"""How the report looks: on a phone, on a screen, in print, by day and by night."""

from __future__ import annotations

__all__ = ["COLOURS", "STYLE"]

COLOURS = {
    "ink": ("#1b1f24", "#e6e8ea"),
    "soft": ("#5b6570", "#9aa4ae"),
    "line": ("#d8dce0", "#3a4149"),
    "page": ("#ffffff", "#14171a"),
    "card": ("#f5f6f8", "#1e2227"),
    "blue": ("#0072b2", "#56b4e9"),
    "vermilion": ("#c04a00", "#f0874a"),
    "green": ("#00785a", "#2cc295"),
    "grey": ("#767f88", "#8f99a3"),
}
"""By day and by night. The hues are Okabe and Ito's, which colour-blind people tell apart; what
they mean is told by shapes, too."""


def _variables(place: int) -> str:
    return " ".join(f"--{name}: {colours[place]};" for name, colours in COLOURS.items())


STYLE = f"""
:root {{ color-scheme: light dark; {_variables(0)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(1)} }} }}
* {{ box-sizing: border-box; }}
html {{ -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }}
body {{ margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }}
main {{ max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }}
h1 {{ font-size: 1.1rem; font-weight: 600; margin: 0; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.3rem; line-height: 1.25; margin: 3.2rem 0 0.6rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }}
h3 {{ font-size: 1rem; margin: 1.8rem 0 0.4rem; }}
p, ul {{ max-width: 44rem; }}
p {{ margin: 0.6rem 0; }}
a {{ color: var(--blue); }}
code {{ font: 0.88em ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }}
.soft, figcaption, .legend {{ color: var(--soft); font-size: 0.9rem; }}
nav {{ display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; font-size: 0.9rem; margin-top: 1.5rem; }}
.headline {{ font-size: clamp(1.5rem, 5.4vw, 2.3rem); line-height: 1.2; font-weight: 650;
  letter-spacing: -0.015em; max-width: 46rem; margin: 0.8rem 0 1rem; text-wrap: balance; }}
.facts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr));
  gap: 0.7rem; margin: 1.4rem 0; }}
.facts div {{ background: var(--card); border-radius: 0.5rem; padding: 0.7rem 0.9rem; }}
.facts b {{ display: block; font-size: 1.45rem; line-height: 1.2;
  font-variant-numeric: tabular-nums; }}
.facts span {{ color: var(--soft); font-size: 0.85rem; line-height: 1.35; display: block; }}
.bars {{ margin: 1.4rem 0; max-width: 46rem; }}
.bars .name {{ display: flex; justify-content: space-between; font-size: 0.9rem;
  margin-top: 0.7rem; gap: 1rem; }}
.bars .name span:last-child {{ font-variant-numeric: tabular-nums; white-space: nowrap; }}
.bar {{ position: relative; height: 1.1rem; background: var(--card); border-radius: 0.2rem;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
.bar i {{ position: absolute; inset: 0 auto 0 0; border-radius: 0.2rem;
  background: var(--colour); }}
.bar b {{ position: absolute; top: 50%; height: 2px; margin-top: -1px; background: var(--ink); }}
.bar b::before, .bar b::after {{ content: ""; position: absolute; top: -4px; height: 10px;
  width: 2px; background: var(--ink); }}
.bar b::after {{ right: 0; }}
figure {{ margin: 1rem 0; break-inside: avoid; }}
figure svg {{ display: block; width: 100%; height: auto; }}
figcaption {{ margin-top: 0.3rem; max-width: 44rem; }}
.grid {{ display: grid; gap: 0.6rem 1.2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); }}
.grid figure {{ margin: 0.2rem 0; max-width: 25rem; }}
.pair {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem),
  1fr)); }}
.pair figure {{ margin: 0; }}
.pair svg {{ border: 1px solid var(--line); margin-bottom: 0.4rem; background: #fff; }}
.narrow {{ display: none; }}
@media screen and (max-width: 40rem) {{
  .settings tr > :last-child {{ display: none; }}
  .settings {{ font-size: 0.82rem; }}
  .settings th, .settings td {{ padding-right: 0.5rem; }}
  .wide {{ display: none; }} .narrow {{ display: block; }} }}
.legend {{ display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; margin: 0.4rem 0; padding: 0;
  list-style: none; max-width: none; }}
.legend svg {{ width: 0.9rem; height: 0.9rem; vertical-align: -0.1rem; margin-right: 0.3rem; }}
.scroll {{ overflow-x: auto; -webkit-overflow-scrolling: touch; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }}
th, td {{ padding: 0.3rem 0.7rem 0.3rem 0; text-align: right; vertical-align: baseline;
  border-bottom: 1px solid var(--line); }}
th {{ color: var(--soft); font-weight: 600; }}
th:first-child, td:first-child {{ text-align: left; }}
td.text, th.text {{ text-align: left; }}
.provenance td:last-child {{ overflow-wrap: anywhere; }}
.settings td {{ white-space: nowrap; }}
.trials th, .trials td {{ white-space: nowrap; }}
.trials tr.chosen td {{ font-weight: 650; background: var(--card); }}
pre {{ background: var(--card); padding: 0.8rem 1rem; border-radius: 0.5rem; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.9rem; margin: 0.6rem 0; }}
.note {{ border-left: 3px solid var(--vermilion); padding-left: 0.8rem; }}
#live {{ position: sticky; top: 0; z-index: 1; background: var(--card); padding: 0.5rem 1rem;
  font-size: 0.9rem; border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }}
@media screen and (prefers-color-scheme: dark) {{
  .pair svg {{ background: #000; }}
  .pair image, .pair use {{ filter: invert(1); }}
}}
@media print {{
  body {{ font-size: 10pt; }}
  main {{ max-width: none; padding: 0; }}
  nav, #live {{ display: none; }}
  h2 {{ margin-top: 1.6rem; break-after: avoid; }}
  h3 {{ break-after: avoid; }}
  .grid {{ grid-template-columns: repeat(3, 1fr); }}
  .pair {{ grid-template-columns: 1fr 1fr; }}
  .scroll {{ overflow: visible; }}
  .trials {{ font-size: 6.5pt; }}
  .trials th, .trials td {{ padding-right: 0.35rem; white-space: normal; }}
  tr {{ break-inside: avoid; }}
}}
"""
