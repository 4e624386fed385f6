"""The faults, each tried on a database of its own, and what must hold after every one."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from core.postgres.session import query
from tests.chaos.bus import deliver
from tests.chaos.contract import Contract
from tests.equipment.mixtures import try_many
from tests.equipment.pair import followed
from tests.equipment.proxy import Proxy
from tests.equipment.site import Site
from tests.equipment.waiting import wait_for
from tests.equipment.world import World, event, make_history

# The server looks every second whether its client is still there; the rest is what a busy machine
# adds. The statement that was running takes a minute.
LOCK_FREE_WITHIN_SECONDS = 30.0
# 10 s of silence and three probes 5 s apart, and what a busy machine adds.
KEEPALIVE_SECONDS = 10 + 3 * 5 + 35
STEPS = 15


@dataclass
class Row:
    """
    One line of the table.

    Attributes:
        lost: Revisions that were committed and were gone afterwards.
        wrong: What did not hold; empty is what everybody wants.
        seen: What the tries came to, by outcome, and the worst time measured.
    """

    fault: str
    tries: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    worst_seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether everything held, in every try."""
        return not self.wrong and not self.lost

    def check(self, holds: bool, problem: str) -> None:  # noqa: FBT001 - reads as an assertion
        """Note *problem* unless it *holds*."""
        if not holds:
            self.wrong.append(f"try {self.tries}: {problem}")


def killed(world: World, tries: int) -> Row:
    """Kill the function's process at a random moment of a run, then run normally."""
    row = Row("kill -9 of the Lambda process")
    sleeping = make_history(
        world.folder / f"sleeping-{time.monotonic_ns()}",
        {"005": 'op.execute("SELECT pg_sleep(60)")'},
        after="004",
    )
    whole_seconds = _whole_run_seconds(world)
    for number in range(tries):
        row.tries += 1
        world.reset()
        if number % 5 == 4:
            # Not at random: a statement is running on the server, and goes on after the kill.
            call = world.begin(ini=sleeping)
            call.wait_for_log("005: will apply")
            world.wait_for_lock(held=True)
            _wait_for_statement(world, "pg_sleep")
        else:
            call = world.begin()
            time.sleep(random.uniform(0, whole_seconds * 1.05))  # noqa: S311 - no secret
        call.kill()
        freed = world.wait_for_lock(held=False)
        row.worst_seconds = max(row.worst_seconds, freed)
        row.check(freed < LOCK_FREE_WITHIN_SECONDS, f"lock free after {freed:.1f} s only")
        _carries_on(row, world)
    return row


def server_killed(world: World, tries: int) -> Row:
    """Kill the server in the middle of a run, start it again, then run normally."""
    row = Row("server killed and restarted")
    whole_seconds = _whole_run_seconds(world)
    for _ in range(tries):
        row.tries += 1
        world.reset()
        call = world.begin()
        time.sleep(random.uniform(0, whole_seconds))  # noqa: S311 - no secret
        world.kill_server()
        time.sleep(random.uniform(0, 0.5))  # noqa: S311 - no secret
        world.server.start()
        answer = call.answer()
        row.check(
            answer.outcome in ("APPLIED", "NOT_READY"),
            f"{answer.outcome}: {answer.body.get('message')}",
        )
        row.seen[f"{answer.outcome}"] += 1
        reported = answer.body.get("final_revision")
        if answer.outcome == "APPLIED":
            row.check(reported == "004", f"APPLIED and at {reported}")
        _carries_on(row, world)
    return row


