"""
The server asked for its catalogue: roles, privileges, settings and code, in one snapshot.

Nobody else's names get in: the transaction's path is the catalogue's alone, so each function,
operator and cast here is PostgreSQL's own, and what names are written like is pinned as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core.drift.catalogue import (
    ALL_DATA,
    Asked,
    Catalogue,
    Default,
    Function,
    Grant,
    Membership,
    Role,
    Setting,
    Table,
    Thing,
    TriggerRow,
)
from core.postgres.session import Session, is_broken, query

# Read only for good: once it has read, no statement can make it a writing one (PostgreSQL
# documentation, SET TRANSACTION). The two settings change what format() and quote_ident() say.
_BEGIN = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
    " SET LOCAL search_path = pg_catalog, pg_temp;"
    " SET LOCAL quote_all_identifiers = off;"
    " SET LOCAL standard_conforming_strings = on;"
    # By SHOW: a parallel worker, up to PostgreSQL 15, says of the setting that it is off.
    " SELECT 'it has read'; SHOW transaction_read_only"
)

_ROLES = """
SELECT rolname, pg_catalog.quote_ident(rolname), rolsuper, rolcanlogin, rolinherit,
    rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolconnlimit,
    CASE WHEN rolvaliduntil < 'infinity' THEN rolvaliduntil::text END,
    pg_catalog.pg_has_role(oid, 'USAGE'),
    coalesce(pg_catalog.pg_has_role(oid, pg_catalog.to_regrole('rds_iam')::oid, 'MEMBER'), false),
    CASE WHEN rolname = ANY (%s)
        THEN pg_catalog.has_database_privilege(oid, pg_catalog.current_database(), 'CONNECT') END
FROM pg_catalog.pg_roles
"""

# Who has which role, with the options that 16 brought.
_MEMBERSHIPS = """
SELECT member.rolname, held.rolname, grantor.rolname, m.admin_option,
    coalesce((pg_catalog.to_jsonb(m) ->> 'inherit_option')::boolean, member.rolinherit),
    coalesce((pg_catalog.to_jsonb(m) ->> 'set_option')::boolean, true)
FROM pg_catalog.pg_auth_members AS m
JOIN pg_catalog.pg_roles AS member ON member.oid = m.member
JOIN pg_catalog.pg_roles AS held ON held.oid = m.roleid
LEFT JOIN pg_catalog.pg_roles AS grantor ON grantor.oid = m.grantor
WHERE member.rolname = ANY (%s) OR held.rolname = ANY (%s)
"""

# Roles of the master's, by one membership, that have rds_iam however far away.
_IAM = """
WITH RECURSIVE options AS (
    SELECT roleid, member FROM pg_catalog.pg_auth_members AS m
    WHERE coalesce((pg_catalog.to_jsonb(m) ->> 'inherit_option')::boolean, true)
       OR coalesce((pg_catalog.to_jsonb(m) ->> 'set_option')::boolean, true)
), has_iam (role) AS (
    SELECT oid FROM pg_catalog.pg_roles WHERE rolname = 'rds_iam'
    UNION
    SELECT member FROM options JOIN has_iam ON role = roleid
)
SELECT DISTINCT rolname FROM options
JOIN has_iam ON role = roleid
JOIN pg_catalog.pg_roles AS r ON r.oid = roleid
WHERE member = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
"""

_SETTINGS = """
SELECT coalesce(r.rolname, ''), coalesce(d.datname, ''), item,
    pg_catalog.quote_ident(d.datname), (
        SELECT category FROM pg_catalog.pg_settings
        WHERE name = pg_catalog.split_part(item, '=', 1)
    )
FROM pg_catalog.pg_db_role_setting AS s
LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = setrole
LEFT JOIN pg_catalog.pg_database AS d ON d.oid = setdatabase,
    pg_catalog.unnest(setconfig) AS item
WHERE (setdatabase = 0 OR datname = pg_catalog.current_database())
  AND (setrole = 0 OR rolname = ANY (%s))
