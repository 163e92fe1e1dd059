"""Imports point one way: no circles, nothing upwards, and no learning library below the tuner.

Every import statement counts, also those within functions and under ``if TYPE_CHECKING``: two
modules that name each other's types are read together, whenever the import is run. A contract or
a value object that two modules share belongs into a file of its own.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).parents[1]

LAYERS = ("wrappers", "envs", "tuner", "sfx_tuner", "experiments")
"""From the ground up; a package imports from those before it only."""

FORBIDDEN = {
    "wrappers": {"torch", "stable_baselines3", "optuna", "gymnasium"},
    "envs": {"torch", "stable_baselines3", "optuna"},
}


def modules(root: Path) -> dict[str, Path]:
    """Return the packages' modules by their dotted names."""
    found = {}
    for path in (path for layer in LAYERS for path in (root / layer).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path) -> Iterator[str]:
    """Yield the dotted names that a module imports, wherever in it."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def graph(root: Path) -> dict[str, set[str]]:
    """Return, for each module, those of ours that it imports."""
    known = modules(root)
    # `from package import name` names a module, or something that is in the package's own file.
    return {
        name: {
            target if target in known else target.rpartition(".")[0]
            for target in imported(name, path)
            if target in known or target.rpartition(".")[0] in known
        }
        - {name}
        for name, path in known.items()
    }


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules that import each other, by whatever way round."""
    names = {name: number for number, name in enumerate(imports)}
    matrix = np.zeros((len(names), len(names)), bool)
    for name, targets in imports.items():
        matrix[names[name], [names[target] for target in targets]] = True
    _, labels = connected_components(matrix, connection="strong")
    groups = defaultdict(set)
    for name, label in zip(names, labels, strict=True):
        groups[label].add(name)
    return [group for group in groups.values() if len(group) > 1]


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    return graph(ROOT)


def test_the_modules_are_found(imports):
    assert len(imports) > 150
    assert "wrappers.frames.frame" in imports["wrappers.frames.run"]


def test_no_circles(imports):
    assert circles(imports) == []


def test_nothing_imports_upwards(imports):
    level = {layer: number for number, layer in enumerate(LAYERS)}
    upwards = [
        (name, target)
        for name, targets in imports.items()
        for target in targets
        if level[target.split(".")[0]] > level[name.split(".")[0]]
    ]
    assert upwards == []


def test_the_ground_needs_no_learning_library():
    found = {
        (name, library)
        for name, path in modules(ROOT).items()
        for library in FORBIDDEN.get(name.split(".")[0], set())
        if any(target.split(".")[0] == library for target in imported(name, path))
    }
    assert found == set()


def test_modules_stay_short_and_packages_shallow():
    production = {n: p for n, p in modules(ROOT).items() if not n.startswith("experiments")}
    lines = {name: path.read_bytes().count(b"\n") for name, path in production.items()}
    assert [name for name, n in lines.items() if n >= 400] == [], "part what holds two jobs"
    for package in ("tuner", "envs"):
        flat = [path.stem for path in (ROOT / package).glob("*.py") if path.stem != "__init__"]
        assert len(flat) <= 10, f"give some of these a folder: {', '.join(sorted(flat))}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import wrappers.b", {"wrappers.b"}),
        ("from wrappers import b", {"wrappers.b"}),
        ("from wrappers.b import thing", {"wrappers.b"}),
        ("from .b import thing", {"wrappers.b"}),
        ("def f():\n    from . import b", {"wrappers.b"}),
        ("if TYPE_CHECKING:\n    from wrappers.b import Thing", {"wrappers.b"}),
        ("import numpy as b", set()),
    ],
)
def test_every_form_of_import_is_seen(tmp_path, text, expected):
    package = tmp_path / "wrappers"
    package.mkdir()
    for name, content in (("__init__", ""), ("a", text), ("b", "from wrappers.a import x")):
        (package / f"{name}.py").write_text(content)
    imports = graph(tmp_path)
    assert imports["wrappers.a"] == expected
    assert circles(imports) == ([{"wrappers.a", "wrappers.b"}] if expected else [])
