"""The list of revisions that a package ships: trusted only for the scripts that lie beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core.revisions import manifest, scripts
from core.revisions.folder import EXAMPLES, Folder
from tests.conftest import ROOT
from tests.equipment.histories import copy_of_ours

# What takes longest of all that a run with nothing to apply does without.
LEFT_OUT = ("alembic", "sqlalchemy", "tomllib", "core.drift", "core.revisions.scripts")
KNOWS_WITHOUT = """
import sys
from pathlib import Path
from core.actions.carry_out import carry_out
from core.revisions.runner import Revisions
revisions = Revisions(Path(sys.argv[1]) / "alembic.ini")
assert revisions.identifiers and revisions.descriptions and revisions.checksums
print(*sorted({*sys.modules}.intersection(sys.argv[2:])))
"""


@pytest.fixture
def packaged(tmp_path: Path) -> Folder:
    """Lay out the checkout's revisions with their list, as in a package."""
    copy_of_ours(tmp_path, versions=True)
    folder = Folder(tmp_path / "alembic")
    manifest.write(folder, scripts.read(folder.versions))
    return folder


def test_the_list_says_what_the_scripts_say(packaged: Folder) -> None:
    """Every revision in order, with its description, its file and its checksum."""
    assert manifest.read(packaged) == scripts.read(packaged.versions)


def test_a_checkout_has_none() -> None:
    """Whoever writes revisions sees them at once."""
    assert manifest.read(EXAMPLES) is None


@pytest.mark.parametrize("change", ["added", "removed", "resized"])
def test_a_stale_list_is_not_trusted(packaged: Folder, change: str) -> None:
    """Other scripts than those listed: Alembic is asked."""
    first, *_ = sorted(packaged.versions.glob("*.py"))
    match change:
        case "added":
            first.with_name("005_more.py").touch()
        case "removed":
            first.unlink()
        case "resized":
            first.write_text(first.read_text() + "\n")

    assert manifest.read(packaged) is None


def test_with_a_list_only_what_a_run_needs_is_imported(packaged: Folder) -> None:
    """Importing Alembic takes longer than all else that a run with nothing to apply does."""
    done = subprocess.run(
        [sys.executable, "-c", KNOWS_WITHOUT, packaged.path.parent, *LEFT_OUT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == ""
