"""Where a revision begins: the settings of its session, and its transaction opened by them."""

from __future__ import annotations

from core.postgres import names
from core.postgres.lock import HOLDS_LOCK
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


def opening(settings: str, look: str = names.LOOK) -> str:
    """
    Return what opens a transaction for a revision, behind BEGIN: the *settings* it begins with.

    Its row is the transaction's stamp, the next transaction id, whether the lock is held, and
    the search path. The *look* at the revision's schema is prepared before, in this session.
    """
    return f"{settings}; {look}; SELECT {STAMP}, {NEXT_ID}, {HOLDS_LOCK}, {names.REVISION_PATH}"
