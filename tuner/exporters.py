"""The recommended settings in the words of other programs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.recommendation import Recommendation, clen_change, session_geometry
from wrappers.files import write_whole
from wrappers.geom_file import write_geometry
from wrappers.settings import Settings

__all__ = ["crystfel_arguments", "crystfel_script", "export_geometry"]


def crystfel_arguments(settings: Settings) -> list[str]:
    """Return the options that make ``indexamajig`` find the same peaks.

    Every one is explicit, because CrystFEL's defaults changed between versions. The camera
    length and the detector shift are not among them: they stand in the geometry file.
    """
    return [
        "--peaks=peakfinder8",
        f"--threshold={settings.threshold:g}",
        f"--min-snr={settings.min_snr:g}",
        f"--min-pix-count={settings.min_pix_count}",
        f"--max-pix-count={settings.max_pix_count}",
        f"--local-bg-radius={settings.local_bg_radius}",
        f"--min-res={settings.min_res}",
        # 0 means no limit only since 0.12; a limit beyond any detector does in every version.
        f"--max-res={settings.max_res or 100000}",
        f"--min-peaks={settings.min_peaks}",
    ]


def crystfel_script(recommendation: Recommendation, geometry: Path) -> str:
    """Return a shell script that indexes the run as recommended.

    Parameters
    ----------
    recommendation : Recommendation
    geometry : Path
        The geometry file with the recommended camera length, as `export_geometry` writes it.
    """
    provenance = recommendation.provenance
    data = str(provenance.get("data", "run.h5"))
    cell = str(provenance.get("cell", "protein.cell"))
    command = [
        "indexamajig",
        *("-i", "frames.lst", "-o", "indexed.stream", "-g", str(geometry), "-p", cell),
        *crystfel_arguments(recommendation.settings),
        "--indexing=xgandalf",
        *("-j", "4"),
    ]
    lines = [
        "#!/bin/sh",
        f"# {_provenance_line(provenance)}",
        f"printf '%s\\n' {shlex.quote(data)} > frames.lst",
        " \\\n  ".join(shlex.quote(word) for word in command),
    ]
    return "\n".join(lines) + "\n"


def export_geometry(recommendation: Recommendation, out: Path, source: Path | None = None) -> None:
    """Write the session's geometry file with the recommended camera length and shift.

    Every other line stays as it was.

    Parameters
    ----------
    recommendation : Recommendation
    out : Path
    source : Path, optional
        The geometry file; by default the one that the session was run with.

    Raises
    ------
    InputError
        If that file is gone or is no longer the one of the session, or cannot be changed.
    """
    settings = recommendation.settings
    write_geometry(
        session_geometry(recommendation, source),
        out,
        clen_change=clen_change(recommendation),
        shift_x=settings.shift_x,
        shift_y=settings.shift_y,
    )


def write_script(text: str, path: Path) -> None:
    """Write an executable script."""
    write_whole(path, text)
    path.chmod(0o755)


def _provenance_line(provenance: Mapping[str, Any]) -> str:
    return (
        f"written by {provenance.get('program', 'sfx-tuner')} from the session of "
        f"{provenance.get('date', 'unknown date')}"
    )
