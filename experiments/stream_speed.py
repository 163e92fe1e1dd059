"""How fast frames of a stream are reduced, and how soon each is decided.

Another process sends ``jf1m_lyso_60`` of the shared data, its frames repeated and laid side by side
to 1, 4 and 16 Mpx, as DECTRIS' stream V2 (bslz4). A receiver of one or two cores takes

- the messages alone (received, unpacked from CBOR, and dropped: doing nothing),
- the images, unpacked,
- the hits: `reduce_arriving`, written to files as `sfx-tuner apply URL` does,

a third of the frames being hits; all of as many frames as fit its ring, so that none is dropped.
The rate is from the first frame to the last one decided. Then frames are sent at half that rate,
and the time from a message's sending to its frame's decision is taken. In the end 100,000 small
frames show what memory does.

    python -m experiments.stream_speed ../shared/data/simulated [--json]
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
from numpy.typing import NDArray

from tests.ports import free_port
from tuner.cli.options import print_json
from wrappers.detector.geom_file import slab_geometry_text
from wrappers.detector.geometry import Geometry
from wrappers.files import write_whole
from wrappers.frames.frame import Frame
from wrappers.frames.run import Run
from wrappers.peakfinding.finders import NamedFinder
from wrappers.reduction import SettingsSet
from wrappers.reduction.placed import Placed
from wrappers.settings import Settings
from wrappers.streams.arriving import StreamFrames
from wrappers.streams.dectris import encode_end, encode_image, encode_start
from wrappers.streams.messages import SeriesStart
from wrappers.streams.protocols import parse_address
from wrappers.streams.reducing import reduce_arriving

SETTINGS = Settings(min_snr=4.25, threshold=30, min_pix_count=2, max_pix_count=50, min_peaks=10)
SIZES = {1: (1, 300), 4: (2, 120), 16: (4, 40)}
"""Frames side by side, and how many are sent, by megapixels."""
KEPT = 12
"""Different images that are sent in turn."""
SMALL = 64
"""Pixels along the edge of the small frames."""
SMALL_RATE = 1500.0
"""Small frames in a second."""


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--megapixels", default="1,4,16", show_default=True)
@click.option("--small-frames", default=100_000, show_default=True, help="For the memory.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The numbers, as JSON.")
@click.option("--json", "as_json", is_flag=True)
def main(
    folder: Path, megapixels: str, small_frames: int, output: Path | None, as_json: bool
) -> None:
    """Print the tables for the run in FOLDER."""
    rows = []
    cores, loads = len(os.sched_getaffinity(0)), [os.getloadavg()[0]]
    _measured(_images(folder, 1), 10, "hits", 1, 0.0)  # compiles what there is to compile
    for size in map(int, filter(None, megapixels.split(","))):
        side, n = SIZES[size]
        for n_cores in (1, 2):
            sent = _images(folder, side)
            row: dict[str, Any] = {"megapixels": size, "cores": n_cores, "n_frames": n}
            for way in ("messages", "images", "hits"):
                found = _measured(sent, n, way, n_cores, 0.0)
                row[way] = found["frames_per_second"]
                row[f"{way}_core_ms"] = found["core_ms"]
            found = _measured(sent, n, "hits", n_cores, row["hits"] / 2)
            row |= {key: found[key] for key in ("median_ms", "p99_ms", "n_hits", "n_dropped")}
            rows.append(row)
            if not as_json:
                _print_row(row, first=len(rows) == 1)
    memory = _memory(small_frames) if small_frames else []
    loads.append(os.getloadavg()[0])
    told = {"rows": rows, "memory_mb": memory, "cores": cores, "load": loads}
    if output is not None:
        write_whole(output, json.dumps(told, indent=1) + "\n")
    if as_json:
        print_json(told)
        return
    if memory:
        words = ", ".join(f"{n:,}: {megabytes:.0f}" for n, megabytes in memory)
        print(f"memory in MB after small frames ({SMALL} x {SMALL}): {words}")
    load = " and ".join(f"{each:.1f}" for each in loads)
    print(f"{cores} cores, the sender's included; load {load}, before and after")


def _print_row(row: dict[str, Any], first: bool) -> None:
    ways = ("messages", "images", "hits")
    if first:
        print(
            "frames/s (of doing nothing) and core ms a frame; latency in ms at half the hits' rate"
        )
        print("  Mpx  cores " + "".join(f"{way:24}" for way in ways) + "median    99 %   hits")
    cells = "".join(
        f"{row[way]:5.0f} ({row[way] / row['messages']:4.0%}) {row[f'{way}_core_ms']:6.1f}    "
        for way in ways
    )
    print(
        f"{row['megapixels']:5d} {row['cores']:6d} {cells} {row['median_ms']:7.1f} "
        f"{row['p99_ms']:7.1f}   {row['n_hits']} of {row['n_frames']}, "
        f"{row['n_dropped']} dropped",
        flush=True,
    )


@dataclass(frozen=True, eq=False)
class _Sent:
    """What is sent: images (n, ss, fs), mask, text of the geometry, and the settings."""

    images: NDArray[Any]
    mask: NDArray[np.bool_]
    geometry: str
    settings: Settings


def _images(folder: Path, side: int) -> _Sent:
    """Return images of the run, a third of them hits, each laid side by side with itself."""
    with Run.open(folder / "jf1m_lyso_60.h5", Geometry.read(folder / "jf1m.geom")) as run:
        finder = NamedFinder(run.geometry)
        chosen: dict[bool, list[NDArray[Any]]] = {True: [], False: []}
        for frame in (run[i] for i in range(len(run))):
            is_hit = len(finder.find(frame, SETTINGS)) >= SETTINGS.min_peaks
            chosen[is_hit].append(np.tile(frame.data, (side, side)))
        mask = np.tile(run.static_mask(0), (side, side))
    settings = SETTINGS.replace(min_peaks=side * side * SETTINGS.min_peaks)
    images = [*chosen[True][: KEPT // 3], *chosen[False][: KEPT - KEPT // 3]]
    return _Sent(np.stack(images), mask, _geometry_text(run.geometry, side), settings)


def _measured(sent: _Sent, n: int, way: str, n_cores: int, rate: float) -> dict[str, Any]:
    """Send `n` images at a rate, 0 for as fast as it goes, and return what the receiver says."""
    context = multiprocessing.get_context("spawn")
    name = f"dectris+tcp://127.0.0.1:{free_port()}"
    ours, theirs = context.Pipe()
    images = sent.images
    messages = [encode_image("1", i, image, "bslz4") for i, image in enumerate(images)]
    start = encode_start(
        SeriesStart("1", images.shape[1:], 9300.0, 0.08, 75e-6, sent.mask), images.dtype
    )
    receiver = context.Process(
        target=_receive,
        args=(theirs, name, replace(sent, images=images[:1]), n, way, n_cores),
        daemon=True,
    )
    receiver.start()
    assert ours.recv() == "ready"
    times = _send(name, start, messages, n, rate)
    found: dict[str, Any] = ours.recv()
    receiver.join()
    decided = found.pop("decided")
    late = [1e3 * (decided[i] - times[i]) for i in decided]
    if late:
        found |= {"median_ms": float(np.median(late)), "p99_ms": float(np.quantile(late, 0.99))}
    return found


def _send(name: str, start: bytes, messages: list[bytes], n: int, rate: float) -> dict[int, float]:
    """Send images in turn; return when each was sent, by the machine's clock."""
    import cbor2
    import zmq

    documents = [cbor2.loads(message) for message in messages]
    sent = {}
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.setsockopt(zmq.SNDHWM, 4)
        socket.bind(name.removeprefix("dectris+"))
        socket.send(start)
        due = time.monotonic()
        for number in range(n):
            document = documents[number % len(documents)]
            document["image_id"] = number
            message = cbor2.dumps(document)
            if rate:
                due += 1 / rate
                time.sleep(max(0.0, due - time.monotonic()))
            sent[number] = time.monotonic()
            socket.send(message, copy=False)
        socket.send(encode_end("1"))
        socket.setsockopt(zmq.LINGER, 60_000)
    return sent


