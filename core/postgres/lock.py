"""The lock: one run at a time migrates a database."""

from __future__ import annotations

import zlib

from core.budget import Budget, pauses
from core.errors import LockBusy
from core.postgres.session import Session
from core.postgres.writer import IS_READER, not_writer

LOCK_KEY = zlib.crc32(b"day2-migrations")

# The lock is taken twice. So this gives one of the two back and takes it again: it says whether
# the lock was held all the while, costs the server no look at other sessions, and never lets go.
HOLDS_LOCK = (
    f"CASE WHEN pg_catalog.pg_advisory_unlock({LOCK_KEY}::pg_catalog.int8)"
    f" THEN pg_catalog.pg_try_advisory_lock({LOCK_KEY}::pg_catalog.int8) ELSE false END"
)
_TAKE_LOCK = (
    f"SELECT CASE WHEN pg_catalog.pg_try_advisory_lock({LOCK_KEY}::pg_catalog.int8)"
    f" THEN pg_catalog.pg_try_advisory_lock({LOCK_KEY}::pg_catalog.int8) ELSE false END"
)
_STARTED = "pg_catalog.pg_postmaster_start_time()::pg_catalog.text"


def take_lock(session: Session) -> bool:
    """Take the lock if nobody else has it, and say whether *session* has it now."""
    return bool(session.ask(_TAKE_LOCK)[0][0])


def acquire_lock(session: Session, budget: Budget, *, wait_seconds: float) -> None:
    """
    Make *session* the only one migrating its database until it closes.

    Polled: a waiter blocked in ``pg_advisory_lock`` holds a snapshot, and deadlocks with
    the holder's CREATE INDEX CONCURRENTLY. The lock of a run that has ended is held until its
    server process has seen that: so whoever may not wait meets it, too, and a lock that nobody
    holds any more is tried for once again.

    Raises:
        NotWriter: The server takes no writes.
        LockBusy: Another run held the lock for all of *wait_seconds*, or of the budget.
    """
    waited = 0.0
    limit = min(wait_seconds, budget.left())
    for pause in pauses(0.05, 1.0):
        if _try_lock(session):
            return
        if waited >= limit:
            break
        budget.sleep(pause)
        waited += pause
    holder = lock_holder(session)
    if not holder and _try_lock(session):
        return
    raise LockBusy(
        f"another run holds this database: waited {waited:.0f} s for"
        f" {holder or 'one after the other'}; try again later"
    )


def _try_lock(session: Session) -> bool:
    """
    Take the lock if it is free, and say whether it was; in the same statement, look at the server.

    Raises:
        NotWriter: The server takes no writes.
    """
    statement = f"{_TAKE_LOCK}, {IS_READER}, {_STARTED}"
    ((is_taken, is_reader, session.server_started),) = session.ask(statement)
    if is_reader:
        raise not_writer(session)
    return bool(is_taken)


def lock_holder(session: Session) -> str | None:
    """Return who holds the lock, for a sentence; None if nobody does."""
    holders = session.ask(
        "SELECT held.pid, who.usename, who.application_name"
        " FROM pg_catalog.pg_locks AS held"
        " LEFT JOIN pg_catalog.pg_stat_activity AS who ON who.pid OPERATOR(pg_catalog.=) held.pid"
        " WHERE held.locktype OPERATOR(pg_catalog.=) 'advisory' AND held.granted"
        " AND held.objsubid OPERATOR(pg_catalog.=) 1 AND held.classid OPERATOR(pg_catalog.=) 0"
        " AND held.objid OPERATOR(pg_catalog.=) %s::pg_catalog.oid"
        " AND held.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database"
        " WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())",
        (LOCK_KEY,),
    )
    if not holders:
        return None
    pid, user, application = holders[0]
    # Anybody may take an advisory lock, so it may be no run of ours.
    called = f", which calls itself {application!r}" if application else ""
    return f"server process {pid} of {user}{called}"
