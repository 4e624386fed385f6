"""A revision interrupted in whatever Python is at work, when its session is cut."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from core.postgres.session import Session
from core.postgres.transactions import OutOfTime


@contextmanager
def interrupted_with(session: Session) -> Iterator[None]:
    """
    Raise OutOfTime in here, in whatever Python is at work, when *session* is cut.

    Only the main thread can be interrupted, and that is the one in which Lambda calls us.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ident = threading.main_thread().ident or 0
    is_running = True

    def interrupt(*_: object) -> None:
        if is_running:
            raise OutOfTime

    before = signal.signal(signal.SIGUSR1, interrupt)
    session.when_cut(lambda: signal.pthread_kill(ident, signal.SIGUSR1))
    try:
        # Twice: the signal may come once more as this is left.
        try:
            yield
        finally:
            is_running = False
    finally:
        is_running = False
        session.when_cut(None)
        signal.signal(signal.SIGUSR1, before)
