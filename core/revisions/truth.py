"""Whether it would be true to record a revision: what its transactions came to, and left."""

from __future__ import annotations

from collections.abc import Sequence

from core.postgres.session import Session
from core.postgres.transactions import Account


class Untrue(Exception):
    """It would not be true to record a revision; the message says why, and what to do."""


def check(session: Session, accounts: Sequence[Account]) -> None:
    """Raise if a transaction of the revision is not committed, or an index not built."""
    lost = sum(one.lost for one in accounts)
    if lost:
        kept = any(one.has_committed for one in accounts)
        raise Untrue(
            f"it rolled back its own work ({lost} transaction{'s' * (lost > 1)} with changes)"
            f": that is lost, and so is what came after it in the last transaction; "
            f"{'what it committed itself is kept' if kept else 'nothing of it is kept'}: "
            "take out what rolls back (ROLLBACK, rollback(), a connection closed uncommitted)"
        )
    if session.is_two_phase:
        raise Untrue("it began a transaction of two phases, and did not end it: end it")
    prepared = [name for one in accounts for name in one.prepared]
    if prepared:
        raise Untrue(
            f"it left the prepared transaction {', '.join(map(repr, prepared))}, which holds "
            "its locks: end it with COMMIT PREPARED or ROLLBACK PREPARED"
        )
    invalid = [name for one in accounts for name in one.builds.still_invalid(session)]
    if invalid:
        raise Untrue(left_invalid(invalid))


def left_invalid(indexes: Sequence[str]) -> str:
    """Say that these *indexes* are INVALID, and the way out."""
    drops = "; ".join(f"DROP INDEX CONCURRENTLY {name}" for name in indexes)
    return (
        f"index {', '.join(indexes)} was left INVALID: it serves no query, and a unique one still "
        f"refuses rows: {drops}; then run the revision again"
    )
