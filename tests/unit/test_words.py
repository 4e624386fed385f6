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
)
# What a translation leaves behind, and what to write instead.
STILTED = {
    r"(?<!there )\b(is|are|was|were) no (?!longer\b|more\b)\w": "X is not a Y",
    r"(?<!there )\b(is|are|was|were) (none|of no) \w": "X is not a Y",
    r"\bholds? no \w": "contains no, or does not hold",
    r"\blets? \S+ not\b": "does not let",
    r"\bby no \w": "not by a",
    r"\blook again\b": "what to do, as a command",
    r"\bseed tool\b": "what it is, for whoever did not see it",
    r"\bdefaults? of the design\b": "the default",
}


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


def stilted(text: str) -> Iterator[str]:
    """Yield what is to be said in other words in *text*, and how."""
    for pattern, better in STILTED.items():
        for found in re.finditer(pattern, text):
            yield f"{found[0]!r}: write {better}"


def test_what_we_say_is_natural() -> None:
    """Each message and docstring, whatever is put into it."""
    wrong = [
        f"{path.relative_to(ROOT).as_posix()}:{line} says {problem}"
        for path in FILES
        for line, text in texts(path)
        for problem in stilted(text)
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

    assert [problem for _, text in texts(path) for problem in stilted(text)]


@pytest.mark.parametrize(
    "text",
    ["what is no longer applied", "there is no folder 'x'", "there are no credentials", "a casino"],
)
def test_plain_english_passes(text: str) -> None:
    """What people say is not called stilted."""
    assert not list(stilted(text))
