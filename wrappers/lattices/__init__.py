"""Lattices: the embedded indexer, the decoys that keep any indexer honest, and the geometry.

`fast_indexer` searches (`lattice_search`), refines (`lattice_fit`) and accepts
(`lattice_candidates`, `lattice_chance`); `geometry_refinement` reads the camera length and the
centre off indexed frames.
"""
