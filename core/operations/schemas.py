"""Schemas: who owns them, and who is kept out of them."""

from __future__ import annotations

import logging

from core.operations.existing import Existing, consent, refuses
from core.operations.sending import do, plain, quoted
from core.revisions.marks import MASTER

logger = logging.getLogger(__name__)


def schema(name: str, *, owner: str | None = None, existing: Existing = "refuse") -> None:
    """
    Make the schema *name*, owned by the role *owner* or by the master, closed to all others.

    What the master owns in it (after a downgrade) goes to *owner*. A schema that belongs
    to somebody else is refused; with *existing* ``"adopt"`` it is taken from its owner, with
    whatever is in it.
    """
    who = f"'{plain(owner)}'::regrole" if owner else MASTER
    to = quoted(owner) if owner else "CURRENT_USER"
    refusal = f"""
        ELSIF holder <> {MASTER} THEN
            RAISE insufficient_privilege USING
                MESSAGE = format(
                    'schema {name} was there before, and belongs to %s', pg_get_userbyid(holder)
                ),
                HINT = 'Look at what is in it; then give it to the master (ALTER SCHEMA {name} '
                    'OWNER TO), or take it up as it is: {consent(name)}.';
    """
    do(
        f"""
        SELECT nspowner INTO holder FROM pg_namespace WHERE nspname = '{plain(name)}';
        IF holder IS NULL THEN
            CREATE SCHEMA {quoted(name)} AUTHORIZATION {to};
            {_close_to_defaults(name)}
        ELSIF holder = {who} THEN
            NULL;
        {refusal if refuses(existing, name) else ""}
        END IF;
        IF holder <> {who} THEN
            {_own_schema(name, to)}
        END IF;
        {_own_things(name, to) if owner else ""}
        REVOKE ALL ON SCHEMA {quoted(name)} FROM PUBLIC;
        {refuse_public(name)}
        """,
        "holder pg_catalog.oid; could boolean; thing pg_catalog.record;",
    )
    logger.info("schema %s belongs to %s", name, owner or "the master")


def _close_to_defaults(name: str) -> str:
    """Take from schema *name*, just made, what its owner's default privileges gave to others."""
    return f"""
        FOR thing IN SELECT DISTINCT rolname FROM pg_namespace
            CROSS JOIN LATERAL aclexplode(nspacl) AS given
            JOIN pg_roles ON pg_roles.oid = given.grantee
            WHERE nspname = '{plain(name)}' AND given.grantee <> nspowner
        LOOP
            EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %I', '{plain(name)}', thing.rolname);
        END LOOP;
    """


def close_to_public(name: str) -> None:
    """
    Take every privilege on schema *name* from PUBLIC, and make sure that it is gone.

    PostgreSQL only warns where we do not own the schema; a warning is not enough here.
    """
    do(
        f"""
        REVOKE ALL ON SCHEMA {quoted(name)} FROM PUBLIC;
        {refuse_public(name)}
        """
    )
    logger.info("PUBLIC has nothing in schema %s", name)


def drop_schema(name: str) -> None:
    """Drop the schema *name* if it is empty; with something in it, it goes to the master."""
    do(
        f"""
        BEGIN
            DROP SCHEMA IF EXISTS {quoted(name)};
        EXCEPTION WHEN dependent_objects_still_exist THEN
            RAISE WARNING 'schema {name} is not empty: it stays, and belongs to the master';
            ALTER SCHEMA {quoted(name)} OWNER TO CURRENT_USER;
        END;
        """
    )
    logger.info("schema %s is dropped, or kept for what is in it", name)


def _own_schema(name: str, owner: str) -> str:
    """Return the SQL that gives the schema *name* to *owner*, which takes CREATE meanwhile."""
    if owner == "CURRENT_USER":
        return f"ALTER SCHEMA {quoted(name)} OWNER TO CURRENT_USER;"
    return f"""
        could := has_database_privilege('{owner.strip('"')}', current_database(), 'CREATE');
        IF NOT could THEN
            EXECUTE format('GRANT CREATE ON DATABASE %I TO {owner}', current_database());
            IF NOT has_database_privilege('{owner.strip('"')}', current_database(), 'CREATE') THEN
                RAISE insufficient_privilege USING
                    MESSAGE = 'the master may not grant CREATE on the database',
                    HINT = 'Connect as the owner of the database.';
            END IF;
        END IF;
        ALTER SCHEMA {quoted(name)} OWNER TO {owner};
        IF NOT could THEN
            EXECUTE format('REVOKE CREATE ON DATABASE %I FROM {owner}', current_database());
        END IF;
    """


def _own_things(name: str, owner: str) -> str:
    """
    Return the SQL that gives *owner* what the master has in the schema *name*.

    Earlier builds left the master with what a dropped role owned.
    """
    return f"""
        FOR thing IN
            SELECT upper(owned.type) AS kind, owned.identity
            FROM pg_shdepend AS d, pg_identify_object(classid, objid, objsubid) AS owned
            WHERE refclassid = 'pg_authid'::regclass AND refobjid = {MASTER} AND d.deptype = 'o'
            AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND owned.schema = '{name}' AND NOT EXISTS (
                SELECT FROM pg_depend AS part WHERE part.classid = d.classid
                AND part.objid = d.objid AND part.deptype IN ('a', 'e', 'i')
                AND (part.deptype = 'e' OR owned.type = 'sequence')
            )
        LOOP
            EXECUTE format('ALTER %s %s OWNER TO {owner}',
                replace(thing.kind, 'STATISTICS OBJECT', 'STATISTICS'), thing.identity);
        END LOOP;
    """


def refuse_public(name: str) -> str:
    """Return the SQL that fails where PUBLIC has anything in the schema *name*."""
    return f"""
        IF has_schema_privilege('public', '{name}', 'USAGE')
            OR has_schema_privilege('public', '{name}', 'CREATE')
        THEN
            RAISE insufficient_privilege USING
                MESSAGE = 'PUBLIC still has schema {name}',
                HINT = format('Its owner %I can take it away: REVOKE ALL ON SCHEMA {name} FROM'
                    ' PUBLIC; or connect as that.', (
                        SELECT CASE nspowner WHEN to_regrole('pg_database_owner')
                            THEN pg_get_userbyid(datdba) ELSE pg_get_userbyid(nspowner) END
                        FROM pg_namespace, pg_database
                        WHERE nspname = '{name}' AND datname = current_database()));
        END IF;
    """
