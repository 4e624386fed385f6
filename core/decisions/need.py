"""What a database needs, decided from what is known of it without a connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from core.decisions.observed import as_kept
from core.decisions.plan import resolve
from core.decisions.target import declared_target
from core.errors import MigrationError
from core.model import HEAD, Declared, ManagedDatabase, ObservedState, Parameters
from core.outcome import Outcome

# A blocked instance is tried again after 1, 2, 4, … hours, and at least once a day.
FIRST_RETRY = timedelta(hours=1)
LAST_RETRY = timedelta(days=1)
# A retryable outcome does not block at first.
RETRYABLE_AT_ONCE = 3


class Need(StrEnum):
    """What a sweep finds of one instance."""

    AT_TARGET = "at-target"
    BEHIND = "behind"
    BLOCKED = "blocked"
    UNDECLARED = "undeclared"
    LEFT = "left"


def need(
    instance: ManagedDatabase,
    parameters: Parameters,
    *,
    identifiers: Sequence[str],
    build: str,
    now: datetime,
    follow_head: bool,
) -> Need:
    """
    Decide what *instance* needs, from its parameters alone.

    A target that no run could reach is BLOCKED: each run would only refuse it once more.

    An observed state of another DbiResourceId is another database's of the same name, and
    counts for nothing. What cannot be told without a connection is BEHIND: the run decides.
    """
    observed = parameters.observed
    if observed is not None and observed.dbi_resource_id != instance.resource_id:
        observed = None
    target = _target(parameters.declared)
    if parameters.declared is not None and flaw_of(parameters.declared, identifiers):
        return Need.BLOCKED
    if observed is None:
        return Need.BEHIND
    if parameters.declared is None:
        if observed.revision is not None and not follow_head:
            return Need.UNDECLARED
        target = HEAD
    if _is_at(observed, target, identifiers):
        return Need.AT_TARGET
    # A run that failed before it knew its target has none in its state.
    is_same = observed.build == build and observed.target in (as_kept(target), None)
    since = now - observed.at
    if is_same and instance.sleeps and observed.outcome == Outcome.IGNORED:
        # It was looked at, and left: to look again would wake it.
        return Need.LEFT
    # A time ahead of ours, by a wrong clock or by hand, blocks nobody.
    if is_same and timedelta(0) <= since < _rest(observed):
        return Need.BLOCKED
    return Need.BEHIND


def flaw_of(declared: Declared, identifiers: Sequence[str]) -> str | None:
    """Say why nobody can be brought to the *declared* target by this build; ``None`` if one can."""
    try:
        resolve(identifiers, declared_target(declared).target)
    except MigrationError as error:
        text = str(error)
        named = text.startswith(declared.parameter)
        return text if named else f"{declared.parameter}: {text}"
    return None


def _rest(observed: ObservedState) -> timedelta:
    """Return for how long after *observed* its instance is left alone."""
    if _is_final(observed.outcome):
        return retry_after(observed.attempts)
    # What mends itself is asked for at every turn at first, and then ever less often.
    patient = observed.attempts - RETRYABLE_AT_ONCE
    return retry_after(patient) if _is_retryable(observed.outcome) and patient > 0 else timedelta(0)


def retry_after(attempts: int) -> timedelta:
    """Return how long to leave an instance alone whose last *attempts* ended the same way."""
    doublings = max(0, min(attempts - 1, 10))
    return min(FIRST_RETRY * (1 << doublings), LAST_RETRY)


def behind_since(
    instance: ManagedDatabase, parameters: Parameters, *, build: str, now: datetime
) -> datetime:
    """
    Return since when *instance* has been off its target.

    The observed state may be old without anybody being late: what counts is when the target
    was declared. A new build moves ``head``, and that is news until the build was tried.
    """
    declared, observed = parameters.declared, parameters.observed
    tried = observed.at if observed is not None and observed.build == build else now
    if declared is None or _target(declared) == HEAD:
        return tried
    since = declared.declared_at or (observed.at if observed is not None else now)
    return max(since, instance.created_at or since)


def _target(declared: Declared | None) -> str | None:
    """Return the declared target as written; a malformed one as well, for the run to refuse."""
    return declared.value.strip() if declared else None


def _is_at(observed: ObservedState, target: str | None, identifiers: Sequence[str]) -> bool:
    """Say whether *observed* is at *target*, as this build knows it."""
    try:
        goal = resolve(identifiers, target or HEAD)
    except MigrationError:
        return False
    return observed.revision == goal and observed.outcome in (
        Outcome.APPLIED,
        Outcome.UP_TO_DATE,
        Outcome.IGNORED,
    )


def _is_retryable(outcome: str) -> bool:
    """Say whether *outcome* may be another one at the next try, with nobody's help."""
    return outcome in Outcome.__members__ and Outcome(outcome).retryable


def _is_final(outcome: str) -> bool:
    """Say whether *outcome* is a failure that nobody's waiting will mend."""
    try:
        known = Outcome(outcome)
    except ValueError:
        return False
    return not known.success and not known.retryable and known is not Outcome.INCOMPLETE
