"""Indexes built concurrently: killed in the middle, waited for, and built again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from core.postgres.session import query
from tests.equipment.world import World

MakeHistory = Callable[..., Path]

REVISIONS = {
    "a1": 'op.execute("CREATE TABLE public.goods AS SELECT generate_series(1, 9) AS id")',
    "a2": 'operations.index("goods_id", on="public.goods", columns="id")',
    "a3": 'op.execute("CREATE TABLE public.after ()")',
}
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
        wait_for(lambda: world.query(INDEX) != [])
        call.kill()
        world.wait_for_lock(held=False, timeout_seconds=3)
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
        wait_for(lambda: world.query(INDEX) != [])
        waiting = [world.begin(ini=ini) for _ in range(3)]
        time.sleep(0.5)
        threading.Timer(0.2, reader.rollback).start()
        answers = [call.answer() for call in (first, *waiting)]

    assert [answer.outcome for answer in answers] == ["APPLIED", *["UP_TO_DATE"] * 3]
    assert "40P01" not in first.log
    assert world.query(INDEX) == [(True,)]


def wait_for(holds: Callable[[], bool], timeout_seconds: float = 20.0) -> None:
    """Wait until something *holds*."""
    deadline = time.monotonic() + timeout_seconds
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.02)
