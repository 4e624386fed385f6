"""
What migrations share: roles, logins, schemas, grants, and taking them away again.

Each helper is idempotent and works on PostgreSQL 14 to 18 as a master user that is no
superuser. A downgrade takes away access and keeps data: what a dropped role owned is kept
by a role that can do nothing, until the role is made again, and a schema or table that is
not empty stays. What was there before, and is not ours, is neither taken up nor dropped.

The SQL is the same for ``alembic upgrade``, ``--sql`` and ``plan``: a decision that
depends on the database is made by the database, in a DO block. A login is the one
exception, because its password is made by us, and it says so in the script.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

from alembic import op

from core.access.login_passwords import Passwords
from core.postgres.acting import acting_as
from core.postgres.session import set_password
from core.revisions import marks, rendering, retiring, scripts
from core.revisions.marks import MASTER as _MASTER
from core.revisions.sql_files import read

logger = logging.getLogger(__name__)

# PostgreSQL cuts longer names silently (NAMEDATALEN), and quotes what is not lower case.
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")

# What a helper does with a thing of its name that somebody else made: refuse it, or take it up.
Existing = Literal["refuse", "adopt"]

# A membership of the master counts for RDS however long the chain. That one with the ADMIN
# option alone, which CREATE ROLE leaves since 16, does not, is an assumption: infra/AWS.md.
_ENTERS_BY_TOKEN = """
    EXISTS (
        WITH RECURSIVE held (role) AS (
            SELECT oid FROM pg_roles WHERE rolname IN (session_user, current_user)
            UNION
            SELECT m.roleid FROM held JOIN pg_auth_members AS m ON m.member = held.role
            WHERE coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true)
               OR coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)
        )
        SELECT FROM held WHERE role = to_regrole('rds_iam')
    )
