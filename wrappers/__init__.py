"""Everything that touches frames and outside programs.

========================= ==================================================================
detector and crystal      `geometry`, `panels`, `geom_parser`, `geom_file`, `masks`, `cell`
frames                    `frames`, `events`, `hdf5`, `cxi`
peaks                     `settings`, `peaks`, `peakfinder8`, `prepared_frame`
                          (kernels: `radial_layout`, `ring_limits`, `peak_regions`)
indexing                  `indexing` (the protocol), `decoys`, `geometry_refinement`
embedded indexer          `fast_indexer` (kernels: `lattice_search`, `lattice_fit`,
                          `lattice_candidates`)
CrystFEL                  `crystfel`, `indexamajig`, `stream`
reduction core            `reduction`
========================= ==================================================================
"""
