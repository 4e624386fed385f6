"""What a run is to reach: the target as it is declared now, and the way there."""

from __future__ import annotations

from core.access.locate import Place
from core.actions.run import Run
from core.decisions.plan import Plan, plan
from core.decisions.target import choose_target
from core.errors import (
    BehindCurrent,
    Rejected,
)
from core.model import (
    Action,
    Choice,
    Declared,
)


def choose(run: Run, current: str | None) -> Choice | None:
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
        raise no_target(run.request.instance)
    if choice is not None:
        run.report.target_revision, run.report.target_source = choice.target, choice.source
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


def no_target(name: str | None) -> Rejected:
    """Return the refusal of a run that has nothing to aim at."""
    return Rejected(
        f"target_revision: nobody has declared a target for {name}: "
        "give target_revision, or write the instance's parameter"
    )
