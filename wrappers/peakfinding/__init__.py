"""Peak finding: peakfinder8, frames prepared for many settings, and the robust variant.

`peakfinder8` and `robust_peaks` are the finders, `peak_batch` runs one over many frames and
settings; the kernels are in `radial_layout`, `ring_order`, `ring_limits`, `peak_regions` and
`robust_statistics`.
"""