"""

_RELATION = "pg_catalog.quote_ident(nspname) || '.' || pg_catalog.quote_ident(relname)"
_ROUTINE = "pg_catalog.quote_ident(nspname) || '.' || pg_catalog.quote_ident(proname)"
_TYPE = "pg_catalog.quote_ident(nspname) || '.' || pg_catalog.quote_ident(typname)"
_IS_OURS = "NOT pg_catalog.starts_with(nspname, 'pg_') AND nspname <> 'information_schema'"

# One row a thing that can have an owner and an ACL: its kind and name as SQL, its schema (also
# as SQL), its owner, its ACL, and where it is in the catalogue. PUBLIC may execute what has no
# ACL; that matters where it runs as its owner.
_THINGS = f"""
SELECT 'DATABASE' AS kind, pg_catalog.quote_ident(datname) AS name, '' AS home, datdba AS owner,
    coalesce(datacl, pg_catalog.acldefault('d', datdba)) AS acl,
    'pg_catalog.pg_database'::regclass AS class, oid AS object, false AS is_system
FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
UNION ALL
SELECT 'SCHEMA', pg_catalog.quote_ident(nspname), pg_catalog.quote_ident(nspname), nspowner,
    coalesce(nspacl, pg_catalog.acldefault('n', nspowner)),
    'pg_catalog.pg_namespace'::regclass, oid, false
FROM pg_catalog.pg_namespace WHERE {_IS_OURS}
UNION ALL
SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
    {_RELATION}, pg_catalog.quote_ident(nspname), relowner,
    relacl, 'pg_catalog.pg_class'::regclass, c.oid, NOT ({_IS_OURS})
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
UNION ALL
SELECT CASE prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
    {_ROUTINE} || '(' || replace(pg_catalog.oidvectortypes(proargtypes), ', ', ',') || ')',
    pg_catalog.quote_ident(nspname), proowner,
    CASE WHEN prosecdef THEN coalesce(proacl, pg_catalog.acldefault('f', proowner))
        ELSE proacl END,
    'pg_catalog.pg_proc'::regclass, p.oid, NOT ({_IS_OURS})
FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = pronamespace
UNION ALL
SELECT 'TYPE', {_TYPE}, pg_catalog.quote_ident(nspname),
    typowner, typacl, 'pg_catalog.pg_type'::regclass, t.oid, NOT ({_IS_OURS})
FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = typnamespace
WHERE typtype IN ('d', 'e', 'r') OR typtype = 'c' AND EXISTS (
    SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = typrelid AND relkind = 'c'
) OR typtype = 'b' AND typelem = 0 AND typacl IS NOT NULL
UNION ALL
SELECT 'LANGUAGE', pg_catalog.quote_ident(lanname), '', lanowner, lanacl,
    'pg_catalog.pg_language'::regclass, oid, true
FROM pg_catalog.pg_language
UNION ALL
SELECT 'FOREIGN DATA WRAPPER', pg_catalog.quote_ident(fdwname), '', fdwowner, fdwacl,
    'pg_catalog.pg_foreign_data_wrapper'::regclass, oid, true
FROM pg_catalog.pg_foreign_data_wrapper
UNION ALL
SELECT 'FOREIGN SERVER', pg_catalog.quote_ident(srvname), '', srvowner, srvacl,
    'pg_catalog.pg_foreign_server'::regclass, oid, true
FROM pg_catalog.pg_foreign_server
UNION ALL
SELECT 'TABLESPACE', pg_catalog.quote_ident(spcname), '', spcowner, spcacl,
    'pg_catalog.pg_tablespace'::regclass, oid, true
FROM pg_catalog.pg_tablespace
"""

# Since 15.
_PARAMETERS = """
UNION ALL
SELECT 'PARAMETER', parname, '', 10::oid, paracl,
    'pg_catalog.pg_parameter_acl'::regclass, oid, true
