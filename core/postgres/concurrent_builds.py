"""Indexes that are built concurrently, and those of them that were left INVALID."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

_CONCURRENTLY = re.compile(r"\bconcurrently\b", re.IGNORECASE)

# Each with the sessions whose transactions are open, for which a build waits.
# INVALID and not a partitioned parent, which is until each partition has its index; nor one that
# another session is building, which holds this lock on the table meanwhile.
_INVALID = """
SELECT i.indexrelid::pg_catalog.int8, pg_catalog.format('%I.%I', n.nspname, c.relname),
    c.relname::pg_catalog.text, t.relname::pg_catalog.text, (
        SELECT pg_catalog.string_agg(
            pg_catalog.format('server process %s of %I', a.pid, a.usename), ', ' ORDER BY a.pid)
        FROM pg_catalog.pg_stat_activity AS a
        WHERE a.usename IS NOT NULL AND a.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
          AND a.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
          AND a.pid OPERATOR(pg_catalog.=) ANY (
            SELECT l.pid FROM pg_catalog.pg_locks AS l
            WHERE l.granted AND l.locktype OPERATOR(pg_catalog.=) 'virtualxid'
              AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock'))
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
JOIN pg_catalog.pg_class AS t ON t.oid OPERATOR(pg_catalog.=) i.indrelid
WHERE NOT i.indisvalid AND c.relkind OPERATOR(pg_catalog.=) 'i'
  AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_locks AS l
    WHERE l.relation OPERATOR(pg_catalog.=) i.indrelid AND l.granted
      AND l.database OPERATOR(pg_catalog.=) (
        SELECT d.oid FROM pg_catalog.pg_database AS d
        WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
      AND l.mode OPERATOR(pg_catalog.=) 'ShareUpdateExclusiveLock'
      AND l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid())
ORDER BY 2
"""


class Asks(Protocol):
    """What a session is asked by."""

    def ask(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]: ...


class _Before(NamedTuple):
    """What was INVALID before a concurrent build, and whether its waiting has no bound."""

    invalid: set[int]
    is_unlimited: bool


class ConcurrentBuilds:
    """
    The indexes that a revision builds concurrently, over one session.

    Attributes:
        invalid: Those that it left INVALID so far, by oid.
        in_the_way: Whose transactions were open as the last one of them was given up; or ''.
    """

    def __init__(self, session: Asks) -> None:
        self._session = session
        self.invalid: dict[int, str] = {}
        self.in_the_way = ""

    def before(self, text: str) -> _Before | None:
        """
        Let a concurrent build wait for old transactions, and return what is INVALID before it.

        ``None`` if the statement *text* is none.

        It waits for them by the lock timeout of relations, which is short; unless the revision
        has set its own, the time of the run is the bound.
        """
        if not _CONCURRENTLY.search(text):
            return None
        changed = self._session.ask(
            "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings"
            " WHERE name OPERATOR(pg_catalog.=) 'lock_timeout'"
            " AND setting OPERATOR(pg_catalog.=) reset_val"
        )
        return _Before({oid for oid, *_ in self._session.ask(_INVALID)}, is_unlimited=bool(changed))

    def after(self, text: str, before: _Before) -> None:
        """Take note of the indexes that the statement *text* left INVALID."""
        lowered = text.lower()
        for oid, name, index, table, in_the_way in self._session.ask(_INVALID):
            is_named = index.lower() in lowered
            if is_named or (oid not in before.invalid and table.lower() in lowered):
                self.invalid[oid] = name
                self.in_the_way = in_the_way or ""
        if before.is_unlimited:
            self._session.ask("RESET lock_timeout")

    def still_invalid(self, session: Asks) -> list[str]:
        """Return the names of the indexes that are left INVALID now, as *session* sees them."""
        if not self.invalid:
            return []
        return [name for oid, name, *_ in session.ask(_INVALID) if oid in self.invalid]
