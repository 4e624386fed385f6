"""
Where names are looked for: what runs as the master finds nothing of a stranger's by them.

Whoever may create in a schema of the search path can give a function, an operator or a cast a
better match than PostgreSQL's own, and it runs as whoever calls it (PostgreSQL documentation,
"Functions" and "Operators" of "Type Conversion").
"""

from __future__ import annotations

import re
from enum import StrEnum

from core.errors import RunFailed

# For every statement of our own. Named last, pg_temp hides nothing of the catalogue's.
OURS = "pg_catalog, pg_temp"

# Where a revision's unqualified names are, unless its alembic.ini says otherwise.
DEFAULT_SCHEMA = "public"

# SQLSTATE of a name that is not found, and of CREATE where there is no schema to create in.
NOT_FOUND = ("42P01", "42883", "42704", "3F000")
NOT_ALLOWED = "42501"

_PLAIN = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")

_SCHEMA = "(SELECT oid FROM pg_namespace WHERE nspname = '{schema}')"
_OF_A_STRANGER = "<> ALL (ARRAY(SELECT oid FROM pg_roles WHERE rolsuper OR rolname = current_user))"
_KNOWN = """(
    SELECT proname FROM pg_proc WHERE pronamespace = 11
    UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 11)"""

# Why a schema cannot be trusted, a row a reason: who could put something there at any time,
# and what a stranger has there that a name might pick up. A member of the master's can be the
# master anyway. Functions and types count where PostgreSQL has one of their name, as both are
# called alike: any other is called because it is meant. Rows and arrays cannot be called.
_MAKERS = """
SELECT format('login %I may create in it', login.rolname) AS reason
FROM pg_roles AS login
WHERE rolcanlogin AND NOT rolsuper AND NOT pg_has_role(login.oid, current_user, 'MEMBER')
  AND EXISTS (
    SELECT FROM aclexplode((
        SELECT coalesce(nspacl, acldefault('n', nspowner))
            || makeaclitem(nspowner, nspowner, 'CREATE', false)
        FROM pg_namespace WHERE nspname = '{schema}'))
    WHERE privilege_type = 'CREATE' AND (grantee = 0 OR pg_has_role(login.oid, grantee, 'MEMBER')))
"""
_REASONS = f"""{_MAKERS}UNION ALL
SELECT format('%I owns function %s', pg_get_userbyid(proowner), p.oid::regprocedure)
FROM pg_proc AS p
WHERE pronamespace = {_SCHEMA} AND proowner {_OF_A_STRANGER} AND proname IN {_KNOWN}
UNION ALL
SELECT format('%I owns type %s', pg_get_userbyid(typowner), t.oid::regtype)
FROM pg_type AS t
WHERE typnamespace = {_SCHEMA} AND typowner {_OF_A_STRANGER} AND typtype <> 'c'
  AND typcategory <> 'A' AND typname IN {_KNOWN}
UNION ALL
SELECT format('%I owns operator %s', pg_get_userbyid(
    CASE WHEN oprowner {_OF_A_STRANGER} THEN oprowner ELSE proowner END), o.oid::regoperator)
FROM pg_operator AS o LEFT JOIN pg_proc AS p ON p.oid = oprcode
WHERE oprnamespace = {_SCHEMA} AND (oprowner {_OF_A_STRANGER} OR proowner {_OF_A_STRANGER})
UNION ALL
SELECT format('%I owns the cast from %s to %s', pg_get_userbyid(typowner),
    castsource::regtype, casttarget::regtype)
FROM pg_cast LEFT JOIN pg_proc AS p ON p.oid = castfunc, LATERAL (
    SELECT typowner, typnamespace FROM pg_type WHERE pg_type.oid IN (castsource, casttarget)
    UNION ALL SELECT proowner, pronamespace WHERE p.oid IS NOT NULL) AS part
WHERE pg_cast.oid >= 16384 AND typnamespace = {_SCHEMA} AND typowner {_OF_A_STRANGER}
"""

# Whether nobody may create there but the master, by himself or as the owner of the database. Then
# none of the logins above may, as each is a member of nobody who may: there is no need to look for
# them, which takes several times as long to plan.
_IS_MINE = """
SELECT current_user = ALL (
    SELECT CASE pg_get_userbyid(grantee) WHEN 'pg_database_owner' THEN (
        SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database())
        ELSE pg_get_userbyid(grantee) END
    FROM aclexplode(nspacl || makeaclitem(nspowner, nspowner, 'CREATE', false))
    WHERE privilege_type = 'CREATE')
FROM pg_namespace WHERE nspname = '{schema}'
"""
_IS_THERE = "EXISTS (SELECT FROM pg_namespace WHERE nspname = '{schema}')"


class Look(StrEnum):
    """
    A look at whether a schema can be trusted, by what it takes for that.

    What a stranger has there is looked for once a run. As long as nobody may put more there,
    which is looked at before each revision, that stays true.
    """

    IN_FULL = f"{_IS_THERE} AND NOT EXISTS ({_REASONS})"
    AT_WHO_MAY_CREATE = f"{_IS_THERE} AND NOT EXISTS ({_MAKERS})"
    # Where it does not trust, the one above may.
    AT_MYSELF = f"({_IS_MINE})"


def checked_schema(name: str | None) -> str:
    """
    Return the schema of a revision's unqualified names, which ``alembic.ini`` calls *name*.

    Raises:
        RunFailed: It is not a plain name of a schema of yours.
    """
    if name is None:
        return DEFAULT_SCHEMA
    if not _PLAIN.fullmatch(name):
        raise RunFailed(
            f"alembic.ini: revision_schema = {name}: give the plain name of one schema of yours, "
            "up to 63 lower-case letters, digits and underscores; nothing was changed"
        )
    return name


def set_path(path: str, *, transaction: bool = False) -> str:
    """Return the statement that sets the search *path* of the session, or of a *transaction*."""
    return f"SET {'LOCAL ' if transaction else ''}search_path = {path}"


def revision_path(schema: str, look: Look) -> str:
    """
    Return the expression that sets, and returns, the path of a revision by *look* at its *schema*.

    pg_catalog, which is not named, is searched first; named first, it is where an unqualified
    CREATE TABLE would go.
    """
    return (
        f"set_config('search_path', CASE WHEN {look.format(schema=schema)}"
        f" THEN '\"{schema}\", pg_temp' ELSE '{OURS}' END, false)"
    )


def reasons(schema: str) -> str:
    """Return the query for why *schema* cannot be trusted."""
    return (
        f"SELECT 'it does not exist' WHERE NOT EXISTS"
        f" (SELECT FROM pg_namespace WHERE nspname = '{schema}')"
        f" UNION ALL SELECT reason FROM ({_REASONS.format(schema=schema)}) AS found LIMIT 4"
    )
