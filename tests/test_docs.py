"""What the documents say: commands that exist, files that exist, a tutorial that runs.

``python tests/test_docs.py`` runs the tutorial and pastes what its commands print.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest

from envs.parameter_space import make_space
from tuner.cli.main import COMMANDS, cli
from wrappers.customary import DETECTORS
from wrappers.peak_finders import unused_settings
from wrappers.settings import ABOUT, CRYSTFEL_DEFAULTS, Settings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIAL = ROOT / "docs" / "tutorial.md"
SESSION_IN_README = re.compile(r"(<!-- session -->\n\n)(.*?)(\n<!-- end -->)", re.DOTALL)
SHOWN_FOLDER, SHOWN_PREFIX = "/home/me/beamtime", "/home/me/sfx-tuner/.venv"

FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)
OTHERS_OPTIONS = {
    *("--cpus-per-task", "--harvest-file", "--int-radius", "--mille", "--camera-length"),
    "--out-of-plane",
}
"""Options of other programs that documents name and our code does not."""

INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def prose(text: str) -> str:
    """Return a document without its blocks of code."""
    return INDENTED.sub("", FENCED.sub("", text))


def blocks(text: str) -> Iterator[str]:
    """Yield the blocks of code, long commands on one line; of a dialogue only what is typed."""
    found = [block for _, block in FENCED.findall(text)]
    for block in found + INDENTED.findall(FENCED.sub("", text)):
        lines = block.replace("\\\n", " ").splitlines()
        typed = [line for line in lines if line.strip().startswith("$ ")]
        yield "\n".join(typed or lines)


def sfx_tuner_commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of sfx-tuner in a text of one command a line."""
    for line in text.splitlines():
        command = line.strip().removeprefix("$ ")
        if not re.match(r"(?:[A-Z_]+=\S+ )*sfx-tuner(?: |$)", command):
            continue
        words = shlex.split(command, comments=True)
        words = words[words.index("sfx-tuner") + 1 :]
        ends = [i for i, word in enumerate(words) if word in ("|", ">", "2>", "2>&1", "&&", "&")]
        yield [word for word in words[: min(ends, default=None)] if word != "…"]


def parse(arguments: list[str], *, complete: bool = True) -> None:
    """Parse arguments as the program would, without running it."""
    if not arguments:
        return
    try:
        name, command, rest = cli.resolve_command(
            cli.make_context("sfx-tuner", arguments), arguments
        )
        assert command is not None, f"no command is called {name}"
        command.make_context(name, rest)
    except click.exceptions.Exit:
        pass  # --help
    except click.MissingParameter:
        if complete:
            raise


def our_options() -> set[str]:
    """Return the options of all commands."""
    context = click.Context(cli)
    commands = [cli, *filter(None, (cli.get_command(context, name) for name in COMMANDS))]
    found = {"--help", "--version"}
    for command in commands:
        for parameter in command.params:
            found |= {*parameter.opts, *parameter.secondary_opts}
    return found


def named_in_code() -> set[str]:
    """Return the options that the experiments have, or that we give to other programs."""
    names: set[str] = set()
    for pattern in ("experiments/*.py", "tuner/export*.py", "wrappers/crystfel/*.py"):
        for file in ROOT.glob(pattern):
            names |= set(re.findall(r"--[a-z][a-z0-9-]+", file.read_text()))
    return names


@pytest.fixture(autouse=True)
def _no_files_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands be parsed whose files do not exist."""
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: Path(value))


@each_document
def test_blocks_hold_commands_that_parse(path: Path) -> None:
    for block in blocks(path.read_text()):
        for arguments in sfx_tuner_commands(block):
            parse(arguments)


@each_document
def test_inline_commands_parse(path: Path) -> None:
    for code in INLINE.findall(prose(path.read_text())):
        for arguments in sfx_tuner_commands(code.replace("\n", " ")):
            parse(arguments, complete=False)


@each_document
def test_options_named_in_prose_exist(path: Path) -> None:
    known = our_options() | named_in_code() | OTHERS_OPTIONS
    for code in INLINE.findall(prose(path.read_text())):
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", code):
            assert option in known, f"{option} in `{code}`"


@each_document
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text())):
        if re.match(r"https?:|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file) if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in headings}


@each_document
def test_named_files_and_modules_exist(path: Path) -> None:
    text = path.read_text()
    packages = "wrappers|envs|tuner|experiments|tests|docs"
    for code in INLINE.findall(prose(text)):
        if re.fullmatch(rf"(?:{packages})/[\w./-]*", code):
            assert (ROOT / code).exists(), code
        if re.fullmatch(rf"(?:{packages})(?:\.\w+)+", code):
            assert module_has(code), code
    for module in re.findall(r"python -m (experiments[\w.]+)", text):
        assert module_has(module), module


def module_has(dotted: str) -> bool:
    """Whether a dotted name is a module of ours, or is defined in one."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        base = ROOT.joinpath(*parts[:end])
        file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if file.exists():
            rest = parts[end:]
            return not rest or re.search(rf"\b{rest[0]}\b", file.read_text()) is not None
    return False


