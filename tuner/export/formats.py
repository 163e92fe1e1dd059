"""The recommended settings in the words of other programs, a function a program.

Names and meanings of the keys are from the programs themselves: CrystFEL 0.12 (``indexamajig``
and the reader of projects), EXtra-Xwiz of September 2023, OM 21.5, 23.8.3 and its development
version of October 2024, Cheetah of March 2017.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomlkit
import yaml

from tuner.export.job import (
    INSTEAD,
    Export,
    Job,
    comments,
    geometry_notes,
    indexing_arguments,
    limit_notes,
    mask_notes,
    translated,
    version,
)
from tuner.recommendation import clen_change
from wrappers.crystfel.options import search_arguments
from wrappers.detector.geometry import Geometry
from wrappers.peak_finders import PEAK_FINDERS
from wrappers.settings import ABOUT
from wrappers.text import one_line_value, to_json, utf8_value

__all__ = ["cheetah", "geom", "om", "plain_json", "project", "xwiz"]

NAMES = {
    "project": {
        "peak_finder": "peak_search_params.method",
        "threshold": "peak_search_params.threshold",
        "min_snr": "peak_search_params.min_snr",
        "min_pix_count": "peak_search_params.min_pix_count",
        "max_pix_count": "peak_search_params.max_pix_count",
        "local_bg_radius": "peak_search_params.local_bg_radius",
        "min_res": "peak_search_params.min_res",
        "max_res": "peak_search_params.max_res",
        "min_peaks": "indexing.min_peaks",
    },
    "xwiz": {
        "peak_finder": "peak_method",
        "threshold": "peak_threshold",
        "min_snr": "peak_snr",
        "min_pix_count": "peak_min_px",
        "max_pix_count": "peak_max_px",
        "local_bg_radius": "local_bg_radius",
        "min_res": "",  # among extra_options
        "max_res": "max_res",
        "min_peaks": "min_peaks",
    },
    "om": {
        "peak_finder": "",  # the name of the group of keys
        "threshold": "adc_threshold",
        "min_snr": "minimum_snr",
        "min_pix_count": "min_pixel_count",
        "max_pix_count": "max_pixel_count",
        "local_bg_radius": "local_bg_radius",
        "min_res": "min_res",
        "max_res": "max_res",
        "min_peaks": "",  # one less, in another group
    },
    "cheetah": {
        "peak_finder": "",  # hitfinderAlgorithm=8
        "threshold": "hitfinderADC",
        "min_snr": "hitfinderMinSNR",
        "min_peaks": "hitfinderNpeaks",
        "min_pix_count": "hitfinderMinPixCount",
        "max_pix_count": "hitfinderMaxPixCount",
        "local_bg_radius": "hitfinderLocalBGRadius",
        "min_res": "hitfinderMinRes",
        "max_res": "hitfinderMaxRes",
    },
}
"""What other programs call the settings of a peak search; "" where they have no key of that meaning
and it is written in another way."""

OM_DETECTORS = {
    (1480, 1552): "cspad",
    (2527, 2463): "pilatus",
    (1024, 1024): "jungfrau1M",
    (4096, 1024): "jungfrau4M",
    (5632, 384): "epix10k2M",
    (1920, 1920): "rayonix",
}
"""OM's names of detectors by the shape (ss, fs) of their frames, as OM 21.5 has them."""


