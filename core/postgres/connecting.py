"""Connecting to a database: over verified TLS, with settings that nobody else has a say in."""

from __future__ import annotations

import time
from typing import Any

import psycopg2

from core.errors import MigrationError
from core.model import Database
from core.postgres import names
from core.postgres.refusals import closed_door, meaning_of
from core.postgres.session import Session

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
    # A library that is not there would keep everybody out, us as well.
    "local_preload_libraries": "",
    # To compile our looks at the catalogue takes longer than to do them, on a large one, or where
    # somebody set enable_seqscan (PostgreSQL documentation, "When to JIT?"): 27 s for 2.
    "jit": "off",
    # What is answered as committed is on the disk.
    "synchronous_commit": "on",
    # Not default_transaction_read_only: by it a database is closed to whoever respects it.
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
}


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
    return closed_door(reason, database) or meaning_of(reason, database)
