"""The story: one request carried out on one database."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from core import history
from core.apply import apply, reconcile_logins
from core.database import acquire_lock, translating
from core.eligibility import is_opted_in
from core.entry import enter
from core.errors import (
    BehindCurrent,
    InstanceNotReady,
    MigrationError,
    NoSuchInstance,
    Rejected,
    RunFailed,
)
from core.history import Position
from core.locate import NotEligible, Place, master_secret_name
from core.model import (
    HEAD,
    MIGRATION_REQUESTED,
    Action,
    Choice,
    Declared,
    HistoryRow,
    Result,
    TargetSource,
)
from core.outcome import Outcome
from core.plan import Plan, plan, resolve
from core.run import Run
from core.target import choose_target

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Session

logger = logging.getLogger(__name__)

_LOGGED_APPLIED = 20


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
        return _action(run.request.action)(run)
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


def _action(action: Action) -> Callable[[Run], Result]:
    """Return what *action* does; what few runs need is imported by them only."""
    match action:
        case Action.MIGRATE:
            return migrate
        case Action.STATUS:
            return status
        case Action.PLAN:
            return dry_run
        case Action.CHECK:
            from core.check import check

            return check
    from core import by_hand

    return {
        Action.ROLLBACK: by_hand.rollback,
        Action.STAMP: by_hand.stamp,
        Action.ADOPT: by_hand.adopt,
    }[action]


def migrate(run: Run) -> Result:
    """Bring the database to its target."""
    place, session = enter(run)
    with closing(session), translating(place.database):
        acquire_lock(session, run.budget, wait_seconds=run.settings.lock_wait_seconds)
        at = history.position(session)
        run.report.previous_revision = run.report.final_revision = at.current
        choice = _choice(run, at.current)
        if choice is None:
            message = f"{place.name} is at {at.current}, nobody has declared a target: left there"
            return _ignored(run, "no-declared-target", message)
        todo = _plan(run, place, at.current, choice)
        _check_files(run, session, at)
        if not todo:
            reconcile_logins(run, place, session)
            message = "No pending migrations - database is up to date!"
            logger.info(message)
            return Result(Outcome.UP_TO_DATE, message, run.report)
        _tell(run, todo)
        if at.last_row == 0:
            history.create(session)
        is_done = apply(run, place, session, todo, last_row=at.last_row)
        if is_done:
            reconcile_logins(run, place, session)
    if not is_done:
        return _incomplete(run, place)
    message = (
        f"Successfully applied {len(run.report.applied)} migration(s)"
        f" to reach {run.report.final_revision}"
    )
    logger.info("%s: %s", message, ", ".join(run.report.applied))
    return Result(Outcome.APPLIED, message, run.report)


def status(run: Run) -> Result:
    """Report where the database stands; takes no lock and writes nothing."""
    place, session = enter(run)
    with closing(session), translating(place.database):
        at = history.position(session)
        rows = history.rows(session) if at.last_row else []
    report = run.report
    report.previous_revision = report.final_revision = at.current
    report.changed_files = _changed_files(run, rows)
    head = resolve(run.revisions.identifiers, HEAD)
    report.details = {
        "head_revision": head,
        "changed_files": report.changed_files,
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
    place, session = enter(run)
    with closing(session), translating(place.database):
        at = history.position(session)
    run.report.previous_revision = run.report.final_revision = at.current
    choice = _choice(run, at.current)
    if choice is None:
        raise _no_target(place.name)
    todo = _plan(run, place, at.current, choice)
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


def _choice(run: Run, current: str | None) -> Choice | None:
    """Choose the target, reading the parameter now; remember it in the report."""
    declared: Declared | None = None
    if run.request.target is None and run.request.instance is not None:
        declared = run.cloud.parameters(run.request.instance).declared
        if declared is not None:
            # As written: a malformed one is what the sweep must know was refused.
            run.report.target_revision = declared.value.strip()
    choice = choose_target(
        run.request, declared, at_base=current is None, follow_head=run.settings.follow_head
    )
    if choice is None and run.request.is_direct and run.request.action is Action.MIGRATE:
        raise _no_target(run.request.instance)
    if choice is not None:
        run.report.target_revision, run.report.target_source = choice.target, choice.source
    return choice


def _plan(run: Run, place: Place, current: str | None, choice: Choice) -> Plan:
    """
    Plan the way to the target, and note it in the report.

    Raises:
        BehindCurrent: With the exact request that goes back, which only a person may send.
    """
    try:
        todo = plan(run.revisions.identifiers, current, choice.target)
    except BehindCurrent as error:
        who = {"instance": place.name} if place.instance else {}
        if run.request.secret_name:
            who["secret_name"] = run.request.secret_name
        run.report.details["rollback_request"] = {
            **who,
            "action": Action.ROLLBACK.value,
            "target_revision": error.target,
            "from_revision": error.current,
        }
        raise
    run.report.pending = list(todo.revisions)
    return todo


def _changed_files(run: Run, rows: list[HistoryRow]) -> list[str]:
    """Return the revisions whose files are no longer what was applied."""
    kept = history.applied_checksums(rows)
    return [one for one, now in run.revisions.checksums.items() if kept.get(one, now) != now]


def _check_files(run: Run, session: Session, at: Position) -> None:
    """
    Log the revisions whose files changed after they were applied; refuse, where that is wanted.

    A container reads the whole history of a database once: until its last row is another,
    nothing that is compared here can have changed.

    Raises:
        RunFailed: A file changed, and the parameter StrictChecksums is true.
    """
    compared = run.revisions.compared
    if at not in compared:
        compared[at] = _changed_files(run, history.rows(session) if at.last_row else [])
    run.report.changed_files = list(compared[at])
    if not run.report.changed_files:
        return
    names = ", ".join(run.report.changed_files)
    logger.warning("changed after it was applied: the file of %s", names)
    if run.settings.strict_checksums:
        raise RunFailed(
            f"the file of {names} changed after it was applied: restore it, put the change into "
            "a new revision, or stamp the current revision to vouch for it; nothing was touched"
        )


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
    run.cloud.put_events(MIGRATION_REQUESTED, [detail])
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
    # Whoever may put events could ask for years: nobody waits longer than from now on.
    latest = now + timedelta(seconds=run.settings.ready_deadline_seconds)
    until = min(run.request.wait_until or latest, latest)
    if now >= until:
        raise error
    detail: dict[str, object] = {
        "instance": run.request.instance,
        "action": run.request.action.value,
        "wait_until": until.isoformat(timespec="seconds"),
    }
    if run.request.target is not None:
        detail["target_revision"] = run.request.target
    run.cloud.put_events(MIGRATION_REQUESTED, [detail])
    return Result(
        Outcome.INCOMPLETE,
        f"{error}; asked again on the bus, until {detail['wait_until']}",
        run.report,
    )


def _ignored(run: Run, reason: str, message: str) -> Result:
    logger.info("ignored: %s", message, extra={"reason": reason})
    return Result(Outcome.IGNORED, message, run.report, reason)
