"""
What revisions change in the process does not outlive their run: the next one may be another's.

A warm container serves many databases. A revision may set a variable that libpq or botocore
reads, configure logging, or close what we print to.
"""

from __future__ import annotations

import gc
import locale
import logging
import os
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from core.postgres.session import DRIVER_TABLES

_OUR_LOGGERS = ("", "core", "handlers", "alembic", "sqlalchemy", "botocore")


@contextmanager
def contained() -> Iterator[None]:
    """Run what is inside, and then have the process as it was before."""
    restores = [
        keep()
        for keep in (
            _variables,
            _locale,
            _folder,
            _limits,
            _logging,
            _streams,
            _interpreter,
            _signals,
            _driver,
        )
    ]
    try:
        yield
    finally:
        for restore in restores:
            restore()


def _variables() -> Callable[[], None]:
    before = dict(os.environ)

    def restore() -> None:
        if dict(os.environ) != before:
            os.environ.clear()
            os.environ.update(before)
            time.tzset()

    return restore


def _folder() -> Callable[[], None]:
    before = os.getcwd()  # noqa: PTH109 - it is kept as it is
    return lambda: os.chdir(before)


def _locale() -> Callable[[], None]:
    # It decides in which encoding files are read.
    before = locale.setlocale(locale.LC_ALL)

    def restore() -> None:
        locale.setlocale(locale.LC_ALL, before)

    return restore


def _limits() -> Callable[[], None]:
    # Only to set the mask tells it.
    mask = os.umask(0o077)
    os.umask(mask)
    wanted, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

    def restore() -> None:
        os.umask(mask)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Nobody but root can raise the hard one again.
        is_lowered = most != resource.RLIM_INFINITY and not 0 <= wanted <= most
        resource.setrlimit(resource.RLIMIT_NOFILE, (most if is_lowered else wanted, most))

    return restore


def _logging() -> Callable[[], None]:
    level = logging.root.manager.disable
    loggers = [logging.getLogger(name) for name in _OUR_LOGGERS]
    # To configure logging switches off every logger that is there.
    off = {
        one: one.disabled
        for one in logging.root.manager.loggerDict.values()
        if isinstance(one, logging.Logger)
    }
    before = [
        (one, one.level, list(one.handlers), list(one.filters), one.propagate, one.disabled)
        for one in loggers
    ]

    def restore() -> None:
        logging.disable(level)
        for one, was_off in off.items():
            one.disabled = was_off
        for one, its_level, handlers, filters, propagate, disabled in before:
            one.setLevel(its_level)
            one.handlers, one.filters = handlers, filters
            one.propagate, one.disabled = propagate, disabled

    return restore


def _streams() -> Callable[[], None]:
    before = (sys.stdout, sys.stderr)
    # A descriptor of our own each: a revision may close the one that we print to.
    kept = [os.dup(one) for one in (1, 2)]

    def restore() -> None:
        for ours, number in zip(kept, (1, 2), strict=True):
            os.dup2(ours, number)
            os.close(ours)
        sys.stdout, sys.stderr = (
            open(number, "w", closefd=False, buffering=1) if one.closed else one  # noqa: SIM115
            for one, number in zip(before, (1, 2), strict=True)
        )
        for one in map(logging.getLogger, _OUR_LOGGERS):
            for handler in one.handlers:
                if isinstance(handler, logging.StreamHandler) and handler.stream.closed:
                    # Not by setStream, which flushes the closed one first.
                    handler.stream = sys.stdout

    return restore


def _interpreter() -> Callable[[], None]:
    timeout, depth = socket.getdefaulttimeout(), sys.getrecursionlimit()
    collects, state = gc.isenabled(), random.getstate()

    def restore() -> None:
        socket.setdefaulttimeout(timeout)
        sys.setrecursionlimit(depth)
        (gc.enable if collects else gc.disable)()
        random.setstate(state)

    return restore


def _signals() -> Callable[[], None]:
    wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGCHLD, signal.SIGPIPE)
    before = {one: signal.getsignal(one) for one in wanted}

    def restore() -> None:
        for one, handler in before.items():
            # Outside of the main thread nobody could have changed them.
            with suppress(ValueError, TypeError):
                signal.signal(one, handler)

    return restore


def _driver() -> Callable[[], None]:
    before: list[tuple[dict[Any, Any], dict[Any, Any]]] = [
        (table, dict(table)) for table in DRIVER_TABLES
    ]

    def restore() -> None:
        for table, entries in before:
            table.clear()
            table.update(entries)

    return restore
