"""Whether a server takes writes, or is a reader."""

from __future__ import annotations

from core.errors import NotWriter
from core.postgres.session import Session

# A reader is in recovery, or reads only though nobody has set
# that by default: whoever did has closed the database (AWS names both for Aurora's readers).
IS_READER = (
    "(pg_catalog.pg_is_in_recovery()"
    " OR pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'on'"
    " AND pg_catalog.current_setting('default_transaction_read_only') OPERATOR(pg_catalog.=) 'off')"
)


def takes_writes(session: Session) -> bool:
    """Say whether the server of *session* is the one that writes."""
    return not session.ask(f"SELECT {IS_READER}")[0][0]


def not_writer(session: Session) -> NotWriter:
    """Return the error that the server of *session* takes no writes."""
    info = session.info
    return NotWriter(
        f"the server at {info.host}:{info.port} is a reader and takes no writes (25006): after "
        "a failover the endpoint names the new writer in a moment"
    )
