"""Messages are read by tired people: what we say is natural, active and short."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.equipment.sources import nodes

FILES = sorted(
    path
    for folder in ("core", "handlers", "infra", "alembic")
    for path in (ROOT / folder).rglob("*.py")
    # What is deployed may be anybody's.
    if "versions" not in path.parts
)
# What a translation leaves behind: "X is no Y" for "X is not a Y", and the like.
STILTED = re.compile(
    r"""
    (?<!there\ )\b(is|are|was|were)\ (none|of\ no|no)\ (?!longer\b|more\b)\w+
    | \bholds?\ no\ \w+
    | \blets?\ \S+\ not\b
    | \bby\ no\ \w+
    | \bthe\ name\ of\ no\b
    | \b(look\ again|seed\ tool|defaults?\ of\ the\ design)\b
    """,
    re.VERBOSE,
)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of each string in *path*; what is put into one reads as a word."""
    inside: set[int] = set()
    for node in nodes(path):
        if isinstance(node, ast.JoinedStr):
            inside.update(map(id, ast.walk(node)))
            values = (one.value if isinstance(one, ast.Constant) else "It" for one in node.values)
            yield node.lineno, "".join(map(str, values))
        elif isinstance(node, ast.Constant) and id(node) not in inside:
            yield node.lineno, str(node.value)


def test_what_we_say_is_natural() -> None:
    """Each message and docstring, whatever is put into it."""
    wrong = [
        f"{path.relative_to(ROOT).as_posix()}:{line} says {found[0]!r}"
        for path in FILES
        for line, text in texts(path)
        for found in STILTED.finditer(text)
    ]

    assert wrong == []


@pytest.mark.parametrize(
    "written",
    [
        '"target is no revision of this build"',
        'f"{value!r} is no boolean"',
        'f"{where} lets {user} not log in"',
        '"the file holds no certificates"',
        '"They are no such line"',
        '"is signed by no CA"',
        'f"{suffix} is of no kind that we know"',
    ],
)
def test_a_stilted_form_is_found(written: str, tmp_path: Path) -> None:
    """In plain text, and where a value is put into the middle."""
    path = tmp_path / "said.py"
    path.write_text(written)

    assert [text for _, text in texts(path) if STILTED.search(text)]


@pytest.mark.parametrize(
    "text",
    ["what is no longer applied", "there is no folder 'x'", "there are no credentials", "a casino"],
)
def test_plain_english_passes(text: str) -> None:
    """What people say is not called stilted."""
    assert not STILTED.search(text)
