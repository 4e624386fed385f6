"""Ports: nobody is given one that another process was given and does not listen on yet."""

from __future__ import annotations

import subprocess
import sys

import pytest

from infra.local import state
from tests.conftest import ROOT

ASK = "from infra.local import state; print(state.free_port(), flush=True); input()"


def test_a_port_is_given_to_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as that runs, whether it listens or not."""
    with subprocess.Popen(
        [sys.executable, "-c", ASK],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        monkeypatch.setattr(state, "PORTS", [port, *range(port + 1, port + 20)])
        given = [state.free_port() for _ in range(5)]
        is_theirs = not state._lock_port(port)
        other.communicate("\n")

    monkeypatch.setattr(state, "PORTS", [port])
    assert port not in given
    assert is_theirs
    assert len(set(given)) == len(given)
    assert state.free_port() == port
