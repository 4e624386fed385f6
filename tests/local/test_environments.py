"""The virtual environments: made once, whoever asks for them at the same time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_commands_side_by_side_make_an_environment_once(tmp_path: Path) -> None:
    """Each begins by removing what is there: the other's, half made."""
    requirements = tmp_path / "infra" / "requirements"
    requirements.mkdir(parents=True)
    (requirements / "nothing.txt").touch()
    program = shutil.copy(ROOT / "infra" / "environments.py", tmp_path / "infra")
    command = [sys.executable, program, "nothing"]

    begun = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={}) for _ in range(3)]
    printed = [one.communicate(timeout=60)[1] for one in begun]

    assert [one.returncode for one in begun] == [0, 0, 0], printed
    assert sum("installing" in one for one in printed) == 1
    assert (tmp_path / ".venvs" / "nothing" / "made-from").exists()
