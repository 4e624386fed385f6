"""Where a database stands, and the append-only history of how it got there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import DatabaseAhead, RunFailed
from core.model import HistoryRow
from core.postgres.session import Session, is_broken, query, sqlstate_of, storable
from core.revisions import books
from core.revisions.books import SCHEMA, VERSION_TABLE
from core.revisions.manifest import Revision

# What has a row if a move was made, for the statement behind it.
MOVED = "recorded"

_ROW = (
    f"INSERT INTO {SCHEMA}.history"
    " (revision, direction, description, duration_ms, trigger, request_id, checksum)"
)
_INSERT = _ROW + " VALUES ({})"

# The one way that a run moves a database, from the first value to the second: a history row
# is written if the revision moved, and not otherwise. The server plans it once a revision, where
# each look at a table counts.
_MOVE = (
    f"WITH moved AS ({{}} RETURNING 1),"
    f" {MOVED} AS ({_ROW} SELECT %s, %s, %s, %s, %s, %s, %s FROM moved RETURNING 1)"
)
_FROM_BASE = (
    f"INSERT INTO {SCHEMA}.{VERSION_TABLE} (version_num)"
    f" SELECT %s WHERE NOT EXISTS (SELECT FROM {SCHEMA}.{VERSION_TABLE})"
)
_TO_BASE = (
    f"DELETE FROM {SCHEMA}.{VERSION_TABLE} AS here WHERE version_num = %s AND NOT EXISTS"
    f" (SELECT FROM {SCHEMA}.{VERSION_TABLE} AS others WHERE others.ctid <> here.ctid)"
)
# A row that somebody changed, or put beside ours, would make all that follows unreadable: it gets
# no value here, which it must have.
_BETWEEN = f"UPDATE {SCHEMA}.{VERSION_TABLE} SET version_num = CASE version_num WHEN %s THEN %s END"

# 23502 not_null_violation, 42P01 undefined_table, 21000 cardinality_violation.
NOT_MOVED = "23502"
_MISSING = "42P01"
_SEVERAL_ROWS = "21000"


class Position(NamedTuple):
    """
    Where a database stands.

    Attributes:
        current: Its revision; ``None`` at base.
        last_row: The highest ``id`` in the history; 0 where there is none.
        last_at: When that row was written. The history is append-only, so the two together
            stand for all of it.
    """

    current: str | None
    last_row: int
    last_at: datetime | None = None


class Step(NamedTuple):
    """
    The way over one revision, up or down.

    Attributes:
        start: Where the database is before it; ``None`` at base.
        end: Where it is then.
    """

    revision: Revision
    start: str | None
    end: str | None

    @property
    def is_upward(self) -> bool:
        return self.end == self.revision.identifier


def way(build: Sequence[Revision], revisions: Sequence[str], *, upward: bool) -> list[Step]:
    """Return the step over each of *revisions*, which *build* has, oldest first."""
    identifiers = [one.identifier for one in build]
    steps = {
        one.identifier: Step(one, *((start, end) if upward else (end, start)))
        for one, start, end in zip(build, (None, *identifiers), identifiers, strict=False)
    }
    return [steps[identifier] for identifier in revisions]


def position(session: Session) -> Position:
    """
    Read where the database of *session* stands; never changes anything.

    Raises:
        RunFailed: The schema is damaged: several current revisions, or a table missing.
        AccessDenied: The schema is not ours.
    """
    if not books.is_there(session):
        return Position(None, 0)
    try:
        rows = query(
            session,
            f"SELECT (SELECT version_num FROM {SCHEMA}.{VERSION_TABLE}),"
            " coalesce(last.id, 0), last.applied_at FROM (SELECT) AS always LEFT JOIN"
            f" (SELECT id, applied_at FROM {SCHEMA}.history ORDER BY id DESC LIMIT 1) AS last"
            " ON true",
        )
    except Exception as error:
        code = sqlstate_of(error)
        if code == _MISSING and not books.tables(session):
            return Position(None, 0)
        if code == _MISSING:
            raise RunFailed(
                f"schema {SCHEMA} is damaged: it has only {', '.join(books.tables(session))}: "
                "restore the missing table; nothing was changed"
            ) from error
        if code == _SEVERAL_ROWS:
            raise RunFailed(
                f"{SCHEMA}.{VERSION_TABLE} holds several revisions, and our history is one line: "
                "remove the wrong row; nothing was changed"
            ) from error
        raise
    return Position(*rows[0])


def record_by_hand(
    session: Session,
    applied: Sequence[tuple[str, str, str]],
    *,
    direction: str,
    previous: str | None,
    trigger: str,
    request_id: str,
) -> None:
    """
    Write, in one transaction, that the database has the revisions *applied*, oldest first.

    Each is an identifier, a description and a checksum; nothing is run.
    """
    values = [
        (identifier, direction, description, 0, trigger, request_id, checksum)
        for identifier, description, checksum in applied
    ]
    session.autocommit = False
    try:
        table = f"{SCHEMA}.{VERSION_TABLE}"
        if previous is not None:
            query(session, f"DELETE FROM {table} WHERE version_num = %s", (previous,))
        query(session, f"INSERT INTO {table} VALUES (%s)", (applied[-1][0],))
        for row in values:
            query(session, _INSERT.format(", ".join(["%s"] * len(row))), storable(session, row))
        session.commit()
    finally:
        if not is_broken(session):
            session.rollback()
            session.autocommit = True


def stamp(
    session: Session,
    start: str | None,
    end: Revision | None,
    *,
    trigger: str,
    request_id: str,
) -> None:
    """
    Write, in one transaction, that a database at *start* is at *end* now; nothing is run.

    ``None`` is base.

    Raises:
        RunFailed: The database is not at *start*.
    """
    identifier = end.identifier if end else None
    table = f"{SCHEMA}.{VERSION_TABLE}"
    row = (
        identifier,
        "stamp",
        f"From {start or 'base'} to {identifier or 'base'}",
        0,
        trigger,
        request_id,
        end.checksum if end else None,
    )
    session.make_transactional()
    try:
        found = query(session, f"DELETE FROM {table} RETURNING version_num")
        if found != ([(start,)] if start else []):
            raise RunFailed(f"{table} was changed by somebody else during this run")
        if identifier:
            query(session, f"INSERT INTO {table} VALUES (%s)", (identifier,))
        query(session, _INSERT.format(", ".join(["%s"] * len(row))), storable(session, row))
        session.commit()
    finally:
        session.let_go()


def rows(session: Session, *, after: int = 0) -> list[HistoryRow]:
    """Read the history, oldest first, from behind row *after*; ``[]`` for an unmanaged database."""
    if query(session, f"SELECT to_regclass('{SCHEMA}.history')")[0][0] is None:
        return []
    found = query(
        session,
        "SELECT revision, direction, description, applied_at, trigger, request_id, checksum"
        f" FROM {SCHEMA}.history WHERE id > %s ORDER BY id",
        (after,),
    )
    return [HistoryRow(*row) for row in found]


def applied_checksums(found: list[HistoryRow]) -> dict[str, str]:
    """Return the checksum under which each revision was last applied, where one was kept."""
    return {
        row.revision: row.checksum
        for row in found
        if row.direction != "downgrade" and row.revision and row.checksum
    }


def changed_files(found: list[HistoryRow], now: Mapping[str, str]) -> list[str]:
    """Return the revisions whose checksums *now* are no longer what was applied."""
    kept = applied_checksums(found)
    return [one for one, checksum in now.items() if kept.get(one, checksum) != checksum]


def passed_over(found: list[HistoryRow], build: Sequence[str], current: str | None) -> list[str]:
    """
    Return the revisions of *build* before *current* that the database never had.

    They were put in there, or renamed, after it had passed. A stamp vouches for all up to its
    revision.
    """
    if current not in build:
        return []
    before = build[: build.index(current)]
    stamped = {row.revision for row in found if row.direction == "stamp"}
    had = {row.revision for row in found if row.direction != "downgrade"}
    vouched = max((at for at, one in enumerate(build, 1) if one in stamped), default=0)
    return [one for one in before[vouched:] if one not in had]


def why_passed_over(revisions: Sequence[str], current: str | None) -> str:
    """Say that *revisions* stand before *current* and were never applied, and the way out."""
    return (
        f"{', '.join(revisions)} of this build: before {current}, and never applied to this "
        f"database: put it behind {current}, or stamp {current} to vouch for it"
    )


def refuse_another(found: list[HistoryRow], build: Sequence[Revision], current: str | None) -> None:
    """
    Refuse a database whose revisions are another history's, under the identifiers of *build*.

    Two teams count from 001 alike. A file that was mended is still called what it was: only
    where each revision that is applied has another content, and another description, none of
    them is ours. A stamp vouches for what it records.

    Raises:
        DatabaseAhead: It is at a revision of that other history.
    """
    kept = {row.revision: row for row in found if row.direction != "downgrade" and row.checksum}
    identifiers = [one.identifier for one in build]
    if current not in identifiers:
        return
    told = [
        (one, kept[one.identifier])
        for one in build[: identifiers.index(current) + 1]
        if one.identifier in kept
    ]
    if told and all(
        row.direction != "stamp"
        and row.checksum != one.checksum
        and row.description != one.description
        for one, row in told
    ):
        one, row = told[-1]
        theirs, ours = (text.partition("\n")[0] for text in (row.description, one.description))
        raise DatabaseAhead(
            f"the database is at {one.identifier} of another history: there it is {theirs!r}, and "
            f"{ours!r} in this build: deploy the migrations that were applied to it, or, where "
            "these have replaced them, stamp it to vouch for that; nothing was changed"
        )


class Recorder:
    """
    Writes the history: one row with each move of a run, or each of a script on paper.

    A script on paper calls it as Alembic's ``on_version_apply``.

    Args:
        trigger: What asked.
        request_id: Of the invocation; the correlation id of logs and events.
        checksums: Of each revision's file, by identifier.
    """

    def __init__(
        self,
        *,
        trigger: str,
        request_id: str,
        checksums: Mapping[str, str],
    ) -> None:
        self._trigger = trigger
        self._request_id = request_id
        self._checksums = checksums
        self._begun = time.monotonic()

    def begin(self) -> None:
        """Say that the next revision begins now."""
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long ago the revision began."""
        return time.monotonic() - self._begun

    def move(self, step: Step) -> tuple[str, tuple[object, ...]]:
        """
        Return what moves the database by *step*, which ends now.

        The head of a statement, for a SELECT to follow, and its values. ``MOVED`` has no row if
        the database was not where the step starts; or it fails by ``NOT_MOVED``.
        """
        if step.start is None:
            statement = _FROM_BASE
        elif step.end is None:
            statement = _TO_BASE
        else:
            statement = _BETWEEN
        ends = tuple(end for end in (step.start, step.end) if end is not None)
        row = self._row(
            step.revision.identifier,
            "upgrade" if step.is_upward else "downgrade",
            step.revision.description,
        )
        return _MOVE.format(statement), (*ends, *row)

    def __call__(self, *, ctx: Any, step: Any, **_: Any) -> None:
        """Write the row of *step*, an Alembic ``MigrationInfo``, into the script of *ctx*."""
        values = self._row(
            step.up_revision.revision,
            "stamp" if step.is_stamp else "upgrade" if step.is_upgrade else "downgrade",
            step.up_revision.doc or "",
        )
        # A script on paper took no time.
        values = (*values[:3], 0, *values[4:])
        ctx.impl.static_output(_INSERT.format(", ".join(map(_literal, values))) + ";")

    def _row(self, revision: str, direction: str, description: str) -> tuple[object, ...]:
        """Return the row of *revision*, which ends now."""
        return (
            revision,
            direction,
            description,
            int(self.seconds * 1000),
            self._trigger,
            self._request_id,
            self._checksums.get(revision),
        )


def _literal(value: object) -> str:
    """Return *value* as an SQL literal, for a script that is written and not run."""
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def checksum(file: str | Path, *others: Path) -> str:
    """
    Return the SHA-256 of a revision's *file*, in hex; line endings do not count.

    With *others*, the files that it runs, it is that of their names and contents together.
    """

    def content(one: str | Path) -> bytes:
        return Path(one).read_bytes().replace(b"\r\n", b"\n")

    digest = hashlib.sha256(content(file))
    for one in others:
        digest.update(f"\n{one.name} ".encode() + hashlib.sha256(content(one)).digest())
    return digest.hexdigest()
