"""The recommended settings with their evidence: ``recommended.toml``."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import tomlkit

from envs.evaluation import Evaluation
from envs.geometry_rule import GEOMETRY
from envs.geometry_rule import at_edge as near_an_end
from tuner.fingerprint import fingerprint
from tuner.recommendation_file import REMEDY, read_recommendation_file
from tuner.report.words import shown
from tuner.session.nothing import read_nothing
from tuner.statistics import paired_difference
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.frames.linked import files_named, masks_named
from wrappers.lattices.geometry_drift import Drift, find_drift
from wrappers.settings import ABOUT, FORMER_NAMES, Settings
from wrappers.text import from_utf8, is_name, is_plain, to_utf8

__all__ = [
    "CONFIRMED",
    "EDITED",
    "UNCONFIRMED",
    "Recommendation",
    "applied_settings",
    "at_edge",
    "clen_change",
    "drift_of",
    "files_of_session",
    "read_recommendation",
    "recommend",
    "session_geometry",
    "settings_digest",
    "shown",
    "write_recommendation",
]

FILES = ("data", "geometry", "cell", "bad_pixels", "policy")
"""In the provenance: names of files."""

MEASURED = "settings_sha256"
"""In the provenance: the digest of the settings that were measured."""

EDITED = (
    "the settings were edited by hand after the session: its rates are those of its own set, and "
    "nobody has measured these"
)


UNCONFIRMED = (
    "the settings are the best so far of a session that has not ended: they are unconfirmed, and "
    "their rate flatters them"
)

CONFIRMED = "confirmed"
"""In the provenance: false where the session has not ended; other files do not say."""


@dataclass(frozen=True)
class Recommendation:
    """What a session found, and how well it is known.

    Attributes
    ----------
    settings : Settings
    evidence, provenance : mapping
        Plain values, as in the file.
    """

    settings: Settings
    evidence: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def edited(self) -> bool:
        """Whether the settings were changed since they were measured, so no evidence is theirs."""
        return self.measured != settings_digest(self.settings)

    @property
    def unconfirmed(self) -> bool:
        """Whether the session had not ended when this was its best."""
        return self.provenance.get(CONFIRMED) is False

    @property
    def caution(self) -> str:
        """What whoever uses the settings must be told, or ""."""
        return EDITED if self.edited else UNCONFIRMED if self.unconfirmed else ""

    @property
    def measured(self) -> str:
        """What tells the settings that the evidence is of; see `settings_digest`."""
        return str(self.provenance.get(MEASURED) or settings_digest(self.settings))

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return the file's three tables as plain values."""
        settings = {k: v for k, v in self.settings.as_dict().items() if v is not None}
        return {
            "settings": settings,
            "evidence": dict(self.evidence),
            "provenance": dict(self.provenance),
        }


def recommend(
    best: Evaluation,
    baseline: Evaluation,
    provenance: Mapping[str, Any],
    checks: Mapping[str, Any] = MappingProxyType({}),
    *,
    start: Evaluation | None = None,
) -> Recommendation:
    """Return the recommendation of an evaluation's settings.

    Parameters
    ----------
    best, baseline : Evaluation
        Of the recommended settings and of CrystFEL's defaults, on the same frames.
    provenance : mapping
        Plain values.
    checks : mapping
        Further evidence, plain values.
    start : Evaluation, optional
        Of what is in use today; the gain is over that. Without it CrystFEL's defaults are.
    """
    gain = paired_difference(best, baseline if start is None else start)
    drift = drift_of(best)
    # Beyond its range, or over lengths that differ, an estimate has no error worth its name.
    vague = at_edge(best.settings, best.refined, provenance)
    if drift is not None and drift.grave:
        vague |= {"clen"}
    evidence: dict[str, Any] = {
        "n_frames": best.n_frames,
        "n_hits": best.n_hits,
        "n_indexed": best.n_indexed,
        "n_failed": best.n_failed,
        **({"n_cut": best.n_cut} if best.n_cut else {}),
        **_drawn(best),
        "indexing_rate": round(best.rate, 6),
        "ci95": [round(end, 4) for end in best.ci95],
        "false_rate": round(best.false_rate, 6),
        "n_decoys": best.n_decoys,
        "n_decoys_indexed": best.n_decoys_indexed,
        **({} if start is None else {"start_rate": round(start.rate, 6)}),
        "baseline_rate": round(baseline.rate, 6),
        "gain": round(gain.difference, 6),
        "gain_ci95": [round(end, 4) for end in gain.ci95],
        "gain_p": float(f"{gain.p_value:.3g}"),
        **{
            f"{name}_se": float(f"{se:.3g}")
            for name, (_, se) in best.refined.items()
            if name in provenance.get("tuned", ()) and name not in vague
        },
        **{
            f"{name}_refined": [float(f"{value:.9g}"), float(f"{se:.3g}")]
            for name, (value, se) in best.refined.items()
            if math.isfinite(value) and math.isfinite(se)
        },
        **({} if drift is None else {"drift": str(drift)}),
        "cell_scale_deviation": round(best.scale_deviation, 6),
        "residual_px": round(best.residual, 4),
        **checks,
    }
    known = {key: value for key, value in evidence.items() if not _is_nan(value)}
    return Recommendation(
        best.settings, known, {**provenance, MEASURED: settings_digest(best.settings)}
    )


def _drawn(evaluation: Evaluation) -> dict[str, Any]:
    """Return how the frames were drawn by their promise, with what that makes of the counts."""
    sizes = evaluation.stratum_sizes
    if not sizes:
        return {}
    indexed = [o.stratum for o in evaluation.outcomes if o.indexed]
    return {
        "hit_rate": round(evaluation.hit_rate, 6),
        "n_equivalent": round(evaluation.equivalent[1], 1),
        "n_looked_at": sum(sizes),
        "strata": [
            [size, evaluation.strata.count(stratum), indexed.count(stratum)]
            for stratum, size in enumerate(sizes)
        ],
    }


