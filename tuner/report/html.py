"""The few pieces of HTML that the report is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from tuner.report.style import STYLE

__all__ = ["commands", "grid", "page", "paragraph", "picture", "section", "table"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What the page may load: nothing. A browser enforces it."""


def page(title: str, body: str, *, policy: str = POLICY, script: str = "") -> str:
    """Return a whole document; `body` and `script` are trusted, `title` is plain text."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head>\n<body>{body}{script}</body></html>\n"
    )


def section(name: str, title: str, *content: str) -> str:
    """Return a section under a heading that can be linked to."""
    return f'<section id="{name}"><h2>{escape(title)}</h2>\n{"".join(content)}</section>\n'


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph; `text` may hold markup."""
    return f'<p class="{kind}">{text}</p>\n' if kind else f"<p>{text}</p>\n"


def picture(svg: str, caption: str = "", kind: str = "") -> str:
    """Return a figure with its caption, which may hold markup."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="{kind}">{svg}{below}</figure>\n'


def grid(figures: Iterable[str]) -> str:
    """Return figures side by side, as many as there is room for."""
    return f'<div class="grid">{"".join(figures)}</div>\n'


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    kind: str = "",
    text: Sequence[int] = (),
    chosen: Sequence[int] = (),
) -> str:
    """Return a table of plain texts.

    Parameters
    ----------
    head : sequence of str
    rows : iterable of sequence of str
    kind : str
        Class of the table.
    text : sequence of int
        Columns that are set flush left, as words are.
    chosen : sequence of int
        Rows that stand out.
    """

    def cell(tag: str, column: int, content: str) -> str:
        words = ' class="text"' if column in text else ""
        return f"<{tag}{words}>{escape(content)}</{tag}>"

    def line(tag: str, cells: Sequence[str], mark: str = "") -> str:
        return f"<tr{mark}>{''.join(cell(tag, i, c) for i, c in enumerate(cells))}</tr>\n"

    body = "".join(
        line("td", row, ' class="chosen"' if number in chosen else "")
        for number, row in enumerate(rows)
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead>{line("th", head)}</thead>'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def commands(*lines: str) -> str:
    """Return commands to copy."""
    return f"<pre><code>{escape(chr(10).join(lines))}</code></pre>\n"
