"""The door to PostgreSQL: connect, hold the lock, set the session, lend it to Alembic."""

from __future__ import annotations

import os
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import errors, extensions, sql

from core.budget import Budget, pauses
from core.errors import (
    AccessDenied,
    LockBusy,
    MigrationError,
    NotFound,
    NotReady,
    RunFailed,
    WrongPassword,
)
from core.model import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection

LOCK_KEY = zlib.crc32(b"day2-migrations")
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
    # psycopg2 reads timestamps in this style only, whatever the role's own default is.
    "datestyle": "ISO",
    # A default role (ALTER ROLE or DATABASE … SET role) would own all that we make: what a
    # start packet says goes before it, and RESET ROLE comes back to this.
    "role": "none",
}


class Session(extensions.connection):  # type: ignore[misc]  # psycopg2 has no types
    """
    A session that is cut off when its time is over, and that can chain transactions.

    The server's timeouts do not help where its answer gets lost on the way, and keepalives
    do not where a box in the middle answers them.
    """

    _following: str | None = None
    _opened: list[tuple[Any, ...]] | None = None

    def open_next(self, statements: str) -> None:
        """
        Have the next commit open another transaction with *statements*, in its round trip.

        Not by COMMIT AND CHAIN, which would hand on the isolation that a revision chose.
        """
        self._following = statements

    def opened(self) -> list[tuple[Any, ...]] | None:
        """Return, once, what those statements returned; ``None`` if none opened a transaction."""
        rows, self._opened = self._opened, None
        return rows

    def commit(self) -> None:
        """Commit, and open the next transaction if there is to be one."""
        following, self._following = self._following, None
        if following is None:
            super().commit()
        else:
            # The driver takes it for one transaction, and so begins none itself.
            self._opened = query(self, f"COMMIT; BEGIN; {following}")

    def rollback(self) -> None:
        """Roll back, and forget what was to follow."""
        self._following = self._opened = None
        super().rollback()

    def end_after(self, seconds: float) -> None:
        """Cut the connection in *seconds*, unless it is closed by then."""
        # A descriptor of our own: the session's may be somebody else's by then.
        self._wire = socket.socket(fileno=os.dup(self.fileno()))
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def close(self) -> None:
        """Close the session."""
        self._timer.cancel()
        self._wire.close()
        super().close()

    def _cut(self) -> None:
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)


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
    settings = _START_SETTINGS | {"lock_timeout": str(relation_lock_timeout_ms)}
    end = time.monotonic() + timeout_seconds
    try:
        session: Session = psycopg2.connect(
            connection_factory=Session,
            **parameters(database),
            connect_timeout=max(2, int(min(timeout_seconds, CONNECT_TIMEOUT_SECONDS))),
            options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
        )
    except psycopg2.OperationalError as error:
        raise _refused(database, max(1.0, end - time.monotonic())) from error
    session.end_after(max(0.0, end - time.monotonic()) + _GRACE_SECONDS)
    session.autocommit = True
    return session


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
    # Imported here: only a refusal needs it.
    from core.postgres.diagnosis import why_refused

    reason = why_refused(
        database,
        parameters(database),
        timeout_seconds=min(timeout_seconds, CONNECT_TIMEOUT_SECONDS),
    )
    if isinstance(reason, MigrationError):
        return reason
    return meaning_of(reason, database)


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
                f"{where} lets {database.user} not log in (28000): "
                "check the role's LOGIN and rds_iam, and pg_hba rules"
            )
        case "3D000":
            return NotFound(f"{where} does not exist (3D000): create it, or name another database")
        case "42501":
            return AccessDenied(
                f"{where}: {database.user} lacks a privilege (42501): "
                "connect as the instance's master user"
            )
        case "25006":
            return RunFailed(
                f"{where} is read-only (25006): a replica, or default_transaction_read_only is "
                "set; nothing was changed"
            )
        case "53300":
            return NotReady(f"{where} has no connection to spare (53300): try again later")
        case "57014":
            return NotReady(f"{where} did not answer in time (57014): try again later")
        case None:
            return NotReady(f"the connection with {where} broke: run the same request again")
        case code if code[:2] in ("08", "53", "57"):
            return NotReady(f"{where} cannot be used now ({code}): try again later")
        case code:
            return RunFailed(f"{where} answered with SQLSTATE {code}; nothing was changed")


@contextmanager
def translating(database: Database) -> Iterator[None]:
    """Translate what PostgreSQL refuses outside a revision into what it means."""
    try:
        yield
    except psycopg2.Error as error:
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


def is_ended_unseen(session: Session) -> bool:
    """Say whether a statement ended the transaction, which the driver takes for open still."""
    return bool(
        session.status == extensions.STATUS_BEGIN
        and session.info.transaction_status == extensions.TRANSACTION_STATUS_IDLE
    )


def session_settings(session: Session, *, statement_timeout_seconds: float) -> str:
    """
    Return the SQL that brings a session back to where a revision may begin.

    A revision may leave another role, search path or timeout behind; the next must not
    feel it. On 16 and newer a role that the master makes is granted to the master
    itself, as it always was before (PostgreSQL documentation, "createrole_self_grant").
    """
    statements = [
        "RESET SESSION AUTHORIZATION",
        "RESET ROLE",
        "RESET ALL",
        f"SET statement_timeout = {max(1, int(statement_timeout_seconds * 1000))}",
    ]
    if session.server_version >= 160000:
        statements.append("SET createrole_self_grant = 'set, inherit'")
    return "; ".join(statements)


def acquire_lock(session: Session, budget: Budget, *, wait_seconds: float) -> None:
    """
    Make *session* the only one migrating its database until it closes.

    Polled: a waiter blocked in ``pg_advisory_lock`` holds a snapshot, and deadlocks with
    the holder's CREATE INDEX CONCURRENTLY.

    Raises:
        LockBusy: Another run held the lock for all of *wait_seconds*, or of the budget.
    """
    waited = 0.0
    limit = min(wait_seconds, budget.left())
    for pause in pauses(0.05, 1.0):
        if query(session, "SELECT pg_try_advisory_lock(%s)", (LOCK_KEY,))[0][0]:
            return
        if waited >= limit:
            break
        budget.sleep(pause)
        waited += pause
    holders = query(
        session,
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
        " AND classid = 0 AND objid = %s"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        (LOCK_KEY,),
    )
    who = f"server process {holders[0][0]}" if holders else "a run that has just ended"
    raise LockBusy(
        f"another run holds this database: waited {waited:.0f} s for {who}; try again later"
    )


def query(session: Session, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Run *statement* on *session* and return its rows; one without a column shows none."""
    with session.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall()) if cursor.description else []


@contextmanager
def lend(session: Session) -> Iterator[Connection]:
    """
    Lend *session* to SQLAlchemy, outside any transaction.

    A transaction that is open here would make Alembic commit nothing and report success.
    The session stays ours: the pool holds just this one, and never closes it.
    """
    # Imported here: a run with nothing to apply does not need SQLAlchemy.
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    session.autocommit = False
    engine = create_engine(
        "postgresql+psycopg2://",
        creator=lambda: session,
        poolclass=StaticPool,
        use_native_hstore=False,
        # An error's text must not show what a statement was given.
        hide_parameters=True,
    )
    try:
        with engine.connect() as connection:
            connection.commit()
            yield connection
    finally:
        if not is_broken(session):
            session.rollback()
            session.autocommit = True


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

    The password itself then never reaches the server, its log or its statistics.
    """
    return str(
        extensions.encrypt_password(password, user, scope=session, algorithm="scram-sha-256")
    )
