"""The story: one request carried out on one database."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from core import history
from core.budget import Budget, pauses
from core.database import (
    acquire_lock,
    connect,
    is_broken,
    query,
    session_settings,
    translating,
)
from core.eligibility import is_opted_in
from core.errors import (
    InstanceNotReady,
    MigrationError,
    NoSuchInstance,
    NotReady,
    Outcome,
    Rejected,
    RevisionFailed,
    RunFailed,
    WrongPassword,
)
from core.history import Recorder
from core.locate import (
    Directory,
    NotEligible,
    Place,
    locate,
    master_secret_name,
    with_password_at,
)
from core.model import (
    HEAD,
    Action,
    Choice,
    Declared,
    Parameters,
    Report,
    Request,
    Result,
    TargetSource,
)
from core.plan import Plan, choose_target, plan, resolve
from core.settings import Settings

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Session

    from core.operations import Vault
    from core.revisions import Revisions

logger = logging.getLogger(__name__)

REQUESTED = "Migration Requested"

# 55P03 lock_not_available, 40P01 deadlock_detected: somebody else was there first.
_WORTH_ANOTHER_TRY = frozenset({"55P03", "40P01"})
_QUERY_CANCELED = "57014"
_LOGGED_APPLIED = 20


class Cloud(Directory, Protocol):
    """What a run needs of AWS; ``core.aws`` has the real one, tests have a small one."""

    def parameters(self, instance: str) -> Parameters: ...
    def put_events(self, detail_type: str, details: Sequence[Mapping[str, object]]) -> None: ...
    def vault(self, name: str, address: Mapping[str, object]) -> Vault: ...


@dataclass(slots=True)
class Run:
    """One carrying-out of one request, and what is known of it so far."""

    request: Request
    cloud: Cloud
    revisions: Revisions
    settings: Settings
    budget: Budget
    request_id: str
    report: Report = field(default_factory=Report)


def carry_out(run: Run) -> Result:
    """
    Do what the request of *run* asks for.

    Raises:
        MigrationError: Why it was not done; ``error.report`` has what was known by then.
    """
    actions = {Action.MIGRATE: migrate, Action.STATUS: status, Action.PLAN: dry_run}
    run.report.instance = run.request.instance
    try:
        return actions[run.request.action](run)
    except NotEligible as skipped:
        return _ignored(run, skipped.reason, str(skipped))
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


def migrate(run: Run) -> Result:
    """Bring the database to its target."""
    place, session = _enter(run)
    with closing(session), translating(place.database):
        acquire_lock(session, run.budget, wait_seconds=run.settings.lock_wait_seconds)
        at = history.position(session)
        run.report.previous_revision = run.report.final_revision = at.current
        choice = _choice(run, at.current)
        if choice is None:
            return _ignored(
                run,
                "no-declared-target",
                f"{place.name} is at {at.current}, nobody has declared a target: it is left there",
            )
        todo = plan(run.revisions.identifiers, at.current, choice.target)
        run.report.pending = list(todo.revisions)
        if not todo:
            run.report.reached = True
            message = "No pending migrations - database is up to date!"
            logger.info(message)
            return Result(Outcome.UP_TO_DATE, message, run.report)
        _tell(run, todo)
        if at.last_row == 0:
            history.create(session)
        is_done = _apply(run, place, session, todo, at.last_row)
    if not is_done:
        return _incomplete(run, place)
    run.report.reached = True
    message = (
        f"Successfully applied {len(run.report.applied)} migration(s)"
        f" to reach {run.report.final_revision}"
    )
    logger.info("%s: %s", message, ", ".join(run.report.applied))
    return Result(Outcome.APPLIED, message, run.report)


def status(run: Run) -> Result:
    """Report where the database stands; takes no lock and writes nothing."""
    place, session = _enter(run)
    with closing(session), translating(place.database):
        at = history.position(session)
        rows = history.rows(session) if at.last_row else []
    report = run.report
    report.previous_revision = report.final_revision = at.current
    head = resolve(run.revisions.identifiers, HEAD)
    report.details = {
        "head_revision": head,
        "history": [
            {
                "revision": row.revision,
                "direction": row.direction,
                "description": row.description,
                "at": row.at.astimezone(UTC).isoformat(),
                "by": row.by,
            }
            for row in rows
        ],
    }
    where = f"{place.name} is at {at.current or 'base'}; the head of this build is {head}"
    try:
        choice = _choice(run, at.current)
        report.pending = list(
            plan(run.revisions.identifiers, at.current, choice.target if choice else HEAD).revisions
        )
    except MigrationError as problem:
        # A status is an answer also where a migrate would be none: it says why.
        return Result(Outcome.STATUS, f"{where}; migrate would fail: {problem}", report)
    return Result(Outcome.STATUS, f"{where}; {len(report.pending)} pending", report)


def dry_run(run: Run) -> Result:
    """Report what a migrate would apply, with its SQL; takes no lock and writes nothing."""
    place, session = _enter(run)
    with closing(session), translating(place.database):
        at = history.position(session)
    run.report.previous_revision = run.report.final_revision = at.current
    choice = _choice(run, at.current)
    if choice is None:
        raise _no_target(place.name)
    todo = plan(run.revisions.identifiers, at.current, choice.target)
    run.report.pending = list(todo.revisions)
    statements = run.revisions.sql(todo.revisions, at.current)
    run.report.details = {
        "plan": [
            {
                "revision": identifier,
                "description": run.revisions.descriptions[identifier],
                "sql": statements[identifier],
            }
            for identifier in todo.revisions
        ]
    }
    message = f"Would apply {len(todo.revisions)} migration(s) to reach {todo.target or 'base'}"
    return Result(Outcome.PLANNED, message, run.report)


def _enter(run: Run) -> tuple[Place, Session]:
    """
    Find the database and connect, waiting for what is not there yet.

    Raises:
        NotReady: The budget ended first, less the slice that a revision needs.
    """
    for pause in pauses(0.2, 15.0):
        try:
            place = locate(run.request, run.cloud, run.settings)
            run.report.instance = place.name
            run.report.database = place.database.name
            if place.instance is not None:
                run.report.dbi_resource_id = place.instance.dbi_resource_id
            return place, _connect(place, run)
        except NotReady as error:
            if run.budget.left() < pause + run.settings.minimum_slice_seconds:
                raise
            logger.info("not ready yet, trying again in %.1f s: %s", pause, error)
            run.budget.sleep(pause)
    raise AssertionError("pauses never end")


def _connect(place: Place, run: Run) -> Session:
    """Connect; with a password that was just rotated away, try the current and the next one."""

    def attempt(there: Place) -> Session:
        return connect(
            there.database,
            relation_lock_timeout_ms=run.settings.relation_lock_timeout_ms,
            timeout_seconds=run.budget.left(),
        )

    try:
        return attempt(place)
    except WrongPassword:
        for stage in ("AWSCURRENT", "AWSPENDING"):
            other = with_password_at(place, run.cloud, stage)
            if other is None:
                continue
            try:
                return attempt(other)
            except WrongPassword:
                continue
        raise


def _choice(run: Run, current: str | None) -> Choice | None:
    """Choose the target, reading the parameter now; remember it in the report."""
    declared: Declared | None = None
    if run.request.target is None and run.request.instance is not None:
        declared = run.cloud.parameters(run.request.instance).declared
    choice = choose_target(
        run.request, declared, at_base=current is None, follow_head=run.settings.follow_head
    )
    if choice is None and run.request.is_direct and run.request.action is Action.MIGRATE:
        raise _no_target(run.request.instance)
    if choice is not None:
        run.report.target_revision, run.report.target_source = choice.target, choice.source
    return choice


def _no_target(name: str | None) -> Rejected:
    return Rejected(
        f"target_revision: nobody has declared a target for {name}: "
        "give target_revision, or write the instance's parameter"
    )


def _tell(run: Run, todo: Plan) -> None:
    """Log what is applied already and what will be, before anything is done."""
    identifiers = run.revisions.identifiers
    start = identifiers.index(todo.current) + 1 if todo.current else 0
    if start > _LOGGED_APPLIED:
        logger.info("%d earlier revisions: already applied", start - _LOGGED_APPLIED)
    for identifier in identifiers[max(0, start - _LOGGED_APPLIED) : start]:
        logger.info("%s: already applied (%s)", identifier, run.revisions.descriptions[identifier])
    for identifier in todo.revisions:
        logger.info("%s: will apply (%s)", identifier, run.revisions.descriptions[identifier])
    logger.info(
        "applying %d migration(s) to reach %s (asked for %s by %s)",
        len(todo.revisions),
        todo.target,
        run.report.target_revision,
        run.report.target_source,
    )


def _apply(run: Run, place: Place, session: Session, todo: Plan, last_row: int) -> bool:
    """
    Apply *todo*, then read back what the database says of it.

    Returns:
        Whether all of it is applied; if not, the time budget ended between two revisions.

    Raises:
        RevisionFailed: A revision failed, for good or for too many tries.
        NotReady: The connection broke.
    """
    try:
        is_done = _apply_each(run, place, session, todo)
    except (RevisionFailed, NotReady) as error:
        code = getattr(error, "sqlstate", None)
        if is_broken(session) or (code or "").startswith("57P"):
            _read_back_anew(run, place, todo, last_row)
            raise NotReady(
                f"the connection broke ({error}): run the same request again, and it carries on"
            ) from error
        _read_back(run, session, todo, last_row)
        if code == _QUERY_CANCELED and run.report.applied:
            # It had what was left of the budget; the next run gives it a whole one.
            return False
        raise
    _read_back(run, session, todo, last_row)
    if is_done and run.report.final_revision != todo.target:
        raise RunFailed(
            f"the database says {run.report.final_revision}, not {todo.target}: a revision "
            "changed schema day2 by itself; compare it with the history"
        )
    return is_done


def _apply_each(run: Run, place: Place, session: Session, todo: Plan) -> bool:
    """Apply the revisions of *todo*; one that meets a lock is tried again."""
    vault = run.cloud.vault(place.name, place.address)
    recorder = Recorder(
        trigger=run.request.trigger,
        request_id=run.request_id,
        checksums=run.revisions.checksums,
    )
    begun: list[str] = []
    tries = 0
    is_stopped = False

    def before(identifier: str) -> str | None:
        nonlocal is_stopped, tries
        left = run.budget.left()
        if identifier not in begun:
            # What came before it is committed.
            if begun:
                _settle(vault)
                logger.info("%s: applied", begun[-1])
            if begun and left < run.settings.minimum_slice_seconds:
                is_stopped = True
                return None
            begun.append(identifier)
            tries = 0
        tries += 1
        return session_settings(session, statement_timeout_seconds=left)

    for pause in pauses(0.2, 3.0):
        remaining = todo.revisions[max(0, len(begun) - 1) :]
        try:
            run.revisions.run(
                session,
                remaining,
                upward=True,
                recorder=recorder,
                before=before,
                attributes={"vault": vault},
            )
        except RevisionFailed as error:
            has_time = run.budget.left() > pause + run.settings.relation_lock_timeout_ms / 1000
            may_retry = tries < run.settings.revision_tries and has_time
            if error.sqlstate not in _WORTH_ANOTHER_TRY or not may_retry:
                raise
            logger.info("%s: met a lock (%s), trying again", error.revision, error.sqlstate)
            run.budget.sleep(pause)
        else:
            break
    if not is_stopped:
        _settle(vault)
        logger.info("%s: applied", begun[-1])
    return not is_stopped


def _settle(vault: Vault) -> None:
    """Settle the passwords of a committed revision; the next run does it where this fails."""
    try:
        vault.settle()
    except MigrationError:
        logger.exception("a login's secret stays tagged as unset: its password is set once more")


def _read_back(run: Run, session: Session, todo: Plan, last_row: int) -> None:
    """Read what was committed by this run: Alembic's own word is given before the commit."""
    query(session, session_settings(session, statement_timeout_seconds=run.budget.left() or 5))
    at = history.position(session)
    run.report.final_revision = at.current
    run.report.applied = [
        row.revision
        for row in history.rows(session, after=last_row)
        if row.request_id == run.request_id and row.revision is not None
    ]
    run.report.pending = [one for one in todo.revisions if one not in run.report.applied]


