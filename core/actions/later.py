"""
An event whose run cannot go on yet, put off: it waits in the stack's own queue, whole.

``handlers/waited.py`` reads what is written here. What waits costs nobody a place to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from core.model import Waiting


class Queue(Protocol):
    """Where events wait; ``core.aws`` has the real one."""

    def ask_later(
        self, event: Mapping[str, object], waiting: Mapping[str, str], *, delay_seconds: int
    ) -> None: ...


def ask_later(
    queue: Queue, event: Mapping[str, object], waiting: Waiting, *, delay_seconds: int
) -> None:
    """Have *event* come again after *delay_seconds*, with what is known of its *waiting*."""
    written = {
        "since": waiting.since.isoformat(timespec="seconds"),
        "until": waiting.until.isoformat(timespec="seconds"),
        "times": str(waiting.times),
    }
    queue.ask_later(event, written, delay_seconds=delay_seconds)
