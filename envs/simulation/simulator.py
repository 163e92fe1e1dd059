"""Whole simulated runs, written as a beamline would write them.

:func:`simulate_run` writes the frames with their geometry, cell and mask, and the truth beside
them; :func:`read_truth` reads the truth back. What a run consists of is described by
:class:`envs.simulation.experiment.Experiment`, how a frame comes about in
:mod:`envs.simulation.rendering`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from envs.simulation.experiment import Experiment, demo_experiment
from envs.simulation.rendering import FrameTruth, render_frame, static_mask
from wrappers.errors import InputError
from wrappers.files import cannot_write, unfinished_folder
from wrappers.frames.disk import Disk
from wrappers.frames.filters import COMPRESSION
from wrappers.schema_arrays import open_hdf5, stored_array, stored_text

__all__ = [
    "Experiment",
    "FrameTruth",
    "RunPaths",
    "demo_experiment",
    "geometry_text",
    "read_truth",
    "render_frame",
    "simulate_run",
]


@dataclass(frozen=True)
class RunPaths:
    """The files of a simulated run; in a CXI run the mask is part of the data file."""

    data: Path
    geometry: Path
    cell: Path
    mask: Path
    truth: Path


@dataclass(frozen=True)
class _Layout:
    """Where one kind of file keeps what."""

    data_file: str
    data: str
    mask_file: str
    mask: str
    photon_energy: str
    encoder: str | None


_LAYOUTS = {
    "hdf5": _Layout(
        "run.h5", "/entry/data/data", "mask.h5", "/mask", "/entry/photon_energy_eV", None
    ),
    "cxi": _Layout(
        "run.cxi",
        "/entry_1/data_1/data",
        "run.cxi",
        "/entry_1/data_1/mask",
        "/LCLS/photon_energy_eV",
        "/LCLS/detector_1/EncoderValue",
    ),
}

_COFFSET = 0.05  # metres from the zero of a CXI run's encoder to the sample


def simulate_run(
    experiment: Experiment,
    out_dir: str | os.PathLike[str],
    n_frames: int,
    format: str = "hdf5",
    progress: Callable[[int, int], None] | None = None,
) -> RunPaths:
    """Write a run of simulated frames into a new folder.

    The folder appears under its name only when it is complete. Frames are written one by one, so
    memory does not grow with their number.

    Parameters
    ----------
    experiment : Experiment
    out_dir : path
        Must not exist, or be an empty folder.
    n_frames : int
    format : {"hdf5", "cxi"}
        ``run.h5`` with ``mask.h5`` beside it and ``clen`` in the geometry; or ``run.cxi`` with
        its mask inside and the detector's encoder (mm) as a header value for each frame. Both
        hold frames as (N, ss, fs), a chunk each, compressed with bitshuffle and LZ4, and the
        photon energy of each.
    progress : callable, optional
        Called with the number of frames written and ``n_frames``, after each frame.

    Returns
    -------
    RunPaths
        Of ``run.h5`` or ``run.cxi``, ``run.geom``, ``run.cell``, the mask and ``truth.h5``.

    Raises
    ------
    InputError
        If the folder is in use or cannot be written, if there are to be no frames, or if the
        format is unknown.
    """
    if format not in _LAYOUTS:
        raise InputError(f"format is {format!r}, but must be one of {', '.join(_LAYOUTS)}")
    if n_frames < 1:
        raise InputError(f"n_frames is {n_frames}, but a run needs at least one frame")
    final = Path(out_dir).absolute()
    if final.exists() and not (final.is_dir() and not any(final.iterdir())):
        raise InputError(f"{final} exists already and is not an empty folder: name another one")
    layout = _LAYOUTS[format]
    partial = None
    try:
        partial = unfinished_folder(final)
        _write_frames(experiment, partial, layout, n_frames, progress)
        _write_mask(experiment, partial, layout)
        (partial / "run.geom").write_text(geometry_text(experiment, format), encoding="utf-8")
        experiment.crystals.cell.write(partial / "run.cell")
        partial.replace(final)
    except OSError as error:
        raise cannot_write(final, error) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return RunPaths(
        data=final / layout.data_file,
        geometry=final / "run.geom",
        cell=final / "run.cell",
        mask=final / layout.mask_file,
        truth=final / "truth.h5",
    )


def _write_frames(
    experiment: Experiment,
    folder: Path,
    layout: _Layout,
    n_frames: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write the data file and the truth side by side."""
    detector = experiment.detector
    with (
        Disk(folder / layout.data_file, "w+") as run_disk,
        Disk(folder / "truth.h5", "w+") as truth_disk,
        h5py.File(run_disk, "w") as run,
        h5py.File(truth_disk, "w") as truth,
    ):
        frames = run.create_dataset(
            layout.data,
            (n_frames, *detector.shape),
            detector.dtype,
            chunks=(1, *detector.shape),
            **COMPRESSION,
        )
        energies = run.create_dataset(layout.photon_energy, (n_frames,), "f8")
        if layout.encoder:
            encoder = (experiment.written_clen - _COFFSET) * 1e3
            run[layout.encoder] = np.full(n_frames, encoder)
        writer = _TruthWriter(truth, experiment, n_frames)
        for index in range(n_frames):
            frames[index], frame_truth = render_frame(experiment, index)
            energies[index] = frame_truth.photon_energy
            writer.add(index, frame_truth)
            run_disk.check()
            truth_disk.check()
            if progress is not None:
                progress(index + 1, n_frames)
    run_disk.check()
    truth_disk.check()


