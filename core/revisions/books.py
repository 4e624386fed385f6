"""
Schema ``day2`` of a database, where we keep our books: made, verified and brought up to date.

The books have a version, and change by additions only: the previous build can read them, and
this one reads older books as they are. They are brought up to date by the first run that writes,
under the lock. Nothing in them is used before its owner is known: what somebody else made could
run his code as us.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from core.errors import AccessDenied, LockBusy, MigrationError, RunFailed
from core.postgres.session import Session, is_broken, query, sqlstate_of

logger = logging.getLogger(__name__)

SCHEMA = "day2"
VERSION_TABLE = "alembic_version"

# The version of the books that this build writes.
VERSION = 2

# IF NOT EXISTS: an earlier run may have been cut off. The rows of the history are a log, so
# the table itself refuses to change one, whoever asks.
_FIRST = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
REVOKE ALL ON SCHEMA {SCHEMA} FROM PUBLIC;
CREATE TABLE IF NOT EXISTS {SCHEMA}.history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    revision varchar(32),
    direction text NOT NULL CHECK (direction IN ('upgrade', 'downgrade', 'stamp', 'adopt')),
    description text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by text NOT NULL DEFAULT session_user,
    duration_ms integer NOT NULL,
    trigger text NOT NULL,
    request_id text NOT NULL,
    checksum text
);
CREATE OR REPLACE FUNCTION {SCHEMA}.refuse_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog
    AS $$ BEGIN RAISE EXCEPTION '{SCHEMA}.history is append-only'; END $$;
CREATE OR REPLACE TRIGGER append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON {SCHEMA}.history
    FOR EACH STATEMENT EXECUTE FUNCTION {SCHEMA}.refuse_change();
"""

# As Alembic itself would make it; ``stamp`` and ``adopt`` need it before Alembic ran once.
CREATE_VERSION_TABLE = f"""
CREATE TABLE IF NOT EXISTS {SCHEMA}.{VERSION_TABLE} (
    version_num varchar(32) NOT NULL CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY
);
"""

# What each later version adds; only ever more, and each statement may be run again.
_ADDITIONS = {
    2: f"""
CREATE TABLE IF NOT EXISTS {SCHEMA}.book (
    is_the_one boolean PRIMARY KEY DEFAULT true CHECK (is_the_one),
    version integer NOT NULL,
    keeper text,
    dbi_resource_id text,
    secret_folder text,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS {SCHEMA}.run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id text NOT NULL,
    trigger text NOT NULL,
    target text,
    revision text,
    build text NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    outcome text
);
""",
}

# Without the version table, which Alembic makes in a script on paper.
CREATE = _FIRST + "".join(_ADDITIONS.values())
_KEPT_BY_NOBODY = (
    f"INSERT INTO {SCHEMA}.book (version) VALUES (%s) ON CONFLICT (is_the_one)"
    " DO UPDATE SET version = EXCLUDED.version, updated_at = clock_timestamp()"
)

_NOTHING = "; nothing was changed"

_TABLES = ("history", VERSION_TABLE, "book", "run")

# What others may do to the schema and what is in it, as default privileges give it to them:
# whoever may write there can say what was applied, and whoever may make triggers is the master.
_GRANTED = """
SELECT DISTINCT grantee FROM (
    SELECT nspacl AS acl, nspowner AS owner FROM pg_namespace WHERE oid = {schema}
    UNION ALL
    SELECT relacl, relowner FROM pg_class WHERE relnamespace = {schema} AND relkind IN ('r', 'S')
) AS things, aclexplode(acl) WHERE grantee <> owner
"""
_HERE = f"'{SCHEMA}'::regnamespace"
_MAY_WRITE = "privilege_type NOT IN ('SELECT', 'USAGE')"

# Whose the schema is, which of our tables are somebody else's or not tables and which triggers
# they have that are not ours, and whether others may write in it.
_OWNERS = f"""
SELECT pg_get_userbyid(nspowner), pg_get_userbyid(nspowner) = current_user, (
    SELECT array_agg(format('%%s of %%s', name, pg_get_userbyid(owner)) ORDER BY name)
    FROM (
        SELECT relname::text AS name, relowner AS owner FROM pg_class
        WHERE relnamespace = n.oid AND relname = ANY (%s)
          AND (relkind <> 'r' OR relowner <> nspowner)
        UNION ALL
        SELECT format('trigger %%I on %%s', tgname, relname), proowner
        FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid
        WHERE relnamespace = n.oid AND NOT tgisinternal
          AND (pronamespace <> n.oid OR proname <> 'refuse_change')
    ) AS thing
), EXISTS ({_GRANTED.format(schema="n.oid")} AND {_MAY_WRITE})
FROM pg_namespace AS n WHERE nspname = %s
"""

_CLOSE = f"""
DO $do$
DECLARE
    others CONSTANT text := (
        SELECT string_agg(
            CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, ', ')
        FROM ({_GRANTED.format(schema=_HERE)} AND {{which}}) AS granted);
BEGIN
    IF others IS NOT NULL THEN
        EXECUTE 'REVOKE ALL ON SCHEMA {SCHEMA} FROM ' || others || ' CASCADE';
        EXECUTE 'REVOKE ALL ON ALL TABLES IN SCHEMA {SCHEMA} FROM ' || others || ' CASCADE';
        EXECUTE 'REVOKE ALL ON ALL SEQUENCES IN SCHEMA {SCHEMA} FROM ' || others || ' CASCADE';
    END IF;
END $do$
"""

