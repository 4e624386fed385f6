"""The contract as a model of ten lines, and a machine that tries to find where we differ."""

from __future__ import annotations

import random
import time
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.equipment.world import INSTANCE, World, event, make_history

NAMES = ("m1", "m2", "m3", "m4")
BODY = """
def upgrade() -> None:
    op.execute("CREATE TABLE public.{name} ()")


def downgrade() -> None:
    op.execute("DROP TABLE public.{name}")
"""
ALLOWED = {"DAY2_ALLOW_ROLLBACK": "true"}


def migrated(current: int, goal: int) -> tuple[str, int]:
    """Return what a migrate to revision number *goal* answers at *current*, and where it ends."""
    if goal > current:
        return "APPLIED", goal
    return ("UP_TO_DATE" if goal == current else "BEHIND_CURRENT"), current


def rolled_back(current: int, goal: int, start: int, declared: int | None) -> tuple[str, int]:
    """Return what a rollback from *start* answers, and where it ends: each safeguard refuses."""
    # Where nobody declared a target, no event takes it further again.
    is_allowed = start == current and goal < current and declared in (None, goal)
    return ("APPLIED", goal) if is_allowed else ("REJECTED", current)


def by_event(current: int, declared: int | None) -> tuple[str, int]:
    """Return what an event answers: it follows the declared target, or head from base."""
    if declared is not None:
        return migrated(current, declared)
    return migrated(current, len(NAMES)) if current == 0 else ("IGNORED", current)


class Contract(RuleBasedStateMachine):
    """Requests, events and faults in any order, against the model. Set ``world`` first."""

    world: World
    ini: Path

    @classmethod
    def on(cls, world: World) -> type[Contract]:
        """Return the machine for *world*."""
        ini = make_history(
            world.folder / f"contract-{time.monotonic_ns()}",
            {name: BODY.format(name=name) for name in NAMES},
        )
        return type("ContractHere", (cls,), {"world": world, "ini": ini})

    @initialize()
    def begin(self) -> None:
        """Begin with an empty database and nothing declared."""
        self.world.reset()
        self.current = 0
        self.declared: int | None = None

    @rule(goal=st.integers(1, 4))
    def declare(self, goal: int) -> None:
        """Write the target parameter."""
        self.world.declare(NAMES[goal - 1])
        self.declared = goal

    @rule(goal=st.integers(1, 4))
    def migrate(self, goal: int) -> None:
        """Ask for a revision directly."""
        expected = migrated(self.current, goal)
        self.check(self.world.request(target=NAMES[goal - 1]), expected)

    @rule(name=st.sampled_from(["instance_created", "parameter_updated", "requested"]))
    def deliver(self, name: str) -> None:
        """Deliver an event."""
        self.check(event(name), by_event(self.current, self.declared))

    @rule(goal=st.integers(1, 4), start=st.integers(0, 4))
    def roll_back(self, goal: int, start: int) -> None:
        """Ask to go back; mostly from where the database is not."""
        asked = self.world.request("rollback", NAMES[goal - 1], from_revision=name_of(start))
        self.check(asked, rolled_back(self.current, goal, start, self.declared))

    @rule(goal=st.integers(1, 4))
    def roll_back_rightly(self, goal: int) -> None:
        """Declare the target, then ask to go back to it from where the database is."""
        self.declare(goal)
        self.roll_back(goal, self.current)

    @rule(goal=st.integers(1, 4), moment=st.floats(0, 0.4))
    def kill(self, goal: int, moment: float) -> None:
        """Kill a run in the middle: it may have come anywhere on its way."""
        call = self.world.begin(self.world.request(target=NAMES[goal - 1]), ini=self.ini)
        time.sleep(moment)
        call.kill()
        self.world.wait_for_lock(held=False)
        self.arrived_within(goal)

    @rule(goal=st.integers(1, 4), moment=st.floats(0, 0.4))
    def crash(self, goal: int, moment: float) -> None:
        """Crash the server in the middle of a run: what the run says is still true."""
        call = self.world.begin(self.world.request(target=NAMES[goal - 1]), ini=self.ini)
        time.sleep(moment)
        self.world.kill_server()
        self.world.server.start()
        answer = call.answer()
        before = self.current
        self.arrived_within(goal)
        if answer.outcome != "NOT_READY":
            assert (answer.outcome, self.current) == migrated(before, goal), answer

    @rule(goal=st.integers(1, 4))
    def crowd(self, goal: int) -> None:
        """Ask for the same three times at once: one does it."""
        asked = self.world.request(target=NAMES[goal - 1])
        calls = [self.world.begin(asked, ini=self.ini) for _ in range(3)]
        outcomes = sorted(f"{call.answer().outcome}" for call in calls)
        outcome, self.current = migrated(self.current, goal)
        others = "UP_TO_DATE" if outcome == "APPLIED" else outcome
        assert outcomes == sorted([outcome, others, others])

    @rule()
    def make_anew(self) -> None:
        """Delete the instance and make another of the same name: its targets stay declared."""
        parameters = dict(self.world.aws.parameters)
        self.world.reset()
        self.world.aws.parameters.update(parameters)
        # Its identity is all that differs.
        number = random.randrange(1000)  # noqa: S311 - no secret
        self.world.declare_instance(DbiResourceId=f"db-{number}")
        self.current = 0

    @invariant()
    def database_is_where_it_should_be(self) -> None:
        """Check that revision, objects and history agree, and that nobody holds the lock."""
        if not hasattr(self, "current"):
            return
        tables = self.world.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert sorted(name for (name,) in tables) == list(NAMES[: self.current])
        assert self.world.current() == (NAMES[self.current - 1] if self.current else None)
        assert replayed(self.world.history()) == list(NAMES[: self.current])
        self.world.wait_for_lock(held=False)

    def check(self, asked: object, expected: tuple[str, int]) -> None:
        """Call, and compare outcome, end and report with what the model expects."""
        before = self.current
        answer = self.world.call(asked, ini=self.ini, variables=ALLOWED)
        outcome, self.current = expected
        assert answer.outcome == outcome, (answer, before, self.declared)
        if answer.error is None and outcome in ("APPLIED", "UP_TO_DATE"):
            way = NAMES[before : self.current] or NAMES[self.current : before][::-1]
            assert answer.body["applied_migrations"] == list(way)
            assert answer.body["final_revision"] == name_of(self.current, base=None)
            assert answer.body["instance"] == INSTANCE

    def arrived_within(self, goal: int) -> None:
        """Take over where the database is, which must be on the way to *goal*."""
        found = self.world.current()
        at = NAMES.index(found) + 1 if found else 0
        assert self.current <= at <= max(self.current, goal)
        self.current = at


def name_of(number: int, base: str | None = "base") -> str | None:
    """Return the identifier of revision *number*; of 0, *base*."""
    return NAMES[number - 1] if number else base


def replayed(history: list[tuple[str, str]]) -> list[str]:
    """Return the revisions that a history ends with."""
    found: list[str] = []
    for direction, revision in history:
        if direction == "upgrade":
            found.append(revision)
        else:
            found.remove(revision)
    return found