def drift_of(evaluation: Evaluation) -> Drift | None:
    """Return how the camera length changes within the run, by the indexed frames' own."""
    frames, lengths, errors = np.array(evaluation.frame_clens).reshape(-1, 3).T
    return find_drift(frames.astype(int), lengths, errors)


def at_edge(
    settings: Settings, refined: Mapping[str, Sequence[float]], provenance: Mapping[str, Any]
) -> set[str]:
    """Return the names of the tuned geometry that ended at the edge of its range.

    Parameters
    ----------
    settings : Settings
        The recommended set.
    refined : mapping of str to (float, float)
        What its lattices give, with standard errors.
    provenance : mapping
        Holds ``clen_bounds`` and the like, the range of each tuned length; without one nothing is
        known.
    """
    found = set()
    for name in GEOMETRY:
        if f"{name}_bounds" not in provenance:
            continue
        low, high = provenance[f"{name}_bounds"]
        value = getattr(settings, name)
        given, error = refined.get(name, (math.nan, math.nan))
        beyond = given < low - 2 * error or given > high + 2 * error
        if beyond or (value is not None and near_an_end(value, low, high)):
            found.add(name)
    return found


def settings_digest(settings: Settings) -> str:
    """Return what tells one set of settings from others, whatever fields are added or renamed."""
    usual = Settings()
    values = {
        FORMER_NAMES.get(name, name): value if isinstance(value, str) else float(value)
        for name, value in settings.as_dict().items()
        if value is not None and value != getattr(usual, name)
    }
    return f"sha256:{hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()}"


def write_recommendation(recommendation: Recommendation, path: Path) -> None:
    """Write ``recommended.toml``, atomically."""
    document = tomlkit.document()
    document.add(
        tomlkit.comment("Written by sfx-tuner. Apply: sfx-tuner apply THIS_FILE DATA -o OUT")
    )
    for name, values in recommendation.as_dict().items():
        table = tomlkit.table()
        # A table within a table ends it.
        for key, value in sorted(values.items(), key=lambda each: isinstance(each[1], Mapping)):
            item = tomlkit.item(to_utf8(value) if isinstance(value, str) else value)
            if name == "settings" and ABOUT[key].note:
                item.comment(ABOUT[key].note)
            table.add(key, item)
        document.add(name, table)
    write_whole(path, tomlkit.dumps(document))


def read_recommendation(path: Path) -> Recommendation:
    """Read ``recommended.toml``, or that of a session directory.

    Raises
    ------
    InputError
        If there is no such file, it is not TOML, or its settings are not settings.
    """
    if path.is_dir():
        path = path / "recommended.toml"
    if not path.exists():
        nothing = read_nothing(path.parent)
        if nothing:
            raise InputError(f"the session {path.parent} recommends nothing: {nothing}")
        raise InputError(
            f"{path} does not exist: name the recommended.toml of a finished session, or its "
            "directory"
        )
    found = read_recommendation_file(path)
    provenance = {
        key: from_utf8(value) if isinstance(value, str) else value
        for key, value in found.provenance.items()
    }
    for key, value in provenance.items():
        if isinstance(value, str) and not is_plain(value):
            raise InputError(f"{path} is damaged: provenance.{key} holds a NUL; {REMEDY}")
        if key in FILES and not is_name(str(value)):
            raise InputError(
                f"{path} is damaged: provenance.{key} is longer than any file's name; {REMEDY}"
            )
    return Recommendation(found.settings, found.evidence, provenance)


def files_of_session(recommendation: Recommendation) -> list[Path]:
    """Return the files that a recommendation's session has read, where it found them."""
    known = {
        name: Path(str(recommendation.provenance[name]))
        for name in ("data", "geometry", "cell", "bad_pixels")
        if name in recommendation.provenance
    }
    behind = files_named(known["data"]) if "data" in known else []
    masks = masks_named(known["geometry"]) if "geometry" in known else []
    # A stranger's file may name a folder, and all that is in that would count as read.
    return [path for path in (*known.values(), *behind, *masks) if not os.path.isdir(path)]


def session_geometry(recommendation: Recommendation, source: Path | None = None) -> Path:
    """Return `source`, or else the geometry file that the session was run with.

    Raises
    ------
    InputError
        If the session's file is gone, or is no longer what it was.
    """
    if source is not None:
        return source
    path = Path(str(recommendation.provenance.get("geometry", "")))
    if not path.is_file():
        raise InputError(f"the session's geometry file {path} is not there: name it with -g")
    if fingerprint(path) != recommendation.provenance.get("geometry_sha256"):
        raise InputError(
            f"{path} is no longer the file that the session was run with: name the right one "
            "with -g"
        )
    return path


def clen_change(recommendation: Recommendation) -> float:
    """Return by how much the recommendation changes the geometry's camera length, in metres.

    Raises
    ------
    InputError
        If the recommendation does not say from where it started.
    """
    if recommendation.settings.clen is None:
        return 0.0
    nominal = recommendation.provenance.get("geometry_clen")
    if not isinstance(nominal, float):
        raise InputError(
            "the recommendation does not say from which camera length it started "
            "(geometry_clen in [provenance]): run the session again"
        )
    return recommendation.settings.clen_change(nominal)


def applied_settings(recommendation: Recommendation, nominal_clen: float) -> Settings:
    """Return the settings for another run of the same detector.

    What a session found is a correction of the geometry's camera length; a detector that has
    moved since, as its header says, keeps it.
    """
    return recommendation.settings.replace(clen=nominal_clen + clen_change(recommendation))


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
