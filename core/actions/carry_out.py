"""One request carried out: which action, and what a failure means to whoever asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from core.actions import by_hand, later
from core.actions.check import check
from core.actions.look import show_plan, status
from core.actions.migrate import migrate
from core.actions.run import Run
from core.decisions.patience import pause_seconds, put_off
from core.errors import (
    LeftAlone,
    MigrationError,
    NoSuchInstance,
)
from core.model import (
    Action,
    Result,
)
from core.outcome import Outcome

logger = logging.getLogger(__name__)

# The reason code of a run that met what mends itself.
PUT_OFF = "put-off"

_ACTIONS: Mapping[Action, Callable[[Run], Result]] = {
    Action.MIGRATE: migrate,
    Action.STATUS: status,
    Action.PLAN: show_plan,
    Action.CHECK: check,
    Action.ROLLBACK: by_hand.rollback,
    Action.STAMP: by_hand.stamp,
    Action.ADOPT: by_hand.adopt,
}


def carry_out(run: Run) -> Result:
    """
    Do what the request of *run* asks for.

    Raises:
        MigrationError: Why it was not done; ``error.report`` has what was known by then.
    """
    run.report.instance = run.request.instance
    try:
        # A broken history is found before anything is touched.
        _ = run.revisions.identifiers
        return _ACTIONS[run.request.action](run)
    except LeftAlone as left:
        return _ignored(run, left.reason, str(left))
    except NoSuchInstance as error:
        if not run.request.is_direct:
            return _ignored(run, "no-such-instance", str(error))
        error.report = run.report
        raise
    except MigrationError as error:
        error.report = run.report
        return _put_off(run, error)


def _put_off(run: Run, error: MigrationError) -> Result:
    """
    Have the event of *run* come again later, where *error* mends itself by then.

    Raises:
        MigrationError: That error: it does not, has not for too long, a person reads it, or the
            queue does not take the event.
    """
    if run.event is None or not run.settings.waiting_queue_url:
        raise error
    now = datetime.now(UTC)
    deadline = timedelta(seconds=run.settings.ready_deadline_seconds)
    waiting = put_off(error, run.request.waiting, deadline=deadline, now=now)
    if waiting is None:
        raise error
    seconds = pause_seconds(waiting, now=now)
    try:
        later.ask_later(run.cloud, run.event, waiting, delay_seconds=seconds)
    except MigrationError as refused:
        # What it met is what has to be told, and Lambda tries it again.
        logger.error("it could not be put off: %s", refused)  # noqa: TRY400 - that is all of it
        raise error from refused
    until = waiting.until.isoformat(timespec="seconds")
    message = f"{error}; it is tried again in {seconds} s, and until {until}"
    logger.info("put off: %s", message, extra={"times": waiting.times})
    return Result(Outcome.INCOMPLETE, message, run.report, PUT_OFF)


def _ignored(run: Run, reason: str, message: str) -> Result:
    logger.info("ignored: %s", message, extra={"reason": reason})
    return Result(Outcome.IGNORED, message, run.report, reason)
