"""``make lint-migrations``: each rule fires, stays quiet for the better way, and can be allowed."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from core.postgres.acting import as_role
from core.revisions.folder import Folder
from infra import migrations
from infra.lint.__main__ import main
from infra.lint.revisions import lint
from infra.lint.rules import RULES

Lint = Callable[..., list[tuple[str, str]]]

NOTE = "Going back leaves it as it was."
MAKE = "CREATE TABLE app.new (id int);"

# A rule, and statements that break it.
BREAKING = [
    ("unqualified-name", "CREATE TABLE new (id int)"),
    ("unqualified-name", "CREATE VIEW app.shown AS SELECT id FROM orders"),
    ("unqualified-name", "UPDATE orders SET id = 1"),
    ("unqualified-name", "GRANT SELECT ON orders TO reporting"),
    (
        "unqualified-name",
        f"{MAKE} WITH few AS (SELECT id FROM app.x) UPDATE app.new SET id = 1 FROM few, orders",
    ),
    ("unqualified-name", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    ("unqualified-name", "CREATE TYPE colour AS ENUM ('red')"),
    ("unqualified-name", "CREATE DOMAIN short AS text"),
    ("unqualified-name", "DO $$ BEGIN INSERT INTO orders VALUES (1); END $$"),
    ("literal-password", "CREATE ROLE reporting LOGIN PASSWORD 'guess me'"),
    ("literal-password", "ALTER ROLE reporting PASSWORD 'SCRAM-SHA-256$4096:c2FsdA==$a:b'"),
    ("literal-password", "CREATE USER MAPPING FOR app SERVER far OPTIONS (password 'guess me')"),
    (
        "literal-password",
        "CREATE SUBSCRIPTION s CONNECTION 'host=far password=guess' PUBLICATION p",
    ),
    ("literal-password", "DO $$ BEGIN CREATE ROLE r PASSWORD 'guess me'; END $$"),
    ("grant-to-public", "GRANT SELECT ON app.orders TO PUBLIC"),
    ("grant-to-public", "GRANT USAGE ON SCHEMA app TO reporting, public"),
    (
        "grant-to-public",
        "ALTER DEFAULT PRIVILEGES FOR ROLE app_role GRANT SELECT ON TABLES TO PUBLIC",
    ),
    ("grant-to-public", "DO $$ BEGIN EXECUTE 'GRANT ALL ON app.orders TO PUBLIC'; END $$"),
    (
        "grant-to-public",
        (
            "DO $$ BEGIN IF true THEN EXECUTE format('GRANT ALL ON %I.%I TO PUBLIC', 'app', 'x');"
            " END IF; END $$"
        ),
    ),
    ("rds-iam-to-master", "GRANT rds_iam TO CURRENT_USER"),
    ("rds-iam-to-master", "GRANT rds_password, rds_iam TO postgres"),
    ("rds-iam-to-master", "GRANT rds_iam TO reporting; GRANT reporting TO CURRENT_USER"),
    ("rds-iam-to-master", "GRANT ops TO postgres; GRANT rds_iam TO reporting, ops"),
    ("rds-iam-to-master", "CREATE ROLE reporting IN ROLE rds_iam ROLE CURRENT_USER"),
    ("rds-iam-to-master", "CREATE ROLE a IN ROLE rds_iam; GRANT a TO b; GRANT b TO SESSION_USER"),
    (
        "security-definer",
        "CREATE FUNCTION app.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    ),
    ("security-definer", "ALTER FUNCTION app.f() SECURITY DEFINER"),
    ("others-code", "UPDATE app.orders SET total = 1"),
    ("others-code", "INSERT INTO app.orders VALUES (1)"),
    ("others-code", "WITH gone AS (DELETE FROM app.orders RETURNING *) SELECT * FROM gone"),
    ("others-code", "MERGE INTO app.x USING app.y ON x.id = y.id WHEN MATCHED THEN DELETE"),
    ("others-code", "SET LOCAL ROLE app; UPDATE app.orders SET total = 1"),
    ("others-code", f"SET ROLE app; {MAKE} RESET ROLE; DELETE FROM app.new"),
    ("others-code", f"{MAKE} ALTER TABLE app.new OWNER TO app; DELETE FROM app.new"),
    ("others-code", "DO $$ BEGIN DELETE FROM app.orders; END $$"),
    ("master-itself", "ALTER ROLE CURRENT_USER NOLOGIN"),
    ("master-itself", "ALTER ROLE postgres VALID UNTIL '2030-01-01'"),
    ("master-itself", "REASSIGN OWNED BY CURRENT_USER TO app"),
    ("default-privileges", "ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO r"),
    ("blocking-index", "CREATE INDEX ON app.orders (customer)"),
    ("blocking-index", "CREATE UNIQUE INDEX orders_number ON app.orders (number)"),
    ("blocking-index", f"{MAKE} CREATE INDEX ON other.new (id)"),
    ("blocking-index", "REINDEX TABLE app.orders"),
    ("blocking-index", "DROP INDEX app.orders_customer"),
    ("long-lock", "ALTER TABLE app.orders ALTER COLUMN id TYPE bigint"),
    ("long-lock", "ALTER TABLE app.orders ALTER COLUMN id SET NOT NULL"),
    ("long-lock", "ALTER TABLE app.orders ADD COLUMN code uuid DEFAULT gen_random_uuid()"),
    ("long-lock", "ALTER TABLE app.orders ADD COLUMN number bigserial"),
    ("long-lock", "ALTER TABLE app.orders ADD COLUMN n int GENERATED ALWAYS AS IDENTITY"),
    ("long-lock", "ALTER TABLE app.orders ADD CONSTRAINT positive CHECK (total > 0)"),
    ("long-lock", "ALTER TABLE app.orders ADD FOREIGN KEY (customer) REFERENCES app.customers"),
    ("long-lock", "ALTER TABLE app.orders ADD UNIQUE (number)"),
    ("long-lock", "ALTER TABLE app.orders SET UNLOGGED"),
    ("long-lock", "VACUUM FULL app.orders"),
    ("long-lock", "CLUSTER app.orders USING orders_customer"),
    ("long-lock", "REFRESH MATERIALIZED VIEW app.totals"),
    ("unreadable", "DO $$ DECLARE s text; BEGIN s := 'DROP'; EXECUTE s; END $$"),
]

# The better way of each.
BETTER = [
    "CREATE ROLE reporting NOLOGIN",
    "ALTER ROLE reporting PASSWORD NULL",
    "CREATE SUBSCRIPTION s CONNECTION 'host=far passfile=/p' PUBLICATION p",
    "GRANT SELECT ON app.orders TO reporting",
    "REVOKE ALL ON SCHEMA app FROM PUBLIC",
    "GRANT rds_iam TO reporting",
    "REVOKE rds_iam FROM CURRENT_USER",
    "GRANT rds_iam TO reporting; REVOKE rds_iam FROM reporting; GRANT reporting TO CURRENT_USER",
    "GRANT a TO CURRENT_USER; REVOKE a FROM CURRENT_USER; GRANT rds_iam TO a",
    "GRANT rds_iam TO a; GRANT a TO CURRENT_USER WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
    f"{MAKE} WITH few AS (SELECT id FROM app.x AS y) UPDATE app.new SET id = few.id FROM few",
    f"{MAKE} ALTER TABLE app.new RENAME TO newer; DELETE FROM app.newer",
    f"{MAKE} ALTER TABLE app.new OWNER TO CURRENT_USER; DELETE FROM app.new",
    "ALTER ROLE CURRENT_USER SET statement_timeout = 0; ALTER ROLE app NOLOGIN",
    "REASSIGN OWNED BY reporting TO CURRENT_USER",
    "SELECT count(*) FROM pg_class JOIN pg_catalog.pg_namespace AS n ON n.oid = relnamespace",
    "CREATE TEMP TABLE work (id int); INSERT INTO work SELECT id FROM app.orders",
    "SET LOCAL search_path = app; CREATE TABLE new (id int)",
    "CREATE SCHEMA extra CREATE TABLE new (id int)",
    "DO $$ DECLARE one text; BEGIN SELECT name INTO one FROM app.orders; END $$",
    "SELECT * FROM generate_series(1, 3) AS numbers (id)",
    "GRANT a TO CURRENT_USER; DROP ROLE a; CREATE ROLE a IN ROLE rds_iam",
    (
        "CREATE FUNCTION app.f() RETURNS int LANGUAGE sql SECURITY DEFINER"
        " SET search_path = pg_catalog, pg_temp AS 'SELECT 1'"
    ),
    "CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER FUNCTION app.f() SECURITY INVOKER",
    "ALTER DEFAULT PRIVILEGES FOR ROLE app_role IN SCHEMA app GRANT SELECT ON TABLES TO r",
    "CREATE INDEX CONCURRENTLY ON app.orders (customer)",
    f"{MAKE} CREATE INDEX ON app.new (id); ALTER TABLE app.new ALTER COLUMN id TYPE bigint",
    "REINDEX (CONCURRENTLY) TABLE app.orders",
    "DROP INDEX CONCURRENTLY app.orders_customer",
    "ALTER TABLE app.orders ADD COLUMN note text DEFAULT 'none'",
    "ALTER TABLE app.orders ADD COLUMN since timestamptz NOT NULL DEFAULT now()",
    "ALTER TABLE app.orders ADD CONSTRAINT positive CHECK (total > 0) NOT VALID",
    "ALTER TABLE app.orders VALIDATE CONSTRAINT positive",
    "ALTER TABLE app.orders ADD CONSTRAINT number UNIQUE USING INDEX orders_number",
    "VACUUM app.orders",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY app.totals",
    "DO $$ BEGIN EXECUTE format('GRANT SELECT ON %s TO r', 'app.orders'::regclass); END $$",
]

DROPPING = [
    "DROP TABLE app.orders",
    "DROP SCHEMA app CASCADE",
    "DROP ROLE reporting",
    "DROP OWNED BY reporting",
    "TRUNCATE app.orders",
    "ALTER TABLE app.orders DROP COLUMN total",
    "DO $$ BEGIN DROP TABLE app.orders; END $$",
]


@pytest.fixture
def lint_revision(tmp_path: Path) -> Lint:
    """Lint a history of one revision, and return direction and rule of what is found."""

    def write(
        upgrade: str, downgrade: str = "SELECT 1", *, note: str = NOTE, comment: str = ""
    ) -> list[tuple[str, str]]:
        (tmp_path / "alembic" / "versions").mkdir(parents=True)
        (tmp_path / "alembic" / "versions" / "001_x.py").write_text(
            f'"""\nA revision\n\n{note}\n"""\nfrom alembic import op\n'
            "revision = '001'\ndown_revision = None\n"
            f"def upgrade():\n    {comment}\n    op.execute({upgrade!r})\n"
            f"def downgrade():\n    op.execute({downgrade!r})\n"
        )
        (tmp_path / "alembic" / "promises.toml").touch()
        return [(one.direction, one.rule) for one in lint(Folder(tmp_path / "alembic"))]

    return write


@pytest.mark.parametrize(("rule", "statement"), BREAKING)
def test_each_rule_fires(lint_revision: Lint, rule: str, statement: str) -> None:
    """What is dangerous is found by its own rule and by no other."""
    assert lint_revision(statement) == [("upgrade", rule)]


@pytest.mark.parametrize("statement", BETTER)
def test_the_better_way_is_quiet(lint_revision: Lint, statement: str) -> None:
    """Nothing is said of what is done as it should be."""
    assert lint_revision(statement) == []


@pytest.mark.parametrize("statement", DROPPING)
def test_a_drop_needs_a_note(lint_revision: Lint, statement: str) -> None:
    """What is dropped is dropped by somebody who has said what going back means."""
    assert lint_revision(statement, note="Nothing.") == [("upgrade", "drop-without-note")]


def test_one_note_is_asked_for_once_and_not_for_what_a_helper_gives_back(
    lint_revision: Lint, tmp_path: Path
) -> None:
    """``operations.role`` drops on the way up what had kept its things."""
    helpers = "from core import operations\n    operations.{}('r1')\n    op"
    lint_revision("SELECT 1", note="Nothing.")
    file = tmp_path / "alembic" / "versions" / "001_x.py"
    up, down = file.read_text().split("def downgrade")
    up = up.replace("    op", f"    {helpers.format('role')}", 1)
    down = down.replace("    op", f"    {helpers.format('drop_role')}", 1)
    file.write_text(f"{up}def downgrade{down}")

    (only,) = lint(Folder(tmp_path / "alembic"))

    assert (only.direction, only.rule) == ("downgrade", "drop-without-note")


@pytest.mark.parametrize("statement", DROPPING)
def test_a_drop_with_a_note_is_quiet(lint_revision: Lint, statement: str) -> None:
    """A docstring that says what going back means is enough."""
    assert lint_revision(statement) == []


@pytest.mark.parametrize(("rule", "statement"), [BREAKING[0], *BREAKING[3:5], *BREAKING[-4:]])
def test_what_runs_as_another_role_is_read_too(
    lint_revision: Lint, rule: str, statement: str
) -> None:
    """A statement inside operations.as_role is as dangerous as outside, and no more."""
    assert lint_revision(as_role(statement, '"app"'), note="Nothing.") == [("upgrade", rule)]


def test_as_role_itself_is_quiet(lint_revision: Lint) -> None:
    """What it makes to run a statement is its own business."""
    assert lint_revision(as_role("UPDATE app.orders SET n = 1", '"app"'), note="Nothing.") == []


def test_downgrades_are_read_too(lint_revision: Lint) -> None:
    """Going back is done on a live database, too."""
    assert lint_revision("SELECT 1", "GRANT ALL ON SCHEMA app TO PUBLIC") == [
        ("downgrade", "grant-to-public")
    ]


def test_a_comment_with_a_reason_allows(lint_revision: Lint) -> None:
    """What is meant stays quiet, in the function that says so."""
    allowed = lint_revision(
        "GRANT SELECT ON app.days TO PUBLIC",
        "GRANT SELECT ON app.days TO PUBLIC",
        comment="# lint: allow grant-to-public: every role may see the calendar",
    )

    assert allowed == [("downgrade", "grant-to-public")]


@pytest.mark.parametrize(
    "comment",
    [
        "# lint: allow grant-to-public",
        "# lint: allow grant-to-public:",
        "x = '# lint: allow grant-to-public: in a text'",
    ],
)
def test_an_allowance_needs_its_reason(lint_revision: Lint, comment: str) -> None:
    """Without a reason, or outside a comment, it allows nothing."""
    found = lint_revision("GRANT SELECT ON app.days TO PUBLIC", comment=comment)

    assert found == [("upgrade", "grant-to-public")]


def test_an_allowance_of_nothing_is_found(lint_revision: Lint) -> None:
    """An allowance that outlives its statement would hide the next one."""
    found = lint_revision("SELECT 1", comment="# lint: allow long-lock: a small table")

    assert found == [("upgrade", "useless-allowance")]


def script(folder: Path, upgrade: str, *, downgrade: str = "pass", before: str = "") -> Folder:
    """Write a history of one revision, and return its folder."""
    versions = folder / "alembic" / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    (folder / "alembic" / "promises.toml").touch()
    (versions / "001_x.py").write_text(
        f'{before}"""A revision\n\n{NOTE}\n"""\nfrom alembic import op\nimport sqlalchemy as sa\n'
        "from core import operations\nrevision = '001'\ndown_revision = None\n"
        f"def upgrade():\n{textwrap.indent(upgrade, '    ')}\n"
        f"def downgrade():\n    {downgrade}\n"
    )
    return Folder(folder / "alembic")


DANGER = "op.execute('GRANT ALL ON app.orders TO PUBLIC')"
ROWTYPE = (
    "DO $$ DECLARE entry public.orders%ROWTYPE; BEGIN entry.id := 1;"
    " GRANT ALL ON public.orders TO PUBLIC; END $$"
)

# What cannot be read, and the line that says so.
UNREAD = {
    "sa.inspect(op.get_bind())": (
        "001_x.py:12 looks at the database: what follows depends on it, and is not shown"
    ),
    "op.execute(sa.text('SELECT :a').bindparams(a={}))": (
        "001_x.py:12: the next statement cannot be shown whole"
        " (SQL has no literal for a value of type dict)"
    ),
    "undefined": "001_x.py:12: what follows cannot be shown (NameError: name 'undefined'",
    "op.execute(r'\\restrict xyz')": "\\restrict (works in psql only: see operations.sql_file)",
    "op.execute('SELECT 1; CREATE OOPS x; SELECT 2')": (
        'CREATE OOPS x (syntax error at or near "OOPS")'
    ),
    """op.execute("CREATE ROLE r PASSWROD 'guess me'")""": (
        """CREATE ROLE r PASSWROD '…' (unrecognized role option "passwrod")"""
    ),
    "operations.index('i', on='parcels', columns='depot')": (
        "001_x.py:12: what follows cannot be shown (ValueError: on='parcels': name the table"
    ),
    "op.get_bind().exec_driver_sql('DO LANGUAGE plv8 $$ x() $$')": "DO x() (",
}


@pytest.mark.parametrize(("body", "line"), UNREAD.items())
def test_what_cannot_be_read_is_said_and_the_rest_is_read(
    tmp_path: Path, body: str, line: str
) -> None:
    """One line for it, and what is dangerous around it is found all the same."""
    found = lint(script(tmp_path, f"{DANGER}\n{body}"))

    assert [one.rule for one in found] == ["grant-to-public", "unreadable"]
    assert found[1].statement.startswith(line)
    assert "\n" not in found[1].statement


def test_a_block_that_the_parser_refuses_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """PostgreSQL knows the table whose row it is; the parser of the linter does not."""
    found = lint(script(tmp_path, f"op.execute({ROWTYPE!r})"))

    assert [one.rule for one in found] == ["grant-to-public", "unreadable"]


def test_what_could_not_be_read_can_be_allowed(tmp_path: Path) -> None:
    """Whoever read it says so in a comment."""
    comment = "# lint: allow unreadable: a row type, looked at by two"
    body = ROWTYPE.replace("GRANT ALL ON public.orders TO PUBLIC;", "")

    assert lint(script(tmp_path, f"{comment}\nop.execute({body!r})")) == []


def test_one_revision_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    """Each is read by itself."""
    made = script(tmp_path, "sa.inspect(op.get_bind())")
    first = tmp_path / "alembic" / "versions" / "001_x.py"
    first.with_name("002_y.py").write_text(
        first.read_text()
        .replace(
            "revision = '001'\ndown_revision = None", "revision = '002'\ndown_revision = '001'"
        )
        .replace("sa.inspect(op.get_bind())", DANGER)
    )

    assert [(one.revision, one.rule) for one in lint(made)] == [
        ("001", "unreadable"),
        ("002", "grant-to-public"),
    ]


def test_a_colon_that_nobody_meant_is_found_and_never_allowed(tmp_path: Path) -> None:
    """A run refuses it, whatever a comment says."""
    body = """# lint: allow colon: we mean it\nop.execute('''SELECT '{"days":28}' ''')"""

    (found,) = lint(script(tmp_path, body))

    assert found.rule == "colon"
    assert found.statement == (
        "revision 001: 001_x.py:12: :28 is a parameter without a value: "
        "write \\:28 for a plain colon, or bind a value"
    )


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    """An editor on Windows writes one, and Python takes no notice."""
    made = script(tmp_path, DANGER, before="\ufeff")

    assert [one.rule for one in lint(made)] == ["grant-to-public"]


