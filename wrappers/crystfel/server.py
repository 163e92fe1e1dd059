"""One ``indexamajig`` that stays, and is handed peak lists over ZMQ.

Starting the program for every batch costs about a second, more than the indexing of a small
batch. Here it asks for frames (``--zmq-request``) and gets MessagePack maps with the peaks,
the camera length, the photon energy and the detector shift of each frame; its stream is read
from a FIFO. It needs CrystFEL 0.12 (before that, chunks of a running program may stay in its
buffers), compiled with ZMQ and MessagePack, and the packages pyzmq and msgpack.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wrappers.cell import Cell
from wrappers.crystfel.indexamajig import CrystfelProgram, ProgramRun, count_deaths, deaths_allowed
from wrappers.crystfel.messages import message_geometry_text, pattern_entries
from wrappers.crystfel.options import Method, frugal_options
from wrappers.crystfel.stream import CHUNK_END, CHUNK_START, Chunk, parse_chunk
from wrappers.crystfel.supervision import Supervised
from wrappers.crystfel.time_limit import TimeLimit
from wrappers.detector.geometry import Geometry
from wrappers.extras import missing
from wrappers.files import temporary_folder
from wrappers.indexing import Done, Pattern, unheard

__all__ = ["CrystfelServer", "Served", "can_serve"]

ADDRESS = "--zmq-input"
NEEDED = (
    "--zmq-request=next",
    "--data-format=msgpack",
    "--peaks=msgpack",
    "--copy-header=job",
    "--no-revalidate",
    "--no-image-data",
    "--no-mask-data",
)
FIRST_RELEASE = (0, 12)
POLL_MILLISECONDS = 10
"""Between two nudges of the program, so the longest that a finished frame waits."""

GRACE_SECONDS = 2.0
"""A frame that a worker was done with this long ago, and still is not in the stream, is lost."""

LONGEST_ADDRESS = 100
"""Of a socket's path; the system takes 107 characters."""

LENGTH_OF_THE_REST = 70
"""Of that path behind the folder of temporary files."""


def can_serve(program: CrystfelProgram) -> bool:
    """Whether the program, and what is installed here, can do this."""
    return (
        program.release >= FIRST_RELEASE
        and all(program.supported([option]) for option in (ADDRESS, *NEEDED))
        and not missing("crystfel")
    )


@dataclass
class Served:
    """What became of a batch.

    Attributes
    ----------
    chunks : dict of int to Chunk
        By position in the batch.
    lost : dict of int to str
        Frames that were handed out and never came back, with the reason.
    untouched : list of int
        Frames that were never handed out.
    """

    chunks: dict[int, Chunk] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    untouched: list[int] = field(default_factory=list)


