"""
Do the roles have what the revisions promise, and nothing beyond? Reads the catalogue only.

What is promised (``alembic/promises.toml``) and what the catalogue says are both sets of
``Privilege``; the differences are the drift, each with the statement that would repair it.
Not looked at: types, languages, foreign servers, large objects and other databases.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from core.actions.entry import entered
from core.actions.run import Run
from core.decisions.plan import known_current
from core.model import Result
from core.outcome import Outcome
from core.postgres.session import Session, query
from core.revisions import books, history
from core.revisions.promises import MASTER, Promises

logger = logging.getLogger(__name__)

PUBLIC = "PUBLIC"

# A role is made before it is given anything: this sorts first.
_EXIST = "(exist)"

# What a role may be; the repair of each is ALTER ROLE … with or without NO before it.
_ATTRIBUTES = {
    "LOGIN": "rolcanlogin",
    "SUPERUSER": "rolsuper",
    "CREATEROLE": "rolcreaterole",
    "CREATEDB": "rolcreatedb",
    "REPLICATION": "rolreplication",
    "BYPASSRLS": "rolbypassrls",
}

_ROLES = """
SELECT rolname, quote_ident(rolname), {}
FROM pg_roles WHERE rolname = ANY (%(roles)s)
""".format(", ".join(_ATTRIBUTES.values()))

_MEMBERSHIPS = """
SELECT member.rolname, quote_ident(of.rolname)
FROM pg_auth_members
JOIN pg_roles AS member ON member.oid = member
JOIN pg_roles AS of ON of.oid = roleid
WHERE member.rolname = ANY (%(roles)s)
"""

# One row a thing that can have an ACL: its kind, its name as SQL, its schema (also as
# SQL), its owner, its ACL. An owner needs no entry, and PUBLIC may execute what has no ACL.
_THINGS = """
SELECT 'DATABASE' AS kind, quote_ident(datname) AS name, '' AS home, datdba AS owner, datacl AS acl
FROM pg_database WHERE datname = current_database()
UNION ALL
SELECT 'SCHEMA', quote_ident(nspname), quote_ident(nspname), nspowner, nspacl
FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%%' AND nspname <> 'information_schema'
UNION ALL
SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
    format('%%I.%%I', nspname, relname), quote_ident(nspname), relowner, relacl
FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  AND nspname NOT LIKE 'pg\\_%%' AND nspname <> 'information_schema'
UNION ALL
SELECT 'FUNCTION', format('%%I.%%I(%%s)', nspname, proname,
        replace(oidvectortypes(proargtypes), ', ', ',')),
    quote_ident(nspname), proowner,
    CASE WHEN prosecdef THEN coalesce(proacl, acldefault('f', proowner)) ELSE proacl END
FROM pg_proc JOIN pg_namespace AS n ON n.oid = pronamespace
WHERE nspname NOT LIKE 'pg\\_%%' AND nspname <> 'information_schema'
"""

_OWNERS = f"""
SELECT kind, name, home, owner.rolname FROM ({_THINGS}) AS thing
JOIN pg_roles AS owner ON owner.oid = thing.owner
"""

_GRANTS = f"""
SELECT coalesce(holder.rolname, '{PUBLIC}'), privilege_type, kind, name, home
FROM ({_THINGS}) AS thing, aclexplode(acl)
LEFT JOIN pg_roles AS holder ON holder.oid = grantee
WHERE grantee <> owner AND (grantee = 0 OR holder.rolname = ANY (%(roles)s))
"""

_COLUMN_GRANTS = f"""
SELECT coalesce(holder.rolname, '{PUBLIC}'),
    format('%%s (%%I)', privilege_type, attname), 'TABLE',
    format('%%I.%%I', nspname, relname), quote_ident(nspname)
FROM pg_attribute
JOIN pg_class AS c ON c.oid = attrelid
JOIN pg_namespace AS n ON n.oid = relnamespace, aclexplode(attacl)
LEFT JOIN pg_roles AS holder ON holder.oid = grantee
WHERE grantee <> relowner AND (grantee = 0 OR holder.rolname = ANY (%(roles)s))
  AND nspname NOT LIKE 'pg\\_%%' AND nspname <> 'information_schema'
"""

_DEFAULTS = f"""
SELECT coalesce(holder.rolname, '{PUBLIC}'), privilege_type,
    CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
        WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END,
    creator.rolname, quote_ident(nspname)