"""

# How many names a message of ours shows.
_NAMES_SHOWN = 5

VERIFIER_PLACEHOLDER = "<SCRAM-SHA-256 verifier, made when applied>"


def role(name: str, *, existing: Existing = "refuse") -> None:
    """
    Make the group role *name*, which cannot log in, and let the master act as it.

    One that somebody else made is refused; with *existing* ``"adopt"``, or where the request
    names it in ``take_over``, it is taken up as it is, and no downgrade drops it.
    """
    _make_role(name, existing, is_group=True)
    logger.info("role %s is there", name)


def login(
    name: str,
    *,
    acts_as: str | None = None,
    member_of: Sequence[str] = (),
    existing: Existing = "refuse",
) -> None:
    """
    Make the login *name*, with a password that only Secrets Manager knows in clear.

    With *acts_as*, each of its sessions starts as that role, so that what it creates
    belongs to the role and not to the login. *member_of* are roles whose privileges it has.
    The password of a login that exists together with its secret is never reset. *existing*
    as in :func:`role`; a login whose secret we have is ours.
    """
    if op.get_context().as_sql:
        _note(f"the password of {name} depends on the database and on Secrets Manager")
        _make_role(name, existing)
        _run(f"ALTER ROLE {_quoted(name)} LOGIN PASSWORD '{VERIFIER_PLACEHOLDER}'")
    else:
        is_there = _role_exists(name)
        has_secret = is_there and not _passwords().needs_setting(name)
        _make_role(name, existing, is_known=has_secret)
        known = _passwords().password(name, role_exists=is_there)
        _run(f"ALTER ROLE {_quoted(name)} LOGIN")
        if known.must_be_set:
            # On the very connection of the revision, so that it is part of its transaction.
            session: Any = op.get_bind().connection.driver_connection
            set_password(session, name, known.password)
    _act(name, acts_as, member_of)
    logger.info("login %s is there", name)


def login_by_iam(
    name: str,
    *,
    acts_as: str | None = None,
    member_of: Sequence[str] = (),
    existing: Existing = "refuse",
) -> None:
    """
    Make the login *name*, which enters with an IAM token and has no password.

    A member of ``rds_iam`` cannot log in with a password any more, and a member of such a
    login is one too (RDS User Guide, "IAM database authentication"). So the login is not
    granted to the master, which it would lock out, and the run that makes it proves after
    its commit that the master still enters. *acts_as*, *member_of* and *existing* as in
    :func:`login`.
    """
    _do(
        f"""
        IF '{_plain(name)}' IN (session_user, current_user) THEN
            RAISE insufficient_privilege USING
                MESSAGE = '{name} is the master: rds_iam would lock it out',
                HINT = 'Make another login for IAM.';
        END IF;
        had_token := {_ENTERS_BY_TOKEN};
        {_take_up_role(name, existing)}
        IF found.oid IS NULL THEN
            IF current_setting('server_version_num')::int >= 160000 THEN
                self_grant := current_setting('createrole_self_grant');
                PERFORM set_config('createrole_self_grant', '', true);
            END IF;
            {_create_role(name)}
            IF self_grant IS NOT NULL THEN
                PERFORM set_config('createrole_self_grant', self_grant, true);
            END IF;
        ELSIF EXISTS (
            SELECT FROM pg_auth_members WHERE roleid = found.oid AND member = {_MASTER}
            AND (grantor = {_MASTER} OR current_setting('server_version_num')::int < 160000)
        ) THEN
            REVOKE {_quoted(name)} FROM CURRENT_USER;
        END IF;
        IF to_regrole('{retiring.heir_of(name)}') IS NOT NULL THEN
            GRANT {_quoted(name)} TO CURRENT_USER;
            {retiring.give_back(name)}
            REVOKE {_quoted(name)} FROM CURRENT_USER;
        END IF;
        ALTER ROLE {_quoted(name)} LOGIN PASSWORD NULL;
        GRANT rds_iam TO {_quoted(name)};
        {_refuse_lockout(name)}
        """,
        f"{_VARIABLES} had_token boolean; self_grant pg_catalog.text;",
    )
    _act(name, acts_as, member_of)
    made = _attributes().get("iam_logins")
    if made is not None:
        made.add(name)
    logger.info("login %s is there, for IAM tokens", name)


def schema(name: str, *, owner: str | None = None, existing: Existing = "refuse") -> None:
    """
    Make the schema *name*, owned by the role *owner* or by the master, closed to all others.

    What the master owns in it (after a downgrade) goes to *owner*. A schema that belongs
    to somebody else is refused; with *existing* ``"adopt"`` it is taken from its owner, with
    whatever is in it.
    """
    who = f"'{_plain(owner)}'::regrole" if owner else _MASTER
    to = _quoted(owner) if owner else "CURRENT_USER"
    refusal = f"""
        ELSIF holder <> {_MASTER} THEN
            RAISE insufficient_privilege USING
                MESSAGE = format(
                    'schema {name} was there before, and belongs to %s', pg_get_userbyid(holder)
                ),
                HINT = 'Look at what is in it; then give it to the master (ALTER SCHEMA {name} '
                    'OWNER TO), or take it up as it is: {_consent(name)}.';
    """
    _do(
        f"""
        SELECT nspowner INTO holder FROM pg_namespace WHERE nspname = '{_plain(name)}';
        IF holder IS NULL THEN
            CREATE SCHEMA {_quoted(name)} AUTHORIZATION {to};
        ELSIF holder = {who} THEN
            NULL;
        {refusal if _refuses(existing, name) else ""}
        END IF;
        IF holder <> {who} THEN
            {_own_schema(name, to)}
        END IF;
        {_own_things(name, to) if owner else ""}
        REVOKE ALL ON SCHEMA {_quoted(name)} FROM PUBLIC;
        {_refuse_public(name)}
        """,
        "holder pg_catalog.oid; could boolean; thing pg_catalog.record;",
    )
    logger.info("schema %s belongs to %s", name, owner or "the master")


def table(name: str, columns: str, *, existing: Existing = "refuse") -> None:
    """
    Make the table *name* (``schema.table``) of the master's, with *columns*, which is SQL.

    What is there by that name is left as it is where it is a table of the master's. A view,
    or what belongs to somebody else, is refused: its owner would read and change what is
    kept there. With *existing* ``"adopt"`` a table of another owner is left to it.
    """
    quoted = _quoted_path(name)
    refusal = f"""
        ELSIF found.relowner <> {_MASTER} THEN
            RAISE insufficient_privilege USING
                MESSAGE = format('table {name} was there before, and belongs to %s',
                    pg_get_userbyid(found.relowner)),
                HINT = 'Look at what is in it; then ALTER TABLE {name} OWNER TO the master, or '
                    'leave it to its owner by existing="adopt".';
    """
    _do(
        f"""
        SELECT * INTO found FROM pg_class WHERE oid = to_regclass('{name}');
        IF found.oid IS NULL THEN
            PERFORM pg_catalog.set_config('search_path', path, true);
            CREATE TABLE {quoted} ({columns});
        ELSIF found.relkind NOT IN ('r', 'p') THEN
            RAISE wrong_object_type USING
                MESSAGE = '{name} was there before, and is not a table',
                HINT = 'Rename it or drop it, then try again.';
        {refusal if _refuses(existing, name) else ""}
        END IF;
        """,
        "found pg_catalog.pg_class%ROWTYPE;",
    )
    logger.info("table %s is there", name)


def read_only(reader: str, *, schemas: Sequence[str], tables_of: Sequence[str]) -> None:
    """
    Let *reader* read every table and sequence of *schemas*, those of tomorrow included.

    Default privileges belong to the role that creates a table, so the creators are named:
    *tables_of*, and the master itself always. What others made there, and the master may not
    grant, stays closed: a WARNING names it.
    """
    creators = ", ".join(f"'{_plain(one)}'" for one in tables_of)
    for name in schemas:
        _do(
            f"""
            GRANT USAGE ON SCHEMA {_quoted(name)} TO {_quoted(reader)};
            IF NOT has_schema_privilege('{_plain(reader)}', '{_plain(name)}', 'USAGE') THEN
                RAISE insufficient_privilege USING
                    MESSAGE = 'the master may not grant USAGE on schema {name}',
                    HINT = 'Let its owner do it: GRANT USAGE ON SCHEMA {name} TO the master '
                        'WITH GRANT OPTION.';
            END IF;
            FOR thing IN
                SELECT oid, oid::regclass AS name, relkind = 'S' AS is_sequence,
                    pg_get_userbyid(relowner) AS owner,
                    pg_has_role(relowner, 'USAGE')
                    OR CASE WHEN relkind = 'S'
                        THEN has_sequence_privilege(oid, 'SELECT WITH GRANT OPTION')
                        ELSE has_table_privilege(oid, 'SELECT WITH GRANT OPTION') END AS is_ours
                FROM pg_class WHERE relnamespace = '{name}'::regnamespace
                AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') ORDER BY oid
            LOOP
                IF thing.is_ours AND thing.is_sequence THEN
                    EXECUTE format('GRANT SELECT ON SEQUENCE %s TO {_quoted(reader)}', thing.name);
                ELSIF thing.is_ours THEN
                    EXECUTE format('GRANT SELECT ON TABLE %s TO {_quoted(reader)}', thing.name);
                END IF;
                IF (CASE WHEN thing.is_sequence
                    THEN has_sequence_privilege('{reader}', thing.oid, 'SELECT')
                    ELSE has_table_privilege('{reader}', thing.oid, 'SELECT') END)
                THEN
                    CONTINUE;
                ELSIF thing.owner IN (current_user, {creators or "NULL"}) THEN
                    RAISE insufficient_privilege USING
                        MESSAGE = format('the master may not grant SELECT on %s', thing.name),
                        HINT = format('Let the master act as its owner: GRANT %I TO %I.',
                            thing.owner, current_user);
                ELSIF cardinality(closed) < {_NAMES_SHOWN} THEN
                    closed := closed || thing.name::text;
                ELSE
                    more := more + 1;
                END IF;
            END LOOP;
            IF closed <> '{{}}' THEN
                RAISE WARNING '{reader} does not read what others made in schema {name}: %',
                    array_to_string(closed, ', ')
                    || CASE WHEN more > 0 THEN format(' and %s more', more) ELSE '' END
                    USING HINT = 'Their owners may: GRANT SELECT ON … TO {reader}.';
            END IF;
            """,
            "thing pg_catalog.record; closed pg_catalog.text[] := '{}'; more int := 0;",
        )
        for kind in ("TABLES", "SEQUENCES"):
            for creator in ("CURRENT_USER", *map(_quoted, tables_of)):
                _run(
                    f"ALTER DEFAULT PRIVILEGES FOR ROLE {creator} IN SCHEMA {_quoted(name)}"
                    f" GRANT SELECT ON {kind} TO {_quoted(reader)}"
                )
    logger.info("%s reads %s", reader, ", ".join(schemas))


@contextmanager
def as_role(name: str) -> Iterator[None]:
    """
    Run the statements inside as the role *name*, and not as the master.

    Whoever owns a table has code in it: triggers, defaults, index expressions, domains. A
    statement of the master's runs that code as the master. In here each runs in a function
    of *name*'s (``SECURITY DEFINER``), which that code cannot leave, as it could leave SET
    ROLE::

        with operations.as_role("app_role"):
            op.execute("UPDATE app_schema.orders SET note = 'filled'")

    Statements are run for what they do: one that returns rows is refused, and what cannot
    run in a function (CREATE INDEX CONCURRENTLY, VACUUM, COMMIT) fails. Deferred constraints
    are checked at the end, while the role is still the one that acts.

    Raises:
        ValueError: A statement inside returns rows.
    """
    with acting_as(_quoted(name), op.get_context(), op.get_bind):
        yield


def index(name: str, *, on: str, columns: str, unique: bool = False) -> None:
    """
    Build the index *name* on the table *on* (``schema.table``) while the table is in use.

    *columns* is SQL, such as ``customer_id, created_at DESC``. CREATE INDEX CONCURRENTLY
    cannot run in a transaction: a build that fails leaves an INVALID index, which is dropped
    at once, and one that is killed leaves it to the next run, which drops it and builds anew.
    """
    schema_name, dot, table = on.partition(".")
    if not dot or "." in table:
        raise ValueError(f"on={on!r}: name the table with its schema, such as on='app.orders'")
    where = f"{_quoted(schema_name)}.{_quoted(name)}"
    kind = "UNIQUE INDEX" if unique else "INDEX"
    build = (
        f"CREATE {kind} CONCURRENTLY IF NOT EXISTS {_quoted(name)}"
        f" ON {_quoted(schema_name)}.{_quoted(table)} ({columns})"
    )
    with op.get_context().autocommit_block():
        if op.get_context().as_sql:
            _note(f"an INVALID {where} that an earlier build left is dropped first")
            _run(build)
            return
        # It waits for every transaction that sees the table; statement_timeout bounds that.
        _run("SET lock_timeout = 0")
        _drop_invalid_index(where)
        try:
            _run(build)
        except Exception:
            # It serves no query, and a unique one would refuse the application's rows.
            with suppress(Exception):
                _drop_invalid_index(where)
            raise
    logger.info("index %s is there", where)


def _drop_invalid_index(where: str) -> None:
    """Drop the index *where*, a quoted name, if a build left it INVALID."""
    found = op.get_bind().exec_driver_sql(
        # Qualified: the revision's own path is in force here.
        "SELECT 1 FROM pg_catalog.pg_index WHERE NOT indisvalid"
        " AND indexrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(%(where)s)",
        {"where": where},
    )
    if found.first() is not None:
        _run(f"DROP INDEX CONCURRENTLY {where}")
        logger.info("index %s was left INVALID: dropped", where)


def sql_file(name: str) -> None:
    """
    Run the SQL in the file *name*, which lies beside the revision or below, as it is written.

    The file belongs to the revision: to its checksum, to the package, to ``plan`` and to what
    is linted. So *name* is plain text, and ends in ``.sql``. A dump of ``pg_dump`` is such a
    file; psql's own commands and COPY's data are refused.

    Raises:
        SqlFileError: The file cannot be run; the message names it and its line.
    """
    _send(read(scripts.sql_file(name)))
    logger.info("%s is run", name)


def close_to_public(name: str) -> None:
    """
    Take every privilege on schema *name* from PUBLIC, and make sure that it is gone.

    PostgreSQL only warns where we do not own the schema; a warning is not enough here.
    """
    _do(
        f"""
        REVOKE ALL ON SCHEMA {_quoted(name)} FROM PUBLIC;
        {_refuse_public(name)}
        """
    )
    logger.info("PUBLIC has nothing in schema %s", name)


def drop_schema(name: str) -> None:
    """Drop the schema *name* if it is empty; with something in it, it goes to the master."""
    _do(
        f"""
        BEGIN
            DROP SCHEMA IF EXISTS {_quoted(name)};
        EXCEPTION WHEN dependent_objects_still_exist THEN
            RAISE WARNING 'schema {name} is not empty: it stays, and belongs to the master';
            ALTER SCHEMA {_quoted(name)} OWNER TO CURRENT_USER;
        END;
        """
    )
    logger.info("schema %s is dropped, or kept for what is in it", name)


def drop_table_if_empty(name: str) -> None:
    """
    Drop the table *name* (``schema.table``) if it has no row; with rows, it stays.

    A view, or a table of somebody else's, stays too: to read it would run its owner's code.
    """
    quoted = _quoted_path(name)
    _do(
        f"""
        SELECT * INTO found FROM pg_class WHERE oid = to_regclass('{name}');
        IF found.oid IS NULL THEN
            NULL;
        ELSIF found.relkind NOT IN ('r', 'p') OR found.relowner <> {_MASTER} THEN
            RAISE WARNING '{name} is not a table of the master''s: it stays';
        ELSE
            EXECUTE 'SELECT EXISTS (SELECT FROM {quoted})' INTO has_rows;
            IF has_rows THEN
                RAISE WARNING 'table {name} is not empty: it stays';
            ELSE
                DROP TABLE {quoted};
            END IF;
        END IF;
        """,
        "found pg_catalog.pg_class%ROWTYPE; has_rows boolean;",
    )


def drop_role(name: str) -> None:
    """
    Drop the role *name*, if we made it; what it was granted goes with it.

    What it owns has code in it that runs as its owner. So it goes to a role of its own,
    ``day2_retired_…``, which cannot log in and can do nothing, and comes back to *name* when
    that is made again. A role that has something in another database of the instance stays,
    with nothing in this one; a WARNING names the database.
    """
    # One statement: nobody ever sees the master as a member of a login that RDS wants a token of.
    _do(retiring.drop_role(_plain(name)), retiring.VARIABLES)
    logger.info("role %s is dropped, or kept where a warning says so", name)


def drop_login(name: str) -> None:
    """Drop the login *name* as by :func:`drop_role`; its secret is kept, tagged as retired."""
    drop_role(name)
    if not op.get_context().as_sql and not _role_exists(name):
        _passwords().retire(name)


def _act(name: str, acts_as: str | None, member_of: Sequence[str]) -> None:
    """Make the login *name* a member of the roles *member_of*, and act as *acts_as*."""
    groups = (*member_of, *([acts_as] if acts_as else []))
    if groups:
        grants = "\n".join(f"GRANT {_quoted(group)} TO {_quoted(name)};" for group in groups)
        _do(
            f"""
            had_token := {_ENTERS_BY_TOKEN};
            {grants}
            {_refuse_lockout(name)}
            """,
            "had_token boolean;",
        )
    if acts_as:
        _run(f"ALTER ROLE {_quoted(name)} SET role = {_quoted(acts_as)}")


_VARIABLES = f"{retiring.VARIABLES} flaws pg_catalog.text; strangers pg_catalog.text;"


def _make_role(
    name: str, existing: Existing, *, is_group: bool = False, is_known: bool = False
) -> None:
    """Make the role *name* without LOGIN if it is not there, and act for it from now on."""
    _do(
        f"""
        had_token := {_ENTERS_BY_TOKEN};
        {_take_up_role(name, existing, is_group=is_group, is_known=is_known)}
        IF found.oid IS NULL THEN
            {_create_role(name)}
        END IF;
        GRANT {_quoted(name)} TO CURRENT_USER;
        {retiring.give_back(name)}
        {_refuse_lockout(name)}
        """,
        f"{_VARIABLES} had_token boolean;",
    )


def _create_role(name: str) -> str:
    return f"""
        CREATE ROLE {_quoted(name)} NOLOGIN;
        COMMENT ON ROLE {_quoted(name)} IS '{marks.MADE}';
    """


def _take_up_role(
    name: str, existing: Existing, *, is_group: bool = False, is_known: bool = False
) -> str:
    """
    Return the SQL that finds the role *name*, and refuses one that is not as we make it.

    *is_known* says that it is ours without a mark, by its secret.
    """
    look = f"SELECT * INTO found FROM pg_roles WHERE rolname = '{_plain(name)}';"
    if not _refuses(existing, name):
        return f"""
            {look}
            IF found.oid IS NOT NULL AND NOT {marks.IS_OURS} THEN
                {marks.mark(marks.TAKEN_OVER)}
            END IF;
        """
    attributes = ("SUPERUSER", "CREATEROLE", "CREATEDB", "REPLICATION", "BYPASSRLS")
    columns = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls")
    flaws = [
        f"CASE WHEN found.{column} THEN '{attribute}' END"
        for column, attribute in zip(columns, attributes, strict=True)
    ]
    if is_group:
        flaws.append("CASE WHEN found.rolcanlogin THEN 'LOGIN' END")
    return f"""
        {look}
        flaws := concat_ws(' ', {", ".join(flaws)});
        IF flaws <> '' THEN
            RAISE insufficient_privilege USING
                MESSAGE = format('role {name} was there before, with %s', flaws),
                HINT = format('Take that away (ALTER ROLE {name} NO%s), or take the role up as '
                    'it is: {_consent(name)}.', replace(flaws, ' ', ' NO'));
        END IF;
        IF found.oid IS NOT NULL AND NOT {marks.IS_OURS} THEN
            {marks.mark(marks.MADE) if is_known else _refuse_stranger(name)}
        END IF;
    """


def _refuse_stranger(name: str) -> str:
    return f"""
            SELECT string_agg(DISTINCT pg_get_userbyid(m.member), ', ') INTO strangers
            FROM pg_auth_members AS m
            WHERE m.roleid = found.oid AND m.member <> {_MASTER} AND NOT EXISTS (
                SELECT FROM pg_auth_members AS own WHERE own.roleid = m.member
                AND own.member = {_MASTER} AND own.grantor IN (10, {_MASTER})
            );
            IF strangers IS NOT NULL THEN
                RAISE insufficient_privilege USING
                    MESSAGE = format(
                        'role {name} was there before, and has members: %s', strangers
                    ),
                    HINT = format('Take it from them (REVOKE {name} FROM %s), or take the role up '
                        'as it is: {_consent(name)}.', strangers);
            END IF;
            RAISE insufficient_privilege USING
                MESSAGE = 'role {name} was there before, and day2 did not make it',
                HINT = 'Rename it, or take it up as it is: {_consent(name)}.';
    """


def _refuse_lockout(name: str) -> str:
    return f"""
        IF NOT had_token AND {_ENTERS_BY_TOKEN} THEN
            RAISE insufficient_privilege USING
                MESSAGE = 'as a member of {name} the master would be one of rds_iam, and its '
                    'password would be refused from then on',
                HINT = 'Take {name} from the master and from its roles, or rds_iam from {name}.';
        END IF;
    """


def _own_schema(name: str, owner: str) -> str:
    """Return the SQL that gives the schema *name* to *owner*, which takes CREATE meanwhile."""
    if owner == "CURRENT_USER":
        return f"ALTER SCHEMA {_quoted(name)} OWNER TO CURRENT_USER;"
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
        ALTER SCHEMA {_quoted(name)} OWNER TO {owner};
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
            WHERE refclassid = 'pg_authid'::regclass AND refobjid = {_MASTER} AND d.deptype = 'o'
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


def _refuse_public(name: str) -> str:
    return f"""
        IF has_schema_privilege('public', '{name}', 'USAGE')
            OR has_schema_privilege('public', '{name}', 'CREATE')
        THEN
            RAISE insufficient_privilege USING
                MESSAGE = 'PUBLIC still has schema {name}',
                HINT = 'Connect as the owner of the database.';
        END IF;
    """


def _consent(name: str) -> str:
    """Return how one consents to *name*, which was there before, for a hint."""
    return (
        f'"take_over": ["{name}"] in the direct request, the action adopt, or existing="adopt" '
        "in the revision"
    )


def _refuses(existing: Existing, name: str) -> bool:
    """Say whether a thing *name* of somebody else's is refused."""
    if existing not in ("refuse", "adopt"):
        raise ValueError(f"existing={existing!r}: give 'refuse' or 'adopt'")
    return existing == "refuse" and name not in _attributes().get("take_over", ())


