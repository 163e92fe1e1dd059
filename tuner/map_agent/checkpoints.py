"""What a training keeps in its directory, so that it can be stopped and resumed.

That is what was asked (``training.json``), how it went (``curve.csv``, a row a checkpoint), and
all that PPO needs to go on (``checkpoint.pt``).
"""

from __future__ import annotations

import csv
import io
import json
import math
import pickle
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.outputs import require_new_folder
from wrappers.reading import open_regular, read_text

if TYPE_CHECKING:
    from stable_baselines3 import PPO

__all__ = [
    "Row",
    "begin_training",
    "load_checkpoint",
    "read_curve",
    "save_checkpoint",
    "write_curve",
]

Row = dict[str, float]

CURVE = "curve.csv"
NEEDED = ("steps", "score")


def begin_training(training: Any, directory: Path, resume: bool, *outputs: str) -> None:
    """Keep a training's options in its directory, or see that they are those it was begun with.

    Parameters
    ----------
    training : dataclass
        The options.
    directory : Path
    resume : bool
        Whether a training that is there is gone on with.
    outputs : str
        Names of files that no other training may have left there.

    Raises
    ------
    InputError
        If the directory holds another training, or one that is not to be resumed.
    """
    path = directory / "training.json"
    text = json.dumps(asdict(training), indent=1) + "\n"
    if path.exists():
        if not resume:
            raise InputError(
                f"{directory} holds a training already: add --resume to go on with it, or name "
                "another directory"
            )
        if read_text(path, "the training") != text:
            raise InputError(
                f"{path} was begun with other options: give the same ones, or name another "
                "directory"
            )
    else:
        require_new_folder(directory, *outputs)
    write_whole(path, text)


def read_curve(directory: Path) -> list[Row]:
    """Return the rows of a curve, none where there is no curve yet.

    Raises
    ------
    InputError
        If it is damaged, or a row lacks one of `NEEDED`.
    """
    path = directory / CURVE
    if not path.exists():
        return []
    remedy = f"remove {directory} to train anew"
    lines = read_text(path, "the curve").splitlines()
    try:
        rows = [{str(k): float(v) for k, v in row.items()} for row in csv.DictReader(lines)]
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}): {remedy}") from error
    for name in NEEDED:
        if not all(math.isfinite(row.get(name, math.nan)) for row in rows):
            raise InputError(f"{path} is damaged (a row has no {name}): {remedy}")
    return rows


def write_curve(directory: Path, rows: Sequence[Row]) -> None:
    """Write the rows of a curve."""
    write_whole(directory / CURVE, pd.DataFrame(rows).to_csv(index=False))


def save_checkpoint(model: PPO, path: Path) -> None:
    """Write all that PPO needs to go on; the file appears whole or not at all."""
    import torch  # which takes seconds, and a curve needs none

    content = io.BytesIO()
    state = {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "steps": model.num_timesteps,
        "updates": model._n_updates,
    }
    torch.save(state, content)
    write_whole(path, content.getvalue())


def load_checkpoint(model: PPO, path: Path) -> None:
    """Go on from what `save_checkpoint` wrote.

    Raises
    ------
    InputError
        If the file is missing or damaged, or is that of another network.
    """
    import torch

    try:
        # weights_only: nothing but tensors and plain values is read, no code is run.
        with open_regular(path, "the checkpoint") as stream:
            state = torch.load(stream, weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("it is no table")
        model.policy.load_state_dict(state["policy"])
        model.policy.optimizer.load_state_dict(state["optimizer"])
        model.num_timesteps = int(state["steps"])
        model._n_updates = int(state["updates"])
    except InputError:
        raise
    except (pickle.UnpicklingError, OSError, EOFError, RuntimeError, MemoryError) as error:
        raise _damaged(path, error) from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    reason = str(error).partition("\n")[0]
    return InputError(f"{path} is damaged ({reason}): remove {path.parent} to train anew")
