"""Roles of the server: whether there is one, and its password, which stays here."""

from __future__ import annotations

from psycopg2 import errors, extensions, sql

from core.errors import AccessDenied, RunFailed
from core.postgres.session import Session, query

# A second or two of hashing.
MOST_SCRAM_ITERATIONS = 1_000_000


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
