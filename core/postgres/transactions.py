"""
What became of each transaction that a revision had: known from the server, never assumed.

A revision may end its transaction by SQL text, by the driver, by SQLAlchemy or by an ORM, and
begin others. So every call that can end one passes here. The common path costs no round trip: a
statement that fails, and one that may end a transaction, are what the server is asked about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from psycopg2 import extensions

# When the transaction began, which no setting of the session can change, and the next
# transaction id that the server gives (PostgreSQL documentation, "Transaction ID and Snapshot
# Information Functions"). Neither makes the transaction get an id.
STAMP = "extract(epoch FROM pg_catalog.transaction_timestamp())"
NEXT_ID = (
    "pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())"
    "::pg_catalog.text::pg_catalog.int8"
)
_LOOK = f"SELECT pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text, {NEXT_ID}, {STAMP}"
_STATUSES = (
    "SELECT id, pg_catalog.pg_xact_status(id::pg_catalog.text::pg_catalog.xid8)"
    " FROM pg_catalog.generate_series(%s::pg_catalog.int8, %s::pg_catalog.int8) AS found (id)"
)
_PREPARED = (
    "SELECT gid FROM pg_catalog.pg_prepared_xacts"
    " WHERE database OPERATOR(pg_catalog.=) pg_catalog.current_database()"
    " AND extract(epoch FROM prepared) OPERATOR(pg_catalog.>=) %s"
)

# The words of a statement that can end a transaction. One that has them for another reason
# costs a round trip and is found out.
_MAY_END = re.compile(
    r"\b(?:rollback|abort|commit|prepare\s+transaction)\b|^\s*(?:end|call)\b", re.IGNORECASE
)
_TO_SAVEPOINT = re.compile(
    r"\s*rollback\s+(?:(?:work|transaction)\s+)?to\b(?!.*;.*\b(?:rollback|abort|commit)\b)",
    re.IGNORECASE | re.DOTALL,
)
_PREPARES = re.compile(r"\bprepare\s+transaction\b", re.IGNORECASE)
_CONCURRENTLY = re.compile(r"\bconcurrently\b", re.IGNORECASE)

IDLE = extensions.TRANSACTION_STATUS_IDLE
OPEN = extensions.TRANSACTION_STATUS_INTRANS
FAILED = extensions.TRANSACTION_STATUS_INERROR


class OutOfTime(BaseException):
    """The time of the run is over; no revision that catches every ``Exception`` holds it up."""


class Asked(Protocol):
    """What an account needs of the session it is kept of."""

    autocommit: bool

    @property
    def closed(self) -> int: ...
    @property
    def status(self) -> int: ...
    @property
    def info(self) -> Any: ...
    def ask(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]: ...


class _Seen(NamedTuple):
    """What the server says of a transaction: its id if it has one, the next id, its stamp."""

    identifier: int | None
    next_id: int
    stamp: Decimal


class _Before(NamedTuple):
    """What was INVALID before a concurrent build, and whether its waiting has no bound."""

    invalid: set[int]
    is_unlimited: bool


class Account:
    """
    The transactions of one session while a revision has it.

    Args:
        next_id: The next transaction id that the server gave when the revision began.
        stamp: Of the transaction that it began in, or of the look before it.
        time_left: Returns the seconds that the revision still has.

    Attributes:
        stamp: As given.
        is_declared: It is in Alembic's autocommit block, which says what it does.
        undeclared: Whether it committed anything outside of one.
        kept: How many transactions with an id it committed itself, as far as that was seen.
        lost: How many with an id it rolled back.
        prepared: The names of those that it prepared and left.
        invalid: The indexes that it left INVALID so far, by oid.
    """

    def __init__(
        self,
        session: Asked,
        *,
        next_id: int,
        stamp: Decimal,
        time_left: Callable[[], float] = lambda: float("inf"),
    ) -> None:
        self._session = session
        # Of the transaction that is open, as far as it was asked for.
        self._identifier: int | None = None
        self._since = next_id
        self.stamp = stamp
        self._time_left = time_left
        self._has_failed = False
        self._has_prepared = False
        self._has_seen_end = False
        self._has_autocommitted = False
        self.is_declared = False
        self.undeclared = False
        self.kept = 0
        self.lost = 0
        self.prepared: list[str] = []
        self.invalid: dict[int, str] = {}

    # What the session and its cursors call

    @contextmanager
    def statement(self, text: str) -> Iterator[None]:
        """Keep the account around a statement, or several in one *text*."""
        if self._time_left() <= 0:
            raise OutOfTime
        before = self._status
        if before == FAILED:
            self._has_failed = True
        if before == IDLE and (
            # Where a statement ended the transaction, the driver takes it for open and begins none.
            self._session.autocommit or self._session.status != extensions.STATUS_READY
        ):
            self._has_autocommitted = True
            self.undeclared = self.undeclared or not self.is_declared
        may_end = _MAY_END.search(text) is not None
        seen = self._look() if may_end and before in (IDLE, OPEN) else None
        concurrent = before == IDLE and _CONCURRENTLY.search(text) is not None
        known = self._before_concurrent() if concurrent else None
        try:
            yield
        except BaseException:
            if self._status == IDLE:
                # A transaction of this one statement, or of this one text.
                self._has_failed = True
            raise
        finally:
            if self._is_usable:
                self._after(text, before, seen)
                if known is not None:
                    self._after_concurrent(text, known)

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Keep the account around a commit by the driver."""
        with self._end(is_commit=True):
            yield

    @contextmanager
    def rollback(self) -> Iterator[None]:
        """Keep the account around whatever rolls back by the driver."""
        with self._end(is_commit=False):
            yield

    def has_prepared(self) -> None:
        """Take note that a transaction is prepared, by the driver."""
        self._has_prepared = True

    def has_ended_prepared(self, *, is_commit: bool) -> None:
        """Take note of what became of the transaction that was prepared here."""
        if self._has_prepared:
            self._has_prepared = False
            if is_commit:
                self._keep()
            else:
                self.lost += 1

    def finish(self, session: Asked, stamp: Decimal | None = None) -> None:
        """
        Close the account; *stamp* is that of the transaction which is open in the end.

        What is still to be asked is asked over *session*: its own may be closed.

        An end that was not seen here is looked for now.
        """
        has_changed = stamp is not None and stamp != self.stamp
        if has_changed and not self._has_seen_end:
            kept, lost = self.kept, self.lost
            self._search()
            if (kept, lost) == (self.kept, self.lost):
                # It ended and nothing was lost.
                self._keep()
        if self._has_prepared:
            self.prepared = [gid for (gid,) in session.ask(_PREPARED, (self.stamp,))]

    @property
    def has_committed(self) -> bool:
        """Whether anything may stay, whatever becomes of the transaction that is open."""
        return bool(self.kept) or self._has_autocommitted or self._has_prepared

    @property
    def is_plain(self) -> bool:
        """Whether all that was seen is one transaction, which is open still."""
        is_eventful = self.has_committed or self.lost or self._has_failed or self._has_seen_end
        return self._status == OPEN and not is_eventful

    # How it is kept

    @property
    def _status(self) -> int:
        return int(self._session.info.transaction_status)

    @property
    def _is_usable(self) -> bool:
        return not self._session.closed and self._status in (IDLE, OPEN, FAILED)

    @contextmanager
    def _end(self, *, is_commit: bool) -> Iterator[None]:
        before = self._status
        seen = self._look() if before == OPEN else None
        has_failed = self._has_failed or before == FAILED
        self._has_failed = has_failed
        since, identifier = self._since, self._identifier
        try:
            yield
        except BaseException:
            if identifier is not None:
                self.lost += 1
            raise
        if not self._is_usable:
            self.lost += identifier is not None
            return
        if self._status == OPEN and seen is not None and self._look().stamp == seen.stamp:
            # The driver knows of no transaction: a statement began it.
            return
        self._has_seen_end = self._has_seen_end or before != IDLE
        if identifier is not None and before == OPEN:
            if is_commit:
                self._keep()
            else:
                self.lost += 1
        if has_failed and self._status != FAILED:
            self._since, self._identifier = since, identifier
            self._search()
        self._identifier = None

    def _after(self, text: str, before: int, seen: _Seen | None) -> None:
        """Take note of what *text* has done, *before* which the transaction was so."""
        now = self._status
        if _PREPARES.search(text):
            self._has_prepared = True
        if now == FAILED:
            # What is lost with it is known when it ends.
            return
        if self._has_failed:
            if _TO_SAVEPOINT.match(text):
                self._has_failed = False
                self._look()
            else:
                self._has_seen_end = self._has_seen_end or before == FAILED
                self._search()
            return
        if seen is None:
            return
        since, identifier = self._since, self._identifier
        then = self._look()
        if before == now == OPEN and seen.stamp == then.stamp:
            # Only a savepoint, or a word in a string.
            return
        self._since, self._identifier = since, identifier
        self._has_seen_end = self._has_seen_end or before == OPEN
        self._search()

    def _search(self) -> None:
        """
        Count the transactions that have ended since the server was last asked.

        Of those that were rolled back, others' cannot be told from ours: what may be lost is
        taken for lost.
        """
        since, identifier = self._since, self._identifier
        self._has_failed = False
        seen = self._look()
        statuses = self._statuses(since, seen.next_id - 1)
        if identifier is not None and identifier not in statuses:
            statuses |= self._statuses(identifier, identifier)
        statuses.pop(seen.identifier, None)
        ends = [status for status in statuses.values() if status is not None]
        lost = ends.count("aborted")
        self.lost += lost
        if not lost and "committed" in ends:
            self._keep()

    def _keep(self) -> None:
        self.kept += 1
        self.undeclared = self.undeclared or not self.is_declared

    def _statuses(self, first: int, last: int) -> dict[int | None, str | None]:
        return dict(self._ask(_STATUSES, (first, last)))

    def _look(self) -> _Seen:
        ((identifier, next_id, stamp),) = self._ask(_LOOK)
        self._identifier = int(identifier) if identifier else None
        self._since = next_id
        return _Seen(self._identifier, next_id, stamp)

    # Indexes that are built concurrently

    def _before_concurrent(self) -> _Before:
        """
        Let a concurrent build wait for old transactions, and return what is INVALID before it.

        It waits for them by the lock timeout of relations, which is short; unless the revision
        has set its own, the time of the run is the bound.
        """
        changed = self._ask(
            "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings"
            " WHERE name OPERATOR(pg_catalog.=) 'lock_timeout'"
            " AND setting OPERATOR(pg_catalog.=) reset_val"
        )
        return _Before({oid for oid, *_ in self._ask(_INVALID)}, is_unlimited=bool(changed))

    def _after_concurrent(self, text: str, before: _Before) -> None:
        """Take note of the indexes that the statement *text* left INVALID."""
        if self._status != IDLE:
            return
        lowered = text.lower()
        for oid, name, index, table in self._ask(_INVALID):
            is_named = index.lower() in lowered
            if is_named or (oid not in before.invalid and table.lower() in lowered):
                self.invalid[oid] = name
        if before.is_unlimited:
            self._ask("RESET lock_timeout")

    def still_invalid(self, session: Asked) -> list[str]:
        """Return the names of the indexes that are left INVALID now, as *session* sees them."""
        if not self.invalid:
            return []
        return [name for oid, name, *_ in session.ask(_INVALID) if oid in self.invalid]

    def _ask(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._session.ask(statement, values)


# INVALID and not a partitioned parent, which is until each partition has its index; nor one that
# another session is building, which holds this lock on the table meanwhile.
_INVALID = """
SELECT i.indexrelid::pg_catalog.int8, pg_catalog.format('%I.%I', n.nspname, c.relname),
    c.relname::pg_catalog.text, t.relname::pg_catalog.text
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


class Watched:
    """
    A cursor that keeps the account of its session's transactions.

    It comes before the driver's cursor class, whichever a revision asks for.
    """

    def _watch(self, statement: Any, call: Callable[[], Any]) -> Any:
        session: Any = self.connection  # type: ignore[attr-defined]
        account: Account | None = session.account
        if account is None:
            return call()
        with account.statement(_text(statement, session)):
            return call()

    def execute(self, query: Any, vars: Any = None) -> Any:  # noqa: A002 - the driver's name
        """Run *query*."""
        run = super().execute  # type: ignore[misc]
        return self._watch(query, lambda: run(query, vars))

    def executemany(self, query: Any, vars_list: Any) -> Any:
        """Run *query* for each of *vars_list*."""
        run = super().executemany  # type: ignore[misc]
        return self._watch(query, lambda: run(query, vars_list))

    def callproc(self, procname: Any, parameters: Any = ()) -> Any:
        """Call a function of the database."""
        run = super().callproc  # type: ignore[misc]
        return self._watch("SELECT", lambda: run(procname, parameters))

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> Any:
        """Run the COPY *sql*."""
        run = super().copy_expert  # type: ignore[misc]
        return self._watch(sql, lambda: run(sql, file, size))

    def copy_from(self, *arguments: Any, **options: Any) -> Any:
        """Copy into a table."""
        run = super().copy_from  # type: ignore[misc]
        return self._watch("COPY", lambda: run(*arguments, **options))

    def copy_to(self, *arguments: Any, **options: Any) -> Any:
        """Copy from a table."""
        run = super().copy_to  # type: ignore[misc]
        return self._watch("COPY", lambda: run(*arguments, **options))


class WatchedCursor(Watched, extensions.cursor):  # type: ignore[misc]  # psycopg2 has no types
    """The driver's own cursor, watched."""


_watched: dict[type, type] = {extensions.cursor: WatchedCursor}


def watched(kind: type | None) -> type:
    """Return the cursor class *kind*, watched."""
    if kind is None:
        return WatchedCursor
    if issubclass(kind, Watched):
        return kind
    if kind not in _watched:
        _watched[kind] = type(kind.__name__, (Watched, kind), {})
    return _watched[kind]


def _text(statement: Any, session: Any) -> str:
    """Return the text of *statement*, whatever form the driver takes it in."""
    if isinstance(statement, str):
        return statement
    if isinstance(statement, bytes):
        return statement.decode("utf-8", "replace")
    return str(statement.as_string(session)) if hasattr(statement, "as_string") else ""
