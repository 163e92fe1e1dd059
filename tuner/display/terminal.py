"""Writing to a terminal, which names of files and words of others must not command."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.text import Text

from wrappers.text import printable

__all__ = ["Terminal", "echo"]


class Terminal(Console):
    """A Rich console that shows text as it is: it knows no markup, no escape codes, no emoji.

    Parameters
    ----------
    options
        Those of Rich's own console.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return text for Rich, the only way by which it takes strings."""
        return super().render_str(printable(text, lines=True), **options)


def echo(text: str, *, err: bool = False) -> None:
    """Print a line or several."""
    click.echo(printable(text, lines=True), err=err)
