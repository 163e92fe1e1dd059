"""Frames and where they come from: the contract of sources, the door to them, HDF5 and CXI files."""
