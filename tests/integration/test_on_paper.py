"""Scripts on paper, run: they do what a run does, or stop; and what a run refuses, they refuse."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from core.errors import RevisionFailed, RunFailed
from core.model import Action
from core.outcome import Outcome
from core.postgres.session import query
from core.revisions import rendering
from core.revisions.manifest import Revision
from core.revisions.runner import Revisions
from handlers.responses import render
from infra.invoke import Call, show_sql
from tests.equipment.histories import history_of
from tests.equipment.single import programs  # noqa: F401
from tests.equipment.site import Site, make_empty
from tests.integration.test_command_line import alembic, url_of

# Every kind of value that PostgreSQL and SQLAlchemy share, each awkward in its own way.
VALUES = """
    import datetime, decimal, uuid
    import sqlalchemy as sa
    from sqlalchemy.dialects import postgresql as pg
    utc = datetime.timezone.utc
    op.execute("CREATE TYPE mood AS ENUM ('it''s', 'b')")
    t = op.create_table(
        "t",
        sa.Column("i", sa.BigInteger), sa.Column("n", sa.Numeric), sa.Column("f", sa.Float),
        sa.Column("b", sa.Boolean), sa.Column("s", sa.Text, server_default="100%: it's"),
        sa.Column("y", sa.LargeBinary), sa.Column("j", sa.JSON), sa.Column("jb", pg.JSONB),
        sa.Column("d", sa.Date), sa.Column("ts", sa.DateTime(timezone=True)),
        sa.Column("tn", sa.DateTime), sa.Column("h", sa.Time), sa.Column("iv", sa.Interval),
        sa.Column("u", sa.Uuid), sa.Column("a", pg.ARRAY(sa.Text)),
        sa.Column("e", pg.ENUM("it's", "b", name="mood", create_type=False)),
        sa.Column("r", pg.INT8RANGE), sa.Column("dr", pg.DATERANGE), sa.Column("ip", pg.INET),
    )
    op.bulk_insert(t, [
        dict(
            i=-5, n=decimal.Decimal("-1.50"), f=float("nan"), b=True,
            s="a:b %s 100% \\\\\\\\ ' \\\\n",
            y=b"\\\\0\\\\xff'", j={"k": "it's :x \\\\\\\\ %"}, jb=[1, None, {"a": {}}],
            d=datetime.date(2024, 2, 29), ts=datetime.datetime(2024, 1, 2, 3, 4, 5, 6, utc),
            tn=datetime.datetime(1, 1, 1), h=datetime.time(23, 59, 59, 999999),
            iv=datetime.timedelta(days=-2, seconds=5, microseconds=7), u=uuid.UUID(int=7),
            a=["it's", "c\\\\\\\\d", None, '"', "{}"], e="it's", r=pg.Range(1, 5), ip="10.0.0.1/8",
            dr=pg.Range(datetime.date(2024, 1, 1), None),
        ),
        dict.fromkeys(t.c.keys()),
    ])
    op.get_bind().execute(
        sa.text("INSERT INTO t (i, s, ts, y, a) VALUES (:i, :s, :ts, :y, :a)"),
        [{"i": 2**40, "s": "x\\\\\\\\'y", "ts": datetime.datetime(2024, 1, 1), "y": b"", "a": []}],
    )
    op.execute(t.update().where(t.c.i.in_([2**40])).values(j=None, n=1))
"""


def script_of(folder: Path) -> str:
    """Return what ``alembic upgrade head --sql`` writes for the history in *folder*."""
    made = alembic("upgrade", "head", "--sql", folder=folder)
    assert made.returncode == 0, made.stderr
    return made.stdout


def run_script(site: Site, text: str) -> None:
    """Run the script *text* as one would with psql."""
    with closing(site.login(site.master)) as session:
        query(session, text)


def test_a_script_writes_the_values_that_a_run_sends(site: Site, tmp_path: Path) -> None:
    """Whatever the type of a value, the row is the same."""
    revisions = history_of(tmp_path, {"a1": VALUES.strip()})
    site.run(revisions=revisions)
    rows = "SELECT t::text, s, y::text, a::text FROM t"
    sent = site.query(rows)
    make_empty(site.server)

    run_script(site, script_of(tmp_path))

    assert len(sent) == 3
    assert site.query(rows) == sent


def test_a_plan_is_a_script_too(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From an empty database, and from where it then is: what ``make plan`` prints is whole."""
    steps = {"a1": "op.execute('CREATE TABLE t (i int)')"}
    for tables in (["t"], ["t", "u"]):
        revisions = history_of(tmp_path / tables[-1], steps)
        planned = render(site.run(Action.PLAN, revisions=revisions), duration_ms=1, request_id="r")
        assert show_sql(Call(planned, None, "request-1", "")) == 0

        run_script(site, capsys.readouterr().out)

        assert site.run(revisions=revisions).outcome is Outcome.UP_TO_DATE
        found = "SELECT relname::text FROM pg_class WHERE relname IN ('t', 'u') ORDER BY 1"
        assert [name for (name,) in site.query(found)] == tables
        steps["b2"] = "op.execute('CREATE TABLE u (i int)')"


