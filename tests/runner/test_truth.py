"""A revision is recorded if all that it did was committed, and not otherwise, however it ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.postgres.lock import LOCK_KEY
from tests.equipment.waiting import wait_for
from tests.equipment.world import World

MakeHistory = Callable[..., Path]

RAW = "op.get_bind().connection.driver_connection"
MAKE = 'op.execute("CREATE TABLE public.{} ()")'

# What a revision does behind a first CREATE TABLE, which is lost by it.
LOSING = {
    "rollback": 'op.execute("ROLLBACK")',
    "abort": 'op.execute("/* no more */ ABORT WORK;")',
    "rollback, begin": 'op.execute("ROLLBACK; BEGIN")',
    "rollback and chain": 'op.execute("ROLLBACK AND CHAIN")',
    "rollback in a script": 'op.execute("SELECT 1; ROLLBACK; CREATE TABLE public.more (); BEGIN")',
    "commit of what failed": (
        'try:\n    op.execute("SELECT 1/0")\nexcept Exception:\n    op.execute("COMMIT")'
    ),
    "bind": "op.get_bind().rollback()",
    "bind closed": "op.get_bind().close()",
    "bind invalidated": "op.get_bind().invalidate()",
    "driver": f"{RAW}.rollback()",
    "driver closed": f"{RAW}.close()",
    "driver reset": f"{RAW}.reset()",
    "driver isolation level": f"{RAW}.set_isolation_level(3)",
    "driver with a cursor of its own": (
        "from psycopg2.extras import RealDictCursor\n"
        f'{RAW}.cursor(cursor_factory=RealDictCursor).execute("ROLLBACK; BEGIN")'
    ),
    "driver's block": (
        f"try:\n    with {RAW}:\n        raise LookupError\nexcept LookupError:\n    pass"
    ),
    "orm": (
        "from sqlalchemy.orm import Session\n"
        "from sqlalchemy import exc, text\n"
        "session = Session(bind=op.get_bind())\n"
        "try:\n"
        '    session.execute(text("SELECT 1/0"))\n'
        "except exc.DBAPIError:\n"
        "    session.rollback()"
    ),
    "engine's connection left": (
        'op.get_bind().engine.connect().exec_driver_sql("CREATE TABLE public.more ()")'
    ),
    "engine's connection closed": (
        "with op.get_bind().engine.connect() as other:\n"
        '    other.exec_driver_sql("CREATE TABLE public.more ()")'
    ),
    "engine's two phases, not prepared": (
        "other = op.get_bind().engine.connect()\n"
        "other.begin_twophase()\n"
        'other.exec_driver_sql("CREATE TABLE public.more ()")'
    ),
    "engine's two phases, prepared and left": (
        "other = op.get_bind().engine.connect()\n"
        "phases = other.begin_twophase()\n"
        'other.exec_driver_sql("CREATE TABLE public.more ()")\n'
        "phases.prepare()"
    ),
    "procedure in an autocommit block": (
        "with op.get_context().autocommit_block():\n"
        '    op.execute("DO $$ BEGIN CREATE TABLE public.more (); ROLLBACK; END $$")'
    ),
    "statement that failed in an autocommit block": (
        "with op.get_context().autocommit_block():\n"
        "    try:\n"
        '        op.execute("CREATE TABLE public.more (); SELECT 1/0")\n'
        "    except Exception:\n"
        "        pass"
    ),
    "savepoint undone, then the whole": (
        "nested = op.get_bind().begin_nested()\n"
        'op.execute("CREATE TABLE public.more ()")\n'
        "nested.rollback()\n"
        'try:\n    op.execute("SELECT 1/0")\nexcept Exception:\n    pass\n'
        'op.execute("ROLLBACK; BEGIN")'
    ),
}


@pytest.mark.parametrize("how", sorted(LOSING))
def test_what_loses_its_work_is_not_recorded(world: World, history: MakeHistory, how: str) -> None:
    """It fails and says what it did; what came before is kept, and nothing behind it is run."""
    body = f"{MAKE.format('two')}\n{LOSING[how]}"

    answer = world.call(
        ini=history({"a1": MAKE.format("one"), "a2": body, "a3": MAKE.format("three")})
    )

    assert answer.outcome == "FAILED", answer
    assert "revision a2 failed: it rolled back its own work" in answer.body["message"]
    assert ("nothing of it is kept" in answer.body["message"]) is (tables(world) == ["one"])
    assert (answer.body["applied_migrations"], answer.body["final_revision"]) == (["a1"], "a1")
    assert world.history() == [("upgrade", "a1")]
    assert "three" not in tables(world)
    world.wait_for_lock(held=False)


def test_rehearsed_script_is_not_recorded(world: World, history: MakeHistory) -> None:
    """A script that still has the ROLLBACK of its rehearsal fails, though it is alone."""
    script = "BEGIN; CREATE ROLE courier NOLOGIN; CREATE TABLE public.courier (); ROLLBACK;"

    answer = world.call(ini=history({"a1": f"op.execute({script!r})"}))

    assert (answer.outcome, world.history(), tables(world)) == ("FAILED", [], [])


def test_downgrade_that_loses_its_work_is_not_recorded(world: World, history: MakeHistory) -> None:
    """Going back goes by the same rule."""
    body = (
        f"def upgrade() -> None:\n    {MAKE.format('one')}\n\n\n"
        "def downgrade() -> None:\n"
        '    op.execute("DROP TABLE public.one")\n    op.execute("ROLLBACK")\n'
    )
    ini = history({"a0": "pass", "a1": body})
    world.call(ini=ini)
    world.declare("a0")

    answer = world.call(
        world.request("rollback", "a0", from_revision="a1"),
        ini=ini,
        variables={"DAY2_ALLOW_ROLLBACK": "true"},
    )

    assert (answer.outcome, answer.body["final_revision"]) == ("FAILED", "a1"), answer
    assert "rolled back its own work" in answer.body["message"]
    assert (world.current(), tables(world)) == ("a1", ["one"])


def test_prepared_transaction_is_named(world: World, history: MakeHistory) -> None:
    """What is prepared and left is no commit; its name is told, and how to end it."""
    body = f"""{MAKE.format("two")}\nop.execute("PREPARE TRANSACTION 'kept for later'")"""
    try:
        answer = world.call(ini=history({"a1": body, "a2": "pass"}))

        assert (answer.outcome, world.history()) == ("FAILED", [])
        assert "'kept for later'" in answer.body["message"]
        assert "ROLLBACK PREPARED" in answer.body["message"]
    finally:
        world.query("ROLLBACK PREPARED 'kept for later'")


# What a revision does between two CREATE TABLEs, which are both there afterwards.
KEEPING = {
    "savepoint": (
        "nested = op.get_bind().begin_nested()\n"
        'op.execute("CREATE TABLE public.undone ()")\n'
        "nested.rollback()"
    ),
    "savepoint after an error": (
        'op.execute("SAVEPOINT here")\n'
        'try:\n    op.execute("SELECT 1/0")\nexcept Exception:\n    op.execute("ROLLBACK TO here")'
    ),
    "a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass One:\n    number: 'int'\nOne(1)"
    ),
    "word in a string": "op.execute(\"COMMENT ON TABLE public.a1 IS 'rollback, commit'\")",
    "inspector on the engine": (
        "import sqlalchemy as sa\n"
        "inspector = sa.inspect(op.get_bind().engine)\n"
        'assert "a2" not in inspector.get_table_names(schema="public")'
    ),
    "engine that only reads": (
        "with op.get_bind().engine.connect() as other:\n"
        '    assert other.exec_driver_sql("SELECT pg_backend_pid()").scalar() != '
        'op.get_bind().exec_driver_sql("SELECT pg_backend_pid()").scalar()'
    ),
    "engine that writes": (
        "with op.get_bind().engine.begin() as other:\n"
        '    other.exec_driver_sql("CREATE TABLE public.others ()")'
    ),
    "engine's two phases": (
        "with op.get_bind().engine.connect() as other:\n"
        "    phases = other.begin_twophase()\n"
        '    other.exec_driver_sql("CREATE TABLE public.phases ()")\n'
        "    phases.prepare()\n"
        "    phases.commit()"
    ),
    "engine in autocommit": (
        "with op.get_bind().engine.connect() as other:\n"
        '    other.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM")'
    ),
    "engine's URL": (
        "url = op.get_bind().engine.url\n"
        "assert (url.database, url.username, url.password) == ('shop', 'postgres', None), url\n"
        "assert url.host == 'localhost' and url.port, url"
    ),
    "engine's session": (
        "with op.get_bind().engine.connect() as other:\n"
        "    session = other.connection.driver_connection\n"
        "    assert session.info.ssl_in_use\n"
        "    assert session.get_dsn_parameters()['sslmode'] == 'verify-full'\n"
        "    found = other.exec_driver_sql(\n"
        "        \"SELECT current_setting('lock_timeout'), application_name, usename"
        ' FROM pg_stat_activity WHERE pid = pg_backend_pid()").one()\n'
        "assert tuple(found) == ('300ms', 'day2', 'postgres'), found"
    ),
    "large object and copy": (
        "import io\n"
        f"{RAW}.lobject(0, 'w').write('it')\n"
        f"{RAW}.cursor().copy_expert('COPY public.a2 FROM STDIN', io.StringIO(''))"
    ),
}


def test_what_loses_nothing_is_recorded(world: World, history: MakeHistory) -> None:
    """Savepoints, and all that an engine is for, lose nothing: no word is said of them."""
    revisions = {"a1": MAKE.format("a1")}
    for number, body in enumerate(KEEPING.values(), 2):
        name = f"a{number}"
        revisions[name] = "\n".join(
            (
                MAKE.format(name),
                body.replace("a2", name),
                MAKE.format(f"{name}m"),
            )
        )

    answer = world.call(ini=history(revisions))

    assert (answer.outcome, answer.body["applied_migrations"]) == ("APPLIED", [*revisions]), (
        answer.body["message"]
    )
    warned = [name for name in revisions if f"{name}: committed by itself" in answer.log]
    # What another connection commits is committed, whatever becomes of the revision.
    assert [list(KEEPING)[int(name[1:]) - 2] for name in warned] == [
        "engine that writes",
        "engine's two phases",
        "engine in autocommit",
    ]
    made = set(revisions) | {f"{name}m" for name in revisions if name != "a1"}
    assert set(tables(world)) == made | {"others", "phases"}
    wait_for(lambda: sessions(world) == 0, "the end of all its sessions")


def test_reading_and_rolling_back_loses_nothing(world: World, history: MakeHistory) -> None:
    """A transaction that only read may end as it likes."""
    ends = (
        "op.get_bind().rollback()",
        f"{RAW}.rollback()",
        'op.execute("ROLLBACK")',
        'try:\n    op.execute("SELECT 1/0")\nexcept Exception:\n    op.get_bind().rollback()',
        f"{RAW}.rollback()\n{RAW}.autocommit = True\n{RAW}.cursor().execute('VACUUM pg_class')",
    )
    revisions = {
        f"a{number}": f'op.execute("SELECT 1")\n{end}\n{MAKE.format(f"a{number}")}'
        for number, end in enumerate(ends)
    }

    answer = world.call(ini=history(revisions))

    assert (answer.outcome, answer.body["applied_migrations"]) == ("APPLIED", [*revisions]), (
        answer.body["message"]
    )
    assert tables(world) == [*revisions]


REFUSES_LATE = """
op.execute("CREATE TABLE public.rows (id int)")
op.execute(
    "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql"
    " AS $$ BEGIN RAISE 'not like this'; END $$"
)
op.execute(
    "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON public.rows"
    " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.refuse()"
)
op.execute("INSERT INTO public.rows VALUES (1)")
"""
# Nobody sees it by the words.
UNSEEN = 'op.execute("DO $$ BEGIN EXECUTE $x$ {} $x$; END $$".replace("DAY", "da$x$ || $x$y2"))'
UNWATCHED = f"from psycopg2 import extensions\nextensions.cursor({RAW}).execute"

# What shows only as a revision is recorded, and what the answer says of it.
SHOWN_LATE = {
    "deferred trigger that fails": (REFUSES_LATE, "P0001 not like this"),
    "our own row moved": (
        "op.execute(\"UPDATE day2.alembic_version SET version_num = 'a9'\")",
        "was changed during this run",
    ),
    "moved unseen": (
        UNSEEN.format("UPDATE DAY.alembic_version SET version_num = 'a9'"),
        "was changed during this run",
    ),
    "row beside ours unseen": (
        UNSEEN.format("INSERT INTO DAY.alembic_version VALUES ('a9')"),
        "was changed during this run",
    ),
    "history that takes nothing, unseen": (
        UNSEEN.format("CREATE RULE none AS ON INSERT TO DAY.history DO INSTEAD NOTHING"),
        "cannot perform INSERT RETURNING",
    ),
    "rolled back where nobody looks": (f'{UNWATCHED}("ROLLBACK; BEGIN")', "its own work"),
}


@pytest.mark.parametrize("how", sorted(SHOWN_LATE))
def test_what_shows_as_it_is_recorded_fails_it(
    world: World, history: MakeHistory, how: str
) -> None:
    """Recorded in one round trip with the commit, it is held to the same before that."""
    body, said = SHOWN_LATE[how]
    revisions = {"a1": MAKE.format("one"), "a2": f"{MAKE.format('two')}\n{body}", "a3": "pass"}

    answer = world.call(ini=history(revisions))

    assert (answer.outcome, answer.body["applied_migrations"]) == ("FAILED", ["a1"]), answer
    assert said in answer.body["message"]
    assert (world.history(), tables(world)) == ([("upgrade", "a1")], ["one"])
    world.wait_for_lock(held=False)


# What a revision leaves that the opening of the next one meets, behind the commit.
MET_LATE = {
    "what was prepared is thrown away": 'op.execute("DEALLOCATE ALL")',
    "committed where nobody looks": f'{UNWATCHED}("COMMIT; BEGIN")',
}


@pytest.mark.parametrize("how", sorted(MET_LATE))
def test_what_is_met_behind_the_commit_loses_nothing(
    world: World, history: MakeHistory, how: str
) -> None:
    """The revision is committed, once, and the next one is begun as any other."""
    revisions = {"a1": f"{MAKE.format('one')}\n{MET_LATE[how]}", "a2": MAKE.format("two")}

    answer = world.call(ini=history(revisions))

    assert (answer.outcome, answer.body["applied_migrations"]) == ("APPLIED", ["a1", "a2"]), answer
    assert (world.history(), tables(world)) == (
        [("upgrade", "a1"), ("upgrade", "a2")],
        ["one", "two"],
    )
    assert ("committed by itself" in answer.log) is ("COMMIT" in MET_LATE[how])


LEAVING = {
    "autocommit by the driver": f"{RAW}.commit()\n{RAW}.autocommit = True",
    "autocommit by an isolation level": f"{RAW}.commit()\n{RAW}.set_isolation_level(0)",
    "autocommit by SQLAlchemy": (
        "op.get_bind().commit()\n"
        'op.get_bind().execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM")'
    ),
    "read-only": f"{RAW}.commit()\n{RAW}.set_session(readonly=True)",
    "serializable": f"{RAW}.commit()\n{RAW}.set_isolation_level(3)",
    "two phases": f"{RAW}.commit()\n{RAW}.tpc_begin({RAW}.xid(1, 'a', 'b'))\n{RAW}.tpc_rollback()",
    "SQLAlchemy's hold on it closed": "op.get_bind().commit()\nop.get_bind().connection.close()",
    "another connection for Alembic": "op.execute('COMMIT')\nop.get_context().connection = None",
    "another dialect for Alembic": "op.execute('COMMIT')\nop.get_context().impl = None",
    "a transaction by text": (
        f'{RAW}.commit()\n{RAW}.autocommit = True\nop.execute("BEGIN")\n{MAKE.format("by_text")}'
    ),
}


@pytest.mark.parametrize("how", sorted(LEAVING))
def test_next_revision_does_not_feel_the_mode(world: World, history: MakeHistory, how: str) -> None:
    """Whatever a revision leaves on, the next one is a whole again, and the last is committed."""
    first = {"a1": f"{MAKE.format('one')}\n{LEAVING[how]}"}

    half = world.call(
        ini=history(first | {"a2": f'{MAKE.format("two")}\nop.execute("SELECT 1/0")'})
    )
    after_half = tables(world)
    whole = world.call(ini=history(first | {"a2": MAKE.format("two")}))

    assert (half.outcome, half.body["applied_migrations"]) == ("FAILED", ["a1"]), half
    assert "revision a2 failed: 22012" in half.body["message"]
    assert "two" not in after_half
    assert (whole.outcome, whole.body["applied_migrations"]) == ("APPLIED", ["a2"]), whole
    assert "two" in tables(world)
    assert world.history() == [("upgrade", "a1"), ("upgrade", "a2")]
    assert "a1: committed by itself" in half.log


@pytest.mark.parametrize("how", sorted(LEAVING))
def test_mode_left_on_by_the_last_revision_loses_nothing(
    world: World, history: MakeHistory, how: str
) -> None:
    """The record of the revision that leaves a mode on is committed like any other."""
    answer = world.call(ini=history({"a1": f"{MAKE.format('one')}\n{LEAVING[how]}"}))

    assert (answer.outcome, world.history()) == ("APPLIED", [("upgrade", "a1")]), answer
    assert "one" in tables(world)


@pytest.mark.parametrize(
    "error",
    [
        "SystemExit('enough')",
        "KeyboardInterrupt('enough')",
        "GeneratorExit('enough')",
        "MemoryError('enough')",
        "StopIteration('enough')",
        "type('Own', (BaseException,), {})('enough')",
        "__import__('asyncio').CancelledError('enough')",
    ],
)
def test_whatever_is_raised_is_answered(world: World, history: MakeHistory, error: str) -> None:
    """No class of error ends the function without an answer, and its work is rolled back."""
    answer = world.call(ini=history({"a1": f"{MAKE.format('one')}\nraise {error}"}))

    assert answer.outcome == "FAILED", answer
    assert "revision a1 failed: " in answer.body["message"]
    assert "enough" in answer.body["message"]
    assert (tables(world), world.history()) == ([], [])
    world.wait_for_lock(held=False)


# What a revision waits for: that a query has a row.
UNTIL = (
    'while not op.get_bind().exec_driver_sql("SELECT {}").first():\n'
    '    op.execute("SELECT pg_stat_clear_snapshot(), pg_sleep(0.02)")'
)
ANOTHER_RUN = "1 FROM pg_stat_activity WHERE application_name = 'day2' AND pid <> pg_backend_pid()"
UNTIL_ANOTHER_RUNS = UNTIL.format(ANOTHER_RUN)


@pytest.mark.parametrize(
    "gives_up",
    [
        'op.execute("SELECT pg_advisory_unlock_all()")',
        'with op.get_context().autocommit_block():\n    op.execute("DISCARD ALL")',
    ],
)
def test_lock_that_a_revision_gives_up_is_taken_again(
    world: World, history: MakeHistory, gives_up: str
) -> None:
    """The next revision has the lock; another run does none of its work at the same time."""
    ini = history({"a1": gives_up, "a2": f"{MAKE.format('ran')}\n{UNTIL_ANOTHER_RUNS}"})
    first = world.begin(ini=ini)
    first.wait_for_log("a1: applied")
    held = world.lock_holders()
    second = world.call(ini=ini)

    answer = first.answer()

    assert len(held) == 1
    assert (answer.outcome, second.outcome) == ("APPLIED", "UP_TO_DATE"), (answer, second)
    assert "a1: gave up the lock of the run: it was taken again" in answer.log


def test_lock_that_another_run_took_fails_the_revision(world: World, history: MakeHistory) -> None:
    """Where another run has the lock that a revision gave up, the revision is rolled back."""
    body = (
        f"{MAKE.format('one')}\n"
        f"{UNTIL_ANOTHER_RUNS}\n"
        'op.execute("SELECT pg_advisory_unlock_all()")\n'
        f"{UNTIL.format(f'1 FROM pg_locks WHERE objid = {LOCK_KEY} AND granted')}"
    )
    until_alone = UNTIL.format(f"1 HAVING NOT EXISTS (SELECT {ANOTHER_RUN})")
    first = world.begin(ini=history({"a1": body}))
    world.wait_for_lock(held=True)
    other = world.begin(ini=history({"a1": until_alone}))

    answer = first.answer()

    assert answer.outcome == "FAILED", answer
    assert "gave up the lock of the run, and server process" in answer.body["message"]
    assert other.answer().outcome == "APPLIED"
    assert (tables(world), world.history()) == ([], [("upgrade", "a1")])


def tables(world: World) -> list[str]:
    """Return the tables that revisions made."""
    found = world.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return [name for (name,) in found]


def sessions(world: World) -> int:
    """Return how many sessions of ours there are."""
    ((found,),) = world.query(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'day2'"
    )
    return int(found)
