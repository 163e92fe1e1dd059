"""``sfx-tuner view``: frames and their peaks in a browser, as settings are moved."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuner.cli.options import (
    SourceName,
    existing,
    force_option,
    jobs_option,
    memory_option,
    open_run,
    seed_option,
    stderr,
    with_bad_pixels,
)
from wrappers.errors import InputError
from wrappers.frames.address import Address
from wrappers.outputs import check_outputs

if TYPE_CHECKING:
    from envs.evaluation import Evaluation
    from envs.strata import Sample

__all__ = ["command"]

FRAMES = 100


@click.command()
@click.argument("data", type=SourceName(), metavar="DATA")
@click.argument("session", type=click.Path(path_type=Path), required=False, metavar="[SESSION]")
@click.option("-g", "--geometry", type=existing, help="CrystFEL geometry file (.geom).")
@click.option(
    "-p", "--cell", type=existing, help="Unit cell; with one an indexing rate is predicted."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("chosen.toml"),
    show_default=True,
    help='Where "use these" writes the set, which tune --start, peaks and apply take.',
)
@click.option(
    "--frames", type=click.IntRange(min=1), default=FRAMES, show_default=True, help="Sample's size."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Of 127.0.0.1.  [default: a free one]"
)
@force_option
@seed_option
@jobs_option
@memory_option
def command(
    data: Address,
    session: Path | None,
    geometry: Path | None,
    cell: Path | None,
    output: Path,
    frames: int,
    port: int,
    force: bool,
    seed: int,
    jobs: int,
    memory: int | None,
) -> None:
    """Look at frames and their peaks in a browser, as settings are moved.

    DATA is a run, beside it perhaps the SESSION whose recommendation is shown, and whose cell is
    taken where none is given; or it is a session, which knows its run, geometry, cell and sample.
    The page is at 127.0.0.1, and whoever does not know the whole address that is printed does not
    get it; Ctrl-C ends it.

    \b
    Example:
      sfx-tuner view run.h5 -g run.geom -p protein.cell
      sfx-tuner view session
    """
    from envs.strata import Sample
    from tuner.recommendation import applied_settings, files_of_session, read_recommendation
    from tuner.report.frames import open_run as open_measured
    from tuner.session.store import SessionStore
    from tuner.view.server import ViewServer
    from tuner.view.sight import Sight
    from wrappers.cell import Cell
    from wrappers.frames.sampling import sample_frames
    from wrappers.workers.memory import share_out, usual_memory

    found = None
    if session is None and isinstance(data, Path) and (data / "session.json").exists():
        session = data
    if session is not None:
        found = read_recommendation(session)
    inputs = [data, session, geometry, cell, *([] if found is None else files_of_session(found))]
    check_outputs(output, inputs=inputs, force=force, ours=_is_chosen)
    if session == data:
        assert session is not None and found is not None
        if geometry is not None or cell is not None:
            raise InputError(f"{session} names its geometry and cell: leave out -g and -p")
        store = SessionStore.open(session)
        unit: Cell | None
        run, unit = open_measured(store)
        if not store.trials:
            raise InputError(f"the session {session} has measured nothing yet: go on with it first")
        drawn = sample_of(store.trials[0].evaluation)
    else:
        if geometry is None:
            raise InputError("view lacks the detector's geometry: -g FILE")
        run = open_run(data, geometry)
        if cell is None and session is not None:
            cell = cell_of(session)
        unit = None if cell is None else Cell.read(cell)
        drawn = Sample(tuple(sample_frames(run, frames, seed)[0]))
    marked = None if found is None else applied_settings(found, run.nominal_clen)
    if marked is not None and run.bad_pixels is None:
        run = with_bad_pixels(run, marked, None, jobs)
    most = usual_memory() if memory is None else memory
    jobs, room = share_out(most, jobs, len(drawn.frames), run)
    with ExitStack() as stack:
        sight = stack.enter_context(Sight(run, drawn, unit, marked, jobs=jobs, memory=room))
        server = stack.enter_context(ViewServer(sight, str(data), output, port))
        words = f"{len(drawn.frames)} frames at {server.address} (Ctrl-C ends)"
        stderr.print(words, highlight=False, soft_wrap=True)
        with suppress(KeyboardInterrupt):
            server.wait()


def cell_of(session: Path) -> Path | None:
    """Return the file of a session's cell, or None where there is no session or it is gone."""
    from tuner.session.config import SessionConfig

    file = session / "session.json"
    path = Path(SessionConfig.read(file).cell) if file.exists() else None
    return path if path is not None and path.is_file() else None


def sample_of(evaluation: Evaluation) -> Sample:
    """Return the sample that was measured, as it was drawn."""
    from envs.strata import Sample

    outcomes = evaluation.outcomes
    strata = tuple(each.stratum for each in outcomes) if evaluation.stratum_sizes else ()
    return Sample(tuple(each.frame for each in outcomes), strata, evaluation.stratum_sizes)


def _is_chosen(path: Path) -> bool:
    """Whether a file is one that "use these" wrote."""
    from tuner.recommendation import read_recommendation

    try:
        return "chosen" in read_recommendation(path).provenance
    except InputError:
        return False
