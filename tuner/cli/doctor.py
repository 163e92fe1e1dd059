"""``sfx-tuner doctor``: what is installed, what is missing and how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import click

from tuner.cli.options import json_option, print_json
from tuner.display.terminal import echo
from wrappers.extras import EXTRAS, missing

__all__ = ["command"]

PACKAGES = ("numpy", "numba", "h5py", "hdf5plugin", "gymnasium", "optuna")


@click.command()
@click.option(
    "--warm",
    is_flag=True,
    help="Compile all kernels now, for the usual data types of frames, so that no first session "
    "waits for it: half a minute, once on a machine.",
)
@json_option
def command(warm: bool, as_json: bool) -> None:
    """Say what is installed, what is missing and how to get it.

    \b
    Example:
      sfx-tuner doctor
      sfx-tuner doctor --warm
    """
    if warm:
        _warm(as_json)
        return
    found = examine()
    if as_json:
        print_json(found)
        return
    echo(f"sfx-tuner  {found['sfx_tuner']}, Python {found['python']}")
    echo(f"cores      {found['cores']}")
    for name, version in found["packages"].items():
        echo(f"{name:18} {version or 'MISSING: run make install again'}")
    filters = ", ".join(n for n, ok in found["hdf5_filters"].items() if ok) or "none"
    echo(f"HDF5 filters       {filters}")
    for name, absent in found["extras"].items():
        told = f"lacks {' and '.join(absent)}: pip install 'sfx-tuner[{name}]'"
        echo(f"extra {name:12} {told if absent else 'installed'}  ({EXTRAS[name].adds})")
    crystfel = found["crystfel"]
    if crystfel is None:
        echo(
            "CrystFEL           not found: the embedded indexer is used. Install CrystFEL "
            "(www.desy.de/~twhite/crystfel) and put indexamajig on PATH, or name it in "
            "SFX_TUNER_INDEXAMAJIG."
        )
    elif "problem" in crystfel:
        echo(f"CrystFEL           {crystfel['problem']}")
    else:
        echo(
            f"CrystFEL           {crystfel['version']} at {crystfel['path']}; indexers "
            f"{', '.join(crystfel['indexers'])}"
        )
        if not crystfel["stays_between_calls"]:
            echo(
                "                   is started for each evaluation: CrystFEL 0.12 with ZMQ, and "
                "the extra crystfel, save that second"
            )


def _warm(as_json: bool) -> None:
    """Compile the kernels, and say how long each takes."""
    from wrappers.workers.warming import warm_kernels

    taken = {}
    for what, seconds in warm_kernels():
        taken[what] = round(seconds, 2)
        echo(f"{what:36} {seconds:5.1f} s of processor time", err=as_json)
    if as_json:
        print_json({"kernels": taken})


def examine() -> dict[str, Any]:
    """Return what is installed, as plain values."""
    import h5py
    import hdf5plugin

    from wrappers.crystfel.indexamajig import find_indexamajig
    from wrappers.crystfel.server import can_serve
    from wrappers.errors import ProgramError

    crystfel: dict[str, Any] | None
    try:
        program = find_indexamajig()
        crystfel = None
        if program is not None:
            crystfel = {
                "path": program.path,
                "version": program.version,
                "indexers": list(program.indexers),
                "stays_between_calls": can_serve(program),
            }
    except ProgramError as error:
        crystfel = {"problem": str(error)}
    filters = {
        "bitshuffle": hdf5plugin.BSHUF_ID,
        "lz4": hdf5plugin.LZ4_ID,
        "zstd": hdf5plugin.ZSTD_ID,
    }
    return {
        "sfx_tuner": importlib.metadata.version("sfx-tuner"),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "packages": {name: _version(name) for name in PACKAGES},
        "extras": {name: missing(name) for name in EXTRAS},
        "hdf5_filters": {name: h5py.h5z.filter_avail(code) for name, code in filters.items()},
        "crystfel": crystfel,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