def _receive(pipe: Connection, name: str, sent: _Sent, n: int, way: str, n_cores: int) -> None:
    """Receive `n` images one way, with so many cores, and tell how it went."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:n_cores]))
    decided: dict[int, float] = {}
    n_hits = 0

    def on_frame(placed: Placed) -> None:
        nonlocal n_hits
        decided[int(placed.frame.event.rpartition("//")[2])] = time.monotonic()
        n_hits += placed.is_hit

    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        geometry = _read(folder, sent.geometry)
        with StreamFrames(parse_address(name), geometry, n) as frames:
            _compile(geometry, sent.images[0])
            used = time.process_time()
            pipe.send("ready")
            if way == "hits":
                for _ in reduce_arriving(
                    frames,
                    lambda: SettingsSet(sent.settings),
                    folder,
                    nominal_clen=0.08,
                    batch=1000,
                    seconds=30.0,
                    idle=30.0,
                    jobs=n_cores,
                    stopped=lambda: len(decided) >= n,
                    on_frame=on_frame,
                ):
                    pass
                ended = time.monotonic()
            else:
                while len(decided) < n:
                    late = frames.next(10.0)
                    if late is None:
                        continue
                    if way == "images":
                        late()
                    decided[len(decided)] = time.monotonic()
                ended = max(decided.values())
            dropped = frames.counts.dropped
    pipe.send(
        {
            "frames_per_second": (n - 1) / (ended - min(decided.values())),
            "core_ms": 1e3 * (time.process_time() - used) / n,
            "n_hits": n_hits,
            "n_dropped": dropped,
            "decided": decided if way == "hits" else {},
        }
    )


def _memory(n: int) -> list[tuple[int, float]]:
    """Return a receiver's memory, in MB, after so many small frames, a third of them hits."""
    rng = np.random.default_rng(1)
    images = rng.poisson(10, (KEPT, SMALL, SMALL)).astype("u2")
    for image in images[::3]:
        for ss, fs in rng.integers(8, SMALL - 8, (30, 2)):
            image[ss : ss + 2, fs : fs + 2] += 500
    context = multiprocessing.get_context("spawn")
    name = f"dectris+tcp://127.0.0.1:{free_port()}"
    ours, theirs = context.Pipe()
    receiver = context.Process(target=_take_small, args=(theirs, name, images[0], n), daemon=True)
    receiver.start()
    assert ours.recv() == "ready"
    start = encode_start(SeriesStart("1", images.shape[1:], 9300.0, 0.08, 75e-6), images.dtype)
    _send(name, start, [encode_image("1", i, each) for i, each in enumerate(images)], n, SMALL_RATE)
    found: list[tuple[int, float]] = ours.recv()
    receiver.join()
    return found


