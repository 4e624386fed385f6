"""What a revision failed at: the line of its file, the statement, the reason, the way out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import MigrationError
from core.model import cut
from core.postgres import names
from core.postgres.masking import masked
from core.postgres.session import DriverError, Session, query, sqlstate_of
from core.revisions.containment import Undone
from core.revisions.scripts import line_of
from core.revisions.truth import Untrue

_CHARACTERS = 4000

# PostgreSQL documentation, Appendix A.
QUERY_CANCELED = "57014"
LOCK_NOT_AVAILABLE = "55P03"
_ADMIN_SHUTDOWN = "57P01"
FAILED_TRANSACTION = "25P02"
UNDEFINED_TABLE = "42P01"
# What PostgreSQL, the driver and SQLAlchemy say of mistakes that are made often, each with the
# way out: what they themselves advise, if anything, is of no use in a revision.
_CURES = (
    (
        "cannot run inside a transaction block",
        "do it in op.get_context().autocommit_block(), or an index by operations.index",
    ),
    (
        "can't call begin() here",
        "a revision is in a transaction already: take begin() out, or use begin_nested()",
    ),
    ("fe_sendauth: no password supplied", "open another one by op.get_bind().engine.connect()"),
    ("execute an empty query", "the text has no statement: take it out"),
    (
        "bad record mac",
        "or a process that the revision forked has used it: give that one a connection of its own",
    ),
)

# Its DETAIL names things, and shows nothing of a row.
DEPENDENTS = "2BP01"
_THINGS_SHOWN = 5


class Details(NamedTuple):
    """
    What is known of a failure.

    Attributes:
        at: File and line of the revision's own code.
        hint: The server's advice, for the answer; the rest is for the log alone, since DETAIL
            and CONTEXT can show what is in a row.
    """

    at: str
    hint: str = ""
    statement: str = ""
    position: str = ""
    detail: str = ""
    where: str = ""

    def for_the_log(self) -> dict[str, str]:
        """Return what is known, by the names of the log's fields."""
        known = {
            "at": self.at,
            "statement": self.statement,
            "position": self.position,
            "detail": self.detail,
            "hint": self.hint,
            "context": self.where,
        }
        return {name: value for name, value in known.items() if value}


def text_of(error: BaseException) -> str:
    """Return what *error* says, masked, in a line; its class where it says nothing, or cannot."""
    try:
        lines = masked(str(error)).strip().splitlines()
    except Exception:  # noqa: BLE001 - an error of a revision's own class may do anything
        return f"{type(error).__name__}, which cannot be shown"
    kind = type(error).__name__
    return f"{kind}: {lines[0]}" if lines else kind


def untrue(undone: Undone) -> Untrue:
    """Return that a revision is not done whole, with the line at which it was left *undone*."""
    error = undone.error
    if error is None:
        return Untrue(undone.why)
    why = f"{undone.why}, {text_of(getattr(error, 'orig', error))}: its work is not done"
    return Untrue(why).with_traceback(error.__traceback__)


def failure_details(error: BaseException, file: Path) -> Details:
    """Return what is known of *error*, which the revision in *file* raised."""
    origin = getattr(error, "orig", error)
    said: Any = getattr(origin, "diag", None)

    def field(name: str) -> str:
        return cut(masked(str(getattr(said, name, None) or "")), _CHARACTERS)

    # As the revision wrote it: what was bound to it is not shown.
    statement = str(getattr(error, "statement", None) or "")
    return Details(
        at=line_of(error, file),
        hint=field("message_hint"),
        statement=cut(masked(statement or field("internal_query")), _CHARACTERS),
        position=field("statement_position") or field("internal_position"),
        detail=field("message_detail"),
        where=field("context"),
    )


def with_those_behind(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, and those that it was raised from, or while they were handled."""
    behind: BaseException | None = error
    while behind is not None:
        yield behind
        behind = behind.__cause__ or behind.__context__


def named(detail: str) -> str:
    """Return the things that a *detail* names, one a line, in a line of as many as one reads."""
    things = detail.splitlines()
    more = len(things) - _THINGS_SHOWN
    shown = "; ".join(things[:_THINGS_SHOWN])
    return f"{shown}; and {more} more" if more > 0 else shown


def misses_schema(error: BaseException, code: str | None, *, path: str) -> bool:
    """Say whether *error* may come of a schema that the path was not trusted with."""
    # What the server says, and not the statement beside it.
    said = text_of(getattr(error, "orig", error))
    return path == names.OURS and (
        code in names.NOT_FOUND or (code == names.NOT_ALLOWED and "pg_catalog" in said)
    )


def why_off_path(session: Session, schema: str) -> str:
    """Say why the revision did not find the names of its schema, and the way out."""
    try:
        # Not with the time that is left, which may be none.
        query(session, "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL")
        found = ", ".join(one for (one,) in query(session, names.reasons(schema)))
    except DriverError as error:
        found = f"why, cannot be seen: {sqlstate_of(error) or 'the connection broke'}"
    return (
        f"schema {schema} is not searched, because its names cannot be trusted"
        f" ({found}): write {schema}. before the name, or take that away"
        f" (REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC, or from the login)"
    )


def reason_of(error: BaseException, code: str | None, *, is_broken: bool) -> str:
    """Return why a revision failed, and the way out where that is known."""
    reason = _reason_of(error, code, is_broken=is_broken)
    cures = [cure for said, cure in _CURES if said in reason]
    return ": ".join((reason.rstrip("."), *cures)) if cures else reason


def _reason_of(error: BaseException, code: str | None, *, is_broken: bool) -> str:
    """Return the server's code and first line, or the error's."""
    if isinstance(error, Untrue | MigrationError):
        return str(error)
    origin = getattr(error, "orig", error)
    told = text_of(origin)
    first = told.partition(": ")[2] or told
    if code == QUERY_CANCELED:
        return (
            f"{code} {first}: the run had time left, so somebody cancelled it, or a timeout that "
            "the revision set itself"
        )
    if code == _ADMIN_SHUTDOWN:
        return f"{code} {first}: somebody ended the session, or the server is shutting down"
    if code is not None:
        return f"{code} {first}"
    if is_broken and isinstance(origin, DriverError):
        # Over TLS the driver loses what the server says as it ends a session.
        return (
            f"the connection broke ({first}): somebody ended the session, or the server or the "
            "network went away"
        )
    return told
