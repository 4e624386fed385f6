"""
The history as the package lists it, so that nothing has to be imported to know it.

Packaging writes ``history.json`` into the folder of migrations, from what the scripts say. A
checkout has none, and reads them: that grows with their number.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from core.errors import RunFailed
from core.revisions.folder import Folder

# The newest entry of tests/contract/operations.toml: what the helpers of this build can do.
CONTRACT = "1.0"


class Revision(NamedTuple):
    """
    One Alembic script of this build.

    Attributes:
        checksum: Of its *file* and of the *sql_files* that it runs, as in the history.
    """

    identifier: str
    description: str
    file: Path
    checksum: str
    sql_files: tuple[Path, ...] = ()


def is_script(name: str) -> bool:
    """Say whether a file of this *name* among the revisions is a script, as Alembic sees it."""
    return name.endswith(".py") and not name.startswith((".#", "__init__"))


def read(folder: Folder) -> tuple[Revision, ...] | None:
    """
    Return the history that is listed in *folder*, oldest first.

    ``None`` where there is no list, or where it is not of the scripts that lie there: the same
    names and sizes. Their content it vouches for, as it comes out of the same zip.
    """
    try:
        listed = json.loads(folder.listed.read_bytes())
    except FileNotFoundError:
        return None
    if {name: entry["size"] for name, entry in listed.items()} != _scripts_in(folder.versions):
        return None
    history = tuple(
        Revision(
            entry["identifier"],
            entry["description"],
            folder.versions / name,
            entry["checksum"],
            tuple(folder.versions / file for file in entry.get("sql_files", {})),
        )
        for name, entry in listed.items()
    )
    for one, entry in zip(history, listed.values(), strict=True):
        if one.sql_files and _sizes(one, folder.versions) != entry["sql_files"]:
            return None
    return history


def read_layer(folder: Folder) -> tuple[Revision, ...]:
    """
    Return the history in *folder*, which a layer of its own brought; only what it lists counts.

    Raises:
        RunFailed: The layer is not one that was packaged whole, for this Python and by helpers
            that are in this build.
    """
    try:
        said = json.loads(folder.packaged_for.read_bytes())
        history = read(folder)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _broken(f"cannot be read ({type(error).__name__}: {error})") from error
    if not history:
        raise _broken("is empty" if history == () else "has other files than its list says")
    ours = sys.implementation.cache_tag
    if said.get("python") != ours:
        raise _broken(f"has the byte code of {said.get('python')}, and this function runs {ours}")
    if _minor(str(said.get("contract"))) > _minor(CONTRACT):
        raise _broken(
            f"uses the helpers of contract {said['contract']}, and this function has {CONTRACT}",
            "deploy the day2 that packaged it",
        )
    return history


def _minor(contract: str) -> int:
    """Return how much was added in *contract*, such as 1.2."""
    digits = contract.rpartition(".")[2]
    return int(digits) if digits.isdecimal() else sys.maxsize


def _broken(
    problem: str, remedy: str = "package and deploy it again: make deploy MIGRATIONS=…"
) -> RunFailed:
    """Return the error of a layer with *problem*."""
    return RunFailed(f"the layer with the migrations {problem}: {remedy}; nothing was touched")


def write(folder: Folder, history: Sequence[Revision]) -> None:
    """List *history*, oldest first, in *folder*."""
    listed = {
        one.file.name: {
            "identifier": one.identifier,
            "description": one.description,
            "size": one.file.stat().st_size,
            "checksum": one.checksum,
            **({"sql_files": _sizes(one, one.file.parent)} if one.sql_files else {}),
        }
        for one in history
    }
    folder.listed.write_text(json.dumps(listed, indent=1) + "\n")


def _sizes(revision: Revision, folder: Path) -> dict[str, int | None]:
    """Return the size in bytes of each file that *revision* runs; ``None`` where it is gone."""
    return {
        file.relative_to(folder).as_posix(): file.stat().st_size if file.is_file() else None
        for file in revision.sql_files
    }


def _scripts_in(folder: Path) -> dict[str, int]:
    """Return the size of every script in *folder*, in bytes, by name."""
    with os.scandir(folder) as entries:
        return {one.name: one.stat().st_size for one in entries if is_script(one.name)}
