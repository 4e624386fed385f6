"""What is told of a run beyond its response: observed state, result event, metrics, log line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from core.aws import Aws
from core.errors import MigrationError, Outcome
from core.model import ObservedState, Report, Request, Result
from core.settings import Settings

logger = logging.getLogger(__name__)

SUCCEEDED = "Migration Succeeded"
FAILED = "Migration Failed"

_AT_TARGET = (Outcome.APPLIED, Outcome.UP_TO_DATE)
_SAME = ("dbi_resource_id", "database", "revision", "outcome", "target", "build")


def report_run(
    request: Request,
    answer: Result | MigrationError,
    body: Mapping[str, Any],
    aws: Aws,
    settings: Settings,
) -> bool:
    """
    Keep the observed state of the instance and publish the result.

    The database is what it is whether or not AWS takes note of it: a failure here is
    logged and counted, and never turns a true answer into another.

    Returns:
        Whether everything was reported.
    """
    report = answer.report or Report()
    try:
        if report.instance and report.dbi_resource_id:
            state = observed_state(
                answer,
                aws.parameters(report.instance).observed,
                build=settings.build,
                request_id=body["request_id"],
                at=datetime.now(UTC),
            )
            if state is not None:
                aws.write_observed(report.instance, state)
        if answer.outcome in _AT_TARGET:
            aws.put_events(SUCCEEDED, [_detail(request, body)])
        elif isinstance(answer, MigrationError):
            aws.put_events(FAILED, [_detail(request, body)])
            if settings.result_topic_arn:
                subject = f"{settings.prefix}: {answer.outcome} on {report.instance}"
                aws.publish(settings.result_topic_arn, subject, body["message"])
    except MigrationError:
        logger.exception("the run could not be reported to AWS")
        return False
    return True


def observed_state(
    answer: Result | MigrationError,
    last: ObservedState | None,
    *,
    build: str,
    request_id: str,
    at: datetime,
) -> ObservedState | None:
    """
    Return the state to keep after *answer*, or ``None`` where it says nothing new.

    Parameter Store takes few writes a second, so an unchanged success is not written; an
    unchanged failure is, since its attempts are what the sweep's patience goes by.
    """
    report = answer.report or Report()
    if last is not None and last.dbi_resource_id != report.dbi_resource_id:
        last = None
    # A run that never got to the database leaves the revision as it was last seen.
    is_seen = answer.outcome.success or report.previous_revision or report.final_revision
    state = ObservedState(
        dbi_resource_id=report.dbi_resource_id or "",
        database=report.database or "",
        revision=report.final_revision if is_seen or last is None else last.revision,
        outcome=answer.outcome.value,
        target=report.target_revision,
        build=build,
        at=at,
        request_id=request_id,
    )
    if last is None or any(getattr(last, name) != getattr(state, name) for name in _SAME):
        return state
    return None if answer.outcome.success else replace(state, attempts=last.attempts + 1)


def _detail(request: Request, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the detail of a result event: the response's body, and what asked."""
    names = (
        "instance",
        "database",
        "outcome",
        "message",
        "applied_migrations",
        "previous_revision",
        "final_revision",
        "target_revision",
        "target_source",
        "pending_migrations",
        "duration_ms",
        "request_id",
    )
    return {name: body[name] for name in names} | {
        "trigger": request.trigger.value,
        "action": request.action.value,
    }
