"""One request carried out: which action, and what a failure means to whoever asked."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from core.actions import later
from core.actions.migrate import migrate
from core.actions.run import Run
from core.decisions.patience import pause_seconds, put_off
from core.errors import (
    LeftAlone,
    MigrationError,
    NoSuchInstance,
    RunFailed,
)
from core.model import (
    Action,
    Result,
)
from core.outcome import Outcome

logger = logging.getLogger(__name__)

# The reason code of a run that met what mends itself.
PUT_OFF = "put-off"


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
        return _done(run)
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
    except Exception as error:
        # Not foreseen, and yet a run that has an instance, which the sweep is to pass over.
        failed = RunFailed(f"unexpected {type(error).__name__}: see the log of this request")
        failed.report = run.report
        raise failed from error


def _done(run: Run) -> Result:
    """Do it. What few ask for is imported then, so that no other cold start waits for it."""
    match run.request.action:
        case Action.MIGRATE:
            return migrate(run)
        case Action.STATUS:
            from core.actions.look import status

            return status(run)
        case Action.PLAN:
            from core.actions.look import show_plan

            return show_plan(run)
        case Action.CHECK:
            from core.actions.check import check

            return check(run)
        case Action.ROLLBACK:
            from core.actions.by_hand import rollback

            return rollback(run)
        case Action.STAMP:
            from core.actions.by_hand import stamp

            return stamp(run)
        case Action.ADOPT:
            from core.actions.by_hand import adopt

            return adopt(run)


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
