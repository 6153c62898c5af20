"""Print what a review looks at first: `python scripts/house.py [CHECKOUT]`.

Rooms are the packages below include/pgdrill, loose modules its other files. A ring is two rooms or
more that import each other; an upward arrow an import that the layers of `pyproject.toml` forbid,
so a checkout without layers has none to count. Statements are those of the syntax tree, docstrings
aside: formatting does not change them.
"""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grimp

PACKAGE = "pgdrill"
LONG_LINE = 100


def figures(checkout: Path) -> Iterator[tuple[str, object]]:
    """Yield each figure with its name."""
    root = checkout / "include" / PACKAGE
    files = sorted(root.rglob("*.py"))
    texts = {file: file.read_text() for file in files}
    trees = {file: ast.parse(text) for file, text in texts.items()}
    lengths = {file: text.count("\n") for file, text in texts.items()}
    rooms = [one for one in root.iterdir() if one.is_dir() and any(one.glob("*.py"))]
    yield "rooms", len(rooms)
    yield "loose modules", len([one for one in root.glob("*.py") if not one.stem.startswith("__")])
    arrows = _arrows(checkout)
    yield "rooms in rings", _in_rings(arrows, 2)
    yield "modules in rings", _in_rings(arrows, None)
    yield "modules", len(files)
    yield "lines of a module, median", int(statistics.median(lengths.values()))
    longest = max(lengths, key=lambda file: lengths[file])
    yield "lines of the longest module", f"{lengths[longest]} ({longest.relative_to(root)})"
    functions = [(_lines(one), one.name) for tree in trees.values() for one in _functions(tree)]
    yield "lines of a function, median", int(statistics.median(size for size, _ in functions))
    yield "lines of the longest function", "{} ({})".format(*max(functions))
    yield "fmt: skip", sum(text.count("fmt: skip") for text in texts.values())
    yield (
        f"lines over {LONG_LINE}",
        sum(len(line) > LONG_LINE for text in texts.values() for line in text.splitlines()),
    )
    yield "statements", sum(_statements(tree) for tree in trees.values())
    yield "layers held by lint", "yes" if _has_layers(checkout) else "no"


def _arrows(checkout: Path) -> set[tuple[str, str]]:
    """Return which module imports which, as the checkout has them."""
    sys.path.insert(0, str(checkout / "include"))
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    return {
        (module, imported)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }


def _in_rings(arrows: set[tuple[str, str]], depth: int | None) -> int:
    """Count the modules, or the rooms they are in, that stand in a ring or between two.

    Whatever imports nothing, or is imported by nothing, is taken away until no more can be.
    """
    left = {
        (one, other)
        for one, other in ((_room(a, depth), _room(b, depth)) for a, b in arrows)
        if one != other and PACKAGE not in (one, other)
    }
    while left != (
        left := {
            (one, other)
            for one, other in left
            if one in {b for _, b in left} and other in {a for a, _ in left}
        }
    ):
        pass
    return len({end for arrow in left for end in arrow})


def _room(module: str, depth: int | None) -> str:
    return ".".join(module.split(".")[:depth])


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _statements(tree: ast.AST) -> int:
    docstrings = sum(
        ast.get_docstring(node, clean=False) is not None
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return sum(isinstance(node, ast.stmt) for node in ast.walk(tree)) - docstrings


def _has_layers(checkout: Path) -> bool:
    project = tomllib.loads((checkout / "pyproject.toml").read_text())
    return "importlinter" in project.get("tool", {})


def main() -> None:
    """Print them as a table."""
    checkout = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    commit = subprocess.run(  # where there is no git, nothing is printed for it
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    print(f"| at {commit} | |\n| --- | --- |")
    for name, value in figures(checkout):
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
