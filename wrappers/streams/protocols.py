"""The protocols that frames come by, by the scheme of an address."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

from wrappers.errors import InputError
from wrappers.extras import require
from wrappers.registry import Registry
from wrappers.streams import crystfel, dectris, karabo
from wrappers.streams.messages import Decoder

__all__ = [
    "GROWING",
    "PROTOCOLS",
    "GrowingAddress",
    "Protocol",
    "StreamAddress",
    "absolute",
    "asked_frames",
    "is_growing",
    "is_loopback",
    "is_stream",
    "parse_address",
    "parse_growing",
]

_ADDRESS = re.compile(r"([a-z0-9]+)\+tcp://(\[[0-9a-fA-F:.]+\]|[^/:?#\s]+):(\d{1,5})/?(?:\?(.*))?")
_LOOPBACK = re.compile(r"tcp://(127\.[\d.]+|localhost|\[::1\]):\d+")
MOST_ASKED = 1_000_000


@dataclass(frozen=True)
class Protocol:
    """How messages come, and what they say.

    Attributes
    ----------
    socket : str
        Kind of the ZeroMQ socket that receives: PULL; REQ, which asks for each message; or SUB,
        which may lose some.
    decoder : callable
        Makes the decoder by the options of the address.
    modules : tuple of str
        That the extra ``live`` adds and this one needs.
    options : tuple of str
        Of the address, beside ``frames``.
    listens : bool
        Whether the sender connects to us, unless the address says ``connect=``.
    image_option : str
        The option that names the images, where the geometry does if the address does not, or "".
    """

    socket: Literal["PULL", "SUB", "REQ"]
    decoder: Callable[[Mapping[str, str]], Decoder]
    modules: tuple[str, ...]
    options: tuple[str, ...] = ()
    listens: bool = False
    image_option: str = ""


PROTOCOLS: Registry[Protocol] = Registry("stream protocol")
"""Protocols by scheme, without the ``+tcp``."""

_CBOR = ("cbor2", "zmq", "dectris")
PROTOCOLS.register("dectris", Protocol("PULL", dectris.decoder, _CBOR))
PROTOCOLS.register("jungfraujoch", Protocol("PULL", dectris.decoder, _CBOR, ("subscribe",)))
PROTOCOLS.register("karabo", Protocol("REQ", karabo.decoder, ("msgpack", "zmq"), karabo.OPTIONS))
PROTOCOLS.register(
    "crystfel",
    Protocol("REQ", crystfel.decoder, ("msgpack", "zmq"), crystfel.OPTIONS, image_option="data"),
)


def _hdf5_decoder(options: Mapping[str, str]) -> Decoder:
    from wrappers.streams.hdf5 import decoder  # with HDF5, which --help should not wait for

    return decoder(options)


# Of the address: connect to the sender instead of being connected to, and the images' path.
_HDF5_OPTIONS = ("connect", "data")
PROTOCOLS.register("hdf5", Protocol("PULL", _hdf5_decoder, ("zmq",), _HDF5_OPTIONS, listens=True))


@dataclass(frozen=True)
class StreamAddress:
    """An address such as ``dectris+tcp://host:31001``, in its parts.

    Attributes
    ----------
    name : str
        As it was given, without options.
    protocol : Protocol
    endpoint : str
        ``tcp://host:31001``, as ZeroMQ wants it.
    options : mapping of str to str
        What stands behind the question mark, as in ``…:31001?frames=500``.
    """

    name: str
    protocol: Protocol
    endpoint: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def scheme(self) -> str:
        """The protocol's name."""
        return self.name.partition("+")[0]

    @property
    def n_frames(self) -> int | None:
        """How many frames are wanted, where the address says so."""
        return _n_frames(self.name, self.options)

    @property
    def listens(self) -> bool:
        """Whether it is we who listen there."""
        return self.protocol.listens and "connect" not in self.options

    @property
    def subscribed(self) -> bytes | None:
        """The tag that a SUB socket subscribes to; None where another kind receives."""
        if "subscribe" in self.options:
            return self.options["subscribe"].encode()
        return b"" if self.protocol.socket == "SUB" else None

    @property
    def request(self) -> bytes | None:
        """What a REQ socket asks with; None where another kind receives."""
        if self.protocol.socket != "REQ" or self.subscribed is not None:
            return None
        return self.options.get("request", "next").encode()

    def with_images(self, name: str) -> StreamAddress:
        """Return the address with the geometry's name of the images, where that says which."""
        option = self.protocol.image_option
        return replace(self, options={option: name, **self.options}) if option else self