def _take_small(pipe: Connection, name: str, image: NDArray[Any], n: int) -> None:
    memory = psutil.Process()
    marks: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        geometry = _read(folder, _small_geometry())
        _compile(geometry, image)
        with StreamFrames(parse_address(name), geometry, 1000) as frames:
            pipe.send("ready")

            def look() -> bool:
                received = frames.counts.received
                if received // (n // 10) > len(marks) and len(marks) < 10:
                    marks.append((frames.counts.received, memory.memory_info().rss / 1e6))
                return received >= n

            for part in reduce_arriving(
                frames,
                lambda: SettingsSet(SETTINGS),
                folder,
                nominal_clen=0.08,
                batch=1000,
                seconds=30.0,
                idle=30.0,
                jobs=2,
                stopped=look,
            ):
                part.hits.unlink()
    pipe.send(marks)


def _geometry_text(geometry: Geometry, side: int) -> str:
    """Return a geometry whose panels lie side by side in the image, and in one place in space.

    So each has the rings that it has in the run.
    """
    rows, columns = geometry.slab_shape
    text = slab_geometry_text(geometry, clen="0.08 m", photon_energy="9300 eV")
    top = [line for line in text.splitlines() if "/" not in line.partition(" = ")[0]]
    lines = [line for line in top if not line.startswith(("data", "dim", "peak_list"))]
    for tile in range(side * side):
        for line in text.splitlines():
            name, _, value = line.partition(" = ")
            panel, slash, field = name.partition("/")
            if not slash:
                continue
            if field in ("min_ss", "max_ss"):
                value = str(int(value) + tile // side * rows)
            elif field in ("min_fs", "max_fs"):
                value = str(int(value) + tile % side * columns)
            lines.append(f"t{tile}{panel}/{field} = {value}")
    return "\n".join([*lines, ""])


def _small_geometry() -> str:
    edges = {"min_fs": 0, "max_fs": SMALL - 1, "min_ss": 0, "max_ss": SMALL - 1}
    place = {"fs": "x", "ss": "y", "corner_x": -SMALL / 2, "corner_y": -SMALL / 2}
    top = {"clen": 0.08, "photon_energy": 9300, "adu_per_photon": 10, "res": 13333.3}
    fields = {f"a/{name}": value for name, value in (edges | place).items()}
    return "".join(f"{name} = {value}\n" for name, value in (top | fields).items())


def _read(folder: Path, text: str) -> Geometry:
    (folder / "run.geom").write_text(text)
    return Geometry.read(folder / "run.geom")


def _compile(geometry: Geometry, image: NDArray[Any]) -> None:
    """Find peaks once, so that compiling does not count."""
    frame = Frame(image, geometry.static_mask(), 9300.0, 0.08, "", "")
    NamedFinder(geometry).find(frame, SETTINGS)


if __name__ == "__main__":
    main()
