"""What a run is to reach: the target as it is declared now, and the way there."""

from __future__ import annotations

from core.access.locate import Place
from core.actions.run import Run
from core.decisions.plan import Plan, plan, resolve
from core.decisions.target import choose_target, declared_target
from core.errors import BehindCurrent, LeftAlone, Rejected
from core.model import Action, Choice, Declared
from core.postgres.session import Session
from core.revisions import runs
from core.revisions.history import Position


def choose(run: Run, current: str | None) -> Choice | None:
    """Choose the target, reading the parameter now; remember it in the report."""
    declared: Declared | None = None
    if run.request.target is None and run.request.instance is not None:
        declared = run.declared(str(run.report.instance))
        if declared is not None:
            # As written: a malformed one is what the sweep must know was refused.
            run.report.target_revision = declared.value.strip()
    choice = choose_target(
        run.request, declared, at_base=current is None, follow_head=run.settings.follow_head
    )
    if choice is not None:
        run.report.target_revision, run.report.target_source = choice.target, choice.source
    return choice


def choose_or_leave(run: Run, place: Place, current: str | None) -> Choice:
    """
    Choose the target as ``choose`` does.

    Raises:
        LeftAlone: Nobody has declared one, and no person asked.
    """
    choice = choose(run, current)
    if choice is None:
        raise LeftAlone(
            "no-declared-target",
            f"{place.name} is at {current}, and nobody has declared a target: left there",
        )
    return choice


def plan_to(run: Run, place: Place, current: str | None, choice: Choice) -> Plan:
    """
    Plan the way to the target, and note it in the report.

    Raises:
        BehindCurrent: With the exact request that goes back, which only a person may send.
    """
    try:
        todo = plan(run.revisions.identifiers, current, choice.target)
    except BehindCurrent as error:
        who = {"instance": place.name} if place.managed else {}
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


def refuse_beyond_declared(run: Run, session: Session, at: Position) -> None:
    """
    Refuse a request on the bus that goes beyond the declared target.

    Whoever may put events could else move an instance past what its owner declared. The rest
    of a direct run may go there: that run wrote into the database what it was asked for.

    Raises:
        Rejected: The target is newer than the declared one, and no direct run asked for it.
    """
    request = run.request
    declared = run.declared(str(run.report.instance))
    if declared is None or request.target is None:
        return
    identifiers = run.revisions.identifiers
    asked = resolve(identifiers, request.target)
    allowed = resolve(identifiers, declared_target(declared).target)
    if identifiers.index(asked) <= identifiers.index(allowed):
        return
    rest_of = request.continues
    if rest_of and at.last_row and runs.continues(session, rest_of, request.target):
        return
    raise Rejected(
        f"detail.target_revision: {request.target} is newer than {allowed}, the declared target "
        f"of {run.report.instance}: write {declared.parameter}, or invoke the function directly"
    )
