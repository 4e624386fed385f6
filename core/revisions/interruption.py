"""What ends a run from outside while a revision is at work: its time, or whoever runs it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any

from core.postgres.lending import Loan
from core.postgres.session import DriverError, Session
from core.postgres.transactions import OutOfTime

# By these a process is told to end. Those that it does not handle end it at once.
_WORDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# It may come just before a statement does, which is then told again.
_TIMES, _AGAIN_SECONDS = 5, 0.2


class Interruption:
    """
    Tells what comes from outside of a run from what a revision raises by itself.

    Only the main thread can be interrupted, and that is the one in which Lambda calls us.

    Attributes:
        word: What the process's own handler of a signal has raised, such as KeyboardInterrupt of
            Ctrl-C, or SystemExit: whoever runs us wants an end. What a revision raises is none.
    """

    def __init__(self, session: Session, loan: Loan) -> None:
        self._session = session
        self._loan = loan
        self._handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {}
        self._is_at_work = False
        self.word: BaseException | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Hear of both inside, in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        ident = threading.main_thread().ident or 0
        before = {one: signal.getsignal(one) for one in (*_WORDS, signal.SIGUSR1)}
        self._handlers = {
            one: self._noting(handler)
            for one, handler in before.items()
            if one in _WORDS and callable(handler)
        }
        self._handlers[signal.SIGUSR1] = self._out_of_time
        self._session.when_cut(lambda: signal.pthread_kill(ident, signal.SIGUSR1))
        try:
            self._listen()
            is_usual = before[signal.SIGINT] is signal.default_int_handler
            with self._cancelling() if is_usual else nullcontext():
                yield
        finally:
            self._session.when_cut(None)
            for one in self._handlers:
                signal.signal(one, before[one])

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """
        Have Python inside interrupted when the session is cut.

        Raises:
            OutOfTime: It was.
            BaseException: The word of whoever runs us, also where a revision has swallowed it.
        """
        # The revision before may have handlers of its own.
        self._listen()
        self._is_at_work = True
        try:
            # Twice: the signal may come once more as this is left.
            try:
                yield
            finally:
                self._is_at_work = False
        finally:
            self._is_at_work = False
        if self.word is not None:
            raise self.word

    def _listen(self) -> None:
        for one, handler in self._handlers.items():
            if signal.getsignal(one) != handler:
                signal.signal(one, handler)

    def _out_of_time(self, *_: object) -> None:
        if self._is_at_work:
            raise OutOfTime

    def _noting(self, handler: Callable[..., Any]) -> Callable[[int, FrameType | None], None]:
        def noting(number: int, frame: FrameType | None) -> None:
            try:
                handler(number, frame)
            except BaseException as error:
                self.word = error
                raise

        return noting

    @contextmanager
    def _cancelling(self) -> Iterator[None]:
        """
        Have the server give up what it is at when Ctrl-C comes.

        The driver waits for an answer outside of Python, whose handlers do not run until then
        (Python documentation, "signal", "Execution of Python signal handlers").
        """
        read, write = os.pipe()
        os.set_blocking(write, False)
        before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        has_ended = threading.Event()

        def watch() -> None:
            while not has_ended.is_set():
                if signal.SIGINT in os.read(read, 64):
                    cancel()

        def cancel() -> None:
            for _ in range(_TIMES):
                # Not for a revision that takes it itself.
                is_ours = signal.getsignal(signal.SIGINT) == self._handlers[signal.SIGINT]
                if not is_ours or self.word is not None or has_ended.is_set():
                    return
                with suppress(DriverError):
                    self._loan.cancel()
                has_ended.wait(_AGAIN_SECONDS)

        watching = threading.Thread(target=watch, name="Ctrl-C", daemon=True)
        watching.start()
        try:
            yield
        finally:
            has_ended.set()
            signal.set_wakeup_fd(before)
            # Not by closing it, which a process that a revision forked may have open.
            os.write(write, b"\0")
            watching.join()
            os.close(write)
            os.close(read)
