"""Which instances need a run: decided without opening a connection, requested on the bus."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from core.budget import Budget
from core.decisions.eligibility import Verdict, eligibility
from core.decisions.plan import resolve
from core.errors import MigrationError
from core.model import (
    FLEET,
    HEAD,
    MIGRATION_REQUESTED,
    SWEEP_REQUESTED,
    Action,
    Declared,
    Instance,
    ObservedState,
    Parameters,
    Report,
    Result,
    Sweep,
    TargetSource,
)
from core.outcome import Outcome
from core.settings import Settings

logger = logging.getLogger(__name__)

# A blocked instance is tried again after 1, 2, 4, … hours, and at least once a day.
FIRST_RETRY = timedelta(hours=1)
LAST_RETRY = timedelta(days=1)


class Fleet(Protocol):
    """What a sweep needs of AWS; ``core.aws`` has the real one."""

    def instances(self) -> Iterator[Instance]: ...
    def all_parameters(self) -> dict[str, Parameters]: ...
    def put_events(self, detail_type: str, details: Sequence[Mapping[str, object]]) -> None: ...


class Need(StrEnum):
    """What a sweep finds of one instance."""

    AT_TARGET = "at-target"
    BEHIND = "behind"
    BLOCKED = "blocked"
    UNDECLARED = "undeclared"


@dataclass(slots=True)
class Findings:
    """
    What a sweep saw.

    Attributes:
        skipped: Reason codes and their counts.
        oldest_behind_seconds: How long the longest-waiting instance has been off its target.
    """

    requested: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    behind: int = 0
    oldest_behind_seconds: float = 0.0
    skipped: Counter[str] = field(default_factory=Counter)
    resumes_after: str | None = None


def need(
    instance: Instance,
    parameters: Parameters,
    *,
    identifiers: Sequence[str],
    build: str,
    now: datetime,
    follow_head: bool,
) -> Need:
    """
    Decide what *instance* needs, from its parameters alone.

    An observed state of another DbiResourceId is another database's of the same name, and
    counts for nothing. What cannot be told without a connection is BEHIND: the run decides.
    """
    observed = parameters.observed
    if observed is not None and observed.dbi_resource_id != instance.dbi_resource_id:
        observed = None
    target = _target(parameters.declared)
    if observed is None:
        return Need.BEHIND
    if parameters.declared is None:
        if observed.revision is not None and not follow_head:
            return Need.UNDECLARED
        target = HEAD
    if _is_at(observed, target, identifiers):
        return Need.AT_TARGET
    # A run that failed before it knew its target has none in its state.
    is_same = observed.build == build and observed.target in (target, None)
    is_blocked = is_same and _is_final(observed.outcome)
    if is_blocked and now < observed.at + retry_after(observed.attempts):
        return Need.BLOCKED
    return Need.BEHIND


def retry_after(attempts: int) -> timedelta:
    """Return how long to leave an instance alone whose last *attempts* ended the same way."""
    doublings = max(0, min(attempts - 1, 10))
    return min(FIRST_RETRY * (1 << doublings), LAST_RETRY)


def sweep(
    asked: Sweep,
    fleet: Fleet,
    identifiers: Sequence[str],
    settings: Settings,
    *,
    budget: Budget,
    now: Callable[[], datetime],
) -> tuple[Result, Findings]:
    """Request a run for every managed instance that is not at its declared target."""
    parameters = fleet.all_parameters()
    fallback = parameters.get(FLEET, Parameters())
    found = Findings()
    wanted: list[str] = []
    for instance in sorted(fleet.instances(), key=lambda one: one.identifier):
        name = instance.identifier
        if asked.after is not None and name <= asked.after:
            continue
        # One at least is looked at, so that the chain of continuations makes progress.
        if found.resumes_after is not None and budget.left() < settings.minimum_slice_seconds / 2:
            break
        found.resumes_after = name
        if not _is_ours(instance, settings, found):
            continue
        its = parameters.get(name, fallback)
        wants = need(
            instance,
            its,
            identifiers=identifiers,
            build=settings.build,
            now=now(),
            follow_head=settings.follow_head,
        )
        if wants in (Need.BEHIND, Need.BLOCKED) and its.observed is not None:
            found.behind += 1
            since = _behind_since(instance, its, build=settings.build, now=now())
            age = (now() - since).total_seconds()
            found.oldest_behind_seconds = max(found.oldest_behind_seconds, age)
        if wants is Need.BLOCKED:
            found.blocked.append(name)
            about = {"reason": "blocked", "instance": name}
            logger.info("passed over: %s is blocked", name, extra=about)
        elif wants is Need.BEHIND or asked.full:
            wanted.append(name)
    else:
        found.resumes_after = None
    _request(wanted, fleet, found)
    if found.resumes_after is not None:
        detail = {"after": found.resumes_after, "full": asked.full}
        fleet.put_events(SWEEP_REQUESTED, [detail])
    return _result(found), found


def bump_fleet(fleet: Fleet, settings: Settings) -> tuple[Result, Findings]:
    """Request a run for every managed instance that follows the fleet's parameter."""
    parameters = fleet.all_parameters()
    found = Findings()
    followers = [
        instance.identifier
        for instance in fleet.instances()
        if _is_ours(instance, settings, found) and _follows(parameters.get(instance.identifier))
    ]
    _request(followers, fleet, found)
    return _result(found), found


def _follows(parameters: Parameters | None) -> bool:
    declared = parameters.declared if parameters else None
    return declared is None or declared.source is TargetSource.FLEET


def _is_ours(instance: Instance, settings: Settings, found: Findings) -> bool:
    """Say whether a run for *instance* makes sense; count it where it does not."""
    verdict = eligibility(instance, settings)
    if verdict.verdict in (Verdict.USE, Verdict.REFUSE):
        return True
    found.skipped[verdict.reason] += 1
    about = {"reason": verdict.reason, "instance": instance.identifier}
    logger.info("skipped: %s", verdict.message, extra=about)
    return False


def _request(names: list[str], fleet: Fleet, found: Findings) -> None:
    fleet.put_events(
        MIGRATION_REQUESTED, [{"instance": name, "action": Action.MIGRATE.value} for name in names]
    )
    found.requested.extend(names)


def _result(found: Findings) -> Result:
    report = Report(
        details={
            "requested": found.requested,
            "blocked": found.blocked,
            "skipped": dict(found.skipped),
        }
    )
    count = len(found.requested)
    message = (
        f"Requested {count} run(s); {len(found.blocked)} blocked, {found.skipped.total()} skipped"
    )
    return Result(Outcome.REQUESTED if count else Outcome.UP_TO_DATE, message, report)


def _target(declared: Declared | None) -> str | None:
    """Return the declared target as written; a malformed one as well, for the run to refuse."""
    return declared.value.strip() if declared else None


def _behind_since(
    instance: Instance, parameters: Parameters, *, build: str, now: datetime
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


def _is_final(outcome: str) -> bool:
    """Say whether *outcome* is a failure that nobody's waiting will mend."""
    try:
        known = Outcome(outcome)
    except ValueError:
        return False
    return not known.success and not known.retryable and known is not Outcome.INCOMPLETE
