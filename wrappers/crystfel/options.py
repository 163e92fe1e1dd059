"""What to ask of which CrystFEL, and how much effort to ask for.

Facts about versions are from CrystFEL's ChangeLog and from running 0.9.1, 0.10.0, 0.10.2,
0.11.1, 0.12.0 and a development version on the same peaks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wrappers.cell import Cell
from wrappers.crystfel.indexamajig import CrystfelProgram, find_indexamajig
from wrappers.errors import InputError, ProgramError
from wrappers.settings import ABOUT, Settings

__all__ = [
    "EFFORTS",
    "NO_LIMIT",
    "Method",
    "best_method",
    "choose_method",
    "frugal_options",
    "peak_options",
    "require_method",
    "require_program",
    "search_arguments",
    "search_values",
]

XGANDALF_EFFORTS = {
    "cheap": ("--xgandalf-sampling-pitch=0", "--xgandalf-grad-desc-iterations=0"),
    "normal": ("--xgandalf-sampling-pitch=1", "--xgandalf-grad-desc-iterations=1"),
    "thorough": ("--xgandalf-sampling-pitch=2", "--xgandalf-grad-desc-iterations=3"),
}
EFFORTS = tuple(XGANDALF_EFFORTS)
"""How hard a method tries; only xgandalf has such a choice.

Hits indexed, and CPU seconds of the whole call, with CrystFEL 0.12.0-113 on the shared runs;
*own* are xgandalf's own defaults (pitch 6, 4 iterations), and -1 % is a camera length too short:

=================== ========== ========== ========== ===========
run (hits)          cheap      normal     thorough   own
=================== ========== ========== ========== ===========
jf1m (48)           42, 4.8 s  43, 6.3 s  41, 15.7 s 42, 162 s
jf1m, -1 %          40, 5.1 s  41, 6.4 s  41, 15.9 s
jf1m, noisy (60)    35, 13.1 s 35, 17.1 s 35, 44.9 s
thaumatin (15)      15, 4.4 s  15, 5.2 s  15, 12.8 s 15, 138 s
thermolysin (4)     3, 0.8 s   4, 0.8 s   4, 1.9 s   4, 14.3 s
thermolysin, -1 %   3, 0.8 s   4, 0.6 s   4, 1.7 s
=================== ========== ========== ========== ===========
"""

FRUGAL = (
    "--cell-parameters-only",
    "--no-peaks-in-stream",
    "--no-refls-in-stream",
    "--max-indexer-threads=1",
)
"""Nothing is integrated: only lattices are wanted. Unknown ones are left out."""

NEEDED = ("--peaks=cxi", "--no-revalidate", "--no-image-data", "--no-mask-data")
"""Peaks come from a file without images; without these options CrystFEL would reject them."""

OLD_NEEDED = (
    "--peaks=cxi",
    "--hdf5-peaks=/entry_1/result_1",
    "--no-revalidate",
    "--integration=none",
)
"""Before 0.10 it reads an image with every peak list (blank ones do) and integrates always."""

SECONDS_A_FRAME = {"xgandalf": 2.0, "asdf": 2.0, "taketwo": 2.0}
"""A crystal takes 0.05 to 0.3 s. A list of 500 noise peaks takes asdf 5 s and more: settings that
make such lists are not worth waiting for."""

NO_LIMIT = 100_000
"""Pixels, beyond any detector. CrystFEL takes 0 for no limit only since 0.12, others never."""

METHODS = (
    *("xgandalf", "asdf", "mosflm", "taketwo", "pinkIndexer", "pinkindexer", "ffbidx", "dirax"),
    *("xds", "felix", "smallcell", "none"),
)
MODIFIERS = ("latt", "nolatt", "cell", "nocell", "axes", "raw", "bad", "comb", "retry", "noretry")
"""Behind a method's name, as in ``mosflm-latt-nocell``."""

METHOD_OPTION = re.compile(
    r"--(?:(?:xgandalf|asdf|taketwo|pinkIndexer|felix|ffbidx|smallcell)-[A-Za-z0-9-]+"
    r"(?:=[A-Za-z0-9.,:+-]*)?|tolerance=[0-9.,]+|(?:no-)?(?:multi|refine|retry)"
    r"|no-check-(?:peaks|cell))"
)
"""An option that tunes a method and names no file."""

OLDEST = (0, 9, 1)
IMAGES_OPTIONAL = (0, 10)


@dataclass(frozen=True)
class Method:
    """An indexing method of a program.

    Attributes
    ----------
    name : str
        Program, version, method and what is unusual about its options.
    arguments : tuple of str
    seconds_a_frame : float
        More than it takes for any frame that is worth it.
    """

    name: str
    arguments: tuple[str, ...]
    seconds_a_frame: float = 10.0

    def time_limit(self, n_frames: int, jobs: int) -> float:
        """Return how long a call with so many frames and processes may take, in seconds."""
        return 30.0 + self.seconds_a_frame * n_frames / jobs