def project(job: Job) -> Export:
    """Return a project of CrystFEL's graphical program.

    There is no empty line in it, because EXtra-Xwiz's importer of projects stops at one.
    """
    settings = job.settings
    (method, *options), indexing_notes = indexing_arguments(job)
    lost = [o for o in options if not o.startswith("--tolerance")]
    notes = (
        *geometry_notes(job),
        *mask_notes(job),
        *limit_notes(settings, "CrystFEL before 0.12"),
        *indexing_notes,
        *([f"a project has no place for {' '.join(lost)}"] if lost else []),
        "the frames are not listed: add them in the program (Load data)",
        "the program reads crystfel.project of its working directory only, so rename this file",
    )
    values = {
        "geom": job.geometry,
        "data_folder": Path(str(job.recommendation.provenance.get("data", "run.h5"))).parent,
        "search_pattern": "everything",
        **translated(settings, NAMES["project"]),
        "peak_search_params.half_pixel_shift": 1,
        "peak_search_params.peakfinder8_fast": 0,
        "indexing.cell_file": job.cell,
        "indexing.methods": method.partition("=")[2],
        # The graphical program looks for several lattices unless told not to.
        "indexing.multi_lattice": 0,
        "indexing.no_refine": 0,
        "indexing.no_retry": 0,
        "indexing.no_peak_check": 0,
        "indexing.no_cell_check": 0,
        "indexing.cell_tolerance": "5,5,5,1.5,1.5,1.5",
    }
    lines = [*comments(job, "CrystFEL project", notes, "# ")]
    lines += [f"{key} {one_line_value(str(value), key)}" for key, value in values.items()]
    return Export("\n".join(lines) + "\n", notes)


def geom(job: Job) -> Export:
    """Return the tuned geometry file again, with a comment on top."""
    settings = job.settings
    if PEAK_FINDERS.get(settings.peak_finder).in_crystfel:
        rest = f"({' '.join(search_arguments(settings))}) are options of indexamajig"
    else:
        finder = settings.peak_finder
        rest = f"are of the {finder} peak finder, which CrystFEL does not have: {INSTEAD}"
    notes = (
        "a geometry file holds the camera length and the detector shift only; the peak settings "
        f"{rest}",
        *job.mended,
        *mask_notes(job),
    )
    text = job.geometry.read_bytes().decode("utf-8", "surrogateescape")
    newline = "\r\n" if "\r\n" in text else "\n"
    head = comments(job, "CrystFEL geometry", notes, "; ")
    return Export("".join(line + newline for line in head) + text, notes)


def xwiz(job: Job) -> Export:
    """Return the blocks of an EXtra-Xwiz configuration that a session can fill.

    The block of peak and indexing settings was called ``proc_coarse`` before September 2023.
    """
    settings = job.settings
    (method, *options), indexing_notes = indexing_arguments(job)
    notes = (
        *geometry_notes(job),
        *mask_notes(job),
        f"min_res: EXtra-Xwiz has no such key, so {settings.min_res} px stands in extra_options",
        *limit_notes(settings, "CrystFEL before 0.12"),
        "resolution, integration_radii, n_cores and peaks_hdf5_path were not tuned: they are those "
        "of EXtra-Xwiz's own template",
        *indexing_notes,
        "[data], [crystfel], [slurm] and [merging] are your experiment's: put these three blocks "
        "in place of those of your xwiz_conf.toml",
    )
    block = "proc_coarse" if job.old else "indexamajig_run"
    extra = ["--no-non-hits-in-stream", f"--min-res={settings.min_res}", *options]
    document = tomlkit.document()
    for line in comments(job, f"EXtra-Xwiz configuration, block {block}", notes, ""):
        document.add(tomlkit.comment(line))
    tables: dict[str, dict[str, Any]] = {
        "geom": {"file_path": utf8_value(str(job.geometry), "the geometry file")},
        block: {
            "resolution": 4.0,
            **translated(settings, NAMES["xwiz"]),
            "peaks_hdf5_path": "entry_1/result_1",
            "index_method": method.partition("=")[2],
            "n_cores": -1,
            "integration_radii": "2,3,5",
            "extra_options": " ".join(extra),
        },
        # "file" until August 2023; releases since read both.
        "unit_cell": {
            "file" if job.old else "file_path": utf8_value(str(job.cell), "the cell file"),
            "run_refine": False,
        },
    }
    for name, values in tables.items():
        table = tomlkit.table()
        for key, value in values.items():
            item = tomlkit.item(value)
            if key == NAMES["xwiz"]["threshold"]:
                item.comment(ABOUT["threshold"].unit)
            table.add(key, item)
        document.add(name, table)
    return Export(tomlkit.dumps(document), notes)


