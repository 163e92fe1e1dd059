"""Everything that touches frames and outside programs.

================= ==========================================================================
`detector`        geometry files, panels, pixel positions, masks
`frames`          runs, events, HDF5 and CXI
`peakfinding`     peakfinder8, prepared frames, the robust variant
`lattices`        the embedded indexer, decoys, geometry from lattices
`crystfel`        CrystFEL's `indexamajig`
`reduction`       the reduction core
================= ==========================================================================

and what they share: `settings`, `peaks`, `indexing` (the indexers' protocol), `indexing_cache`,
`cell`, `errors`, `files`.
"""
