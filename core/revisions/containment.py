"""
What revisions change in the process does not outlive their run: the next one may be another's.

A warm container serves many databases. A revision may set a variable that libpq or botocore
reads, configure logging, put a function of its own in place of a library's, or close what we
print to. What nobody can put back is told.
"""

from __future__ import annotations

import decimal
import gc
import locale
import logging
import os
import random
import re
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any, NamedTuple, TextIO

from core.postgres.lending import listeners_of_all
from core.postgres.session import CUTTER, DRIVER_TABLES

logger = logging.getLogger(__name__)

_OUR_LOGGERS = ("", "core", "handlers", "alembic", "sqlalchemy", "botocore")

# What all of us stand on, with what is inside of each: who puts another function there, changes
# what the next run does.
_STOOD_ON = frozenset(
    [
        "alembic",
        "boto3",
        "builtins",
        "core",
        "datetime",
        "decimal",
        "handlers",
        "json",
        "logging",
        "os",
        "psycopg2",
        "random",
        "socket",
        "ssl",
        "subprocess",
        "sys",
        "threading",
        "time",
    ]
)
# Those of them whose classes people change, too.
_WITH_CLASSES = ("json", "logging", "psycopg2")

# What Python warns of when a coroutine is thrown away.
_NEVER_RUN = re.compile(r"coroutine .* was never awaited")


class Undone(NamedTuple):
    """Work that a revision began and that was not done, though it went on: why, and its error."""

    why: str
    error: BaseException | None


# Returns what could not be put back, in words, if there is something.
Restore = Callable[[], str | None]


@contextmanager
def contained(tell: Callable[[Sequence[str]], None] = lambda _: None) -> Iterator[None]:
    """Run what is inside, and then have the process as it was before; *tell* what is not."""
    restores = [
        keep()
        for keep in (
            _variables,
            _locale,
            _folder,
            _limits,
            _modules,
            _listeners,
            _logging,
            _streams,
            _interpreter,
            _signals,
            _driver,
        )
    ]
    try:
        with warnings.catch_warnings(), decimal.localcontext():
            yield
    finally:
        lasting = [text for restore in restores if (text := _tried(restore))]
        for text in lasting:
            logger.warning(text)
        if lasting:
            tell(lasting)


def _tried(restore: Restore) -> str | None:
    """Call *restore*, and say so where it fails: the others are called all the same."""
    try:
        return restore()
    except Exception as error:  # noqa: BLE001 - a revision may have broken anything
        return f"a revision left the process changed for good: {type(error).__name__}: {error}"


@contextmanager
def nothing_left(revision: str, tell: Callable[[Sequence[str]], None]) -> Iterator[list[Undone]]:
    """
    Tell what *revision*, which runs inside, leaves running: threads and processes.

    Nobody waits for their work, and none of it is in what is recorded. A process that it forked,
    and that comes back from it as if it were this one, ends here: it would be a second run.
    What was left undone in it without an error is collected in the list that this yields.
    """
    pid, before, had_children = os.getpid(), set(threading.enumerate()), _has_children()
    undone: list[Undone] = []
    try:
        with _heard(undone):
            yield undone
    finally:
        if os.getpid() != pid:
            logger.error(
                "%s: a process that it forked came back from it, and was ended: have it end itself"
                " by os._exit()",
                revision,
                exc_info=sys.exc_info()[0] is not None,
            )
            os._exit(1)
        threads = [
            one.name
            for one in threading.enumerate()
            if one not in before and one.is_alive() and one.name != CUTTER
        ]
        left = [f"the thread {name}" for name in threads]
        left += ["a process"] if _has_children() and not had_children else []
        if left:
            text = (
                f"{revision}: left {', '.join(left)} running: what they still do is part of no "
                "revision, so wait for them in it (join, wait)"
            )
            logger.warning(text)
            tell([text])


@contextmanager
def _heard(undone: list[Undone]) -> Iterator[None]:
    """Collect what Python only prints: an error that ends a thread, and code that nobody runs."""
    hook, show = threading.excepthook, warnings.showwarning

    def ended(thread: threading.ExceptHookArgs) -> None:
        hook(thread)
        name = thread.thread.name if thread.thread else ""
        if thread.exc_value is not None and name != CUTTER:
            undone.append(Undone(f"its thread {name} ended by an error", thread.exc_value))

    def shown(  # noqa: PLR0917 - as Python calls it
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        show(message, category, filename, lineno, file, line)
        if _NEVER_RUN.match(str(message)):
            where = f"{os.path.basename(filename)}:{lineno}"  # noqa: PTH119 - a name, and no path
            undone.append(Undone(f"{where}: {message}: by await or asyncio.run() it is run", None))

    with warnings.catch_warnings():
        warnings.filterwarnings("always", _NEVER_RUN.pattern, RuntimeWarning)
        threading.excepthook = ended
        warnings.showwarning = shown
        try:
            yield
        finally:
            threading.excepthook = hook


def _has_children() -> bool:
    """Say whether a process that we began still runs; one that has ended stays as it is."""
    with suppress(ChildProcessError):
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    return False


def _variables() -> Restore:
    before = dict(os.environ)

    def restore() -> None:
        if dict(os.environ) != before:
            os.environ.clear()
            os.environ.update(before)
            time.tzset()

    return restore


def _folder() -> Restore:
    before = os.getcwd()  # noqa: PTH109 - it is kept as it is
    return lambda: os.chdir(before)


def _locale() -> Restore:
    # It decides in which encoding files are read.
    before = locale.setlocale(locale.LC_ALL)

    def restore() -> None:
        locale.setlocale(locale.LC_ALL, before)

    return restore


def _limits() -> Restore:
    # Only to set the mask tells it.
    mask = os.umask(0o077)
    os.umask(mask)
    # By number: one of them has two names.
    names = {
        getattr(resource, one): one for one in reversed(dir(resource)) if one.startswith("RLIMIT_")
    }
    before = {limit: resource.getrlimit(limit) for limit in names}
    patience = os.getpriority(os.PRIO_PROCESS, 0)

    def restore() -> str | None:
        os.umask(mask)
        lasting = []
        for limit, limits in before.items():
            if (now := resource.getrlimit(limit)) == limits:
                continue
            try:
                resource.setrlimit(limit, limits)
            except (ValueError, OSError):
                # Nobody but root can raise the hard one again.
                is_enough = now[1] == resource.RLIM_INFINITY or 0 <= limits[0] <= now[1]
                resource.setrlimit(limit, (limits[0] if is_enough else now[1], now[1]))
                lasting += [] if is_enough else [f"{names[limit]} at {now[1]}"]
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, patience)
        if (slow := os.getpriority(os.PRIO_PROCESS, 0)) != patience:
            lasting.append(f"the priority at {slow}")
        if not lasting:
            return None
        return (
            f"a revision left {', '.join(lasting)}, which nobody can raise again: what runs next "
            "in this process may fail by it"
        )

    return restore