def _write_mask(experiment: Experiment, folder: Path, layout: _Layout) -> None:
    """Write the mask, 0 for usable and 1 for bad, into a file of its own or the data file."""
    bad = (~static_mask(experiment)).astype(np.uint8)
    path = folder / layout.mask_file
    with Disk(path, "r+" if path.exists() else "w+") as disk:
        with h5py.File(disk, "a") as file:
            file.create_dataset(layout.mask, data=bad, compression="gzip")
        disk.check()


class _TruthWriter:
    """Appends the truth of frame after frame.

    Lists of different lengths stand one behind the other: those of frame ``i`` are the rows
    ``start[i]`` to ``start[i + 1]``.
    """

    def __init__(self, file: h5py.File, experiment: Experiment, n_frames: int) -> None:
        self._file = file
        for name in ("clen", "written_clen", "shift_x", "shift_y", "seed"):
            file.attrs[name] = getattr(experiment, name)
        file.attrs["experiment"] = repr(experiment)
        file.create_dataset("class", (n_frames,), "S24")
        file.create_dataset("photon_energy", (n_frames,), "f8")
        file.create_dataset("background", (n_frames,), "f8")
        for name, shape, dtype in (
            ("reciprocal", (3, 3), "f8"),
            ("spots", (3,), "f4"),
            ("photons", (), "f8"),
        ):
            file.create_dataset(name, (0, *shape), dtype, maxshape=(None, *shape), chunks=True)
            file.create_dataset(f"{name}_start", data=np.zeros(n_frames + 1, np.int64))

    def add(self, index: int, truth: FrameTruth) -> None:
        self._file["class"][index] = truth.kind.encode()
        self._file["photon_energy"][index] = truth.photon_energy
        self._file["background"][index] = truth.background
        for name in ("reciprocal", "spots", "photons"):
            rows = getattr(truth, name)
            dataset, old = self._file[name], len(self._file[name])
            dataset.resize(old + len(rows), axis=0)
            dataset[old:] = rows
            self._file[f"{name}_start"][index + 1] = old + len(rows)


def read_truth(path: str | os.PathLike[str]) -> list[FrameTruth]:
    """Read the truth of every frame of a simulated run.

    Raises
    ------
    InputError
        If the file is no ``truth.h5`` of :func:`simulate_run`.
    """
    remedy = "give the truth.h5 that sfx-tuner simulate wrote"
    with open_hdf5(Path(path), "the truth", remedy) as file:
        kinds = stored_text(file, "class")
        shape = (len(kinds),)
        columns = [stored_array(file, name, "f", shape) for name in ("photon_energy", "background")]
        rows = {"reciprocal": (3, 3), "spots": (3,), "photons": ()}
        lists = [_ragged(file, name, row, len(kinds)) for name, row in rows.items()]
    return [
        FrameTruth(kind, float(energy), float(background), *rest)
        for kind, energy, background, *rest in zip(kinds, *columns, *lists, strict=True)
    ]


def _ragged(file: h5py.File, name: str, row: tuple[int, ...], n: int) -> list[NDArray[np.float64]]:
    values = stored_array(file, name, "f", (None, *row)).astype(np.float64)
    start = stored_array(file, f"{name}_start", "i", (n + 1,))
    if start[0] != 0 or start[-1] != len(values) or np.any(np.diff(start) < 0):
        raise ValueError(f"{name}_start does not divide {name}")
    return np.split(values, start[1:-1]) if n else []


def geometry_text(experiment: Experiment, format: str = "hdf5") -> str:
    """Return the geometry file: the detector without the shift, at the written distance."""
    layout = _LAYOUTS[format]
    detector = experiment.detector
    if layout.encoder:
        clen = f"clen = {layout.encoder} mm\ncoffset = {_COFFSET:g}"
    else:
        clen = f"clen = {experiment.written_clen:.6f} m"
    mask_file = "" if layout.mask_file == layout.data_file else f"mask0_file = {layout.mask_file}\n"
    header = f"""\
; Simulated by sfx-tuner
photon_energy = {layout.photon_energy} eV
adu_per_photon = {detector.gain:g}
max_adu = {detector.saturation - 1:.0f}
{clen}
res = {1 / detector.pixel_size:.6f}
bandwidth = {experiment.beam.bandwidth:g}

data = {layout.data}
dim0 = %
dim1 = ss
dim2 = fs
{mask_file}mask0_data = {layout.mask}
mask0_goodbits = 0x00
mask0_badbits = 0x01
"""
    height, width = detector.module_shape
    panels = []
    for i, module in enumerate(detector.modules):
        angle = np.radians(module.rotation)
        cos, sin = np.cos(angle), np.sin(angle)
        panels.append(f"""
m{i}/min_fs = 0
m{i}/max_fs = {width - 1}
m{i}/min_ss = {i * height}
m{i}/max_ss = {(i + 1) * height - 1}
m{i}/corner_x = {module.corner_x:.6f}
m{i}/corner_y = {module.corner_y:.6f}
m{i}/fs = {cos:+.9f}x {sin:+.9f}y
m{i}/ss = {-sin:+.9f}x {cos:+.9f}y
""")
    return header + "".join(panels)
