"""The project's documents, read as a person who follows them reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

_AWAY = {"build", "node_modules"}
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def names() -> list[str]:
    """Return each document's path from the root; the README is the first."""
    found = []
    for folder, folders, files in os.walk(ROOT):
        # What is hidden or built is not ours, and large; a team's migrations are not ours either.
        folders[:] = [
            one
            for one in folders
            if one not in _AWAY
            and not one.startswith(".")
            and (one == "alembic" or not Path(folder, one, "promises.toml").exists())
        ]
        found += [Path(folder, one).relative_to(ROOT).as_posix() for one in files]
    documents = (name for name in found if name.endswith(".md"))
    return sorted(documents, key=lambda name: (name != "README.md", name))


def text(name: str) -> str:
    """Return the document *name*."""
    return (ROOT / name).read_text()


def fences(name: str) -> list[tuple[str, str]]:
    """Return language and text of each block of code in the document *name*."""
    return [(found[2], found[3]) for found in _FENCE.finditer(text(name))]


def prose(name: str) -> str:
    """Return the document *name* without its blocks of code."""
    return _FENCE.sub("", text(name))


def code(name: str) -> list[str]:
    """Return what stands between backticks in the prose of *name*."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(name))]


def commands(name: str) -> list[str]:
    """Return each command that the document *name* shows, without what it says of it."""
    return [
        command
        for language, block in fences(name)
        if language == "console"
        for command in _commands(block)
    ]


def _commands(block: str) -> Iterator[str]:
    """Yield the commands of *block*, each with the lines that it goes on in as one line."""
    for line in re.sub(r"\\\n\s*", "", block).splitlines():
        if line.strip().startswith("$ "):
            yield re.sub(r"\s+# .*", "", line.strip().removeprefix("$ "))


def rows(name: str, header: str) -> list[list[str]]:
    """Return the cells of each row of the table in *name* whose first line starts so."""
    lines = text(name).splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.startswith(f"| {header} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


def anchors(name: str) -> set[str]:
    """Return what a link may name in *name*: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", prose(name), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
