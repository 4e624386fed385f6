"""Which instances need a run: decided without opening a connection, requested on the bus."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from core.access import naming
from core.access.naming import Register
from core.actions import bus
from core.actions.bus import Bus
from core.budget import Budget
from core.decisions.eligibility import Verdict, eligibility, is_opted_in
from core.decisions.need import Need, behind_since, flaw_of, need
from core.decisions.orphans import Live, gone
from core.errors import MigrationError, Rejected
from core.model import (
    FLEET,
    ManagedDatabase,
    Parameters,
    Report,
    Result,
    Sweep,
    TargetSource,
)
from core.outcome import Outcome
from core.settings import Settings

logger = logging.getLogger(__name__)

MOST_FLAWS_SHOWN = 3
MOST_ORPHANS_SHOWN = 10


class Fleet(Register, Bus, Protocol):
    """What a sweep needs of AWS; ``core.aws`` has the real one."""

    def read_only_clusters(self) -> frozenset[str]: ...
    def in_deployments(self) -> frozenset[str]: ...
    def all_parameters(self) -> dict[str, Parameters]: ...
    def login_secrets(self) -> Iterator[tuple[str, dict[str, str]]]: ...


@dataclass(slots=True)
class Findings:
    """
    What a sweep saw.

    Attributes:
        flaws: Why declared targets cannot be reached, each once.
        skipped: Reason codes and their counts.
        orphaned_secrets: How many login secrets have outlived their database; ``None`` where
            that was not looked at.
        strange_states: How many observed states were not written by us.
        oldest_behind_seconds: How long the longest-waiting instance has been off its target.
    """

    requested: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    flaws: list[str] = field(default_factory=list)
    behind: int = 0
    orphaned_secrets: int | None = None
    strange_states: int = 0
    oldest_behind_seconds: float = 0.0
    skipped: Counter[str] = field(default_factory=Counter)
    resumes_after: str | None = None


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
    # Before the databases: of what is made meanwhile, all is seen.
    secrets = _login_secrets(fleet) if asked.full and asked.after is None else None
    known = _Known.of(fleet, settings)
    if secrets is not None:
        found.orphaned_secrets = _orphaned(secrets, known, settings)
    for instance in known.databases:
        name = instance.identifier
        if asked.after is not None and name <= asked.after:
            continue
        # One at least is looked at, so that the chain of continuations makes progress.
        if found.resumes_after is not None and budget.left() < settings.minimum_slice_seconds / 2:
            break
        found.resumes_after = name
        if not _is_ours(instance, settings, found, known):
            continue
        its = parameters.get(name, fallback)
        found.strange_states += its.has_strange_state
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
            since = behind_since(instance, its, build=settings.build, now=now())
            age = (now() - since).total_seconds()
            found.oldest_behind_seconds = max(found.oldest_behind_seconds, age)
        if wants is Need.BLOCKED:
            _pass_over(name, its, identifiers, found)
        # Only to look, nobody is woken: what there is to do for it is known without.
        elif wants is Need.BEHIND or (asked.full and not instance.sleeps):
            wanted.append(name)
    else:
        found.resumes_after = None
    _request(wanted, fleet, found)
    if found.resumes_after is not None:
        bus.request_sweep(fleet, after=found.resumes_after, full=asked.full)
    return _result(found), found


def _pass_over(
    name: str, parameters: Parameters, identifiers: Sequence[str], found: Findings
) -> None:
    """Note that *name* is blocked, and tell why: by a target that is wrong, or by its last run."""
    found.blocked.append(name)
    flaw = flaw_of(parameters.declared, identifiers) if parameters.declared else None
    if flaw is not None and flaw not in found.flaws:
        found.flaws.append(flaw)
        logger.error("a declared target cannot be reached: %s", flaw)
    error = flaw or (parameters.observed.error if parameters.observed else None)
    about = {"reason": "blocked", "instance": name, "error": error}
    logger.info("passed over: %s is blocked: %s", name, error or "see its last run", extra=about)


def bump_fleet(
    fleet: Fleet,
    identifiers: Sequence[str],
    settings: Settings,
    *,
    now: Callable[[], datetime],
) -> tuple[Result, Findings]:
    """
    Request a run for every managed instance that follows the fleet's parameter.

    A cluster that may be asleep is not woken where its observed state says that it is there.

    Raises:
        Rejected: The fleet's target cannot be reached by this build: nobody is asked to run.
    """
    parameters = fleet.all_parameters()
    declared = parameters.get(FLEET, Parameters()).declared
    flaw = flaw_of(declared, identifiers) if declared else None
    if flaw is not None:
        raise Rejected(f"{flaw}; no run was requested")
    found = Findings()
    known = _Known.of(fleet, settings)

    def has_work(instance: ManagedDatabase) -> bool:
        wants = need(
            instance,
            parameters.get(instance.identifier, Parameters(declared)),
            identifiers=identifiers,
            build=settings.build,
            now=now(),
            follow_head=settings.follow_head,
        )
        return wants in (Need.BEHIND, Need.BLOCKED)

    followers = [
        instance.identifier
        for instance in known.databases
        if _is_ours(instance, settings, found, known)
        and _follows(parameters.get(instance.identifier))
        and (has_work(instance) or not instance.sleeps)
    ]
    _request(followers, fleet, found)
    return _result(found), found


def _follows(parameters: Parameters | None) -> bool:
    declared = parameters.declared if parameters else None
    return declared is None or declared.source is TargetSource.FLEET


def _login_secrets(fleet: Fleet) -> list[tuple[str, dict[str, str]]] | None:
    """Return name and tags of each login secret; ``None`` where they cannot be listed."""
    try:
        return list(fleet.login_secrets())
    except MigrationError as error:
        # A count is not worth a sweep.
        logger.warning("the login secrets were not counted: %s", error)
        return None


def _orphaned(secrets: list[tuple[str, dict[str, str]]], known: _Known, settings: Settings) -> int:
    """Count those of *secrets* that have outlived their database, and name some."""
    live = Live.of(known.databases)
    left = [name for name, tags in secrets if gone(name, tags, settings.prefix, live)]
    if left:
        shown = ", ".join(left[:MOST_ORPHANS_SHOWN]) + (", …" if left[MOST_ORPHANS_SHOWN:] else "")
        logger.info("%d login secret(s) have outlived their database: %s", len(left), shown)
    return len(left)


class _Known(NamedTuple):
    """Every database that there is, by name, and the ARNs of those that take no change now."""

    databases: list[ManagedDatabase]
    deployed: frozenset[str]
    secondaries: frozenset[str]

    @classmethod
    def of(cls, fleet: Fleet, settings: Settings) -> _Known:
        databases = naming.fleet(fleet, settings)
        may_be_copies = any(one.is_aurora and is_opted_in(one, settings) for one in databases)
        return cls(
            databases,
            fleet.in_deployments(),
            fleet.read_only_clusters() if may_be_copies else frozenset(),
        )


def _is_ours(instance: ManagedDatabase, settings: Settings, found: Findings, known: _Known) -> bool:
    """Say whether a run for *instance* makes sense; count it where it does not."""
    verdict = eligibility(
        instance,
        settings,
        is_in_deployment=instance.arn in known.deployed,
        is_secondary=instance.arn in known.secondaries,
    )
    if verdict.verdict is Verdict.USE:
        return True
    found.skipped[verdict.reason] += 1
    about = {"reason": verdict.reason, "instance": instance.identifier}
    logger.info("skipped: %s", verdict.message, extra=about)
    return False


def _request(names: list[str], fleet: Fleet, found: Findings) -> None:
    bus.request_runs(fleet, names)
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
    if found.flaws:
        shown = found.flaws[:MOST_FLAWS_SHOWN]
        message += "; " + "; ".join(shown) + ("; …" if len(found.flaws) > len(shown) else "")
    if count:
        return Result(Outcome.REQUESTED, message, report)
    if found.blocked:
        return Result(Outcome.BLOCKED, f"{message}; see the observed state of each", report)
    return Result(Outcome.UP_TO_DATE, message, report)
