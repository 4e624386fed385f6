"""
What all helpers are made with: their names as SQL, and the one way to the database or the script.

Alembic's ``op`` is used here alone; a revision runs on it, or is written down with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from alembic import op

from core.postgres.acting import acting_as, is_acting
from core.revisions import rendering

# PostgreSQL cuts longer names silently (NAMEDATALEN), and quotes what is not lower case.
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def on_paper() -> bool:
    """Say whether the revision is written as a script, and not run."""
    return bool(op.get_context().as_sql)


def finds(statement: str, name: str) -> bool:
    """Say whether *statement* finds a row, with *name* for its ``%(name)s``."""
    return op.get_bind().exec_driver_sql(statement, {"name": name}).first() is not None


def driver_connection() -> Any:
    """Return psycopg2's connection, which the revision runs on."""
    return op.get_bind().connection.driver_connection


def in_autocommit() -> AbstractContextManager[None]:
    """
    Run what is inside in no transaction: that of the revision so far is committed.

    Raises:
        ValueError: It is inside of operations.as_role, whose statements run in functions.
    """
    if is_acting():
        raise ValueError(
            "operations.index builds outside of any transaction, and as_role runs in a function: "
            "call it outside of as_role; the index is the table's owner's all the same"
        )
    return op.get_context().autocommit_block()


def acting(name: str) -> AbstractContextManager[None]:
    """Run what is inside as the role *name*, in functions that it owns."""
    return acting_as(quoted(name), op.get_context(), op.get_bind)


def attributes() -> dict[Any, Any]:
    """Return what the runner or ``env.py`` hands to revisions."""
    config = op.get_context().config
    return config.attributes if config is not None else {}


def do(body: str, variables: str = "") -> None:
    """
    Run *body* in the database, which there decides what depends on it.

    Whoever may create in a schema of the path could give a function or an operator a better
    match than PostgreSQL's own; so there is no path but the catalogue in here. *variables* are
    declared before that: their types are qualified, unless the grammar knows them.
    """
    tag = "$day2$"
    while tag in body:
        tag = f"{tag[:-1]}_$"
    run(
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


def run(statement: str, *, is_ours: bool = False) -> None:
    """Run *statement* as written: no parameter marks, no colons that mean something."""
    lines = [line.rstrip() for line in statement.splitlines() if line.strip()]
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    send("\n".join(line[margin:] for line in lines), is_ours=is_ours)


def send(statement: str, *, is_ours: bool = False) -> None:
    """Send *statement* as it is; *is_ours* says that no author wrote any of it."""
    if on_paper():
        # A comment may end it.
        last = statement.rstrip().rpartition("\n")[2]
        end = "\n;" if "--" in last else "" if last.endswith(";") else ";"
        written = statement.rstrip() + end
        if is_ours:
            op.get_context().opts.setdefault(rendering.OURS, set()).add(written.strip())
        op.get_context().impl.static_output(written)
    else:
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def note(text: str) -> None:
    """Write *text* into the script, as a comment."""
    op.get_context().impl.static_output(f"-- note: {text}")


def quoted_path(name: str) -> str:
    """Return *name*, which is ``schema.table``, as SQL."""
    schema_name, dot, table_name = name.partition(".")
    if not dot:
        raise ValueError(f"{name!r}: name the table with its schema, such as 'app.orders'")
    return f"{quoted(schema_name)}.{quoted(table_name)}"


def several(field: str, names: Sequence[str]) -> Sequence[str]:
    """Return *names*; refuse one text, which is a sequence of letters, by its *field*."""
    if isinstance(names, str):
        raise TypeError(f"{field}={names!r}: give a list, such as [{names!r}]")
    return names


def plain(name: str) -> str:
    """Return *name* for a literal; refuse what :func:`quoted` refuses."""
    return quoted(name)[1:-1]


def quoted(name: str) -> str:
    """Return *name* as an SQL identifier; refuse what PostgreSQL would cut or fold."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a plain name: up to 63 lower-case letters, digits and underscores"
        )
    return f'"{name}"'
