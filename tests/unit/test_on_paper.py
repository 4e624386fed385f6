"""SQL on paper: what a revision would run, as far as that is known without a database."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import pytest

from core.errors import RunFailed
from core.revisions import rendering
from core.revisions.manifest import Revision
from core.revisions.runner import Revisions
from tests.equipment.histories import copy_of_ours

Write = Callable[[str], list[str]]

HEAD = '''"""A revision"""
import datetime, decimal, uuid
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg
from core import operations
revision = "{revision}"
down_revision = {down!r}
t = sa.table("t", sa.column("i", sa.Integer), sa.column("d", sa.Date), sa.column("j", pg.JSONB))
def downgrade():
    pass
def upgrade():
'''
FIRST_LINE = HEAD.count("\n") + 1
STOP = (
    "DO $day2$ BEGIN RAISE EXCEPTION"
    " 'revision 001 is not whole in this script: apply it by a run'; END $day2$;"
)
LOOKS = "-- note: 001.py:{} looks at the database: what follows depends on it, and is not shown"
COLON = (
    "001.py:{0}: :{1} is a parameter without a value:"
    " write \\:{1} for a plain colon, or bind a value"
)


def apart(folder: Path) -> Path:
    """Make a folder in *folder*: byte code of one script would be taken for that of the next."""
    return Path(mkdtemp(dir=folder))


def write_script(folder: Path, body: str, revision: str = "001", down: str | None = None) -> Path:
    """Write a revision whose upgrade is *body*."""
    file = folder / f"{revision}.py"
    upgrade = textwrap.indent(body or "pass", "    ")
    file.write_text(HEAD.format(revision=revision, down=down) + upgrade + "\n")
    return file


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the SQL of an upgrade, and return its lines."""

    def made(body: str) -> list[str]:
        file = write_script(apart(tmp_path), body)
        written, _ = rendering.statements(Revision("001", "A revision", file, ""), "upgrade")
        return [line.strip() for one in written for line in one.splitlines() if line.strip()]

    return made


LOOKING = [
    "sa.inspect(op.get_bind())",
    "sa.inspect(op.get_bind().engine).get_table_names()",
    "op.get_bind().engine.url.database",
    "op.get_bind().connection.cursor()",
    "op.get_bind().dialect.has_table(op.get_bind(), 't')",
    "sa.Table('t', sa.MetaData(), autoload_with=op.get_bind())",
]


@pytest.mark.parametrize("looking", LOOKING)
def test_a_revision_that_looks_is_shown_up_to_there(write: Write, looking: str) -> None:
    """What comes before is written, the rest is a sentence, and the script stops there."""
    lines = write(f"op.execute('SELECT 1')\n{looking}\nop.execute('SELECT 2')")

    assert lines == ["SELECT 1;", LOOKS.format(FIRST_LINE + 1), STOP]


@pytest.mark.parametrize(
    "ending",
    [
        "op.get_bind().commit()",
        "op.get_bind().rollback()",
        "op.get_bind().close()",
        "op.get_bind().engine.begin()",
    ],
)
def test_a_revision_that_ends_its_transaction_is_shown_up_to_there(
    write: Write, ending: str
) -> None:
    """The script has its own BEGIN and COMMIT around each revision."""
    assert write(f"op.execute('SELECT 1')\n{ending}") == [
        "SELECT 1;",
        (
            f"-- note: 001.py:{FIRST_LINE + 1} ends or begins a transaction itself:"
            " what follows is not shown"
        ),
        STOP,
    ]


@pytest.mark.parametrize(
    "body",
    [
        "from alembic import context\nif context.is_offline_mode(): op.execute('SELECT 1')",
        "from alembic import context\nif not context.get_x_argument(): op.execute('SELECT 1')",
        "if op.get_context().as_sql: op.execute('SELECT 1')",
    ],
)
def test_a_revision_may_ask_whether_it_is_on_paper(write: Write, body: str) -> None:
    """In each of Alembic's ways."""
    assert write(body) == ["SELECT 1;"]


ASKING = [
    "op.get_bind().execute(sa.text('SELECT 1')).scalar()",
    "op.get_bind().scalar(sa.text('SELECT 1'))",
    "op.get_bind().scalars(sa.text('SELECT 1'))",
    "op.get_bind().execute(sa.text('SELECT 1')).rowcount",
    "list(op.get_bind().execute(sa.text('SELECT 1')))",
    "op.get_bind().execute(sa.text('SELECT 1'))[0]",
    "op.get_bind().exec_driver_sql('SELECT 1').first()",
]


