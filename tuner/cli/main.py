"""The group of commands, and how any of them ends.

Exit codes: 0 success; 2 a mistake that the user can mend, told in one sentence; 3 not one frame
can be read; 4 a session found nothing to recommend; 5 a session's frames contradict the cell that
was given; 130 stopped by Ctrl-C; 141 whoever read the output has gone; 1 a fault of the program's
own.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, TextIO

import click
from click.shell_completion import CompletionItem

from wrappers.errors import InputError, Note, ProgramError
from wrappers.files import is_of_the_disk, mend
from wrappers.text import printable

__all__ = ["main"]

COMMANDS = {
    "tune": "Find the settings that index most frames.",
    "peaks": "Find the peaks in every frame; write a CXI peak list.",
    "index": "Find peaks and index a run with given settings.",
    "cell": "Find the unit cell from the frames, without knowing it.",
    "kinds": "Tell the frames of a run by kind, without indexing.",
    "mask": "Make a bad-pixel mask from the frames themselves.",
    "apply": "Write the hits of a run, found with the recommended set.",
    "run": "Tune, write the hits, watch the rates and re-tune: the closed loop.",
    "export": "Write the recommended set for another program.",
    "view": "Look at frames and their peaks as settings are moved.",
    "report": "Make the report of a session anew.",
    "simulate": "Simulate a run, with the truth beside it.",
    "train": "Train the agent's policy on simulated experiments.",
    "compare": "Compare the agent with Bayesian search and simpler methods.",
    "demo": "Simulate a small run and tune it; no CrystFEL needed.",
    "doctor": "Say what is installed, and what is missing.",
}
"""What each does; its module in `tuner.cli` has its name."""


class _Commands(click.Group):
    """Imports a command only when it is asked for: what they import takes seconds in all."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"tuner.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        options = super(click.Group, self).shell_complete(ctx, incomplete)
        rows = [
            CompletionItem(name, help=what)
            for name, what in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*rows, *options]


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sfx-tuner")
def cli() -> None:
    """Find the settings that index most frames of a serial crystallography run.

    \b
    Example:
      sfx-tuner tune run.h5 -g run.geom -p protein.cell -o session
    """


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _show_note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, Note):
        click.echo(f"note: {printable(str(message))}", err=True)
    else:
        click.echo(warnings.formatwarning(message, category, filename, lineno, line), err=True)


def main(on_recommended: Callable[[], None] | None = None) -> None:
    """Run the command line.

    Parameters
    ----------
    on_recommended : callable, optional
        Of ``tune``: see `tuner.tuning.tune`. It is for whoever runs a session in a process.
    """
    warnings.showwarning = _show_note
    # Without this, being terminated would leave an indexamajig behind.
    signal.signal(signal.SIGTERM, _terminate)
    # A shell in the background starts programs with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = cli.main(standalone_mode=False, obj=on_recommended)
    except (InputError, ProgramError) as error:
        click.echo(f"sfx-tuner: {printable(str(error))}", err=True)
        code = error.exit_code
    except BrokenPipeError:
        # Or Python would complain again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except OSError as error:
        if not is_of_the_disk(error):
            raise
        place = error.filename or "a file"
        why = printable(f"{place}: {error.strerror or error}; {mend(error)}")
        click.echo(f"sfx-tuner: {why}", err=True)
        code = 2
    except click.ClickException as error:
        error.show()
        code = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("sfx-tuner: stopped", err=True)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)
