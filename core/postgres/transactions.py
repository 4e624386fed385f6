"""
What became of each transaction that a revision had: known from the server, never assumed.

A revision may end its transaction by SQL text, by the driver, by SQLAlchemy or by an ORM, and
begin others. So every call that can end one passes here. The common path costs no round trip: a
statement that fails, and one that may end a transaction, are what the server is asked about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from psycopg2 import extensions

from core.postgres.concurrent_builds import Asks, ConcurrentBuilds

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
# The words of a statement that can change our books, or whose they are.
_MAY_CHANGE_BOOKS = re.compile(
    r"\bday2\"?\s*\.|\b(?:schema|search_path)\b[^;]{0,200}\bday2\b|\b(?:reassign|drop)\s+owned\b",
    re.IGNORECASE,
)

IDLE = extensions.TRANSACTION_STATUS_IDLE
OPEN = extensions.TRANSACTION_STATUS_INTRANS
FAILED = extensions.TRANSACTION_STATUS_INERROR


class OutOfTime(BaseException):
    """The time of the run is over; no revision that catches every ``Exception`` holds it up."""


class Asked(Asks, Protocol):
    """What an account needs of the session it is kept of."""

    autocommit: bool

    @property
    def closed(self) -> int: ...
    @property
    def status(self) -> int: ...
    @property
    def info(self) -> Any: ...


class _Seen(NamedTuple):
    """What the server says of a transaction: its id if it has one, the next id, its stamp."""

    identifier: int | None
    next_id: int
    stamp: Decimal


class Account:
    """
    The transactions of one session while a revision has it.

    Args:
        next_id: The next transaction id that the server gave when the revision began.
        stamp: Of the transaction that it began in, or of the look before it.
        time_left: Returns the seconds that the revision still has.
        where: Returns where in the revision it is called from, for people.

    Attributes:
        stamp: As given.
        failed: What made the transaction fail that is open, and where; ``None`` where it is whole.
        is_declared: It is in Alembic's autocommit block, which says what it does.
        undeclared: Whether it committed anything outside of one.
        may_have_changed_books: A statement of its had the words for that.
        kept: How many transactions with an id it committed itself, as far as that was seen.
        lost: How many with an id it rolled back.
        prepared: The names of those that it prepared and left.
        builds: The indexes that it builds concurrently.
    """

    def __init__(
        self,
        session: Asked,
        *,
        next_id: int,
        stamp: Decimal,
        time_left: Callable[[], float] = lambda: float("inf"),
        where: Callable[[], str] = str,
    ) -> None:
        self._session = session
        self._where = where
        self.failed: tuple[BaseException, str] | None = None
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
        self.may_have_changed_books = False
        self.kept = 0
        self.lost = 0
        self.prepared: list[str] = []
        self.builds = ConcurrentBuilds(session)

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
        known = self.builds.before(text) if before == IDLE else None
        if _MAY_CHANGE_BOOKS.search(text):
            self.may_have_changed_books = True
        try:
            yield
        except BaseException as error:
            if self._status == IDLE:
                # A transaction of this one statement, or of this one text.
                self._has_failed = True
            elif before == OPEN:
                self.failed = error, self._where()
            raise
        finally:
            if self._is_usable:
                self._after(text, before, seen)
                if known is not None and self._status == IDLE:
                    self.builds.after(text, known)

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
        return self._status == OPEN and not (is_eventful or self.may_have_changed_books)

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
                self.failed = None
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
        return dict(self._session.ask(_STATUSES, (first, last)))

    def _look(self) -> _Seen:
        ((identifier, next_id, stamp),) = self._session.ask(_LOOK)
        self._identifier = int(identifier) if identifier else None
        self._since = next_id
        return _Seen(self._identifier, next_id, stamp)
