"""What ``sfx-tuner apply`` says of a reduced run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from tuner.cli.live import kind_counts, kinds_line, sample_line
from tuner.cli.options import print_json
from tuner.display.terminal import echo

if TYPE_CHECKING:
    from tuner.apply.applying import VetoCheck
    from tuner.apply.by_kind import ByKind
    from wrappers.reduction import Reduction

__all__ = ["report_reduction"]


def report_reduction(
    reduction: Reduction,
    check: VetoCheck | None,
    by_kind: ByKind | None,
    alarms: Sequence[str],
    seconds: float,
    as_json: bool,
) -> None:
    """Print it, for people or as JSON."""
    import hdf5plugin

    n_done = reduction.n_frames - reduction.n_resumed
    factor = reduction.n_frames / reduction.n_hits if reduction.n_hits else None
    if as_json:
        print_json(
            {
                "settings": reduction.sets[0].settings.as_dict(),
                "n_frames": reduction.n_frames,
                "n_resumed": reduction.n_resumed,
                "n_unreadable": len(reduction.unreadable),
                "n_hits": reduction.n_hits,
                "reduction_factor": factor,
                "sample": None if check is None else asdict(check),
                "kinds": None if by_kind is None else kind_counts(reduction.kinds),
                "n_vetoed": reduction.n_vetoed,
                "alarms": list(alarms),
                "seconds": seconds,
                "frames_per_second": n_done / seconds,
                "output": str(reduction.hits),
                "geometry": str(reduction.geometry),
            }
        )
        return
    echo(
        f"{reduction.n_hits} hits in {reduction.n_frames} frames"
        + (f", 1 in {factor:.1f}" if factor else "")
        + (f"; {n_done / seconds:.0f} frames/s" if n_done else "")
        + (f"; {reduction.n_resumed} frames were done before" if reduction.n_resumed else "")
    )
    if check is not None:
        echo(sample_line(check))
    if by_kind is not None:
        echo(kinds_line(reduction.kinds, reduction.n_vetoed if by_kind.veto else None))
    for alarm in alarms:
        echo(f"warning: {alarm}")
    echo(
        f"written: {reduction.hits} and {reduction.geometry}\n"
        "CrystFEL reads them with\n"
        f"  HDF5_PLUGIN_PATH={hdf5plugin.PLUGIN_PATH} \\\n"
        f"  indexamajig --peaks=cxi --no-revalidate -g {reduction.geometry} …"
    )
