"""Whatever a revision does, the report is exact, and the next one does not feel it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.equipment.world import World

MakeHistory = Callable[..., Path]

DEFERRED = """
CREATE TABLE public.parent (id int PRIMARY KEY);
CREATE TABLE public.child (id int REFERENCES public.parent DEFERRABLE INITIALLY DEFERRED);
INSERT INTO public.child VALUES (1);
"""
MAKE_TABLE = 'op.execute("CREATE TABLE public.{} ()")'
FAILING = {
    "sql": ('op.execute("SELECT 1/0")', "22012"),
    "python": ('raise LookupError("no such thing")', "LookupError"),
    "exit": ('raise SystemExit("enough")', "SystemExit"),
    "exit without a word": ("raise SystemExit", "failed: SystemExit"),
    "aborted": (
        'try:\n    op.execute("SELECT 1/0")\nexcept Exception:\n    pass',
        "it went on after 22012 division by zero at a2_test.py:16",
    ),
    "aborted, and gone on": (
        'try:\n    op.execute("SELECT 1/0")\nexcept Exception:\n    op.execute("SELECT 1")',
        "it went on after 22012 division by zero at a2_test.py:16",
    ),
    "error that cannot be shown": (
        "class Mute(Exception):\n    def __str__(self):\n        raise RuntimeError\nraise Mute",
        "Mute, which cannot be shown",
    ),
    "async def": (
        'async def upgrade() -> None:\n    op.execute("SELECT 1/0")',
        "upgrade() of a2_test.py returned a coroutine that nobody runs",
    ),
    "yield": (
        'def upgrade() -> None:\n    op.execute("SELECT 1/0")\n    yield',
        "upgrade() of a2_test.py returned a generator that nobody runs",
    ),
    "decorator that forgets to call": (
        "def upgrade() -> object:\n    return lambda: None",
        "upgrade() of a2_test.py returned a function that nobody runs",
    ),
    "nothing to call": (
        "upgrade = None  # and no def upgrade",
        "a2_test.py has no function upgrade()",
    ),
    "a command of Alembic's": (
        (
            "from alembic import command\nfrom alembic.config import Config\n"
            "command.current(Config(op.get_context().config.config_file_name))"
        ),
        "revision a2 failed: ",
    ),
    "row beside ours": (
        "op.execute(\"INSERT INTO day2.alembic_version VALUES ('a9')\")",
        "day2.alembic_version was changed during this run",
    ),
    "our books": (
        'op.execute("DROP TABLE day2.history")',
        'relation "day2.history" does not exist: the revision dropped or renamed',
    ),
    "our books given away": (
        (
            "op.execute('CREATE ROLE r1; GRANT r1 TO CURRENT_USER; GRANT CREATE ON SCHEMA day2"
            " TO r1; ALTER TABLE day2.history OWNER TO r1')"
        ),
        "schema day2 holds what we did not make: history of r1",
    ),
    "all of the master's given away": (
        (
            "op.execute('CREATE ROLE r1; GRANT r1 TO CURRENT_USER; GRANT CREATE ON DATABASE shop"
            " TO r1; ALTER SCHEMA day2 OWNER TO r1')"
        ),
        "it changed what the runner keeps its records in (schema day2 belongs to r1",
    ),
    "a trigger on our books": (
        (
            "op.execute('CREATE FUNCTION public.n() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RETURN NULL; END $$;"
            " CREATE TRIGGER x AFTER INSERT ON day2.history EXECUTE FUNCTION public.n()')"
        ),
        "trigger x on history",
    ),
    "no trigger on our books": (
        "op.execute('DROP TRIGGER append_only ON day2.history')",
        "without its trigger append_only",
    ),
    "our books closed": (
        (
            "op.execute('ALTER TABLE day2.history ENABLE ROW LEVEL SECURITY,"
            " FORCE ROW LEVEL SECURITY')"
        ),
        "the revision changed what the runner keeps its records in",
    ),
    "a zero byte": (
        'op.execute("CREATE TABLE public.seen ();\\0 CREATE TABLE public.unseen ()")',
        "a statement has a zero byte in it",
    ),
    "an error in a thread": (
        "import threading\none = threading.Thread(target=lambda: 1 / 0)\none.start()\none.join()",
        "ended by an error, ZeroDivisionError: division by zero: its work is not done",
    ),
    "a coroutine thrown away": (
        "async def seed():\n    op.execute('SELECT 1/0')\nseed()",
        "a2_test.py:17: coroutine 'upgrade.<locals>.seed' was never awaited",
    ),
    "a secret in an error": (
        "import subprocess\nsubprocess.run(['false', 'password=s3cr3t'], check=True)",
        "Command '['false', 'password=***']' returned non-zero exit status 1",
    ),
    "an autocommit block in another": (
        (
            "op.execute('ROLLBACK; BEGIN')\n"
            "with op.get_context().autocommit_block(), op.get_context().autocommit_block():\n"
            "    op.execute('VACUUM pg_type')\nop.execute('SELECT 1/0')"
        ),
        "22012 division by zero; what it committed itself before is kept",
    ),
    "a transaction in its own": (
        "with op.get_bind().begin():\n    op.execute('SELECT 1')",
        "commit() is called first: a revision is in a transaction already: take begin() out",
    ),
    "what needs no transaction": (
        "op.execute('VACUUM')",
        "inside a transaction block: do it in op.get_context().autocommit_block()",
    ),
    "a driver's connection of its own": (
        (
            "import psycopg2\nurl = op.get_bind().engine.url\n"
            "psycopg2.connect(host=url.host, port=url.port, user=url.username, dbname=url.database)"
        ),
        "no password supplied: open another one by op.get_bind().engine.connect()",
    ),
    "no statement": ("op.execute('-- nothing')", "the text has no statement: take it out"),
    "a name for a list": (
        "operations.role('r1')\noperations.read_only('r1', schemas='public', tables_of=[])",
        "schemas='public': give a list, such as ['public']",
    ),
    "a name for a list of roles": (
        "operations.login('r1', member_of='pg_monitor')",
        "member_of='pg_monitor': give a list, such as ['pg_monitor']",
    ),
    "an index inside as_role": (
        (
            "operations.role('r1')\nwith operations.as_role('r1'):\n"
            "    operations.index('i', on='public.one', columns='(1)')"
        ),
        "call it outside of as_role",
    ),
    "what others depend on": (
        (
            "op.execute('CREATE VIEW public.shown AS SELECT 1 FROM public.one;"
            " DROP TABLE public.one')"
        ),
        "because other objects depend on it (view shown depends on table one)",
    ),
    "constraint at commit": (f"op.execute({DEFERRED!r})", "23503"),
    "terminates itself": (
        'op.execute("SELECT pg_terminate_backend(pg_backend_pid())")',
        None,
    ),
}


@pytest.mark.parametrize("how", sorted(FAILING))
def test_failing_revision_keeps_those_before(world: World, history: MakeHistory, how: str) -> None:
    """A revision that fails leaves nothing; the one before it is kept, and the report says so."""
    body, code = FAILING[how]
    broken = f"{MAKE_TABLE.format('half')}\n{body}"
    ini = history({"a1": MAKE_TABLE.format("one"), "a2": broken, "a3": MAKE_TABLE.format("three")})

    answer = world.call(ini=ini)

    found = answer.body
    assert (answer.outcome, found["applied_migrations"], found["final_revision"]) == (
        "FAILED" if code else "NOT_READY",
        ["a1"],
        "a1",
    ), answer
    assert "revision a2 failed" in found["message"]
    assert (code or "broke") in found["message"]
    assert found["pending_migrations"] == ["a2", "a3"]
    assert world.history() == [("upgrade", "a1")]
    assert tables(world) == ["one"]
    world.wait_for_lock(held=False)


def test_books_that_a_revision_gave_away_for_good_are_told(
    world: World, history: MakeHistory
) -> None:
    """It committed that itself: what was applied cannot be read, so nothing is claimed of it."""
    world.query("CREATE ROLE r1; GRANT r1 TO postgres; GRANT CREATE ON DATABASE shop TO r1")
    ini = history({"a1": "op.execute('ALTER SCHEMA day2 OWNER TO r1; COMMIT')"})

    answer = world.call(ini=ini)

    assert (answer.outcome, answer.body["success"]) == ("ACCESS_DENIED", False), answer
    assert answer.body["message"] == (
        "could not read back what was committed: schema day2 belongs to r1, not to the user we "
        "connect as: hand it over or drop it"
    )


def test_mended_revision_carries_on(world: World, history: MakeHistory) -> None:
    """After a failure, the next build's run applies what is left, and nothing twice."""
    world.call(ini=history({"a1": MAKE_TABLE.format("one"), "a2": "raise ValueError"}))

    answer = world.call(
        ini=history({"a1": MAKE_TABLE.format("one"), "a2": MAKE_TABLE.format("two")})
    )

    assert answer.body["applied_migrations"] == ["a2"]
    assert tables(world) == ["one", "two"]


