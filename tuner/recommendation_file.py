"""What ``recommended.toml`` holds: the shape of its tables.

Anybody may edit the file, and it may be a stranger's. Of the evidence and the provenance only that
is checked which something is made of; whatever else they say is for people.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from wrappers.errors import InputError
from wrappers.schema import Count, Number, Pair, Share, read_toml, validated
from wrappers.settings import Settings

__all__ = ["REMEDY", "RecommendationFile", "read_recommendation_file"]

REMEDY = "write it anew with sfx-tuner tune --resume, or correct it by hand"


class _NotSearched(TypedDict):
    not_done: str


class _OwnSearch(TypedDict):
    same_peaks: Count
    n_frames: Count
    n_indexed: Count
    same_indexed: NotRequired[Count]


class _Evidence(TypedDict, total=False):
    """What the evidence may hold that something is made of, as the file has it."""

    n_frames: Count
    n_hits: Count
    n_indexed: Count
    n_failed: Count
    n_cut: Count
    hit_rate: Share
    n_equivalent: Number
    n_looked_at: Count
    strata: list[tuple[Count, Count, Count]]
    indexing_rate: Share
    ci95: Pair
    false_rate: Number
    n_decoys: Count
    n_decoys_indexed: Count
    baseline_rate: Share
    start_rate: Share
    gain: Number
    gain_ci95: Pair
    gain_p: Number
    clen_se: Number
    shift_x_se: Number
    shift_y_se: Number
    clen_refined: Pair
    shift_x_refined: Pair
    shift_y_refined: Pair
    drift: str
    cell_check_shift: Pair
    geometry_start: str
    crystfel_own_search: _NotSearched | _OwnSearch
    cell_scale_deviation: Number
    residual_px: Number


class _Provenance(TypedDict, total=False):
    """What the provenance may hold that something is made of, as the file has it."""

    data: str
    geometry: str
    cell: str
    bad_pixels: str
    date: str
    data_sha256: str
    geometry_sha256: str
    cell_sha256: str
    spots_sha256: str
    settings_sha256: str
    tuned: list[str]
    geometry_clen: Number
    pixel_size: Number
    clen_bounds: Pair
    shift_x_bounds: Pair
    shift_y_bounds: Pair
    measured_on_fresh_frames: bool
    ended_by: str
    choice: str
    start: str
    indexer: str
    indexer_name: str
    indexer_method: str
    indexer_effort: str
    indexer_options: list[str]


_SHAPES: dict[str, Any] = {"evidence": _Evidence, "provenance": _Provenance}


@dataclass(frozen=True)
class RecommendationFile:
    """The file's three tables."""

    settings: Settings
    evidence: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


def read_recommendation_file(path: Path) -> RecommendationFile:
    """Read ``recommended.toml``.

    Raises
    ------
    InputError
        If it is not TOML, or holds something else; the field is named.
    """
    document = read_toml(path, dict[str, Any], "the recommendation", REMEDY)
    if "settings" not in document:
        raise InputError(f"{path} has no [settings] table, so there is nothing to apply")
    tables = {name: document.get(name, {}) for name in ("settings", "evidence", "provenance")}
    settings, *others = validated(tables, dict[str, dict[str, Any]], str(path), REMEDY).values()
    for table, values, shape in zip(_SHAPES, others, _SHAPES.values(), strict=True):
        known = {name: values[name] for name in shape.__annotations__ if name in values}
        validated({table: known}, dict[str, shape], str(path), REMEDY)  # type: ignore[valid-type]
    try:
        return RecommendationFile(Settings.from_dict(settings), *others)
    except InputError as error:
        raise InputError(f"{path}, [settings]: {error}") from None
