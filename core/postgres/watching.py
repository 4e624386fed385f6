"""The cursors of a session, which keep the account of its transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg2 import extensions

from core.postgres.transactions import Account


class Watched:
    """
    A cursor that keeps the account of its session's transactions.

    It comes before the driver's cursor class, whichever a revision asks for.
    """

    def _watch(self, statement: Any, call: Callable[[], Any]) -> Any:
        session: Any = self.connection  # type: ignore[attr-defined]
        account: Account | None = session.account
        if account is None:
            return call()
        text = _text(statement, session)
        if "\0" in text:
            raise ValueError(
                "a statement has a zero byte in it, and the server would read no further: take it "
                "out, or read its file in the right encoding (UTF-16 has many)"
            )
        with account.statement(text):
            return call()

    def execute(self, query: Any, vars: Any = None) -> Any:  # noqa: A002 - the driver's name
        """Run *query*."""
        run = super().execute  # type: ignore[misc]
        return self._watch(query, lambda: run(query, vars))

    def executemany(self, query: Any, vars_list: Any) -> Any:
        """Run *query* for each of *vars_list*."""
        run = super().executemany  # type: ignore[misc]
        return self._watch(query, lambda: run(query, vars_list))

    def callproc(self, procname: Any, parameters: Any = ()) -> Any:
        """Call a function of the database."""
        run = super().callproc  # type: ignore[misc]
        return self._watch("SELECT", lambda: run(procname, parameters))

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> Any:
        """Run the COPY *sql*."""
        run = super().copy_expert  # type: ignore[misc]
        return self._watch(sql, lambda: run(sql, file, size))

    def copy_from(self, *arguments: Any, **options: Any) -> Any:
        """Copy into a table."""
        run = super().copy_from  # type: ignore[misc]
        return self._watch("COPY", lambda: run(*arguments, **options))

    def copy_to(self, *arguments: Any, **options: Any) -> Any:
        """Copy from a table."""
        run = super().copy_to  # type: ignore[misc]
        return self._watch("COPY", lambda: run(*arguments, **options))


class WatchedCursor(Watched, extensions.cursor):  # type: ignore[misc]  # psycopg2 has no types
    """The driver's own cursor, watched."""


_watched: dict[type, type] = {extensions.cursor: WatchedCursor}


def watched(kind: type | None) -> type:
    """Return the cursor class *kind*, watched."""
    if kind is None:
        return WatchedCursor
    if issubclass(kind, Watched):
        return kind
    if kind not in _watched:
        _watched[kind] = type(kind.__name__, (Watched, kind), {})
    return _watched[kind]


def _text(statement: Any, session: Any) -> str:
    """Return the text of *statement*, whatever form the driver takes it in."""
    if isinstance(statement, str):
        return statement
    if isinstance(statement, bytes):
        return statement.decode("utf-8", "replace")
    return str(statement.as_string(session)) if hasattr(statement, "as_string") else ""
