"""
The runs that changed this database, or tried to: written before the first revision begins.

A run whose process is killed, or whose revision ends its own server process, leaves no answer,
no state and no event. What it leaves is a row here that nobody ended.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from core.postgres.session import Session, query, storable
from core.revisions.books import SCHEMA

# A chain of continuations is asked for within minutes; a day is far more than one takes.
_CHAIN = "interval '1 day'"

_BEGIN = f"""
INSERT INTO {SCHEMA}.run (request_id, trigger, target, revision, build)
VALUES (%s, %s, %s, %s, %s) RETURNING id
"""

_END = f"UPDATE {SCHEMA}.run SET ended_at = clock_timestamp(), outcome = %s WHERE id = %s"

# Those behind the last one that ended, at the same revision of the same build: whatever
# ended shows that the revision can be left.
_UNENDED = f"""
SELECT count(*), min(begun_at) FROM {SCHEMA}.run
WHERE revision = %s AND build = %s
  AND id > (SELECT coalesce(max(id), 0) FROM {SCHEMA}.run WHERE ended_at IS NOT NULL)
"""

_IS_CONTINUED = f"""
SELECT EXISTS (
    SELECT FROM {SCHEMA}.run
    WHERE request_id = %s AND target = %s AND trigger IN ('direct', 'request')
      AND outcome = 'INCOMPLETE' AND begun_at > clock_timestamp() - {_CHAIN}
)
"""


class Unended(NamedTuple):
    """How many *runs* in a row began at a revision and never ended, and since when."""

    runs: int
    since: datetime | None


def begin(
    session: Session, *, request_id: str, trigger: str, target: str, revision: str, build: str
) -> int:
    """Write that a run begins at *revision*; return the number of its row."""
    values = storable(session, (request_id, trigger, target, revision, build))
    return int(query(session, _BEGIN, values)[0][0])


def end(session: Session, row: int, outcome: str) -> None:
    """Write how the run of that *row* ended."""
    query(session, _END, (outcome, row))


def unended(session: Session, revision: str, build: str) -> Unended:
    """Return the runs of *build* that began at *revision* last and never ended."""
    return Unended(*query(session, _UNENDED, (revision, build))[0])


def continues(session: Session, request_id: str, target: str) -> bool:
    """Say whether the run of *request_id* was asked directly for *target*, and left a rest."""
    if query(session, f"SELECT to_regclass('{SCHEMA}.run')")[0][0] is None:
        # Older books, which no direct run of this build has brought up to date yet.
        return False
    return bool(query(session, _IS_CONTINUED, (request_id, target))[0][0])