def failed_over(world: World, tries: int) -> Row:
    """Fail over to the other server at a random moment of a run, which goes on there."""
    row = Row("failover to another server")
    whole_seconds = _whole_run_seconds(world)
    for number in range(tries):
        row.tries += 1
        world.reset()
        with followed(world) as pair:
            if number % 2:
                world.declare_cluster()
            call = world.begin()
            time.sleep(random.uniform(0, whole_seconds))  # noqa: S311 - no secret
            begun = time.monotonic()
            pair.fail_over()
            answer = call.answer()
            row.worst_seconds = max(row.worst_seconds, time.monotonic() - begun)
            row.seen[f"{answer.outcome}"] += 1
            row.check(answer.outcome == "APPLIED", f"{answer.outcome}: {answer.body}")
            row.check(
                answer.body.get("applied_migrations") == ["001", "002", "003", "004"],
                f"reported {answer.body}",
            )
            _carries_on(row, world)
    return row


def network_cut(world: World, tries: int) -> Row:
    """Lose every packet in the middle of a run, both ways and for good, then run normally."""
    row = Row("network cut in the middle")
    slow = make_history(
        world.folder / f"slow-{time.monotonic_ns()}",
        {"005": 'op.execute("SELECT pg_sleep(2)")', "006": 'op.execute("SELECT 1")'},
        after="004",
    )
    for number in range(tries):
        row.tries += 1
        world.reset()
        seconds = 40.0
        with Proxy(world.server.port) as proxy:
            world.port = proxy.port
            world.declare_instance()
            call = world.begin(ini=slow, seconds=seconds)
            if number % 2:
                world.wait_for_lock(held=True)
                time.sleep(random.uniform(0, 0.5))  # noqa: S311 - no secret
            else:
                _wait_for_statement(world, "pg_sleep")
            proxy.lose_packets()
            begun = time.monotonic()
            freed = world.wait_for_lock(held=False, timeout_seconds=120)
            row.worst_seconds = max(row.worst_seconds, freed)
            row.check(freed < KEEPALIVE_SECONDS, f"lock free after {freed:.1f} s only")
            answer = call.answer(timeout_seconds=seconds)
            row.seen[f"{answer.outcome}"] += 1
            row.check(answer.outcome == "NOT_READY", f"{answer.outcome}: {answer.body}")
            row.check(time.monotonic() - begun < seconds, "it did not end within its budget")
            proxy.mend()
            _carries_on(row, world, ini=slow, expected=("001", "002", "003", "004", "005", "006"))
    return row


def forwarding_stopped(world: World, tries: int) -> Row:
    """Hold every byte in the middle, so that the kernels see a healthy connection, then go on."""
    row = Row("box in the middle hangs")
    slow = make_history(
        world.folder / f"hung-{time.monotonic_ns()}",
        {"005": 'op.execute("SELECT pg_sleep(1)")'},
        after="004",
    )
    for _ in range(tries):
        row.tries += 1
        world.reset()
        seconds = 14.0
        margin = {"DAY2_MARGIN_SECONDS": "8"}
        with Proxy(world.server.port) as proxy:
            world.port = proxy.port
            world.declare_instance()
            begun = time.monotonic()
            call = world.begin(ini=slow, seconds=seconds, variables=margin)
            _wait_for_statement(world, "pg_sleep")
            proxy.stop_forwarding()
            answer = call.answer(timeout_seconds=seconds + 5)
            took = time.monotonic() - begun
            row.worst_seconds = max(row.worst_seconds, took)
            row.seen[f"{answer.outcome}"] += 1
            row.check(answer.outcome == "NOT_READY", f"{answer.outcome}: {answer.body}")
            row.check(took < seconds, f"it ended after {took:.1f} s, its time was {seconds} s")
            proxy.cut()
            proxy.mend()
            _carries_on(row, world, ini=slow, expected=("001", "002", "003", "004", "005"))
    return row


