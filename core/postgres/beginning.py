"""Where a revision begins: the settings of its session, and its transaction opened by them."""

from __future__ import annotations

from core.postgres.lock import HOLDS_LOCK
from core.postgres.names import Look, revision_path
from core.postgres.session import Session
from core.postgres.transactions import NEXT_ID, STAMP


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


def prepare_openings(schema: str) -> str:
    """
    Return what prepares, once a session, the openings of the revisions in *schema*.

    To plan one takes several times as long as to carry it out. The server plans it again where
    a revision made or changed a schema.
    """
    prepared = (
        f"PREPARE {_name(look)} AS SELECT {STAMP}, {NEXT_ID},"
        # Any other than the first follows the record of a revision, which looks at that.
        f" {HOLDS_LOCK if look is Look.IN_FULL else 'true'}, {revision_path(schema, look)}"
        for look in Look
    )
    return f"DEALLOCATE ALL; {'; '.join(prepared)}"


def opening(look: Look) -> str:
    """
    Return what opens a transaction for a revision, behind BEGIN and the session's settings.

    Its row is the transaction's stamp, the next transaction id, whether the lock is held, and
    the search path, as the *look* at the revision's schema has it.
    """
    return f"EXECUTE {_name(look)}"


def _name(look: Look) -> str:
    return f"day2_look_{look.name.lower()}"