FROM pg_catalog.pg_parameter_acl
"""

_OWNERS = """
SELECT kind, name, home, owner.rolname, EXISTS (
    SELECT FROM pg_catalog.pg_depend
    WHERE classid = class AND objid = object AND objsubid = 0
      AND (deptype = 'e' OR kind = 'SEQUENCE' AND deptype IN ('a', 'i'))
) FROM ({things}) AS thing
JOIN pg_catalog.pg_roles AS owner ON owner.oid = thing.owner
WHERE NOT is_system
"""

# Not what an extension gave as it was made: nobody here did that.
_GRANTS = """
SELECT coalesce(holder.rolname, 'PUBLIC'), grantor.rolname, given.privilege_type,
    given.is_grantable, kind, name, home, owner.rolname
FROM ({things}) AS thing
CROSS JOIN LATERAL pg_catalog.aclexplode(acl) AS given
JOIN pg_catalog.pg_roles AS owner ON owner.oid = thing.owner
LEFT JOIN pg_catalog.pg_roles AS grantor ON grantor.oid = given.grantor
LEFT JOIN pg_catalog.pg_roles AS holder ON holder.oid = given.grantee
WHERE (given.grantee = 0 OR holder.rolname IS NOT NULL)
  AND (given.grantee <> thing.owner OR kind = 'SCHEMA')
  AND (holder.rolname = ANY (%s) OR home = ANY (%s) AND NOT is_system
       OR given.grantee = 0 AND kind = 'DATABASE')
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_init_privs AS i, pg_catalog.aclexplode(initprivs) AS made
      WHERE i.privtype = 'e' AND i.classoid = class AND i.objoid = object AND i.objsubid = 0
        AND made.grantee = given.grantee AND made.privilege_type = given.privilege_type
  )
"""

_COLUMN_GRANTS = f"""
SELECT coalesce(holder.rolname, 'PUBLIC'), grantor.rolname,
    given.privilege_type || ' (' || pg_catalog.quote_ident(attname) || ')',
    given.is_grantable, 'TABLE',
    {_RELATION}, pg_catalog.quote_ident(nspname), owner.rolname
FROM pg_catalog.pg_attribute
JOIN pg_catalog.pg_class AS c ON c.oid = attrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = relnamespace
CROSS JOIN LATERAL pg_catalog.aclexplode(attacl) AS given
JOIN pg_catalog.pg_roles AS owner ON owner.oid = relowner
LEFT JOIN pg_catalog.pg_roles AS grantor ON grantor.oid = given.grantor
LEFT JOIN pg_catalog.pg_roles AS holder ON holder.oid = given.grantee
WHERE (given.grantee = 0 OR holder.rolname IS NOT NULL) AND given.grantee <> relowner
  AND (holder.rolname = ANY (%s) OR pg_catalog.quote_ident(nspname) = ANY (%s))
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_init_privs AS i, pg_catalog.aclexplode(initprivs) AS made
      WHERE i.privtype = 'e' AND i.classoid = 'pg_catalog.pg_class'::regclass
        AND i.objoid = attrelid AND i.objsubid = attnum AND made.grantee = given.grantee
        AND made.privilege_type = given.privilege_type
  )
"""

# Where it is for all schemas, nobody granted the built-in default of its kind.
_DEFAULTS = """
SELECT coalesce(holder.rolname, 'PUBLIC'), given.privilege_type, given.is_grantable,
    CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
        WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END,
    creator.rolname, pg_catalog.quote_ident(nspname)
FROM pg_catalog.pg_default_acl
JOIN pg_catalog.pg_roles AS creator ON creator.oid = defaclrole
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = defaclnamespace
CROSS JOIN LATERAL pg_catalog.aclexplode(defaclacl) AS given
LEFT JOIN pg_catalog.pg_roles AS holder ON holder.oid = given.grantee
WHERE (given.grantee = 0 OR holder.rolname IS NOT NULL) AND given.grantee <> defaclrole
  AND (holder.rolname = ANY (%s) OR pg_catalog.quote_ident(nspname) = ANY (%s)
       OR defaclnamespace = 0 AND creator.rolname = ANY (%s))
  AND NOT (defaclnamespace = 0 AND given.grantee = 0 AND NOT given.is_grantable
           AND defaclobjtype IN ('f', 'T') AND given.privilege_type IN ('EXECUTE', 'USAGE'))