def test_no_way_back_is_an_answer(tmp_path: Path) -> None:
    """A downgrade that refuses runs nothing."""
    made = script(tmp_path, "pass", downgrade="raise NotImplementedError('restore a backup')")

    assert lint(made) == []


@pytest.mark.parametrize("restricted", [True, False])
def test_a_dump_that_a_revision_runs_is_read(tmp_path: Path, *, restricted: bool) -> None:
    """With the lines of newer releases of pg_dump, and without."""
    made = script(tmp_path, "operations.sql_file('dump.sql')")
    marks = ("\\restrict x\n", "\\unrestrict x\n") if restricted else ("", "")
    (tmp_path / "alembic" / "versions" / "dump.sql").write_text(
        f"{marks[0]}SELECT set_config('search_path', '', false);\nCREATE TABLE app.new ();\n"
        f"GRANT ALL ON app.new TO PUBLIC;\n{marks[1]}"
    )

    assert [one.rule for one in lint(made)] == ["grant-to-public"]


@pytest.mark.parametrize(
    "reading",
    ["op.execute(Path(__file__).with_suffix('.sql').read_text())", "op.execute(open('x').read())"],
)
def test_a_file_that_a_revision_reads_by_itself_is_found(tmp_path: Path, reading: str) -> None:
    """Its change would go unnoticed once the revision is applied."""
    body = f"from pathlib import Path\n(lambda: {reading})"

    (found,) = lint(script(tmp_path, body))

    assert (found.rule, found.statement) == ("loose-file", "001_x.py:12")


