"""
What the revisions leave in the catalogue, on file in ``golden/`` of the folder, for review.

A file tells the difference between an empty database and one at head, without what is day2's own:
a release of day2 changes no team's files. One serves every newer PostgreSQL that would say the
same.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.revisions.folder import Folder

FOLDER = "golden"
WRITE = "make test-migrations GOLDEN=write"


def compared(folder: Folder, major: int, found: Sequence[str]) -> list[str]:
    """Return what is wrong with the file for *major*, of which *found* are to be the lines."""
    files = _files(folder)
    known = [one for one in files if one <= major]
    if not known:
        return [f"there is no {FOLDER}/catalog_{major}.txt to compare with: {WRITE}, and review it"]
    file = files[max(known)]
    kept = file.read_text().splitlines()
    if kept == list(found):
        return []
    lines = list(difflib.unified_diff(kept, found, lineterm="", n=0))[2:]
    changes = "\n".join(f"    {line}" for line in lines if not line.startswith("@@"))
    fault = f"the catalogue at head is another than {FOLDER}/{file.name} says: if that is meant, "
    return [f"{fault}{WRITE}, and review it as a diff\n{changes}"]


def write(folder: Folder, found: Mapping[int, Sequence[str]]) -> list[str]:
    """
    Write the files of the majors that are *found*, and return the names of those there are then.

    One that would say what the next older one says is left out; one of a major that was not
    tried stays.
    """
    files = _files(folder)
    (folder.path / FOLDER).mkdir(exist_ok=True)
    for major in sorted(found):
        older = [one for one in files if one < major]
        text = "".join(f"{line}\n" for line in found[major])
        file = folder.path / FOLDER / f"catalog_{major}.txt"
        if older and files[max(older)].read_text() == text:
            file.unlink(missing_ok=True)
            files.pop(major, None)
        else:
            file.write_text(text)
            files[major] = file
    return [f"{FOLDER}/{files[major].name}" for major in sorted(files)]


def _files(folder: Folder) -> dict[int, Path]:
    """Return the files that there are, by the major version of their PostgreSQL."""
    return {
        int(number): file
        for file in (folder.path / FOLDER).glob("catalog_*.txt")
        if (number := file.stem.removeprefix("catalog_")).isdecimal()
    }
