"""A server that is full, crowded or read-only: the right outcome, and nothing half done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from core.postgres.session import query
from tests.equipment.waiting import wait_for
from tests.equipment.world import DATABASE, MASTER_SECRET, World

MakeHistory = Callable[..., Path]

# The device on which every write fails with ENOSPC, as on a disk that is full.
FULL = Path("/dev/full")


def test_disk_full(world: World, history: MakeHistory) -> None:
    """53100 fails the revision that needs the room; what came before is kept, and it is mended."""
    fill = "INSERT INTO public.big SELECT repeat('x', 999) FROM generate_series(1, 999)"
    ini = history(
        {
            "a1": 'op.execute("CREATE TABLE public.big (text text)")',
            "a2": f'op.execute("CREATE TABLE public.half ()")\nop.execute("{fill}")',
        }
    )
    world.call(world.request(target="a1"), ini=ini)

    with full_disk(world, "public.big"):
        answer = world.call(ini=ini)

    assert (answer.outcome, answer.body["final_revision"]) == ("FAILED", "a1")
    assert "53100" in answer.body["message"]
    assert world.query("SELECT to_regclass('public.half')") == [(None,)]
    assert world.call(ini=ini).body["applied_migrations"] == ["a2"]


@contextmanager
def full_disk(world: World, table: str) -> Iterator[None]:
    """Have every write to *table* fail as on a full disk: its file is the device that is full."""
    if not FULL.exists():
        # Elsewhere than on Linux, the server is told to say so.
        world.query(
            "CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RAISE SQLSTATE '53100'; END $$;"
            f"CREATE TRIGGER full BEFORE INSERT ON {table} EXECUTE FUNCTION public.full()"
        )
        yield
        world.query("DROP FUNCTION public.full CASCADE")
        return
    ((path,),) = world.query("SELECT pg_relation_filepath(%s)", (table,))
    file = world.server.data / path
    kept = file.with_suffix(".kept")
    file.rename(kept)
    file.symlink_to(FULL)
    try:
        yield
    finally:
        file.unlink()
        kept.rename(file)


def test_no_connection_to_spare(world: World) -> None:
    """max_connections reached is NOT_READY by 53300; a connection that is freed is used."""
    with ExitStack() as stack:
        for _ in range(40):
            try:
                stack.enter_context(closing(world.login("postgres")))
            except psycopg2.OperationalError:
                break
        call = world.begin()
        call.wait_for_log("53300")
        answer = world.call(seconds=6.0)

        assert (answer.outcome, answer.response["statusCode"]) == ("NOT_READY", 503)
    assert call.answer().outcome == "APPLIED"
    # Until its server process has ended, a session counts, closed or not.
    clients = "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'client backend'"
    wait_for(lambda: len(world.query(clients)) == 1, "the end of all other sessions")
    assert world.faults_found() == []


def test_read_only_database(world: World) -> None:
    """A database that takes no writes is FAILED by 25006, and says why; status still works."""
    world.query(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on")

    answer = world.call()

    assert answer.outcome == "FAILED"
    assert "read-only (25006)" in answer.body["message"]
    assert world.history() == []
    assert world.call(world.request("status", None)).outcome == "STATUS"


@pytest.mark.parametrize(
    ("change", "outcome", "code"),
    [
        ({"password": "guessed"}, "ACCESS_DENIED", "28P01"),
        ({"username": "nobody"}, "ACCESS_DENIED", "28"),
        ({"dbname": "nowhere"}, "NOT_FOUND", "3D000"),
        ({"username": "stranger"}, "ACCESS_DENIED", "42501"),
    ],
    ids=str,
)
def test_wrong_way_in(world: World, change: dict[str, str], outcome: str, code: str) -> None:
    """The SQLSTATE decides what a refused login means; no password is in the answer or the log."""
    world.query("CREATE ROLE stranger LOGIN")
    world.server.set_password("stranger", world.server.master_password)
    secret = world.aws.secrets[MASTER_SECRET]
    secret.put(json.dumps(json.loads(secret.text()) | change))

    answer = world.call()

    assert (answer.outcome, answer.error) == (outcome, None)
    assert code in answer.body["message"]
    assert world.server.master_password not in answer.log
    assert world.history() == []


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false",
            f"takes no connections (55000): ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS true",
        ),
        (
            f"REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC, postgres",
            f"(42501): GRANT CONNECT ON DATABASE {DATABASE} TO postgres",
        ),
    ],
    ids=["closed", "without CONNECT"],
)
def test_closed_door_is_told_with_its_key(world: World, statement: str, told: str) -> None:
    """What somebody has to open is named with the statement that opens it, and nothing is done."""
    with closing(world.server.superuser()) as session:
        query(session, statement)

    answer = world.call()

    assert (answer.outcome, answer.error) == ("ACCESS_DENIED", None)
    assert told in answer.body["message"]
    assert "trying again" not in answer.log


def test_schema_of_somebody_else(world: World) -> None:
    """A schema day2 that another role made is refused: its triggers would run as the master."""
    world.query("CREATE ROLE stranger; CREATE SCHEMA day2 AUTHORIZATION stranger")

    answer = world.call()

    assert answer.outcome == "ACCESS_DENIED"
    assert "belongs to stranger" in answer.body["message"]


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE day2.history CASCADE",
        "DROP TABLE day2.alembic_version",
        "INSERT INTO day2.alembic_version VALUES ('001')",
        "UPDATE day2.alembic_version SET version_num = 'ffff'",
        "ALTER TABLE day2.alembic_version RENAME COLUMN version_num TO number",
        "DROP SCHEMA day2 CASCADE; CREATE SCHEMA day2 AUTHORIZATION postgres",
    ],
)
def test_damaged_records(world: World, damage: str) -> None:
    """Records that somebody damaged are an answer of the taxonomy, and no guess is made."""
    world.call(world.request(target="002"))
    world.query(damage)
    before = world.catalogue()

    answer = world.call()

    if "DROP SCHEMA" in damage:
        # Nothing says any more that the objects were ours: the revisions are idempotent.
        assert answer.outcome == "APPLIED"
        return
    assert answer.outcome in ("FAILED", "DB_AHEAD"), answer
    assert answer.body["applied_migrations"] == []
    assert world.catalogue() == before
    assert world.call(world.request("status", None)).outcome in ("STATUS", "FAILED", "DB_AHEAD")