GROWING = "growing+file"
"""Scheme of a file or a folder that is being written."""


@dataclass(frozen=True)
class GrowingAddress:
    """An address such as ``growing+file:///data/run.h5``, in its parts.

    Attributes
    ----------
    path : Path
        Of a file, or a folder of files.
    pattern : str
        Which files of a folder are meant; "" for all that look like frames.
    n_frames : int or None
        How many frames are wanted, where the address says so.
    """

    path: Path
    pattern: str = ""
    n_frames: int | None = None


def is_stream(name: object) -> bool:
    """Whether a name is the address of frames that arrive: a socket's, or of files that grow."""
    return isinstance(name, str) and ("+tcp://" in name or is_growing(name))


def is_loopback(endpoint: str) -> bool:
    """Whether an endpoint of ZeroMQ is of this machine alone."""
    return _LOOPBACK.fullmatch(endpoint) is not None


def is_growing(name: object) -> bool:
    """Whether a name is the address of a file or a folder that is being written."""
    return isinstance(name, str) and name.startswith(f"{GROWING}://")


def absolute(name: str) -> str:
    """Return an address that names the same from any folder."""
    if not is_growing(name):
        return name
    path, mark, query = name.removeprefix(f"{GROWING}://").partition("?")
    return f"{GROWING}://{Path(path).absolute() if path else ''}{mark}{query}"


def asked_frames(name: str) -> int | None:
    """Return how many frames an address asks for, or None.

    Raises
    ------
    InputError
        If it is none.
    """
    if is_growing(name):
        return parse_growing(name).n_frames
    return parse_address(name).n_frames


def parse_growing(name: str) -> GrowingAddress:
    """Return the parts of the address of a file or a folder that is being written.

    Raises
    ------
    InputError
        If it names none, has an option that there is not, or its pattern leaves the folder.
    """
    path, _, query = name.removeprefix(f"{GROWING}://").partition("?")
    if not path:
        raise InputError(f"{name!r} names no file: write it such as {GROWING}:///data/run.h5")
    options = _options(name, GROWING, query, ("pattern",))
    pattern = options.get("pattern", "")
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise InputError(
            f"pattern={pattern} of {name!r} leaves the folder: write it such as *_master.h5, and "
            "the folder before the question mark"
        )
    return GrowingAddress(Path(path), pattern, _n_frames(name, options))


def parse_address(name: str) -> StreamAddress:
    """Return the parts of an address.

    Raises
    ------
    InputError
        If it is none, there is no such protocol or option, or what it needs is not installed.
    """
    match = _ADDRESS.fullmatch(name)
    if match is None or not 0 < int(match[3]) < 2**16:
        raise InputError(
            f"{name!r} is no address of a stream: write it such as dectris+tcp://HOST:31001"
        )
    protocol = PROTOCOLS.get(match[1])
    options = _options(name, f"{match[1]}+tcp", match[4] or "", protocol.options)
    _n_frames(name, options)
    require("live", f"{match[1]}+tcp", *protocol.modules)
    address = StreamAddress(
        name.partition("?")[0], protocol, f"tcp://{match[2]}:{match[3]}", options
    )
    protocol.decoder(options)  # what is wrong with them is said before anything is waited for
    return address


def _options(name: str, scheme: str, query: str, known: Sequence[str]) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for key in options:
        if key not in ("frames", *known):
            there = ", ".join(("frames", *known))
            raise InputError(f"{name!r} has an option {key!r}; {scheme} has {there}")
    return options


def _n_frames(name: str, options: Mapping[str, str]) -> int | None:
    frames = options.get("frames")
    if frames is None:
        return None
    if not re.fullmatch(r"\d{1,7}", frames) or not 0 < int(frames) <= MOST_ASKED:
        raise InputError(f"frames={frames} of {name!r} is no number of frames from 1 on")
    return int(frames)
