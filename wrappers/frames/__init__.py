"""Frames and where they come from: the contract of sources, the door, HDF5 and CXI files."""
