"""The one way to wait for what another process does: until it is seen, however busy the machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

# On a machine that does ten things at once; less than what pytest gives a test.
PATIENCE_SECONDS = 90.0

_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 0.2


def wait_for(
    condition: Callable[[], Found], what: str, *, seconds: float = PATIENCE_SECONDS
) -> Found:
    """
    Return what *condition* returns, once that is true.

    Raises:
        AssertionError: *what* was not seen within *seconds*.
    """
    deadline = time.monotonic() + seconds
    pause = _SHORTEST_PAUSE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not seen within {seconds:.0f} s"
        time.sleep(pause)
        # To look costs whom it waits for time, too.
        pause = min(pause * 1.2, _LONGEST_PAUSE_SECONDS)
    return found
