"""The door to PostgreSQL: connect, hold the lock, set the session."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from types import MappingProxyType
from typing import Any, Protocol, Self

import psycopg2
from psycopg2 import errors, extensions, sql

from core.budget import Budget, pauses
from core.errors import (
    AccessDenied,
    LockBusy,
    MigrationError,
    NotFound,
    NotReady,
    NotWriter,
    RunFailed,
    WrongPassword,
)
from core.model import Database
from core.postgres import names
from core.postgres.transactions import NEXT_ID, STAMP, Account, watched

# How the driver reads and writes values: tables for the whole process.
DRIVER_TABLES = (extensions.string_types, extensions.adapters)

# What the driver raises, for those who do not know the driver.
DriverError = psycopg2.Error

LOCK_KEY = zlib.crc32(b"day2-migrations")
# A second or two of hashing.
MOST_SCRAM_ITERATIONS = 1_000_000

CONNECT_TIMEOUT_SECONDS = 10

# How long after its time a session is cut off: the server's own statement_timeout comes
# first, and says what happened.
_GRACE_SECONDS = 2.0

# Sent with the connection's start packet, so that they cost no round trip and so that
# RESET ALL comes back to them after a revision that changed its session.
# PostgreSQL documentation, "Client Connection Defaults" and "TCP Settings".
_START_SETTINGS = {
    # A killed runner's lock goes within a second, not after its statement.
    "client_connection_check_interval": "1000",
    # A vanished Lambda sends no FIN: 10 s + 3 times 5 s of silence, then the server lets go.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25000",
    "idle_in_transaction_session_timeout": "300000",
    # For our own short statements; a revision is given what is left of the budget.
    "statement_timeout": "30000",
    # Not by a default of the server, the database or the role: it would cut us without a word.
    "idle_session_timeout": "0",
    # psycopg2 reads timestamps in this style only, whatever the role's own default is.
    "datestyle": "ISO",
    # A default role (ALTER ROLE or DATABASE … SET role) would own all that we make: what a
    # start packet says goes before it, and RESET ROLE comes back to this.
    "role": "none",
    # Nothing that runs as us finds its names, or what a word of it means, where others say:
    # the owner of a database may set all of this for it.
    "search_path": names.OURS,
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "intervalstyle": "postgres",
    "client_min_messages": "notice",
    "row_security": "on",
    "check_function_bodies": "on",
    "exit_on_error": "off",
    # What is answered as committed is on the disk.
    "synchronous_commit": "on",
    # Not default_transaction_read_only: by it a database is closed to whoever respects it.
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
}


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
        self._timer.start()

    def when_cut(self, call: Callable[[], None] | None) -> None:
        """Have *call* called, in a thread of its own, when the session is cut; or nothing."""
        if self._timer is not None:
            with self._cutting:
                self._when_cut = call

    def _cut(self) -> None:
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)
        with self._cutting:
            if self._when_cut is not None:
                self._when_cut()


def connect(
    database: Database, *, relation_lock_timeout_ms: int, timeout_seconds: float
) -> Session:
    """
    Open a session of our own with *database*, in autocommit, over verified TLS.

    The caller closes it; closing is what releases the lock, so nothing may pool it. It
    breaks when *timeout_seconds* are over, a moment later.

    Raises:
        UntrustedServer, WrongPassword, AccessDenied, NotFound, NotReady: As diagnosed.
    """
    end = time.monotonic() + timeout_seconds
    try:
        session = Session.open(
            parameters(database)
            | {
                "connect_timeout": max(2, int(min(timeout_seconds, CONNECT_TIMEOUT_SECONDS))),
                "options": start_options(lock_timeout=str(relation_lock_timeout_ms)),
            }
        )
    except psycopg2.OperationalError as error:
        raise _refused(database, max(1.0, end - time.monotonic())) from error
    session.end_after(max(0.0, end - time.monotonic()) + _GRACE_SECONDS)
    return session


def start_options(**more: str) -> str:
    """Return the settings of every session of ours, and *more*, as a start packet takes them."""
    # PostgreSQL documentation, "Parameter Interaction via the … options": a space is escaped.
    return " ".join(
        f"-c {name}={value.replace(' ', chr(92) + ' ')}"
        for name, value in (_START_SETTINGS | more).items()
    )


def parameters(database: Database) -> dict[str, Any]:
    """Return libpq's connection parameters for *database*: never a URL, never unverified."""
    return {
        "host": database.host,
        "port": database.port,
        "dbname": database.name,
        "user": database.user,
        "password": database.password,
        "application_name": "day2",
        "client_encoding": "utf8",
        "sslmode": "verify-full",
        "sslrootcert": database.ca_file,
        "gssencmode": "disable",
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 25000,
    }