@each_document
def test_targets_of_make_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    text = path.read_text()
    named = [code for code in INLINE.findall(prose(text)) if code.startswith("make ")]
    named += [line for block in blocks(text) for line in block.splitlines()]
    for target in re.findall(r"^ *make ([a-z-]+)", "\n".join(named), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_readme_is_short_and_has_every_document_and_command() -> None:
    readme = README.read_text()
    assert len(readme.splitlines()) <= 100
    for path in (ROOT / "docs").glob("*.md"):
        assert f"docs/{path.name}" in readme, path.name
    for name in COMMANDS:
        assert re.search(rf"`{name}`|sfx-tuner {name}", readme), name


def test_the_reference_of_settings_says_what_the_code_does() -> None:
    rows = {
        cells[1].strip(" `"): [cell.strip() for cell in cells[2:-1]]
        for line in (ROOT / "docs" / "settings.md").read_text().splitlines()
        if len(cells := line.split("|")) == 8
    }
    unused = unused_settings(Settings.peak_finder)
    names = [name for name in ABOUT if name != "peak_finder" and name not in unused]
    assert set(rows) >= set(ABOUT)
    assert rows["peak_finder"][-1] == CRYSTFEL_DEFAULTS.peak_finder == Settings().peak_finder
    space = make_space(
        names, background=(0.0, 100.0), camera_length=0.1, pixel_size=1e-4, largest_radius=1000.0
    )
    for parameter in space.parameters:
        _, unit, searched, start, default = rows[parameter.name]
        assert unit == parameter.unit
        assert ("log" in searched) == (parameter.scale == "log")
        numbers = re.fullmatch(r"([\d.]+) – ([\d.]+)(?:, log)?", searched)
        if numbers:
            assert (float(numbers[1]), float(numbers[2])) == (parameter.low, parameter.high)
        if re.fullmatch(r"[\d.]+", start):
            assert float(start) == getattr(space.base, parameter.name)
        if re.fullmatch(r"[\d.]+", default):
            assert float(default) == getattr(CRYSTFEL_DEFAULTS, parameter.name)


def test_the_reference_says_where_the_robust_finder_is_sought() -> None:
    rows = {
        cells[1].strip(" `"): [cell.strip() for cell in cells[3:-1]]
        for line in (ROOT / "docs" / "settings.md").read_text().splitlines()
        if len(cells := line.split("|")) == 6 and "`" in cells[1]
    }
    assert set(rows) == {"min_snr", "threshold", "min_pix_count", "local_bg_radius"}
    space = make_space(
        list(rows), background=(0.0, 100.0), camera_length=0.1, pixel_size=1e-4,
        largest_radius=1000.0, peak_finder="robust", photon=1.0,
    )  # fmt: skip
    for parameter in space.parameters:
        searched, start = rows[parameter.name]
        low, high = map(float, searched.split(" – "))
        assert (low, high) == (parameter.low, parameter.high)
        assert float(start) == getattr(space.base, parameter.name)


def test_the_reference_says_where_the_learned_finder_is_sought() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    row = re.search(r"\| `min_probability` \|.*\| ([\d.]+) – ([\d.]+)⁶ \| ([\d.]+) \|", text)
    assert row is not None
    space = make_space(
        ["min_probability"], background=(0.0, 100.0), camera_length=0.1, pixel_size=1e-4,
        largest_radius=1000.0, peak_finder="learned",
    )  # fmt: skip
    (parameter,) = space.parameters
    assert (float(row[1]), float(row[2])) == (parameter.low, parameter.high)
    assert float(row[3]) == space.base.min_probability


def customary_rows() -> list[str]:
    """Return the table of `wrappers.customary` as the reference of settings has it."""

    def span(low: float | None, high: float | None) -> str:
        return "–" if low is None and high is None else f"{low or ''}–{high or ''}"

    def text(one: Mapping[str, float]) -> str:
        pixels, resolution = (
            span(one.get(f"min_{what}"), one.get(f"max_{what}")) for what in ("pix_count", "res")
        )
        words = (one["threshold"], one["min_snr"], pixels, one.get("local_bg_radius", "–"))
        return "/".join(map(str, (*words, resolution)))

    return [
        f"| {each.name} | {1e6 * each.pixel_size:g} µm | {'; '.join(map(text, each.sets))} |"
        for each in DETECTORS
    ]


def test_the_reference_has_what_is_customary_for_a_detector() -> None:
    lines = (ROOT / "docs" / "settings.md").read_text().splitlines()
    start = lines.index("| detector | pixel | settings |") + 2
    assert lines[start : start + len(DETECTORS)] == customary_rows()


def test_the_readme_shows_the_session_of_the_tutorial() -> None:
    shown = dict(sessions(TUTORIAL.read_text()))
    assert SESSION_IN_README.search(README.read_text())[2] == shortened(shown)  # type: ignore[index]


@pytest.mark.slow
def test_the_tutorial_runs_as_written(tmp_path: Path) -> None:
    shown = dict(sessions(TUTORIAL.read_text()))
    for command, printed in run(list(shown), tmp_path):
        missing = lines_without_values(shown[command]) - lines_without_values(printed)
        assert not missing, f"{command}\nno longer prints\n{missing}\nbut\n{printed}"


def sessions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of the console blocks with the output that is shown for it."""
    for language, block in FENCED.findall(text):
        if language == "console":
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                yield command, output


def run(commands: list[str], folder: Path) -> Iterator[tuple[str, str]]:
    """Run commands one after the other, without any CrystFEL; yield what each printed."""
    tools = Path(sys.executable).parent
    environment = {k: v for k, v in os.environ.items() if k != "SFX_TUNER_INDEXAMAJIG"}
    environment |= {"PATH": f"{tools}:/usr/bin:/bin", "COLUMNS": "80", "PWD": str(folder)}
    for command in commands:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        # diff ends with 1 where files differ.
        assert done.returncode == (1 if command.startswith("diff ") else 0), done.stdout
        printed = done.stdout.replace(str(folder), SHOWN_FOLDER).replace(sys.prefix, SHOWN_PREFIX)
        # What a progress bar leaves in a plain log is an empty line.
        yield command, "".join(f"{line.rstrip()}\n" for line in printed.splitlines() if line)


def lines_without_values(text: str) -> set[str]:
    """Return the lines without numbers and without the lines of tables, which follow them."""
    lines = (re.sub(r"[\d┏━┳┓┡╇┩└─┴┘│┃.,+±%-]+", "", line) for line in text.splitlines())
    return {re.sub(r"\be\b|\s+", " ", line).strip() for line in lines}


def shortened(shown: dict[str, str]) -> str:
    """Return the tutorial's session, its first two evaluations and the last, as a block of code."""
    command = next(command for command in shown if command.startswith("sfx-tuner tune"))
    lines = shown[command].splitlines()
    rows = [i for i, line in enumerate(lines) if re.match(r" *\d+ +[a-z]+ ", line)]
    end = next(i for i, line in enumerate(lines) if line.startswith("└"))
    # The last lines are of decoys and files.
    kept = [*lines[: rows[2]], "      ...", lines[rows[-1]], *lines[end + 1 : -2]]
    return "".join(f"    {line}\n" for line in kept)


def refresh() -> None:
    """Run the tutorial and paste what its commands print, here and in the README."""
    text = TUTORIAL.read_text()
    with tempfile.TemporaryDirectory() as folder:
        printed = dict(run([command for command, _ in sessions(text)], Path(folder)))

    def paste(match: re.Match[str]) -> str:
        if match[1] != "console":
            return match[0]
        commands = [command for command, _ in sessions(match[0])]
        body = "".join(f"$ {command}\n{printed[command]}" for command in commands)
        return f"```console\n{body}```"

    TUTORIAL.write_text(FENCED.sub(paste, text))
    session = SESSION_IN_README.sub(
        lambda match: match[1] + shortened(printed) + match[3], README.read_text()
    )
    README.write_text(session)


if __name__ == "__main__":
    refresh()