# Texts that each layer on the way to the server may take for something of its own: what is run on
# a table t of its own, whose one row is compared.
TEXTS = [
    """op.get_bind().exec_driver_sql("INSERT INTO t VALUES ('5%%')")""",
    """op.get_bind().exec_driver_sql(
        "INSERT INTO t VALUES ('5%%')", execution_options={"no_parameters": True})""",
    """op.execute("INSERT INTO t VALUES ('5%%')", execution_options={"no_parameters": True})""",
    """op.execute("INSERT INTO t VALUES ('5%%6% %(x)s')")""",
    """op.execute("INSERT INTO t VALUES ('a\\tb')")""",
    """op.alter_column("t", "s", server_default="5%% %(x)s\\tz"); op.execute(DEFAULT)""",
    """op.alter_column("t", "s", server_default=sa.text("'5%% %(x)s'")); op.execute(DEFAULT)""",
    """op.execute(sa.DDL("ALTER TABLE t ALTER s SET DEFAULT '5%%'")); op.execute(DEFAULT)""",
    """op.alter_column("t", "s", comment="5%% %(x)s\\tz")
    op.execute("INSERT INTO t VALUES (col_description('t'::regclass, 1))")""",
    """op.create_index("i", "t", ["s"], postgresql_where=sa.text("s LIKE '5%'"))
    op.execute("INSERT INTO t VALUES (pg_get_indexdef('i'::regclass))")""",
    """op.execute("CREATE SEQUENCE q"); op.execute(sa.func.nextval("q"))
    op.execute("INSERT INTO t SELECT is_called FROM q")""",
]


def test_a_script_writes_the_texts_that_a_run_sends(site: Site, tmp_path: Path) -> None:
    """Percent signs and tabs stay what they are, however many layers they pass."""
    make = (
        "import sqlalchemy as sa; DEFAULT = 'INSERT INTO t DEFAULT VALUES'\n"
        "    op.execute('DROP TABLE IF EXISTS t; CREATE TABLE t (s text)')"
    )
    keep = "op.execute('INSERT INTO kept SELECT {}, s FROM t')"
    steps = {"first": "op.execute('CREATE TABLE kept (number int, s text)')"}
    for number, text in enumerate(TEXTS):
        steps[f"text{number}"] = f"{make}\n    {text}\n    {keep.format(number)}"
    site.run(revisions=history_of(tmp_path, steps))
    kept = "SELECT number, s FROM kept ORDER BY number"
    sent = site.query(kept)
    make_empty(site.server)

    run_script(site, script_of(tmp_path))

    assert [number for number, _ in sent] == list(range(len(TEXTS)))
    assert site.query(kept) == sent


def test_a_script_that_is_not_whole_stops_and_records_nothing(site: Site, tmp_path: Path) -> None:
    """A database never says that it has what a script left out; what came before stays."""
    history_of(
        tmp_path,
        {
            "a1": 'op.execute("CREATE TABLE public.one ()")',
            "a2": 'op.execute("CREATE TABLE public.two ()"); op.get_bind().engine.url.database',
            "a3": 'op.execute("CREATE TABLE public.three ()")',
        },
    )
    made = alembic("upgrade", "head", "--sql", folder=tmp_path)

    with pytest.raises(psycopg2.errors.RaiseException) as stopped:
        run_script(site, made.stdout)
    after_a1 = made.stdout.index("-- Running upgrade a2 -> a3")
    with pytest.raises(psycopg2.errors.RaiseException) as stopped_behind:
        run_script(site, made.stdout[after_a1:])

    assert (made.returncode, made.stderr.splitlines()[-1]) == (
        0,
        (
            "WARNING revision a2 is not whole in this script: a2.py:14 looks at the database:"
            " what follows depends on it, and is not shown"
        ),
    )
    assert "revision a2 is not whole in this script" in str(stopped.value)
    assert "revision a2 before it is not whole" in str(stopped_behind.value)
    assert site.query("SELECT version_num FROM day2.alembic_version") == [("a1",)]
    assert site.query("SELECT to_regclass('two')::text, to_regclass('three')::text") == [
        (None, None)
    ]