def eight_at_once(world: World, tries: int) -> Row:
    """Send eight requests at once to an empty database."""
    row = Row("8 invocations at once")
    for _ in range(tries):
        row.tries += 1
        world.reset()
        calls = [world.begin() for _ in range(8)]
        answers = [call.answer() for call in calls]
        outcomes = Counter(f"{answer.outcome}" for answer in answers)
        row.seen += outcomes
        row.check(outcomes["APPLIED"] == 1, f"{dict(outcomes)}")
        row.check(
            set(outcomes) <= {"APPLIED", "UP_TO_DATE", "LOCK_BUSY"},
            "; ".join(answer.log[-2000:] for answer in answers if answer.outcome == "FAILED")
            or f"{dict(outcomes)}",
        )
        for fault in world.faults_found():
            row.check(holds=False, problem=fault)
    return row


def relation_locked(world: World, tries: int) -> Row:
    """Have another session hold a table that a revision needs; it lets go in every second try."""
    row = Row("relation locked by a session")
    history = make_history(
        world.folder / f"locked-{time.monotonic_ns()}",
        {
            "a1": 'op.execute("CREATE TABLE public.goods (id int)")',
            "a2": 'op.execute("ALTER TABLE public.goods ADD COLUMN name text")',
        },
    )
    for number in range(tries):
        row.tries += 1
        world.reset()
        world.call(world.request(target="a1"), ini=history)
        with closing(world.server.superuser("shop")) as blocker:
            blocker.autocommit = False
            query(blocker, "LOCK TABLE public.goods IN ACCESS EXCLUSIVE MODE")
            begun = time.monotonic()
            call = world.begin(ini=history)
            if number % 2:
                call.wait_for_log("met a lock")
                blocker.rollback()
                answer = call.answer()
                row.check(answer.outcome == "APPLIED", f"let go in time: {answer.response}")
            else:
                answer = call.answer()
                message = answer.body["message"]
                row.check(answer.outcome == "FAILED", f"held for ever: {answer.outcome}")
                row.check("goods is held by" in message, message)
                row.check(str(blocker.info.backend_pid) in message, message)
                row.check(answer.body["final_revision"] == "a1", f"{answer.body}")
            row.worst_seconds = max(row.worst_seconds, time.monotonic() - begun)
            row.seen[f"{answer.outcome}"] += 1
        again = world.call(ini=history)
        row.check(again.outcome in ("APPLIED", "UP_TO_DATE"), f"afterwards: {again.response}")
        row.check(world.history() == [("upgrade", "a1"), ("upgrade", "a2")], f"{world.history()}")
    return row


def short_timeout(world: World, tries: int) -> Row:
    """Give the function less time than its revisions need, and let the bus carry on."""
    row = Row("function timeout too short")
    names = [f"s{number}" for number in range(1, 5)]
    history = make_history(
        world.folder / f"short-{time.monotonic_ns()}",
        dict.fromkeys(names, 'op.execute("SELECT pg_sleep(1)")'),
    )
    for _ in range(tries):
        row.tries += 1
        world.reset()
        world.declare(names[-1])
        delivered = deliver(world, event("requested"), ini=history, seconds=6.0)
        row.seen += Counter(f"{answer.outcome}" for answer in delivered.answers)
        row.check(delivered.failed == [], f"in the on-failure queue: {delivered.failed}")
        row.check(len(delivered.answers) > 1, "one call had time for all")
        row.check(
            [one for answer in delivered.answers for one in answer.body["applied_migrations"]]
            == names,
            f"{[answer.body for answer in delivered.answers]}",
        )
        row.check(world.history() == [("upgrade", name) for name in names], f"{world.history()}")
    return row


def delivered_twice(world: World, tries: int) -> Row:
    """Deliver the events of an instance and of its parameter twice, in any order, two at a time."""
    row = Row("events twice and out of order")
    for _ in range(tries):
        row.tries += 1
        world.reset()
        world.declare("003")
        events = [event("instance_created"), event("parameter_created"), event("requested")] * 2
        random.shuffle(events)
        for first, second in zip(events[::2], events[1::2], strict=True):
            for call in [world.begin(first), world.begin(second)]:
                answer = call.answer()
                row.seen[f"{answer.outcome}"] += 1
                row.check(
                    answer.outcome in ("APPLIED", "UP_TO_DATE"), f"{answer.outcome} {answer.error}"
                )
        for fault in world.faults_found(("001", "002", "003")):
            row.check(holds=False, problem=fault)
    return row


