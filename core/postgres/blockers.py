"""Who holds the lock that a revision waits for: looked up while it waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing
from types import TracebackType
from typing import Self

from core.errors import MigrationError
from core.postgres.session import Session, query

logger = logging.getLogger(__name__)

_INTERVAL_SECONDS = 0.2
# Of another connection that a revision opened, and has wait for what it holds on its own.
ITSELF = "the revision itself, on op.get_bind()"
# A prepared transaction blocks as process 0 (PostgreSQL documentation, "pg_blocking_pids"). Which
# it is, no view says in so many words; there are few.
_BLOCKERS = f"""
SELECT coalesce(lock.relation::regclass::text, lock.locktype), CASE blocker.pid
    WHEN 0 THEN concat('a prepared transaction (', (
        SELECT string_agg(quote_literal(gid), ', ' ORDER BY prepared)
        FROM (SELECT gid, prepared FROM pg_prepared_xacts WHERE database = current_database()
              ORDER BY prepared LIMIT 5) AS first), ')')
    WHEN run.pid THEN '{ITSELF}'
    ELSE concat('server process ', blocker.pid, ' of ' || who.usename) END
FROM (SELECT %s AS pid) AS run, pg_locks AS lock,
    unnest(pg_blocking_pids(lock.pid)) AS blocker (pid)
    LEFT JOIN pg_stat_activity AS who ON who.pid = blocker.pid
WHERE NOT lock.granted AND (lock.pid = run.pid OR lock.pid IN (
    SELECT pid FROM pg_stat_activity
    WHERE application_name = 'day2' AND usesysid = (SELECT usesysid FROM pg_stat_activity
        WHERE pid = run.pid) AND run.pid = ANY (pg_blocking_pids(pid))))
"""

# Whose transactions have changed something and are open: who made what another one waits for.
_WRITERS = """
SELECT concat('the prepared transaction ', quote_literal(gid), ' of ' || owner)
FROM pg_prepared_xacts WHERE database = current_database()
UNION ALL (
    SELECT concat('server process ', held.pid, ' of ' || who.usename)
    FROM pg_locks AS held JOIN pg_stat_activity AS who ON who.pid = held.pid
    WHERE held.locktype = 'transactionid' AND held.mode = 'ExclusiveLock' AND held.granted
      AND held.pid <> pg_backend_pid()
    ORDER BY who.xact_start, held.pid)
LIMIT 5
"""


def writers(session: Session) -> str:
    """Return whose transactions have changed something and have not ended; or ''."""
    return ", ".join(one for (one,) in query(session, _WRITERS))


class Watch:
    """
    Looks, over a session of its own, at what another session waits for.

    The error of a lock timeout names neither the relation nor who holds it, and a moment
    later both may be gone. So this looks while the wait lasts.

    Args:
        connect: Opens the session to look with.
        pid: The server process to look at.
    """

    def __init__(self, connect: Callable[[], Session], pid: int) -> None:
        self._connect = connect
        self._pid = pid
        self._is_over = threading.Event()
        self._seen: dict[str, set[str]] = {}
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def found(self) -> str:
        """Return a clause that names each relation waited for and who holds it; or nothing."""
        return "; ".join(
            f"{relation} is held by {', '.join(sorted(holders))}"
            for relation, holders in sorted(self._seen.items())
        )

    def _look(self) -> None:
        try:
            with closing(self._connect()) as session:
                while not self._is_over.wait(_INTERVAL_SECONDS):
                    for relation, holder in query(session, _BLOCKERS, (self._pid,)):
                        self._seen.setdefault(relation, set()).add(holder)
        except MigrationError as error:
            logger.info("cannot see who holds the lock: %s", error)
