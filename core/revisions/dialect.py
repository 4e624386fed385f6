"""
PostgreSQL as Alembic sends it statements here, in a run and on paper alike.

Importing this module is what makes Alembic use it: an implementation registers itself for its
dialect (Alembic documentation, "DDL Internals").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Self
from uuid import UUID

from alembic.ddl.postgresql import PostgresqlImpl
from sqlalchemy import TextClause, text
from sqlalchemy.dialects.postgresql import psycopg2
from sqlalchemy.dialects.postgresql.base import PGCompiler
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.schema import ExecutableDDLElement

from core.revisions import scripts


class Refused(Exception):
    """A statement that no run carries out; the message names its line and the remedy."""


class Looked(Exception):
    """A revision on paper wants to know something of the database."""


class NoLiteral(Exception):
    """A value has no literal form; the message says what it is."""


class Day2PostgresqlImpl(PostgresqlImpl):
    """Alembic's PostgreSQL, which refuses a parameter without a value and writes every value."""

    __dialect__ = "postgresql"

    notes: list[str]

    def _exec(
        self,
        construct: Any,
        execution_options: Mapping[str, Any] | None = None,
        multiparams: Sequence[Mapping[str, Any]] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        construct = text(construct) if isinstance(construct, str) else construct
        values = [*(multiparams or ()), *([params] if params else ())]
        if not self.as_sql:
            refuse_unbound(construct, values[0] if values else {})
            return super()._exec(construct, execution_options, multiparams, params or {})
        for one in values or [{}]:
            self.write(construct, one)
        return None

    def write(self, construct: Any, values: Mapping[str, Any]) -> None:
        """Write *construct* with *values*, as far as they can be written."""
        refuse_unbound(construct, values)
        if isinstance(construct, ExecutableDDLElement):
            super()._exec(construct)
            return
        try:
            written = literal(construct, values)
        except NoLiteral as error:
            found = scripts.calling()
            at = f"{found[0].name}:{found[1]}: " if found else ""
            note = f"{at}the next statement cannot be shown whole ({error})"
            self.notes.append(note)
            shown = str(construct.compile(dialect=_dialect()))
            written = f"-- note: {note}\n-- " + shown.replace("\n", "\n-- ")
            self.static_output(written)
            return
        self.static_output(written.replace("\t", "    ").strip() + self.command_terminator)


def refuse_unbound(construct: Any, values: Mapping[str, Any]) -> None:
    """
    Refuse a text with a parameter that nobody gives a value: most often it is only a colon.

    Raises:
        Refused: There is one.
    """
    if not isinstance(construct, TextClause):
        return
    missing = [
        name
        for name, one in construct._bindparams.items()  # noqa: SLF001 - told nowhere else
        if one.required and name not in values
    ]
    if missing:
        found = scripts.calling()
        at = f"{found[0].name}:{found[1]}: " if found else ""
        raise Refused(
            f"{at}:{missing[0]} in a text is a parameter, and has no value: "
            f"write \\:{missing[0]} for a plain colon, or bind a value"
        )


def literal(construct: Any, values: Mapping[str, Any]) -> str:
    """
    Return *construct* with each value as a literal.

    Raises:
        NoLiteral: One has none.
    """
    if values and hasattr(construct, "values") and not construct.is_text:
        construct = construct.values(values)
    elif values:
        construct = construct.params(values)
    compiled = construct.compile(dialect=_dialect(), compile_kwargs={"literal_binds": True})
    return str(compiled)


class _Compiler(PGCompiler):
    """Writes each value as psycopg2 would send it in a run."""

    def render_literal_bindparam(self, bindparam: Any, *given: Any, **options: Any) -> str:
        if bindparam.required and bindparam.value is None and bindparam.callable is None:
            raise NoLiteral(f"{bindparam.key} has no value")
        return str(super().render_literal_bindparam(bindparam, *given, **options))  # type: ignore[no-untyped-call]

    def render_literal_value(self, value: Any, type_: Any) -> str:
        processor = type_._cached_bind_processor(self.dialect)  # noqa: SLF001
        return _literal(processor(value) if processor else value)


@cache
def _dialect() -> Any:
    # A named style: else SQLAlchemy doubles each percent sign.
    dialect = psycopg2.PGDialect_psycopg2(paramstyle="named")  # type: ignore[no-untyped-call]
    dialect.statement_compiler = _Compiler
    return dialect


def _literal(value: Any) -> str:
    """Return *value* as a literal, by standard_conforming_strings, PostgreSQL's default."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case int() | Decimal() | float():
            number = str(value)
            return number if number.strip("-")[:1].isdigit() else f"'{number}'::float"
        case UUID():
            return f"'{value}'"
        case str() if "\0" not in value:
            return "'" + value.replace("'", "''") + "'"
        case bytes() | bytearray() | memoryview():
            return f"'\\x{bytes(value).hex()}'::bytea"
        case datetime():
            return f"'{value.isoformat(' ')}'::timestamp{'tz' if value.tzinfo else ''}"
        case date():
            return f"'{value.isoformat()}'::date"
        case time():
            return f"'{value.isoformat()}'::time{'tz' if value.tzinfo else ''}"
        case timedelta():
            seconds = f"{value.seconds}.{value.microseconds:06}"
            return f"'{value.days} days {seconds} seconds'::interval"
        case list() if value:
            return f"ARRAY[{', '.join(map(_literal, value))}]"
        case list():
            return "'{}'"
    raise NoLiteral(f"SQL has no literal for a value of type {type(value).__name__}")


class PaperConnection(MockConnection):
    """The bind of a revision on paper: what is executed is written, what is asked is not known."""

    def __init__(self, impl: Any) -> None:
        super().__init__(impl.dialect, impl.execute)
        self._impl = impl

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def execute(self, obj: Any, parameters: Any = None, *_: Any, **__: Any) -> _Unknown:
        """Write *obj* with *parameters*; nothing is known of what comes of it."""
        rows = parameters if isinstance(parameters, list | tuple) else [parameters or {}]
        for row in rows:
            self._impl.write(obj, row)
        return _Unknown()

    def exec_driver_sql(self, statement: str, parameters: Any = None, **_: Any) -> _Unknown:
        """Write *statement* with *parameters*, in psycopg2's style."""
        rows = parameters if isinstance(parameters, list) else [parameters]
        for row in rows:
            shown = statement
            if isinstance(row, Mapping):
                shown = statement % {name: _literal(value) for name, value in row.items()}
            elif row:
                shown = statement % tuple(map(_literal, row))
            self._impl.static_output(shown.strip() + self._impl.command_terminator)
        return _Unknown()

    @contextmanager
    def begin_nested(self) -> Any:
        """Write a savepoint around what follows."""
        self._impl.static_output("SAVEPOINT revision;")
        yield self
        self._impl.static_output("RELEASE SAVEPOINT revision;")

    def scalar(self, *arguments: Any, **options: Any) -> Any:
        """Write the statement, and look."""
        return self.execute(*arguments, **options).scalar()

    def scalars(self, *arguments: Any, **options: Any) -> Any:
        """Write the statement, and look."""
        return self.execute(*arguments, **options).scalars()

    def _run_ddl_visitor(self, visitorcallable: Any, element: Any, **options: Any) -> None:
        if options.get("checkfirst"):
            self._impl.static_output("-- note: a run does what follows only where it is needed")
        super()._run_ddl_visitor(visitorcallable, element, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Looked(name)


class _Unknown:
    """What a statement on paper returns: any look at it is a look at the database."""

    def close(self) -> None:
        """Do nothing: there is nothing open."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Looked(name)

    def __iter__(self) -> Any:
        raise Looked("iteration")

    def __getitem__(self, key: object) -> Any:
        raise Looked("a row")
