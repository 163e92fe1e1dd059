"""Peak finding: peakfinder8, frames prepared for many settings, and the robust variant.

`peakfinder8` and `robust_peaks` are the finders, `finders` takes the one that settings name, and
`peak_batch` runs one over many frames and settings. The kernels are in `peak_searches`,
`ring_order`, `ring_limits`, `kept_tails`, `ring_tails`, `peak_regions`, `peak_measurement` and
`robust_statistics`, all of them on top of `vectors`. `compiling` says how they are compiled, and
`kernel_types` what they take.
"""
