"""What a searcher is shown: one encoder for a single task and for thousands at once.

A `TaskBatch` follows B tuning tasks side by side. It turns actions into the settings that are
executed, takes in what was measured, and tells what is seen. The single environment and the
agent in a session are batches of one. Nothing in it comes from a simulator's hidden state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from envs.evaluation import Evaluation
from envs.geometry_rule import knows_geometry, updated_lock
from envs.objective import UNINDEXED_HIT_PENALTY
from envs.parameter_space import Known, Parameter, ParameterSpace, make_space
from envs.reading import Reading
from wrappers.settings import Settings

__all__ = [
    "EVALUATION_SIZE",
    "FACTS",
    "FEATURES",
    "MEMORY",
    "OBSERVATION_SIZE",
    "POLICY_PARAMETERS",
    "TaskBatch",
    "layout",
    "settings_of",
]

POLICY_PARAMETERS = ("min_snr", "threshold", "min_pix_count", "clen", "mask_hot_sigma")
"""What the agent can tune, in the order of its actions; a task tunes any of them."""

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
"""What is seen of one evaluation beside its settings."""

FACTS = ("photon_energy", "background", "contrast", "camera_length", "pixel_size", "radius")
"""What is known before the first evaluation."""

MEMORY = 8
"""Evaluations that are seen in full, newest first; of older ones only the incumbent."""

D = len(POLICY_PARAMETERS)
EVALUATION_SIZE = D + len(FEATURES)
"""Numbers that tell of one evaluation: the places of its settings, then `FEATURES`."""

GENERAL = 4
OBSERVATION_SIZE = GENERAL + D + (1 + MEMORY) * EVALUATION_SIZE + len(FACTS)
CLEN = POLICY_PARAMETERS.index("clen")
MASK = POLICY_PARAMETERS.index("mask_hot_sigma")

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


class TaskBatch:
    """B tuning tasks under way.

    Once the lattices of an evaluation know the camera length (`envs.geometry_rule`),
    the executed ``clen`` of further ones is what the best such evaluation asks for, in every
    task that tunes it: part of the task's dynamics, as it is of a session's.

    Parameters
    ----------
    spaces : sequence of ParameterSpace
        One a task, made by `make_space`. Of their parameters those in `POLICY_PARAMETERS` are
        tuned here; everything else keeps the base's value.
    budgets : int array (B,)
        Evaluations that each task may spend.
    prices : float array (B,)
        Of a vain hit, in indexed frames; what is recorded as an evaluation's merit should follow
        it.

    Attributes
    ----------
    spent : int array (B,)
        Evaluations recorded.
    best : float array (B,)
        Merit of the incumbent; -inf where nothing was recorded.
    incumbent : float array (B, d)
        Its settings; NaN where nothing was recorded.
    pinned : float array (B,)
        The camera length that the lattices ask for, in metres; NaN while they do not know it.
    """

    def __init__(self, spaces: Sequence[ParameterSpace], budgets: Rows, prices: Array) -> None:
        self._columns = _columns(spaces)
        self._start(len(spaces), budgets, prices)

    @classmethod
    def single(
        cls, space: ParameterSpace, budget: int, price: float = UNINDEXED_HIT_PENALTY
    ) -> TaskBatch:
        """Return a batch of one."""
        return cls([space], np.array([budget]), np.array([price]))

    def _start(self, n: int, budgets: Rows, prices: Array) -> None:
        self.budgets = np.array(budgets, np.int64).reshape(n)
        self.prices = np.array(prices, float).reshape(n)
        self.spent = np.zeros(n, np.int64)
        self.best = np.full(n, -np.inf)
        self.incumbent = np.full((n, D), np.nan)
        self.pinned = np.full(n, np.nan)
        self._pinned_by = np.full(n, -np.inf)
        self._recent = np.zeros((n, MEMORY, EVALUATION_SIZE))
        self._top = np.zeros((n, EVALUATION_SIZE))

    def __len__(self) -> int:
        return len(self.spent)

    def take(self, rows: Rows, budgets: Rows, prices: Array, tuned: NDArray[np.bool_]) -> TaskBatch:
        """Return fresh tasks in the spaces of some rows, of which only `tuned` (n, d) is tuned."""
        batch = object.__new__(TaskBatch)
        batch._columns = {name: column[rows] for name, column in self._columns.items()}
        batch._columns["tuned"] = batch._columns["tuned"] * tuned
        batch._start(len(rows), budgets, prices)
        return batch

    def put(self, rows: Rows, others: TaskBatch) -> None:
        """Replace the tasks of some rows by others."""
        for name, column in others._columns.items():
            self._columns[name][rows] = column
        for name, values in vars(others).items():
            if name != "_columns":
                getattr(self, name)[rows] = values

    @property
    def tuned(self) -> NDArray[np.bool_]:
        """Which of `POLICY_PARAMETERS` each task tunes, (B, d)."""
        return self._columns["tuned"].astype(bool)

    @property
    def base(self) -> Array:
        """The settings that each task starts from, (B, d)."""
        return self._columns["base"]

    @property
    def facts(self) -> Array:
        """What is known of each task beforehand, `FACTS` (B, n), scaled as in an observation."""
        return self._columns["facts"]

    @property
    def newest(self) -> Array:
        """The last evaluation of each task as it is observed, unclipped: (B, `EVALUATION_SIZE`)."""
        return self._recent[:, 0]

    def execute(self, actions: NDArray[np.floating]) -> Array:
        """Return the settings (B, d) that actions (B, d) in [-1, 1] stand for.

        They are clipped and rounded as `Parameter.clip` does; what a task does not tune keeps
        the base's value, and the camera length the lattices' once those know it.
        """
        c = self._columns
        unit = (np.clip(np.asarray(actions, float), -1, 1) + 1) / 2
        log = c["log"] > 0
        low, high = (
            np.where(log, np.log(c["low"]), c["low"]),
            np.where(log, np.log(c["high"]), c["high"]),
        )
        values = low + unit * (high - low)
        values = np.where(log, np.exp(np.where(log, values, 0)), values)
        values = np.where(c["tuned"] > 0, self._round(values), c["base"])
        pinned = ~np.isnan(self.pinned) & (c["tuned"][:, CLEN] > 0)
        values[pinned, CLEN] = self.pinned[pinned]
        return values

    def _round(self, values: Array) -> Array:
        c = self._columns
        values = np.clip(values, c["low"], c["high"])
        scale = 10.0 ** (c["digits"] - 1 - np.floor(np.log10(np.maximum(np.abs(values), 1e-300))))
        # Dividing by a power of ten rather than multiplying by its inverse gives the same number
        # as reading the decimal does.
        short = np.where(scale >= 1, np.rint(values * scale) / np.maximum(scale, 1), 0.0)
        coarse = np.where(scale < 1, np.rint(values * scale) * np.rint(1 / np.minimum(scale, 1)), 0)
        rounded = np.where(c["integer"] > 0, np.rint(values), short + coarse)
        return np.clip(rounded, c["low"], c["high"])

    def units(self, values: Array) -> Array:
        """Return the places of settings (B, d) in [-1, 1], clipped.

        No mask (``mask_hot_sigma`` 0) counts as the weakest one.
        """
        c = self._columns
        values = values.copy()
        values[values[:, MASK] == 0, MASK] = np.inf
        values = np.clip(values, c["low"], c["high"])
        log = c["log"] > 0
        linear = (values - c["low"]) / (c["high"] - c["low"])
        with np.errstate(invalid="ignore", divide="ignore"):
            logarithmic = np.log(values / c["low"]) / np.log(c["high"] / c["low"])
        return 2 * np.where(log, logarithmic, linear) - 1

    def record(self, values: Array, reading: Reading, merits: Array) -> None:
        """Take in what the settings `values` (B, d) gave in every task."""
        self.spent += 1
        units = self.units(values)
        asked = self._ask(reading, merits)
        features = np.concatenate([units, self._features(values, reading, merits, asked)], axis=1)
        self._recent = np.concatenate([features[:, None], self._recent[:, :-1]], axis=1)
        better = merits > self.best
        self.best = np.where(better, merits, self.best)
        self.incumbent = np.where(better[:, None], values, self.incumbent)
        self._top = np.where(better[:, None], features, self._top)

    def record_one(
        self, values: Mapping[str, float], merit: float, evaluation: Evaluation | None
    ) -> Reading:
        """Take in one evaluation, in a batch of one, and return what it told.

        What `values` do not name has the base's value; without the evaluation only its merit is
        known.
        """
        reading = (
            Reading.of_rate(merit) if evaluation is None else Reading.of_evaluation(evaluation)
        )
        known = dict(zip(POLICY_PARAMETERS, self.base[0], strict=True)) | dict(values)
        row = np.array([[known[name] for name in POLICY_PARAMETERS]])
        self.record(row, reading, np.array([merit]))
        return reading

    def _ask(self, reading: Reading, merits: Array) -> NDArray[np.bool_]:
        """Return which readings know the camera length; keep what the best of them asks for."""
        c = self._columns
        resolution = c["resolution"][:, CLEN]
        knows = knows_geometry(reading.n_indexed, reading.refined_clen_se, resolution)
        refined = np.nan_to_num(reading.refined_clen)[:, None] + np.zeros((1, D))
        self.pinned, self._pinned_by = updated_lock(
            self.pinned, self._pinned_by, self._round(refined)[:, CLEN], knows, merits
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
                ~np.isnan(self.pinned),
                self.prices / 0.4,
            ],
            axis=1,
        )
        parts = [
            general,
            self._columns["tuned"],
            self._top,
            self._recent.reshape(len(self), -1),
            self._columns["facts"],
        ]
        return np.clip(np.concatenate(parts, axis=1), -1, 1).astype(np.float32)


def layout() -> dict[str, slice]:
    """Return where the parts of an observation are, by name, in order.

    ``"incumbent"`` and ``"evaluation 1"`` (the newest) to ``"evaluation 8"`` have the settings
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


