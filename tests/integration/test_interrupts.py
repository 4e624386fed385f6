"""An interrupt is the word of whoever runs us: the run ends at once, and no revision is blamed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.equipment.histories import history_of
from tests.equipment.site import Site
from tests.equipment.waiting import wait_for

MAKE = 'op.execute("CREATE TABLE public.{} ()")'
INTERRUPT = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
BY_HAND = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
WAIT = "exec_driver_sql('SELECT pg_sleep(600)')"
# What is at work as it comes, and of which class it is; those with WAIT are interrupted from here.
CASES = {
    "swallowed": (f"try: {INTERRUPT}\n    except BaseException: pass", KeyboardInterrupt),
    "made an error": (
        f"try: {INTERRUPT}\n    except BaseException: raise ValueError('mine')",
        KeyboardInterrupt,
    ),
    "behind a commit": (f"op.execute('COMMIT'); {INTERRUPT}", KeyboardInterrupt),
    "the server": (f"op.get_bind().{WAIT}", KeyboardInterrupt),
    "another session": (f"op.get_bind().engine.connect().{WAIT}", KeyboardInterrupt),
    "exit by a handler": (INTERRUPT.replace("SIGINT", "SIGTERM"), SystemExit),
}


@contextmanager
def interrupted_at_work(site: Site) -> Iterator[None]:
    """Send this process Ctrl-C as soon as a revision waits for the server."""

    def send() -> None:
        waits = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)'"
        wait_for(lambda: site.query(waits), "a revision that waits")
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    yield
    sender.join()


@pytest.mark.parametrize("at_work", sorted(CASES))
def test_interrupt_ends_the_run(site: Site, tmp_path: Path, at_work: str) -> None:
    """What was committed is kept, the rest is rolled back, and the next run carries on."""
    body, kind = CASES[at_work]
    upgrades = {
        "a1": f"{MAKE.format('one')}; {BY_HAND}",
        "a2": f"{MAKE.format('two')}\n    {body}",
        "a3": MAKE.format("three"),
    }
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with interrupted_at_work(site) if WAIT in body else nullcontext(), pytest.raises(kind):
            site.run(revisions=history_of(tmp_path / "1", upgrades))
        handlers = signal.getsignal(signal.SIGINT), signal.set_wakeup_fd(-1)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert handlers == (signal.default_int_handler, -1)
    made = {
        name
        for (name,) in site.query(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND"
            " relnamespace = 'public'::regnamespace"
        )
    }
    assert made == {"one"} | ({"two"} if at_work == "behind a commit" else set())
    assert site.query("SELECT version_num FROM day2.alembic_version") == [("a1",)]

    mended = upgrades | {"a2": MAKE.format("mended")}
    result = site.run(revisions=history_of(tmp_path / "2", mended))

    assert list(result.report.applied) == ["a2", "a3"]