"""

_TABLES = f"""
SELECT {_RELATION}, relkind::text,
    relpersistence = 'u', relrowsecurity, relforcerowsecurity,
    ARRAY(SELECT pg_catalog.quote_ident(polname) FROM pg_catalog.pg_policy
        WHERE polrelid = c.oid ORDER BY 1),
    ARRAY(SELECT pg_catalog.quote_ident(rulename) FROM pg_catalog.pg_rewrite
        WHERE ev_class = c.oid AND rulename <> '_RETURN' ORDER BY 1)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = relnamespace
WHERE {_RELATION} = ANY (%s)
"""

_TRIGGERS = f"""
SELECT {_RELATION}, pg_catalog.quote_ident(tgname),
    tgenabled IN ('O', 'A'), tgisinternal, pg_catalog.pg_get_triggerdef(t.oid)
FROM pg_catalog.pg_trigger AS t
JOIN pg_catalog.pg_class AS c ON c.oid = tgrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = relnamespace
WHERE {_RELATION} = ANY (%s) AND tgparentid = 0
"""

_FUNCTIONS = f"""
SELECT {_ROUTINE},
    {_ROUTINE} || '(' || replace(pg_catalog.oidvectortypes(proargtypes), ', ', ',') || ')',
    pg_catalog.quote_ident(nspname),
    CASE prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, owner.rolname, pronargs,
    lanname, prosrc, prosecdef, coalesce(proconfig, '{{}}'), provolatile::text, proisstrict,
    proleakproof
FROM pg_catalog.pg_proc AS p
JOIN pg_catalog.pg_namespace AS n ON n.oid = pronamespace
JOIN pg_catalog.pg_language AS l ON l.oid = prolang
JOIN pg_catalog.pg_roles AS owner ON owner.oid = proowner
WHERE {_IS_OURS}
  AND (prosecdef OR {_ROUTINE} = ANY (%s))
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend
      WHERE classid = 'pg_catalog.pg_proc'::regclass AND objid = p.oid AND deptype = 'e'
  )
"""


@contextmanager
def reading(session: Session) -> Iterator[None]:
    """Have *session* read in one snapshot of the database, and write nothing."""
    ((is_read_only,),) = query(session, _BEGIN)
    if is_read_only != "on":
        raise AssertionError("the transaction would write")
    try:
        yield
    finally:
        if not is_broken(session):
            query(session, "ROLLBACK")


def read(session: Session, asked: Asked) -> Catalogue:
    """Read what is *asked*, in the transaction that ``reading`` began."""
    ((master, database),) = query(
        session, "SELECT current_user, pg_catalog.quote_ident(pg_catalog.current_database())"
    )
    things = _THINGS + (_PARAMETERS if session.server_version >= 150000 else "")
    roles, schemas, tables = list(asked.roles), list(asked.schemas), list(asked.tables)

    def rows(statement: str, *values: object) -> list[tuple[Any, ...]]:
        return query(session, statement.replace("{things}", things), values)

    return Catalogue(
        version=session.server_version,
        master=str(master),
        database=str(database),
        roles={row[0]: Role(*row) for row in rows(_ROLES, roles)},
        memberships=[
            Membership(*row)
            for row in rows(_MEMBERSHIPS, [*roles, master], [*roles, master, *ALL_DATA])
        ],
        held_with_iam=[name for (name,) in rows(_IAM)],
        settings=[Setting(*row) for row in rows(_SETTINGS, [*roles, master])],
        things=[Thing(*row) for row in rows(_OWNERS)],
        grants=[
            Grant(*row)
            for statement in (_GRANTS, _COLUMN_GRANTS)
            for row in rows(statement, roles, schemas)
        ],
        defaults=[Default(*row) for row in rows(_DEFAULTS, roles, schemas, [*roles, master])],
        tables=[Table(*row) for row in rows(_TABLES, tables)],
        triggers=[TriggerRow(*row) for row in rows(_TRIGGERS, tables)],
        functions=[Function(*row) for row in rows(_FUNCTIONS, list(asked.functions))],
    )
