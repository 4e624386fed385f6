"""
What roles, objects and privileges a server has, as lines of text to compare.

A missing ACL is written as the default that it stands for, and lists are sorted: two
catalogues differ only where somebody may do something else.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from core.postgres.session import query
from infra.local.postgres.server import Server

# A predefined role is PostgreSQL's own business, unless somebody of ours is a member of it.
_OF_OURS = "NOT LIKE 'pg\\_%%'"


def _acl(acl: str, kind: str, owner: str) -> str:
    """Return SQL for the sorted text of *acl*, or of the default for a *kind* of *owner*'s."""
    return f"""(
        SELECT coalesce(string_agg(
            format('%%s=%%s', coalesce(nullif(grantee, 0)::regrole::text, 'PUBLIC'), held), ' '
            ORDER BY nullif(grantee, 0)::regrole::text COLLATE "C" NULLS FIRST
        ), '-')
        FROM (
            SELECT grantee, string_agg(
                privilege_type || CASE WHEN is_grantable THEN '*' ELSE '' END, ','
                ORDER BY privilege_type COLLATE "C"
            ) AS held
            FROM aclexplode(coalesce({acl}, acldefault('{kind}', {owner}))) GROUP BY grantee
        ) AS grants
    )"""


_IN_OUR_SCHEMAS = """
    nspname NOT LIKE 'pg\\_%%' AND nspname <> 'information_schema' AND nspname <> ALL (%(without)s)
"""

_ROLES = f"""
SELECT rolname,
    CASE WHEN rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END,
    CASE WHEN rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END,
    concat_ws(' ',
        CASE WHEN rolsuper THEN 'SUPERUSER' END,
        CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
        CASE WHEN rolcreatedb THEN 'CREATEDB' END,
        CASE WHEN rolreplication THEN 'REPLICATION' END,
        CASE WHEN rolbypassrls THEN 'BYPASSRLS' END,
        CASE WHEN rolconnlimit >= 0 THEN 'CONNECTION LIMIT ' || rolconnlimit END
    ),
    CASE WHEN rolpassword IS NULL THEN 'no password'
         ELSE split_part(rolpassword, '$', 1) END,
    coalesce(rolvaliduntil::text, 'for ever'),
    coalesce((
        SELECT string_agg(
            coalesce('in ' || datname || ' ', '') || array_to_string(setconfig, ' '), '; '
            ORDER BY datname NULLS FIRST
        )
        FROM pg_db_role_setting LEFT JOIN pg_database ON pg_database.oid = setdatabase
        WHERE setrole = pg_authid.oid
    ), 'no settings')
FROM pg_authid WHERE rolname {_OF_OURS} ORDER BY rolname COLLATE "C"
"""

_MEMBERSHIPS = f"""
SELECT m.rolname, 'in ' || r.rolname,
    concat_ws(' ', 'by ' || g.rolname,
        CASE WHEN admin_option THEN 'ADMIN' END,
        CASE WHEN (to_jsonb(a) ->> 'inherit_option')::boolean THEN 'INHERIT' END,
        CASE WHEN (to_jsonb(a) ->> 'set_option')::boolean THEN 'SET' END
    )
FROM pg_auth_members AS a
JOIN pg_roles AS r ON r.oid = roleid
JOIN pg_roles AS m ON m.oid = member
LEFT JOIN pg_roles AS g ON g.oid = grantor
WHERE m.rolname {_OF_OURS}
ORDER BY m.rolname COLLATE "C", r.rolname COLLATE "C", g.rolname COLLATE "C"
"""

_DATABASE = f"""
SELECT datname, 'of ' || datdba::regrole::text, {_acl("datacl", "d", "datdba")}
FROM pg_database WHERE datname = current_database()
"""

_SCHEMAS = f"""
SELECT nspname, 'of ' || nspowner::regrole::text, {_acl("nspacl", "n", "nspowner")}
FROM pg_namespace WHERE {_IN_OUR_SCHEMAS} ORDER BY nspname COLLATE "C"
"""

_RELATIONS = f"""
SELECT format('%%I.%%I', nspname, relname),
    CASE relkind WHEN 'r' THEN 'table' WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view'
        ELSE relkind::text END,
    'of ' || relowner::regrole::text,
    CASE relkind WHEN 'S' THEN {_acl("relacl", "s", "relowner")}
        ELSE {_acl("relacl", "r", "relowner")} END
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE {_IN_OUR_SCHEMAS} AND relkind <> 'i'
ORDER BY nspname COLLATE "C", relname COLLATE "C"
"""

