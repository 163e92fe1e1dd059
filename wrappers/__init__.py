"""Everything that touches frames and outside programs.

========================= ==================================================================
detector and crystal      `geometry`, `panels`, `geom_parser`, `geom_file`, `masks`, `cell`
frames                    `frames`, `events`, `hdf5`, `cxi`
peaks                     `settings`, `peaks`, `peakfinder8`, `prepared_frame`, `peak_batch`,
                          `robust_peaks` (kernels: `radial_layout`, `ring_order`,
                          `ring_limits`, `peak_regions`, `robust_statistics`)
indexing                  `indexing` (the protocol), `indexing_cache`, `decoys`,
                          `geometry_refinement`
embedded indexer          `fast_indexer` (kernels: `lattice_search`, `lattice_fit`,
                          `lattice_candidates`, `lattice_chance`)
CrystFEL                  `crystfel`, `persistent_crystfel`, `crystfel_server`,
                          `crystfel_options`, `indexamajig`, `supervision`, `stream`
reduction core            `reduction`
========================= ==================================================================
"""
