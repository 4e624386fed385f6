"""The virtual environments: made once, whoever asks for them at the same time."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra import environments
from tests.conftest import ROOT
from tests.equipment.waiting import wait_for


def test_what_stands_in_the_way_is_one_line(tmp_path: Path) -> None:
    """A checkout that nobody may write to, or a library that is not to be had."""
    requirements = tmp_path / "infra" / "requirements"
    requirements.mkdir(parents=True)
    (requirements / "nothing.txt").write_text("./no-such-folder\n")
    program = shutil.copy(ROOT / "infra" / "environments.py", tmp_path / "infra")
    (tmp_path / "file").touch()

    for made, said in (
        (tmp_path / "file", "set DAY2_MADE to a folder that you can write to"),
        (tmp_path / "made", ".venvs/nothing was not made: python -m pip ended with 1"),
    ):
        ran = subprocess.run(
            [sys.executable, program, "nothing"],
            env={"DAY2_MADE": str(made)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 1
        assert ran.stderr.splitlines()[-1].endswith(said)
        assert "Traceback" not in ran.stderr


def test_an_interrupt_ends_it(tmp_path: Path) -> None:
    """At once, and what is half made is made anew by the next command."""
    requirements = tmp_path / "infra" / "requirements"
    requirements.mkdir(parents=True)
    (requirements / "nothing.txt").touch()
    program = shutil.copy(ROOT / "infra" / "environments.py", tmp_path / "infra")
    begun = subprocess.Popen(
        [sys.executable, program, "nothing"], stderr=subprocess.PIPE, text=True
    )
    made = tmp_path / ".venvs" / "nothing"
    wait_for(made.exists, "the beginning")

    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=90)

    assert begun.returncode == 130
    assert said.splitlines()[1:] == ["interrupted: what was not made is made by the next command"]
    assert not (made / "made-from").exists()


def test_pip_does_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """How a registry is reached is the shell's to say, and not where libraries go."""
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("PIP_RETRIES", "7")

    variables = environments.for_pip()

    assert "PIP_TARGET" not in variables
    assert variables["PIP_RETRIES"] == "7"
    assert variables["PATH"]


def test_commands_side_by_side_make_an_environment_once(tmp_path: Path) -> None:
    """Each begins by removing what is there: the other's, half made."""
    requirements = tmp_path / "infra" / "requirements"
    requirements.mkdir(parents=True)
    (requirements / "nothing.txt").touch()
    program = shutil.copy(ROOT / "infra" / "environments.py", tmp_path / "infra")
    command = [sys.executable, program, "nothing"]

    begun = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={}) for _ in range(3)]
    printed = [one.communicate(timeout=90)[1] for one in begun]

    assert [one.returncode for one in begun] == [0, 0, 0], printed
    assert sum("installing" in one for one in printed) == 1
    assert (tmp_path / ".venvs" / "nothing" / "made-from").exists()