COMMITTING = {
    "raw commit": 'op.execute("COMMIT")',
    "raw commit and begin": 'op.execute("COMMIT; BEGIN")',
    "commit": "op.get_bind().commit()",
    "driver's commit": "op.get_bind().connection.driver_connection.commit()",
}


def test_revisions_that_commit_by_themselves(world: World, history: MakeHistory) -> None:
    """A revision that commits by itself is reported as it is, and named in a warning."""
    revisions = {"a0": MAKE_TABLE.format("a0")}
    for number, commit in enumerate(COMMITTING.values(), 1):
        name = f"a{number}"
        revisions[name] = "\n".join(
            [MAKE_TABLE.format(name), commit, MAKE_TABLE.format(f"{name}_more")]
        )
    revisions["a9"] = MAKE_TABLE.format("a9")

    answer = world.call(ini=history(revisions))

    assert (answer.outcome, answer.body["applied_migrations"]) == ("APPLIED", [*revisions])
    assert world.history() == [("upgrade", name) for name in revisions]
    assert [name for name in revisions if f"{name}: committed by itself" in answer.log] == [
        name for name in revisions if name not in ("a0", "a9")
    ]
    assert tables(world) == sorted(
        [*revisions, *(f"{name}_more" for name in revisions if name not in ("a0", "a9"))]
    )