def test_a_session_of_the_orm_is_shown_up_to_there(tmp_path: Path) -> None:
    """It begins a transaction of its own; the script has its BEGIN and COMMIT already."""
    script = tmp_path / "a1.py"
    script.write_text("""
from alembic import op
from sqlalchemy import orm, text
def upgrade():
    op.execute("SELECT 1")
    orm.Session(bind=op.get_bind()).execute(text("SELECT 2"))
""")

    written, _ = rendering.statements(Revision("a1", "Of the ORM", script, ""), "upgrade")

    assert "SELECT 1;" in written
    assert "note: a1.py:6 ends or begins a transaction itself: what follows" in "".join(written)
    assert "SELECT 2" not in "".join(written)


COLONS = {
    """op.execute('''INSERT INTO t VALUES ('{"days":28}')''')""": "28",
    "op.get_bind().exec_driver_sql('SELECT 1'); op.get_bind().scalar(text('SELECT :a'))": "a",
    """op.execute(select(text("':b'")))""": "b",
    """op.add_column('t', Column('c', Text, server_default=text("'{\\"a\\":1}'")))""": "1",
}


@pytest.mark.parametrize(("body", "name"), COLONS.items())
def test_a_colon_that_nobody_meant_is_refused_everywhere(
    site: Site, tmp_path: Path, body: str, name: str
) -> None:
    """A run, a plan, the command and its script all say the same, and nothing is changed."""
    revisions = history_of(
        tmp_path,
        {
            "a1": 'op.execute("CREATE TABLE public.t (v json)")',
            "a2": f"from sqlalchemy import Column, Text, select, text; {body}",
        },
    )
    sentence = f"a2.py:14: :{name} is a parameter without a value: write \\:{name}"

    with pytest.raises(RunFailed) as planned:
        site.run(Action.PLAN, revisions=revisions)
    with pytest.raises(RevisionFailed) as run:
        site.run(revisions=revisions)
    script = alembic("upgrade", "head", "--sql", folder=tmp_path)
    command = alembic("-x", f"url={url_of(site)}", "upgrade", "head", folder=tmp_path)

    assert f"revision a2: {sentence}" in str(planned.value)
    assert "revision a2 failed" in str(run.value)
    for refused in (str(run.value), script.stderr, command.stderr):
        assert sentence in refused
    assert script.returncode != 0
    assert command.returncode != 0
    assert site.query("SELECT version_num FROM day2.alembic_version") == [("a1",)]
    assert site.query("SELECT count(*) FROM t") == [(0,)]


DUMP = """
\\restrict Zy3kP0aQwErTyUiOp
SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);
CREATE SCHEMA legacy;
CREATE TABLE legacy.quota (share text DEFAULT '100%'::text, opens time DEFAULT '08:30:00');
INSERT INTO legacy.quota VALUES ('{"days":28}', DEFAULT);
\\unrestrict Zy3kP0aQwErTyUiOp
-- the end"""


def test_a_file_of_sql_belongs_to_its_revision(site: Site, tmp_path: Path) -> None:
    """A run and a script do the same with it, and a change of it is noticed afterwards."""
    revisions = history_of(tmp_path, {"a1": "operations.sql_file('dump.sql')", "a2": "pass"})
    dump = tmp_path / "alembic" / "versions" / "dump.sql"
    dump.write_text(DUMP)
    kept = (
        "SELECT share, opens::text, (SELECT checksum FROM day2.history LIMIT 1) FROM legacy.quota"
    )

    result = site.run(revisions=revisions)
    by_run = site.query(kept)
    dump.write_text(DUMP + " of it")
    status = site.run(Action.STATUS, revisions=Revisions(tmp_path / "alembic.ini"))
    with pytest.raises(RunFailed) as strict:
        site.run(
            revisions=Revisions(tmp_path / "alembic.ini"),
            settings=site.settings._replace(strict_checksums=True),
        )
    dump.write_text(DUMP)
    make_empty(site.server)
    run_script(site, script_of(tmp_path))

    assert result.report.applied == ["a1", "a2"]
    assert by_run[0][:2] == ('{"days":28}', "08:30:00")
    assert site.query(kept) == by_run
    assert status.report.changed_files == ["a1"]
    assert "the file of a1 changed after it was applied" in str(strict.value)
