"""Looking without touching: where a database stands, and what a migrate would run."""

from __future__ import annotations

from datetime import UTC

from core.actions.entry import entered
from core.actions.goal import choose, choose_or_leave, plan_to
from core.actions.run import Run
from core.actions.takeover import CLOSED, Found, other_tools, strangers
from core.decisions.plan import plan, resolve
from core.errors import (
    MigrationError,
)
from core.model import (
    HEAD,
    Result,
)
from core.outcome import Outcome
from core.revisions import history


def status(run: Run) -> Result:
    """Report where the database stands; takes no lock and writes nothing."""
    with entered(run) as (place, session):
        at = history.position(session)
        rows = history.rows(session) if at.last_row else []
    report = run.report
    report.found_at(at.current)
    report.changed_files = history.changed_files(rows, run.revisions.checksums)
    if gone := history.passed_over(rows, run.revisions.identifiers, at.current):
        report.warnings.append(history.why_passed_over(gone, at.current))
    head = resolve(run.revisions.identifiers, HEAD)
    report.details = {
        "head_revision": head,
        "build": run.settings.build,
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
        history.refuse_another(rows, run.revisions.history, at.current)
        choice = choose(run, at.current)
        report.pending = list(
            plan(run.revisions.identifiers, at.current, choice.target if choice else HEAD).revisions
        )
    except MigrationError as problem:
        # A status is an answer also where a migrate would be none: it says why.
        return Result(Outcome.STATUS, f"{where}; migrate would fail: {problem}", report)
    return Result(Outcome.STATUS, f"{where}; {len(report.pending)} pending", report)


def show_plan(run: Run) -> Result:
    """Report what a migrate would apply, with its SQL; takes no lock and writes nothing."""
    with entered(run) as (place, session):
        at = history.position(session)
        run.report.found_at(at.current)
        if at.last_row:
            history.refuse_another(history.rows(session), run.revisions.history, at.current)
        choice = choose_or_leave(run, place, at.current)
        todo = plan_to(run, place, at.current, choice)
        there = strangers(session, run.promises.up_to(todo.revisions))
        left = other_tools(session)
    run.report.warnings += [_warning(one) for one in there if one.name not in run.request.take_over]
    statements = run.revisions.sql(todo.revisions, at.current)
    run.report.details = {
        "plan": [
            {
                "revision": identifier,
                "description": run.revisions.descriptions[identifier],
                "sql": statements[identifier],
            }
            for identifier in todo.revisions
        ],
        "exists": [one._asdict() for one in (*there, *left)],
    }
    message = f"Would apply {len(todo.revisions)} migration(s) to reach {todo.target or 'base'}"
    return Result(Outcome.PLANNED, message, run.report)


def _warning(one: Found) -> str:
    """Return what whoever reads a plan is to decide of *one*."""
    if one.becomes == CLOSED:
        return f"{one} would be closed to PUBLIC: whoever has no grant of its own is cut off"
    return f"{one} exists, and would be taken over: a run refuses that unless take_over names it"