def _modules() -> Restore:
    """Keep what modules and classes call by their names: functions, classes, other modules."""
    known, paths = dict(sys.modules), set(sys.path)
    places: list[tuple[Any, dict[str, Any]]] = []
    for name, module in known.items():
        top = name.partition(".")[0]
        if top in _STOOD_ON and isinstance(module, ModuleType):
            places.append((module, dict(vars(module))))
            if top in _WITH_CLASSES:
                places += [(one, dict(vars(one))) for one in _classes_of(module)]

    def restore() -> None:
        for name, module in known.items():
            if sys.modules.get(name) is not module:
                sys.modules[name] = module
        # What lies beside the revisions is loaded anew with the next run, as in a cold container.
        own = tuple(f"{path}/" for path in sys.path if path not in paths)
        for name in [name for name in sys.modules if name not in known]:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(own):
                del sys.modules[name]
        for place, names in places:
            now: Mapping[str, Any] = vars(place)
            # Of what nobody changed, only the identities are looked at.
            if now == names:
                continue
            for name, thing in names.items():
                is_called = callable(thing) or isinstance(thing, classmethod | staticmethod)
                if now.get(name) is not thing and (is_called or isinstance(thing, ModuleType)):
                    setattr(place, name, thing)

    return restore


def _listeners() -> Restore:
    before = [
        (found, {kind: list(listeners) for kind, listeners in found.items()})
        for found in listeners_of_all()
    ]

    def restore() -> None:
        for found, known in before:
            for kind, listeners in list(found.items()):
                if list(listeners) != known.get(kind, []):
                    listeners.clear()
                    listeners.extend(known.get(kind, []))

    return restore


def _classes_of(module: ModuleType) -> list[type]:
    """Return the classes that *module* defines."""
    things = vars(module).values()
    return [one for one in things if isinstance(one, type) and one.__module__ == module.__name__]


def _logging() -> Restore:
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
    handlers = [
        (one, one.level, one.formatter, list(one.filters))
        for one in {handler for logger_ in loggers for handler in logger_.handlers}
    ]

    def restore() -> None:
        logging.disable(level)
        for handler, its_level, formatter, filters in handlers:
            handler.setLevel(its_level)
            handler.formatter, handler.filters = formatter, filters
        for one, was_off in off.items():
            one.disabled = was_off
        for one, its_level, its_handlers, filters, propagate, disabled in before:
            one.setLevel(its_level)
            one.handlers, one.filters = its_handlers, filters
            one.propagate, one.disabled = propagate, disabled

    return restore


def _streams() -> Restore:
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


def _interpreter() -> Restore:
    timeout, depth = socket.getdefaulttimeout(), sys.getrecursionlimit()
    collects, thresholds, state = gc.isenabled(), gc.get_threshold(), random.getstate()
    lists: list[list[Any]] = [sys.path, sys.meta_path, sys.path_hooks, gc.callbacks]
    entries = [list(one) for one in lists]
    interval, digits = sys.getswitchinterval(), sys.get_int_max_str_digits()
    arguments = sys.argv

    def restore() -> None:
        socket.setdefaulttimeout(timeout)
        sys.setrecursionlimit(depth)
        sys.setswitchinterval(interval)
        sys.set_int_max_str_digits(digits)
        (gc.enable if collects else gc.disable)()
        gc.set_threshold(*thresholds)
        random.setstate(state)
        sys.path, sys.meta_path, sys.path_hooks = lists[:3]
        for one, its_entries in zip(lists, entries, strict=True):
            one[:] = its_entries
        sys.argv = arguments

    return restore


def _signals() -> Restore:
    before = {one: signal.getsignal(one) for one in signal.valid_signals()}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    alarm, since = signal.getitimer(signal.ITIMER_REAL), time.monotonic()

    def restore() -> None:
        # Before anything is let through.
        for one, handler in before.items():
            # Outside of the main thread nobody could have changed them.
            if handler is not None and signal.getsignal(one) != handler:
                with suppress(ValueError, OSError):
                    signal.signal(one, handler)
        left = max(alarm[0] - (time.monotonic() - since), 0.001) if alarm[0] else 0.0
        signal.setitimer(signal.ITIMER_REAL, left, alarm[1])
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    return restore


def _driver() -> Restore:
    before: list[tuple[dict[Any, Any], dict[Any, Any]]] = [
        (table, dict(table)) for table in DRIVER_TABLES
    ]

    def restore() -> None:
        for table, entries in before:
            table.clear()
            table.update(entries)

    return restore