def _refused(database: Database, timeout_seconds: float) -> MigrationError:
    """Return what a refused connection means, by the server's own code where it sent one."""
    # Imported here: only a refusal needs it, and it loads ctypes.
    from core.postgres.diagnosis import why_refused

    reason = why_refused(
        database,
        parameters(database),
        timeout_seconds=min(timeout_seconds, CONNECT_TIMEOUT_SECONDS),
    )
    if isinstance(reason, MigrationError):
        return reason
    return _closed_door(reason, database) or meaning_of(reason, database)


def _closed_door(sqlstate: str | None, database: Database) -> MigrationError | None:
    """Return what *sqlstate* means where it means something else than inside a session."""
    where = f"database {database.name} at {database.host}:{database.port}"
    match sqlstate:
        case "55000":
            return AccessDenied(
                f"{where} takes no connections (55000): ALTER DATABASE {database.name} "
                "ALLOW_CONNECTIONS true; one whose DROP DATABASE was cut off has to be dropped"
            )
        case "42501":
            return AccessDenied(
                f"{where} does not let {database.user} in (42501): "
                f"GRANT CONNECT ON DATABASE {database.name} TO {database.user}"
            )
    return None


def meaning_of(sqlstate: str | None, database: Database) -> MigrationError:
    """
    Return the error that *sqlstate* means where it is not a revision's own fault.

    PostgreSQL documentation, Appendix A, "PostgreSQL Error Codes". No code at all means
    that the connection broke.
    """
    where = f"database {database.name} at {database.host}:{database.port}"
    match sqlstate:
        case "28P01":
            is_padded = any(one != one.strip() for one in (database.user, database.password))
            return WrongPassword(
                f"{where} refused the password of {database.user} (28P01): correct the master "
                f"secret{' (white space is around its username or password)' * is_padded}, "
                "or rotate it"
            )
        case "28000":
            return AccessDenied(
                f"{where} does not let {database.user} log in (28000): "
                "check the role's LOGIN and rds_iam, and pg_hba rules"
            )
        case "3D000":
            return NotFound(
                f"{where} does not exist (3D000): create it, or correct what names it: the tag "
                "of the instance, or dbname in the master secret"
            )
        case "42501":
            return AccessDenied(
                f"{where}: {database.user} lacks a privilege (42501): connect as the master user, "
                "and let it own the database, or "
                f"GRANT CREATE ON DATABASE {database.name} TO {database.user}"
            )
        case "25006":
            return RunFailed(
                f"{where} is read-only (25006): a replica, or default_transaction_read_only is "
                "set; nothing was changed"
            )
        case "53300":
            return NotReady(
                f"{where} has no free connection (53300): try again later; end idle sessions, or "
                "raise max_connections, or the CONNECTION LIMIT of the database or of "
                f"{database.user}"
            )
        case "57P03":
            return NotReady(
                f"the server of {where} is starting, stopping or in recovery (57P03): "
                "try again later"
            )
        case "57014":
            return NotReady(f"{where} did not answer in time (57014): try again later")
        case None:
            return NotReady(
                f"the connection with {where} broke: see its status, and send the request again"
            )
        case code if code[:2] in ("08", "53", "57"):
            return NotReady(f"{where} cannot be used now ({code}): try again later")
        case code:
            return RunFailed(f"{where} answered with SQLSTATE {code}; nothing was changed")


@contextmanager
def translating(database: Database) -> Iterator[None]:
    """Translate what PostgreSQL refuses outside a revision into what it means."""
    try:
        yield
    except Exception as error:
        # SQLAlchemy, which asks the server for its version first, wraps what the driver raises.
        if not isinstance(getattr(error, "orig", error), psycopg2.Error):
            raise
        raise meaning_of(sqlstate_of(error), database) from error


def sqlstate_of(error: BaseException) -> str | None:
    """Return the server's code for *error* or for what it wraps, if there is one."""
    code = getattr(getattr(error, "orig", error), "pgcode", None)
    return code if isinstance(code, str) else None


def is_broken(session: Session) -> bool:
    """Say whether the connection of *session* is gone."""
    return bool(session.closed) or (
        session.info.transaction_status == extensions.TRANSACTION_STATUS_UNKNOWN
    )


