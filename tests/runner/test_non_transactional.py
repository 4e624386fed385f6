"""Indexes built concurrently: killed in the middle, waited for, and built again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from core.postgres.session import query
from tests.equipment.waiting import wait_for
from tests.equipment.world import World

MakeHistory = Callable[..., Path]

REVISIONS = {
    "a1": 'op.execute("CREATE TABLE public.goods AS SELECT generate_series(1, 9) AS id")',
    "a2": 'operations.index("goods_id", on="public.goods", columns="id")',
    "a3": 'op.execute("CREATE TABLE public.after ()")',
}
RUNS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'day2'"
INDEX = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('public.goods_id')"


def test_killed_build_is_dropped_and_built_again(world: World, history: MakeHistory) -> None:
    """A run that is killed while it builds leaves INVALID; the next one drops and builds it."""
    ini = history(REVISIONS)
    world.call(world.request(target="a1"), ini=ini)
    with closing(world.server.superuser("shop")) as reader:
        # A transaction that has seen the table: the build waits for its end.
        reader.autocommit = False
        query(reader, "UPDATE public.goods SET id = id")
        call = world.begin(ini=ini)
        wait_for(lambda: world.query(INDEX), "the index")
        call.kill()
        world.wait_for_lock(held=False)
        reader.rollback()

    assert world.query(INDEX) == [(False,)]
    assert world.history() == [("upgrade", "a1")]

    answer = world.call(ini=ini)

    assert answer.body["applied_migrations"] == ["a2", "a3"]
    assert "was left INVALID: dropped" in answer.log
    assert "committed by itself" not in answer.log
    assert world.query(INDEX) == [(True,)]


def test_failed_build_is_built_again(world: World, history: MakeHistory) -> None:
    """A unique index that finds duplicates fails by name; with the rows mended it is built."""
    unique = REVISIONS | {"a2": REVISIONS["a2"].replace(")", ", unique=True)")}
    ini = history(unique)
    world.call(world.request(target="a1"), ini=ini)
    world.query("INSERT INTO public.goods VALUES (1)")

    failed = world.call(ini=ini)
    world.query("DELETE FROM public.goods WHERE id = 1")
    answer = world.call(ini=ini)

    assert (failed.outcome, "23505" in failed.body["message"]) == ("FAILED", True)
    assert answer.body["applied_migrations"] == ["a2", "a3"]
    assert world.query(INDEX) == [(True,)]


def test_no_deadlock_with_a_run_that_waits(world: World, history: MakeHistory) -> None:
    """Runs that wait at the lock hold no snapshot, so the build that they wait for ends."""
    ini = history(REVISIONS)
    world.call(world.request(target="a1"), ini=ini)
    with closing(world.server.superuser("shop")) as reader:
        reader.autocommit = False
        query(reader, "UPDATE public.goods SET id = id")
        first = world.begin(ini=ini)
        wait_for(lambda: world.query(INDEX), "the index")
        waiting = [world.begin(ini=ini) for _ in range(3)]
        wait_for(lambda: world.query(RUNS) == [(4,)], "three that wait, beside the first")
        threading.Timer(0.2, reader.rollback).start()
        answers = [call.answer() for call in (first, *waiting)]

    assert [answer.outcome for answer in answers] == ["APPLIED", *["UP_TO_DATE"] * 3]
    assert "40P01" not in first.log
    assert world.query(INDEX) == [(True,)]


CONCURRENT = (
    "with op.get_context().autocommit_block():\n"
    '    op.create_index("goods_id", "goods", ["id"], schema="public",'
    " postgresql_concurrently=True, if_not_exists={})"
)


@pytest.mark.parametrize("if_not_exists", [True, False])
def test_build_waits_longer_than_for_a_relation(
    world: World, history: MakeHistory, *, if_not_exists: bool
) -> None:
    """A build that Alembic writes waits for old transactions, and is carried out once."""
    ini = history(REVISIONS | {"a2": CONCURRENT.format(if_not_exists)})
    world.call(world.request(target="a1"), ini=ini)
    with closing(world.server.superuser("shop")) as reader:
        reader.autocommit = False
        query(reader, "UPDATE public.goods SET id = id")
        call = world.begin(ini=ini)
        wait_for(lambda: world.query(INDEX), "the index")
        threading.Timer(1.5, reader.rollback).start()
        answer = call.answer()

    assert (answer.outcome, answer.body["applied_migrations"]) == ("APPLIED", ["a2", "a3"]), answer
    assert "trying again" not in answer.log
    assert world.query(INDEX) == [(True,)]


@pytest.mark.parametrize("if_not_exists", [True, False])
def test_index_left_invalid_fails_the_revision(
    world: World, history: MakeHistory, *, if_not_exists: bool
) -> None:
    """Where the wait is longer than the time, the index is named, and so is the way out."""
    ini = history(REVISIONS | {"a2": CONCURRENT.format(if_not_exists)})
    world.call(world.request(target="a1"), ini=ini)
    with closing(world.server.superuser("shop")) as reader:
        reader.autocommit = False
        query(reader, "UPDATE public.goods SET id = id")
        cut = world.call(ini=ini, seconds=7.0)
        reader.rollback()
        who = f"server process {reader.info.backend_pid} of {reader.info.user}"

    again = world.call(ini=ini)
    world.query("DROP INDEX public.goods_id")
    mended = world.call(ini=ini)

    for answer in (cut, again) if if_not_exists else (cut,):
        assert answer.outcome == "FAILED", answer
        assert "index public.goods_id was left INVALID" in answer.body["message"]
        assert "DROP INDEX CONCURRENTLY public.goods_id" in answer.body["message"]
        assert answer.body["final_revision"] == "a1"
    assert f"it waited for the end of each older transaction: {who}" in cut.body["message"]
    assert again.outcome == "FAILED"
    assert "trying again" not in cut.log
    assert mended.body["applied_migrations"] == ["a2", "a3"]


def test_index_that_an_engine_left_invalid_fails_the_revision(
    world: World, history: MakeHistory
) -> None:
    """Another connection's build is the revision's too, and so is an error that it caught."""
    body = (
        "op.execute('CREATE TABLE public.goods AS SELECT 1 AS id FROM generate_series(1, 2)')\n"
        "op.get_bind().commit()\n"
        "with op.get_bind().engine.connect() as other:\n"
        "    other = other.execution_options(isolation_level='AUTOCOMMIT')\n"
        "    try:\n"
        "        other.exec_driver_sql(\n"
        "            'CREATE UNIQUE INDEX CONCURRENTLY goods_id ON public.goods (id)')\n"
        "    except Exception:\n"
        "        pass"
    )

    answer = world.call(ini=history({"a1": body}))

    assert answer.outcome == "FAILED", answer
    assert world.query(INDEX) == [(False,)]
    assert world.history() == []


def test_invalid_index_of_others_fails_nothing(world: World, history: MakeHistory) -> None:
    """A partitioned parent is INVALID by its nature, and another's index is another's trouble."""
    world.query(
        "CREATE TABLE public.others AS SELECT 1 AS id FROM generate_series(1, 2);"
        "CREATE TABLE public.parted (id int) PARTITION BY RANGE (id);"
        "CREATE TABLE public.part PARTITION OF public.parted DEFAULT;"
        "ALTER TABLE public.parted OWNER TO postgres; ALTER TABLE public.part OWNER TO postgres;"
        "ALTER TABLE public.others OWNER TO postgres"
    )
    with pytest.raises(psycopg2.errors.UniqueViolation):
        world.query("CREATE UNIQUE INDEX CONCURRENTLY others_once ON public.others (id)")
    body = (
        'op.execute("CREATE INDEX parted_id ON ONLY public.parted (id)")\n'
        "with op.get_context().autocommit_block():\n"
        '    op.execute("CREATE INDEX CONCURRENTLY ON public.others (id)")\n'
        '    op.execute("CREATE INDEX CONCURRENTLY part_id ON public.part (id)")'
    )

    answer = world.call(ini=history({"a1": body}))

    invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    assert (answer.outcome, world.query(invalid)) == ("APPLIED", [(2,)]), answer


def test_lock_timeout_that_a_revision_sets_itself_is_kept(
    world: World, history: MakeHistory
) -> None:
    """A revision that bounds its own waiting is not made to wait longer, nor run again."""
    body = CONCURRENT.format(True).replace(
        "block():\n", "block():\n    op.execute(\"SET lock_timeout = '400ms'\")\n"
    )
    ini = history(REVISIONS | {"a2": body})
    world.call(world.request(target="a1"), ini=ini)
    with closing(world.server.superuser("shop")) as reader:
        reader.autocommit = False
        query(reader, "UPDATE public.goods SET id = id")
        answer = world.call(ini=ini)
        reader.rollback()

    assert answer.outcome == "FAILED", answer
    assert "55P03" in answer.body["message"]
    assert "tried 1 time(s)" in answer.body["message"]
    assert "index public.goods_id was left INVALID" in answer.body["message"]


def test_failed_unique_build_leaves_nothing(world: World, history: MakeHistory) -> None:
    """What operations.index began over duplicates is dropped: the application may insert."""
    unique = REVISIONS | {"a2": REVISIONS["a2"].replace(")", ", unique=True)")}
    ini = history(unique)
    world.call(world.request(target="a1"), ini=ini)
    world.query("INSERT INTO public.goods VALUES (1)")

    failed = world.call(ini=ini)
    world.query("INSERT INTO public.goods VALUES (2)")

    assert (failed.outcome, "23505" in failed.body["message"]) == ("FAILED", True)
    assert "INVALID" not in failed.body["message"]
    assert world.query(INDEX) == []


@pytest.mark.parametrize(
    "there", ["CREATE INDEX goods_id ON public.goods (id)", "CREATE TABLE public.goods_id ()"]
)
def test_another_thing_of_an_indexs_name_is_not_taken_for_it(
    world: World, history: MakeHistory, there: str
) -> None:
    """Whoever owns the table could have the index announced, and unique, that is not."""
    ini = history(REVISIONS | {"a2": REVISIONS["a2"].replace(")", ", unique=True)")})
    world.call(world.request(target="a1"), ini=ini)
    world.query(there)

    answer = world.call(ini=ini)

    assert (answer.outcome, answer.body["final_revision"]) == ("FAILED", "a1"), answer
    assert "was there before, and is not a unique index on public.goods" in answer.body["message"]
