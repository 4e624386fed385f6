"""What it means that PostgreSQL refuses us, by its own code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
from core.postgres.session import DriverError, sqlstate_of


def closed_door(sqlstate: str | None, database: Database) -> MigrationError | None:
    """Return what *sqlstate* means where it means something else than inside a session."""
    where = f"database {database.name} at {database.host}:{database.port}"
    match sqlstate:
        case "P0001":
            return AccessDenied(
                f"{where} has an event trigger on login that does not let {database.user} in "
                "(P0001): have who made it let the master in, or disable it (ALTER EVENT TRIGGER)"
            )
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


def meaning_of(  # noqa: PLR0912 - a table
    sqlstate: str | None, database: Database
) -> MigrationError:
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
        case "25P04":
            # Before we can set it: a server that does not know it refuses it in the start packet.
            return RunFailed(
                f"{where} ends each transaction by its transaction_timeout (25P04), ours as well: "
                f"take it away (ALTER DATABASE {database.name} RESET transaction_timeout, or ALTER "
                f"ROLE {database.user}); nothing was changed"
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
        case "55P03":
            return LockBusy(
                f"{where}: somebody has changed what this run needs, or locked it, and does not end"
                " that transaction (55P03): have it ended, or try again later"
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
        if not isinstance(getattr(error, "orig", error), DriverError):
            raise
        raise meaning_of(sqlstate_of(error), database) from error
