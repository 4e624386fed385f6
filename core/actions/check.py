"""
Whether the database has what its revisions promise, and nothing beyond.

Reads the catalogue only, in one transaction that cannot write. What is promised is in
``alembic/promises.toml``, and in the revisions' own SQL for functions, triggers and tables; each
deviation comes with the statement that repairs it. Whether a login has a password the catalogue
tells superusers only: so each logs in once with that of its secret. Not looked at: the columns of
tables, views, large objects, and other databases of the instance.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from core.access.locate import Place
from core.actions.entry import entered
from core.actions.keeping import look_up_keeper
from core.actions.logins import refused_logins
from core.actions.run import Run
from core.decisions.keeper import Keeper
from core.decisions.plan import known_current
from core.drift.comparing import Comparison, compare
from core.drift.ledger import Finding, Turn
from core.drift.snapshot import reading
from core.model import Result
from core.outcome import Outcome
from core.postgres.session import Session
from core.revisions import history
from core.revisions.made import made_by
from core.revisions.promises import Promises

logger = logging.getLogger(__name__)

# More than anybody repairs by hand; the rest comes to light by the next check.
MOST_FINDINGS = 500
MOST_LOGGED = 20


def check(run: Run) -> Result:
    """Report what deviates from what the revisions promise, each with its repair."""
    with entered(run) as (place, session):
        with reading(session):
            at = history.position(session)
            known_current(run.revisions.identifiers, at.current)
            if at.last_row:
                history.refuse_another(history.rows(session), run.revisions.history, at.current)
            is_anothers = look_up_keeper(run, place, session, at) is Keeper.ANOTHER
            promises, found = _compared(run, session, at.current)
        warned = len(run.report.warnings)
        # The secrets of another stack's logins are not ours to read.
        if not is_anothers:
            found.findings.extend(_refused(run, place, promises, found))
    run.report.found_at(at.current)
    run.report.details = _details(promises, found)
    where = f"{place.name} is at {at.current or 'base'}"
    untried = len(run.report.warnings) - warned
    unproven = f"; {untried} login(s) could not be tried: see warnings" if untried else ""
    count = len(found.findings)
    if not count:
        message = (
            f"{where}; its {len(promises.roles)} role(s) may do what is promised, and no more"
            + unproven
        )
        logger.info(message)
        return Result(Outcome.CHECKED, message, run.report)
    message = f"{where}; {count} deviation(s) from what its revisions promise: see drift"
    if count > MOST_FINDINGS:
        message += f", which shows the first {MOST_FINDINGS}"
    message += unproven
    logger.warning(message)
    return Result(Outcome.CHECKED, message, run.report)


def check_copy(run: Run, place: Place, session: Session) -> None:
    """
    Warn of what a copy lacks, or has beyond what is promised, once it is at its target.

    Such as a database after the switchover of a blue/green deployment: logical replication
    copies rows, and no role or grant that came after the copy was made.
    """
    with reading(session):
        _, found = _compared(run, session, run.report.final_revision)
    count = len(found.findings)
    if not count:
        logger.info("%s is a copy of another database, with all promised", place.name)
        return
    run.warn(
        f"{place.name} is a copy of another database and has {count} deviation(s) "
        "from what its revisions promise: send the action check"
    )
    for one in found.findings[:MOST_LOGGED]:
        logger.warning("%s of %s: %s", one.drift, one.role, one.privilege)


def _compared(run: Run, session: Session, current: str | None) -> tuple[Promises, Comparison]:
    """Return what is promised at *current*, and what deviates from it."""
    applied = run.revisions.up_to(current)
    promises = run.promises.up_to(applied)
    if not applied:
        return promises, Comparison({}, [])
    made = made_by(run.revisions.history[: len(applied)])
    return promises, compare(session, promises, made)


def _refused(run: Run, place: Place, promises: Promises, found: Comparison) -> Iterator[Finding]:
    """Yield the logins that nothing is known to be in the way of, and that cannot log in."""
    hindered = {one.role for one in found.findings if one.turn is Turn.ROLE}
    logins = [one.name for one in promises.password_logins if one.name not in hindered]
    for login, remedy in refused_logins(run, place, logins):
        yield Finding(Turn.GIVE, login, "missing", "the password of its secret", remedy)


def _details(promises: Promises, found: Comparison) -> dict[str, Any]:
    """Return the answer: by role, and as a list in the order in which the repairs are run."""

    def of(role: str, drift: str) -> list[str]:
        return sorted(
            one.privilege
            for one in found.findings[:MOST_FINDINGS]
            if (one.role, one.drift) == (role, drift)
        )

    details: dict[str, Any] = {
        "roles": [
            {
                "role": role.name,
                "can": role.can,
                "present": found.present.get(role.name, [])[:MOST_FINDINGS],
                "missing": of(role.name, "missing"),
                "beyond": of(role.name, "beyond"),
            }
            for role in promises.roles
        ],
        "drift": [_told(one) for one in found.findings[:MOST_FINDINGS]],
    }
    if len(found.findings) > MOST_FINDINGS:
        details["drift_left_out"] = len(found.findings) - MOST_FINDINGS
    return details


def _told(one: Finding) -> dict[str, str]:
    return {
        "role": one.role,
        "drift": one.drift,
        "privilege": one.privilege,
        "statement": one.statement,
    }
