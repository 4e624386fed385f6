"""Timeouts that somebody gave the master, or the database: none of them cuts a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.outcome import Outcome
from tests.equipment.histories import history_of
from tests.equipment.site import DATABASE, Site

TIMEOUTS = (
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
)
# In a transaction, and outside of any; at work, and idle.
BODY = (
    "import time; time.sleep(0.4); op.execute('SELECT pg_sleep(0.4)'); op.get_bind().commit();"
    " time.sleep(0.4); op.execute('CREATE TABLE public.{} ()'); op.execute('SELECT pg_sleep(0.4)')"
)


@pytest.mark.parametrize("whose", ["ROLE postgres", f"DATABASE {DATABASE}"])
def test_no_default_cuts_a_run(site: Site, tmp_path: Path, whose: str) -> None:
    """A revision has the time of the run, whatever the defaults are."""
    known = [name for (name,) in site.query("SELECT name FROM pg_settings")]
    timeouts = [name for name in TIMEOUTS if name in known]
    history = history_of(tmp_path, {name: BODY.format(name) for name in ("a1", "a2")})
    for name in timeouts:
        site.query(f"ALTER {whose} SET {name} = '200ms'")
    try:
        result = site.run(revisions=history)
    finally:
        for name in timeouts:
            site.query(f"ALTER {whose} RESET {name}")

    assert (result.outcome, result.report.applied) == (Outcome.APPLIED, ["a1", "a2"])