def om(job: Job) -> Export:
    """Return the keys of an OM (OnDA) configuration that a session can fill.

    OM takes a frame for a hit if it has *more* than ``min_num_peaks_for_hit`` peaks.
    """
    settings = job.settings
    notes = [
        *geometry_notes(job),
        *mask_notes(job, "turn it into OM's map, which has 1 for good pixels"),
        "camera length: OM takes it from its data source and adds the geometry's coffset; it "
        "finds peaks by pixel radius, so a wrong one only shows in its resolutions",
        f"min_peaks: OM wants more peaks than min_num_peaks_for_hit, so {settings.min_peaks} is "
        f"written as {settings.min_peaks - 1}",
        "shift_x, shift_y: OM does not heed detector_shift_x and detector_shift_y of a geometry",
        "photon_energy: OM's reader of geometries takes no unit, so the copy has plain eV",
        "OM stops at max_num_peaks a frame, CrystFEL at 2048 a panel",
        *limit_notes(settings, "OM"),
        "bad pixels: OM reads none from the geometry file; keep your bad_pixel_map_filename "
        "(1 good, 0 bad)",
        "every other key (om, data_retrieval_layer, ...) is your beamline's: copy these into your "
        "monitor.yaml",
    ]
    peaks: dict[str, Any] = {
        "max_num_peaks": 2048,
        **translated(settings, NAMES["om"]),
        "fast_mode": False,
    }
    if job.old:
        shape = Geometry.read(job.geometry).slab_shape
        detector = OM_DETECTORS.get(shape)
        if detector:
            peaks = {"detector_type": detector, **peaks}
        else:
            notes.append(
                f"detector_type: OM names no detector of {shape[0]} × {shape[1]} pixels; 23.x does "
                "without, earlier releases do not"
            )
    groups = {
        "om": {"processing_layer": "CrystallographyProcessing"},
        "crystallography": {
            "geometry_file": utf8_value(str(job.geometry), "the geometry file"),
            "min_num_peaks_for_hit": settings.min_peaks - 1,
            "max_num_peaks_for_hit": 5000,
        },
        "peakfinder8_peak_detection": peaks,
    }
    release = "23.x and earlier" if job.old else "after 23.x"
    head = comments(job, f"OM configuration, {release}; adc_threshold in ADU", notes, "# ")
    text = yaml.safe_dump(groups, sort_keys=False, default_flow_style=False)
    return Export("\n".join(head) + "\n" + text, tuple(notes))


def cheetah(job: Job) -> Export:
    """Return the global keys of a Cheetah configuration that a session can fill."""
    settings = job.settings
    change = 1e3 * clen_change(job.recommendation)
    notes = (
        f"clen: add {change:+.3f} mm to cameraLengthOffset in your detector's section; Cheetah "
        "rounds the sum with the encoder to 0.01 mm and needs it for resolutions in Å only",
        f"shift_x = {settings.shift_x!r} m, shift_y = {settings.shift_y!r} m: Cheetah's own "
        "geometry file (HDF5) would have to be moved",
        *mask_notes(job, "turn it into Cheetah's own map"),
        *limit_notes(settings, "Cheetah"),
        "bad pixels: Cheetah reads none from a CrystFEL geometry; keep your badpixelmap and "
        "peakmask",
        "hitfinderMaxPixCount must not be 0, which rejects every peak with hitfinderAlgorithm=8",
        "every other key is your beamline's: copy these into your cheetah.ini",
    )
    values = {
        "hitfinder": 1,
        "hitfinderAlgorithm": 8,
        **translated(settings, NAMES["cheetah"]),
        "hitfinderNpeaksMax": 100_000,
        "hitfinderResolutionUnitPixel": 1,
    }
    lines = comments(job, "Cheetah configuration; hitfinderADC in ADU", notes, "# ")
    lines += [f"{key}={value}" for key, value in values.items()]
    return Export("\n".join(lines) + "\n", notes)


def plain_json(job: Job) -> Export:
    """Return the whole recommendation as JSON, with units."""
    document = {
        "written_by": version(),
        **({"note": job.recommendation.caution} if job.recommendation.caution else {}),
        **job.recommendation.as_dict(),
        "units": {name: about.note for name, about in ABOUT.items() if about.note},
    }
    return Export(to_json(document) + "\n", ())