def _role_exists(name: str) -> bool:
    found = op.get_bind().exec_driver_sql(
        "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) %(name)s",
        {"name": name},
    )
    return found.first() is not None


def _passwords() -> Passwords:
    """Return where the passwords of logins are kept, as a run or ``env.py`` said to Alembic."""
    passwords = _attributes().get("login_passwords")
    if passwords is None:
        raise RuntimeError(
            "no place to keep passwords: set config.attributes['login_passwords'] "
            "(core.access.login_passwords.Passwords)"
        )
    return passwords  # type: ignore[no-any-return]


def _attributes() -> dict[Any, Any]:
    """Return what the runner or ``env.py`` hands to revisions."""
    config = op.get_context().config
    return config.attributes if config is not None else {}


def _do(body: str, variables: str = "") -> None:
    """
    Run *body* in the database, which there decides what depends on it.

    Whoever may create in a schema of the path could give a function or an operator a better
    match than PostgreSQL's own; so there is no path but the catalogue in here. *variables* are
    declared before that: their types are qualified, unless the grammar knows them.
    """
    tag = "$day2$"
    while tag in body:
        tag = f"{tag[:-1]}_$"
    _run(
        f"""
        DO {tag}
        DECLARE
            path CONSTANT pg_catalog.text := pg_catalog.current_setting('search_path');
            {variables}
        BEGIN
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
            {body}
            PERFORM pg_catalog.set_config('search_path', path, true);
        END
        {tag}
        """,
        is_ours=True,
    )


