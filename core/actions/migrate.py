"""The story: one database brought to its target."""

from __future__ import annotations

import logging

from core.access.locate import Place, is_entered_unasked
from core.actions import bus
from core.actions.apply import apply
from core.actions.goal import choose_or_leave, plan_to, refuse_beyond_declared
from core.actions.keeping import keep, refuse_anothers
from core.actions.logins import lead_to, reconcile_logins
from core.actions.recorded import recorded
from core.actions.run import Run
from core.actions.writer import at_the_writer, entered_alone
from core.decisions.eligibility import is_opted_in
from core.decisions.plan import Plan
from core.errors import (
    LeftAlone,
    RunFailed,
)
from core.model import (
    Result,
    TargetSource,
    Trigger,
)
from core.outcome import Outcome
from core.postgres.session import Session
from core.revisions import history
from core.revisions.history import Position

logger = logging.getLogger(__name__)

_LOGGED_APPLIED = 20


def migrate(run: Run) -> Result:
    """Bring the database to its target, at the new writer where it fails over on the way."""
    return at_the_writer(run, _bring_to_target)


def _bring_to_target(run: Run) -> Result:
    """Do it on one connection."""
    with entered_alone(run) as (place, session, at):
        refuse_anothers(run, place, session, at)
        try:
            choice = run.choice = run.choice or choose_or_leave(run, place, at.current)
        except LeftAlone:
            lead_to(run, place)
            raise
        if run.request.trigger is Trigger.REQUEST and run.request.target is not None:
            refuse_beyond_declared(run, session, at)
        todo = plan_to(run, place, at.current, choice)
        if choice.source is TargetSource.DEFAULT and at.current is None:
            _leave_to_strangers(run, place, session, todo)
        _check_files(run, session, at)
        if todo or at.last_row:
            keep(run, place, session)
        if not todo and not run.report.applied:
            reconcile_logins(run, place, session)
            _check_copy(run, place, session)
            if run.request.is_direct:
                _tell_applied(run, at.current)
            message = "No pending migrations - database is up to date!"
            logger.info(message)
            return Result(Outcome.UP_TO_DATE, message, run.report)
        is_done = not todo or _apply(run, place, session, todo)
        if is_done:
            reconcile_logins(run, place, session)
            _check_copy(run, place, session)
    if not is_done:
        return _incomplete(run, place)
    message = (
        f"Successfully applied {len(run.report.applied)} migration(s)"
        f" to reach {run.report.final_revision}"
    )
    logger.info("%s: %s", message, ", ".join(run.report.applied))
    return Result(Outcome.APPLIED, message, run.report)


def _check_copy(run: Run, place: Place, session: Session) -> None:
    """Warn of what is promised and not there, where the database is a copy of another."""
    if run.is_copy:
        # Imported here: it takes longer than all of ours that every cold start needs.
        from core.actions.check import check_copy

        check_copy(run, place, session)


def _apply(run: Run, place: Place, session: Session, todo: Plan) -> bool:
    """Apply *todo*, and say whether all of it is done."""
    _tell(run, todo)
    with recorded(run, session, todo):
        return apply(run, place, session, todo, last_row=run.first_row or 0)


def _leave_to_strangers(run: Run, place: Place, session: Session, todo: Plan) -> None:
    """
    Leave a database alone that nobody asked for, and that holds other people's things.

    Raises:
        LeftAlone: An event or a sweep would take over what is there of our names, or close a
            schema that is in use.
    """
    if run.request.is_direct:
        return
    # Imported here: a run that was asked for, or has run before, does without.
    from core.actions.takeover import strangers

    there = strangers(session, run.promises.up_to(todo.revisions))
    if there:
        names = ", ".join(map(str, there))
        raise LeftAlone(
            "holds-others-things",
            f"{place.name} is at base and holds {names}: left there until somebody declares a "
            "target for it, or takes it over (infra/TAKE_OVER.md)",
        )


def _check_files(run: Run, session: Session, at: Position) -> None:
    """
    Tell of revisions whose files changed after they were applied, or that were passed over.

    They are refused where that is wanted.

    A container reads the whole history of a database once: until its last row is another,
    nothing that is compared here can have changed.

    Raises:
        DatabaseAhead: All of them did, and are called otherwise: it is another history.
        RunFailed: There is one, and the parameter StrictChecksums is true.
    """
    compared = run.revisions.compared
    if at not in compared:
        rows = history.rows(session) if at.last_row else []
        history.refuse_another(rows, run.revisions.history, at.current)
        compared[at] = (
            history.changed_files(rows, run.revisions.checksums),
            history.passed_over(rows, run.revisions.identifiers, at.current),
        )
    changed, passed_over = compared[at]
    run.report.changed_files = list(changed)
    if passed_over:
        why = history.why_passed_over(passed_over, at.current)
        run.warn(why)
        if run.settings.strict_checksums:
            raise RunFailed(f"{why}; nothing was touched")
    if not changed:
        return
    names = ", ".join(changed)
    logger.warning("changed after it was applied: the file of %s", names)
    if run.settings.strict_checksums:
        raise RunFailed(
            f"the file of {names} changed after it was applied: restore it, put the change into "
            "a new revision, or stamp the current revision to vouch for it; nothing was touched"
        )


def _tell(run: Run, todo: Plan) -> None:
    """Log what is applied already and what will be, before anything is done."""
    _tell_applied(run, todo.current)
    for identifier in todo.revisions:
        _tell_one("%s: will apply (%s)", run, identifier)
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
    is_asked = report.target_source in (TargetSource.REQUEST, TargetSource.DEFAULT)
    bus.request_rest(
        run.cloud,
        place.name,
        target=report.target_revision if is_asked else None,
        continues=run.request_id,
    )
    return Result(Outcome.INCOMPLETE, f"{done}; {left} and were requested on the bus", report)


def _can_carry_on(run: Run, place: Place) -> bool:
    """Say whether a request on the bus, which names no secret, could do the rest."""
    return (
        place.managed is not None
        # Nor does it carry what its sender consented to.
        and not run.request.take_over
        and is_opted_in(place.managed, run.settings)
        and is_entered_unasked(place, run.settings)
    )


def _tell_applied(run: Run, current: str | None) -> None:
    """Log what is applied already, the last of it by name."""
    identifiers = run.revisions.identifiers
    start = identifiers.index(current) + 1 if current else 0
    if start > _LOGGED_APPLIED:
        logger.info("%d earlier revisions: already applied", start - _LOGGED_APPLIED)
    for identifier in identifiers[max(0, start - _LOGGED_APPLIED) : start]:
        _tell_one("%s: already applied (%s)", run, identifier)


def _tell_one(text: str, run: Run, identifier: str) -> None:
    description = run.revisions.descriptions[identifier]
    logger.info(text, identifier, description, extra={"revision": identifier})
