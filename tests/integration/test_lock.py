"""One run at a time in a database: who waits, who gives up, and when the lock is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import closing
from multiprocessing.queues import SimpleQueue
from typing import Any, cast

import pytest

from core.budget import Budget
from core.errors import LockBusy
from core.model import Result
from core.outcome import Outcome
from core.postgres.lock import LOCK_KEY, acquire_lock, take_lock
from core.postgres.session import Session, query
from core.postgres.writer import takes_writes
from tests.equipment.site import REVISIONS, Site
from tests.equipment.waiting import wait_for

ADVISORY_LOCKS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory'"
OUR_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'day2'"


def run_patiently(site: Site, request_id: str, results: SimpleQueue[Result]) -> None:
    """Carry out a run that waits for the lock, and hand over its result."""
    settings = site.settings._replace(lock_wait_seconds=30)
    results.put(site.run(settings=settings, request_id=request_id))


class EndsMeanwhile:
    """A session before which an *other* run ends: when it is looked for, and not earlier."""

    server_started: str

    def __init__(self, session: Session, other: Session) -> None:
        self._session = session
        self._other = other

    def ask(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Ask, once the other run has ended if that is what is asked about."""
        if "pg_locks" in statement:
            query(self._other, "SELECT pg_advisory_unlock_all()")
        return self._session.ask(statement, values)


def test_two_runs_at_once_apply_each_revision_once(site: Site) -> None:
    """Of two processes that wait for the same database, one migrates and one finds it done."""
    spawn = multiprocessing.get_context("spawn")
    results: SimpleQueue[Result] = spawn.SimpleQueue()
    with spawn.Manager() as manager:
        site.cloud.secrets = manager.dict(site.cloud.secrets)
        site.cloud.tags = manager.dict()
        runs = [
            spawn.Process(target=run_patiently, args=(site, request_id, results))
            for request_id in ("first", "second")
        ]
        with site.lock_held():
            for run in runs:
                run.start()
            # The third is the one that holds the lock.
            wait_for(lambda: site.query(OUR_SESSIONS) == [(3,)], "both runs")
            applied_too_early = site.query("SELECT to_regnamespace('day2')::text")
        for run in runs:
            run.join(60)
        both = {result.outcome: result.report for result in (results.get(), results.get())}
        site.cloud.secrets, site.cloud.tags = dict(site.cloud.secrets), dict(site.cloud.tags)

    assert applied_too_early == [(None,)]
    assert [run.exitcode for run in runs] == [0, 0]
    assert set(both) == {Outcome.APPLIED, Outcome.UP_TO_DATE}
    assert both[Outcome.APPLIED].applied == list(REVISIONS.identifiers)
    assert both[Outcome.UP_TO_DATE].applied == []
    rows = site.query("SELECT revision, count(*) OVER (PARTITION BY request_id) FROM day2.history")
    assert sorted(rows) == [(revision, 4) for revision in REVISIONS.identifiers]
    assert site.query("SELECT session_user", user="app_user") == [("app_user",)]


def test_run_gives_up_when_another_holds_the_lock(site: Site) -> None:
    """A run that may not wait any longer says who is at work, and touches nothing."""
    with site.lock_held() as holder:
        pid = holder.info.backend_pid
        with pytest.raises(LockBusy) as caught:
            site.run(settings=site.settings._replace(lock_wait_seconds=0))

    assert caught.value.outcome.retryable
    assert f"process {pid}" in str(caught.value)
    assert site.query("SELECT to_regnamespace('day2')::text") == [(None,)]


def test_lock_of_a_run_whose_server_process_has_not_ended_yet(site: Site) -> None:
    """A run that has ended is in nobody's way, however long its server process takes to see it."""
    with site.lock_held() as holder:
        pid = holder.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
    soon = threading.Timer(0.3, os.kill, (pid, signal.SIGCONT))
    soon.start()

    result = site.run(target="001")

    soon.join()
    assert result.outcome is Outcome.APPLIED


def test_lock_that_is_free_by_the_time_its_holder_is_looked_for(site: Site) -> None:
    """Who may not wait at all is not refused for a run that is nowhere to be found."""
    with closing(site.connect_as_runner()) as session, closing(site.connect_as_runner()) as other:
        assert take_lock(other)
        acquire_lock(cast("Session", EndsMeanwhile(session, other)), Budget.of(5), wait_seconds=0)

        assert not take_lock(other)


def test_lock_is_gone_after_a_run(site: Site) -> None:
    """A run that is over holds no lock and no connection."""
    site.run()

    wait_for(lambda: site.query(OUR_SESSIONS) == [(0,)], "the end of its session")
    assert site.query(ADVISORY_LOCKS) == []


def test_lock_of_another_database_is_no_hindrance(site: Site) -> None:
    """The lock is one database's: a run elsewhere on the server does not wait for it."""
    with closing(site.server.superuser("postgres")) as session:
        query(session, "SELECT pg_advisory_lock(%s)", (LOCK_KEY,))
        result = site.run(target="001")

    assert result.outcome is Outcome.APPLIED


def test_who_holds_the_lock_is_named(site: Site) -> None:
    """Anybody may take an advisory lock and keep it; a person who knows whose it is can end it."""
    site.run(target="003")
    with closing(site.login("analytics_user")) as stranger:
        query(stranger, "SET application_name = 'reports'")
        query(stranger, "SELECT pg_advisory_lock(%s)", (LOCK_KEY,))
        pid = stranger.info.backend_pid

        with pytest.raises(LockBusy) as caught:
            site.run(settings=site.settings._replace(lock_wait_seconds=0))

    assert f"server process {pid} of analytics_user, which calls itself 'reports'" in str(
        caught.value
    )


def test_a_server_that_reads_only_by_itself_is_a_reader(site: Site) -> None:
    """What somebody set by default closes a database, and says nothing of its server."""
    with closing(site.connect_as_runner()) as session:
        assert takes_writes(session)
        session.autocommit = False
        query(session, "SET TRANSACTION READ ONLY")
        assert not takes_writes(session)
        session.rollback()
        session.autocommit = True
        query(session, "SET default_transaction_read_only = on")
        assert takes_writes(session)
