"""Options that several commands share, and what they are turned into."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from tuner.cli.box import parse_number
from tuner.display.terminal import Terminal
from wrappers.crystfel.options import EFFORTS
from wrappers.errors import InputError
from wrappers.frames.address import Address, is_address
from wrappers.indexers import AUTO, INDEXERS, IndexerChoice
from wrappers.peak_finders import PEAK_FINDERS, unused_settings
from wrappers.registry import Registry
from wrappers.settings import ABOUT, WHOLE_FIELDS, Settings, check_clen, check_shifts
from wrappers.text import to_json

if TYPE_CHECKING:
    from wrappers.frames.source import FrameSource

__all__ = [
    "PEAK_FINDER_FLAGS",
    "RegistryChoice",
    "SourceName",
    "cell_option",
    "data_argument",
    "existing",
    "force_option",
    "geometry_option",
    "indexer_choice",
    "indexer_options",
    "jobs_option",
    "json_option",
    "mask_option",
    "memory_option",
    "open_run",
    "peak_finder_help",
    "print_json",
    "progress_bar",
    "retired_option",
    "say_notes",
    "seed_option",
    "settings_from",
    "settings_options",
    "stderr",
    "with_bad_pixels",
    "within_memory",
]

stderr = Terminal(stderr=True)

F = TypeVar("F", bound=Callable[..., Any])

existing = click.Path(path_type=Path)


class SourceName(click.ParamType):
    """The name of a file, as a path, or an address, as it is."""

    name = "source"

    def convert(self, value: Any, param: Any, ctx: Any) -> Address:
        """Return the path or the address."""
        return value if is_address(value) else Path(value)


data_argument = click.argument("data", type=SourceName(), metavar="DATA")
geometry_option = click.option(
    "-g", "--geometry", type=existing, required=True, help="CrystFEL geometry file (.geom)."
)
cell_option = click.option(
    "-p", "--cell", type=existing, required=True, help="Unit cell: CrystFEL .cell or PDB."
)
jobs_option = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 1024),
    default=lambda: len(os.sched_getaffinity(0)),
    show_default="all cores",
    help="Processes to use.",
)


def retired_option(*names: str, why: str) -> Callable[[F], F]:
    """Return options that were there once: whoever gives one is told what became of it."""

    def refuse(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None:
            raise InputError(f"{param.opts[0]} {why}")

    def add(command: F) -> F:
        for name in names:
            command = click.option(
                name, is_flag=False, flag_value="", hidden=True, expose_value=False, callback=refuse
            )(command)
        return command

    return add


class Size(click.ParamType):
    """A number of bytes, such as 8GB or 500MB."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return the bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([KMGT])i?B?", str(value).strip(), re.I)
        if match is None:
            self.fail(
                f"{value!r} is no amount of memory: write it such as 8GB or 500MB", param, ctx
            )
        return int(float(match[1]) * 1000 ** ("KMGT".index(match[2].upper()) + 1))


