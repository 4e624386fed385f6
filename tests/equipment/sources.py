"""Our own sources, as the tests that hold the house in order read them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def parsed(path: Path) -> ast.Module:
    """Return the module in *path*, parsed once for all tests."""
    return ast.parse(path.read_text())


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return each node of the module in *path*, those that hold others first."""
    return tuple(ast.walk(parsed(path)))
