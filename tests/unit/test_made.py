"""What revisions make, as it is read out of their SQL."""

from __future__ import annotations

import pytest

from core.revisions.made import MadeFunction, read, sql_name, trigger_of

ADD = """CREATE OR REPLACE FUNCTION app."Add"(
    a integer, b numeric(10, 2) DEFAULT round(1.5, 0), OUT c text
) RETURNS text
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER
    SET search_path TO pg_catalog, "pg_temp" SET statement_timeout = '3s'
    AS $body$ BEGIN c := 'SECURITY INVOKER; LANGUAGE sql'; END $body$;"""


def only(statement: str) -> MadeFunction:
    """Return the one function that *statement* makes."""
    ((made,),) = read([statement]).functions.values()
    return made


def test_a_function_is_read_in_all_that_counts() -> None:
    """What is in its body is not taken for its options."""
    made = only(ADD)

    assert made._replace(statement="") == MadeFunction(
        name='app."Add"',
        kind="FUNCTION",
        arguments=2,
        language="plpgsql",
        source=" BEGIN c := 'SECURITY INVOKER; LANGUAGE sql'; END ",
        is_definer=True,
        settings={"search_path": "pg_catalog,pg_temp", "statement_timeout": "3s"},
        volatility="s",
        is_strict=True,
        is_leakproof=False,
        statement="",
    )
    assert made.statement == ADD.removesuffix(";")


@pytest.mark.parametrize(
    ("options", "source"),
    [
        ("AS 'SELECT ''a''' LANGUAGE sql", "SELECT 'a'"),
        ("LANGUAGE 'sql' AS $$SELECT 1$$", "SELECT 1"),
        ("language SQL as $x$ $$ $x$ immutable", " $$ "),
    ],
)
def test_a_body_may_be_quoted_in_any_way(options: str, source: str) -> None:
    """Before its options or behind them."""
    made = only(f"create function app.f() returns text {options}")

    assert (made.source, made.language) == (source, "sql")


# What comes after CREATE FUNCTION app.f(), and makes it unsure what it is now.
UNSURE = [
    "ALTER FUNCTION app.f() SECURITY DEFINER",
    "ALTER FUNCTION app.f() RENAME TO g",
    "DO $$ BEGIN CREATE OR REPLACE FUNCTION app.f() RETURNS int AS '' LANGUAGE sql; END $$",
    "CREATE OR REPLACE FUNCTION app.f() RETURNS int LANGUAGE sql RETURN 1",
    "CREATE OR REPLACE FUNCTION app.f() RETURNS int LANGUAGE c AS 'file', 'symbol'",
    "CREATE OR REPLACE FUNCTION app.f() RETURNS int LANGUAGE sql SET a.b FROM CURRENT AS ''",
]


@pytest.mark.parametrize("statement", UNSURE)
def test_what_cannot_be_read_for_certain_is_not_compared(statement: str) -> None:
    """A false alarm is worse than none."""
    made = read(["CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", statement])

    assert made.unsure == {"app.f"}


def test_a_revision_that_looks_at_the_database_leaves_its_functions_unsure() -> None:
    """What it does with what it has seen is not known here."""
    made = read(["CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS ''"], ["op.execute(f'…f')"])

    assert made.unsure == {"app.f"}


def test_what_is_dropped_is_not_expected() -> None:
    """Neither the function, nor the triggers that call it or that are dropped themselves."""
    made = read(
        [
            "CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql AS ''",
            "CREATE TRIGGER calls AFTER INSERT ON app.t FOR EACH ROW EXECUTE FUNCTION app.f()",
            "CREATE TRIGGER gone AFTER INSERT ON app.t FOR EACH ROW EXECUTE FUNCTION app.g()",
            "CREATE TRIGGER left AFTER INSERT ON app.u FOR EACH ROW EXECUTE FUNCTION app.g()",
            "DROP FUNCTION IF EXISTS app.f() CASCADE",
            "DROP TRIGGER gone ON app.t",
        ]
    )

    assert (made.functions, list(made.triggers)) == ({}, [("app.u", "left")])


@pytest.mark.parametrize(
    "statement",
    [
        "DROP FUNCTION app.f, app.g()",
        "DROP SCHEMA app CASCADE",
        'DO $$ BEGIN DROP SCHEMA IF EXISTS "app"; END $$',
    ],
)
def test_what_goes_with_others_is_not_expected(statement: str) -> None:
    """A list of functions, and all that a schema had."""
    made = read(
        [
            "CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS ''",
            "CREATE FUNCTION app.g() RETURNS int LANGUAGE sql AS ''",
            "CREATE FUNCTION apps.h() RETURNS int LANGUAGE sql AS ''",
            statement,
        ]
    )

    assert list(made.functions) == ["apps.h"]


def test_a_trigger_is_the_same_however_it_is_written() -> None:
    """As a person writes it, and as PostgreSQL does."""
    ours = trigger_of(
        "CREATE OR REPLACE TRIGGER append_only\n BEFORE UPDATE OR DELETE OR TRUNCATE"
        "\n ON day2.history FOR EACH STATEMENT EXECUTE FUNCTION day2.refuse_change();"
    )
    theirs = trigger_of(
        "CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE OR UPDATE ON day2.history"
        " FOR EACH STATEMENT EXECUTE FUNCTION day2.refuse_change()"
    )
    other = trigger_of(
        "CREATE TRIGGER append_only BEFORE DELETE OR UPDATE ON day2.history"
        " FOR EACH STATEMENT EXECUTE FUNCTION day2.refuse_change()"
    )

    assert ours
    assert theirs
    assert other
    assert ours.firing == theirs.firing != other.firing


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("App.Orders", "app.orders"),
        ('"app" . "orders"', "app.orders"),
        ('"App"."a""b"', '"App"."a""b"'),
    ],
)
def test_a_name_is_written_as_the_catalogue_does(written: str, name: str) -> None:
    """Quotes where they are needed, and nowhere else."""
    assert sql_name(written) == name
