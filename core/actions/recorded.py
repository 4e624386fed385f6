"""A run is written down before its first revision begins, so that one that kills it is found."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from core.actions.run import Run
from core.decisions.plan import Plan
from core.errors import MigrationError, RunFailed
from core.outcome import Outcome
from core.postgres.session import Session, is_broken
from core.revisions import runs

logger = logging.getLogger(__name__)

# As often as Lambda itself tries an event (Lambda Developer Guide, "Asynchronous invocation").
MOST_UNENDED = 3


@contextmanager
def recorded(run: Run, session: Session, todo: Plan) -> Iterator[None]:
    """
    Write that the run begins, and how it ends; inside, *todo* is carried out.

    Raises:
        RunFailed: As many runs as Lambda makes of one event have begun at this revision and
            never ended. A person's direct request tries it once more.
    """
    revision = todo.revisions[0]
    build = run.settings.build
    found = runs.unended(session, revision, build)
    if found.runs >= MOST_UNENDED and not run.request.is_direct:
        raise RunFailed(
            f"revision {revision} was begun {found.runs} times since {found.since:%Y-%m-%d %H:%M} "
            "UTC, and each time the function or its server process ended first: find "
            "out why and correct it; a direct request tries it once more"
        )
    row = runs.begin(
        session,
        request_id=run.request_id,
        trigger=run.request.trigger.value,
        target=run.report.target_revision or str(todo.target),
        revision=revision,
        build=build,
    )
    outcome = Outcome.FAILED
    try:
        yield
        is_whole = run.report.final_revision == todo.target
        outcome = Outcome.APPLIED if is_whole else Outcome.INCOMPLETE
    except MigrationError as error:
        outcome = error.outcome
        raise
    finally:
        # Where the connection broke the row stays as it is: that is what it is for.
        if not is_broken(session):
            runs.end(session, row, outcome.value)
