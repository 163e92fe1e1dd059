"""The protocols that frames come by, by the scheme of an address."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from wrappers.errors import InputError
from wrappers.extras import require
from wrappers.registry import Registry
from wrappers.streams.dectris import decode
from wrappers.streams.messages import Decoder

__all__ = ["PROTOCOLS", "Protocol", "StreamAddress", "is_stream", "parse_address"]

_ADDRESS = re.compile(
    r"([a-z0-9]+)\+tcp://(\[[0-9a-fA-F:.]+\]|[^/:?#\s]+):(\d{1,5})/?(?:\?frames=(\d{1,6}))?"
)


@dataclass(frozen=True)
class Protocol:
    """How messages come, and what they say.

    Attributes
    ----------
    socket : str
        Kind of the ZeroMQ socket that receives: PULL, or SUB, which may lose messages.
    decoder : callable
    modules : tuple of str
        That the extra ``live`` adds and this one needs.
    """

    socket: Literal["PULL", "SUB"]
    decoder: Decoder
    modules: tuple[str, ...]


_CBOR = ("cbor2", "zmq", "dectris")

PROTOCOLS: Registry[Protocol] = Registry("stream protocol")
"""Protocols by scheme, without the ``+tcp``."""

PROTOCOLS.register("dectris", Protocol("PULL", decode, _CBOR))
PROTOCOLS.register("jungfraujoch", Protocol("PULL", decode, _CBOR))


@dataclass(frozen=True)
class StreamAddress:
    """An address such as ``dectris+tcp://host:31001``, in its parts.

    Attributes
    ----------
    name : str
        As it was given.
    protocol : Protocol
    endpoint : str
        ``tcp://host:31001``, as ZeroMQ wants it.
    n_frames : int or None
        How many frames are wanted, where it says so: ``…:31001?frames=500``.
    """

    name: str
    protocol: Protocol
    endpoint: str
    n_frames: int | None = None


def is_stream(name: object) -> bool:
    """Whether a name is the address of a stream: its scheme ends with ``+tcp``."""
    return isinstance(name, str) and "+tcp://" in name


def parse_address(name: str) -> StreamAddress:
    """Return the parts of an address.

    Raises
    ------
    InputError
        If it is none, there is no such protocol, or what it needs is not installed.
    """
    match = _ADDRESS.fullmatch(name)
    if match is None or not 0 < int(match[3]) < 2**16:
        raise InputError(
            f"{name!r} is no address of a stream: write it such as dectris+tcp://HOST:31001"
        )
    protocol = PROTOCOLS.get(match[1])
    require("live", f"{match[1]}+tcp", *protocol.modules)
    n_frames = int(match[4]) if match[4] else None
    return StreamAddress(
        name.partition("?")[0], protocol, f"tcp://{match[2]}:{match[3]}", n_frames or None
    )
