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
from sqlalchemy import BindParameter, Connection, TextClause, event, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import Range, psycopg2
from sqlalchemy.dialects.postgresql.base import PGCompiler
from sqlalchemy.dialects.postgresql.ranges import MultiRange
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import iterate

from core.revisions import scripts


class Refused(Exception):
    """A statement that no run carries out; the message names its line and the remedy."""


class Looked(Exception):
    """A revision on paper wants to know something of the database."""


class NoLiteral(Exception):
    """A value has no literal form; the message says what it is."""


class Day2PostgresqlImpl(PostgresqlImpl):
    """
    Alembic's PostgreSQL, which on paper writes every value as a run would send it.

    Attributes:
        notes: What cannot be written, of the revision that is being written.
        stop: The statement that ends the script there.
    """

    __dialect__ = "postgresql"

    notes: list[str]
    stop: str

    def _exec(
        self,
        construct: Any,
        execution_options: Mapping[str, Any] | None = None,
        *given: Any,
        **options: Any,
    ) -> Any:
        if self.as_sql:
            return self.write(construct, {}, execution_options)
        if isinstance(construct, str) and not (execution_options or given or options):
            connection = self.connection
            if connection is not None and _is_plain(construct) and not _is_listened_to(connection):
                # The driver is sent the same, and SQLAlchemy has nothing to compile.
                return connection.exec_driver_sql(construct)
        return super()._exec(construct, execution_options, *given, **options)

    def write(
        self,
        construct: Any,
        values: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Write *construct* with *values*, as far as they can be written."""
        if isinstance(construct, str):
            construct = text(construct)
        elif isinstance(construct, FunctionElement):
            # As SQLAlchemy does where it is executed.
            construct = construct.select()
        refuse_unbound(construct, values)
        try:
            written = _literally(construct, values)
        except NoLiteral as error:
            note = f"{_at()}the next statement cannot be shown whole ({error})"
            self.notes.append(note)
            shown = construct.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
            self.static_output(f"-- note: {note}")
            self.static_output("-- " + str(shown).replace("\n", "\n-- "))
            self.static_output(self.stop)
        else:
            if not values and (options or {}).get("no_parameters"):
                # SQLAlchemy doubles each percent sign, and the driver then leaves them so.
                written = written.replace("%", "%%")
            # Alembic writes spaces for tabs: a value with one would be another.
            self.static_output(written.strip() + self.command_terminator)


def _is_plain(statement: str) -> bool:
    """Say whether *statement* means the same to SQLAlchemy and to the driver: no parameters."""
    return ":" not in statement and "%" not in statement


def _is_listened_to(connection: Connection) -> bool:
    """Say whether anybody but us hears of each statement that is executed on *connection*."""
    hears = connection.dispatch
    return len(hears.before_execute) > 1 or len(hears.after_execute) > 0


def refuse_unbound(construct: Any, values: Mapping[str, Any]) -> None:
    """
    Refuse a parameter that nobody gives a value: most often it is only a colon in a text.

    In a statement SQLAlchemy would miss the value, in a default or a constraint write NULL.

    Raises:
        Refused: There is one.
    """
    if isinstance(construct, ExecutableDDLElement):
        construct.compile(dialect=_dialect())
        return
    given = {*values, *(getattr(construct, "_params", None) or ())}
    for one in iterate(construct):
        if isinstance(one, BindParameter) and one.required and one.key not in given:
            raise _without_value(one.key)


def refuse_unbound_in(connection: Connection) -> None:
    """Refuse on *connection* what :func:`refuse_unbound` refuses, before it is sent."""

    def before(
        _connection: Connection,
        construct: Any,
        many: Sequence[Mapping[str, Any]],
        one: Mapping[str, Any],
        _options: Mapping[str, Any],
    ) -> None:
        # A text without a colon has no parameter.
        if not isinstance(construct, TextClause) or ":" in construct.text:
            refuse_unbound(construct, many[0] if many else one)

    event.listen(connection, "before_execute", before)


def _without_value(name: str) -> Refused:
    return Refused(
        f"{_at()}:{name} is a parameter without a value: "
        f"write \\:{name} for a plain colon, or bind a value"
    )


def _at() -> str:
    """Return the line of the script that has called, to begin a sentence with."""
    found = scripts.calling()
    return f"{found[0].name}:{found[1]}: " if found else ""


def _literally(construct: Any, values: Mapping[str, Any]) -> str:
    """
    Return *construct* with each value as a literal.

    Raises:
        NoLiteral: One has none.
    """
    options: dict[str, Any] = {}
    if not isinstance(construct, ExecutableDDLElement):
        options["compile_kwargs"] = {"literal_binds": True, "given": values}
    if isinstance(construct, UpdateBase):
        options["column_keys"] = list(values)
    return str(construct.compile(dialect=_dialect(), **options))


class _Compiler(PGCompiler):
    """Writes each value as psycopg2 would send it in a run."""

    def render_literal_bindparam(self, bindparam: Any, *positional: Any, **options: Any) -> str:
        given = dict(options.pop("given", {}))
        given.update(self._collected_params if self._collect_params else {})
        if bindparam.key in given:
            options["render_literal_value"] = given[bindparam.key]
        elif bindparam.required:
            raise _without_value(bindparam.key)
        elif bindparam.value is None and bindparam.type.should_evaluate_none:
            # A JSON null, which SQLAlchemy's own literals confuse with NULL.
            options["render_literal_value"] = None
        return str(super().render_literal_bindparam(bindparam, *positional, **options))  # type: ignore[no-untyped-call]

    def render_literal_value(self, value: Any, type_: Any) -> str:
        if isinstance(value, Range | MultiRange):
            return _literal(value)
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
            kind = "numeric" if isinstance(value, Decimal) else "float"
            return number if number.strip("-")[:1].isdigit() else f"'{number}'::{kind}"
        case str() if "\0" not in value:
            return "'" + value.replace("'", "''") + "'"
        case bytes() | bytearray() | memoryview():
            return f"'\\x{bytes(value).hex()}'::bytea"
        case date() | time() | timedelta():
            return _literal_time(value)
        case UUID() | Range():
            return f"'{value}'"
        case MultiRange():
            return f"'{{{','.join(map(str, value))}}}'"
        case list():
            return f"ARRAY[{', '.join(map(_literal, value))}]" if value else "'{}'"
        case tuple() if value:
            return f"({', '.join(map(_literal, value))})"
    raise NoLiteral(f"SQL has no literal for a value of type {type(value).__name__}")


def _literal_time(value: date | time | timedelta) -> str:
    """Return *value* as a literal of its type."""
    if isinstance(value, timedelta):
        seconds = f"{value.seconds}.{value.microseconds:06}"
        return f"'{value.days} days {seconds} seconds'::interval"
    zone = "tz" if getattr(value, "tzinfo", None) else ""
    if isinstance(value, datetime):
        return f"'{value.isoformat(' ')}'::timestamp{zone}"
    return f"'{value.isoformat()}'::{type(value).__name__.lower()}{zone}"


class PaperConnection(MockConnection):
    """The bind of a revision on paper: what is executed is written, what is asked is not known."""

    def __init__(self, impl: Any) -> None:
        super().__init__(impl.dialect, impl.execute)
        self._impl = impl

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def execute(self, obj: Any, parameters: Any = None, execution_options: Any = None) -> _Unknown:
        """Write *obj* with *parameters*; nothing is known of what comes of it."""
        rows = parameters if parameters and isinstance(parameters, list) else [parameters or {}]
        for row in rows:
            self._impl.write(obj, row, execution_options)
        return _Unknown()

    def exec_driver_sql(
        self, statement: str, parameters: Any = None, execution_options: Any = None
    ) -> _Unknown:
        """Write *statement* with *parameters*, in psycopg2's style."""
        rows = parameters if parameters and isinstance(parameters, list) else [parameters or ()]
        for row in rows:
            if isinstance(row, Mapping):
                shown = statement % {name: _literal(value) for name, value in row.items()}
            elif row or not (execution_options or {}).get("no_parameters"):
                # Also without a value psycopg2 takes a percent sign for a placeholder.
                shown = statement % tuple(map(_literal, row))
            else:
                shown = statement
            self._impl.static_output(shown.strip() + self._impl.command_terminator)
        return _Unknown()

    @contextmanager
    def begin_nested(self) -> Any:
        """Write a savepoint around what follows."""
        self._impl.static_output("-- note: where a run goes back to a savepoint, this script fails")
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
        # Alembic asks whether there is such a thing as a transaction here: there is none.
        if name.startswith("__") or name == "in_transaction":
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
