"""``MIGRATIONS=…`` of make: handed on as it was given, or refused in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra import migrations
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "a1  One"),
        ("", "MIGRATIONS= names no folder"),
        ("/nowhere", "MIGRATIONS=/nowhere: there is no folder /nowhere"),
    ],
)
def test_make_hands_it_over(tmp_path: Path, given: str | None, said: str) -> None:
    """As it was given, a space and an empty one included."""
    acme = tmp_path / "acme migrations"
    (acme / "versions").mkdir(parents=True)
    (acme / "promises.toml").touch()
    (acme / "versions" / "a1.py").write_text('"""One"""\nrevision = "a1"\ndown_revision = None\n')
    kept = {name: value for name, value in os.environ.items() if name != migrations.VARIABLE}
    done = subprocess.run(
        [
            "make",
            "-s",
            "list-migrations",
            f"MIGRATIONS={acme if given is None else given}",
            "needs=@:",
            f"DEV={sys.executable}",
        ],
        cwd=ROOT,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout + done.stderr).startswith(said)
    assert (done.returncode == 0) is (given is None)