@pytest.mark.parametrize("asking", ASKING)
def test_a_statement_whose_answer_is_used_is_written(write: Write, asking: str) -> None:
    """The question is in the script; what hangs on its answer is not."""
    assert write(asking) == ["SELECT 1;", LOOKS.format(FIRST_LINE), STOP]


# What a revision may do to a connection, and what of it is written.
WRITTEN = {
    "op.get_bind().execute(sa.text('UPDATE t SET i = :i'), {'i': 1})": "UPDATE t SET i = 1;",
    "op.get_bind().execute(t.insert(), {'i': 1})": "INSERT INTO t (i) VALUES (1);",
    "op.get_bind().execute(t.update().where(t.c.i == sa.bindparam('z')), {'z': 1, 'd': None})": (
        "UPDATE t SET d=NULL WHERE t.i = 1;"
    ),
    "op.get_bind().exec_driver_sql(\"SELECT '100%%'\")": "SELECT '100%';",
    "op.get_bind().exec_driver_sql(\"SELECT '1%%', %(i)s\", {'i': 1})": "SELECT '1%', 1;",
    'op.get_bind().exec_driver_sql("SELECT %s", (1,))': "SELECT 1;",
    "op.execute(t.delete().where(t.c.i.in_([1, 2])))": "DELETE FROM t WHERE t.i IN (1, 2);",
    "op.execute(sa.text('SELECT :i').bindparams(i=1))": "SELECT 1;",
    "op.execute(sa.text('SELECT :i').params(i=1))": "SELECT 1;",
    r"""op.execute(r'''SELECT '{"a"\:1}', '10:30', x::text, '100%', E'\\n' ''')""": (
        r"""SELECT '{"a":1}', '10:30', x::text, '100%', E'\\n';"""
    ),
    "op.execute('SELECT 1', execution_options={'no_parameters': True})": "SELECT 1;",
    "op.execute(f'SELECT {op.get_bind().dialect.name!r}')": "SELECT 'postgresql';",
    "op.alter_column('t', 'x', comment='100%: :no')": "COMMENT ON COLUMN t.x IS '100%: :no';",
}


def test_a_statement_is_written_with_its_values(write: Write, subtests: pytest.Subtests) -> None:
    """By text, by expression or by the driver, in Alembic's way or on its connection."""
    for body, line in WRITTEN.items():
        with subtests.test(body):
            assert write(body) == [line]


def test_many_rows_are_many_statements(write: Write) -> None:
    """A list of parameters is sent row by row."""
    body = "op.get_bind().execute(sa.text('SELECT :i'), [{'i': 1}, {'i': None}])"

    assert write(body) == ["SELECT 1;", "SELECT NULL;"]


def test_what_a_run_makes_only_where_it_is_missing_says_so(write: Write) -> None:
    """``checkfirst`` looks at the database, and its statement is known all the same."""
    assert write("sa.Enum('a', name='e').create(op.get_bind(), checkfirst=True)") == [
        "-- note: a run does what follows only where it is needed",
        "CREATE TYPE e AS ENUM ('a');",
    ]


def test_a_savepoint_is_written(write: Write) -> None:
    """A nested transaction is one in the script, too."""
    body = "with op.get_bind().begin_nested():\n    op.execute('SELECT 1')"

    assert write(body) == [
        "-- note: where a run goes back to a savepoint, this script fails",
        "SAVEPOINT revision;",
        "SELECT 1;",
        "RELEASE SAVEPOINT revision;",
    ]