# All that the schema may hold: whatever else is there, or is another's, is not used.
_STRANGE = f"""
SELECT format('%s %I', CASE kind WHEN 'f' THEN 'function' ELSE 'relation' END, name),
    pg_get_userbyid(owner)
FROM (
    SELECT 'r' AS kind, relname AS name, relowner AS owner, relkind IN ('r', 'i', 'S') AS is_plain
    FROM pg_class WHERE relnamespace = '{SCHEMA}'::regnamespace
    UNION ALL
    SELECT 'f', proname, proowner, proname = 'refuse_change'
    FROM pg_proc WHERE pronamespace = '{SCHEMA}'::regnamespace
) AS thing
WHERE NOT is_plain OR owner <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
ORDER BY 1 LIMIT 3
"""

_REFUSES_CHANGE = f"""
SELECT EXISTS (
    SELECT FROM pg_trigger WHERE tgrelid = to_regclass('{SCHEMA}.history')
    AND tgname = 'append_only' AND tgenabled = 'O')
"""

# 42P06 duplicate_schema, 42P07 duplicate_table, 23505 unique_violation (of the catalogue).
_MADE_MEANWHILE = ("42P06", "42P07", "23505")


class Book(NamedTuple):
    """
    What the books say of themselves.

    Attributes:
        version: 1 for the books of builds that wrote no version.
        keeper: The stack that keeps this database; ``None`` where none has said so yet.
        dbi_resource_id: Of the instance when that was written: of another one, the database
            is a restored copy.
        secret_folder: What the names of its logins' secrets begin with.
        is_open: Whether others may write in the books.
    """

    version: int
    keeper: str | None = None
    dbi_resource_id: str | None = None
    secret_folder: str | None = None
    updated_at: datetime | None = None
    is_open: bool = False


def is_there(session: Session) -> bool:
    """
    Say whether the database has our books, and check that they are ours.

    Raises:
        AccessDenied: Somebody else made the schema: a view or a trigger of theirs would run
            as us.
    """
    return _look(session) is not None


def _look(session: Session) -> bool | None:
    """Return whether others may write in our books; ``None`` where there are none, or raise."""
    owners = query(session, _OWNERS, (list(_TABLES), SCHEMA))
    for owner, is_ours, strange, is_open in owners:
        if not is_ours:
            raise AccessDenied(
                f"schema {SCHEMA} belongs to {owner}, not to the user we connect as: "
                f"hand it over or drop it{_NOTHING}"
            )
        if strange:
            raise _holds_strange(strange)
        return bool(is_open)
    return None


def read(session: Session) -> Book:
    """Return what the books say of themselves; older ones say little."""
    if query(session, f"SELECT to_regclass('{SCHEMA}.book')")[0][0] is None:
        return Book(1)
    rows = query(
        session,
        "SELECT version, keeper, dbi_resource_id, secret_folder, updated_at,"
        f" EXISTS ({_GRANTED.format(schema=_HERE)} AND {_MAY_WRITE}) FROM {SCHEMA}.book",
    )
    return Book(*rows[0]) if rows else Book(1)


def bring_up(session: Session) -> None:
    """
    Make the books, or bring them up to date, in one transaction that verifies whose they are.

    Between a look and a CREATE somebody else can make the schema, and IF NOT EXISTS then
    takes his. So owners are looked at in the transaction that makes or uses them.

    Raises:
        AccessDenied: A part of them is somebody else's.
    """
    is_open = _look(session)
    if is_open is False and read(session).version >= VERSION:
        return
    session.autocommit = False
    try:
        try:
            query(session, CREATE + CREATE_VERSION_TABLE)
        except Exception as error:
            if sqlstate_of(error) in _MADE_MEANWHILE:
                raise LockBusy(
                    f"somebody made schema {SCHEMA} at this very moment: try again, and the next "
                    "run checks who owns it"
                ) from error
            raise
        verify(session)
        # Who may read them is the team's to say, once they are there.
        query(session, _CLOSE.format(which="true" if is_open is None else _MAY_WRITE))
        query(session, _KEPT_BY_NOBODY, (VERSION,))
        session.commit()
        if is_open:
            logger.warning("schema %s was open for others to write in, and was closed", SCHEMA)
    finally:
        if not is_broken(session):
            session.rollback()
            session.autocommit = True


def keep(session: Session, keeper: str, dbi_resource_id: str | None, secret_folder: str) -> None:
    """Write who keeps this database, on which instance, and where its logins' secrets are."""
    query(
        session,
        f"UPDATE {SCHEMA}.book SET keeper = %s, dbi_resource_id = %s, secret_folder = %s,"
        " updated_at = clock_timestamp()",
        (keeper, dbi_resource_id, secret_folder),
    )


def tables(session: Session) -> list[str]:
    """Return which of our tables there are."""
    found = query(
        session,
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r'",
        (SCHEMA,),
    )
    return sorted(name for (name,) in found)


def verify(session: Session) -> None:
    """
    Raise unless the schema and all in it are ours, in the transaction that is open.

    Raises:
        AccessDenied: A part of them is somebody else's, or not of our making.
        RunFailed: They are gone, or do not refuse changes any more.
    """
    if not is_there(session):
        raise RunFailed(f"schema {SCHEMA} was dropped meanwhile: run the same request again")
    strange = query(session, _STRANGE)
    if strange:
        raise _holds_strange(f"{name} of {owner}" for name, owner in strange)
    if not query(session, _REFUSES_CHANGE)[0][0]:
        raise RunFailed(
            f"{SCHEMA}.history is without its trigger append_only: the history would take changes"
        )


def without_word(error: MigrationError) -> str:
    """Return what *error* says of the books, where something was changed."""
    return str(error).removesuffix(_NOTHING)


def _holds_strange(things: Iterable[str]) -> AccessDenied:
    return AccessDenied(
        f"schema {SCHEMA} holds what we did not make: {', '.join(things)}: drop it, or move it "
        f"elsewhere{_NOTHING}"
    )
