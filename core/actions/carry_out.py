"""One request carried out: which action, and what a failure means to whoever asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from core.actions import bus, by_hand
from core.actions.check import check
from core.actions.look import show_plan, status
from core.actions.migrate import migrate
from core.actions.run import Run
from core.errors import (
    InstanceNotReady,
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
    except InstanceNotReady as error:
        error.report = run.report
        return _wait_on_the_bus(run, error)
    except MigrationError as error:
        error.report = run.report
        raise


def _wait_on_the_bus(run: Run, error: InstanceNotReady) -> Result:
    """
    Ask again on the bus for an instance that is still being made, until the deadline.

    Raises:
        InstanceNotReady: A direct request, or the deadline is over.
    """
    if run.request.is_direct:
        raise error
    now = datetime.now(UTC)
    # Whoever may put events could ask for years: nobody waits longer than from now on.
    latest = now + timedelta(seconds=run.settings.ready_deadline_seconds)
    until = min(run.request.wait_until or latest, latest)
    if now >= until:
        raise error
    # By the name of the cluster, where a member of it was named.
    asked = run.request._replace(instance=run.report.instance)
    waits = bus.request_later(run.cloud, asked, wait_until=until)
    return Result(
        Outcome.INCOMPLETE,
        f"{error}; it is tried again, by an event, until {waits}",
        run.report,
    )


def _ignored(run: Run, reason: str, message: str) -> Result:
    logger.info("ignored: %s", message, extra={"reason": reason})
    return Result(Outcome.IGNORED, message, run.report, reason)