BROKEN = {
    "revision = 'a-b'\ndown_revision = '001'": "revision 'a-b' (002.py) has -, which",
    f"revision = '{'x' * 33}'\ndown_revision = '001'": "(002.py) is 33 characters long",
    "revision = 'base'\ndown_revision = '001'": "(002.py) is a word that means another revision",
    "revision = '001'\ndown_revision = None": "revision 001 is in several files (001_x.py, 002.py)",
    "revision = '002\n": "002.py:1: SyntaxError: unterminated string literal",
}


@pytest.mark.parametrize(("text", "problem"), BROKEN.items())
def test_a_build_that_cannot_be_listed_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    problem: str,
) -> None:
    """As the function and the package say it."""
    made = script(tmp_path, "pass")
    (tmp_path / "alembic" / "versions" / "002.py").write_text(text)

    monkeypatch.setenv(migrations.VARIABLE, str(made.path))

    assert main() == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert problem in line


def test_our_own_revisions_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """What users copy is clean."""
    assert main() == 0
    assert capsys.readouterr().out == "the revisions are clean\n"


def test_a_report_says_why_and_what_is_better(
    lint_revision: Lint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A finding names revision, direction, rule and statement, and never shows a password."""
    lint_revision("CREATE ROLE r PASSWORD 'hunter2'")

    monkeypatch.setenv(migrations.VARIABLE, str(tmp_path / "alembic"))

    assert main() == 1
    assert capsys.readouterr().out == (
        "001 upgrade: literal-password: CREATE ROLE r PASSWORD '…'\n"
        "    a password in a file is known to everybody who reads the repository or the server's"
        " log: use operations.login, which keeps it in Secrets Manager\n"
        "1 finding(s)\n"
    )


def test_every_rule_is_tried() -> None:
    """No rule is here that has never fired."""
    tried = {rule for rule, _ in BREAKING} | {
        "drop-without-note",
        "useless-allowance",
        "colon",
        "loose-file",
    }

    assert tried == set(RULES)