def _columns(spaces: Sequence[ParameterSpace]) -> dict[str, Array]:
    """Return the ranges (n, d), whether tuned (n, d), base values (n, d), facts (n, m)."""
    rows = [_row(space) for space in spaces]
    return {name: np.array([row[name] for row in rows], float) for name in rows[0]}


def _row(space: ParameterSpace) -> dict[str, list[float]]:
    known = space.known
    if known is None:
        raise ValueError("the agent needs a space made by make_space: it looks at what is known")
    parameters = [
        space[name] if name in space.names else _usual(known)[name] for name in POLICY_PARAMETERS
    ]
    return {
        "low": [p.low for p in parameters],
        "high": [p.high for p in parameters],
        "log": [p.scale == "log" for p in parameters],
        "integer": [p.integer for p in parameters],
        "digits": [p.digits for p in parameters],
        "resolution": [p.resolution for p in parameters],
        "tuned": [name in space.names for name in POLICY_PARAMETERS],
        "base": [float(getattr(space.base, name)) for name in POLICY_PARAMETERS],
        "facts": _facts(known),
    }


def _usual(known: Known) -> dict[str, Parameter]:
    space = make_space(
        POLICY_PARAMETERS,
        background=known.background,
        camera_length=known.camera_length,
        pixel_size=known.pixel_size,
        largest_radius=known.largest_radius,
    )
    return {p.name: p for p in space.parameters}


def _facts(known: Known) -> list[float]:
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


def settings_of(base: Settings, values: Array) -> Settings:
    """Return the base with the policy's parameters replaced by one row (d,) of `execute`."""
    return base.replace(
        **dict(zip(POLICY_PARAMETERS, (float(value) for value in values), strict=True))
    )
