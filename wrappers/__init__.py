"""Everything that touches frames and outside programs.

================= ==========================================================================
`detector`        geometry files, panels, pixel positions, masks
`frames`          sources of frames: the contract, the door, HDF5 runs, events, CXI
`masks`           what geometry and settings mask, maps of bad pixels
`frame_kinds`     frames told by kind: blank, crystals, rings, streaks, faults
`workers`         processes and clusters that work on frames
`peakfinding`     peakfinder8, prepared frames, the robust variant
`lattices`        the embedded indexer, decoys, geometry from lattices
`crystfel`        CrystFEL's `indexamajig`
`reduction`       the reduction core
================= ==========================================================================

and what they share: `settings`, `peaks`, `indexing` (the indexers' protocol), `indexing_cache`,
`cell`, `errors`, `files`.
"""
