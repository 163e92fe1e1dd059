"""Mutated messages of every protocol, and of whoever asks for hits: read, or refused in a sentence.

python -m tests.fuzz_streams [MESSAGES [SEED]]
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import zmq

from tests.array_source import ArraySource
from tests.geometries import geometry_text, panel_text
from tests.ports import free_port
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frames.frame import Frame
from wrappers.indexing import Pattern
from wrappers.peaks import PeakList
from wrappers.reduction.placed import Placed
from wrappers.streams.messages import Shot
from wrappers.streams.player import messages_of
from wrappers.streams.protocols import PROTOCOLS
from wrappers.streams.receiver import Counts
from wrappers.streams.serving import HitServer

SLOW = 15.0
"""Seconds that no message may take."""


def main(n: int = 10_000, seed: int = 1) -> None:
    """Print for each protocol how many messages were read and refused, and what it took."""
    before = _megabytes()
    with TemporaryDirectory() as folder:
        run = small_run(Path(folder))
        for scheme in PROTOCOLS.names():
            print(f"{scheme}: {try_messages(run, scheme, n, seed)}")
        print(f"asked for hits: {_asked(run, n, seed)} of {n} answered")
    print(f"memory: {before:.0f} MB before, {_megabytes():.0f} MB after")


def try_messages(run: ArraySource, scheme: str, n: int, seed: int) -> str:
    """Read mutated messages of a protocol; return how many were read and refused."""
    decode = PROTOCOLS.get(scheme).decoder({})
    read = refused = 0
    counts = Counts()
    slowest = 0.0
    for parts in mutated(list(messages_of(run, scheme)), n, seed):
        started = time.monotonic()
        try:
            for message in decode(parts):
                if isinstance(message, Shot):
                    message.unpack()
            read += 1
        except InputError as error:
            counts.damage(str(error))
            assert counts.reason.isprintable(), error
            refused += 1
        slowest = max(slowest, time.monotonic() - started)
    assert slowest < SLOW, f"{scheme}: {slowest} s"
    assert n < 1000 or min(read, refused) > n / 100, f"{scheme}: {read} read, {refused} refused"
    return f"{read} read, {refused} refused, slowest {1e3 * slowest:.0f} ms"


def mutated(messages: list[list[bytes]], n: int, seed: int) -> Iterator[list[bytes]]:
    """Yield messages with some bytes changed, left out or put in."""
    rng = random.Random(seed)
    for _ in range(n):
        parts = [bytearray(part) for part in rng.choice(messages)]
        for _ in range(rng.randint(1, 3)):
            part = rng.choice(parts)
            # Structure is where the beginning is, and for HDF5 nearly everywhere.
            place = rng.randrange(len(part) + 1) if rng.random() < 0.5 else rng.randrange(60)
            match rng.randrange(3):
                case 0:
                    part[place : place + 1] = rng.randbytes(1)
                case 1:
                    del part[place : place + rng.randint(1, 30)]
                case _:
                    part[place:place] = rng.randbytes(rng.randint(1, 9))
        yield [bytes(part) for part in parts]


def small_run(folder: Path) -> ArraySource:
    """Return three small frames."""
    (folder / "small.geom").write_text(geometry_text(panel_text("a", 60, 40, (-30, -20))))
    rng = np.random.default_rng(1)
    frames = [
        Frame(rng.poisson(20, (40, 60)).astype("u2"), np.ones((40, 60), bool), 9300.0, 0.1, "x", "")
        for _ in range(3)
    ]
    return ArraySource(Geometry.read(folder / "small.geom"), frames)


def _asked(run: ArraySource, n: int, seed: int) -> int:
    """Ask for hits with damaged requests, and then with a sound one for each."""
    port = free_port()
    hit = Placed(run[0], Pattern(PeakList.empty(), 9300.0, 0.1), True)
    answered = 0
    with (
        HitServer(f"tcp://127.0.0.1:{port}") as server,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as damaged,
    ):
        damaged.setsockopt(zmq.LINGER, 0)
        damaged.connect(f"tcp://127.0.0.1:{port}")
        with context.socket(zmq.REQ) as sound:
            sound.setsockopt(zmq.LINGER, 0)
            sound.setsockopt(zmq.RCVTIMEO, 5000)
            sound.connect(f"tcp://127.0.0.1:{port}")
            for parts in mutated([[b"", b"next"], [b"next"], [b"", b"", b"next"]], n, seed):
                # A request that is still sound, or has only other parts before it, gets a hit.
                damaged.send_multipart(parts, zmq.NOBLOCK)
                server.offer(hit)
                server.offer(hit)
                sound.send(b"next")
                sound.recv()
                answered += 1
    return answered


def _megabytes() -> float:
    return psutil.Process().memory_info().rss / 1e6


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