_COLUMNS = f"""
SELECT format('%%I.%%I', nspname, relname), attname,
    format_type(atttypid, atttypmod),
    concat_ws(' ',
        CASE WHEN attnotnull THEN 'NOT NULL' END,
        CASE attidentity WHEN 'a' THEN 'GENERATED ALWAYS AS IDENTITY' END,
        'DEFAULT ' || pg_get_expr(adbin, adrelid)
    ),
    coalesce(attacl::text, '-')
FROM pg_attribute
JOIN pg_class ON pg_class.oid = attrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE {_IN_OUR_SCHEMAS} AND relkind IN ('r', 'v') AND attnum > 0 AND NOT attisdropped
ORDER BY nspname COLLATE "C", relname COLLATE "C", attnum
"""

# Not-null constraints have rows of their own from 18 on; the columns tell them already.
_CONSTRAINTS = f"""
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(pg_constraint.oid)
FROM pg_constraint JOIN pg_namespace ON pg_namespace.oid = connamespace
WHERE {_IN_OUR_SCHEMAS} AND conrelid <> 0 AND contype <> 'n'
ORDER BY nspname COLLATE "C", conrelid::regclass::text COLLATE "C", conname COLLATE "C"
"""

_FUNCTIONS = f"""
SELECT pg_proc.oid::regprocedure::text, 'of ' || proowner::regrole::text,
    CASE WHEN prosecdef THEN 'SECURITY DEFINER' ELSE 'SECURITY INVOKER' END,
    coalesce(array_to_string(proconfig, ' '), 'no settings'),
    {_acl("proacl", "f", "proowner")}
FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
WHERE {_IN_OUR_SCHEMAS} ORDER BY pg_proc.oid::regprocedure::text COLLATE "C"
"""

_TRIGGERS = f"""
SELECT pg_get_triggerdef(pg_trigger.oid)
FROM pg_trigger
JOIN pg_class ON pg_class.oid = tgrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE {_IN_OUR_SCHEMAS} AND NOT tgisinternal ORDER BY tgname COLLATE "C"
"""

# What is granted beside the owner's own privileges, which are always there.
_DEFAULT_PRIVILEGES = f"""
SELECT 'what ' || defaclrole::regrole::text || ' creates',
    coalesce('in ' || defaclnamespace::regnamespace::text, 'everywhere'),
    CASE defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions'
        ELSE defaclobjtype::text END,
    {_acl("defaclacl", "r", "defaclrole")}
FROM pg_default_acl LEFT JOIN pg_namespace ON pg_namespace.oid = defaclnamespace
ORDER BY defaclrole::regrole::text COLLATE "C", nspname COLLATE "C", defaclobjtype
"""

_SECTIONS = {
    "roles": _ROLES,
    "memberships": _MEMBERSHIPS,
    "database": _DATABASE,
    "schemas": _SCHEMAS,
    "relations": _RELATIONS,
    "columns": _COLUMNS,
    "constraints": _CONSTRAINTS,
    "functions": _FUNCTIONS,
    "triggers": _TRIGGERS,
    "default privileges": _DEFAULT_PRIVILEGES,
}


def sections(session: Any, *, without: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Return what the database of a superuser's *session* holds, without some schemas."""
    return {
        title: [
            " | ".join(filter(None, row))
            for row in query(session, statement, {"without": list(without)})  # type: ignore[arg-type]
        ]
        for title, statement in _SECTIONS.items()
    }


def catalogue(server: Server, database: str, *, without: tuple[str, ...] = ()) -> str:
    """Return what *server* and *database* hold, leaving out the schemas *without*."""
    lines: list[str] = []
    with closing(server.superuser(database)) as session:
        for title, found in sections(session, without=without).items():
            lines += [title, *(f"  {line}" for line in found), ""]
    return "\n".join(lines)


def name_in(line: str) -> str:
    """Return what a *line* of a section is about."""
    return line.partition(" | ")[0]


def differences(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    """Return what *after* has beyond *before* (+) and lacks of it (-), by section."""
    lines: list[str] = []
    for title, found in after.items():
        earlier = before.get(title, [])
        told = [f"- {line}" for line in earlier if line not in found]
        told += [f"+ {line}" for line in found if line not in earlier]
        lines += [title, *(f"  {line}" for line in told)] if told else []
    return lines
