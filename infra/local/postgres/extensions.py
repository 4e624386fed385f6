"""
The extensions that RDS lets its master make, on a PostgreSQL whose files are not ours.

PostgreSQL lets a role that is not a superuser make an extension only where its control file says
``trusted`` (documentation, "Extension Files"). So the server runs from a folder of our own: its
program copied, as it finds all else from where it is; its libraries and files linked; and the
control files of these extensions written anew. One thing is wider than on RDS: whoever may CREATE
in the database may make them, not only ``rds_superuser``.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from infra.local.postgres.programs import Programs, run
from infra.local.state import shared_folder

# RDS User Guide, "Extension versions for RDS for PostgreSQL"; what is missing here is not trusted
# by PostgreSQL, and not offered by RDS: file_fdw, adminpack, pg_surgery.
EXTENSIONS = (
    "amcheck",
    "autoinc",
    "bloom",
    "dblink",
    "insert_username",
    "moddatetime",
    "pageinspect",
    "pg_buffercache",
    "pg_freespacemap",
    "pg_prewarm",
    "pg_stat_statements",
    "pg_visibility",
    "pg_walinspect",
    "pgrowlocks",
    "pgstattuple",
    "postgres_fdw",
    "refint",
    "sslinfo",
    "xml2",
)


# RDS User Guide, "Shared preload libraries": this one is there by default since PostgreSQL 11.
PRELOADED = "pg_stat_statements"


def preloaded(programs: Programs) -> str:
    """Return ``shared_preload_libraries``: RDS's default as far as this server's files go."""
    _, _, libraries = _folders(programs)
    return PRELOADED if any(libraries.glob(f"{PRELOADED}.*")) else ""


@functools.cache
def server_program(programs: Programs) -> Path:
    """
    Return the ``postgres`` of *programs* that trusts RDS's extensions, made once a checkout.

    Without ``pg_config`` beside it its files are where PostgreSQL's own build puts them.
    """
    programs_folder, share, libraries = _folders(programs)
    top = Path(os.path.commonpath([programs_folder, share, libraries]))
    name = hashlib.sha256(f"{programs}{EXTENSIONS}".encode()).hexdigest()[:8]
    folder = shared_folder() / f"server-{programs.version}-{name}"
    program = folder / programs_folder.relative_to(top) / "postgres"
    if program.exists():
        return program
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / "server"
        _fill(made, top, programs_folder, share, libraries)
        for path in (made, *made.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        # Whoever else makes it at the same time makes the same.
        with contextlib.suppress(OSError):
            made.rename(folder)
    return program


@functools.cache
def _folders(programs: Programs) -> tuple[Path, Path, Path]:
    """Return the folders of the server's programs, its shared files and its libraries."""
    if not (programs.folder / "pg_config").exists():
        top = programs.folder.parent
        return programs.folder, top / "share" / "postgresql", top / "lib" / "postgresql"
    tell = [programs.folder / "pg_config", "--bindir", "--sharedir", "--pkglibdir"]
    programs_folder, share, libraries = map(Path, run(tell).split("\n")[:3])
    return programs_folder, share, libraries


def _fill(made: Path, top: Path, programs_folder: Path, share: Path, libraries: Path) -> None:
    """Fill the folder *made* as *top* is filled, with links wherever nothing is changed."""
    at = made / programs_folder.relative_to(top)
    at.mkdir(parents=True)
    shutil.copy2(programs_folder / "postgres", at / "postgres")
    library = made / libraries.relative_to(top)
    library.parent.mkdir(parents=True, exist_ok=True)
    library.symlink_to(libraries)
    # Those that come with the program are looked for from where it is.
    for file in libraries.parent.glob("*.so*"):
        (library.parent / file.name).symlink_to(file)
    extensions = made / share.relative_to(top) / "extension"
    extensions.mkdir(parents=True)
    for file in share.iterdir():
        if file.name != "extension":
            (extensions.parent / file.name).symlink_to(file)
    for file in (share / "extension").iterdir():
        if file.suffix == ".control" and file.stem in EXTENSIONS:
            lines = [
                line for line in file.read_text().splitlines() if not line.startswith("trusted")
            ]
            (extensions / file.name).write_text("\n".join([*lines, "trusted = true", ""]))
        else:
            (extensions / file.name).symlink_to(file)
