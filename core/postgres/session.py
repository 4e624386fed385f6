"""A session with PostgreSQL, and how our own code asks it."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from types import MappingProxyType
from typing import Any, Protocol, Self

import psycopg2
from psycopg2 import errors, extensions

from core.postgres.transactions import Account
from core.postgres.watching import watched

# How the driver reads and writes values: tables for the whole process.
DRIVER_TABLES = (extensions.string_types, extensions.adapters)

# What the driver raises, for those who do not know the driver.
DriverError = psycopg2.Error

# The name of the threads that cut a session off, and how soon again they call whoever did not
# mind that.
CUTTER = "day2-cut"
_AGAIN_SECONDS = 0.2


class Listener(Protocol):
    """Who hears what the server says beside its answers."""

    def wants(self, severity: str) -> bool: ...
    def hear(self, notice: Any) -> None: ...


class Session(extensions.connection):  # type: ignore[misc]  # psycopg2 has no types
    """
    A session that is cut off when its time is over, and that can chain transactions.

    The server's timeouts do not help where its answer gets lost on the way, and keepalives
    do not where a box in the middle answers them.

    Attributes:
        notices_of: Who hears what the server says beside its answers (``postgres/notices.py``).
        account: What becomes of its transactions, while a revision has it.
        is_lent: It is in use by SQLAlchemy, which may not close it.
        is_deaf: What the driver's methods would send is not sent: our own statements have
            ended the transaction that SQLAlchemy takes for open.
        is_two_phase: A transaction of two phases is begun, by the driver.
        parameters: What it was opened with, for others to the same database.
        server_started: When its server was started, as the lock was taken: another server, or the
            same one anew, says something else.
    """

    # The driver's own, without types.
    autocommit: bool
    account: Account | None = None
    notices_of: Listener | None = None
    receiver: object = None
    is_lent: bool = False
    is_deaf: bool = False
    is_two_phase: bool = False
    parameters: Mapping[str, Any] = MappingProxyType({})
    server_started: str | None = None

    _end: float = math.inf
    _when_cut: Callable[[], None] | None = None
    _opened: list[tuple[Any, ...]] | None = None
    _timer: threading.Timer | None = None

    @classmethod
    def open(cls, parameters: Mapping[str, Any], *, seconds: float | None = None) -> Self:
        """
        Open a session by libpq's *parameters*, in autocommit, to be cut in *seconds*.

        Raises:
            psycopg2.OperationalError: The server is not there, or refuses.
        """
        session: Self = psycopg2.connect(connection_factory=cls, **parameters)
        session.parameters = parameters
        if seconds is not None:
            session.end_after(seconds)
        session.autocommit = True
        return session

    def another(self) -> Session:
        """Open another session with the same database, which is cut when this one is."""
        left = None if self._timer is None else max(0.0, self._end - time.monotonic())
        return Session.open(self.parameters, seconds=left)

    # Ends of transactions, each of which the account sees

    def commit(self) -> None:
        """Commit."""
        if not self.is_deaf:
            with self.account.commit() if self.account else nullcontext():
                super().commit()

    def rollback(self) -> None:
        """Roll back."""
        if not self.is_deaf:
            with self.account.rollback() if self.account else nullcontext():
                super().rollback()

    def reset(self) -> None:
        """Roll back, and set the session back to its defaults."""
        with self.account.rollback() if self.account else nullcontext():
            super().reset()

    def set_isolation_level(self, level: int | None) -> None:
        """Roll back, and set the isolation *level* of the transactions to come."""
        if not self.is_deaf:
            with self.account.rollback() if self.account else nullcontext():
                super().set_isolation_level(level)

    def tpc_begin(self, *xid: Any) -> None:
        """Begin a transaction of two phases."""
        super().tpc_begin(*xid)
        self.is_two_phase = True

    def tpc_prepare(self) -> None:
        """Prepare the transaction of two phases."""
        if self.account:
            self.account.has_prepared()
        super().tpc_prepare()

    def tpc_commit(self, *xid: Any) -> None:
        """Commit in two phases, or one that was prepared before."""
        with self.account.commit() if self.account else nullcontext():
            super().tpc_commit(*xid)
        if self.account and self.is_two_phase:
            self.account.has_ended_prepared(is_commit=True)
        self.is_two_phase = False

    def tpc_rollback(self, *xid: Any) -> None:
        """Roll back in two phases, or one that was prepared before."""
        with self.account.rollback() if self.account else nullcontext():
            super().tpc_rollback(*xid)
        if self.account and self.is_idle and self.is_two_phase:
            self.account.has_ended_prepared(is_commit=False)
        self.is_two_phase = False

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        """Return a cursor that the account is kept by."""
        wanted = options.pop("cursor_factory", None) or self.cursor_factory
        return super().cursor(*arguments, cursor_factory=watched(wanted), **options)

    def close(self) -> None:
        """Close the session; where it is lent, only what is open is rolled back, as by closing."""
        if self.is_deaf:
            return
        try:
            if self.account and not self.closed:
                # By a call that the account sees.
                if self.is_two_phase:
                    self.tpc_rollback()
                else:
                    self.rollback()
        finally:
            if not self.is_lent:
                if self._timer is not None:
                    self._timer.cancel()
                    self._wire.close()
                super().close()

    # How our own code uses it

    def ask(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """
        Run *statement* in the transaction that is open, or in one of its own; return its rows.

        No transaction is open behind it that was not before, and no account is kept of it.
        """
        is_alone = self.is_idle and self.status == extensions.STATUS_READY and not self.autocommit
        if is_alone:
            self.autocommit = True
        try:
            with closing(extensions.cursor(self)) as cursor:
                return _carried_out(cursor, statement, values)
        finally:
            if is_alone and not self.closed:
                self.autocommit = False

    @property
    def is_idle(self) -> bool:
        """Whether the server is in no transaction with us."""
        return bool(self.info.transaction_status == extensions.TRANSACTION_STATUS_IDLE)

    @property
    def begins_as_by_default(self) -> bool:
        """Whether the driver begins a transaction as BEGIN alone does."""
        return (self.isolation_level, self.readonly, self.deferrable) == (None, None, None)

    def make_transactional(self) -> None:
        """
        Have driver and server be of one mind, so that the next statement is in a transaction.

        A revision may have left autocommit on, another isolation level, or a transaction that
        it ended by a statement, which the driver takes for open. One that is really open stays.
        """
        if self.is_idle and self.status != extensions.STATUS_READY:
            extensions.connection.rollback(self)
        if self.status == extensions.STATUS_READY and (
            self.autocommit or not self.begins_as_by_default
        ):
            self.set_session(
                isolation_level="DEFAULT",
                readonly="DEFAULT",
                deferrable="DEFAULT",
                autocommit=False,
            )

    def let_go(self) -> None:
        """Roll back whatever is open, and be as a session that was just opened, or broken."""
        self.account, self.is_deaf, self.is_lent, self._opened = None, False, False, None
        # That it is broken may be found out here.
        with suppress(psycopg2.OperationalError, psycopg2.InterfaceError):
            if self.is_two_phase:
                self.tpc_rollback()
            super().rollback()
            self.make_transactional()
            self.autocommit = True
            if not self.is_idle:
                # A transaction that was begun by a statement, in autocommit.
                self.ask("ROLLBACK")

    def commit_and_open(self, statements: str | None) -> None:
        """
        Commit, and open the next transaction with *statements*, in one round trip.

        Not by COMMIT AND CHAIN, which would hand on the isolation that a revision chose.
        ``None`` opens none. A failure behind the commit does not count: nothing is opened then.

        Raises:
            psycopg2.Error: The commit failed.
        """
        if statements is None:
            super().commit()
            return
        try:
            # The driver takes it for one transaction, and so begins none itself.
            self._opened = self.ask(f"COMMIT; BEGIN; {statements}")
        except psycopg2.Error:
            # Where COMMIT fails there is no BEGIN.
            is_committed = self.info.transaction_status == extensions.TRANSACTION_STATUS_INERROR
            if not is_committed:
                raise
            super().rollback()

    def committed_with(self, record: str, values: Sequence[object], statements: str) -> bool:
        """
        Run *record* with its *values*, and commit and open as above: all in one round trip.

        Returns:
            Whether it is committed. If not, *record* failed, and the transaction is as it was.

        Raises:
            psycopg2.Error: The commit failed.
        """
        try:
            self._opened = self.ask(
                f"SAVEPOINT day2_record; {record}; COMMIT; BEGIN; {statements}", values
            )
        except psycopg2.Error:
            if self.info.transaction_status != extensions.TRANSACTION_STATUS_INERROR:
                raise
            try:
                self.ask("ROLLBACK TO SAVEPOINT day2_record; RELEASE SAVEPOINT day2_record")
            except errors.InvalidSavepointSpecification:
                # It went with its transaction: what failed is behind the commit.
                super().rollback()
                return True
            return False
        return True

    def opened(self) -> list[tuple[Any, ...]] | None:
        """Return, once, what those statements returned; ``None`` if none opened a transaction."""
        rows, self._opened = self._opened, None
        return rows

    def end_after(self, seconds: float) -> None:
        """Cut the connection in *seconds*, unless it is closed by then."""
        # A descriptor of our own: the session's may be somebody else's by then.
        self._wire = socket.socket(fileno=os.dup(self.fileno()))
        self._end = time.monotonic() + seconds
        self._cutting = threading.Lock()
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._timer.name = CUTTER
        self._timer.start()

    def when_cut(self, call: Callable[[], None] | None) -> None:
        """
        Have *call* called, in a thread of its own, when the session is cut; or nothing.

        It is called again and again, until this says nothing.
        """
        if self._timer is not None:
            with self._cutting:
                self._when_cut = call

    def _cut(self) -> None:
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)
        while True:
            with self._cutting:
                if self._when_cut is None:
                    return
                self._when_cut()
            time.sleep(_AGAIN_SECONDS)


def sqlstate_of(error: BaseException) -> str | None:
    """Return the server's code for *error* or for what it wraps, if there is one."""
    code = getattr(getattr(error, "orig", error), "pgcode", None)
    return code if isinstance(code, str) else None