def test_a_value_without_a_literal_is_told_and_the_rest_is_shown(write: Write) -> None:
    """The statement stands in a comment, and the script stops where it should have run."""
    lines = write("op.execute(sa.text('SELECT :a').bindparams(a={'k': 1}))\nop.execute('SELECT 2')")

    assert lines == [
        (
            f"-- note: 001.py:{FIRST_LINE}: the next statement cannot be shown whole"
            " (SQL has no literal for a value of type dict)"
        ),
        "-- SELECT %(a)s",
        STOP,
        "SELECT 2;",
        STOP,
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("op.get_bind().exec_driver_sql('SELECT 1 %')", "ValueError: incomplete format"),
        ("raise ValueError('one\\ntwo')", "ValueError: one"),
        (
            "operations.index('i', on='parcels', columns='depot')",
            "ValueError: on='parcels': name the table with its schema, such as on='app.orders'",
        ),
        (
            "operations.index('i', on='a.b.c', columns='depot')",
            "ValueError: on='a.b.c': name the table with its schema, such as on='app.orders'",
        ),
    ],
)
def test_an_error_of_a_revision_is_a_sentence(write: Write, body: str, reason: str) -> None:
    """Whatever comes out of a revision, the script is written and says where it ends."""
    rest = f"-- note: 001.py:{FIRST_LINE}: what follows cannot be shown ({reason})"

    assert write(body) == [rest, STOP]


COLONS = {
    """op.execute('''INSERT INTO t VALUES ('{"days":28, "hot":true}')''')""": "28",
    """op.execute(sa.text("SELECT '{1:two}'::jsonb, :what"))""": "what",
    "op.get_bind().execute(sa.text('SELECT :a'), {'b': 1})": "a",
    "op.get_bind().scalar(sa.text('SELECT :a'))": "a",
    """op.add_column('t', sa.Column('j', sa.Text, server_default=sa.text("'{\\"a\\":1}'")))""": "1",
    """op.create_table('n', sa.Column('j', sa.Text), sa.CheckConstraint("j <> ':no'"))""": "no",
    """op.create_index('i', 't', [sa.text("(j = ':no')")])""": "no",
    "op.execute(t.delete().where(t.c.i == sa.bindparam('i')))": "i",
    """op.execute(t.update().where(sa.text("j <> ':what'")).values(i=1))""": "what",
    """op.execute(sa.select(sa.text("':what'")))""": "what",
}


def test_a_colon_that_nobody_meant_is_refused(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """It is a parameter to Alembic: no script may have NULL in its place, and no run either."""
    for body, name in COLONS.items():
        with subtests.test(body):
            file = write_script(apart(tmp_path), body)
            sentence = COLON.format(FIRST_LINE, name)

            written, paper = rendering.statements(
                Revision("001", "A revision", file, ""), "upgrade"
            )

            assert written == [f"-- note: {sentence}", STOP]
            with pytest.raises(RunFailed) as caught:
                paper.refuse()
            assert str(caught.value) == f"revision 001: {sentence}; nothing was touched"


def build_of(tmp_path: Path, *bodies: str) -> Revisions:
    """Make a build of one revision for each of *bodies*."""
    ini = copy_of_ours(tmp_path)
    versions = tmp_path / "alembic" / "versions"
    down = None
    for number, body in enumerate(bodies, start=1):
        write_script(versions, body, f"{number:03}", down)
        down = f"{number:03}"
    return Revisions(ini)


def test_one_revision_that_cannot_be_shown_hides_no_other(tmp_path: Path) -> None:
    """Each is rendered by itself; a script of all stops at the first that is not whole."""
    build = build_of(
        tmp_path,
        "op.execute('SELECT 1')",
        "sa.inspect(op.get_bind())",
        "pass\nop.get_bind().engine.url.database if False else None\nop.execute('SELECT 3')",
    )
    second = build.history[1].file
    second.write_text(second.read_text() + "\nop.get_bind().engine.url.database\n")

    shown = build.sql(("001", "002", "003"), None)

    assert "SELECT 1;" in shown["001"]
    assert "not whole" not in shown["001"]
    assert f"-- note: 002.py:{FIRST_LINE + 2} looks at the database" in shown["002"]
    assert "revision 002 before it is not whole in this script" in shown["003"]
    assert "SELECT 3;" in shown["003"]


def test_a_plan_refuses_what_a_run_refuses(tmp_path: Path) -> None:
    """All that is wrong is told at once, each with its revision and line."""
    build = build_of(tmp_path, "op.execute('SELECT :a')", "pass", "op.execute('SELECT :b')")

    with pytest.raises(RunFailed) as caught:
        build.sql(("001", "002", "003"), None)

    assert f"revision 001: 001.py:{FIRST_LINE}: :a is a parameter" in str(caught.value)
    assert f"revision 003: 003.py:{FIRST_LINE}: :b is a parameter" in str(caught.value)
