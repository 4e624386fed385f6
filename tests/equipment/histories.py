"""
The history that the tests run on, and small ones written to a folder and run by our own ``env.py``.

Whatever is deployed from ``alembic/``, or from a team's folder, the tests know what they run.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from core.revisions.folder import Folder
from core.revisions.runner import Revisions
from core.settings import ROOT

OURS = Folder(ROOT / "tests" / "history")

_SCRIPT = '''"""{description}"""

from alembic import op

from core import operations

revision = {revision!r}
down_revision = {previous!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    {downgrade}
'''


def copy_of_ours(folder: Path, *, versions: bool = False) -> Path:
    """
    Write our Alembic environment into *folder*, with our revisions or none, and return its ini.

    The promises are ours in either case, and hold for the revisions that they name.
    """
    made = Folder(folder / "alembic")
    if versions:
        shutil.copytree(OURS.versions, made.versions, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        made.versions.mkdir(parents=True)
    shutil.copy(OURS.promises, made.path)
    for name in ("env.py", "script.py.mako"):
        shutil.copy(ROOT / "alembic" / name, made.path)
    shutil.copy(ROOT / "alembic.ini", folder)
    return folder / "alembic.ini"


def history_of(
    folder: Path, upgrades: Mapping[str, str], downgrades: Mapping[str, str] | None = None
) -> Revisions:
    """
    Write a history into *folder*: one revision for each identifier of *upgrades*.

    The values are single Python statements.
    """
    ini = copy_of_ours(folder)
    previous = None
    for revision, upgrade in upgrades.items():
        (folder / "alembic" / "versions" / f"{revision}.py").write_text(
            _SCRIPT.format(
                description=f"Revision {revision}",
                revision=revision,
                previous=previous,
                upgrade=upgrade,
                downgrade=(downgrades or {}).get(revision, "pass"),
            )
        )
        previous = revision
    return Revisions(ini)


def lines_of(folder: Path, scripts: Mapping[str, str]) -> Revisions:
    """Write a history into *folder* of *scripts* that are whole files, by identifier."""
    ini = copy_of_ours(folder)
    for revision, text in scripts.items():
        (folder / "alembic" / "versions" / f"{revision}.py").write_text(text)
    return Revisions(ini)


def folder_of(path: Path, upgrades: Mapping[str, str], *, promises: str = "") -> Folder:
    """
    Write a team's folder of migrations: one revision for each identifier of *upgrades*.

    What is there already of other revisions goes. The values are single Python statements.
    """
    folder = Folder(path)
    shutil.rmtree(folder.versions, ignore_errors=True)
    folder.versions.mkdir(parents=True)
    folder.promises.write_text(promises)
    previous = None
    for revision, upgrade in upgrades.items():
        (folder.versions / f"{revision}.py").write_text(
            _SCRIPT.format(
                description=f"Revision {revision}",
                revision=revision,
                previous=previous,
                upgrade=upgrade,
                downgrade="pass",
            )
        )
        previous = revision
    return folder


def table(name: str) -> str:
    """Return the statement of a revision that makes the table *name* in ``public``."""
    return f'op.execute("CREATE TABLE public.{name} ()")'
