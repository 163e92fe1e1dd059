"""What ``sfx-tuner train --spots`` does: the model of the learned peak finder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tuner.cli.options import print_json, progress_bar, stderr
from tuner.display.terminal import echo
from wrappers.extras import require
from wrappers.outputs import check_outputs
from wrappers.spots.model import SHIPPED

__all__ = ["train_spots_command"]

WRITTEN = ("spots.json", "spots.safetensors")


def train_spots_command(
    session: str, output: Path, experiments: int | None, jobs: int, as_json: bool
) -> None:
    """Train the spot model on rendered frames, or refine the shipped one on a session's."""
    require("train", "sfx-tuner train --spots", "torch")
    if output.exists():
        written = (output / name for name in WRITTEN)
        check_outputs(*written, inputs=[session or None, SHIPPED], force=True)
    if session:
        _refine(Path(session), output, jobs, as_json)
    else:
        _train(output, experiments, as_json)


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
            f"{known['n_candidates']} candidates; on held-out experiments loss "
            f"{known['held_out_loss']:.4f}, F1 {known['held_out_f1']:.3f} at min_probability "
            f"{known['held_out_min_probability']:.2f}"
        )
    echo(f"written: {' and '.join(str(output / name) for name in WRITTEN)}")


def _refine(session: Path, output: Path, jobs: int, as_json: bool) -> None:
    from tuner.spots.refining import refine_spots

    found = refine_spots(session, output, jobs=jobs)
    if as_json:
        print_json(
            {
                "directory": output,
                "kept": found.kept,
                "frames": [found.n_learnt, found.n_held_out],
                "held_out_loss": list(found.loss),
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
    if found.kept:
        echo(f"better: --peaks learned:{output} takes it")
    else:
        echo(f"not better: {output} has the weights that it began with")
