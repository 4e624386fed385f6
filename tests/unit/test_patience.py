"""How long what mends itself is waited for, inside an invocation and put off."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

import pytest

from core.actions.entry import entered
from core.actions.run import Run
from core.budget import Budget
from core.decisions.patience import (
    LONGEST_PAUSE_SECONDS,
    MOST_TIMES,
    inside_seconds,
    is_rds_at_it,
    pause_seconds,
    put_off,
)
from core.errors import (
    AccessDenied,
    AwaitsPerson,
    InstanceNotReady,
    LockBusy,
    MigrationError,
    NoSuchInstance,
    NotReady,
    OutOfReach,
    Rejected,
    RunFailed,
    Unreachable,
)
from core.model import READING, Action, ManagedDatabase, Request, Trigger, Waiting
from core.revisions.runner import Revisions
from core.settings import Settings
from tests.conftest import ROOT
from tests.equipment.fakes import FakeCloud

NOW = datetime(2026, 5, 4, 10, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
DEADLINE = timedelta(seconds=Settings().ready_deadline_seconds)
# Lambda Developer Guide, "Use Lambda recursive loop detection".
LAMBDA_STOPS_AT = 16


def later(
    error: MigrationError, waiting: Waiting | None = None, *, deadline: timedelta = DEADLINE
) -> Waiting | None:
    """Return how an event waits on that met *error* now."""
    return put_off(error, waiting, deadline=deadline, now=NOW)


@pytest.mark.parametrize(
    ("error", "patience"),
    [
        (InstanceNotReady("orders is creating"), 2 * HOUR),
        (LockBusy("another run is at work"), 2 * HOUR),
        (Unreachable("nothing answers"), 15 * MINUTE),
        (NotReady("ssm:GetParameters is busy"), 15 * MINUTE),
        (OutOfReach("ssm:GetParameters cannot be reached"), 15 * MINUTE),
    ],
)
def test_what_mends_itself_is_put_off(error: MigrationError, patience: timedelta) -> None:
    """For hours where RDS or another run is at it; else so that a person hears of it soon."""
    assert later(error) == Waiting(NOW, NOW + patience, 1)


@pytest.mark.parametrize(
    "error",
    [
        AwaitsPerson("orders is stopped: start it"),
        AccessDenied("no"),
        NoSuchInstance("no"),
        Rejected("no"),
        RunFailed("no"),
    ],
)
def test_what_somebody_has_to_mend_has_failed(error: MigrationError) -> None:
    """Waiting would only hide it."""
    assert later(error) is None


def test_the_deadline_is_that_of_the_first_time() -> None:
    """Whatever is met later; and no message makes it later than it could be from now."""
    earlier = Waiting(NOW - HOUR, NOW + HOUR, 6)
    forged = Waiting(NOW - HOUR, datetime.max.replace(tzinfo=UTC), 0)

    assert later(InstanceNotReady("x"), earlier) == Waiting(NOW - HOUR, NOW + HOUR, 7)
    assert later(Unreachable("x"), earlier) == Waiting(NOW - HOUR, NOW + 15 * MINUTE, 7)
    assert later(LockBusy("x"), forged) == Waiting(NOW - HOUR, NOW + 2 * HOUR, 1)


def test_waiting_ends() -> None:
    """At the deadline, where there is none, and before Lambda would end it without a word."""
    assert later(InstanceNotReady("x"), Waiting(NOW - 2 * HOUR, NOW, 9)) is None
    assert later(InstanceNotReady("x"), deadline=timedelta(0)) is None
    assert later(InstanceNotReady("x"), Waiting(NOW, NOW + HOUR, MOST_TIMES)) is None
    assert later(InstanceNotReady("x"), Waiting(NOW, NOW + HOUR, 9999)) is None


def chain(deadline: timedelta) -> tuple[list[int], timedelta]:
    """Return each pause of an instance that is never there, and how long it was waited for."""
    now, pauses = NOW, []
    waiting = put_off(InstanceNotReady("x"), None, deadline=deadline, now=now)
    while waiting is not None:
        pauses.append(pause_seconds(waiting, now=now))
        now += timedelta(seconds=pauses[-1])
        waiting = put_off(InstanceNotReady("x"), waiting, deadline=deadline, now=now)
    return pauses, now - NOW


def test_pauses_grow_up_to_what_a_queue_can_hold() -> None:
    """The last one ends at the deadline."""
    pauses, waited = chain(DEADLINE)

    assert pauses == [60, 120, 240, 480, *[900] * 7]
    assert waited == DEADLINE


def test_the_longest_deadline_is_kept_before_lambda_stops_the_chain() -> None:
    """The longest that the template takes, with a pause of no time inside each invocation."""
    text = (ROOT / "infra" / "template.yaml").read_text()
    (most,) = re.findall(
        r"^  ReadyDeadlineSeconds:\n(?: {4}.*\n)*? {4}MaxValue: (\d+)$", text, re.MULTILINE
    )
    longest = timedelta(seconds=int(most))

    pauses, waited = chain(longest)

    assert waited == longest
    assert len(pauses) <= MOST_TIMES < LAMBDA_STOPS_AT
    assert max(pauses) <= LONGEST_PAUSE_SECONDS


@pytest.mark.parametrize("times", [0, 1, 9999])
def test_a_pause_is_one_that_a_queue_takes(times: int) -> None:
    """SQS API, SendMessage: from 0 to 900 seconds, in whole ones."""
    for left in (timedelta(0), timedelta(seconds=0.2), timedelta(days=999)):
        assert 1 <= pause_seconds(Waiting(NOW, NOW + left, times), now=NOW) <= 900


def test_who_waits_inside_an_invocation() -> None:
    """A migration by hand as long as it may, an event for a moment, and whoever looks never."""
    by_hand = {
        action: inside_seconds(Request(Trigger.DIRECT, action, instance="orders"))
        for action in Action
    }

    assert {action for action, seconds in by_hand.items() if seconds} == {Action.MIGRATE}
    assert {by_hand[action] for action in READING} == {0.0}
    assert by_hand[Action.MIGRATE] == math.inf
    begun = Request(Trigger.DIRECT, Action.ROLLBACK, instance="orders")
    assert inside_seconds(begun, has_begun=True) == math.inf
    assert 0 < inside_seconds(Request(Trigger.INSTANCE, instance="orders")) < 60


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("rebooting", True),
        ("upgrading", True),
        ("backing-up", True),
        ("configuring-enhanced-monitoring", True),
        ("configuring-iam-database-auth", True),
        ("update-iam-db-auth", True),
        ("available", False),
        ("storage-optimization", False),
        ("storage-full", False),
        ("", False),
    ],
)
def test_when_rds_explains_that_nothing_answers(status: str, *, expected: bool) -> None:
    """Then it is waited for as for one that is being made; else somebody has closed a door."""
    assert is_rds_at_it(status) is expected


@pytest.mark.parametrize(
    ("trigger", "action", "least", "most"),
    [
        (Trigger.DIRECT, Action.STATUS, 0, 0),
        (Trigger.DIRECT, Action.STAMP, 0, 0),
        (Trigger.INSTANCE, Action.MIGRATE, 20, 60),
        (Trigger.REQUEST, Action.STATUS, 20, 60),
        (Trigger.DIRECT, Action.MIGRATE, 800, 860),
    ],
)
def test_so_long_a_run_waits_for_an_instance_that_is_being_made(
    trigger: Trigger, action: Action, least: float, most: float, orders: ManagedDatabase
) -> None:
    """By a clock of its own: a restore of hundreds does not take the places of others to run."""
    slept: list[float] = []
    run = Run(
        request=Request(trigger, action, instance="orders"),
        cloud=FakeCloud({"orders": orders._replace(status="creating", host=None)}),
        revisions=Revisions(),
        settings=Settings(),
        budget=Budget(lambda: 900 - sum(slept), 10, slept.append),
        request_id="7f2c",
    )

    with pytest.raises(InstanceNotReady), entered(run):
        pass

    assert least <= sum(slept) <= most


def test_nobody_waits_for_a_network_that_leads_nowhere(orders: ManagedDatabase) -> None:
    """It was asked for long enough already, and the person who can mend it waits for the answer."""

    class Unreached(FakeCloud):
        def instance(self, identifier: str) -> ManagedDatabase:
            raise OutOfReach(f"{identifier}: rds:DescribeDBInstances cannot be reached")

    slept: list[float] = []
    run = Run(
        request=Request(Trigger.DIRECT, instance="orders"),
        cloud=Unreached({"orders": orders}),
        revisions=Revisions(),
        settings=Settings(),
        budget=Budget(lambda: 900 - sum(slept), 10, slept.append),
        request_id="7f2c",
    )

    with pytest.raises(OutOfReach), entered(run):
        pass

    assert slept == []
