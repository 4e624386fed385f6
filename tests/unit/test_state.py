"""Where the states of the local AWS are: the folder asked for, and memory where it serves."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra.local import state

BLOCK = 4096
PLENTY = state._PLENTY_BYTES // BLOCK

# What is asked for by name, how large memory is in blocks, its flags; and whether it is taken.
MEMORY = {
    "plenty": ("", PLENTY, 0, True),
    "small": ("", PLENTY - 1, 0, False),
    "no programs": ("", PLENTY, getattr(os, "ST_NOEXEC", 8), False),
    "not there": ("", None, 0, False),
    "another is asked for": ("elsewhere", PLENTY, 0, False),
}


@pytest.mark.parametrize("case", MEMORY)
def test_memory_holds_what_ends_with_its_process(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it has room for servers and lets their libraries be loaded; else the shared folder."""
    asked, blocks, flag, is_taken = MEMORY[case]
    memory, shared = tmp_path / "memory", tmp_path / "shared"
    memory.mkdir()

    def look(folder: Path) -> SimpleNamespace:
        assert folder == memory
        if blocks is None:
            raise FileNotFoundError(folder)
        return SimpleNamespace(f_blocks=blocks, f_frsize=BLOCK, f_flag=flag)

    monkeypatch.setattr(os, "ST_NOEXEC", 8, raising=False)
    monkeypatch.setattr(os, "statvfs", look)
    monkeypatch.setattr(state, "_MEMORY", memory)
    monkeypatch.setattr(state, "shared_folder", lambda: shared)
    monkeypatch.setenv("DAY2_STATE", asked)

    assert (state.fleeting_folder().parent == memory) is is_taken
