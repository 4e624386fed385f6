"""What is kept of a run for the next sweep: the observed state, where there is news."""

from __future__ import annotations

from datetime import datetime

from core.errors import MigrationError
from core.model import ObservedState, Report, Result

# What makes two states the same news; when and by which request they came does not count.
_SAME = ("dbi_resource_id", "database", "revision", "outcome", "target", "build")


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
    # Lambda's retries of one event are one attempt: they have its id.
    if answer.outcome.success or last.request_id == request_id:
        return None
    return state._replace(attempts=last.attempts + 1)
