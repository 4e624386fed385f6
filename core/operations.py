"""
What migrations share: roles, logins, schemas, grants, and taking them away again.

Each helper is idempotent and works on PostgreSQL 14 to 18 as a master user that is no
superuser. A downgrade takes away access and keeps data: what a dropped role owned goes
to the master, and a schema or table that is not empty stays.

The SQL is the same for ``alembic upgrade``, ``--sql`` and ``plan``: a decision that
depends on the database is made by the database, in a DO block. A login is the one
exception, because its password is made by us, and it says so in the script.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

from alembic import op

from core.access.login_passwords import Vault
from core.postgres.session import set_password
from core.revisions import scripts
from core.revisions.sql_files import read

logger = logging.getLogger(__name__)

# PostgreSQL cuts longer names silently (NAMEDATALEN), and quotes what is not lower case.
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")

# Not current_user::regrole, which folds a name in capitals.
_MASTER = "(SELECT oid FROM pg_roles WHERE rolname = current_user)"
_IS_NO_PART_OF_AN_EXTENSION = (
    "NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = oid AND d.deptype = 'e')"
)

VERIFIER_PLACEHOLDER = "<SCRAM-SHA-256 verifier, made when applied>"


def role(name: str) -> None:
    """Make the group role *name*, which cannot log in, and let the master act as it."""
    _make_role(name)
    logger.info("role %s is there", name)


def login(name: str, *, acts_as: str | None = None, member_of: Sequence[str] = ()) -> None:
    """
    Make the login *name*, with a password that only Secrets Manager knows in clear.

    With *acts_as*, each of its sessions starts as that role, so that what it creates
    belongs to the role and not to the login. *member_of* are roles whose privileges it has.
    The password of a login that exists together with its secret is never reset.
    """
    if op.get_context().as_sql:
        _note(f"the password of {name} depends on the database and on Secrets Manager")
        _make_role(name)
        _run(f"ALTER ROLE {_quoted(name)} LOGIN PASSWORD '{VERIFIER_PLACEHOLDER}'")
    else:
        known = _vault().password(name, role_exists=_role_exists(name))
        _make_role(name)
        _run(f"ALTER ROLE {_quoted(name)} LOGIN")
        if known.must_be_set:
            # On the very connection of the revision, so that it is part of its transaction.
            session: Any = op.get_bind().connection.driver_connection
            set_password(session, name, known.password)
    _act(name, acts_as, member_of)
    logger.info("login %s is there", name)


def login_by_iam(name: str, *, acts_as: str | None = None, member_of: Sequence[str] = ()) -> None:
    """
    Make the login *name*, which enters with an IAM token and has no password.

    A member of ``rds_iam`` cannot log in with a password any more (RDS User Guide, "IAM
    database authentication"). So this refuses the master, which it would lock out. With
    *acts_as* and *member_of* as in :func:`login`.
    """
    _run(
        f"""
        DO $day2$
        BEGIN
            IF '{name}' IN (session_user, current_user) THEN
                RAISE insufficient_privilege USING
                    MESSAGE = '{name} is the master: rds_iam would lock it out',
                    HINT = 'Make another login for IAM.';
            END IF;
        END
        $day2$
        """
    )
    _make_role(name)
    _run(f"ALTER ROLE {_quoted(name)} LOGIN PASSWORD NULL")
    _run(f"GRANT rds_iam TO {_quoted(name)}")
    _act(name, acts_as, member_of)
    logger.info("login %s is there, for IAM tokens", name)


def schema(name: str, *, owner: str) -> None:
    """
    Make the schema *name*, owned by the role *owner*, closed to everybody else.

    What the master owns in it (after a downgrade) goes back to *owner*.
    """
    # Owning it takes CREATE on the database only if ownership changes hands.
    _run(
        f"""
        DO $day2$
        DECLARE thing record;
        BEGIN
            CREATE SCHEMA IF NOT EXISTS {_quoted(name)} AUTHORIZATION {_quoted(owner)};
            IF '{owner}'::regrole <> (
                SELECT nspowner FROM pg_namespace WHERE nspname = '{name}'
            ) THEN
                EXECUTE format('GRANT CREATE ON DATABASE %I TO {owner}', current_database());
                ALTER SCHEMA {_quoted(name)} OWNER TO {_quoted(owner)};
                EXECUTE format('REVOKE CREATE ON DATABASE %I FROM {owner}', current_database());
            END IF;
            FOR thing IN
                SELECT oid::regclass AS name FROM pg_class
                WHERE relnamespace = '{name}'::regnamespace AND relowner = {_MASTER}
                  AND relkind IN ('r', 'p', 'v', 'm', 'f') AND {_IS_NO_PART_OF_AN_EXTENSION}
            LOOP
                EXECUTE format('ALTER TABLE %s OWNER TO {_quoted(owner)}', thing.name);
            END LOOP;
            FOR thing IN
                SELECT oid::regprocedure AS name FROM pg_proc
                WHERE pronamespace = '{name}'::regnamespace AND proowner = {_MASTER}
                  AND {_IS_NO_PART_OF_AN_EXTENSION}
            LOOP
                EXECUTE format('ALTER ROUTINE %s OWNER TO {_quoted(owner)}', thing.name);
            END LOOP;
        END
        $day2$
        """
    )
    _run(f"REVOKE ALL ON SCHEMA {_quoted(name)} FROM PUBLIC")
    logger.info("schema %s belongs to %s", name, owner)


def read_only(reader: str, *, schemas: Sequence[str], tables_of: Sequence[str]) -> None:
    """
    Let *reader* read every table and sequence of *schemas*, those of tomorrow included.

    Default privileges belong to the role that creates a table, so the creators are named:
    *tables_of*, and the master itself always.
    """
    for name in schemas:
        _run(f"GRANT USAGE ON SCHEMA {_quoted(name)} TO {_quoted(reader)}")
        for kind in ("TABLES", "SEQUENCES"):
            _run(f"GRANT SELECT ON ALL {kind} IN SCHEMA {_quoted(name)} TO {_quoted(reader)}")
            for creator in ("CURRENT_USER", *map(_quoted, tables_of)):
                _run(
                    f"ALTER DEFAULT PRIVILEGES FOR ROLE {creator} IN SCHEMA {_quoted(name)}"
                    f" GRANT SELECT ON {kind} TO {_quoted(reader)}"
                )
    logger.info("%s reads %s", reader, ", ".join(schemas))


def index(name: str, *, on: str, columns: str, unique: bool = False) -> None:
    """
    Build the index *name* on the table *on* (``schema.table``) while the table is in use.

    *columns* is SQL, such as ``customer_id, created_at DESC``. CREATE INDEX CONCURRENTLY
    cannot run in a transaction: a build that fails or is killed leaves an INVALID index,
    which is dropped here and built again, by this run or by the next.
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
        _run(build)
    logger.info("index %s is there", where)


def _drop_invalid_index(where: str) -> None:
    """Drop the index *where*, a quoted name, if an earlier build left it INVALID."""
    found = op.get_bind().exec_driver_sql(
        "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(%(where)s) AND NOT indisvalid",
        {"where": where},
    )
    if found.first() is not None:
        logger.info("index %s was left INVALID: dropped, to be built again", where)
        _run(f"DROP INDEX CONCURRENTLY {where}")


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
    _run(
        f"""
        DO $day2$
        BEGIN
            REVOKE ALL ON SCHEMA {_quoted(name)} FROM PUBLIC;
            IF has_schema_privilege('public', '{name}', 'USAGE') THEN
                RAISE insufficient_privilege USING
                    MESSAGE = 'PUBLIC still has schema {name}',
                    HINT = 'Connect as the owner of the database.';
            END IF;
        END
        $day2$
        """
    )
    logger.info("PUBLIC has nothing in schema %s", name)


def drop_schema(name: str) -> None:
    """Drop the schema *name* if it is empty; with something in it, it goes to the master."""
    _run(
        f"""
        DO $day2$
        BEGIN
            DROP SCHEMA IF EXISTS {_quoted(name)};
        EXCEPTION WHEN dependent_objects_still_exist THEN
            RAISE WARNING 'schema {name} is not empty: it stays, and belongs to the master';
            ALTER SCHEMA {_quoted(name)} OWNER TO CURRENT_USER;
        END
        $day2$
        """
    )
    logger.info("schema %s is dropped, or kept for what is in it", name)


def drop_table_if_empty(name: str) -> None:
    """Drop the table *name* (``schema.table``) if it has no row; with rows, it stays."""
    table = ".".join(map(_quoted, name.split(".")))
    _run(
        f"""
        DO $day2$
        DECLARE has_rows boolean;
        BEGIN
            IF to_regclass('{name}') IS NULL THEN RETURN; END IF;
            EXECUTE 'SELECT EXISTS (SELECT FROM {table})' INTO has_rows;
            IF has_rows THEN
                RAISE WARNING 'table {name} is not empty: it stays';
            ELSE
                DROP TABLE {table};
            END IF;
        END
        $day2$
        """
    )


def drop_role(name: str) -> None:
    """
    Drop the role *name*: what it owns goes to the master, what it was granted goes.

    Works in the one managed database; a role with objects in another database of the
    instance cannot be dropped, and PostgreSQL's error names that database.
    """
    _run(
        f"""
        DO $day2$
        BEGIN
            IF to_regrole('{name}') IS NULL THEN RETURN; END IF;
            GRANT {_quoted(name)} TO CURRENT_USER;
            REASSIGN OWNED BY {_quoted(name)} TO CURRENT_USER;
            DROP OWNED BY {_quoted(name)};
            DROP ROLE {_quoted(name)};
        END
        $day2$
        """
    )
    logger.info("role %s is dropped", name)


def drop_login(name: str) -> None:
    """Drop the login *name*; its secret is kept, tagged as retired."""
    drop_role(name)
    if not op.get_context().as_sql:
        _vault().retire(name)


def _act(name: str, acts_as: str | None, member_of: Sequence[str]) -> None:
    """Make the login *name* a member of the roles *member_of*, and act as *acts_as*."""
    for group in (*member_of, *([acts_as] if acts_as else [])):
        _run(f"GRANT {_quoted(group)} TO {_quoted(name)}")
    if acts_as:
        _run(f"ALTER ROLE {_quoted(name)} SET role = {_quoted(acts_as)}")


def _make_role(name: str) -> None:
    """Make the role *name* without LOGIN if it is not there, and act for it from now on."""
    _run(
        f"""
        DO $day2$
        BEGIN
            IF to_regrole('{name}') IS NULL THEN
                CREATE ROLE {_quoted(name)} NOLOGIN;
            END IF;
            GRANT {_quoted(name)} TO CURRENT_USER;
        END
        $day2$
        """
    )


def _role_exists(name: str) -> bool:
    found = op.get_bind().exec_driver_sql(
        "SELECT 1 FROM pg_roles WHERE rolname = %(name)s", {"name": name}
    )
    return found.first() is not None


def _vault() -> Vault:
    """Return the vault that the runner or ``env.py`` put into Alembic's attributes."""
    config = op.get_context().config
    vault = config.attributes.get("vault") if config is not None else None
    if vault is None:
        raise RuntimeError(
            "no place to keep passwords: set config.attributes['vault'] (core.operations.Vault)"
        )
    return vault  # type: ignore[no-any-return]


def _run(statement: str) -> None:
    """Run *statement* as written: no parameter marks, no colons that mean something."""
    lines = [line.rstrip() for line in statement.splitlines() if line.strip()]
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    _send("\n".join(line[margin:] for line in lines))


def _send(statement: str) -> None:
    """Send *statement* as it is."""
    if op.get_context().as_sql:
        # A comment may end it.
        last = statement.rstrip().rpartition("\n")[2]
        end = "\n;" if "--" in last else "" if last.endswith(";") else ";"
        op.get_context().impl.static_output(statement.rstrip() + end)
    else:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def _note(text: str) -> None:
    """Write *text* into the script, as a comment."""
    op.get_context().impl.static_output(f"-- note: {text}")


def _quoted(name: str) -> str:
    """Return *name* as an SQL identifier; refuse what PostgreSQL would cut or fold."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no plain name: use up to 63 lower-case letters, digits and underscores"
        )
    return f'"{name}"'