def in_any_order(world: World, tries: int) -> Row:
    """Ask, deliver, declare, go back, kill and crash in any order, against the model."""
    row = Row("all of it, against the model", tries)
    try:
        run_state_machine_as_test(
            Contract.on(world),
            settings=settings(
                max_examples=tries,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                # To make a failure shorter takes longer than all the rest.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except AssertionError as error:
        row.check(holds=False, problem=f"{error}\n{chr(10).join(error.__notes__)}")
    row.seen["steps, at most"] += tries * STEPS
    return row


def _carries_on(
    row: Row,
    world: World,
    *,
    ini: Path | None = None,
    expected: tuple[str, ...] = ("001", "002", "003", "004"),
) -> None:
    """Run normally after a fault; check that nothing committed was lost, and all else holds."""
    before = world.history()
    row.check(
        before == [("upgrade", one) for one in expected[: len(before)]], f"left behind {before}"
    )
    current = world.current()
    row.check(current == (before[-1][1] if before else None), f"at {current} with {before}")
    row.seen[f"{len(before)} kept"] += 1
    answer = world.call(ini=ini)
    row.check(
        answer.outcome == ("UP_TO_DATE" if len(before) == len(expected) else "APPLIED"),
        f"the next run: {answer.response} {answer.error}",
    )
    row.check(
        answer.body.get("applied_migrations") == list(expected[len(before) :]),
        f"the next run reports {answer.body}",
    )
    after = world.history()
    row.lost += len([one for one in before if one not in after])
    for fault in world.faults_found(expected):
        row.check(holds=False, problem=fault)


def _whole_run_seconds(world: World) -> float:
    """Return how long an undisturbed run to head takes here and now."""
    measured = []
    for _ in range(3):
        world.reset()
        begun = time.monotonic()
        world.call()
        measured.append(time.monotonic() - begun)
    # The quickest: a kill that comes too late proves nothing.
    return min(measured)


def _wait_for_statement(world: World, text: str) -> None:
    """Wait until a statement with *text* is running for the runner."""
    running = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'day2' AND state = 'active'"
        " AND query LIKE %s"
    )
    wait_for(lambda: world.query(running, (f"%{text}%",)), f"a statement with {text}")


@dataclass(frozen=True)
class Case:
    """A fault, how often `make chaos` tries it, and how often `make test` does."""

    run: Callable[[World, int], Row]
    tries: int
    short_tries: int


def mixed(world: World, tries: int) -> Row:
    """Have revisions end their transactions in every way there is, in any order."""
    row = Row("mixtures of commits, rollbacks", tries=tries)
    seed = random.randrange(10**9)  # noqa: S311 - no secret
    row.seen[f"drawn with seed {seed}"] = tries
    world.reset()
    wrong = try_many(
        Site(world.server, world.ca_file),
        world.folder / f"mixtures-{time.monotonic_ns()}",
        count=tries,
        seed=seed,
        tell=lambda _: None,
    )
    row.wrong = [f"{mixture}: {problems}" for mixture, problems in wrong.items()]
    return row


CASES = (
    Case(mixed, 500, 10),
    Case(killed, 50, 5),
    Case(server_killed, 10, 2),
    Case(failed_over, 10, 2),
    Case(eight_at_once, 20, 2),
    Case(relation_locked, 4, 2),
    Case(short_timeout, 3, 1),
    Case(delivered_twice, 10, 1),
    Case(in_any_order, 15, 2),
)
# They wait for timeouts most of the time, so they have a world of their own beside the others.
SILENT_CASES = (
    Case(network_cut, 5, 1),
    Case(forwarding_stopped, 3, 1),
)
