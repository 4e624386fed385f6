"""How long a run may still take, and how long to pause between tries."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator


class Budget:
    """
    The seconds that a run may still spend: the function's own time less a margin.

    Args:
        remaining_seconds: The seconds left until the platform ends us.
        margin_seconds: Kept back, so that what happened can be reported.
        sleep: Takes seconds.
    """

    def __init__(
        self,
        remaining_seconds: Callable[[], float],
        margin_seconds: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._remaining_seconds = remaining_seconds
        self._margin_seconds = margin_seconds
        self.sleep = sleep

    def left(self) -> float:
        """Return the seconds left, zero or more."""
        return max(0.0, self._remaining_seconds() - self._margin_seconds)

    @classmethod
    def of(cls, seconds: float, margin_seconds: float = 0.0) -> Budget:
        """Return a budget of *seconds* from now."""
        end = time.monotonic() + seconds
        return cls(lambda: end - time.monotonic(), margin_seconds)


def pauses(first_seconds: float = 0.1, most_seconds: float = 5.0) -> Iterator[float]:
    """
    Yield seconds to wait between tries, doubling up to *most_seconds*, with jitter.

    The jitter is what keeps a fleet's runs from knocking in step (AWS Builders' Library,
    "Timeouts, retries, and backoff with jitter").
    """
    pause = first_seconds
    while True:
        yield random.uniform(pause / 2, pause)  # noqa: S311 - no secret
        pause = min(pause * 2, most_seconds)
