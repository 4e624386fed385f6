"""
Make a folder of migrations that a team keeps in a repository of its own.

    make new-migrations DIR=../acme-migrations

The files are those of ``infra/scaffold``, and a first revision to fill in.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from core.revisions.folder import Folder
from core.settings import ROOT
from infra.commands import parser
from infra.local import workflow

SCAFFOLD = ROOT / "infra" / "scaffold"
# Where each file of the scaffold goes.
PLACES = {
    "Makefile": "Makefile",
    "README.md": "README.md",
    "gitignore": ".gitignore",
    "migrations.yml": ".github/workflows/migrations.yml",
    "promises.toml": "promises.toml",
}
FIRST = "First role"
USAGE = "make new-migrations DIR=../acme-migrations"

# Names that make, a shell and a file system on any machine take as they are.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+ -]*")


class WrongPlaceError(Exception):
    """No folder can be made there; the message is one line and says why."""


def make(text: str) -> Path:
    """
    Make the folder that *text* names, and return it.

    Raises:
        WrongPlaceError: There is something already, or it is not the name of a new folder;
            nothing is left there.
    """
    if not text.strip():
        raise WrongPlaceError(f"say where: {USAGE}")
    place = Path(text).expanduser().absolute()
    if not text.isprintable() or not _PLAIN.fullmatch(place.name):
        raise WrongPlaceError(
            f"DIR={text!r}: name it with letters, digits, dots, dashes and underscores, such as "
            "../acme-migrations"
        )
    place = place.resolve()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        what = "a folder with something in it" if place.is_dir() else "a file"
        raise WrongPlaceError(f"DIR={text} is {what}: name a new folder, or an empty one")
    if not place.parent.is_dir():
        raise WrongPlaceError(f"DIR={text}: there is no folder {place.parent}: make it first")
    try:
        # It appears whole, or not at all.
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as temporary:
            made = Path(temporary) / place.name
            _fill(Folder(made), beside=_beside(place))
            made.rename(place)
    except OSError as error:
        raise WrongPlaceError(f"DIR={text} cannot be made: {error.strerror or error}") from error
    return place


def _fill(folder: Folder, *, beside: str) -> None:
    """Write the files of the scaffold into *folder*, and the first revision."""
    folder.versions.mkdir(parents=True)
    pin, repository = _origin()
    values = {
        "@NAME@": folder.path.name,
        "@PIN@": pin,
        "@REPOSITORY@": repository,
        "@BESIDE@": beside,
    }
    for name, place in PLACES.items():
        text = (SCAFFOLD / name).read_text()
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        file = folder.path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    workflow.new_revision(FIRST, folder)


def _beside(place: Path) -> str:
    """Return where the Makefile of a folder at *place* looks for day2 first."""
    is_beside = ROOT.parent == place.parent and " " not in ROOT.name
    return f"../{ROOT.name}" if is_beside else "../day2"


def _origin() -> tuple[str, str]:
    """Return the tag or the commit of this checkout, and where it was cloned from, if anywhere."""
    tag = _git("describe", "--tags", "--exact-match")
    url = _git("remote", "get-url", "origin")
    parts = urlsplit(url)
    if parts.scheme and "@" in parts.netloc and parts.scheme != "ssh":
        # Whose token that is, everybody would read.
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    # A folder of this machine, or what a file of make would take for something else.
    is_remote = ":" in url and not set(url) & set("$'# ") and parts.scheme != "file"
    return tag or _git("rev-parse", "HEAD"), url if is_remote else ""


def _git(*arguments: str) -> str:
    """Return what git says of this checkout; nothing where it is not one, or git is missing."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return ""
    done = subprocess.run(
        [git, "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def main() -> int:
    """Make the folder, and say what to do next."""
    text = os.environ.get("DIR", "")
    try:
        place = make(text)
    except WrongPlaceError as error:
        print(error, file=sys.stderr)
        return 2
    (first,) = (place / "versions").glob("*.py")
    print(
        f"{place} is made. Next:\n\n"
        f"  cd {shlex.quote(str(place) if text.startswith('~') else text)}\n"
        f"  fill in versions/{first.name}, and promise in promises.toml what it makes\n"
        "  make test-migrations      tells what is wrong, or missing\n"
        "  make test-lambda          a local database, migrated by the function"
    )
    return 0


if __name__ == "__main__":
    parser("infra.new_migrations", __doc__).parse_args()
    sys.exit(main())
