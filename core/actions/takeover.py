"""What is there already of what the revisions promise, and is not of our making."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from core.postgres.session import Session, query
from core.revisions.books import SCHEMA
from core.revisions.marks import IS_OURS

if TYPE_CHECKING:
    from core.revisions.promises import Promises

_ROLES = f"""
SELECT 'role', found.rolname, NULL FROM pg_roles AS found
WHERE found.rolname = ANY (%s) AND NOT {IS_OURS}
ORDER BY 2
"""

_SCHEMAS = """
SELECT 'schema', nspname, pg_get_userbyid(nspowner) FROM pg_namespace
WHERE nspname = ANY (%s) AND pg_get_userbyid(nspowner) <> ALL (%s)
ORDER BY 2
"""

_TABLES = """
SELECT 'table', nspname || '.' || relname, pg_get_userbyid(relowner)
FROM pg_class JOIN pg_namespace AS home ON home.oid = relnamespace
WHERE nspname || '.' || relname = ANY (%s) AND pg_get_userbyid(relowner) <> ALL (%s)
ORDER BY 2
"""

# What an extension brought was put there with it.
_CLOSED = """
SELECT 'schema', nspname, string_agg(DISTINCT pg_get_userbyid(relowner), ', '), %s
FROM pg_class JOIN pg_namespace AS home ON home.oid = relnamespace
WHERE nspname = ANY (%s) AND has_schema_privilege('public', home.oid, 'USAGE')
AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT EXISTS (
    SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
    AND deptype = 'e'
)
GROUP BY nspname ORDER BY nspname
"""

_OTHER_TOOLS = """
SELECT 'table', 'public.alembic_version', pg_get_userbyid(relowner), %s
FROM pg_class WHERE oid = to_regclass('public.alembic_version')
"""

_WAS_MADE = f"""
SELECT EXISTS (
    SELECT FROM {SCHEMA}.history WHERE revision = %s AND direction IN ('upgrade', 'adopt')
    AND id > (
        SELECT coalesce(max(id), 0) FROM {SCHEMA}.history
        WHERE revision = %s AND direction = 'downgrade'
    )
)
"""


TAKEN_OVER = "taken over"
CLOSED = "closed to PUBLIC"
LEFT = "left as it is"


class Found(NamedTuple):
    """
    Something that is there and is not ours.

    Attributes:
        becomes: What a run would make of it: ``taken over``, ``closed to PUBLIC`` for a schema
            that holds things of *owner*, or ``left as it is``.
    """

    kind: str
    name: str
    owner: str | None
    becomes: str = TAKEN_OVER

    def __str__(self) -> str:
        if self.becomes == CLOSED:
            return f"{self.kind} {self.name} with things of {self.owner}"
        return f"{self.kind} {self.name}" + (f" of {self.owner}" if self.owner else "")


def strangers(session: Session, promised: Promises) -> list[Found]:
    """
    Return what is there and not ours, and would be another's no more once *promised* is applied.

    A role is ours by its mark, whatever became of schema day2. A schema or a table is if it
    belongs to the master or to a role that is promised, and is ours.
    """
    names = [role.name for role in promised.roles]
    roles = [Found(*row) for row in query(session, _ROLES, (names,))]
    ours = {*names, str(query(session, "SELECT current_user")[0][0])}
    owners = sorted(ours - {one.name for one in roles})
    schemas = query(session, _SCHEMAS, ([one.name for one in promised.schemas], owners))
    tables = query(session, _TABLES, ([one.name for one in promised.tables], owners))
    closed = [one.name for one in promised.closed]
    return [
        *roles,
        *(Found(*row) for row in (*schemas, *tables)),
        *(Found(*row) for row in query(session, _CLOSED, (CLOSED, closed))),
    ]


def other_tools(session: Session) -> list[Found]:
    """Return the table in which another Alembic keeps its history, if there is one; unread."""
    return [Found(*row) for row in query(session, _OTHER_TOOLS, (LEFT,))]


def is_of_our_making(session: Session, role: str, since: str) -> bool:
    """
    Say whether we made *role*, or were told to take it over, in revision *since*.

    A stamp alone says that the revision counts as applied, and not that its roles are ours.
    """
    return was_made(session, since) or not query(session, _ROLES, ([role],))


def was_made(session: Session, since: str) -> bool:
    """Say whether revision *since* was run on this database, or adopted, and not taken back."""
    return bool(query(session, _WAS_MADE, (since, since))[0][0])