FROM pg_default_acl
JOIN pg_roles AS creator ON creator.oid = defaclrole
LEFT JOIN pg_namespace AS n ON n.oid = defaclnamespace, aclexplode(defaclacl)
LEFT JOIN pg_roles AS holder ON holder.oid = grantee
WHERE grantee <> defaclrole AND holder.rolname = ANY (%(roles)s)
"""

_UNSAFE_FUNCTIONS = """
SELECT format('%%I.%%I(%%s)', nspname, proname, oidvectortypes(proargtypes))
FROM pg_proc JOIN pg_namespace AS n ON n.oid = pronamespace
WHERE prosecdef AND quote_ident(nspname) = ANY (%(schemas)s)
  AND NOT EXISTS (
      SELECT FROM unnest(proconfig) AS setting (text) WHERE text LIKE 'search\\_path=%%'
  )
"""


class Privilege(NamedTuple):
    """
    One thing that a role may do.

    Attributes:
        role: By name, or PUBLIC.
        what: In words, such as ``SELECT on TABLE audit.events``.
        give: The statement that gives it.
        take: The statement that takes it.
    """

    role: str
    what: str
    give: str
    take: str


def check(run: Run) -> Result:
    """Report, for each role that the revisions promise, what it has, lacks and has beyond."""
    with entered(run) as (place, session):
        at = history.position(session)
        known_current(run.revisions.identifiers, at.current)
        promises = run.promises.up_to(run.revisions.up_to(at.current))
        query(session, "SET default_transaction_read_only = on")
        needed, allowed, found, unsafe = _compare(session, promises)
    run.report.found_at(at.current)
    drift = [
        {"role": one.role, "drift": kind, "privilege": one.what, "statement": statement}
        for one, kind, statement in sorted(
            [
                *((one, "missing", one.give) for one in needed - found),
                *((one, "beyond", one.take) for one in found - allowed),
                *((one, "beyond", one.take) for one in unsafe),
            ]
        )
    ]
    run.report.details = {
        "roles": [
            {
                "role": role.name,
                "can": role.can,
                "present": sorted(x.what for x in found & allowed if x.role == role.name),
                "missing": sorted(x.what for x in needed - found if x.role == role.name),
                "beyond": sorted(x.what for x in found - allowed if x.role == role.name),
            }
            for role in promises.roles
        ],
        "drift": drift,
    }
    where = f"{place.name} is at {at.current or 'base'}"
    if drift:
        message = f"{where}; {len(drift)} deviation(s) from what its revisions promise: see drift"
        logger.warning(message)
    else:
        message = f"{where}; its {len(promises.roles)} role(s) may do what is promised, and no more"
        logger.info(message)
    return Result(Outcome.CHECKED, message, run.report)


def _compare(
    session: Session, promises: Promises
) -> tuple[set[Privilege], set[Privilege], set[Privilege], set[Privilege]]:
    """Return what is needed, what is allowed, what is there, and what is unsafe for anybody."""
    names = [role.name for role in promises.roles]
    master = str(query(session, "SELECT current_user")[0][0])

    def rows(statement: str) -> list[tuple[Any, ...]]:
        with session.cursor() as cursor:
            cursor.execute(statement, {"roles": names, "schemas": schemas})
            return list(cursor.fetchall())

    schemas = [one.name for one in (*promises.schemas, *promises.closed)]
    schemas.append(books.SCHEMA)
    roles = rows(_ROLES)
    things = rows(_OWNERS)
    book = _Book(master, {name: quoted for name, quoted, *_ in roles})

    found = set(_attributes(roles, book))
    found |= {book.membership(member, of) for member, of in rows(_MEMBERSHIPS)}
    for holder, privilege, kind, name, home in (*rows(_GRANTS), *rows(_COLUMN_GRANTS)):
        # PUBLIC is looked at where it is promised nothing; elsewhere it is not ours to judge.
        if holder != PUBLIC or home in schemas:
            found.add(book.grant(holder, privilege, kind, name))
    for holder, privilege, kind, creator, home in rows(_DEFAULTS):
        found.add(book.default(holder, privilege, kind, creator=creator, home=home))
    owned = {one.name: one.owner for one in promises.schemas if one.owner not in (None, MASTER)}
    for kind, name, home, owner in things:
        # What a schema's owner makes in it needs no promise of its own.
        if owner in names and not (kind != "SCHEMA" and owned.get(home) == owner):
            found.add(book.ownership(owner, kind, name))

    needed = set(_promised_roles(promises, book))
    needed |= {book.ownership(str(owner), "SCHEMA", name) for name, owner in owned.items()}
    allowed = set(needed)
    for one, is_needed in _promised_grants(promises, things, book):
        allowed.add(one)
        if is_needed:
            needed.add(one)

    unsafe = {
        Privilege(
            PUBLIC,
            f"a search_path of the caller's in FUNCTION {name}, which is SECURITY DEFINER",
            "",
            f"ALTER FUNCTION {name} SET search_path = pg_catalog, pg_temp",
        )
        for (name,) in rows(_UNSAFE_FUNCTIONS)
    }
    return needed, allowed, found, unsafe


class _Book(NamedTuple):
    """
    How each privilege is written down.

    Attributes:
        master: Whom MASTER stands for.
        quoted: The names of the promised roles that are there, as SQL.
    """

    master: str
    quoted: Mapping[str, str]

    def identifier(self, role: str) -> str:
        """Return *role* as SQL."""
        if role == PUBLIC:
            return role
        return self.quoted.get(role) or '"{}"'.format(role.replace('"', '""'))

    def attribute(self, role: str, name: str) -> Privilege:
        """Return a right of the role itself, such as LOGIN."""
        change = f"ALTER ROLE {self.identifier(role)}"
        return Privilege(role, name, f"{change} {name}", f"{change} NO{name}")

    def membership(self, role: str, of: str) -> Privilege:
        """Return the membership of *role* in *of*, which is written as SQL."""
        me = self.identifier(role)
        return Privilege(role, f"member of {of}", f"GRANT {of} TO {me}", f"REVOKE {of} FROM {me}")

    def existence(self, role: str) -> Privilege:
        """Return that *role* is there."""
        me = self.identifier(role)
        return Privilege(role, _EXIST, f"CREATE ROLE {me}", f"DROP ROLE {me}")

    def ownership(self, role: str, kind: str, name: str) -> Privilege:
        """Return that *role* owns *name*."""
        change = f"ALTER {kind} {name} OWNER TO"
        give = f"{change} {self.identifier(role)}"
        return Privilege(role, f"own {kind} {name}", give, f"{change} CURRENT_USER")

    def grant(self, role: str, privilege: str, kind: str, name: str) -> Privilege:
        """Return a privilege on one thing."""
        on = f"{privilege} ON {kind} {name}"
        me = self.identifier(role)
        return Privilege(role, on, f"GRANT {on} TO {me}", f"REVOKE {on} FROM {me}")

    def default(
        self, role: str, privilege: str, kind: str, *, creator: str, home: str | None
    ) -> Privilege:
        """Return a privilege on what *creator*, by its name as it is, will make."""
        where = f" IN SCHEMA {home}" if home else ""
        who = "CURRENT_USER" if creator == self.master else self.identifier(creator)
        change = f"ALTER DEFAULT PRIVILEGES FOR ROLE {who}{where}"
        me = self.identifier(role)
        return Privilege(
            role,
            f"{privilege} ON future {kind}{where} made by {creator}",
            f"{change} GRANT {privilege} ON {kind} TO {me}",
            f"{change} REVOKE {privilege} ON {kind} FROM {me}",
        )


def _attributes(roles: list[tuple[Any, ...]], book: _Book) -> Iterator[Privilege]:
    """Yield what the promised roles are, by the rows of _ROLES."""
    for name, _quoted, *values in roles:
        yield book.existence(name)
        for attribute, value in zip(_ATTRIBUTES, values, strict=True):
            if value:
                yield book.attribute(name, attribute)


def _promised_roles(promises: Promises, book: _Book) -> Iterator[Privilege]:
    for role in promises.roles:
        yield book.existence(role.name)
        if role.login is not None:
            yield book.attribute(role.name, "LOGIN")
        for of in (*role.member_of, *(["rds_iam"] if role.login == "iam" else [])):
            yield book.membership(role.name, of)
        for owned in role.owns:
            kind, _, name = owned.partition(" ")
            yield book.ownership(role.name, kind.upper(), name)


def _promised_grants(
    promises: Promises, things: list[tuple[Any, ...]], book: _Book
) -> Iterator[tuple[Privilege, bool]]:
    """Yield each privilege that the grants allow, and whether it has to be there."""
    for grant in promises.grants:
        makers = {book.master if one == MASTER else one for one in grant.made_by}
        for on in grant.on:
            kind, _, rest = on.partition(" ")
            schema = rest.removeprefix("in ")
            for privilege in grant.privileges:
                if kind not in ("tables", "sequences"):
                    yield book.grant(grant.to, privilege, kind.upper(), rest), True
                    continue
                for thing_kind, name, home, owner in things:
                    if thing_kind == kind.upper()[:-1] and home == schema:
                        # What a stranger makes there is nobody's promise.
                        is_needed = not makers or owner in makers
                        yield book.grant(grant.to, privilege, thing_kind, name), is_needed
                for maker in makers:
                    one = book.default(
                        grant.to, privilege, kind.upper(), creator=maker, home=schema
                    )
                    yield one, True