def test_failure_after_a_commit_of_its_own(world: World, history: MakeHistory) -> None:
    """What a revision committed before it failed stays, and the report names it as failed."""
    body = f"{MAKE_TABLE.format('two')}\nop.execute('COMMIT')\nop.execute('SELECT 1/0')"
    ini = history({"a1": MAKE_TABLE.format("one"), "a2": body})

    answer = world.call(ini=ini)

    assert (answer.outcome, answer.body["final_revision"]) == ("FAILED", "a1")
    assert "a2: committed by itself" in answer.log
    assert world.history() == [("upgrade", "a1")]


CHANGING = {
    "search_path": "SET search_path = pg_temp",
    "role": "CREATE ROLE other; GRANT other TO CURRENT_USER; SET ROLE other",
    "statement_timeout": "SET statement_timeout = '1s'",
    "lock_timeout": "SET lock_timeout = 0",
    "datestyle": "SET datestyle = 'German'",
    "isolation": "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "read only": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "client_encoding": "SET client_encoding = 'LATIN1'",
    "everything": "DISCARD TEMP; RESET ALL",
    "prepared": "PREPARE it AS SELECT 1; LISTEN something; CREATE TEMP TABLE history ()",
}
SETTINGS = (
    "search_path", "statement_timeout", "lock_timeout", "client_encoding", "datestyle", "role",
    "default_transaction_isolation", "default_transaction_read_only",
)  # fmt: skip
RECORD = (
    "op.execute(\"CREATE TABLE public.{} AS SELECT name, CASE name WHEN 'statement_timeout'"
    " THEN (setting::int > 1000)::text ELSE setting END FROM pg_settings"
    f' WHERE name IN {SETTINGS}")'
)


def test_changed_session_is_not_felt(world: World, history: MakeHistory) -> None:
    """A revision that changes its session leaves the next one, and our records, as they were."""
    revisions = {"a0": RECORD.format("a0")}
    for number, change in enumerate(CHANGING.values(), 1):
        revisions[f"a{number}"] = f'op.execute("{change}")'
        revisions[f"b{number}"] = RECORD.format(f"b{number}")

    answer = world.call(ini=history(revisions))

    assert (answer.outcome, answer.body["applied_migrations"]) == ("APPLIED", [*revisions])
    before = world.query("SELECT * FROM public.a0 ORDER BY 1")
    for number, what in enumerate(CHANGING, 1):
        assert world.query(f"SELECT * FROM public.b{number} ORDER BY 1") == before, what
    assert world.query("SELECT DISTINCT applied_by FROM day2.history") == [("postgres",)]


def test_session_settings_are_set_on_the_server(world: World, history: MakeHistory) -> None:
    """A revision runs with every setting that lets the server let go of a run that vanished."""
    ini = history({"a1": 'op.execute("CREATE TABLE public.seen AS SELECT * FROM pg_settings")'})

    world.call(ini=ini, seconds=33.0)

    seen = dict(world.query("SELECT name, setting FROM public.seen"))
    wanted = {
        "client_connection_check_interval": "1000",
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "25000",
        "idle_in_transaction_session_timeout": "300000",
        "lock_timeout": "300",
        "application_name": "day2",
        "jit": "off",
        "local_preload_libraries": "",
        "createrole_self_grant": "set, inherit",
    }
    if seen["ssl"] == "off":
        # Behind the front is a unix socket, which has none of them.
        wanted = {name: value for name, value in wanted.items() if not name.startswith("tcp_")}
    assert {name: seen[name] for name in wanted if name in seen} == {
        name: value for name, value in wanted.items() if name in seen
    }
    # What is left of the time, less the margin, whatever the run has spent so far.
    assert 20_000 < int(seen["statement_timeout"]) <= 30_000


def tables(world: World) -> list[str]:
    """Return the tables that revisions made."""
    found = world.query(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        " AND tablename NOT IN ('parent', 'child') ORDER BY 1"
    )
    return [name for (name,) in found]