def require_method(method: str | None, options: Sequence[str] | None) -> None:
    """Refuse a method that CrystFEL never had, and options that are not a method's own.

    They may come from a stranger's file, and end in a command that a user runs.

    Raises
    ------
    InputError
        If the method is not known, or an option could do more than tune it.
    """
    for each in (method or METHODS[0]).split(","):
        name, *modifiers = each.split("-")
        if name not in METHODS or not all(word in MODIFIERS for word in modifiers):
            raise InputError(
                f"CrystFEL has no indexing method {each[:60]!r}: correct indexer_method, or "
                f"indexer, in [provenance] (the methods are {', '.join(METHODS)})"
            )
    for option in options or ():
        if not isinstance(option, str) or not METHOD_OPTION.fullmatch(option):
            raise InputError(
                f"{str(option)[:60]!r} is no option of an indexing method: take it out of "
                "indexer_options, or of indexer, in [provenance]"
            )


def require_program(program: str | CrystfelProgram | None) -> CrystfelProgram:
    """Return the program of a path or name; see `indexamajig.find_indexamajig`.

    Raises
    ------
    ProgramError
        If there is none, it does not run, or it is older than 0.9.1.
    """
    if not isinstance(program, CrystfelProgram):
        found = find_indexamajig(program)
        if found is None:
            raise ProgramError(
                "CrystFEL's indexamajig is not on the PATH: install CrystFEL, set "
                "SFX_TUNER_INDEXAMAJIG to it, or use the embedded indexer (--indexer fast)"
            )
        program = found
    if program.release < OLDEST:
        raise ProgramError(
            f"CrystFEL {program.version} at {program.path} is too old: install 0.9.1 or later, "
            "or use the embedded indexer (--indexer fast)"
        )
    return program


def choose_method(
    program: CrystfelProgram,
    cell: Cell,
    method: str | None = None,
    *,
    effort: str = "normal",
    options: Sequence[str] | None = None,
) -> Method:
    """Return how to ask for an indexing method.

    Parameters
    ----------
    program : CrystfelProgram
    cell : Cell
    method : str, optional
        The value of ``--indexing``; by default the best that the program offers.
    effort : str, optional
        One of `EFFORTS`.
    options : sequence of str, optional
        The method's own options, instead of those of an effort.

    Raises
    ------
    InputError
        If there is no such effort.
    ProgramError
        If the program offers no method.
    """
    if effort not in EFFORTS:
        raise InputError(f"the effort is {effort!r}, but must be one of {', '.join(EFFORTS)}")
    method = method or best_method(program)
    name = f"CrystFEL {program.version}, {method}"
    if options is not None:
        name = " ".join([name, *options])
    elif method == "xgandalf":
        options = [*XGANDALF_EFFORTS[effort], *_xgandalf_limits(cell)]
        name += "" if effort == "normal" else f" {effort}"
    arguments = (f"--indexing={method}", "--tolerance=5,5,5,1.5", *(options or ()))
    return Method(name, arguments, SECONDS_A_FRAME.get(method, Method.seconds_a_frame))


def peak_options(program: CrystfelProgram) -> tuple[str, ...]:
    """Return what makes the program take the peaks of a CXI file as they are.

    Raises
    ------
    ProgramError
        If it does not know how to.
    """
    needed = NEEDED if takes_no_images(program) else OLD_NEEDED
    lacking = [option for option in needed if not program.supported([option])]
    if lacking:
        raise ProgramError(
            f"CrystFEL {program.version} at {program.path} cannot be given peaks: it does not "
            f"know {lacking[0]}; install 0.10 or later, or use the embedded indexer"
        )
    return needed


def search_values(settings: Settings) -> dict[str, Any]:
    """Return the settings of a peak search and of a hit by field, a missing limit written out."""
    return {
        name: NO_LIMIT if about.zero and not getattr(settings, name) else getattr(settings, name)
        for name, about in ABOUT.items()
        if about.option
    }


def search_arguments(settings: Settings) -> list[str]:
    """Return the options that make ``indexamajig`` find the same peaks.

    Every one is explicit, because CrystFEL's defaults changed between versions. The camera
    length and the detector shift are not among them: they stand in the geometry file.
    """
    return [f"--{ABOUT[name].option}={value}" for name, value in search_values(settings).items()]


def takes_no_images(program: CrystfelProgram) -> bool:
    """Whether it can do with peaks alone."""
    return program.release >= IMAGES_OPTIONAL


def frugal_options(program: CrystfelProgram) -> list[str]:
    """Return what keeps the program from work that is not wanted, as far as it can be."""
    return program.supported(FRUGAL)


def best_method(program: CrystfelProgram) -> str:
    """Return the best indexing method that a program offers.

    Raises
    ------
    ProgramError
        If it offers none.
    """
    if not program.indexers:
        raise ProgramError(
            f"CrystFEL {program.version} at {program.path} offers no indexing method: install "
            "one that it finds (xgandalf, say), or use the embedded indexer (--indexer fast)"
        )
    return program.indexers[0]


def _xgandalf_limits(cell: Cell) -> list[str]:
    edges = (cell.a, cell.b, cell.c)
    return [
        # Keeps the rate flat within 2 % of the true camera length.
        "--xgandalf-tolerance=0.05",
        # Its own limits, 30 and 250 Å, unless the cell lies outside.
        f"--xgandalf-min-lattice-vector-length={min(30.0, 0.7 * min(edges)):g}",
        f"--xgandalf-max-lattice-vector-length={max(250.0, 1.3 * max(edges)):g}",
    ]
