"""Statements that run as another role than the session's, and whose code cannot get out of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import Connection

_BEGINNING = re.compile(r"(\s|\(|--[^\n]*(\n|$)|/\*.*?\*/)*", re.DOTALL)
_READS = re.compile(r"(SELECT|VALUES|TABLE|SHOW|FETCH|EXPLAIN)\b", re.IGNORECASE)
_WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)
_RETURNING = re.compile(r"\bRETURNING\b", re.IGNORECASE)
_CHECK_DEFERRED = "SET CONSTRAINTS ALL IMMEDIATE"
# What such a trigger put off once more would run at the commit, before PostgreSQL 18 as the master.
# A table with pending events takes no ALTER, and this one changes nothing.
_NOTHING_LEFT = """
    FOR late IN
        SELECT tgrelid::regclass AS place, tgname, tgenabled
        FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        WHERE tgdeferrable AND NOT tgisinternal AND tgenabled IN ('O', 'A')
        AND relkind = 'r' AND pg_has_role(relowner, 'USAGE')
    LOOP
        IF late.tgenabled = 'A' THEN
            EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', late.place, late.tgname);
        ELSE
            EXECUTE format('ALTER TABLE %s ENABLE TRIGGER %I', late.place, late.tgname);
        END IF;
    END LOOP;
"""

# The roles of the blocks that are open, quoted: the last one acts.
_acting: list[str] = []


@contextmanager
def acting_as(
    role: str, migration: MigrationContext, bind: Callable[[], Connection]
) -> Iterator[None]:
    """
    Run every statement inside as *role*, a quoted identifier, on the connection or on paper.

    *bind* returns the connection; on paper there is none.
    """
    if _acting:
        # The outer block's hook is there, and looks at the last role.
        hook: Any = _nothing()
    elif migration.as_sql:
        hook = _on_paper(migration.impl)
    else:
        hook = _on_connection(bind())
    with hook as run:
        _acting.append(role)
        try:
            yield
            if run is not None:
                # What a deferred trigger does at the commit, it would do as the master.
                run(_CHECK_DEFERRED)
        finally:
            _acting.pop()


def is_acting() -> bool:
    """Say whether such a block is open."""
    return bool(_acting)


@contextmanager
def _nothing() -> Iterator[None]:
    yield None


@contextmanager
def _on_paper(impl: Any) -> Iterator[Callable[[str], None]]:
    """Wrap what *impl* writes; comments stay as they are."""
    write = impl.static_output

    def wrapped(text: str) -> None:
        statement = text.rstrip().removesuffix(";")
        is_comment = all(line.startswith("--") for line in statement.splitlines() if line.strip())
        write(text if is_comment else f"{as_role(statement, _acting[-1])};")

    impl.static_output = wrapped
    try:
        yield wrapped
    finally:
        impl.static_output = write


@contextmanager
def _on_connection(connection: Connection) -> Iterator[Callable[[str], Any]]:
    """Have each statement of *connection* wrapped on its way to the driver."""
    # Imported here: a run that has no such block does not need it.
    from sqlalchemy import event

    def wrap(
        _connection: Connection,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        _executemany: bool,  # noqa: FBT001 - as SQLAlchemy calls it
    ) -> tuple[str, Any]:
        # Not by executemany: rows that SQLAlchemy puts into one statement come as one set.
        is_many = isinstance(parameters, list)
        if is_many:
            filled = [_filled(cursor, statement, one) for one in parameters]
            text = ";\n".join(filled)
        elif context is not None and context.no_parameters and not parameters:
            return as_role(statement, _acting[-1]), parameters
        else:
            text = _filled(cursor, statement, parameters)
        # The driver looks for parameter marks once more.
        text = as_role(text, _acting[-1]).replace("%", "%%")
        return text, [{}] if is_many else {}

    event.listen(connection, "before_cursor_execute", wrap, retval=True)
    try:
        yield lambda statement: connection.exec_driver_sql(
            statement, execution_options={"no_parameters": True}
        )
    finally:
        event.remove(connection, "before_cursor_execute", wrap)


def _filled(cursor: Any, statement: str, parameters: Any) -> str:
    """Return *statement* with its *parameters* as literals."""
    return str(cursor.mogrify(statement, parameters).decode())


def _returns_rows(statement: str) -> bool:
    beginning = _BEGINNING.match(statement)
    text = statement[beginning.end() :] if beginning else statement
    first = text[:4].upper()
    if first.startswith("WITH"):
        return _WRITES.search(text) is None or _RETURNING.search(text) is not None
    writes = _WRITES.match(text) is not None
    return _READS.match(text) is not None or (writes and _RETURNING.search(text) is not None)


def as_role(statement: str, role: str) -> str:
    """
    Return the SQL that runs *statement* as *role*, a quoted identifier.

    Code that runs in a function of SECURITY DEFINER cannot set the role (PostgreSQL
    documentation, "SET ROLE"). The function is new for each statement: its owner is whoever
    that code runs as, and could give it another body. To own it takes TEMPORARY on the
    database, which is lent where it is missing. A cursor that it left open WITH HOLD would be
    run at the commit, by whoever commits, and a statement that it prepared by a name of ours as
    the master: both go.

    Raises:
        ValueError: *statement* returns rows, which would get lost.
    """
    if _returns_rows(statement):
        raise ValueError(
            f"as_role runs statements for what they do, and this one returns rows: "
            f"{statement.strip()[:60]!r}: read outside of it, or use PERFORM in a DO block"
        )
    tag = "$day2_as$"
    while tag in statement:
        tag = f"{tag[:-1]}_$"
    name = role[1:-1].replace("'", "''")
    outer, middle = (tag.replace("day2_as", one) for one in ("day2_do", "day2_body"))
    return f"""DO {outer}
DECLARE
    path CONSTANT pg_catalog.text := pg_catalog.current_setting('search_path');
    may_own boolean;
    kept pg_catalog.text[];
    late pg_catalog.record;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    may_own := has_database_privilege('{name}', current_database(), 'TEMPORARY');
    IF NOT may_own THEN
        EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO {role}', current_database());
    END IF;
    CREATE FUNCTION pg_temp.day2_as_role() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    AS {middle}
    BEGIN
        EXECUTE {tag}{statement}{tag};
    END
    {middle};
    ALTER FUNCTION pg_temp.day2_as_role() OWNER TO {role};
    IF NOT may_own THEN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM {role}', current_database());
    END IF;
    PERFORM pg_catalog.set_config('search_path', path, true);
    PERFORM pg_temp.day2_as_role();
    DROP FUNCTION pg_temp.day2_as_role();
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    kept := ARRAY(SELECT name FROM pg_cursors WHERE creation_time >= statement_timestamp());
    FOR n IN 1 .. cardinality(kept) LOOP
        EXECUTE format('CLOSE %I', kept[n]);
    END LOOP;
    kept := ARRAY(
        SELECT name FROM pg_prepared_statements WHERE prepare_time >= statement_timestamp());
    FOR n IN 1 .. cardinality(kept) LOOP
        EXECUTE format('DEALLOCATE %I', kept[n]);
    END LOOP;
    {_NOTHING_LEFT if statement == _CHECK_DEFERRED else ""}
    PERFORM pg_catalog.set_config('search_path', path, true);
END
{outer}"""
