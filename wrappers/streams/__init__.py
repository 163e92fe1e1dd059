"""Frames from a socket.

============ ================================================================================
`messages`   what a message says, whatever the protocol: a series begins, an image, it ends
`typed`      typed and compressed arrays in CBOR
`dectris`    DECTRIS SIMPLON stream V2, and Jungfraujoch, which speaks the same
`karabo`     the Karabo bridge of the European XFEL
`crystfel`   MessagePack as CrystFEL reads it and OM's responder sends it
`packed`     MessagePack, and arrays as bytes with type and shape
`protocols`  the protocols by the scheme of an address
`receiver`   the socket, and the ring of the last messages
`frames`     messages as frames of a geometry
`recording`  frames of a stream as a CXI file
`arriving`   frames as they arrive, whatever happens to the sender
`growing`    frames of files that are being written
`hdf5`       messages that are HDF5 files, read by `hdf5_child`, a process of its own
`opening`    a stream as a run: its next frames
`reducing`   frames searched as they arrive, hits to files
`serving`    hits out again, to a running indexamajig
`sources`    frames as they arrive, by their address
`player`     a run as messages
============ ================================================================================
"""