def _read_back_anew(run: Run, place: Place, todo: Plan, last_row: int) -> None:
    """Read back over a new connection, if there is one to be had; else nothing is claimed."""
    try:
        with closing(_connect(place, run)) as session:
            _read_back(run, session, todo, last_row)
    except MigrationError as error:
        run.report.final_revision = None
        run.report.details["unknown"] = f"what was committed could not be read back: {error}"


def _incomplete(run: Run, place: Place) -> Result:
    """Answer a run whose time ended between revisions, and request the rest on the bus."""
    report = run.report
    done = f"Applied {len(report.applied)} migration(s), to {report.final_revision}"
    left = f"{len(report.pending)} left when the time budget ended"
    if not _can_carry_on(run, place):
        return Result(Outcome.INCOMPLETE, f"{done}; {left}: send the same request again", report)
    detail: dict[str, object] = {"instance": place.name, "action": Action.MIGRATE.value}
    if report.target_source in (TargetSource.REQUEST, TargetSource.DEFAULT):
        detail["target_revision"] = report.target_revision
    run.cloud.put_events(REQUESTED, [detail])
    return Result(Outcome.INCOMPLETE, f"{done}; {left} and were requested on the bus", report)


def _can_carry_on(run: Run, place: Place) -> bool:
    """Say whether a request on the bus, which names no secret, could do the rest."""
    return (
        place.instance is not None
        and is_opted_in(place.instance, run.settings)
        and (
            run.settings.iam_authentication
            or master_secret_name(place.instance, run.settings) is not None
        )
    )


def _wait_on_the_bus(run: Run, error: InstanceNotReady) -> Result:
    """
    Ask again on the bus for an instance that is still being made, until the deadline.

    Raises:
        InstanceNotReady: A direct request, or the deadline is over.
    """
    if run.request.is_direct:
        raise error
    now = datetime.now(UTC)
    until = run.request.wait_until or now + timedelta(seconds=run.settings.ready_deadline_seconds)
    if now >= until:
        raise error
    detail: dict[str, object] = {
        "instance": run.request.instance,
        "action": run.request.action.value,
        "wait_until": until.isoformat(timespec="seconds"),
    }
    if run.request.target is not None:
        detail["target_revision"] = run.request.target
    run.cloud.put_events(REQUESTED, [detail])
    return Result(
        Outcome.INCOMPLETE,
        f"{error}; asked again on the bus, until {detail['wait_until']}",
        run.report,
    )


def _ignored(run: Run, reason: str, message: str) -> Result:
    logger.info("ignored: %s", message, extra={"reason": reason})
    return Result(Outcome.IGNORED, message, run.report, reason)
