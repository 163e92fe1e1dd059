"""Small CrystFEL geometries for tests, made of panels."""

from __future__ import annotations

__all__ = ["ONE_PANEL", "geometry_text", "panel_text"]

TOP: dict[str, object] = {
    "photon_energy": "9300 eV",
    "adu_per_photon": 1,
    "clen": "0.1 m",
    "res": 10000,
    "data": "/data",
    "dim0": "%",
    "dim1": "ss",
    "dim2": "fs",
}


def panel_text(
    name: str,
    width: int,
    height: int,
    corner: tuple[float, float],
    *,
    fs: int = 0,
    ss: int = 0,
    **fields: object,
) -> str:
    """Return a panel whose axes are the laboratory's.

    Parameters
    ----------
    name : str
    width, height : int
        Pixels along fs and ss.
    corner : pair of float
        ``corner_x`` and ``corner_y``, in pixels.
    fs, ss : int
        Where it begins in the data.
    **fields
        Further fields of the panel.
    """
    lines: dict[str, object] = {
        "min_fs": fs,
        "max_fs": fs + width - 1,
        "min_ss": ss,
        "max_ss": ss + height - 1,
        "corner_x": corner[0],
        "corner_y": corner[1],
        "fs": "x",
        "ss": "y",
        **fields,
    }
    return "".join(f"{name}/{key} = {value}\n" for key, value in lines.items())


def geometry_text(*panels: str, **top: object) -> str:
    """Return a geometry of some panels; `top` replaces or adds fields, None leaves one out."""
    fields = {key: value for key, value in {**TOP, **top}.items() if value is not None}
    return "".join(f"{key} = {value}\n" for key, value in fields.items()) + "".join(panels)


ONE_PANEL = geometry_text(panel_text("p0", 100, 100, (-50, -50)))
"""A detector of 100 by 100 pixels, the beam in its middle."""