memory_option = click.option(
    "--memory",
    type=Size(),
    metavar="SIZE",
    help="Memory to take, such as 8GB, by all processes together: it bounds their number and the "
    "frames that are kept ready.  [default: a quarter of the machine's]",
)
seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True
)
mask_option = click.option(
    "--mask",
    type=existing,
    help="A file of sfx-tuner mask, for settings with a mask_*_sigma.  [default: from the data]",
)
force_option = click.option(
    "--force", is_flag=True, help="Replace outputs that exist; what is read stays in any case."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


class RegistryChoice(click.ParamType):
    """The name of a registered part, or an alias of it; comes out as the name.

    Parameters
    ----------
    registry : Registry
    further : sequence of str
        Words that are taken as they are, before the names.
    """

    name = "name"

    def __init__(self, registry: Registry[Any], further: Sequence[str] = ()) -> None:
        self._registry, self._further = registry, tuple(further)

    @property
    def choices(self) -> tuple[str, ...]:
        """What can be chosen now."""
        return (*self._further, *self._registry.names())

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return the choices as a usage line shows them."""
        return f"[{'|'.join(self.choices)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the part's own name."""
        if value in self._further:
            return str(value)
        try:
            return self._registry.name_of(value)
        except InputError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the choices that begin so."""
        return [CompletionItem(name) for name in self.choices if name.startswith(incomplete)]


class _Length(click.ParamType):
    """A setting that is a length, such as 0.08 or 80mm."""

    name = "length"

    def __init__(self, setting: str) -> None:
        self._setting = setting

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return it in metres."""
        try:
            return parse_number(self._setting, str(value))
        except InputError as error:
            self.fail(str(error), param, ctx)


def _flags(name: str) -> tuple[str, ...]:
    """Return a setting's options: its own name, CrystFEL's where it differs, and the field."""
    flags = dict.fromkeys((name.replace("_", "-"), ABOUT[name].option or name.replace("_", "-")))
    return (*(f"--{flag}" for flag in flags), name)


PEAK_FINDER_FLAGS = _flags("peak_finder")


def peak_finder_help() -> str:
    """Return what the peak finders are."""
    kinds = (f"{name}: {kind.words}" for name, kind in PEAK_FINDERS.items())
    return f"{ABOUT['peak_finder'].label}. {'; '.join(kinds)}."


def settings_options(function: F) -> F:
    """Add an option for every setting, and ``--settings`` for a whole set."""
    for name, about in reversed(ABOUT.items()):
        words = about.help
        value = getattr(Settings(), name)
        kind: Any = int if name in WHOLE_FIELDS else float
        if about.unit == "m":
            kind, words = _Length(name), f"{words} A unit may follow, as in 80mm."
        if isinstance(value, str):
            kind, default, words = RegistryChoice(PEAK_FINDERS), value, peak_finder_help()
        else:
            default = "the geometry's" if value is None else f"{value:g}"
        function = click.option(
            *_flags(name),
            type=kind,
            help=f"{words}  [default: {default}]",
        )(function)
    return click.option(
        "--settings",
        type=existing,
        help="A recommended.toml (or session directory) to take the settings from.",
    )(function)


def settings_from(options: dict[str, Any], run: FrameSource) -> Settings:
    """Return the settings that the options of `settings_options` name, for a run."""
    from tuner.recommendation import applied_settings, read_recommendation

    source = options.pop("settings", None)
    base = Settings()
    if source is not None:
        base = applied_settings(read_recommendation(source), run.nominal_clen)
    given = {name: options[name] for name in ABOUT if options.get(name) is not None}
    if given.get("peak_finder", base.peak_finder) != base.peak_finder:
        # Another finder's min_snr and threshold would mean something else.
        finder = PEAK_FINDERS.get(given["peak_finder"])
        photon = finder.photon(run.geometry, run.photon_energy(0))
        base = base.replace(**finder.usual(photon), peak_finder=given["peak_finder"])
    name = given.get("peak_finder", base.peak_finder)
    for setting in given.keys() & unused_settings(name):
        raise InputError(
            f"{setting} means nothing to the {name} peak finder: leave it out, or name another "
            "with --peaks"
        )
    check_clen(given.get("clen"), run.nominal_clen)
    if shifts := {name: given[name] for name in ("shift_x", "shift_y") if given.get(name)}:
        check_shifts(shifts, run.geometry.reach)
    return base.replace(**given)


def indexer_options(function: F) -> F:
    """Add ``--indexer``, ``--method``, ``--effort`` and ``--timeout``; see `indexer_choice`."""
    options = (
        click.option(
            "--indexer",
            type=RegistryChoice(INDEXERS, (AUTO,)),
            default=AUTO,
            show_default=True,
            help="; ".join(f"{name}: {kind.words}" for name, kind in INDEXERS.items())
            + f"; {AUTO}: the first of them that is installed.",
        ),
        click.option(
            "--method",
            help="CrystFEL's indexing method, such as asdf.  [default: the best installed]",
        ),
        click.option(
            "--effort",
            type=click.Choice(EFFORTS),
            default="normal",
            show_default=True,
            help="How hard xgandalf tries.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=1),
            help="Longest processor time for one evaluation's indexing with CrystFEL, for each of "
            "its processes (s); what is done by then counts, the rest widens the interval.  "
            "[default: by the number of frames]",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def indexer_choice(options: dict[str, Any]) -> IndexerChoice:
    """Take the values of `indexer_options` out of a command's options."""
    return IndexerChoice(
        name=options.pop("indexer"),
        method=options.pop("method"),
        effort=options.pop("effort"),
        timeout=options.pop("timeout"),
    )


def open_run(data: Address, geometry: Path) -> FrameSource:
    """Open a run with its geometry; it is closed when the command ends."""
    # What --help and a TAB should not wait for is imported when it is needed, as below.
    from wrappers.detector.geometry import Geometry
    from wrappers.frames.first_look import first_look
    from wrappers.frames.opening import open_source

    run = open_source(data, Geometry.read(geometry))
    click.get_current_context().call_on_close(run.close)
    say_notes(first_look(run))
    return run


def say_notes(notes: Iterable[str]) -> None:
    """Say what is odd about what was given, on stderr."""
    for note in notes:
        stderr.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)


def with_bad_pixels(
    run: FrameSource, settings: Settings, mask: Path | None, jobs: int = 1
) -> FrameSource:
    """Return the run with a map of its bad pixels, where the settings need one.

    The map comes from a file that ``sfx-tuner mask`` wrote, or from the run's own frames.
    """
    from wrappers.masks.bad_pixel_map import BadPixelMap
    from wrappers.masks.bad_pixels import spread_frames, with_needed_map
    from wrappers.masks.settings_mask import needs_map

    if mask is not None:
        return run.with_bad_pixels(BadPixelMap.load(mask, run.geometry))
    if not needs_map(settings):
        return run
    with progress_bar("looking for bad pixels", 2 * len(spread_frames(len(run)))) as show:
        return with_needed_map(run, settings, jobs=jobs, progress=show)


def within_memory(run: FrameSource, jobs: int, memory: int | None) -> int:
    """Return how many processes of the run's frames there may be; see `memory_option`."""
    from wrappers.workers.memory import share_out, usual_memory

    return share_out(usual_memory() if memory is None else memory, jobs, len(run), run)[0]


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show progress on stderr; yields a function that takes how many are done."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.update(task, completed=done)


def print_json(document: object) -> None:
    """Print the one document of a ``--json`` run."""
    click.echo(to_json(document))
