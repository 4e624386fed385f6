"""The time of a run: what does not fit is told so, and asked again only where that may help."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from core.postgres.blockers import ITSELF, Watch, writers
from core.postgres.session import query
from tests.equipment.waiting import wait_for
from tests.equipment.world import DATABASE, World

MakeHistory = Callable[..., Path]

# Of a call, its margin is 3 s (tests/equipment/world.py).
SECONDS = 7.0
MAKE = 'op.execute("CREATE TABLE public.half ()")'

TOO_LONG = {
    "many statements": f"{MAKE}\nfor _ in range(30):\n    op.execute('SELECT pg_sleep(0.5)')",
    "many statements, and errors": (
        f"{MAKE}\nfor _ in range(30):\n    try:\n        op.execute('SELECT pg_sleep(0.5)')\n"
        "    except Exception:\n        pass"
    ),
    "one statement": f"{MAKE}\nop.execute('SELECT pg_sleep(30)')",
    "a clean-up that has no time either": (
        "with op.get_context().autocommit_block():\n    try:\n        op.execute('SELECT"
        " pg_sleep(30)')\n    finally:\n        op.execute('SELECT 1')"
    ),
    "Python alone": f"{MAKE}\ntime.sleep(30)",
    "Python that catches all it can": (
        f"{MAKE}\ntry:\n    time.sleep(30)\nexcept BaseException:\n    pass\nwhile True:\n"
        "    try:\n        time.sleep(0.2)\n    except Exception:\n        pass"
    ),
    "another session": (
        "with op.get_bind().engine.connect() as other:\n"
        "    other.exec_driver_sql('SELECT pg_sleep(30)')"
    ),
}


@pytest.mark.parametrize("how", sorted(TOO_LONG))
def test_what_never_fits_fails_for_good(world: World, history: MakeHistory, how: str) -> None:
    """A revision that had a whole run to itself is not asked for again as it is."""
    answer = world.call(ini=history({"a1": TOO_LONG[how]}), seconds=SECONDS)

    assert answer.outcome == "FAILED", answer
    assert "revision a1 failed: its time was over after" in answer.body["message"]
    for remedy in ("split it", "in batches", "TimeoutSeconds"):
        assert remedy in answer.body["message"]
    assert world.query("SELECT to_regclass('public.half')") == [(None,)]
    assert world.history() == []
    world.wait_for_lock(held=False)


@pytest.mark.parametrize("how", ["many statements", "one statement"])
def test_what_may_fit_in_a_whole_run_is_asked_again(
    world: World, history: MakeHistory, how: str
) -> None:
    """Behind another revision it had only what was left: INCOMPLETE, and then it fails."""
    ini = history({"a1": "op.execute('SELECT pg_sleep(0.5)')", "a2": TOO_LONG[how]})

    first = world.call(ini=ini, seconds=SECONDS)
    second = world.call(ini=ini, seconds=SECONDS)

    assert (first.outcome, first.body["applied_migrations"]) == ("INCOMPLETE", ["a1"]), first
    assert second.outcome == "FAILED", second


def test_what_committed_something_is_not_asked_again(world: World, history: MakeHistory) -> None:
    """A revision that was cut off behind a commit of its own would not begin where it did."""
    body = f"{MAKE}\nop.get_bind().commit()\nop.execute('SELECT pg_sleep(30)')"

    answer = world.call(ini=history({"a1": "pass", "a2": body}), seconds=SECONDS)

    assert (answer.outcome, answer.body["applied_migrations"]) == ("FAILED", ["a1"]), answer
    assert "its time was over" in answer.body["message"]
    assert "what it committed itself before is kept" in answer.body["message"]


def test_batches_that_fit_are_applied(world: World, history: MakeHistory) -> None:
    """Time that is not over is no matter, and work that is done by then is recorded."""
    body = f"{MAKE}\nfor _ in range(5):\n    op.execute('SELECT pg_sleep(0.1)')"

    assert world.call(ini=history({"a1": body}), seconds=SECONDS).outcome == "APPLIED"


@pytest.mark.parametrize(
    ("function", "outcome", "text"),
    [
        ("pg_cancel_backend", "FAILED", "the run had time left, so somebody cancelled it"),
        ("pg_terminate_backend", "NOT_READY", "somebody ended the session"),
    ],
)
def test_hand_of_an_administrator_is_told_as_one(
    world: World, history: MakeHistory, function: str, outcome: str, text: str
) -> None:
    """A statement that somebody cancels is not called one whose time is over."""
    call = world.begin(ini=history({"a1": f"{MAKE}\nop.execute('SELECT pg_sleep(30)')"}))
    stop = (
        f"SELECT {function}(pid) FROM pg_stat_activity"
        " WHERE application_name = 'day2' AND query ~ 'sleep' AND state = 'active'"
    )
    wait_for(lambda: world.query(stop), "the statement that sleeps")

    answer = call.answer()

    assert answer.outcome == outcome, answer
    assert text in answer.body["message"]
    assert "time was over" not in answer.body["message"]
    assert world.history() == []


def test_what_another_changes_meanwhile_is_tried_again(world: World, history: MakeHistory) -> None:
    """An application that grants on its table at that moment makes no run fail."""
    grants = (
        "op.execute('SET LOCAL lock_timeout = 0')\n"
        "op.execute('GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC')"
    )
    world.query("CREATE TABLE public.goods (id int); ALTER TABLE public.goods OWNER TO postgres")
    waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'day2' AND query ~ 'GRANT'"
    with closing(world.server.superuser(DATABASE)) as application:
        application.autocommit = False
        query(application, "GRANT INSERT ON public.goods TO PUBLIC")
        call = world.begin(ini=history({"a1": grants}))
        wait_for(lambda: world.query(f"{waiting} AND wait_event_type = 'Lock'"), "the run waits")
        application.commit()

    answer = call.answer()

    assert (answer.outcome, world.history()) == ("APPLIED", [("upgrade", "a1")]), answer
    assert "a1: met a lock, or another's change (XX000), trying again" in answer.log


@pytest.mark.parametrize("is_own", [True, False])
def test_who_is_in_the_way_is_told(world: World, *, is_own: bool) -> None:
    """A session by its user; the revision itself, where another connection of its own waits."""
    connect = partial(world.server.superuser, DATABASE)
    world.query("CREATE TABLE public.goods (id int)")
    with closing(connect()) as holder, closing(connect()) as waiting:
        query(holder, "BEGIN; LOCK TABLE public.goods")
        query(waiting, "SET application_name = 'day2'")
        asks = threading.Thread(target=query, args=(waiting, "BEGIN; LOCK TABLE public.goods"))
        watched = holder if is_own else waiting
        session = f"server process {holder.info.backend_pid} of {holder.info.user}"
        with Watch(connect, watched.info.backend_pid) as watch:
            asks.start()
            found = wait_for(watch.found, "who is in the way")
        query(holder, "ROLLBACK")
        asks.join()

    assert found == f"goods is held by {ITSELF if is_own else session}"


def test_prepared_transaction_in_the_way_is_named(world: World) -> None:
    """No session could be ended: the transaction is, by its name."""
    connect = partial(world.server.superuser, DATABASE)
    world.query("CREATE TABLE public.goods (id int)")
    with closing(connect()) as stranger, closing(connect()) as waiting:
        user = stranger.info.user
        query(stranger, "BEGIN; LOCK TABLE public.goods; PREPARE TRANSACTION 'of a stranger'")
        asks = threading.Thread(target=query, args=(waiting, "BEGIN; LOCK TABLE public.goods"))
        try:
            with Watch(connect, waiting.info.backend_pid) as watch:
                asks.start()
                found = wait_for(watch.found, "who is in the way")
            writing = writers(stranger)
        finally:
            query(stranger, "ROLLBACK PREPARED 'of a stranger'")
            asks.join()

    assert found == "goods is held by a prepared transaction ('of a stranger')"
    assert writing.startswith(f"the prepared transaction 'of a stranger' of {user}")
