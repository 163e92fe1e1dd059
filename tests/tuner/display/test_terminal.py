"""What others have written is shown, and does nothing."""

from __future__ import annotations

import io

from rich.table import Table

from tuner.display.terminal import Terminal, echo

HOSTILE = "[red]x[/red] [/] :smile: \x1b[31m\x1b]0;owned\x07 \u202e"
SHOWN = r"[red]x[/red] [/] :smile: \x1b[31m\x1b]0;owned\x07 \u202e"


def test_a_terminal_shows_text_as_it_is():
    stream = io.StringIO()
    terminal = Terminal(file=stream, force_terminal=True, color_system=None, width=200)
    terminal.print(HOSTILE)
    table = Table("name", title=HOSTILE)
    table.add_row(HOSTILE)
    terminal.print(table)
    text = stream.getvalue()
    assert text.count(SHOWN) == 3
    assert "\x1b]0;" not in text and "\x1b[31m" not in text and "\u202e" not in text


def test_so_does_a_plain_stream(capsys):
    echo(f"written: {HOSTILE}\nand more")
    echo(HOSTILE, err=True)
    out, err = capsys.readouterr()
    assert (out, err) == (f"written: {SHOWN}\nand more\n", f"{SHOWN}\n")
