"""
A folder of migrations: ``versions/``, ``promises.toml``, and what a team keeps beside them.

It is all that a team writes; ``alembic.ini`` and ``env.py`` are ours. The examples are such a
folder, and what is meant where nobody names another.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from core.errors import RunFailed
from core.settings import ROOT


class Folder(NamedTuple):
    """A folder of migrations, at an absolute *path*."""

    path: Path

    @property
    def versions(self) -> Path:
        """Where the scripts are."""
        return self.path / "versions"

    @property
    def promises(self) -> Path:
        """The file that says what they leave behind."""
        return self.path / "promises.toml"

    @property
    def listed(self) -> Path:
        """The list of the scripts that packaging writes; a folder that is worked in has none."""
        return self.path / "history.json"

    @property
    def packaged_for(self) -> Path:
        """What packaging writes of the Python and the helpers that it was made with."""
        return self.path / "layer.json"

    @classmethod
    def named(cls, text: str, by: str) -> Folder:
        """
        Return the folder that *text* names, where *by* says who named it, such as a variable.

        Raises:
            RunFailed: There is none, or it lacks what makes it one; in one line, with the cure.
        """
        said = f"{by}={text}"
        if not text.strip():
            raise RunFailed(f"{said} names no folder: give one, or leave {by} out for the examples")
        if not text.isprintable():
            raise RunFailed(f"{by}={text!r} is not the name of a folder: a name is one line")
        folder = cls(Path(text).expanduser().absolute())
        if not folder.path.exists():
            raise RunFailed(
                f"{said}: there is no folder {folder.path}: correct the path, or make one by "
                f"make new-migrations DIR={text}"
            )
        if not folder.path.is_dir():
            raise RunFailed(f"{said} is a file: name the folder that has versions/ in it")
        if not folder.versions.is_dir():
            if folder.path.name == "versions" and folder.path.with_name("promises.toml").exists():
                raise RunFailed(f"{said}: name the folder above it, {folder.path.parent}")
            raise RunFailed(
                f"{said} has no folder versions/: name the folder that the revisions' own folder "
                "is in, or make it there"
            )
        if not folder.promises.is_file():
            raise RunFailed(
                f"{said} has no promises.toml, by which check goes and logins are kept: make it "
                "there; an empty one promises nothing"
            )
        return folder


EXAMPLES = Folder(ROOT / "alembic")
