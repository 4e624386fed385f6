"""What the scripts of a folder of migrations import, by their text: what lies beside, and other."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from core.revisions.folder import Folder
from core.revisions.manifest import is_script

_LOCKS = Path(__file__).parent / "requirements"


class Import(NamedTuple):
    """
    One import of the module *name*, without what it has below, in a *line* of *file*.

    Attributes:
        is_guarded: Whether it is behind an ``if`` or a ``try``: it may do without.
    """

    name: str
    file: Path
    line: int
    is_guarded: bool


class Imports(NamedTuple):
    """
    What a folder's scripts need, and what that needs.

    Attributes:
        beside: The modules beside ``versions/``, each a file or a folder.
        missing: What is neither there nor in the function.
    """

    beside: frozenset[Path]
    missing: tuple[Import, ...]


def of(folder: Folder) -> Imports:
    """Return what the scripts in *folder* import."""
    beside: set[Path] = set()
    missing: list[Import] = []
    todo = sorted(one for one in folder.versions.iterdir() if is_script(one.name))
    while todo:
        for one in _read(todo.pop(0)):
            # As when they are run, a module of ours or of a library goes before one beside them.
            if one.name in _in_the_function():
                continue
            places = (folder.path / f"{one.name}.py", folder.path / one.name)
            found = next((place for place in places if place.exists()), None)
            if found is None:
                missing += [] if one.is_guarded else [one]
            elif found not in beside:
                beside.add(found)
                todo += sorted(found.rglob("*.py")) if found.is_dir() else [found]
    return Imports(frozenset(beside), tuple(missing))


def _read(file: Path) -> Iterator[Import]:
    """Yield what *file* imports; what cannot be read is for others to tell."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Try | ast.If)
        for one in node.body
        for inner in ast.walk(one)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                modules = [one.name for one in names]
            case ast.ImportFrom(module=str(module), level=0):
                modules = [module]
            case _:
                continue
        for module in modules:
            yield Import(module.partition(".")[0], file, node.lineno, id(node) in guarded)


@cache
def _in_the_function() -> frozenset[str]:
    """Return the modules that the function has: Python's, ours, the layer's and AWS's."""
    locked = {
        name
        for lock in ("layer.txt", "lambda.txt")
        for name in re.findall(r"^([a-z0-9-]+)==", (_LOCKS / lock).read_text(), re.MULTILINE)
    }
    libraries = {
        module
        for module, distributions in importlib.metadata.packages_distributions().items()
        if locked & {re.sub(r"[-_.]+", "-", one).lower() for one in distributions}
    }
    return frozenset({*sys.stdlib_module_names, *libraries, "core", "handlers"})
