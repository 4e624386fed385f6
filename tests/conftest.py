"""What all tests share: the sample events, and comparison with golden files."""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra import migrations
from infra.local import shell
from tests.equipment.histories import OURS

pytest_plugins = ["tests.equipment.local_aws"]

ROOT = Path(__file__).resolve().parent.parent

# What any command of ours is about in a test: the history of the tests, whoever deploys what.
os.environ[migrations.VARIABLE] = str(OURS.path)
# Nor does a test go to whatever AWS or database the shell is for.
shell.forget()


def pytest_configure() -> None:
    """Hear of interrupts, also where a shell that put us into the background ignores them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # What the tests import stays until the end: the garbage collector need not look at it.
    gc.disable()


def pytest_collection_finish() -> None:
    """Have the garbage collector look at what comes from now on."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def load_event() -> Callable[[str], Any]:
    """Return the sample of a name in ``events/``."""
    return lambda name: json.loads((ROOT / "events" / f"{name}.json").read_text())


@pytest.fixture
def check_golden() -> Callable[[str, str], None]:
    """Compare a text with the golden file of a name; ``make golden`` writes that file anew."""

    def check(name: str, text: str) -> None:
        file = ROOT / "tests" / "golden" / name
        if os.environ.get("DAY2_WRITE_GOLDEN") == "1":
            file.write_text(text)
        assert text == file.read_text()

    return check
