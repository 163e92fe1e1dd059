"""What `envs.environments.tuning_env.TuningEnv` shows: one encoder for any number of tasks at once.

A `TaskBatch` follows B tuning tasks side by side: it takes in what was measured, and returns what
is observed. The environment is a batch of one. Nothing in it comes from a simulator's hidden state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from envs.box import POLICY_PARAMETERS, Boxes
from envs.evaluation import Evaluation
from envs.geometry_rule import knows_geometry, updated_lock
from envs.objective import UNINDEXED_HIT_PENALTY
from envs.parameter_space import Known, ParameterSpace
from envs.reading import Reading

__all__ = [
    "EVALUATION_SIZE",
    "FACTS",
    "FEATURES",
    "MEMORY",
    "OBSERVATION_SIZE",
    "TaskBatch",
    "layout",
]

FEATURES = (
    "merit",
    "rate",
    "hits",
    "indexed_hits",
    "peaks",
    "explained",
    "residual",
    "cell_scale",
    "decoys",
    "refined_clen",
    "clen_known",
    "frames",
    "measured",
)
"""What is seen of one evaluation beside its parameter set."""

FACTS = ("photon_energy", "background", "contrast", "camera_length", "pixel_size", "radius")
"""What is known before the first evaluation."""

MEMORY = 8
"""Evaluations that are seen in full, newest first; of older ones only the incumbent."""

D = len(POLICY_PARAMETERS)
EVALUATION_SIZE = D + len(FEATURES)
"""Numbers that tell of one evaluation: the places of its parameter set, then `FEATURES`."""

GENERAL = 4
OBSERVATION_SIZE = GENERAL + D + (1 + MEMORY) * EVALUATION_SIZE + len(FACTS)
CLEN = POLICY_PARAMETERS.index("clen")

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


class TaskBatch:
    """B tuning tasks under way.

    Once the lattices of an evaluation know the camera length (`envs.geometry_rule`), the executed
    ``clen`` of further ones is the refined one of the best such evaluation, in every task that
    tunes it: part of the task's dynamics, as it is of a session's.

    Parameters
    ----------
    spaces : sequence of ParameterSpace
        One a task, made by `make_space`. Of their parameters those in `POLICY_PARAMETERS` are
        tuned here; everything else keeps the base's value.
    budgets : int array (B,)
        Evaluations that each task may spend.
    penalties : float array (B,)
        For a hit that is not indexed, in indexed frames; what is recorded as an evaluation's
        merit should follow it.

    Attributes
    ----------
    boxes : Boxes
    facts : float array (B, len(FACTS))
        What is known of each task beforehand, scaled as in an observation.
    spent : int array (B,)
        Evaluations recorded.
    best : float array (B,)
        Merit of the incumbent; -inf where nothing was recorded.
    incumbent : float array (B, d)
        Its parameter set; NaN where nothing was recorded.
    fixed_clen : float array (B,)
        The camera length that is fixed from the lattices, in metres; NaN while it is not.
    """

    def __init__(self, spaces: Sequence[ParameterSpace], budgets: Rows, penalties: Array) -> None:
        n = len(spaces)
        self.boxes = Boxes.of(spaces)
        self.facts = np.array([_facts(space.known) for space in spaces])
        self.budgets = np.array(budgets, np.int64).reshape(n)
        self.penalties = np.array(penalties, float).reshape(n)
        self.spent = np.zeros(n, np.int64)
        self.best = np.full(n, -np.inf)
        self.incumbent = np.full((n, D), np.nan)
        self.fixed_clen = np.full(n, np.nan)
        self._fixed_by = np.full(n, -np.inf)
        self._recent = np.zeros((n, MEMORY, EVALUATION_SIZE))
        self._top = np.zeros((n, EVALUATION_SIZE))

    @classmethod
    def single(
        cls, space: ParameterSpace, budget: int, penalty: float = UNINDEXED_HIT_PENALTY
    ) -> TaskBatch:
        """Return a batch of one."""
        return cls([space], np.array([budget]), np.array([penalty]))

    def __len__(self) -> int:
        return len(self.spent)

    def execute(self, actions: NDArray[np.floating]) -> Array:
        """Return the parameter sets (B, d) that actions (B, d) in [-1, 1] stand for by now."""
        return self.boxes.execute(actions, self.fixed_clen)

    def record(self, values: Array, reading: Reading, merits: Array) -> None:
        """Take in what the parameter sets `values` (B, d) gave in every task."""
        self.spent += 1
        knows = self._refine(reading, merits)
        features = self._features(values, reading, merits, knows)
        seen = np.concatenate([self.boxes.units(values), features], axis=1)
        self._recent = np.concatenate([seen[:, None], self._recent[:, :-1]], axis=1)
        better = merits > self.best
        self.best = np.where(better, merits, self.best)
        self.incumbent = np.where(better[:, None], values, self.incumbent)
        self._top = np.where(better[:, None], seen, self._top)

    def record_one(self, values: Mapping[str, float], merit: float, evaluation: Evaluation) -> None:
        """Take in one evaluation, in a batch of one.

        What `values` do not name has the base's value.
        """
        known = dict(zip(POLICY_PARAMETERS, self.boxes.base[0], strict=True)) | dict(values)
        row = np.array([[float(known[name]) for name in POLICY_PARAMETERS]])
        self.record(row, Reading.of_evaluation(evaluation), np.array([merit]))

    def _refine(self, reading: Reading, merits: Array) -> NDArray[np.bool_]:
        """Return which readings know the camera length, after fixing it where they do."""
        resolution = self.boxes.resolution[:, CLEN]
        knows = knows_geometry(
            reading.n_indexed,
            reading.refined_clen,
            reading.refined_clen_se,
            resolution,
            (self.boxes.low[:, CLEN], self.boxes.high[:, CLEN]),
        )
        refined = np.nan_to_num(reading.refined_clen)[:, None] + np.zeros((1, D))
        self.fixed_clen, self._fixed_by = updated_lock(
            self.fixed_clen, self._fixed_by, self.boxes.round(refined)[:, CLEN], knows, merits
        )
        return np.asarray(knows)

    def _features(
        self, values: Array, reading: Reading, merits: Array, knows: NDArray[np.bool_]
    ) -> Array:
        """Return `FEATURES` (B, n), each scaled by hand to about [-1, 1]."""
        frames, hits = np.maximum(reading.n_frames, 1), np.maximum(reading.n_hits, 1)
        clen = values[:, CLEN]
        columns = {
            "merit": np.sign(merits) * _arcsine(np.abs(merits)),
            "rate": _arcsine(reading.n_indexed / frames),
            "hits": _arcsine(reading.n_hits / frames),
            "indexed_hits": reading.n_indexed / hits,
            "peaks": np.log10(1 + np.nan_to_num(reading.median_peaks)) / 3.5,
            "explained": reading.explained,
            "residual": reading.residual / 8,
            "cell_scale": reading.scale_deviation / 0.04,
            "decoys": reading.n_decoys_indexed / np.maximum(reading.n_decoys, 1),
            "refined_clen": (reading.refined_clen / clen - 1) / 0.05,
            "clen_known": knows,
            "frames": np.log10(frames / 100),
            "measured": np.ones(len(self)),
        }
        return np.nan_to_num(np.stack([columns[name] for name in FEATURES], axis=1).astype(float))

    def observe(self) -> NDArray[np.float32]:
        """Return what is seen of every task, (B, `OBSERVATION_SIZE`), within [-1, 1]."""
        left = self.budgets - self.spent
        general = np.stack(
            [
                left / np.maximum(self.budgets, 1),
                left / 20,
                ~np.isnan(self.fixed_clen),
                self.penalties / 0.4,
            ],
            axis=1,
        )
        parts = [
            general,
            self.boxes.tuned,
            self._top,
            self._recent.reshape(len(self), -1),
            self.facts,
        ]
        return np.clip(np.concatenate(parts, axis=1), -1, 1).astype(np.float32)


def layout() -> dict[str, slice]:
    """Return where the parts of an observation are, by name, in order.

    ``"incumbent"`` and ``"evaluation 1"`` (the newest) to ``"evaluation 8"`` have the parameter set
    first, then `FEATURES`.
    """
    sizes = {"general": GENERAL, "tuned": D, "incumbent": EVALUATION_SIZE}
    sizes |= {f"evaluation {age}": EVALUATION_SIZE for age in range(1, MEMORY + 1)}
    sizes["facts"] = len(FACTS)
    ends = np.cumsum(list(sizes.values())).tolist()
    return {
        name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)
    }


def _arcsine(rate: Array) -> Array:
    """Return the rate on the scale where binomial noise is the same everywhere."""
    return 2 / np.pi * np.arcsin(np.sqrt(np.clip(rate, 0, 1)))


def _facts(known: Known | None) -> list[float]:
    assert known is not None  # `Boxes.of` refuses it
    median, bright = (max(level, 1e-3) for level in known.background)
    energy = 0.0 if np.isnan(known.photon_energy) else np.log10(known.photon_energy / 1e4)
    return [
        2 * float(energy),
        float(np.log10(median)) / 4,
        float(np.log10(bright / median)) / 3,
        float(np.log10(known.camera_length / 0.2)),
        float(np.log10(known.pixel_size / 1e-4)),
        float(np.log10(known.largest_radius / 1000)),
    ]
