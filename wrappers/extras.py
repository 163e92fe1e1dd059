"""What `pip install 'sfx-tuner[EXTRA]'` adds, and the sentence where it is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from wrappers.errors import InputError

__all__ = ["EXTRAS", "Extra", "missing", "require"]


@dataclass(frozen=True)
class Extra:
    """Packages that only some need.

    Attributes
    ----------
    adds : str
        What it is for.
    modules : mapping of str to str
        The modules that it adds, and the packages that they are of.
    """

    adds: str
    modules: Mapping[str, str]


EXTRAS: Mapping[str, Extra] = MappingProxyType(
    {
        "gp": Extra(
            "the searchers with a Gaussian process",
            {"torch": "PyTorch", "greenlet": "greenlet"},
        ),
        "train": Extra(
            "sfx-tuner train, which makes a policy",
            {"torch": "PyTorch", "stable_baselines3": "stable-baselines3"},
        ),
        "crystfel": Extra(
            "a CrystFEL that stays between evaluations", {"msgpack": "msgpack", "zmq": "pyzmq"}
        ),
        "cluster": Extra(
            "tune --cluster",
            {
                "distributed": "Dask",
                "dask_jobqueue": "dask-jobqueue",
                "cryptography": "cryptography",
            },
        ),
        "live": Extra(
            "frames from a socket",
            {
                "cbor2": "cbor2",
                "dectris": "dectris-compression",
                "msgpack": "msgpack",
                "zmq": "pyzmq",
            },
        ),
        "cbf": Extra("runs of CBF files", {"fabio": "fabio"}),
    }
)


def missing(extra: str, *modules: str) -> list[str]:
    """Return the packages of an extra that are not installed, or those of some of its modules."""
    packages = EXTRAS[extra].modules
    return [
        packages[name] for name in modules or packages if importlib.util.find_spec(name) is None
    ]


def require(extra: str, what: str, *modules: str) -> None:
    """Raise InputError where something needs what an extra adds and is not installed.

    Parameters
    ----------
    extra : str
    what : str
        What needs it, such as "--cluster slurm".
    *modules : str
        Those of the extra's that it needs; all of them by default.
    """
    if absent := missing(extra, *modules):
        raise InputError(f"{what} needs {' and '.join(absent)}: pip install 'sfx-tuner[{extra}]'")
