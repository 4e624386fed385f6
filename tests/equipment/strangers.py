"""
The tests with other migrations deployed than the examples: none at all, or a team's own three.

    python -m tests.equipment.strangers tests/unit tests/integration …

Run in a copy of the checkout, whose ``alembic/`` has them. The tests know what they run on, so
they pass all the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from core.revisions.folder import Folder
from core.settings import ROOT

DEPLOYED = ("strange", "empty")

_SCRIPT = '''"""
Acme's {name}

Which, says Acme, is no example of ours.

Going back: it goes.
"""

from alembic import op

from core import operations

revision = "{name}"
down_revision = {down!r}


def upgrade() -> None:
    {up}


def downgrade() -> None:
    {back}
'''
_STEPS = {
    "acme1": ('operations.role("acme_role")', 'operations.drop_role("acme_role")'),
    "acme2": ('operations.schema("acme", owner="acme_role")', 'operations.drop_schema("acme")'),
    "acme3": (
        'op.execute("CREATE TABLE acme.places (name text)")',
        'op.execute("DROP TABLE acme.places")',
    ),
}
_PROMISES = """
[[role]]
name = "acme_role"
since = "acme1"

[[schema]]
name = "acme"
since = "acme2"
owner = "acme_role"
"""


def replace(folder: Folder, deployed: str) -> None:
    """Have *folder* hold what *deployed* says, and nothing of what it held."""
    for path in (folder.versions, folder.path / "golden"):
        shutil.rmtree(path, ignore_errors=True)
    folder.versions.mkdir()
    folder.promises.write_text(_PROMISES if deployed == "strange" else "")
    down = None
    for name, (up, back) in _STEPS.items() if deployed == "strange" else ():
        text = _SCRIPT.format(name=name, down=down, up=up, back=back)
        (folder.versions / f"{name}_of_ours.py").write_text(text)
        down = name


def run(deployed: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run pytest with *arguments* in a copy of the checkout with other migrations."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "day2"
        away = shutil.ignore_patterns(".*cache", ".git", ".venvs", ".hypothesis", "__pycache__")
        shutil.copytree(
            ROOT,
            copy,
            ignore=lambda folder, names: (
                away(folder, names) | ({"build"} if Path(folder) == ROOT else set())
            ),
        )
        (copy / ".venvs").symlink_to(ROOT / ".venvs")
        replace(Folder(copy / "alembic"), deployed)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=copy,
            env=kept,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def main(arguments: list[str]) -> int:
    """Run them with each kind of other migrations; return 0 if every test passed."""
    failed = False
    for deployed in DEPLOYED:
        done = run(deployed, arguments)
        sys.stdout.write(f"alembic/ is {deployed}\n{done.stdout}")
        sys.stdout.flush()
        failed |= done.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