def session_settings(session: Session, *, statement_timeout_seconds: float | None) -> str:
    """
    Return the SQL that brings a session back to where a revision may begin.

    A revision may leave another role, search path or timeout behind; the next must not
    feel it. On 16 and newer a role that the master makes is granted to the master
    itself, as it always was before (PostgreSQL documentation, "createrole_self_grant").
    ``None`` sets no limit of time.
    """
    seconds = statement_timeout_seconds
    limit = 0 if seconds is None else max(1, int(seconds * 1000))
    statements = [
        "RESET SESSION AUTHORIZATION",
        "RESET ROLE",
        "RESET ALL",
        f"SET statement_timeout = {limit}",
    ]
    if session.server_version >= 160000:
        statements.append("SET createrole_self_grant = 'set, inherit'")
    if session.server_version >= 170000:
        # A server that does not know it refuses it in the start packet.
        statements.append("SET transaction_timeout = 0")
    return "; ".join(statements)


def opening(settings: str, look: str = names.LOOK) -> str:
    """
    Return what opens a transaction for a revision, behind BEGIN: the *settings* it begins with.

    Its row is the transaction's stamp, the next transaction id, whether the lock is held, and
    the search path. The *look* at the revision's schema is prepared before, in this session.
    """
    return f"{settings}; {look}; SELECT {STAMP}, {NEXT_ID}, {HOLDS_LOCK}, {names.REVISION_PATH}"


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


# What is asked with it, at no cost. A reader is in recovery, or reads only though nobody has set
# that by default: whoever did has closed the database (AWS names both for Aurora's readers).
_IS_READER = (
    "(pg_catalog.pg_is_in_recovery()"
    " OR pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'on'"
    " AND pg_catalog.current_setting('default_transaction_read_only') OPERATOR(pg_catalog.=) 'off')"
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
    statement = f"{_TAKE_LOCK}, {_IS_READER}, {_STARTED}"
    ((is_taken, is_reader, session.server_started),) = session.ask(statement)
    if is_reader:
        raise not_writer(session)
    return bool(is_taken)


def takes_writes(session: Session) -> bool:
    """Say whether the server of *session* is the one that writes."""
    return not session.ask(f"SELECT {_IS_READER}")[0][0]


def not_writer(session: Session) -> NotWriter:
    """Return the error that the server of *session* takes no writes."""
    info = session.info
    return NotWriter(
        f"the server at {info.host}:{info.port} is a reader and takes no writes (25006): after "
        "a failover the endpoint names the new writer in a moment"
    )


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


def role_exists(session: Session, name: str) -> bool:
    """Say whether the server has the role *name*."""
    return bool(query(session, "SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)))


def set_password(session: Session, role: str, password: str) -> None:
    """
    Give *role* its *password*, as a verifier: in the clear it stays here.

    Raises:
        AccessDenied: The server refuses, on RDS mostly by ``rds.restrict_password_commands``.
    """
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(
        sql.Identifier(role), sql.Literal(scram_verifier(session, role, password))
    )
    try:
        with session.cursor() as cursor:
            cursor.execute(statement)
    except errors.InsufficientPrivilege as error:
        raise AccessDenied(
            f"the server refuses a password for {role} (42501): where "
            "rds.restrict_password_commands is on, GRANT rds_password to the master; on 16 and "
            "newer the master also needs the ADMIN option on a role that it did not make"
        ) from error


def scram_verifier(session: Session, user: str, password: str) -> str:
    """
    Return what the server stores for *password* (RFC 5803), made here by libpq.

    The password itself then never reaches the server, its log or its statistics. Whoever owns the
    database says how often it is hashed for that (PostgreSQL documentation, "scram_iterations").

    Raises:
        RunFailed: So often that it takes minutes, in which nothing can stop libpq.
    """
    iterations = session.info.parameter_status("scram_iterations")
    if iterations is not None and int(iterations) > MOST_SCRAM_ITERATIONS:
        raise RunFailed(
            f"scram_iterations is {iterations}, which takes too long: set it to "
            f"{MOST_SCRAM_ITERATIONS} at most, or take it away (ALTER DATABASE "
            f"{session.info.dbname} RESET scram_iterations, or ALTER ROLE)"
        )
    return str(
        extensions.encrypt_password(password, user, scope=session, algorithm="scram-sha-256")
    )
