"""What a revision failed at: the line of its file, the statement, and all that the server said."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from core.model import cut
from core.postgres.masking import masked
from core.revisions.scripts import line_of

_CHARACTERS = 4000


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
