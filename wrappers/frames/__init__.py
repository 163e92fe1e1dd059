"""Frames and the files they come in: runs, events, HDF5 and CXI."""
