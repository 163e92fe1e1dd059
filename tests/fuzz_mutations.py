"""Ways in which a file may be another one than it should."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

__all__ = ["flip", "mutated_json", "mutated_text", "strange_arrays"]

WORDS = (
    *("nan", "inf", "-1", "0", "1e308", "1e-308", "9" * 400, "%", "/", "//", "=", ";", "#", "\0"),
    *(
        "x" * 5000,
        "\ufeff",
        "\u2028",
        "é",
        "-0.0",
        "0x",
        "1e",
        "+",
        "../..",
        "/dev/zero",
        "~",
        "\r",
    ),
)


def mutated_text(text: str, rng: np.random.Generator) -> bytes:
    """Return a text with some of its lines, words, numbers or bytes changed."""
    lines = text.split("\n")
    for _ in range(rng.integers(1, 5)):
        i = int(rng.integers(len(lines)))
        words = lines[i].split(" ")
        j = int(rng.integers(len(words)))
        how = rng.integers(7)
        if how == 0:
            words[j] = str(rng.choice(WORDS))
        elif how == 1:
            words.insert(j, str(rng.choice(WORDS)))
        elif how == 2:
            del words[j]
        elif how == 3:
            words[-1] = repr(float(10.0 ** rng.uniform(-12, 12) * rng.choice([-1, 1])))
        lines[i] = " ".join(words)
        if how == 4:
            del lines[i]
        elif how == 5:
            lines.insert(int(rng.integers(len(lines) + 1)), lines[i])
        elif how == 6:
            lines[i] = lines[int(rng.integers(len(lines)))]
        lines = lines or [""]
    content = bytearray("\n".join(lines).encode("utf-8", "surrogateescape"))
    if rng.random() < 0.3:
        flip(content, rng, int(rng.integers(1, 6)))
    return bytes(content[: rng.integers(len(content) + 1)] if rng.random() < 0.1 else content)


def flip(content: bytearray, rng: np.random.Generator, n: int) -> None:
    """Set some bytes to others."""
    for _ in range(n if content else 0):
        content[int(rng.integers(len(content)))] = int(rng.integers(256))


def strange_arrays(rng: np.random.Generator, shape: tuple[int, ...]) -> object:
    """Return what may stand in the place of an array."""
    n = int(np.prod(shape))
    choices: list[Callable[[], object]] = [
        lambda: np.zeros(shape, "?"),
        lambda: np.zeros(shape, [("a", "f4"), ("b", "i2")]),
        lambda: np.full(shape, np.nan, "f4"),
        lambda: np.full(shape, np.inf, "f8"),
        lambda: np.zeros(shape, "c8"),
        lambda: np.zeros((*shape, 2), "i4"),
        lambda: np.zeros((0, *shape[1:]), "i4"),
        lambda: np.array(b"text"),
        lambda: np.arange(n, dtype="f2").reshape(shape),
        lambda: np.arange(n, dtype=">i8").reshape(shape),
        lambda: np.arange(n, dtype="f8").reshape(shape) * 1e300,
        lambda: np.longdouble(np.arange(n)).reshape(shape),
        lambda: h5py.Empty("f4"),
        lambda: 7,
        lambda: np.array([b"a", b"bc"]),
        lambda: h5py.SoftLink("/entry"),
        lambda: h5py.SoftLink("/entry/data/data"),
        lambda: h5py.ExternalLink("run.h5", "/entry/data/data"),
        lambda: h5py.ExternalLink("/dev/zero", "/"),
        lambda: h5py.ExternalLink("gone.h5", "/x"),
    ]
    return choices[int(rng.integers(len(choices)))]()


STRANGE: tuple[Any, ...] = (
    *(None, True, 0, -1, 3, 2.5, 1e300, -1e300, 10**30, float("nan"), float("inf"), "", "x", "3"),
    *("x" * 5000, "\0", "\udcff", "../..", [], {}, [[]], [1, 2], ["x"], {"x": 1}, [None] * 3),
)


def mutated_json(text: bytes, rng: np.random.Generator) -> bytes:
    """Return JSON with some of its values replaced, removed, doubled or wrapped."""
    holder: list[Any] = [json.loads(text)]
    for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
        places = list(_places(holder))
        above, key = places[int(rng.integers(len(places)))]
        how = int(rng.integers(8))
        if how <= 3:
            above[key] = copy.deepcopy(STRANGE[int(rng.integers(len(STRANGE)))])
        elif how == 4 and isinstance(above[key], int | float):
            above[key] = above[key] * float(10.0 ** rng.integers(-20, 20)) - 1
        elif how == 5 and len(above) > 1:
            del above[key]
        elif how == 6 and isinstance(above, dict):
            above[f"{key}x"] = above.pop(key)
        else:
            above[key] = [above[key]]
    content = json.dumps(holder[0])
    if rng.random() < 0.05:
        n = int(rng.choice([60, 900, 100_000]))
        content = "[" * n + content + "]" * n
    if rng.random() < 0.05:
        return content.encode(str(rng.choice(["utf-16", "utf-32", "utf-8-sig"])))
    return content.encode()


def _places(value: Any) -> Any:
    """Yield each table or list within a value with each of its keys."""
    for key, below in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(below, dict | list):
            yield from _places(below)
