"""What ``sfx-tuner train --spots`` does: the model of the learned peak finder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tuner.cli.options import print_json, progress_bar, stderr
from tuner.display.terminal import echo
from tuner.recommendation import read_recommendation
from wrappers.errors import InputError
from wrappers.extras import require
from wrappers.outputs import require_new_folder

__all__ = ["RENDERED", "train_spots_command"]

RENDERED = "\0"
"""What ``--spots`` without a session stands for: nobody can type it."""

WRITTEN = ("spots.json", "spots.safetensors")


def train_spots_command(
    session: str, output: Path, experiments: int | None, jobs: int, as_json: bool
) -> None:
    """Train the spot model on rendered frames (`RENDERED`), or refine one on a session's."""
    if not session:
        raise InputError(
            "--spots '' names no session: give its directory, or --spots alone to train on "
            "rendered frames"
        )
    if session != RENDERED:
        if experiments:
            raise InputError(
                "train --spots SESSION renders no experiments: leave --experiments out"
            )
        read_recommendation(Path(session))
    require("train", "sfx-tuner train --spots", "torch")
    require_new_folder(output, *WRITTEN)
    if session == RENDERED:
        _train(output, experiments, as_json)
    else:
        _refine(Path(session), output, jobs, as_json)


def _train(output: Path, experiments: int | None, as_json: bool) -> None:
    from tuner.spots.training import SpotTraining, train_spots

    training = SpotTraining()
    if experiments is not None:
        training = dataclasses.replace(training, n_experiments=experiments)
    with progress_bar("rendering", training.n_experiments) as show:
        model = train_spots(
            training,
            output,
            on_note=lambda text: stderr.print(text, style="dim", highlight=False),
            on_rendered=lambda done, total: show(done),
        )
    if as_json:
        print_json({"directory": output, **model.provenance})
        return
    known = model.provenance
    if "held_out_f1" in known:
        echo(
            f"{known['n_candidates']} candidates; on those of held-out experiments loss "
            f"{known['held_out_loss']:.4f}, F1 {known['held_out_f1']:.3f} (true spots that are no "
            f"candidate are not counted) at min_probability "
            f"{known['held_out_min_probability']:.2f}"
        )
    echo(f"written: {' and '.join(str(output / name) for name in WRITTEN)}")


def _refine(session: Path, output: Path, jobs: int, as_json: bool) -> None:
    from tuner.spots.refining import CUSTOMARY, PROBABILITIES, refine_spots

    found = refine_spots(session, output, jobs=jobs)
    if as_json:
        print_json(
            {
                "directory": output,
                "kept": found.kept,
                "frames": [found.n_learnt, found.n_held_out],
                "held_out_loss": list(found.loss),
                "held_out_hits": [list(each) for each in found.hits],
                "held_out_indexed": [list(each) for each in found.indexed],
                "min_probability": list(PROBABILITIES),
                "gain": found.gain,
                "gain_se": found.error,
            }
        )
        return
    before, after = found.loss
    echo(
        f"refined on {found.n_learnt} frames; mean loss on {found.n_held_out} others {before:.4f} "
        f"before, {after:.4f} after (gain {found.gain:+.4f} ± {found.error:.4f})"
    )
    first, then = found.indexed
    echo(
        f"of these {first[CUSTOMARY]} are indexed before and {then[CUSTOMARY]} after with "
        f"min_probability {PROBABILITIES[CUSTOMARY]:g}, and {max(first)} and {max(then)} with the "
        "best of several"
    )
    if found.kept:
        echo(f"better: --peaks learned:{output} takes it")
    else:
        echo(f"not better: {output} has the weights that it began with")
