"""How long a run waits for what mends itself: inside its invocation, and put off until later."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from core.errors import AwaitsPerson, InstanceNotReady, LockBusy, MigrationError, NotReady
from core.model import Action, Request, Waiting

# A function that sleeps takes its place from others: so an event waits in it for this long only.
EVENT_SECONDS = 45.0

# How long an event is put off for what RDS says nothing of: a server that does not answer, a
# service of AWS that is busy. A wrong security group is then known within the hour.
UNEXPLAINED = timedelta(minutes=15)

FIRST_PAUSE_SECONDS = 60
# SQS API, SendMessage, "DelaySeconds".
LONGEST_PAUSE_SECONDS = 900
# Lambda stops a chain of its own messages at about 16 (Lambda Developer Guide, "Use Lambda
# recursive loop detection").
MOST_TIMES = 14

# Statuses in which RDS may have taken the server away for a while (RDS User Guide, "Viewing
# Amazon RDS DB instance status"; Aurora User Guide, "Viewing DB cluster status").
_RDS_IS_AT_IT = frozenset(
    {
        "backing-up",
        "converting-to-vpc",
        "failing-over",
        "maintenance",
        "modifying",
        "moving-to-vpc",
        "promoting",
        "rebooting",
        "update-iam-db-auth",
        "upgrading",
    }
)

# One in which a server may answer no more until somebody gives it storage (RDS User Guide,
# "Amazon RDS DB instance running out of storage").
FULL = "storage-full"


def is_rds_at_it(status: str) -> bool:
    """Say whether a server that does not answer is away because of what RDS does to it."""
    return status in _RDS_IS_AT_IT or status.startswith("configuring-")


def inside_seconds(request: Request, *, sleeps: bool = False, has_begun: bool = False) -> float:
    """
    Return for how long the invocation itself waits for the database of *request*.

    A person who asked for a migration waits as long as the function may run, and so does whoever
    does something by hand and has begun it. Who has not, or only asks to see something, is
    answered at once, unless the database sleeps: to wake takes 15 s, and 30 or more after a day
    (Aurora User Guide, "Scaling to Zero ACUs with automatic pause and resume").
    """
    if request.is_direct and (request.action is Action.MIGRATE or has_begun):
        return math.inf
    return 0.0 if request.is_direct and not sleeps else EVENT_SECONDS


def put_off(
    error: MigrationError, waiting: Waiting | None, *, deadline: timedelta, now: datetime
) -> Waiting | None:
    """
    Decide how an event whose run met *error* waits on; ``None`` where it has failed.

    *waiting* is how it has waited so far. *deadline* is for what is sure to mend itself: RDS is
    still at the instance, or another run is at the database. Nobody waits for longer than that
    from now on, whatever a message says.
    """
    match error:
        case AwaitsPerson():
            return None
        case InstanceNotReady() | LockBusy():
            patience = deadline
        case NotReady():
            patience = min(deadline, UNEXPLAINED)
        case _:
            return None
    latest = now + patience
    if waiting is None:
        waiting = Waiting(now, latest, 0)
    until = min(waiting.until, latest)
    if now >= until or waiting.times >= MOST_TIMES:
        return None
    return Waiting(waiting.since, until, waiting.times + 1)


def pause_seconds(waiting: Waiting, *, now: datetime) -> int:
    """Return after how many seconds it is asked again: ever more, and no later than the end."""
    left = math.ceil((waiting.until - now).total_seconds())
    doublings = max(0, min(waiting.times - 1, 10))
    return max(1, min(FIRST_PAUSE_SECONDS << doublings, LONGEST_PAUSE_SECONDS, left))