class CrystfelServer:
    """A running ``indexamajig``; close it to end it.

    It ends with our process, however that ends, and leaves nothing behind.

    Parameters
    ----------
    program : CrystfelProgram
        One that `can_serve`.
    method : Method
    geometry : Geometry
    cell : Cell
    jobs : int
        Its worker processes.

    Raises
    ------
    ProgramError
        If it cannot be started.
    """

    def __init__(
        self, program: CrystfelProgram, method: Method, geometry: Geometry, cell: Cell, jobs: int
    ) -> None:
        # Imported here because they are an extra.
        import msgpack
        import zmq

        self._pack, self._gone, self._jobs = msgpack.packb, zmq.ZMQError, jobs
        with contextlib.ExitStack() as resources:
            long = len(tempfile.gettempdir()) + LENGTH_OF_THE_REST > LONGEST_ADDRESS
            folder = resources.enter_context(temporary_folder(Path("/tmp") if long else None))
            context = zmq.Context()
            resources.callback(context.term)
            self._socket = context.socket(zmq.ROUTER)
            resources.callback(self._socket.close, linger=0)
            # A worker that died while it waited is reported instead of being sent frames.
            self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            self._socket.bind(f"ipc://{folder}/frames")
            os.mkfifo(folder / "out.stream")
            self._stream = os.open(folder / "out.stream", os.O_RDONLY | os.O_NONBLOCK)
            resources.callback(os.close, self._stream)
            (folder / "peaks.geom").write_text(message_geometry_text(geometry, images=False))
            cell.write(folder / "known.cell")
            command = [
                program.path,
                f"{ADDRESS}=ipc://{folder}/frames",
                *NEEDED,
                f"--geometry={folder}/peaks.geom",
                f"--pdb={folder}/known.cell",
                f"--output={folder}/out.stream",
                f"--temp-dir={folder}",
                "-j",
                str(jobs),
                "--min-peaks=1",
                *frugal_options(program),
                *method.arguments,
            ]
            self._log = folder / "indexamajig.log"
            self._started = time.monotonic()
            self._process = resources.enter_context(
                Supervised(command, folder=folder, log=self._log)
            )
            self._resources = resources.pop_all()
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._stream, zmq.POLLIN)
        self._idle: list[bytes] = []
        self._text = b""
        self._first_job = 0

    def close(self) -> None:
        """End the program and remove its folder."""
        self._resources.close()

    @property
    def running(self) -> bool:
        """Whether the program still runs."""
        return self._process.exit_code is None

    @property
    def n_frames(self) -> int:
        """Number of frames it was asked for so far."""
        return self._first_job

    def index(self, patterns: Sequence[Pattern], limit: TimeLimit, done: Done = unheard) -> Served:
        """Hand the patterns to the program and wait for what it makes of them.

        Parameters
        ----------
        patterns : sequence of Pattern
        limit : TimeLimit
            If it is over, or the program has ended, this object is to be closed.
        done : callable, optional
            Called with the number of patterns that are answered.
        """
        batch = _Batch(len(patterns))
        deaths_before, most_deaths = self._deaths(), deaths_allowed(len(patterns), self._jobs)
        heard = time.monotonic()
        limit.watch(self._process)
        while batch.n_open:
            running = self.running
            events = dict(self._poller.poll(POLL_MILLISECONDS))
            if self._socket in events:
                worker = self._socket.recv_multipart()[0]
                self._idle.append(worker)
                batch.asks_again(worker)
            chunks = self._read_chunks()
            for job, chunk in chunks:
                batch.answered(job - self._first_job, chunk)
            if chunks:
                done(len(batch.served.chunks))
            self._hand_out(batch, patterns)
            now = time.monotonic()
            if limit.check():
                batch.lose(f"was ended after {limit}")
            elif chunks or self._socket in events:
                heard = now
            elif not running:
                batch.lose(f"{self._run().how_it_ended} before this frame was done")
            else:
                self._process.nudge()
                if now > heard + GRACE_SECONDS:
                    deaths = self._deaths() - deaths_before
                    if deaths >= len(batch.busy) and not batch.waiting:
                        verb = "lost its worker with" if batch.busy else "gave up"
                        batch.lose(f"{verb} this frame; its last words: {self._run().complaint}")
                    elif deaths > most_deaths:
                        batch.lose("cannot keep its workers alive")
                        self._process.end()
        self._first_job += len(patterns)
        return batch.served

    def _hand_out(self, batch: _Batch, patterns: Sequence[Pattern]) -> None:
        while self._idle and batch.waiting:
            worker, number = self._idle.pop(0), batch.waiting[-1]
            message = self._pack(
                {"job": self._first_job + number, **pattern_entries(patterns[number])}
            )
            try:
                self._socket.send_multipart([worker, b"", message])
            except self._gone:
                continue
            batch.handed_to(worker)

    def _read_chunks(self) -> list[tuple[int, Chunk]]:
        with contextlib.suppress(BlockingIOError):
            self._text += os.read(self._stream, 1 << 20)
        chunks = []
        end = f"{CHUNK_END}\n".encode()
        while (stop := self._text.find(end)) >= 0:
            text = self._text[:stop].decode(errors="replace")
            self._text = self._text[stop + len(end) :]
            try:
                chunk = parse_chunk(text.partition(f"{CHUNK_START}\n")[2].splitlines())
                chunks.append((int(chunk.headers["job"]), chunk))
            except (ValueError, KeyError):
                continue
        return chunks

    def _deaths(self) -> int:
        """Return how many workers were killed so far: each takes one frame with it."""
        return count_deaths(self._log)

    def _run(self) -> ProgramRun:
        log = self._log.read_text(errors="replace")
        return ProgramRun(self._process.exit_code, log, time.monotonic() - self._started)


class _Batch:
    """Which frames of a batch wait, are worked on, and are done."""

    def __init__(self, n: int) -> None:
        self.waiting = list(range(n))[::-1]
        self.busy: dict[bytes, int] = {}
        self._open = set(range(n))
        self.served = Served()

    @property
    def n_open(self) -> int:
        """Number of frames of which it is not known what becomes of them."""
        return len(self._open)

    def handed_to(self, worker: bytes) -> None:
        self.busy[worker] = self.waiting.pop()

    def asks_again(self, worker: bytes) -> None:
        self.busy.pop(worker, None)

    def answered(self, number: int, chunk: Chunk) -> None:
        # Late answers to an earlier batch have other numbers.
        if number in self._open:
            self._open.remove(number)
            self.served.chunks[number] = chunk
            self.busy = {w: n for w, n in self.busy.items() if n != number}

    def lose(self, reason: str) -> None:
        """Give up whatever is open."""
        self.served.untouched = self.waiting[::-1]
        for number in self._open - set(self.waiting):
            self.served.lost[number] = reason
        self.waiting = []
        self._open = set()
