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
`opening`    a stream as a run: its next frames
`player`     a run as messages
============ ================================================================================
"""