def _run(statement: str, *, is_ours: bool = False) -> None:
    """Run *statement* as written: no parameter marks, no colons that mean something."""
    lines = [line.rstrip() for line in statement.splitlines() if line.strip()]
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    _send("\n".join(line[margin:] for line in lines), is_ours=is_ours)


def _send(statement: str, *, is_ours: bool = False) -> None:
    """Send *statement* as it is; *is_ours* says that no author wrote any of it."""
    if op.get_context().as_sql:
        # A comment may end it.
        last = statement.rstrip().rpartition("\n")[2]
        end = "\n;" if "--" in last else "" if last.endswith(";") else ";"
        written = statement.rstrip() + end
        if is_ours:
            op.get_context().opts.setdefault(rendering.OURS, set()).add(written.strip())
        op.get_context().impl.static_output(written)
    else:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def _note(text: str) -> None:
    """Write *text* into the script, as a comment."""
    op.get_context().impl.static_output(f"-- note: {text}")


def _quoted_path(name: str) -> str:
    """Return *name*, which is ``schema.table``, as SQL."""
    schema_name, dot, table_name = name.partition(".")
    if not dot:
        raise ValueError(f"{name!r}: name the table with its schema, such as 'app.orders'")
    return f"{_quoted(schema_name)}.{_quoted(table_name)}"


def _plain(name: str) -> str:
    """Return *name* for a literal; refuse what :func:`_quoted` refuses."""
    return _quoted(name)[1:-1]


def _quoted(name: str) -> str:
    """Return *name* as an SQL identifier; refuse what PostgreSQL would cut or fold."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a plain name: up to 63 lower-case letters, digits and underscores"
        )
    return f'"{name}"'