def is_broken(session: Session) -> bool:
    """Say whether the connection of *session* is gone."""
    return bool(session.closed) or (
        session.info.transaction_status == extensions.TRANSACTION_STATUS_UNKNOWN
    )


def query(session: Session, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Run *statement* on *session* and return its rows; one without a column shows none."""
    with session.cursor() as cursor:
        return _carried_out(cursor, statement, values)


def _carried_out(cursor: Any, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
    """
    Carry out *statement* by *cursor*, and return its rows, whatever the bytes of their text.

    A role has its name in the encoding of the database in which it was made, and the server hands
    it out as it is in every other one, too; in SQL_ASCII any text may be so. What cannot be read
    is shown by its bytes.
    """
    extensions.register_type(extensions.BYTES, cursor)
    extensions.register_type(extensions.BYTESARRAY, cursor)
    cursor.execute(statement, values or None)
    if not cursor.description:
        return []
    return [tuple(map(_readable, row)) for row in cursor.fetchall()]


def _readable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return [_readable(one) for one in value] if isinstance(value, list) else value


def storable(session: Session, values: Sequence[object]) -> tuple[object, ...]:
    """
    Return *values* as the database can hold them: what its encoding lacks is a question mark.

    For what we write into our own books: a description must not fail its revision.
    """
    encoding = extensions.encodings.get(session.info.parameter_status("server_encoding"), "utf-8")

    def held(value: object) -> object:
        if not isinstance(value, str) or (value.isascii() and "\0" not in value):
            return value
        return value.replace("\0", "?").encode(encoding, "replace").decode(encoding)

    return tuple(held(value) for value in values)
