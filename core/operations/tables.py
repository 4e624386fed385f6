"""Tables, their indexes, and who reads them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from core.operations.existing import Existing, refuses
from core.operations.sending import (
    do,
    finds,
    in_autocommit,
    note,
    on_paper,
    plain,
    quoted,
    quoted_path,
    run,
    several,
)
from core.revisions.marks import MASTER

logger = logging.getLogger(__name__)

# How many names a message of ours shows.
_NAMES_SHOWN = 5


def table(name: str, columns: str, *, existing: Existing = "refuse") -> None:
    """
    Make the table *name* (``schema.table``) of the master's, with *columns*, which is SQL.

    What is there by that name is left as it is where it is a table of the master's. A view,
    or what belongs to somebody else, is refused: its owner would read and change what is
    kept there. With *existing* ``"adopt"`` a table of another owner is left to it.
    """
    quoted = quoted_path(name)
    refusal = f"""
        ELSIF found.relowner <> {MASTER} THEN
            RAISE insufficient_privilege USING
                MESSAGE = format('table {name} was there before, and belongs to %s',
                    pg_get_userbyid(found.relowner)),
                HINT = 'Look at what is in it; then ALTER TABLE {name} OWNER TO the master, or '
                    'leave it to its owner by existing="adopt".';
    """
    do(
        f"""
        SELECT * INTO found FROM pg_class WHERE oid = to_regclass('{name}');
        IF found.oid IS NULL THEN
            PERFORM pg_catalog.set_config('search_path', path, true);
            CREATE TABLE {quoted} ({columns});
        ELSIF found.relkind NOT IN ('r', 'p') THEN
            RAISE wrong_object_type USING
                MESSAGE = '{name} was there before, and is not a table',
                HINT = 'Rename it or drop it, then try again.';
        {refusal if refuses(existing, name) else ""}
        END IF;
        """,
        "found pg_catalog.pg_class%ROWTYPE;",
    )
    logger.info("table %s is there", name)


def drop_table_if_empty(name: str) -> None:
    """
    Drop the table *name* (``schema.table``) if it has no row; with rows, it stays.

    A view, or a table of somebody else's, stays too: to read it would run its owner's code.
    """
    quoted = quoted_path(name)
    do(
        f"""
        SELECT * INTO found FROM pg_class WHERE oid = to_regclass('{name}');
        IF found.oid IS NULL THEN
            NULL;
        ELSIF found.relkind NOT IN ('r', 'p') OR found.relowner <> {MASTER} THEN
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


def read_only(reader: str, *, schemas: Sequence[str], tables_of: Sequence[str]) -> None:
    """
    Let *reader* read every table and sequence of *schemas*, those of tomorrow included.

    Default privileges belong to the role that creates a table, so the creators are named:
    *tables_of*, and the master itself always. What others made there, and the master may not
    grant, stays closed: a WARNING names it.
    """
    creators = ", ".join(f"'{plain(one)}'" for one in several("tables_of", tables_of))
    for name in several("schemas", schemas):
        do(
            f"""
            GRANT USAGE ON SCHEMA {quoted(name)} TO {quoted(reader)};
            IF NOT has_schema_privilege('{plain(reader)}', '{plain(name)}', 'USAGE') THEN
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
                    EXECUTE format('GRANT SELECT ON SEQUENCE %s TO {quoted(reader)}', thing.name);
                ELSIF thing.is_ours THEN
                    EXECUTE format('GRANT SELECT ON TABLE %s TO {quoted(reader)}', thing.name);
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
                    USING HINT = 'Their owners may: GRANT SELECT ON them TO {reader}.';
            END IF;
            """,
            "thing pg_catalog.record; closed pg_catalog.text[] := '{}'; more int := 0;",
        )
        for kind in ("TABLES", "SEQUENCES"):
            for creator in ("CURRENT_USER", *map(quoted, tables_of)):
                run(
                    f"ALTER DEFAULT PRIVILEGES FOR ROLE {creator} IN SCHEMA {quoted(name)}"
                    f" GRANT SELECT ON {kind} TO {quoted(reader)}"
                )
    logger.info("%s reads %s", reader, ", ".join(schemas))


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
    where = f"{quoted(schema_name)}.{quoted(name)}"
    of = f"{quoted(schema_name)}.{quoted(table)}"
    kind = "UNIQUE INDEX" if unique else "INDEX"
    build = f"CREATE {kind} CONCURRENTLY IF NOT EXISTS {quoted(name)} ON {of} ({columns})"
    with in_autocommit():
        if on_paper():
            note(f"an INVALID {where} that an earlier build left is dropped first")
            run(build)
            return
        # It waits for every transaction that sees the table; statement_timeout bounds that.
        run("SET lock_timeout = 0")
        _drop_invalid_index(where)
        try:
            run(build)
        except Exception:
            # It serves no query, and a unique one would refuse the application's rows.
            with suppress(Exception):
                _drop_invalid_index(where)
            raise
        # IF NOT EXISTS is content with anything of that name.
        is_it = (
            f"{_OF_THAT_NAME} AND {'' if unique else 'NOT '}indisunique AND indrelid"
            f" OPERATOR(pg_catalog.=) pg_catalog.to_regclass('{of}')"
        )
        if not finds(is_it, where):
            raise ValueError(
                f"{where} was there before, and is not {'a unique' if unique else 'a plain'} index"
                f" on {on}: rename it or drop it, then run the revision again"
            )
    logger.info("index %s is there", where)


# Qualified: the revision's own path is in force here.
_OF_THAT_NAME = (
    "SELECT 1 FROM pg_catalog.pg_index"
    " WHERE indexrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(%(name)s)"
)


def _drop_invalid_index(where: str) -> None:
    """Drop the index *where*, a quoted name, if a build left it INVALID."""
    if finds(f"{_OF_THAT_NAME} AND NOT indisvalid", where):
        run(f"DROP INDEX CONCURRENTLY {where}")
        logger.info("index %s was left INVALID: dropped", where)
